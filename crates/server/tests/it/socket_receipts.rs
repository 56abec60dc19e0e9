//! Watermarks over the socket: who sees which.

use serde_json::{Value, json};

use crate::harness::{Server, Socket, User};

fn mark(convo: &str, delivered: Option<u64>, read: Option<u64>) -> Value {
    let mut event = json!({ "type": "mark", "convoId": convo });
    for (name, seq) in [("deliveredSeq", delivered), ("readSeq", read)] {
        if let Some(seq) = seq {
            event[name] = json!(seq);
        }
    }
    event
}

/// The next event is a receipt: (deliveredSeq, readSeq).
async fn receipt(socket: &mut Socket, convo: &str, of: &User) -> (u64, Option<u64>) {
    let receipt = socket.event("receipt").await;
    assert_eq!((&receipt["convoId"], &receipt["userId"]), (&json!(convo), &json!(of.id)));
    assert!(receipt["ts"].is_string());
    (receipt["deliveredSeq"].as_u64().unwrap(), receipt.get("readSeq").and_then(Value::as_u64))
}

async fn hide(server: &Server, user: &User) {
    let privacy = json!({ "privacy": { "readReceipts": "nobody" } });
    user.patch(server, "/api/users/me", privacy).await.expect(200);
}

#[tokio::test]
async fn a_mark_is_told_to_the_others_and_to_ones_own_devices() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let phone = server.another_device("bo1").await;
    let group = server.group(&ana, &[&bo]).await;
    for number in 1..=3 {
        ana.send(&server, &group, number, "x").await;
    }
    let (mut from, _) = server.connect(&bo).await;
    let ((mut own, _), (mut other, _)) = (server.connect(&phone).await, server.connect(&ana).await);
    from.say(mark(&group, Some(4), None)).await;
    from.say(mark(&group, None, Some(2))).await;
    for socket in [&mut own, &mut other] {
        assert_eq!(receipt(socket, &group, &bo).await, (4, Some(1)));
        assert_eq!(receipt(socket, &group, &bo).await, (4, Some(2)));
    }
    let path = format!("/api/conversations/{group}/receipts");
    bo.put(&server, &path, Some(json!({ "readSeq": 3 }))).await.expect(204);
    for socket in [&mut own, &mut other] {
        assert_eq!(receipt(socket, &group, &bo).await, (4, Some(3)), "over REST, too");
    }
}

#[tokio::test]
async fn a_lower_mark_has_no_effect_and_reading_carries_delivery_along() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    for number in 1..=3 {
        ana.send(&server, &group, number, "x").await;
    }
    let ((mut from, _), (mut other, _)) = (server.connect(&bo).await, server.connect(&ana).await);
    from.say(mark(&group, None, Some(3))).await;
    assert_eq!(receipt(&mut other, &group, &bo).await, (3, Some(3)));
    from.say(mark(&group, Some(2), Some(2))).await;
    from.say(mark(&group, Some(4), None)).await;
    assert_eq!(receipt(&mut other, &group, &bo).await, (4, Some(3)));
    assert!(from.so_far().await.iter().all(|event| event["type"] == "receipt"), "no error");
}

#[tokio::test]
async fn who_hides_his_read_receipts_shows_none_and_sees_none_but_his_own() {
    let server = Server::start().await;
    let (ana, bo, cai) = (server.user("ana").await, server.user("bo1").await, server.user("cai").await);
    let phone = server.another_device("bo1").await;
    let group = server.group(&ana, &[&bo, &cai]).await;
    ana.send(&server, &group, 1, "x").await;
    let mut sockets = Vec::new();
    for device in [&ana, &bo, &phone, &cai] {
        sockets.push(server.connect(device).await.0);
    }
    let [to_ana, to_bo, to_phone, to_cai] = &mut sockets[..] else { unreachable!() };
    hide(&server, &bo).await;
    to_bo.say(mark(&group, None, Some(2))).await;
    assert_eq!(receipt(to_ana, &group, &bo).await, (2, None));
    assert_eq!(receipt(to_cai, &group, &bo).await, (2, None));
    assert_eq!(receipt(to_phone, &group, &bo).await, (2, Some(2)), "one's own devices see all");
    assert_eq!(receipt(to_bo, &group, &bo).await, (2, Some(2)));
    to_cai.say(mark(&group, None, Some(2))).await;
    assert_eq!(receipt(to_ana, &group, &cai).await, (2, Some(2)));
    assert_eq!(receipt(to_bo, &group, &cai).await, (2, None));
    assert_eq!(receipt(to_phone, &group, &cai).await, (2, None));
}

#[tokio::test]
async fn hidden_read_receipts_stay_hidden_in_a_resume() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    ana.send(&server, &group, 1, "x").await;
    let (socket, ready) = server.connect(&ana).await;
    drop(socket);
    let (_, of_bo) = server.connect(&bo).await;
    hide(&server, &bo).await;
    let path = format!("/api/conversations/{group}/receipts");
    bo.put(&server, &path, Some(json!({ "readSeq": 2 }))).await.expect(204);
    let (mut socket, _) = server.resume(&ready["resumeToken"], &ready["position"]).await;
    assert_eq!(receipt(&mut socket, &group, &bo).await, (2, None));
    let (mut own, _) = server.resume(&of_bo["resumeToken"], &of_bo["position"]).await;
    assert_eq!(receipt(&mut own, &group, &bo).await, (2, Some(2)));
}

#[tokio::test]
async fn a_mark_that_cannot_be_is_refused_and_names_its_conversation() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[]).await;
    let (mut socket, _) = server.connect(&ana).await;
    let (mut stranger, _) = server.connect(&bo).await;
    for (event, code) in [
        (mark(&group, None, Some(2)), "invalid"),
        (mark(&group, Some(2), None), "invalid"),
        (mark(&group, None, None), "invalid"),
        (mark("019a0000-0000-7000-8000-000000000000", None, Some(1)), "not_found"),
    ] {
        socket.say(event.clone()).await;
        let error = socket.event("error").await;
        assert_eq!((&error["code"], &error["convoId"]), (&json!(code), &event["convoId"]));
        assert_eq!(error.get("clientSeq"), None);
    }
    stranger.say(mark(&group, None, Some(1))).await;
    assert_eq!(stranger.event("error").await["code"], "not_found");
}
