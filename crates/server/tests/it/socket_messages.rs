//! Messages over the socket: who gets the ack, who the entry, in which order, and what is refused.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::asking::path;
use crate::harness::{Server, Socket};
use crate::wire::{self, TEXT, Wire};

fn message(convo: &str, client_seq: u64, body: &str) -> Value {
    json!({ "type": "send_message", "convoId": convo, "clientSeq": client_seq, "body": body })
}

/// Sends and waits for the ack, which is the next event: the seq.
async fn sent(socket: &mut Socket, convo: &str, client_seq: u64, body: &str) -> u64 {
    socket.say(message(convo, client_seq, body)).await;
    let ack = socket.event("message_ack").await;
    assert_eq!((&ack["convoId"], &ack["clientSeq"]), (&json!(convo), &json!(client_seq)));
    assert!(ack["ts"].is_string());
    ack["serverSeq"].as_u64().unwrap()
}

#[tokio::test]
async fn the_ack_goes_to_the_connection_that_sent_and_the_entry_to_every_other() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let phone = server.another_device("ana").await;
    let group = server.group(&ana, &[&bo]).await;
    let (mut from, _) = server.connect(&ana).await;
    let mut others = Vec::new();
    for device in [&ana, &phone, &bo, &bo] {
        others.push(server.connect(device).await.0);
    }
    assert_eq!(sent(&mut from, &group, 7, "hola").await, 2);
    for socket in &mut others {
        let entry = socket.event("message").await;
        assert_eq!((&entry["convoId"], &entry["seq"]), (&json!(group), &json!(2)));
        assert_eq!((&entry["senderId"], &entry["clientSeq"]), (&json!(ana.id), &json!(7)));
        assert_eq!((&entry["kind"], &entry["body"]), (&json!("text"), &json!("hola")));
        assert!(entry["ts"].is_string() && entry["position"].is_string());
        assert!(socket.so_far().await.is_empty(), "once, and no ack");
    }
    assert!(from.so_far().await.is_empty(), "the ack stands for it");
}

#[tokio::test]
async fn what_is_sent_over_rest_goes_to_every_socket() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let ((mut own, _), (mut other, _)) = (server.connect(&ana).await, server.connect(&bo).await);
    ana.send(&server, &group, 1, "hola").await;
    for socket in [&mut own, &mut other] {
        assert_eq!(socket.event("message").await["body"], "hola");
    }
}

#[tokio::test]
async fn every_reader_sees_one_order_without_holes_however_many_send_at_once() {
    const EACH: u64 = 40;
    let server = Server::start().await;
    let (ana, bo, cai) = (server.user("ana").await, server.user("bo1").await, server.user("cai").await);
    let group = server.group(&ana, &[&bo, &cai]).await;
    let mut reader = server.connect(&ana).await.0;
    let mut senders = Vec::new();
    for user in [&ana, &bo, &cai] {
        senders.push(server.connect(user).await.0);
    }
    let group = &group;
    let sending = senders.iter_mut().map(|socket| async move {
        for number in 1..=EACH {
            socket.say(message(group, number, &number.to_string())).await;
        }
        // All that comes here: the acks of its own, in the order in which it sent, and the others' messages.
        let (mut acked, mut came, mut last) = (Vec::new(), BTreeSet::new(), 1);
        while came.len() < 3 * EACH as usize {
            let event = socket.next().await;
            let seq = event.get("serverSeq").or(event.get("seq")).and_then(Value::as_u64).unwrap();
            assert!(came.insert(seq), "{seq} twice");
            if event["type"] == "message_ack" {
                acked.push((event["clientSeq"].as_u64().unwrap(), seq));
            } else {
                assert!(seq > last, "{seq} after {last}");
                last = seq;
            }
        }
        assert_eq!(came, (2..3 * EACH + 2).collect());
        assert_eq!(
            acked.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
            (1..=EACH).collect::<Vec<_>>()
        );
        assert!(acked.is_sorted_by_key(|(_, seq)| *seq), "a device's sends keep their order: {acked:?}");
    });
    futures_util::future::join_all(sending).await;
    for seq in 2..3 * EACH + 2 {
        assert_eq!(reader.event("message").await["seq"], seq);
    }
    assert!(reader.so_far().await.is_empty());
}

#[tokio::test]
async fn a_retry_is_acked_with_the_same_seq_and_nobody_gets_it_twice() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let ((mut from, _), (mut to, _)) = (server.connect(&ana).await, server.connect(&bo).await);
    assert_eq!(sent(&mut from, &group, 5, "once").await, 2);
    assert_eq!(sent(&mut from, &group, 5, "once").await, 2);
    let (mut again, _) = server.connect(&ana).await;
    assert_eq!(sent(&mut again, &group, 5, "once").await, 2, "on another connection");
    let body = json!({ "clientSeq": 5, "body": "once" });
    let rest = ana.post(&server, &path(&group, "/messages"), body).await.expect(200);
    assert_eq!(rest.body["message"]["seq"], 2, "over REST");
    assert_eq!(to.event("message").await["seq"], 2);
    assert!(to.so_far().await.is_empty());
    // Numbers go in any order, and belong to a device in a conversation.
    assert_eq!(sent(&mut again, &group, 3, "a lower number").await, 3);
    let phone = server.another_device("ana").await;
    assert_eq!(sent(&mut server.connect(&phone).await.0, &group, 5, "once").await, 4);
    let other = server.group(&ana, &[]).await;
    let (mut from, _) = server.connect(&ana).await;
    assert_eq!(sent(&mut from, &other, 5, "once").await, 2);
}

#[tokio::test]
async fn many_sends_of_the_same_number_at_once_are_one_message() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let group = server.group(&ana, &[]).await;
    let mut sockets = Vec::new();
    for _ in 0..8 {
        sockets.push(server.connect(&ana).await.0);
    }
    for socket in &mut sockets {
        for _ in 0..5 {
            socket.say(message(&group, 1, "once")).await;
        }
    }
    for socket in &mut sockets {
        let mut acks = 0;
        while acks < 5 {
            let event = socket.next().await;
            match event["type"].as_str() {
                Some("message_ack") => {
                    assert_eq!(event["serverSeq"], 2);
                    acks += 1;
                }
                Some("message") => assert_eq!(event["seq"], 2),
                _ => panic!("{event}"),
            }
        }
    }
    assert_eq!(ana.convo(&server, &group).await["lastSeq"], 2);
}

#[tokio::test]
async fn each_refusal_has_the_code_of_rest_and_names_the_conversation_and_the_number() {
    let server = Server::start().await;
    let (ana, bo, cai) = (server.user("ana").await, server.user("bo1").await, server.user("cai").await);
    let group = server.group(&ana, &[&bo]).await;
    let announcements = server.group(&ana, &[&bo]).await;
    ana.patch(&server, &path(&announcements, ""), json!({ "posting": "admins" })).await.expect(200);
    let strangers = server.group(&ana, &[]).await;
    let direct = bo.direct(&server, &cai).await;
    cai.put(&server, &format!("/api/users/{}/block", bo.id), None).await.expect(204);
    let nowhere = "019a0000-0000-7000-8000-000000000000";
    let (mut socket, _) = server.connect(&bo).await;
    assert_eq!(sent(&mut socket, &group, 1, "first").await, 2);
    let with = |convo: &str, number: u64, more: Value| {
        let mut event = message(convo, number, "x");
        for (name, value) in more.as_object().unwrap() {
            event[name] = value.clone();
        }
        event
    };
    let cases = [
        (with(&group, 2, json!({ "body": "" })), "invalid"),
        (with(&group, 3, json!({ "body": " \n\u{3000}" })), "invalid"),
        (with(&group, 4, json!({ "body": "a\u{0}b" })), "invalid"),
        (with(&group, 5, json!({ "body": "x".repeat(65_537) })), "too_large"),
        (with(&group, 6, json!({ "replyTo": 99 })), "invalid"),
        (with(&group, 0, json!({})), "invalid"),
        (with(&group, 1 << 53, json!({})), "invalid"),
        (with(&group, 1, json!({ "body": "another" })), "conflict"),
        (with(&announcements, 7, json!({})), "forbidden"),
        (with(&direct, 8, json!({})), "forbidden"),
        (with(&strangers, 9, json!({})), "not_found"),
        (with(nowhere, 9, json!({})), "not_found"),
    ];
    let mut details = Vec::new();
    for (event, code) in cases {
        socket.say(event.clone()).await;
        let error = socket.event("error").await;
        assert_eq!(error["code"], code, "{error}");
        assert_eq!(
            (&error["convoId"], &error["clientSeq"]),
            (&event["convoId"], &event["clientSeq"]),
            "{error}"
        );
        details.push(error["detail"].clone());
        // The same over REST.
        let mut body = event.clone();
        let convo = body["convoId"].take();
        let answer = bo.post(&server, &path(convo.as_str().unwrap(), "/messages"), body).await;
        assert_eq!(answer.body["code"], code, "{}", answer.text);
        assert_eq!(answer.body["detail"], error["detail"]);
    }
    assert_eq!(details[10], details[11], "whether it exists is not told");
    // A refused number is not used up.
    assert_eq!(sent(&mut socket, &group, 2, "second").await, 3);
}

#[tokio::test]
async fn bodies_arrive_byte_for_byte() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let ((mut from, _), (mut to, _)) = (server.connect(&ana).await, server.connect(&bo).await);
    let longest = "\"x".repeat(32_768);
    let bodies = [
        "  spaces kept  ",
        "e\u{301} is not \u{e9}",
        "\u{1}\u{1f}\u{7f}",
        "\r\n\t\\\"/",
        "👩‍👩‍👧‍👦 \u{202e} \u{feff}",
        &longest,
    ];
    for (number, body) in (1..).zip(bodies) {
        sent(&mut from, &group, number, body).await;
        assert_eq!(to.event("message").await["body"], body);
    }
}

#[tokio::test]
async fn a_reply_names_what_it_answers() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let ((mut from, _), (mut to, _)) = (server.connect(&ana).await, server.connect(&bo).await);
    let first = sent(&mut from, &group, 1, "a question").await;
    let mut reply = message(&group, 2, "an answer");
    reply["replyTo"] = json!(first);
    from.say(reply).await;
    from.event("message_ack").await;
    assert_eq!(to.event("message").await.get("replyTo"), None);
    assert_eq!(to.event("message").await["replyTo"], first);
}

#[tokio::test]
async fn many_conversations_share_one_socket_and_each_keeps_its_order() {
    const CONVOS: usize = 40;
    const EACH: u64 = 10;
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let mut convos = Vec::new();
    for _ in 0..CONVOS {
        convos.push(server.group(&ana, &[&bo]).await);
    }
    let ((mut from, _), (mut to, _)) = (server.connect(&ana).await, server.connect(&bo).await);
    for number in 1..=EACH {
        for convo in &convos {
            from.say(message(convo, number, "x")).await;
        }
    }
    let mut next = vec![2; CONVOS];
    for _ in 0..CONVOS as u64 * EACH {
        let entry = to.event("message").await;
        let at = convos.iter().position(|convo| entry["convoId"] == convo.as_str()).unwrap();
        assert_eq!(entry["seq"], next[at]);
        next[at] += 1;
    }
    assert_eq!(next, vec![2 + EACH; CONVOS]);
    for _ in 0..CONVOS as u64 * EACH {
        from.event("message_ack").await;
    }
}

#[tokio::test]
async fn whoever_was_acked_reads_his_own_write_everywhere() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let phone = server.another_device("ana").await;
    let group = server.group(&ana, &[]).await;
    let (mut socket, _) = server.connect(&ana).await;
    for number in 1..=20 {
        let seq = sent(&mut socket, &group, number, "mine").await;
        let convo = phone.convo(&server, &group).await;
        assert_eq!((&convo["lastSeq"], &convo["lastMessage"]["seq"]), (&json!(seq), &json!(seq)));
        assert_eq!(
            (&convo["readSeq"], &convo["deliveredSeq"]),
            (&json!(seq), &json!(seq)),
            "sending moves both"
        );
        let page = phone.history(&server, &group, &format!("after={}", seq - 1)).await;
        assert_eq!(page["items"][0]["clientSeq"], number);
    }
}

#[tokio::test]
async fn what_comes_in_one_piece_is_stored_in_its_order_up_to_the_frame_that_closes() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let mut wire = Wire::connect(&server, &ana.token).await;
    let frame = |event: Value| wire::frame(TEXT, event.to_string().as_bytes());
    let send = |number: u64| frame(message(&group, number, &number.to_string()));
    // More than are dealt with at once, with others between them, and one that must not come again.
    let mut piece = Vec::new();
    for number in 1..=150 {
        piece.extend(send(number));
        if number % 50 == 0 {
            piece.extend(frame(json!({ "type": "ping" })));
        }
    }
    piece.extend(frame(json!({ "type": "connect", "token": ana.token })));
    piece.extend(send(151));
    wire.write(&piece).await;
    assert_eq!(wire.closed().await, 4003);
    let path = path(&group, "/messages?limit=200");
    let bodies = || async {
        let page = bo.get(&server, &path).await.expect(200).body;
        let entries = page["items"].as_array().unwrap().clone();
        entries.iter().filter_map(|entry| entry["body"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let all: Vec<_> = (1..=150).map(|number: u64| number.to_string()).collect();
    // The socket ends before what it said is stored.
    let stored = async {
        while bodies().await.len() < all.len() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), stored).await.unwrap();
    assert_eq!(bodies().await, all);
}
