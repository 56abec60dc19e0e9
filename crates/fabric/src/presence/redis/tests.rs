//! The adapter in the suite of its ports, on a single server and on a cluster; and what real servers do to it.

use std::sync::Arc;
use std::time::Duration;

use tertulia_protocol::event::Presence::{Away, Offline, Online};
use tertulia_services::Fault;
use tokio::sync::OwnedMutexGuard;

use super::{Options, RedisPresence};
use crate::nodes::{Description, Nodes as _};
use crate::presence::Presence;
use crate::presence::testsuite::PresenceUnderTest;
use crate::presence::testsuite::rules::{ask, describe, expect_nodes, expect_soon, id, told, user};
use crate::redis::testing::{Cluster, Server};
use crate::redis::{Reply, Target};
use crate::{ClusterError, NodeId};

const LEASE: Duration = Duration::from_secs(1);

fn start(target: Target, id: NodeId, description: Description) -> RedisPresence {
    RedisPresence::start(id, description, Options { lease: LEASE, ..Options::new(target) })
}

async fn join(target: Target, number: u8) -> RedisPresence {
    let node = start(target, id(number), describe(number));
    told(&node).await;
    node
}

/// Stops a node as far as its lease goes, until that has run out.
async fn stop(node: &RedisPresence) -> OwnedMutexGuard<()> {
    let stopped = node.shared.gate.clone().lock_owned().await;
    let lease = super::lock(&node.shared.lease).unwrap();
    let mut answer = Vec::new();
    while answer != [Reply::Null] {
        answer = node.shared.ask(&node.shared.layout.about(&[lease])).await.unwrap();
    }
    stopped
}

struct Single {
    server: Server,
    stopped: Option<OwnedMutexGuard<()>>,
}

impl PresenceUnderTest for Single {
    type Node = RedisPresence;

    async fn open() -> Self {
        Self { server: Server::start(), stopped: None }
    }

    async fn join(&self, id: NodeId, description: Description) -> RedisPresence {
        start(self.server.target(), id, description)
    }

    async fn kill(&self, node: RedisPresence) {
        drop(node);
    }

    async fn stop(&mut self, node: &RedisPresence) {
        self.stopped = Some(stop(node).await);
    }

    async fn go_on(&mut self, _: &RedisPresence) {
        self.stopped = None;
    }
}

struct Clustered {
    cluster: Arc<Cluster>,
    prefix: String,
    stopped: Option<OwnedMutexGuard<()>>,
}

impl PresenceUnderTest for Clustered {
    type Node = RedisPresence;

    async fn open() -> Self {
        let (cluster, prefix) = Cluster::shared();
        Self { cluster, prefix, stopped: None }
    }

    async fn join(&self, id: NodeId, description: Description) -> RedisPresence {
        let (target, prefix) = (self.cluster.target(), self.prefix.clone());
        RedisPresence::start(id, description, Options { target, prefix, lease: LEASE })
    }

    async fn kill(&self, node: RedisPresence) {
        drop(node);
    }

    async fn stop(&mut self, node: &RedisPresence) {
        self.stopped = Some(stop(node).await);
    }

    async fn go_on(&mut self, _: &RedisPresence) {
        self.stopped = None;
    }
}

mod single {
    crate::presence_suite!(super::Single);
}

mod clustered {
    crate::presence_suite!(super::Clustered);
}

/// Two nodes that know each other: the first with user 1 online and user 2 away, the second with user 3 online.
async fn two(target: Target) -> (RedisPresence, RedisPresence) {
    let (ana, bo) = (join(target.clone(), 1).await, join(target, 2).await);
    ana.announce(&[(user(1), Online), (user(2), Away)]);
    bo.announce(&[(user(3), Online)]);
    expect_two(&ana, &bo).await;
    (ana, bo)
}

async fn expect_two(ana: &RedisPresence, bo: &RedisPresence) {
    expect_soon(ana, &[1, 2, 3], &[Online, Away, Online]).await;
    expect_soon(bo, &[1, 2, 3], &[Online, Away, Online]).await;
}

fn figure(node: &RedisPresence, name: &str) -> f64 {
    node.figures().into_iter().find(|(known, _)| *known == name).unwrap().1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_flushed_is_told_everything_anew() {
    let server = Server::start();
    let (ana, bo) = two(server.target()).await;
    for _ in 0..3 {
        server.ask(&["FLUSHALL"]);
        expect_two(&ana, &bo).await;
        expect_nodes(&bo, &["http://1", "http://2"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_restarted_is_told_everything_anew() {
    let mut server = Server::start();
    let (ana, bo) = two(server.target()).await;
    server.kill();
    assert!(matches!(ana.ask(&[user(3)]).await, Err(ClusterError::Unavailable(_))));
    ana.announce(&[(user(4), Online)]);
    assert!(matches!(ana.told().await, Err(ClusterError::Unavailable(_))));
    server.restart();
    expect_two(&ana, &bo).await;
    expect_soon(&bo, &[4], &[Online]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_with_old_data_tells_no_lies() {
    let mut server = Server::start();
    let (ana, bo) = two(server.target()).await;
    server.ask(&["SAVE"]);
    ana.announce(&[(user(1), Offline), (user(2), Online), (user(5), Away)]);
    told(&ana).await;
    server.kill();
    server.restart();
    expect_soon(&bo, &[1, 2, 3, 5], &[Offline, Online, Online, Away]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_paused_goes_on() {
    let server = Server::start();
    let (ana, bo) = two(server.target()).await;
    server.pause();
    assert!(matches!(ana.ask(&[user(3)]).await, Err(ClusterError::Unavailable(_))));
    assert!(matches!(bo.nodes().await, Err(ClusterError::Unavailable(_))));
    ana.announce(&[(user(1), Offline)]);
    server.resume();
    expect_soon(&bo, &[1, 2, 3], &[Offline, Away, Online]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_is_seen_no_more_until_it_is_back() {
    let server = Server::start();
    let (proxy, target) = server.proxy();
    let (ana, bo) = (join(target, 1).await, join(server.target(), 2).await);
    ana.announce(&[(user(1), Online)]);
    for fault in [Fault::Stalled, Fault::AnswersLost, Fault::Refused] {
        expect_soon(&bo, &[1], &[Online]).await;
        proxy.set(fault);
        proxy.cut();
        expect_soon(&bo, &[1], &[Offline]).await;
        expect_nodes(&bo, &["http://2"]).await;
        assert!(matches!(ana.ask(&[user(1)]).await, Err(ClusterError::Unavailable(_))));
        proxy.set(Fault::None);
    }
    expect_soon(&bo, &[1], &[Online]).await;
    expect_nodes(&bo, &["http://1", "http://2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_killed_are_made_again() {
    let server = Server::start();
    let (ana, bo) = two(server.target()).await;
    for round in 0..5 {
        server.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
        ana.announce(&[(user(10 + round), Online)]);
        expect_soon(&bo, &[10 + round], &[Online]).await;
    }
    expect_two(&ana, &bo).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_of_a_cluster_that_is_restarted_is_told_again() {
    let mut cluster = Cluster::start(0);
    let (ana, bo) = two(cluster.target()).await;
    let users: Vec<_> = (100..400).collect();
    ana.announce(&users.iter().map(|number| (user(*number), Online)).collect::<Vec<_>>());
    told(&ana).await;
    for server in 0..3 {
        cluster.servers[server].kill();
        cluster.servers[server].restart();
        cluster.wait_until_whole();
        expect_two(&ana, &bo).await;
        expect_soon(&bo, &users, &vec![Online; users.len()]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_of_a_cluster_that_was_flushed_is_told_again() {
    let cluster = Cluster::start(0);
    let (ana, bo) = two(cluster.target()).await;
    let users: Vec<_> = (100..400).collect();
    ana.announce(&users.iter().map(|number| (user(*number), Online)).collect::<Vec<_>>());
    told(&ana).await;
    for server in &cluster.servers {
        server.ask(&["FLUSHALL"]);
        expect_soon(&bo, &users, &vec![Online; users.len()]).await;
        expect_two(&ana, &bo).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_who_come_at_once_cost_a_few_commands() {
    let server = Server::start();
    let ana = join(server.target(), 1).await;
    let processed = || server.info("stats", "total_commands_processed").parse::<u64>().unwrap();
    let before = processed();
    ana.announce(&(0..10_000).map(|number| (user(number), Online)).collect::<Vec<_>>());
    told(&ana).await;
    let spent = processed() - before;
    assert!(spent < 400, "{spent} commands");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeping_a_lease_costs_the_same_for_any_number_of_users() {
    let server = Server::start();
    let ana = join(server.target(), 1).await;
    ana.announce(&(0..20_000).map(|number| (user(number), Online)).collect::<Vec<_>>());
    told(&ana).await;
    let written = server.info("commandstats", "cmdstat_hset");
    let renewals = |server: &Server| -> u64 {
        let stats = server.info("commandstats", "cmdstat_set");
        stats.trim_start_matches("calls=").split(',').next().unwrap().parse().unwrap()
    };
    let (renewed, commands) = (renewals(&server), figure(&ana, "presence_commands"));
    while renewals(&server) < renewed + 4 {
        tokio::task::yield_now().await;
    }
    let spent = figure(&ana, "presence_commands") - commands;
    assert!(spent <= 5.0 * 12.0, "{spent} commands for four renewals");
    assert_eq!(server.info("commandstats", "cmdstat_hset"), written);
    assert_eq!(figure(&ana, "presence_leases"), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_node_leaves_behind_is_swept_away() {
    let server = Server::start();
    let (ana, bo) = two(server.target()).await;
    ana.announce(&(0..1_000).map(|number| (user(number), Online)).collect::<Vec<_>>());
    told(&ana).await;
    drop(ana);
    // The set of leases, and bo's own lease and user.
    let is_swept = async {
        while server.ask(&["DBSIZE"]) != Reply::Integer(3) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), is_swept).await.expect("it was not swept");
    assert_eq!(ask(&bo, &[1, 3]).await, [Offline, Online]);
    bo.close().await;
    assert_eq!(server.ask(&["DBSIZE"]), Reply::Integer(0));
}
