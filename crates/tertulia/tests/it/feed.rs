//! Three nodes that share what follows the logs, of which one is killed and one is stopped: whichever of them relayed, and
//! whichever fed the search index with what, everything that was acknowledged is found, and once.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use tertulia_services::{Kind, Server as Service};

use crate::process::{DEADLINE, Server, free_port};

const GROUPS: usize = 12;

struct Node {
    url: String,
    server: Server,
    _data: tempfile::TempDir,
}

impl Node {
    fn start(store: &str, feed: &str) -> Self {
        let (port, data) = (free_port(), tempfile::tempdir().unwrap());
        let server = Server::start_with(port, data.path(), &["--store", store, "--feed", feed]);
        Self { url: format!("http://127.0.0.1:{port}"), server, _data: data }
    }

    /// A figure of `/metrics`.
    async fn metric(&self, http: &Client, name: &str) -> f64 {
        let text = http.get(format!("{}/metrics", self.url)).send().await.unwrap().text().await.unwrap();
        let line = format!("tertulia_{name} ");
        text.lines().find_map(|known| known.strip_prefix(&line)).unwrap().parse().unwrap()
    }
}

/// In a build of the whole workspace `reqwest` has TLS, of which it wants to know whose; nothing here uses it.
fn http_client() -> Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    // A connection for each call: a node that was stopped for long closes those that were idle, also under a call.
    Client::builder().pool_max_idle_per_host(0).build().unwrap()
}

/// Somebody who writes, and looks for it.
struct Writer {
    http: Client,
    token: String,
    groups: Vec<String>,
    said: BTreeSet<(String, u64)>,
    number: u64,
}

impl Writer {
    async fn new(node: &Node) -> Self {
        let http = http_client();
        let body = json!({ "username": "ana", "password": "correct horse battery" });
        let user: Value = http
            .post(format!("{}/api/users", node.url))
            .json(&body)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let token = user["accessToken"].as_str().unwrap().to_owned();
        let mut writer = Self { http, token, groups: Vec::new(), said: BTreeSet::new(), number: 0 };
        for _ in 0..GROUPS {
            let group = json!({ "type": "group", "title": "tea", "members": [] });
            let group = writer.post(node, "/api/conversations", group).await;
            writer.groups.push(group["conversation"]["id"].as_str().unwrap().to_owned());
        }
        writer
    }

    async fn post(&self, node: &Node, path: &str, body: Value) -> Value {
        let request = self.http.post(format!("{}{path}", node.url)).bearer_auth(&self.token).json(&body);
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.unwrap()
    }

    /// Says it in each group, by one of the nodes.
    async fn say(&mut self, nodes: &[&Node]) {
        for (place, group) in self.groups.clone().into_iter().enumerate() {
            self.number += 1;
            let message = json!({ "clientSeq": self.number, "body": "one more kettle" });
            let path = format!("/api/conversations/{group}/messages");
            let sent = self.post(nodes[place % nodes.len()], &path, message).await;
            self.said.insert((group, sent["message"]["seq"].as_u64().unwrap()));
        }
    }

    /// What is found by a node; nothing is there twice.
    async fn found(&self, node: &Node) -> BTreeSet<(String, u64)> {
        let mut found = BTreeSet::new();
        for group in &self.groups {
            let url = format!("{}/api/search?limit=100&q=kettle&convoId={group}", node.url);
            let answer = self.http.get(url).bearer_auth(&self.token).send().await.unwrap();
            let answer: Value = answer.json().await.unwrap();
            for item in answer["items"].as_array().unwrap() {
                let seq = item["seq"].as_u64().unwrap();
                assert!(found.insert((group.clone(), seq)), "{group} {seq} is found twice");
            }
        }
        found
    }

    async fn until_all_is_found(&self, node: &Node) {
        let all = async {
            while self.found(node).await != self.said {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let in_time = tokio::time::timeout(DEADLINE, all).await;
        assert!(in_time.is_ok(), "{} of {} are found", self.found(node).await.len(), self.said.len());
    }

    /// The place of the node that relays.
    async fn relay(&self, nodes: &[Node]) -> usize {
        let leads = async {
            loop {
                for (place, node) in nodes.iter().enumerate() {
                    if node.metric(&self.http, "feed_relay_leads").await > 0.0 {
                        return place;
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(DEADLINE, leads).await.expect("nobody relays")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_found_once_whichever_node_is_killed_or_stopped() {
    let service = |kind| tokio::task::spawn_blocking(move || Service::temporary(kind).unwrap());
    let (postgres, kafka) = tokio::join!(service(Kind::Postgres), service(Kind::Kafka));
    let (postgres, kafka) = (postgres.unwrap(), kafka.unwrap());
    let feed = format!("{}?partitions=6", kafka.url());
    let mut nodes: Vec<_> = (0..3).map(|_| Node::start(&postgres.url(), &feed)).collect();
    let mut writer = Writer::new(&nodes[0]).await;
    writer.say(&nodes.iter().collect::<Vec<_>>()).await;
    for node in &nodes {
        writer.until_all_is_found(node).await;
    }

    // The one that relays is killed, in the middle of it.
    writer.say(&nodes.iter().collect::<Vec<_>>()).await;
    let killed = nodes.remove(writer.relay(&nodes).await);
    killed.server.kill();
    writer.say(&nodes.iter().collect::<Vec<_>>()).await;
    for node in &nodes {
        writer.until_all_is_found(node).await;
    }

    // Whoever relays now is stopped for as long as it takes until the other does its work, and goes on then.
    let stopped = nodes.remove(writer.relay(&nodes).await);
    writer.say(&[&stopped, &nodes[0]]).await;
    stopped.server.signal("STOP");
    writer.say(&[&nodes[0]]).await;
    writer.until_all_is_found(&nodes[0]).await;
    stopped.server.signal("CONT");
    writer.say(&[&stopped, &nodes[0]]).await;
    for node in [&stopped, &nodes[0]] {
        writer.until_all_is_found(node).await;
    }
    assert_eq!(stopped.server.terminate().code(), Some(0));
}
