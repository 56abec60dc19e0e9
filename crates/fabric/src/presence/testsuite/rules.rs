//! What the ports promise.

use std::time::Duration;

use tertulia_protocol::UserId;
use tertulia_protocol::event::Presence as Status;
use tertulia_protocol::event::Presence::{Away, Offline, Online};

use super::PresenceUnderTest;
use crate::nodes::{Description, Nodes};
use crate::presence::Presence;
use crate::{ClusterError, NodeId};

/// How long anything may take before it counts as never happening.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn user(number: u32) -> UserId {
    let mut id = [0x7d; 16];
    id[12..].copy_from_slice(&number.to_be_bytes());
    UserId::from_bytes(id)
}

pub fn id(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

pub fn describe(number: u8) -> Description {
    Description { url: format!("http://{number}"), ..Description::default() }
}

pub async fn join<A: PresenceUnderTest>(adapter: &A, number: u8) -> A::Node {
    let node = adapter.join(id(number), describe(number)).await;
    told(&node).await;
    node
}

/// Waits until others can know what was announced, for as long as it takes.
pub async fn told(node: &impl Presence) {
    let is_told = async { while node.told().await.is_err() {} };
    tokio::time::timeout(PATIENCE, is_told).await.expect("the others could not be told");
}

pub async fn ask(node: &impl Presence, users: &[u32]) -> Vec<Status> {
    let users: Vec<_> = users.iter().copied().map(user).collect();
    node.ask(&users).await.unwrap()
}

/// Asks until the answer is this one.
pub async fn expect_soon(node: &impl Presence, users: &[u32], expected: &[Status]) {
    let users: Vec<_> = users.iter().copied().map(user).collect();
    let mut last = None;
    let is_so = async {
        while last.as_ref().and_then(|answer: &Result<Vec<Status>, _>| answer.as_deref().ok())
            != Some(expected)
        {
            last = Some(node.ask(&users).await);
            tokio::task::yield_now().await;
        }
    };
    let is_so = tokio::time::timeout(PATIENCE, is_so).await;
    assert!(is_so.is_ok(), "{expected:?} was expected, and the last answer was {last:?}");
}

async fn urls(node: &impl Nodes) -> Vec<String> {
    node.nodes().await.unwrap().into_iter().map(|info| info.description.url).collect()
}

/// Asks for the nodes until they are these.
pub async fn expect_nodes(node: &impl Nodes, expected: &[&str]) {
    let is_so = async {
        while urls(node).await != expected {
            tokio::task::yield_now().await;
        }
    };
    if tokio::time::timeout(PATIENCE, is_so).await.is_err() {
        assert_eq!(urls(node).await, expected);
    }
}

pub async fn who_is_announced_is_seen_by_all<A: PresenceUnderTest>() {
    let adapter = A::open().await;
    let (ana, bo) = (join(&adapter, 1).await, join(&adapter, 2).await);
    ana.announce(&[(user(1), Online), (user(2), Away)]);
    told(&ana).await;
    expect_soon(&bo, &[1, 2, 3], &[Online, Away, Offline]).await;
    // From now on bo knows ana, and sees at once what she announces.
    ana.announce(&[(user(1), Offline), (user(2), Online), (user(3), Away)]);
    told(&ana).await;
    assert_eq!(ask(&bo, &[3, 2, 1, 2]).await, [Away, Online, Offline, Online]);
}

pub async fn ones_own_users_are_seen_at_once<A: PresenceUnderTest>() {
    let adapter = A::open().await;
    let ana = join(&adapter, 1).await;
    for status in [Online, Away, Offline, Online] {
        ana.announce(&[(user(1), status)]);
        assert_eq!(ask(&ana, &[1]).await, [status]);
    }
}

pub async fn a_user_is_what_all_nodes_together_see<A: PresenceUnderTest>() {
    let adapter = A::open().await;
    let (ana, bo, eve) = (join(&adapter, 1).await, join(&adapter, 2).await, join(&adapter, 3).await);
    let users = [1, 2, 3, 4];
    ana.announce(&[(user(1), Online), (user(2), Away), (user(3), Away)]);
    bo.announce(&[(user(1), Away), (user(2), Online), (user(3), Away)]);
    told(&ana).await;
    told(&bo).await;
    for node in [&ana, &bo, &eve] {
        expect_soon(node, &users, &[Online, Online, Away, Offline]).await;
    }
    ana.announce(&[(user(1), Offline), (user(3), Offline)]);
    told(&ana).await;
    for node in [&ana, &bo, &eve] {
        assert_eq!(ask(node, &users).await, [Away, Online, Away, Offline]);
    }
}

pub async fn what_others_see_is_told_apart_from_what_oneself_does<A: PresenceUnderTest>() {
    let adapter = A::open().await;
    let (ana, bo) = (join(&adapter, 1).await, join(&adapter, 2).await);
    ana.announce(&[(user(1), Online), (user(2), Online)]);
    bo.announce(&[(user(2), Away)]);
    told(&ana).await;
    told(&bo).await;
    expect_soon(&ana, &[1, 2], &[Online, Online]).await;
    expect_soon(&bo, &[1, 2], &[Online, Online]).await;
    let users = [user(1), user(2)];
    assert_eq!(ana.elsewhere(&users).await, Ok(vec![Offline, Away]));
    assert_eq!(bo.elsewhere(&users).await, Ok(vec![Online, Online]));
}

pub async fn whom_nobody_sees_is_offline<A: PresenceUnderTest>() {
    let adapter = A::open().await;
    let (ana, bo) = (join(&adapter, 1).await, join(&adapter, 2).await);
    ana.announce(&[(user(1), Offline)]);
    ana.announce(&[]);
    told(&ana).await;
    assert_eq!(ask(&bo, &[1, 2]).await, [Offline; 2]);
    assert_eq!(ask(&bo, &[]).await, []);
}

pub async fn of_a_user_who_changes_often_the_last_is_seen<A: PresenceUnderTest>() {
    let adapter = A::open().await;
    let (ana, bo) = (join(&adapter, 1).await, join(&adapter, 2).await);
    expect_nodes(&bo, &["http://1", "http://2"]).await;
    for round in 0..200 {
        let last = [Online, Away, Offline][round % 3];
        for status in [Online, Offline, Away, last] {
            ana.announce(&[(user(1), status)]);
        }
        if round % 20 == 0 {
            told(&ana).await;
            expect_soon(&bo, &[1], &[last]).await;
        }
    }
}

pub async fn ten_thousand_users_at_once_are_seen_each<A: PresenceUnderTest>() {
    let adapter = A::open().await;
    let (ana, bo) = (join(&adapter, 1).await, join(&adapter, 2).await);
    let users: Vec<u32> = (0..10_000).collect();
    let status = |number: &u32| [Online, Away][*number as usize % 2];
    for user_and_status in users.chunks(100) {
        let changes: Vec<_> = user_and_status.iter().map(|number| (user(*number), status(number))).collect();
        ana.announce(&changes);
    }
    told(&ana).await;
    let expected: Vec<_> = users.iter().map(status).collect();
    expect_soon(&bo, &users, &expected).await;
    let changes: Vec<_> = users.iter().skip(1).map(|number| (user(*number), Offline)).collect();
    ana.announce(&changes);
    told(&ana).await;
    let mut expected = vec![Offline; users.len()];
    expected[0] = Online;
    assert_eq!(ask(&bo, &users).await, expected);
}

pub async fn a_node_that_dies_is_seen_no_more<A: PresenceUnderTest>() {
    let adapter = A::open().await;
    let (ana, bo) = (join(&adapter, 1).await, join(&adapter, 2).await);
    ana.announce(&[(user(1), Online), (user(2), Online)]);
    bo.announce(&[(user(2), Away)]);
    told(&ana).await;
    told(&bo).await;
    expect_soon(&bo, &[1, 2], &[Online, Online]).await;
    adapter.kill(ana).await;
    expect_soon(&bo, &[1, 2], &[Offline, Away]).await;
    expect_nodes(&bo, &["http://2"]).await;
}

pub async fn a_node_that_was_away_is_seen_again_with_all_its_users<A: PresenceUnderTest>() {
    let mut adapter = A::open().await;
    let (ana, bo) = (join(&adapter, 1).await, join(&adapter, 2).await);
    ana.announce(&[(user(1), Online), (user(2), Online)]);
    told(&ana).await;
    expect_soon(&bo, &[1, 2], &[Online, Online]).await;
    adapter.stop(&ana).await;
    assert_eq!(ask(&bo, &[1, 2]).await, [Offline; 2]);
    ana.announce(&[(user(2), Offline), (user(3), Away)]);
    adapter.go_on(&ana).await;
    expect_soon(&bo, &[1, 2, 3], &[Online, Offline, Away]).await;
    expect_nodes(&bo, &["http://1", "http://2"]).await;
}

pub async fn a_node_that_leaves_is_gone_at_once<A: PresenceUnderTest>() {
    let adapter = A::open().await;
    let (ana, bo, eve) = (join(&adapter, 1).await, join(&adapter, 2).await, join(&adapter, 3).await);
    ana.announce(&[(user(1), Online)]);
    told(&ana).await;
    expect_soon(&bo, &[1], &[Online]).await;
    ana.close().await;
    assert_eq!(ask(&bo, &[1]).await, [Offline]);
    for node in [&bo, &eve] {
        expect_nodes(node, &["http://2", "http://3"]).await;
    }
}

pub async fn all_nodes_see_all_nodes<A: PresenceUnderTest>() {
    let adapter = A::open().await;
    let ana = join(&adapter, 1).await;
    assert_eq!(ana.id(), id(1));
    expect_nodes(&ana, &["http://1"]).await;
    let (eve, bo) = (join(&adapter, 3).await, join(&adapter, 2).await);
    for node in [&ana, &bo, &eve] {
        expect_nodes(node, &["http://1", "http://2", "http://3"]).await;
    }
}

pub async fn what_a_node_says_of_itself_is_heard<A: PresenceUnderTest>() {
    let adapter = A::open().await;
    let (ana, bo) = (join(&adapter, 1).await, join(&adapter, 2).await);
    expect_nodes(&bo, &["http://1", "http://2"]).await;
    let description = Description { url: "http://moved".into(), load: 250, draining: true, cut_off: true };
    ana.describe(description.clone());
    for node in [&ana, &bo] {
        expect_nodes(node, &["http://moved", "http://2"]).await;
        let nodes = node.nodes().await.unwrap();
        assert_eq!((nodes[0].id, &nodes[0].description), (id(1), &description));
    }
}

pub async fn whoever_has_left_is_told_so<A: PresenceUnderTest>() {
    let adapter = A::open().await;
    let ana = join(&adapter, 1).await;
    ana.close().await;
    ana.announce(&[(user(1), Online)]);
    assert_eq!(ana.told().await, Err(ClusterError::Closed));
    assert_eq!(ana.ask(&[user(1)]).await, Err(ClusterError::Closed));
    assert_eq!(ana.nodes().await, Err(ClusterError::Closed));
    ana.describe(describe(9));
    ana.close().await;
}
