//! How a socket begins: who may, what it is told, and what ends it before it has begun.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tertulia_server::gateway::joining::ARRIVALS_MAX;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Server, User};
use crate::wire::{self, Wire};

/// Whoever comes in has a turn only while he is worked for: more than there are turns wait in each state.
#[tokio::test]
async fn those_who_say_nothing_keep_nobody_from_coming_in() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let mut kept = Vec::new();
    let mut silent = Vec::new();
    for _ in 0..ARRIVALS_MAX + 4 {
        kept.push(TcpStream::connect(server.address).await.unwrap());
        let mut half = TcpStream::connect(server.address).await.unwrap();
        half.write_all(&wire::handshake(&server, "").as_bytes()[..40]).await.unwrap();
        kept.push(half);
        silent.push(server.socket().await);
    }
    let (_, ready) = server.connect(&ana).await;
    assert_eq!(ready["resumed"], false);
}

#[tokio::test]
async fn ready_says_who_one_is_where_one_begins_and_how_to_come_back() {
    let server = Server::start_with(|config| config.heartbeat = Duration::from_secs(7)).await;
    let ana = server.user("ana").await;
    let (mut socket, ready) = server.connect(&ana).await;
    assert_eq!((&ready["userId"], &ready["deviceId"]), (&json!(ana.id), &json!(ana.device)));
    assert_eq!((&ready["heartbeatSeconds"], &ready["resumed"]), (&json!(7), &json!(false)));
    assert!(ready["resumeToken"].is_string() && ready["position"].is_string());
    assert_eq!(socket.so_far().await, Vec::<serde_json::Value>::new());

    let (_, again) = server.resume(&ready["resumeToken"], &ready["position"]).await;
    assert_eq!((&again["userId"], &again["deviceId"]), (&json!(ana.id), &json!(ana.device)));
    assert_eq!((&again["resumed"], &again["position"]), (&json!(true), &ready["position"]));
}

#[tokio::test]
async fn the_heartbeat_is_25_seconds_unless_configured() {
    let server = Server::start().await;
    let (_socket, ready) = server.connect(&server.user("ana").await).await;
    assert_eq!(ready["heartbeatSeconds"], 25);
}

#[tokio::test]
async fn a_first_frame_that_is_neither_connect_nor_resume_closes_with_4003() {
    let server = Server::start().await;
    let convo = "019a0000-0000-7000-8000-000000000000";
    for first in [
        json!({ "type": "ping" }).to_string(),
        json!({ "type": "send_message", "convoId": convo, "clientSeq": 1, "body": "x" }).to_string(),
        json!({ "type": "no_such_event" }).to_string(),
        json!({ "type": "connect" }).to_string(),
        "no JSON".to_owned(),
        String::new(),
    ] {
        let mut socket = server.socket().await;
        socket.raw(Message::text(first.clone())).await;
        assert_eq!(socket.closed().await.0, 4003, "{first}");
    }
}

#[tokio::test]
async fn a_second_connect_or_resume_closes_with_4003() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let (mut socket, ready) = server.connect(&ana).await;
    socket.say(json!({ "type": "connect", "token": ana.token })).await;
    assert_eq!(socket.closed().await.0, 4003);
    let (mut socket, _) = server.connect(&ana).await;
    let resume =
        json!({ "type": "resume", "resumeToken": ready["resumeToken"], "position": ready["position"] });
    socket.say(resume).await;
    assert_eq!(socket.closed().await.0, 4003);
}

#[tokio::test]
async fn who_does_not_say_in_time_who_he_is_is_closed_with_4001() {
    let server = Server::start_with(|config| config.handshake = Duration::from_millis(300)).await;
    let mut silent = server.socket().await;
    let mut pinging = server.socket().await;
    pinging.raw(Message::Ping(b"still here".as_slice().into())).await;
    assert_eq!(pinging.frame().await, Message::Pong(b"still here".as_slice().into()));
    assert_eq!((silent.closed().await.0, pinging.closed().await.0), (4001, 4001));
}

#[tokio::test]
async fn a_token_that_was_not_given_out_or_has_ended_closes_with_4001() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let (_socket, ready) = server.connect(&ana).await;
    let (resume, position) = (&ready["resumeToken"], &ready["position"]);
    let elsewhere = Server::start().await;
    let stranger = elsewhere.user("ana").await;
    for first in [
        json!({ "type": "connect", "token": "" }),
        json!({ "type": "connect", "token": "nonsense" }),
        json!({ "type": "connect", "token": stranger.token }),
        json!({ "type": "connect", "token": ana.refresh_token }),
        json!({ "type": "connect", "token": resume }),
        json!({ "type": "resume", "resumeToken": "nonsense", "position": position }),
        json!({ "type": "resume", "resumeToken": ana.token, "position": position }),
    ] {
        let mut socket = server.socket().await;
        socket.say(first.clone()).await;
        assert_eq!(socket.closed().await.0, 4001, "{first}");
    }
    ana.delete(&server, "/api/sessions/current").await.expect(204);
    for first in [
        json!({ "type": "connect", "token": ana.token }),
        json!({ "type": "resume", "resumeToken": resume, "position": position }),
    ] {
        let mut socket = server.socket().await;
        socket.say(first.clone()).await;
        assert_eq!(socket.closed().await.0, 4001, "after the logout: {first}");
    }
}

#[tokio::test]
async fn fields_that_nobody_knows_are_ignored() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let mut socket = server.socket().await;
    socket
        .say(json!({ "type": "connect", "token": ana.token, "mood": "good", "nested": { "a": [1] } }))
        .await;
    socket.event("ready").await;
    socket.say(json!({ "type": "ping", "mood": "better" })).await;
    socket.event("pong").await;
}

#[tokio::test]
async fn a_handshake_may_be_slow_and_frames_may_come_right_behind_it() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let connect = json!({ "type": "connect", "token": ana.token }).to_string();
    let mut bytes = wire::handshake(&server, "").into_bytes();
    bytes.extend(wire::frame(wire::TEXT, connect.as_bytes()));
    bytes.extend(wire::frame(wire::TEXT, br#"{"type":"ping"}"#));
    // In pieces of 7 bytes, then all at once.
    for piece in [7, bytes.len()] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for bytes in bytes.chunks(piece) {
            stream.write_all(bytes).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(wire::status(&mut stream).await, 101);
        let mut socket = Wire { stream };
        assert_eq!(socket.event().await["type"], "ready");
        assert_eq!(socket.event().await["type"], "pong");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused_and_ones_own_and_listed_ones_are_not() {
    let server =
        Server::start_with(|config| config.allowed_origins = vec!["https://chat.example".into()]).await;
    let own = format!("http://{}", server.address);
    for (origin, expected) in [
        ("https://evil.example", 403),
        ("null", 403),
        ("https://chat.example.evil.example", 403),
        ("https://chat.example", 101),
        (own.as_str(), 101),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = wire::handshake(&server, &format!("Origin: {origin}\r\n"));
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(wire::status(&mut stream).await, expected, "{origin}");
    }
}

#[tokio::test]
async fn what_is_no_websocket_handshake_is_told_so() {
    let server = Server::start().await;
    let answer = server.call(Method::GET, "/api/ws", None, None).await.expect(426);
    assert_eq!(answer.headers["upgrade"], "websocket");
    for (line, other, expected) in [
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 12", 426),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key: short", 400),
        ("Upgrade: websocket", "Upgrade: h2c", 426),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = wire::handshake(&server, "").replace(line, other);
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(wire::status(&mut stream).await, expected, "{other}");
    }
}

#[tokio::test]
async fn one_user_may_have_many_devices_and_one_device_many_sockets() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let phone = server.another_device("ana").await;
    assert_ne!(ana.device, phone.device);
    let mut sockets = Vec::new();
    for device in [&ana, &ana, &phone] {
        let (socket, ready) = server.connect(device).await;
        assert_eq!((&ready["userId"], &ready["deviceId"]), (&json!(ana.id), &json!(device.device)));
        sockets.push(socket);
    }
    let group = server.group(&ana, &[]).await;
    for socket in &mut sockets {
        assert_eq!(socket.event("conversation_update").await["conversation"]["id"], json!(group));
        assert_eq!(socket.event("message").await["seq"], 1);
    }
}

#[tokio::test]
async fn refreshed_access_tokens_connect_too() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let refresh = json!({ "refreshToken": ana.refresh_token });
    let answer = server.call(Method::POST, "/api/sessions/refresh", None, Some(refresh)).await.expect(200);
    let refreshed = User::of(&answer);
    assert_eq!(refreshed.device, ana.device);
    server.connect(&refreshed).await;
}

#[tokio::test]
async fn who_has_not_said_who_he_is_and_reads_no_answers_is_not_heard_any_further() {
    let server = Server::start().await;
    let mut flood = Wire::open(&server).await;
    let pings = wire::frame(wire::PING, b"").repeat(5_000);
    let (mut written, begun) = (0_usize, std::time::Instant::now());
    // Until nothing more is taken for a while.
    loop {
        let writing = flood.stream.write(&pings[written % pings.len()..]);
        let Ok(count) = tokio::time::timeout(Duration::from_secs(1), writing).await else { break };
        written += count.unwrap();
        assert!(written < 32 << 20, "{} MiB were taken", written >> 20);
    }
    assert_eq!(flood.frame().await.0, wire::PONG);
    assert!(begun.elapsed() < Duration::from_secs(8), "only the deadline ended it");
}
