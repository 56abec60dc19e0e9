//! Nodes that share what follows the logs, by a real Kafka: what is said on one is found on all, whatever befalls Kafka
//! and the nodes.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tertulia_server::config::{FeedAt, LiveAt, StoreAt};
use tertulia_services::{Kind, Server as Service, shared};

use crate::harness::{Server, User};

/// Longer than it may take until Kafka has found out who is gone, and shared the work anew.
const DEADLINE: Duration = Duration::from_secs(120);

/// A database of the test's own, and where its nodes meet.
struct Cluster {
    postgres: Service,
    feed: FeedAt,
}

async fn service(kind: Kind) -> Service {
    tokio::task::spawn_blocking(move || Service::temporary(kind).unwrap()).await.unwrap()
}

impl Cluster {
    /// With a topic of its own in the Kafka that all tests share.
    async fn new() -> Self {
        Self::with(&shared::url(Kind::Kafka).unwrap_or_else(|error| panic!("{error}"))).await
    }

    async fn with(kafka: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let url = format!("{kafka}?topic=it{}-{number}&partitions=6", std::process::id());
        Self { postgres: service(Kind::Postgres).await, feed: FeedAt::Kafka(url.parse().unwrap()) }
    }

    async fn node(&self) -> Server {
        self.node_with(self.feed.clone()).await
    }

    async fn node_with(&self, feed: FeedAt) -> Server {
        let store = StoreAt::Postgres(self.postgres.url());
        Server::start_with(move |config| {
            (config.store, config.live, config.feed) = (store, LiveAt::Process, feed);
        })
        .await
    }
}

/// How often a word is found.
async fn count(node: &Server, user: &User, word: &str) -> usize {
    let answer = user.get(node, &format!("/api/search?limit=100&q={word}")).await.expect(200);
    answer.body["items"].as_array().map_or(0, Vec::len)
}

async fn until_found(node: &Server, user: &User, word: &str, times: usize) {
    let found = async {
        while count(node, user, word).await != times {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, found)
        .await
        .unwrap_or_else(|_| panic!("{word} is not found {times} times"));
}

/// Says a word so often, each time in a group of its own.
async fn say(node: &Server, user: &User, word: &str, times: u64) -> Vec<Value> {
    let mut said = Vec::new();
    for number in 1..=times {
        let group = node.group(user, &[]).await;
        said.push(user.send(node, &group, number, word).await);
    }
    said
}

/// A figure of `/metrics`, over all partitions.
async fn sum(node: &Server, name: &str) -> f64 {
    let text = node.call(reqwest::Method::GET, "/metrics", None, None).await.expect(200).text;
    let of_name = |line: &&str| line.starts_with(&format!("tertulia_{name}"));
    text.lines().filter(of_name).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// How many partitions of the feed a node follows.
async fn partitions(node: &Server) -> usize {
    let text = node.call(reqwest::Method::GET, "/metrics", None, None).await.expect(200).text;
    text.matches("tertulia_consumer_lag_entries{").count()
}

/// Kafka shares its partitions out, once it knows of both nodes.
async fn until_shared_out(nodes: &[Server; 2]) {
    let shared_out = async {
        while partitions(&nodes[0]).await != 3 || partitions(&nodes[1]).await != 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, shared_out).await.expect("one node does it all");
}

async fn until_all_is_taken(node: &Server) {
    let taken = async {
        while sum(node, "consumer_lag_entries{").await > 0.0
            || sum(node, "consumer_backfill_entries{consumer=\"search\",state=\"left\"").await > 0.0
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, taken).await.expect("something waits for ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_on_one_node_is_found_on_every_node_and_the_nodes_share_the_work() {
    let cluster = Cluster::new().await;
    let nodes = [cluster.node().await, cluster.node().await];
    let ana = nodes[0].user("ana").await;
    say(&nodes[0], &ana, "kettle", 10).await;
    for node in &nodes {
        until_found(node, &ana, "kettle", 10).await;
        until_all_is_taken(node).await;
    }
    until_shared_out(&nodes).await;
    say(&nodes[1], &ana, "teapot", 20).await;
    until_found(&nodes[0], &ana, "teapot", 20).await;
    let leads = nodes[0].metric("feed_relay_leads").await + nodes[1].metric("feed_relay_leads").await;
    assert!((leads - 1.0).abs() < f64::EPSILON, "one node relays, not {leads}");

    // Whoever goes leaves his part, and the relay, to the other.
    let [one, other] = nodes;
    one.stop().await;
    say(&other, &ana, "saucer", 20).await;
    until_found(&other, &ana, "saucer", 20).await;
    other.until_metric("feed_relay_leads", |leads| leads > 0.0).await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_there_was_a_feed_is_found() {
    let cluster = Cluster::new().await;
    let alone = cluster.node_with(FeedAt::Journal).await;
    let ana = alone.user("ana").await;
    say(&alone, &ana, "kettle", 30).await;
    alone.stop().await;
    let nodes = [cluster.node().await, cluster.node().await];
    say(&nodes[1], &ana, "kettle", 5).await;
    for node in &nodes {
        until_found(node, &ana, "kettle", 35).await;
    }
    // Both have begun, and it is known how far they are.
    until_shared_out(&nodes).await;
    say(&nodes[0], &ana, "saucer", 20).await;
    until_found(&nodes[0], &ana, "saucer", 20).await;
    for node in nodes {
        node.stop().await;
    }
    // And nothing of it is read again when they come back.
    let again = cluster.node().await;
    say(&again, &ana, "teapot", 1).await;
    until_found(&again, &ana, "teapot", 1).await;
    until_all_is_taken(&again).await;
    let read = sum(&again, "consumer_backfill_entries{consumer=\"search\",state=\"done\"").await;
    assert!(read.abs() < f64::EPSILON, "{read} entries were read from the logs");
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_kafka_is_gone_all_goes_on_and_what_was_said_is_found_when_it_is_back() {
    let mut kafka = service(Kind::Kafka).await;
    let cluster = Cluster::with(&kafka.url()).await;
    let node = cluster.node().await;
    let ana = node.user("ana").await;
    say(&node, &ana, "kettle", 3).await;
    until_found(&node, &ana, "kettle", 3).await;
    tokio::task::block_in_place(|| kafka.kill().unwrap());
    // Each of these is acknowledged.
    say(&node, &ana, "teapot", 20).await;
    assert_eq!(count(&node, &ana, "kettle").await, 3, "what is in the index is found");
    node.until_metric("feed_relay_lag_seconds", |lag| lag > 0.0).await;
    // A node that starts meanwhile serves all the same.
    let other = cluster.node().await;
    say(&other, &ana, "spoon", 5).await;
    assert_eq!(count(&other, &ana, "kettle").await, 3);
    tokio::task::block_in_place(|| kafka.restart().unwrap());
    until_found(&node, &ana, "teapot", 20).await;
    until_found(&other, &ana, "spoon", 5).await;
    assert_eq!(count(&node, &ana, "kettle").await, 3);
    node.stop().await;
    other.stop().await;
}
