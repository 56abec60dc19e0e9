//! Two nodes on one PostgreSQL and one Redis: what happens on one is seen on the other, and Redis may come and go.

use std::time::Duration;

use serde_json::{Value, json};
use tertulia_server::clock::Clock;
use tertulia_server::config::{Config, LiveAt, StoreAt};
use tertulia_services::{Kind, Server as Service};
use tertulia_store::Store as _;
use tertulia_store::postgres::parts::{Connector, Session};
use tertulia_store::postgres::{Postgres, PostgresOptions};

use crate::harness::{DEADLINE, Server, Socket, User};

/// Both are the test's own, so that it may do anything to them.
struct Cluster {
    nodes: [Server; 2],
    redis: Service,
    postgres: Service,
}

impl Cluster {
    async fn start() -> Self {
        let service = async |kind| {
            tokio::task::spawn_blocking(move || Service::temporary(kind).unwrap()).await.unwrap()
        };
        let (postgres, redis) = tokio::join!(service(Kind::Postgres), service(Kind::Redis));
        let node = async || {
            let (store, live) = (postgres.url(), redis.url());
            Server::start_with(move |config| {
                (config.store, config.live) = (StoreAt::Postgres(store), LiveAt::Redis(live));
            })
            .await
        };
        let nodes = [node().await, node().await];
        Self { nodes, redis, postgres }
    }

    /// Ana with a socket on the first node, Bo with one on the second, and a group of both.
    async fn two(&self) -> ([User; 2], [Socket; 2], String) {
        let [one, other] = &self.nodes;
        let (ana, bo) = (one.user("ana").await, other.user("bo1").await);
        let mut sockets = [one.connect(&ana).await.0, other.connect(&bo).await.0];
        let group = one.group(&ana, &[&bo]).await;
        for socket in &mut sockets {
            assert_eq!(socket.wait_for("conversation_update").await["conversation"]["id"], json!(group));
            assert_eq!(socket.wait_for("message").await["kind"], "created");
        }
        ([ana, bo], sockets, group)
    }

    async fn do_to_redis(&mut self, what: impl FnOnce(&mut Service) + Send) {
        tokio::task::block_in_place(|| what(&mut self.redis));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_clock_is_an_hour_off_takes_the_time_of_the_database() {
    let cluster = Cluster::start().await;
    let right = &cluster.nodes[0];
    let ana = right.user("ana").await;
    let group = right.group(&ana, &[]).await;
    for (number, off_by_ms) in [(1, 3_600_000), (2, -3_600_000)] {
        let (store, live) = (cluster.postgres.url(), cluster.redis.url());
        let change = move |config: &mut Config| {
            (config.store, config.live) = (StoreAt::Postgres(store), LiveAt::Redis(live));
        };
        let clock = Clock::system_off_by(off_by_ms);
        let wrong = Server::start_at(tempfile::tempdir().unwrap(), change, clock).await;
        // A token lives for a quarter of an hour.
        ana.get(&wrong, "/api/conversations").await.expect(200);
        let bo = wrong.user(&format!("bo{number}")).await;
        bo.get(right, "/api/conversations").await.expect(200);
        let sent = json!({ "clientSeq": number, "body": "x" });
        let sent = ana.post(&wrong, &format!("/api/conversations/{group}/messages"), sent).await.expect(201);
        let sent: tertulia_protocol::Timestamp =
            serde_json::from_value(sent.body["message"]["ts"].clone()).unwrap();
        let now = Clock::system().now();
        assert!((sent.as_millis() - now.as_millis()).abs() < 600_000, "{sent:?} at {now:?}");
    }
}

fn message(convo: &str, client_seq: u64) -> Value {
    json!({ "type": "send_message", "convoId": convo, "clientSeq": client_seq, "body": "x" })
}

/// All places of a log that a socket has or has sent, in the order in which they came, up to `last`.
async fn places(socket: &mut Socket, last: u64) -> Vec<u64> {
    let mut places = Vec::new();
    while !(places.len() as u64 + 1 >= last && places.contains(&last)) {
        let event = socket.next().await;
        let place = match event["type"].as_str() {
            Some("message") => &event["seq"],
            Some("message_ack") => &event["serverSeq"],
            _ => continue,
        };
        places.push(place.as_u64().unwrap());
    }
    places.sort_unstable();
    places
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_on_one_node_is_seen_on_the_other() {
    let cluster = Cluster::start().await;
    let ([ana, bo], [mut of_ana, mut of_bo], group) = cluster.two().await;
    for number in 1..=20 {
        of_ana.say(message(&group, number)).await;
        of_bo.say(message(&group, number)).await;
    }
    let all: Vec<_> = (2..=41).collect();
    assert_eq!(places(&mut of_ana, 41).await, all);
    assert_eq!(places(&mut of_bo, 41).await, all);

    let receipts = format!("/api/conversations/{group}/receipts");
    bo.put(&cluster.nodes[1], &receipts, Some(json!({ "readSeq": 41 }))).await.expect(204);
    // It may be dropped, so it is said again, as by people.
    let typing = loop {
        of_bo.say(json!({ "type": "typing", "convoId": group, "active": true })).await;
        let told = tokio::time::timeout(Duration::from_secs(1), of_ana.wait_for("typing")).await;
        if let Ok(typing) = told {
            break typing;
        }
    };
    assert_eq!((&typing["userId"], &typing["active"]), (&json!(bo.id), &json!(true)));
    ana.patch(&cluster.nodes[0], &format!("/api/conversations/{group}"), json!({ "title": "té" }))
        .await
        .expect(200);
    assert_eq!(of_bo.wait_for("message").await["kind"], "renamed");
    assert_eq!(of_bo.wait_for("conversation_update").await["conversation"]["title"], "té");

    // Whatever node he resumes on, a position of another one is known there.
    let (mut again, ready) = cluster.nodes[1].connect(&bo).await;
    let position = loop {
        again.say(json!({ "type": "ping" })).await;
        let position = again.wait_for("pong").await["position"].clone();
        if position != ready["position"] {
            break position;
        }
    };
    of_ana.say(message(&group, 21)).await;
    let (mut resumed, ready_there) = cluster.nodes[0].resume(&ready["resumeToken"], &position).await;
    assert_eq!(ready_there["resumed"], true);
    while resumed.wait_for("message").await["seq"] != json!(43) {}

    ana.delete(&cluster.nodes[0], &format!("/api/conversations/{group}/members/{}", bo.id)).await.expect(204);
    while of_bo.wait_for("message").await["kind"] != "member_removed" {}
    assert_eq!(of_bo.event("conversation_update").await["conversation"]["left"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_missing_after_redis_was_gone_and_sends_never_stop() {
    let mut cluster = Cluster::start().await;
    let ([ana, bo], [mut of_ana, mut of_bo], group) = cluster.two().await;
    of_ana.say(message(&group, 1)).await;
    assert_eq!(places(&mut of_bo, 2).await, [2]);

    cluster.do_to_redis(|redis| redis.kill().unwrap()).await;
    for number in 2..=20 {
        of_ana.say(message(&group, number)).await;
    }
    for place in 2..=21_u64 {
        assert_eq!(of_ana.wait_for("message_ack").await["serverSeq"], json!(place), "acks need no Redis");
    }
    // Somebody who is on the other node is let into another conversation meanwhile.
    let other = cluster.nodes[0].group(&ana, &[&bo]).await;
    ana.send(&cluster.nodes[0], &other, 1, "are you there?").await;

    cluster.do_to_redis(|redis| redis.restart().unwrap()).await;
    let (mut of_group, mut of_other) = (Vec::new(), Vec::new());
    while of_group.len() < 19 || of_other.len() < 2 {
        let event = of_bo.wait_for("message").await;
        let of = if event["convoId"] == json!(group) { &mut of_group } else { &mut of_other };
        of.push(event["seq"].as_u64().unwrap());
    }
    assert_eq!((of_group, of_other), ((3..=21).collect(), vec![1, 2]));

    // And it is live again.
    of_bo.say(message(&group, 1)).await;
    while of_ana.wait_for("message").await["seq"] != json!(22) {}
    of_ana.say(message(&other, 2)).await;
    while of_bo.wait_for("message").await["seq"] != json!(3) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_logged_out_on_one_node_is_out_on_every_node() {
    let mut cluster = Cluster::start().await;
    let bo = cluster.nodes[0].user("bo1").await;
    let (lost, late) =
        (cluster.nodes[0].another_device("bo1").await, cluster.nodes[0].another_device("bo1").await);
    let mut of_lost = cluster.nodes[1].connect(&lost).await.0;
    let mut of_late = cluster.nodes[1].connect(&late).await.0;
    let me = "/api/users/me";
    lost.get(&cluster.nodes[1], me).await.expect(200);
    bo.delete(&cluster.nodes[0], &format!("/api/sessions/{}", lost.device)).await.expect(204);
    assert_eq!(of_lost.closed().await.0, 4002);
    lost.get(&cluster.nodes[1], me).await.expect_problem(401, "unauthenticated");

    // Where nobody can tell, nobody relies on what he remembers, and the store is asked who is gone.
    late.get(&cluster.nodes[1], me).await.expect(200);
    cluster.do_to_redis(|redis| redis.kill().unwrap()).await;
    bo.delete(&cluster.nodes[0], &format!("/api/sessions/{}", late.device)).await.expect(204);
    let refused = async {
        while late.get(&cluster.nodes[1], me).await.status != 401 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, refused).await.expect("a node that hears nothing asks the store");
    assert_eq!(of_late.closed().await.0, 4002, "while Redis is gone");

    // Of a server that only says nothing any more it is not known at once that it is gone.
    cluster.do_to_redis(|redis| redis.restart().unwrap()).await;
    let last = cluster.nodes[0].another_device("bo1").await;
    let mut of_last = cluster.nodes[1].connect(&last).await.0;
    last.get(&cluster.nodes[1], me).await.expect(200);
    cluster.do_to_redis(|redis| redis.pause().unwrap()).await;
    bo.delete(&cluster.nodes[0], &format!("/api/sessions/{}", last.device)).await.expect(204);
    assert_eq!(of_last.closed().await.0, 4002, "while Redis is paused");
    last.get(&cluster.nodes[1], me).await.expect_problem(401, "unauthenticated");
    cluster.do_to_redis(|redis| redis.resume().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_holds_on_every_node_at_once() {
    let cluster = Cluster::start().await;
    let [one, other] = &cluster.nodes;
    let (ana, bo) = (one.user("ana").await, other.user("bo1").await);
    let body = json!({ "type": "direct", "members": [bo.id] });
    // Both nodes remember that nobody blocks anybody.
    let talk = ana.post(one, "/api/conversations", body).await.expect(201);
    let talk = talk.body["conversation"]["id"].as_str().unwrap().to_owned();
    bo.send(other, &talk, 1, "hi").await;
    ana.put(one, &format!("/api/users/{}/block", bo.id), None).await.expect(204);
    let path = format!("/api/conversations/{talk}/messages");
    let body = json!({ "clientSeq": 2, "body": "are you there?" });
    bo.post(other, &path, body).await.expect_problem(403, "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_while_a_transaction_stays_open_misses_nothing() {
    let cluster = Cluster::start().await;
    let node = &cluster.nodes[0];
    let (ana, bo) = (node.user("ana").await, node.user("bo1").await);
    let group = node.group(&ana, &[&bo]).await;
    let (mut of_bo, ready) = node.connect(&bo).await;
    let (url, options) = (cluster.postgres.url(), PostgresOptions::default());
    let stalled: Session = Connector::new(&url, &options).unwrap().connect().await.unwrap();
    stalled.run("BEGIN").await.unwrap();
    stalled.rows("SELECT pg_current_xact_id()::text", &[]).await.unwrap();
    // From here on the horizon stands still, and so do positions, once they have come to it.
    let store = Postgres::open(&url, &options).await.unwrap();
    let horizon = json!(store.position(store.horizon().await.unwrap()));
    let reached = async {
        loop {
            of_bo.say(json!({ "type": "ping" })).await;
            let position = of_bo.wait_for("pong").await["position"].clone();
            if position == horizon {
                return position;
            }
        }
    };
    let position = tokio::time::timeout(DEADLINE, reached).await.expect("the position does not move");
    ana.send(node, &group, 1, "hi").await;
    while of_bo.wait_for("message").await["kind"] != "text" {}
    let (mut resumed, again) = node.resume(&ready["resumeToken"], &position).await;
    assert_eq!(again["resumed"], true);
    while resumed.wait_for("message").await["kind"] != "text" {}
    stalled.run("ROLLBACK").await.unwrap();
    store.close().await;
}
