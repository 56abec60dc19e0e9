//! Too much, too fast: told so with a time to wait, and closed only when it goes on and on.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::asking::path;
use crate::harness::{DEADLINE, Server, Socket};
use crate::wire;
use tertulia_server::limits::{LimitsConfig, Period, Rate};

fn rate(count: u32, per: Period, burst: u32) -> Rate {
    Rate { count: NonZeroU32::new(count).unwrap(), per, burst: NonZeroU32::new(burst) }
}

async fn limited(change: impl FnOnce(&mut LimitsConfig)) -> Server {
    let mut limits = LimitsConfig::default();
    change(&mut limits);
    Server::start_with(|config| config.limits = Some(limits)).await
}

fn message(convo: &str, client_seq: u64) -> Value {
    json!({ "type": "send_message", "convoId": convo, "clientSeq": client_seq, "body": "x" })
}

/// Says the same again and again, whether or not anything comes back, until the server closes: the code.
async fn goes_on(socket: &mut Socket, pause: Duration, event: impl Fn(u64) -> Message) -> u16 {
    let mut number = 0;
    let all = async {
        loop {
            if let Ok(frame) = timeout(pause, socket.frame()).await {
                if let Message::Close(close) = frame {
                    return close.unwrap().code.into();
                }
                continue;
            }
            number += 1;
            socket.try_raw(event(number)).await;
        }
    };
    timeout(DEADLINE, all).await.expect("closed in the end")
}

#[tokio::test]
async fn one_send_too_many_is_refused_with_a_time_to_wait_and_the_socket_stays() {
    let server = limited(|limits| limits.sends = rate(1, Period::Second, 3)).await;
    let ana = server.user("ana").await;
    let group = server.group(&ana, &[]).await;
    let (mut socket, _) = server.connect(&ana).await;
    for number in 1..=4 {
        socket.say(message(&group, number)).await;
    }
    let (mut acks, mut refused) = (0, Value::Null);
    while acks < 3 || refused.is_null() {
        let event = socket.next().await;
        match event["type"].as_str() {
            Some("message_ack") => acks += 1,
            _ => refused = event,
        }
    }
    assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("rate_limited")));
    assert_eq!((&refused["convoId"], &refused["clientSeq"]), (&json!(group), &json!(4)));
    let wait = refused["retryAfterMs"].as_u64().unwrap();
    assert!((1..=1_000).contains(&wait), "{wait}");
    tokio::time::sleep(Duration::from_millis(wait + 1)).await;
    socket.say(message(&group, 4)).await;
    assert_eq!(socket.event("message_ack").await["clientSeq"], 4, "the same number, later");
}

#[tokio::test]
async fn sends_are_limited_by_device_on_all_its_sockets_and_over_rest_together() {
    let server = limited(|limits| limits.sends = rate(1, Period::Minute, 1)).await;
    let ana = server.user("ana").await;
    let phone = server.another_device("ana").await;
    let group = server.group(&ana, &[]).await;
    let ((mut one, _), (mut two, _)) = (server.connect(&ana).await, server.connect(&ana).await);
    let (mut other, _) = server.connect(&phone).await;
    one.say(message(&group, 1)).await;
    one.event("message_ack").await;
    two.event("message").await;
    two.say(message(&group, 2)).await;
    assert_eq!(two.event("error").await["code"], "rate_limited");
    let rest = ana.post(&server, &path(&group, "/messages"), json!({ "clientSeq": 3, "body": "x" })).await;
    assert!(rest.expect_problem(429, "rate_limited").headers.contains_key("retry-after"));
    other.event("message").await;
    other.say(message(&group, 1)).await;
    other.event("message_ack").await;
}

#[tokio::test]
async fn events_other_than_sends_have_a_limit_of_their_own_on_each_connection() {
    let server = limited(|limits| limits.events = rate(1, Period::Minute, 4)).await;
    let ana = server.user("ana").await;
    let group = server.group(&ana, &[]).await;
    let ((mut socket, _), (mut second, _)) = (server.connect(&ana).await, server.connect(&ana).await);
    for _ in 0..4 {
        socket.say(json!({ "type": "ping" })).await;
        socket.event("pong").await;
    }
    for (event, convo) in [
        (json!({ "type": "ping" }), None),
        (json!({ "type": "typing", "convoId": group, "active": true }), Some(&group)),
        (json!({ "type": "mark", "convoId": group, "readSeq": 1 }), Some(&group)),
        (json!({ "type": "presence_set", "status": "away" }), None),
        (json!({ "type": "presence_subscribe", "userIds": [] }), None),
    ] {
        socket.say(event).await;
        let error = socket.event("error").await;
        assert_eq!(error["code"], "rate_limited");
        assert_eq!(error.get("convoId"), convo.map(|convo| json!(convo)).as_ref());
        assert!(error["retryAfterMs"].as_u64().unwrap() > 1_000);
    }
    socket.say(message(&group, 1)).await;
    socket.event("message_ack").await;
    second.wait_for("message").await;
    second.say(json!({ "type": "ping" })).await;
    second.event("pong").await;
}

#[tokio::test]
async fn a_list_of_users_costs_by_its_length_whether_they_are_to_be_watched_or_not() {
    let server = limited(|limits| limits.events = rate(1, Period::Hour, 12)).await;
    let ana = server.user("ana").await;
    for event in ["presence_subscribe", "presence_unsubscribe"] {
        let (mut socket, _) = server.connect(&ana).await;
        // 1 and a tenth of 100.
        socket.say(json!({ "type": event, "userIds": vec![&ana.id; 100] })).await;
        socket.say(json!({ "type": "ping" })).await;
        socket.wait_for("pong").await;
        socket.say(json!({ "type": "ping" })).await;
        assert_eq!(socket.event("error").await["code"], "rate_limited", "{event}");
    }
}

#[tokio::test]
async fn bytes_are_limited_besides() {
    let server = limited(|limits| limits.bytes = rate(1_000, Period::Minute, 10_000)).await;
    let ana = server.user("ana").await;
    let group = server.group(&ana, &[]).await;
    let (mut socket, _) = server.connect(&ana).await;
    let mut long = message(&group, 1);
    long["body"] = json!("x".repeat(9_000));
    socket.say(long.clone()).await;
    socket.event("message_ack").await;
    long["clientSeq"] = json!(2);
    socket.say(long).await;
    let error = socket.event("error").await;
    assert_eq!((&error["code"], &error["clientSeq"]), (&json!("rate_limited"), &json!(2)));
}

#[tokio::test]
async fn the_defaults_let_a_burst_of_60_sends_through() {
    let server = limited(|_| {}).await;
    let ana = server.user("ana").await;
    let group = server.group(&ana, &[]).await;
    let (mut socket, _) = server.connect(&ana).await;
    for number in 1..=60 {
        socket.say(message(&group, number)).await;
    }
    for _ in 1..=60 {
        socket.event("message_ack").await;
    }
}

#[tokio::test]
async fn who_goes_on_and_on_is_closed_with_4008() {
    let server = limited(|limits| {
        limits.sends = rate(1, Period::Minute, 1);
        limits.events = rate(1, Period::Minute, 1);
    })
    .await;
    let ana = server.user("ana").await;
    let group = server.group(&ana, &[]).await;
    let text = |text: &str| Message::text(text.to_owned());
    for what in ["sends", "pings", "nonsense", "WebSocket pings"] {
        let (mut socket, _) = server.connect(&ana).await;
        let code = goes_on(&mut socket, Duration::ZERO, |number| match what {
            "sends" => Message::text(message(&group, number).to_string()),
            "pings" => text(r#"{"type":"ping"}"#),
            "nonsense" => text("nonsense"),
            _ => Message::Ping(b"x".as_slice().into()),
        })
        .await;
        assert_eq!(code, 4008, "{what}");
    }
}

#[tokio::test]
async fn who_keeps_sending_at_many_times_his_pace_is_closed_too_although_some_are_let_through() {
    let server = limited(|limits| limits.sends = rate(10, Period::Second, 1)).await;
    let ana = server.user("ana").await;
    let group = server.group(&ana, &[]).await;
    let (mut socket, _) = server.connect(&ana).await;
    let code = goes_on(&mut socket, Duration::from_millis(5), |number| {
        Message::text(message(&group, number).to_string())
    })
    .await;
    assert_eq!(code, 4008);
}

#[tokio::test]
async fn who_waits_as_he_is_told_gets_everything_through() {
    let server = limited(|limits| limits.sends = rate(100, Period::Second, 2)).await;
    let ana = server.user("ana").await;
    let group = server.group(&ana, &[]).await;
    let (mut socket, _) = server.connect(&ana).await;
    for number in 1..=300 {
        loop {
            socket.say(message(&group, number)).await;
            let event = socket.next().await;
            if event["type"] == "message_ack" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(event["retryAfterMs"].as_u64().unwrap())).await;
        }
    }
    assert_eq!(ana.convo(&server, &group).await["lastSeq"], 301);
}

#[tokio::test]
async fn too_many_new_sockets_from_one_address_are_refused_with_429() {
    let server = limited(|limits| limits.connections = rate(1, Period::Minute, 3)).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(wire::handshake(&server, "").as_bytes()).await.unwrap();
        statuses.push(wire::status(&mut stream).await);
    }
    assert_eq!(statuses, [101, 101, 101, 429]);
}

#[tokio::test]
async fn one_socket_too_many_of_a_device_gets_in_and_the_one_that_was_silent_the_longest_gives_way() {
    for (server, is_limited) in [(limited(|_| {}).await, true), (Server::start().await, false)] {
        let ana = server.user("ana").await;
        let phone = server.another_device("ana").await;
        let (of_phone, _) = server.connect(&phone).await;
        let mut sockets = Vec::new();
        for _ in 0..32 {
            sockets.push(server.connect(&ana).await.0);
        }
        sockets[0].say(json!({ "type": "ping" })).await;
        sockets[0].wait_for("pong").await;
        sockets.push(server.connect(&ana).await.0);
        sockets.push(of_phone);
        if is_limited {
            assert_eq!(sockets.remove(1).closed().await.0, 4008);
        }
        for mut socket in sockets {
            socket.say(json!({ "type": "ping" })).await;
            socket.wait_for("pong").await;
        }
    }
}
