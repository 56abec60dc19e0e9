//! How a socket ends: each close code, and what does not end it.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{DEADLINE, Server, User};
use crate::wire::{self, BINARY, PING, PONG, TEXT, Wire};

/// The contract gives the server this long to close the sockets of a revoked device.
const REVOKED_WITHIN: Duration = Duration::from_secs(1);

async fn with_heartbeat(seconds: u64) -> Server {
    Server::start_with(|config| config.heartbeat = Duration::from_secs(seconds)).await
}

#[tokio::test]
async fn a_binary_frame_closes_with_4003_before_and_after_ready() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    for mut socket in [server.socket().await, server.connect(&ana).await.0] {
        socket.raw(Message::binary(b"{}".as_slice())).await;
        assert_eq!(socket.closed().await.0, 4003);
    }
}

#[tokio::test]
async fn a_frame_of_128_kib_is_heard_and_one_byte_more_closes_with_1009() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let padded = |len: usize| {
        let bare = json!({ "type": "ping", "pad": "" }).to_string();
        json!({ "type": "ping", "pad": "x".repeat(len - bare.len()) }).to_string()
    };
    let (mut socket, _) = server.connect(&ana).await;
    socket.raw(Message::text(padded(131_072))).await;
    socket.event("pong").await;
    socket.raw(Message::text(padded(131_073))).await;
    assert_eq!(socket.closed().await.0, 1009);

    let mut fragments = Wire::connect(&server, &ana.token).await;
    let half = vec![b' '; 70_000];
    fragments.write(&wire::frame(0x01, &half)).await;
    fragments.write(&wire::frame(0x80, &half)).await;
    assert_eq!(fragments.closed().await, 1009, "fragments count together");
}

#[tokio::test]
async fn who_breaks_the_rules_of_websocket_is_closed_with_1002() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let mut unmasked = vec![TEXT, 2];
    unmasked.extend(b"{}");
    let long_ping = wire::frame(PING, &[0; 126]);
    let inside = [wire::frame(0x01, b"{"), wire::frame(TEXT, b"{}")].concat();
    for (what, bytes) in [
        ("a frame without a mask", unmasked),
        ("a reserved bit", wire::frame(0xc1, b"{}")),
        ("an unknown opcode", wire::frame(0x83, b"")),
        ("a ping in fragments", wire::frame(0x09, b"")),
        ("a ping of 126 bytes", long_ping),
        ("a continuation of nothing", wire::frame(0x80, b"")),
        ("a message inside of a message", inside),
        ("a close of one byte", wire::frame(wire::CLOSE, &[3])),
        ("a close with a code that may not be sent", wire::frame(wire::CLOSE, &1005_u16.to_be_bytes())),
    ] {
        let mut socket = Wire::connect(&server, &ana.token).await;
        socket.write(&bytes).await;
        assert_eq!(socket.closed().await, 1002, "{what}");
    }
}

#[tokio::test]
async fn text_that_is_not_utf8_closes_with_1007() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let mut socket = Wire::connect(&server, &ana.token).await;
    socket.write(&wire::frame(TEXT, b"{\"type\":\"ping\",\"pad\":\"\xff\"}")).await;
    assert_eq!(socket.closed().await, 1007);
}

#[tokio::test]
async fn a_close_is_answered_with_its_own_code() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    for code in [1000, 1001, 4123] {
        let (socket, _) = server.connect(&ana).await;
        assert_eq!(socket.close(code).await, code);
    }
}

#[tokio::test]
async fn what_cannot_be_understood_is_told_and_the_socket_stays() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let group = server.group(&ana, &[]).await;
    let (mut socket, _) = server.connect(&ana).await;
    for (frame, convo, client_seq) in [
        ("no JSON".to_owned(), None, None),
        ("[]".to_owned(), None, None),
        (json!({}).to_string(), None, None),
        (json!({ "type": "no_such_event" }).to_string(), None, None),
        (
            json!({ "type": "no_such_event", "convoId": group, "clientSeq": 7 }).to_string(),
            Some(&group),
            Some(7),
        ),
        (
            json!({ "type": "send_message", "convoId": group, "clientSeq": 8 }).to_string(),
            Some(&group),
            Some(8),
        ),
        (
            json!({ "type": "send_message", "convoId": group, "clientSeq": 9, "body": 1 }).to_string(),
            Some(&group),
            Some(9),
        ),
        (json!({ "type": "send_message", "convoId": group, "body": "x" }).to_string(), Some(&group), None),
        (
            json!({ "type": "send_message", "convoId": "nowhere", "clientSeq": 4, "body": "x" }).to_string(),
            None,
            Some(4),
        ),
        (json!({ "type": "typing", "convoId": group }).to_string(), Some(&group), None),
        (json!({ "type": "mark", "convoId": group, "readSeq": "one" }).to_string(), Some(&group), None),
        (json!({ "type": "presence_set", "status": "asleep" }).to_string(), None, None),
        (json!({ "type": "presence_subscribe", "userIds": ["nobody"] }).to_string(), None, None),
    ] {
        socket.raw(Message::text(frame.clone())).await;
        let error = socket.event("error").await;
        assert_eq!(error["code"], "invalid", "{frame}");
        assert_eq!(error.get("convoId"), convo.map(|convo| json!(convo)).as_ref(), "{frame}");
        assert_eq!(error.get("clientSeq"), client_seq.map(|number| json!(number)).as_ref(), "{frame}");
    }
    socket.say(json!({ "type": "ping" })).await;
    socket.event("pong").await;
}

#[tokio::test]
async fn one_message_may_come_in_fragments_of_one_byte_with_pings_between() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let group = server.group(&ana, &[]).await;
    let mut socket = Wire::connect(&server, &ana.token).await;
    let text =
        json!({ "type": "send_message", "convoId": group, "clientSeq": 1, "body": "café ☕" }).to_string();
    let (bytes, last) = (text.as_bytes(), text.len() - 1);
    for (at, byte) in bytes.iter().enumerate() {
        let first = if at == 0 { 0x01 } else { 0x00 } | if at == last { 0x80 } else { 0 };
        socket.write(&wire::frame(first, &[*byte])).await;
        if at == last / 2 {
            socket.write(&wire::frame(PING, b"between")).await;
        }
    }
    assert_eq!(socket.frame().await, (PONG, b"between".to_vec()));
    let ack = socket.event().await;
    assert_eq!((&ack["type"], &ack["serverSeq"]), (&json!("message_ack"), &json!(2)));
    let page = ana.get(&server, &format!("/api/conversations/{group}/messages?after=1")).await.expect(200);
    assert_eq!(page.body["items"][0]["body"], "café ☕");
}

#[tokio::test]
async fn a_logout_closes_all_sockets_of_its_device_with_4002_and_no_others() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let phone = server.another_device("ana").await;
    let (mut one, _) = server.connect(&ana).await;
    let (mut two, _) = server.connect(&ana).await;
    let (mut others, _) = server.connect(&phone).await;
    let (mut foreign, _) = server.connect(&bo).await;
    ana.delete(&server, "/api/sessions/current").await.expect(204);
    for socket in [&mut one, &mut two] {
        assert_eq!(timeout(REVOKED_WITHIN, socket.closed()).await.expect("within 1 s").0, 4002);
    }
    assert!(others.so_far().await.is_empty() && foreign.so_far().await.is_empty());
}

#[tokio::test]
async fn revoking_another_device_closes_its_sockets_with_4002() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let phone = server.another_device("ana").await;
    let (mut own, _) = server.connect(&ana).await;
    let (mut revoked, _) = server.connect(&phone).await;
    ana.delete(&server, &format!("/api/sessions/{}", phone.device)).await.expect(204);
    assert_eq!(timeout(REVOKED_WITHIN, revoked.closed()).await.expect("within 1 s").0, 4002);
    assert!(own.so_far().await.is_empty());
}

#[tokio::test]
async fn a_refresh_token_that_is_used_again_closes_its_device_with_4002() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let refresh = || {
        let body = json!({ "refreshToken": ana.refresh_token });
        server.call(Method::POST, "/api/sessions/refresh", None, Some(body))
    };
    let (mut socket, ready) = server.connect(&ana).await;
    let refreshed = User::of(&refresh().await.expect(200));
    socket.say(json!({ "type": "ping" })).await;
    socket.event("pong").await;
    refresh().await.expect_problem(401, "unauthenticated");
    assert_eq!(timeout(REVOKED_WITHIN, socket.closed()).await.expect("within 1 s").0, 4002);
    for first in [
        json!({ "type": "connect", "token": refreshed.token }),
        json!({ "type": "resume", "resumeToken": ready["resumeToken"], "position": ready["position"] }),
    ] {
        let mut socket = server.socket().await;
        socket.say(first).await;
        assert_eq!(socket.closed().await.0, 4001);
    }
}

#[tokio::test]
async fn a_silent_client_is_pinged_and_after_two_heartbeats_closed_with_4009() {
    let server = with_heartbeat(1).await;
    let ana = server.user("ana").await;
    let mut socket = Wire::connect(&server, &ana.token).await;
    let begun = Instant::now();
    assert_eq!(socket.frame().await.0, PING);
    assert_eq!(socket.closed().await, 4009);
    let lasted = begun.elapsed();
    assert!(lasted >= Duration::from_millis(1_800) && lasted < Duration::from_secs(4), "{lasted:?}");
}

#[tokio::test]
async fn a_pong_alone_is_a_sign_of_life() {
    let server = with_heartbeat(1).await;
    let ana = server.user("ana").await;
    let mut socket = Wire::connect(&server, &ana.token).await;
    // Each is answered late, but before the second one is over.
    for _ in 0..4 {
        assert_eq!(socket.frame().await.0, PING);
        socket.write(&wire::frame(PONG, b"")).await;
    }
    socket.say(&json!({ "type": "ping" })).await;
    assert_eq!(socket.event().await["type"], "pong");
}

#[tokio::test]
async fn any_frame_is_a_sign_of_life() {
    let server = with_heartbeat(1).await;
    let ana = server.user("ana").await;
    let signs = [
        ("an event", wire::frame(TEXT, br#"{"type":"ping"}"#)),
        ("nonsense", wire::frame(TEXT, b"nonsense")),
        ("a ping", wire::frame(PING, b"")),
        ("a pong that nobody asked for", wire::frame(PONG, b"unasked")),
        ("a fragment of a message", wire::frame(0x01, b"")),
    ];
    let all = signs.map(|(what, mut sign)| {
        let (server, token) = (&server, &ana.token);
        async move {
            let mut socket = Wire::connect(server, token).await;
            for _ in 0..6 {
                socket.write(&sign).await;
                if sign[0] == 0x01 {
                    sign[0] = 0x00; // More fragments of the same message.
                }
                tokio::time::sleep(Duration::from_millis(400)).await;
            }
            socket.write(&wire::frame(PING, b"last")).await;
            loop {
                let frame = socket.frame().await;
                assert_ne!(frame.0, wire::CLOSE, "after {what}");
                if frame == (PONG, b"last".to_vec()) {
                    return;
                }
            }
        }
    });
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn a_client_whose_library_answers_pings_stays_for_long() {
    let server = with_heartbeat(1).await;
    let ana = server.user("ana").await;
    let (mut socket, _) = server.connect(&ana).await;
    let mut pings = 0;
    while pings < 4 {
        assert!(matches!(socket.frame().await, Message::Ping(_)));
        pings += 1;
    }
    assert!(socket.so_far().await.is_empty());
}

#[tokio::test]
async fn binary_fragments_close_with_4003_too() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let mut socket = Wire::connect(&server, &ana.token).await;
    socket.write(&wire::frame(BINARY & 0x7f, b"a")).await;
    socket.write(&wire::frame(0x80, b"b")).await;
    assert_eq!(socket.closed().await, 4003);
}

#[tokio::test]
async fn what_was_sent_before_a_close_is_stored_however_much_is_to_be_answered_first() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let group = server.group(&ana, &[]).await;
    let mut socket = Wire::connect(&server, &ana.token).await;
    let send = json!({ "type": "send_message", "convoId": group, "clientSeq": 1, "body": "the last word" });
    let mut bytes = wire::frame(PING, b"").repeat(8_000);
    bytes.extend(wire::frame(TEXT, send.to_string().as_bytes()));
    bytes.extend(wire::frame(wire::CLOSE, &1000_u16.to_be_bytes()));
    socket.write(&bytes).await;
    let stored = async {
        loop {
            let path = format!("/api/conversations/{group}/messages");
            let page = ana.get(&server, &path).await.expect(200).body;
            if page["items"].as_array().unwrap().iter().any(|entry| entry["body"] == "the last word") {
                return;
            }
        }
    };
    timeout(DEADLINE, stored).await.expect("it was read from the socket");
}
