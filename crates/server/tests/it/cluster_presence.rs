//! Who is there, on nodes that share a PostgreSQL and a Redis, each with a way to Redis of its own that can be cut.

use std::time::Duration;

use serde_json::{Value, json};
use tertulia_server::config::{Config, LiveAt, StoreAt};
use tertulia_services::{Fault, Kind, Proxy, Server as Service};

use crate::asking::path;
use crate::harness::{Server, Socket, User};

/// Whose time stands still, so that nobody who is silent seems to be gone; leases are the servers' matter.
pub struct Nodes<const COUNT: usize> {
    pub nodes: [Server; COUNT],
    pub ways: [Proxy; COUNT],
    pub redis: Service,
    _postgres: Service,
}

impl<const COUNT: usize> Nodes<COUNT> {
    /// They say that they are at `http://node0` and so on.
    pub async fn start(ttl: Duration) -> Self {
        let service = async |kind| {
            tokio::task::spawn_blocking(move || Service::temporary(kind).unwrap()).await.unwrap()
        };
        let (postgres, redis) = tokio::join!(service(Kind::Postgres), service(Kind::Redis));
        let ways = std::array::from_fn(|_| Proxy::to(redis.address()).unwrap());
        let mut nodes = Vec::new();
        for (number, way) in ways.iter().enumerate() {
            let (store, live) = (postgres.url(), format!("redis://{}", way.address()));
            let change = |config: &mut Config| {
                (config.store, config.live) = (StoreAt::Postgres(store), LiveAt::Redis(live));
                config.presence_ttl = ttl;
                config.public_url = Some(format!("http://node{number}"));
            };
            nodes.push(Server::start_with_hand(change).await.0);
        }
        let Ok(nodes) = nodes.try_into() else { unreachable!() };
        Self { nodes, ways, redis, _postgres: postgres }
    }

    fn cut(&self, node: usize) {
        self.ways[node].set(Fault::Refused);
        self.ways[node].cut();
    }
}

pub const MINUTE: Duration = Duration::from_secs(60);
/// A TTL whose lease runs out while a test waits.
const SHORT: Duration = Duration::from_secs(9);

async fn watch(socket: &mut Socket, user: &User) -> Value {
    socket.say(json!({ "type": "presence_subscribe", "userIds": [user.id] })).await;
    socket.wait_for("presence_update").await
}

/// Watches a user who has come a moment ago.
async fn see(socket: &mut Socket, user: &User) {
    if watch(socket, user).await["status"] != "online" {
        becomes(socket, user, "online").await;
    }
}

/// The next that is told of presence.
async fn becomes(socket: &mut Socket, user: &User, status: &str) -> Value {
    let update = socket.wait_for("presence_update").await;
    assert_eq!((&update["userId"], &update["status"]), (&json!(user.id), &json!(status)));
    update
}

/// What is told of presence until a user is this.
async fn until(socket: &mut Socket, user: &User, status: &str) -> Vec<Value> {
    let mut before = Vec::new();
    loop {
        let update = socket.wait_for("presence_update").await;
        if update["userId"] == json!(user.id) && update["status"] == status {
            return before;
        }
        before.push(update);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_on_one_node_is_seen_on_the_other() {
    let cluster = Nodes::<2>::start(MINUTE).await;
    let [one, other] = &cluster.nodes;
    let (ana, bo) = (one.user("ana").await, other.user("bo1").await);
    one.group(&ana, &[&bo]).await;
    let mut watcher = one.connect(&ana).await.0;
    assert_eq!(watch(&mut watcher, &bo).await["status"], "offline");

    let mut laptop = other.connect(&bo).await.0;
    becomes(&mut watcher, &bo, "online").await;
    laptop.say(json!({ "type": "presence_set", "status": "away" })).await;
    becomes(&mut watcher, &bo, "away").await;
    // Who begins to watch is told what both nodes see.
    let mut late = one.connect(&one.another_device("ana").await).await.0;
    assert_eq!(watch(&mut late, &bo).await["status"], "away");
    let phone = one.connect(&one.another_device("bo1").await).await.0;
    becomes(&mut watcher, &bo, "online").await;
    phone.close(1000).await;
    becomes(&mut watcher, &bo, "away").await;

    laptop.close(1000).await;
    let gone = becomes(&mut watcher, &bo, "offline").await;
    assert!(gone["lastSeen"].is_string(), "{gone}");
    assert_eq!(watch(&mut watcher, &bo).await["lastSeen"], gone["lastSeen"], "before it was written down");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hides_when_he_was_last_seen_hides_it_on_every_node() {
    let cluster = Nodes::<2>::start(MINUTE).await;
    let [one, other] = &cluster.nodes;
    let (ana, bo) = (one.user("ana").await, other.user("bo1").await);
    one.group(&ana, &[&bo]).await;
    bo.patch(other, "/api/users/me", json!({ "privacy": { "lastSeen": "nobody" } })).await.expect(200);
    let mut watcher = one.connect(&ana).await.0;
    watch(&mut watcher, &bo).await;
    let socket = other.connect(&bo).await.0;
    becomes(&mut watcher, &bo, "online").await;
    socket.close(1000).await;
    assert_eq!(becomes(&mut watcher, &bo, "offline").await.get("lastSeen"), None);
    assert_eq!(watch(&mut watcher, &bo).await.get("lastSeen"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shares_no_conversation_any_longer_is_not_told_by_other_nodes() {
    let cluster = Nodes::<2>::start(MINUTE).await;
    let [one, other] = &cluster.nodes;
    let (ana, bo, cai) = (one.user("ana").await, other.user("bo1").await, other.user("cai").await);
    let group = one.group(&cai, &[&ana, &bo]).await;
    let mut watcher = one.connect(&ana).await.0;
    for user in [&bo, &cai] {
        watch(&mut watcher, user).await;
    }
    cai.delete(other, &path(&group, &format!("/members/{}", bo.id))).await.expect(204);
    while watcher.wait_for("message").await["kind"] != "member_removed" {}
    // It is found out in a moment; bo comes and goes until it is.
    let unwatched = async {
        let mut sees_bo = true;
        while sees_bo {
            let bos = other.connect(&bo).await.0;
            let cais = other.connect(&cai).await.0;
            let before = until(&mut watcher, &cai, "online").await;
            bos.close(1000).await;
            cais.close(1000).await;
            let after = until(&mut watcher, &cai, "offline").await;
            sees_bo = before.iter().chain(&after).any(|update| update["userId"] == json!(bo.id));
        }
    };
    tokio::time::timeout(crate::harness::DEADLINE, unwatched).await.expect("he watches bo no longer");
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_nobody_can_ask_for_is_seen_where_he_is_and_no_ghost_stays_anywhere() {
    let cluster = Nodes::<3>::start(SHORT).await;
    let [one, other, third] = &cluster.nodes;
    let users = [("ana", one), ("bo1", other), ("cai", third)];
    let mut there = Vec::new();
    for (name, node) in users {
        there.push((node.user(name).await, node));
    }
    let all: Vec<&User> = there.iter().map(|(user, _)| user).collect();
    one.group(all[0], &all[1..]).await;
    let mut sockets = Vec::new();
    for (user, node) in &there {
        sockets.push(node.connect(user).await.0);
    }
    for (at, socket) in sockets.iter_mut().enumerate() {
        for (_, user) in all.iter().enumerate().filter(|(number, _)| *number != at) {
            see(socket, user).await;
        }
    }
    let of_two = |updates: [Value; 2]| {
        let mut users = updates.map(|update| (update["userId"].clone(), update["status"].clone()));
        users.sort_by_key(|(user, _)| user.to_string());
        users
    };
    let expected = |users: [&User; 2], status: &str| {
        let mut expected = users.map(|user| (json!(user.id), json!(status)));
        expected.sort_by_key(|(user, _)| user.to_string());
        expected
    };

    // A node is cut off: to the others it is as good as dead, and it does not know of theirs any more.
    cluster.cut(1);
    let gone = becomes(&mut sockets[0], all[1], "offline").await;
    assert!(gone["lastSeen"].is_string(), "{gone}");
    becomes(&mut sockets[2], all[1], "offline").await;
    let [_, cut_off, _] = &mut sockets[..] else { unreachable!() };
    let seen = [cut_off.wait_for("presence_update").await, cut_off.wait_for("presence_update").await];
    assert_eq!(of_two(seen), expected([all[0], all[2]], "offline"));
    // What it sees itself it tells all the same.
    let here = other.connect(&other.another_device("ana").await).await.0;
    becomes(&mut sockets[1], all[0], "online").await;
    assert_eq!(watch(&mut sockets[1], all[2]).await["status"], "offline");
    here.close(1000).await;
    becomes(&mut sockets[1], all[0], "offline").await;

    cluster.ways[1].set(Fault::None);
    becomes(&mut sockets[0], all[1], "online").await;
    becomes(&mut sockets[2], all[1], "online").await;
    let [_, back, _] = &mut sockets[..] else { unreachable!() };
    let seen = [back.wait_for("presence_update").await, back.wait_for("presence_update").await];
    assert_eq!(of_two(seen), expected([all[0], all[2]], "online"));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_redis_has_forgotten_everything_nobody_flickers() {
    let mut cluster = Nodes::<2>::start(MINUTE).await;
    let (ana, bo) = (cluster.nodes[0].user("ana").await, cluster.nodes[1].user("bo1").await);
    cluster.nodes[0].group(&ana, &[&bo]).await;
    let mut watcher = cluster.nodes[0].connect(&ana).await.0;
    let mut socket = cluster.nodes[1].connect(&bo).await.0;
    see(&mut watcher, &bo).await;
    tokio::task::block_in_place(|| {
        cluster.redis.kill().unwrap();
        cluster.redis.restart().unwrap();
    });
    // What comes next is what changes next.
    socket.say(json!({ "type": "presence_set", "status": "away" })).await;
    becomes(&mut watcher, &bo, "away").await;
}
