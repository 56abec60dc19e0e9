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

/// The receipts that come before a message that is sent now.
async fn receipts(
    socket: &mut Socket,
    server: &Server,
    sender: &User,
    convo: &str,
    number: u64,
) -> Vec<Value> {
    let seq = sender.send(server, convo, number, "the end").await["seq"].clone();
    let mut receipts = Vec::new();
    loop {
        let event = socket.next().await;
        match event["type"].as_str() {
            Some("receipt") => receipts.push(event),
            Some("message") if event["seq"] == seq => return receipts,
            _ => {}
        }
    }
}

/// The receipts that a cursor has, at once.
async fn polled(server: &Server, user: &User, cursor: &Value) -> Vec<Value> {
    let path = format!("/api/events?cursor={}&wait=0", cursor.as_str().unwrap());
    let page = user.get(server, &path).await.expect(200).body;
    let events = page["events"].as_array().unwrap();
    events.iter().filter(|event| event["type"] == "receipt").cloned().collect()
}

#[tokio::test]
async fn who_hides_when_he_reads_shows_no_event_of_it_neither_live_nor_resumed_nor_polled() {
    let server = Server::start().await;
    let (ana, bo, cai) = (server.user("ana").await, server.user("bo1").await, server.user("cai").await);
    let group = server.group(&ana, &[&bo, &cai]).await;
    // Neither does Ana see when Bo reads, nor he when she does; each sees when something came to the other.
    hide(&server, &bo).await;
    for (round, reads, sees) in [(1, &bo, &ana), (2, &ana, &bo)] {
        let seq = cai.send(&server, &group, 10 * round, "read this").await["seq"].as_u64().unwrap();
        let (mut own, _) = server.connect(reads).await;
        let (mut live, before) = server.connect(sees).await;
        let cursor = async || sees.get(&server, "/api/events").await.expect(200).body["cursor"].clone();
        let cursor_before = cursor().await;
        own.say(mark(&group, Some(seq), None)).await;
        receipt(&mut own, &group, reads).await;
        let delivered = live.event("receipt").await;
        assert_eq!((&delivered["deliveredSeq"], delivered.get("readSeq")), (&json!(seq), None));
        let (_, between) = server.connect(sees).await;
        let cursor_between = cursor().await;

        own.say(mark(&group, None, Some(seq))).await;
        assert_eq!(receipt(&mut own, &group, reads).await, (seq, Some(seq)), "one's own devices see all");
        for (cursor, expected) in [(&cursor_before, vec![delivered.clone()]), (&cursor_between, vec![])] {
            assert_eq!(polled(&server, sees, cursor).await, expected, "polled");
        }
        let of_cai = receipts(&mut live, &server, &cai, &group, 10 * round + 1).await;
        assert_eq!(of_cai, [json!(null); 0], "live");
        for (number, from, expected) in [(2, &before, vec![delivered.clone()]), (3, &between, vec![])] {
            let (mut resumed, _) = server.resume(&from["resumeToken"], &from["position"]).await;
            let mut found = receipts(&mut resumed, &server, &cai, &group, 10 * round + number).await;
            // Those of cai, who has sent something.
            found.retain(|receipt| receipt["userId"] != cai.id.as_str());
            assert_eq!(found, expected, "resumed");
        }
        let path = format!("/api/conversations/{group}/messages/{seq}/receipts");
        let told = sees.get(&server, &path).await.expect(200).body["items"].clone();
        let told = told.as_array().unwrap().iter().find(|told| told["userId"] == reads.id.as_str()).unwrap();
        assert_eq!((&told["deliveredAt"], told.get("seenAt")), (&delivered["ts"], None));
    }
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
