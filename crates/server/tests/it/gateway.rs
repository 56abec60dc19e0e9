//! To which node a session best goes.

use serde_json::{Value, json};
use tertulia_services::Fault;

use crate::cluster_presence::{MINUTE, Nodes};
use crate::harness::{Server, User};

async fn ask(server: &Server, user: &User) -> Vec<String> {
    let Value::Object(answer) = user.get(server, "/api/gateway").await.expect(200).body else {
        unreachable!()
    };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let others = answer["others"].as_array().unwrap().iter().map(text);
    std::iter::once(text(&answer["url"])).chain(others).collect()
}

/// Asks until the answer has these, in any order.
async fn until(server: &Server, user: &User, expected: &[&str]) -> Vec<String> {
    let asking = async {
        loop {
            let answer = ask(server, user).await;
            let mut sorted = answer.clone();
            sorted.sort_unstable();
            if sorted == expected {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::harness::DEADLINE, asking).await.expect("the nodes are not named")
}

#[tokio::test]
async fn a_single_node_names_the_address_at_which_it_was_asked_or_its_public_one() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    assert_eq!(ask(&server, &ana).await, [format!("http://{}", server.address)]);
    let bearer = format!("Bearer {}", ana.token);
    let headers = [("authorization", bearer.as_str()), ("x-forwarded-proto", "https")];
    let behind = server.call_raw(reqwest::Method::GET, "/api/gateway", &headers, "").await.expect(200);
    assert_eq!(behind.body, json!({ "url": format!("https://{}", server.address), "others": [] }));
    server
        .call(reqwest::Method::GET, "/api/gateway", None, None)
        .await
        .expect_problem(401, "unauthenticated");

    let public = |config: &mut tertulia_server::config::Config| {
        config.public_url = Some("https://chat.example.org".to_owned());
    };
    let server = Server::start_with(public).await;
    let ana = server.user("ana").await;
    assert_eq!(ask(&server, &ana).await, ["https://chat.example.org"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_name_the_same_node_for_a_session_and_never_one_that_drains() {
    let mut cluster = Nodes::<3>::start(MINUTE).await;
    let ana = cluster.nodes[0].user("ana").await;
    let all = ["http://node0", "http://node1", "http://node2"];
    let answer = until(&cluster.nodes[0], &ana, &all).await;
    for node in &cluster.nodes {
        assert_eq!(until(node, &ana, &all).await, answer);
    }

    // While nobody can tell, a node names those of whom it last heard.
    cluster.ways[0].set(Fault::Refused);
    cluster.ways[0].cut();
    let mut named = ask(&cluster.nodes[0], &ana).await;
    named.sort_unstable();
    assert_eq!(named, all);
    cluster.ways[0].set(Fault::None);

    // One that goes is named no more, and its sessions go to the one that came second.
    let going = all.iter().position(|url| answer[0] == *url).unwrap();
    let _socket = cluster.nodes[going].connect(&ana).await.0;
    cluster.nodes[going].begin_drain();
    let left: Vec<&str> = all.into_iter().filter(|url| *url != answer[0]).collect();
    for (number, node) in cluster.nodes.iter_mut().enumerate() {
        if number != going {
            assert_eq!(until(node, &ana, &left).await, answer[1..]);
        }
    }
}
