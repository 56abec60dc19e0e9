//! Nodes that do not reach the store say so, and are named last until they do.

use reqwest::Method;
use serde_json::Value;
use tertulia_server::config::{Config, LiveAt, StoreAt};
use tertulia_services::{Fault, Kind, Proxy, Server as Service};

use crate::harness::{DEADLINE, Server, User};

/// Two nodes, each with ways of its own to PostgreSQL and Redis.
struct Apart {
    nodes: [Server; 2],
    to_store: [Proxy; 2],
    to_redis: [Proxy; 2],
    _servers: [Service; 2],
}

impl Apart {
    /// They say that they are at `http://node0` and `http://node1`.
    async fn start() -> Self {
        let service = async |kind| {
            tokio::task::spawn_blocking(move || Service::temporary(kind).unwrap()).await.unwrap()
        };
        let (postgres, redis) = tokio::join!(service(Kind::Postgres), service(Kind::Redis));
        let ways = |to: &Service| [(); 2].map(|()| Proxy::to(to.address()).unwrap());
        let (to_store, to_redis) = (ways(&postgres), ways(&redis));
        let node = async |number: usize| {
            let (store, live) = (to_store[number].address().port(), to_redis[number].address().port());
            let change = |config: &mut Config| {
                config.store = StoreAt::Postgres(Kind::Postgres.url(store));
                config.live = LiveAt::Redis(Kind::Redis.url(live));
                config.public_url = Some(format!("http://node{number}"));
            };
            Server::start_with(change).await
        };
        let nodes = [node(0).await, node(1).await];
        Self { nodes, to_store, to_redis, _servers: [postgres, redis] }
    }

    /// Asks a node whether it is ready, until it answers so.
    async fn until_ready_is(&self, node: usize, status: u16, text: &str) {
        let asking = async {
            loop {
                let answer = self.nodes[node].call_raw(Method::GET, "/readyz", &[], "").await;
                if (answer.status.as_u16(), answer.text.as_str()) == (status, text) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, asking).await.expect("it does not say so");
    }

    /// Asks a node where to go, until it names these in this order.
    async fn until_named(&self, node: usize, user: &User, named: &[&str]) {
        let asking = async {
            loop {
                let answer = user.get(&self.nodes[node], "/api/gateway").await;
                let others = answer.body["others"].as_array().cloned().unwrap_or_default();
                let all = std::iter::once(answer.body["url"].clone()).chain(others);
                if all.eq(named.iter().map(|url| Value::from(*url))) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, asking).await.expect("they are not named so");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_from_the_store_is_not_ready_and_is_named_last_until_it_is_back() {
    let cluster = Apart::start().await;
    let ana = cluster.nodes[0].user("ana").await;
    for fault in [Fault::Refused, Fault::Stalled] {
        for (cut, urls) in [(0, ["http://node1", "http://node0"]), (1, ["http://node0", "http://node1"])] {
            let way = &cluster.to_store[cut];
            way.set(fault);
            if fault == Fault::Refused {
                way.cut();
            }
            cluster.until_ready_is(cut, 503, "store_unreachable\n").await;
            cluster.until_ready_is(1 - cut, 200, "ready\n").await;
            cluster.until_named(1 - cut, &ana, &urls).await;
            way.set(Fault::None);
            cluster.until_ready_is(cut, 200, "ready\n").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_all_cut_off_from_the_store_say_so_and_go_on_by_themselves() {
    let cluster = Apart::start().await;
    let ana = cluster.nodes[0].user("ana").await;
    let before = order(&cluster, &ana).await;
    for way in &cluster.to_store {
        way.set(Fault::Refused);
        way.cut();
    }
    for node in 0..2 {
        cluster.until_ready_is(node, 503, "store_unreachable\n").await;
        // Nobody can know by now whether she is still logged in.
        let refused = ana.get(&cluster.nodes[node], "/api/gateway").await;
        let refused = refused.expect_problem(503, "unavailable");
        assert!(refused.headers.contains_key("retry-after"));
    }
    // Her socket is let in, and told when to come back.
    let mut socket = cluster.nodes[0].socket().await;
    socket.say(serde_json::json!({ "type": "connect", "token": ana.token })).await;
    let (code, reason) = socket.closed().await;
    let reason: Value = serde_json::from_str(&reason).unwrap();
    assert!(code == 1013 && reason["retryAfterMs"].as_u64().is_some_and(|wait| wait >= 500), "{reason}");
    for way in &cluster.to_store {
        way.set(Fault::None);
    }
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    for node in 0..2 {
        cluster.until_ready_is(node, 200, "ready\n").await;
        cluster.until_named(node, &ana, &before).await;
    }
}

/// The nodes as a session is told of them, once both are known.
async fn order(cluster: &Apart, user: &User) -> Vec<String> {
    loop {
        let answer = user.get(&cluster.nodes[0], "/api/gateway").await.expect(200).body;
        let urls = [&answer["url"], &answer["others"][0]].map(|url| url.as_str().map(str::to_owned));
        if let [Some(first), Some(second)] = urls {
            return vec![first, second];
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_from_redis_alone_stays_ready() {
    let cluster = Apart::start().await;
    let ana = cluster.nodes[0].user("ana").await;
    cluster.to_redis[0].set(Fault::Refused);
    cluster.to_redis[0].cut();
    // Once it knows: it asks the store for whatever it had by the link.
    let knows = async {
        let broken = "live_whole\"} 0";
        while !cluster.nodes[0].call_raw(Method::GET, "/metrics", &[], "").await.text.contains(broken) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, knows).await.expect("it does not notice");
    cluster.until_ready_is(0, 200, "ready\n").await;
    let group = cluster.nodes[0].group(&ana, &[]).await;
    ana.send(&cluster.nodes[0], &group, 1, "all the same").await;
}
