//! The shortest way through everything.

use serde_json::json;

use crate::harness::Server;

#[tokio::test]
async fn a_message_goes_from_socket_to_disk_to_socket() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let ((mut from, _), (mut to, _)) = (server.connect(&ana).await, server.connect(&bo).await);
    from.say(json!({ "type": "send_message", "convoId": group, "clientSeq": 1, "body": "hola" })).await;
    let ack = from.event("message_ack").await;
    let message = to.event("message").await;
    assert_eq!((&message["seq"], &message["body"]), (&ack["serverSeq"], &json!("hola")));
    assert!(message["position"].is_string());

    let data = server.stop().await;
    let server = Server::start_on(data, |_| {}).await;
    let history = ana.get(&server, &format!("/api/conversations/{group}/messages")).await.expect(200);
    assert_eq!(history.body["items"][1]["body"], "hola");
    server.stop().await;
}

#[tokio::test]
async fn a_new_direct_conversation_is_told_with_both_its_members() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let (mut socket, _) = server.connect(&bo).await;
    let cursor = bo.get(&server, "/api/events").await.expect(200).body["cursor"].clone();
    ana.post(&server, "/api/conversations", json!({ "type": "direct", "members": [bo.id] }))
        .await
        .expect(201);
    let news = socket.event("conversation_update").await;
    assert_eq!(news["conversation"]["members"].as_array().map(Vec::len), Some(2), "{news}");
    let path = format!("/api/events?cursor={}", cursor.as_str().unwrap());
    let polled = bo.get(&server, &path).await.expect(200);
    assert_eq!(polled.body["events"][0]["conversation"]["members"], news["conversation"]["members"]);
}

#[tokio::test]
async fn problems_are_counted_by_code_on_sockets_and_by_rest() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let nowhere = "01a2102b-502a-7b77-b541-3fbd9a3339e0";
    ana.get(&server, &format!("/api/conversations/{nowhere}")).await.expect_problem(404, "not_found");
    let (mut socket, _) = server.connect(&ana).await;
    socket.say(json!({ "type": "typing", "convoId": nowhere, "active": true })).await;
    socket.event("error").await;
    let metrics = ana.get(&server, "/metrics").await.expect(200).text;
    assert!(metrics.contains(r#"tertulia_problems_total{code="not_found"} 2"#), "{metrics}");
}
