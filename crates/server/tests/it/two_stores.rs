//! Two nodes on two PostgreSQL servers and one Redis: a conversation is on one of them, and goes on while the other is gone.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tertulia_server::Node;
use tertulia_server::clock::{Clock, Random};
use tertulia_server::config::{Config, LiveAt, StoreAt};
use tertulia_services::{Kind, Server as Service};
use tertulia_store::Sharded;

use crate::harness::{DEADLINE, Server, Socket, User};

/// Calls that a store could not do: for one that is frozen those are counted that were given up, after ten seconds.
const REFUSED: &str = "store_refusals_total";

/// All are the test's own, so that it may do anything to them.
struct Cluster {
    nodes: Vec<Server>,
    stores: Vec<Service>,
    _redis: Service,
}

impl Cluster {
    async fn start() -> Self {
        let service = async |kind| {
            tokio::task::spawn_blocking(move || Service::temporary(kind).unwrap()).await.unwrap()
        };
        let mut servers = Vec::new();
        for _ in 0..2 {
            servers.push(service(Kind::Postgres).await);
        }
        let redis = service(Kind::Redis).await;
        let mut urls: Vec<_> = servers.iter().map(Service::url).collect();
        let mut nodes = Vec::new();
        for _ in 0..2 {
            let (store, live) = (StoreAt::PostgresServers(urls.clone()), LiveAt::Redis(redis.url()));
            nodes.push(Server::start_with(|config| (config.store, config.live) = (store, live)).await);
            // In whatever order they are named.
            urls.reverse();
        }
        let cluster = Self { nodes, stores: servers, _redis: redis };
        cluster.until_whole().await;
        cluster
    }

    /// Until each node hears the other, and has made good what it could not hear at first: for that it needs both stores.
    async fn until_whole(&self) {
        for node in &self.nodes {
            node.until_metric("store_figure{figure=\"live_whole\"}", |whole| whole == 1.0).await;
        }
    }

    /// A group of both on each of the stores, in their order.
    async fn groups(&self, ana: &User, bo: &User) -> Vec<String> {
        let mut groups = vec![None; self.stores.len()];
        while groups.contains(&None) {
            let group = self.nodes[0].group(ana, &[bo]).await;
            let place = Sharded::place(group.parse().unwrap(), groups.len());
            groups[place].get_or_insert(group);
        }
        groups.into_iter().flatten().collect()
    }

    async fn do_to(&mut self, store: usize, what: impl FnOnce(&mut Service) + Send) {
        tokio::task::block_in_place(|| what(&mut self.stores[store]));
    }
}

fn message(convo: &str, client_seq: u64) -> Value {
    json!({ "type": "send_message", "convoId": convo, "clientSeq": client_seq, "body": "x" })
}

/// Waits for a text in a conversation.
async fn text_in(socket: &mut Socket, convo: &str) -> Value {
    loop {
        let event = socket.wait_for("message").await;
        if event["convoId"] == json!(convo) && event["kind"] == "text" {
            return event;
        }
    }
}

/// The position that a socket is told once it is `reached`.
async fn position(socket: &mut Socket, is_reached: impl Fn(&Value) -> bool) -> Value {
    let at_last = async {
        loop {
            socket.say(json!({ "type": "ping" })).await;
            let position = socket.wait_for("pong").await["position"].clone();
            if is_reached(&position) {
                return position;
            }
        }
    };
    tokio::time::timeout(DEADLINE, at_last).await.expect("the position does not move")
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_on_two_stores_are_one_service_on_every_node() {
    let cluster = Cluster::start().await;
    let [one, other] = [&cluster.nodes[0], &cluster.nodes[1]];
    let (ana, bo) = (one.user("ana").await, other.user("bo1").await);
    let (mut of_ana, mut of_bo) = (one.connect(&ana).await.0, other.connect(&bo).await.0);
    let groups = cluster.groups(&ana, &bo).await;
    for group in &groups {
        for number in 1..=5 {
            of_ana.say(message(group, number)).await;
        }
    }
    let mut heard = vec![Vec::new(); 2];
    while heard.iter().any(|seqs| seqs.len() < 5) {
        let event = of_bo.wait_for("message").await;
        let of = groups.iter().position(|group| event["convoId"] == json!(group));
        if let (Some(of), true) = (of, event["kind"] == "text") {
            heard[of].push(event["seq"].as_u64().unwrap());
        }
    }
    assert_eq!(heard, vec![(2..=6).collect::<Vec<_>>(); 2]);
    let inbox = bo.get(other, "/api/conversations?limit=2").await.expect(200).body;
    let items = inbox["items"].as_array().unwrap();
    let is_there = |group: &String| items.iter().any(|item| item["id"] == json!(group));
    assert!(items.len() == 2 && groups.iter().all(is_there), "{inbox}");
    assert!(items[0]["updatedAt"].as_str() >= items[1]["updatedAt"].as_str(), "{inbox}");

    // Whatever node he resumes on: all that he missed is told, wherever it is kept.
    let (mut again, ready) = other.connect(&bo).await;
    let position = position(&mut again, |_| true).await;
    assert_eq!(position.as_str().unwrap().split('.').count(), 4, "{position}: a number for each store");
    for group in &groups {
        of_ana.say(message(group, 6)).await;
    }
    let (mut resumed, ready) = one.resume(&ready["resumeToken"], &position).await;
    assert_eq!(ready["resumed"], true);
    let mut missing = groups.clone();
    while !missing.is_empty() {
        let event = resumed.wait_for("message").await;
        missing.retain(|group| event["convoId"] != json!(group) || event["seq"] != json!(7));
    }

    // A node that is told of other servers does not begin.
    let data = tempfile::tempdir().unwrap();
    let mut config = Config::new(data.path().to_owned(), one.address);
    config.store = StoreAt::Postgres(cluster.stores[0].url());
    let refused = Node::open(config, Clock::system(), Random::system()).await.err().unwrap().to_string();
    assert!(refused.contains("made with 2"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_one_store_is_gone_conversations_of_the_other_go_on() {
    let mut cluster = Cluster::start().await;
    let (ana, bo) = (cluster.nodes[0].user("ana").await, cluster.nodes[1].user("bo1").await);
    let mut of_ana = cluster.nodes[0].connect(&ana).await.0;
    let mut of_bo = cluster.nodes[1].connect(&bo).await.0;
    let groups = cluster.groups(&ana, &bo).await;
    let (here, there) = (groups[0].as_str(), groups[1].as_str());
    for group in [here, there] {
        of_ana.say(message(group, 1)).await;
        text_in(&mut of_bo, group).await;
    }

    cluster.do_to(1, |store| store.kill().unwrap()).await;
    of_ana.say(message(there, 2)).await;
    let refused = of_ana.wait_for("error").await;
    assert_eq!((&refused["code"], &refused["clientSeq"]), (&json!("unavailable"), &json!(2)));
    let before = position(&mut of_bo, |_| true).await;
    for number in 2..=10 {
        of_ana.say(message(here, number)).await;
        let heard = text_in(&mut of_bo, here).await;
        assert_eq!(heard["seq"], json!(number + 1));
    }
    let page = bo.get(&cluster.nodes[1], &format!("/api/conversations/{here}/messages")).await.expect(200);
    assert_eq!(page.body["items"].as_array().unwrap().len(), 11);
    // Positions go on, too: in the part that is there.
    position(&mut of_bo, |position| *position != before).await;
    bo.get(&cluster.nodes[1], "/api/conversations").await.expect_problem(503, "unavailable");

    cluster.do_to(1, |store| store.restart().unwrap()).await;
    let sent = async {
        loop {
            of_ana.say(message(there, 2)).await;
            let answer = loop {
                let event = of_ana.next().await;
                if ["message_ack", "error"].contains(&event["type"].as_str().unwrap())
                    && event["convoId"] == json!(there)
                {
                    break event;
                }
            };
            if answer["type"] == "message_ack" {
                return answer["serverSeq"].clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    assert_eq!(tokio::time::timeout(DEADLINE, sent).await.unwrap(), json!(3));
    assert_eq!(text_in(&mut of_bo, there).await["seq"], json!(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_one_store_is_frozen_the_other_is_read_and_written_and_it_comes_back_by_itself() {
    let mut cluster = Cluster::start().await;
    let (ana, bo) = (cluster.nodes[0].user("ana").await, cluster.nodes[1].user("bo1").await);
    let groups = cluster.groups(&ana, &bo).await;
    let (here, there) = (groups[0].as_str(), groups[1].as_str());
    let mut of_bo = cluster.nodes[1].connect(&bo).await.0;

    cluster.do_to(1, |store| store.pause().unwrap()).await;
    let page =
        async |convo: &str| bo.get(&cluster.nodes[1], &format!("/api/conversations/{convo}/messages")).await;
    // As many as he may read at one time.
    let waiting = async { tokio::join!(page(there), page(there)) };
    let meanwhile = async {
        for number in 1..=5 {
            of_bo.say(message(here, number)).await;
            assert_eq!(of_bo.wait_for("message_ack").await["serverSeq"], json!(number + 1));
            let page = page(here).await.expect(200);
            assert_eq!(page.body["items"].as_array().unwrap().len() as u64, number + 1);
        }
    };
    tokio::select! {
        biased;
        told = waiting => panic!("they are answered by a store that is frozen, or before the others: {told:?}"),
        () = meanwhile => {}
    }
    assert_eq!(cluster.nodes[1].metric(REFUSED).await, 0.0, "those that wait were refused first");

    cluster.stores[1].resume().unwrap();
    let is_back = async { while page(there).await.status != 200 {} };
    tokio::time::timeout(DEADLINE, is_back).await.expect("it does not come back");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lacks_something_of_a_store_that_is_frozen_is_heard_before_he_has_it() {
    let mut cluster = Cluster::start().await;
    let (ana, bo) = (cluster.nodes[0].user("ana").await, cluster.nodes[1].user("bo1").await);
    let groups = cluster.groups(&ana, &bo).await;
    // Where he is in is known with his first device. What he may have missed since, each asks all stores for.
    let _first = cluster.nodes[1].connect(&bo).await;

    cluster.do_to(1, |store| store.pause().unwrap()).await;
    let (mut of_bo, _) = cluster.nodes[1].connect(&bo).await;
    for number in 1..=5 {
        of_bo.say(message(&groups[0], number)).await;
        assert_eq!(of_bo.wait_for("message_ack").await["serverSeq"], json!(number + 1));
    }
    assert_eq!(cluster.nodes[1].metric(REFUSED).await, 0.0, "what he lacks was refused first");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_searches_the_store_that_goes_on_waits_for_none_who_search_a_frozen_one() {
    let mut cluster = Cluster::start().await;
    let node = &cluster.nodes[1];
    let (ana, bo) = (cluster.nodes[0].user("ana").await, node.user("bo1").await);
    let groups = cluster.groups(&ana, &bo).await;
    bo.send(node, &groups[0], 1, "camellia").await;
    let here = format!("/api/search?q=camellia&convoId={}", groups[0]);
    let is_found = async { while bo.get(node, &here).await.expect(200).body["items"] == json!([]) {} };
    tokio::time::timeout(DEADLINE, is_found).await.expect("it is not found");
    // More than search at one time.
    let mut others = Vec::new();
    for number in 0..20 {
        others.push(node.user(&format!("other{number}")).await);
    }

    cluster.do_to(1, |store| store.pause().unwrap()).await;
    let node = &cluster.nodes[1];
    // Everywhere.
    let waiting = join_all(others.iter().map(|other| other.get(node, "/api/search?q=camellia")));
    let meanwhile = async {
        for _ in 0..5 {
            let found = bo.get(node, &here).await.expect(200);
            assert_eq!(found.body["items"].as_array().unwrap().len(), 1);
        }
    };
    tokio::select! {
        biased;
        told = waiting => panic!("they are answered by a store that is frozen, or before the others: {told:?}"),
        () = meanwhile => {}
    }
    assert_eq!(node.metric(REFUSED).await, 0.0, "those that wait were refused first");
}
