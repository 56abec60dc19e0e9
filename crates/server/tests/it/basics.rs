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
