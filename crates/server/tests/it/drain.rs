//! A node that goes: sockets are sent away, nothing that was acked is lost, and nobody holds it up.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Server, Socket};
use crate::wire::{self, Wire};

/// Reads what comes until the server closes; checks that it drains. (events, retryAfterMs)
async fn sent_away(socket: &mut Socket) -> (Vec<Value>, u64) {
    let mut events = Vec::new();
    loop {
        match socket.frame().await {
            Message::Text(text) => events.push(serde_json::from_str(&text).unwrap()),
            Message::Close(close) => {
                let close = close.unwrap();
                assert_eq!(u16::from(close.code), 4010);
                let reason: Value = serde_json::from_str(&close.reason).expect("the reason is JSON");
                return (events, reason["retryAfterMs"].as_u64().expect("a number of milliseconds"));
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn sockets_are_closed_with_4010_and_told_when_to_come_back_each_at_another_time() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(server.connect(&ana).await.0);
    }
    server.begin_drain();
    let mut waits = BTreeSet::new();
    for socket in &mut sockets {
        waits.insert(sent_away(socket).await.1);
    }
    assert!(waits.first().unwrap() > &0 && waits.len() > 5, "{waits:?}");
    drop(sockets);
    server.stop().await;
}

#[tokio::test]
async fn a_node_without_clients_goes_at_once() {
    let server = Server::start().await;
    let begun = Instant::now();
    server.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn who_has_not_said_who_he_is_is_sent_away_too_and_holds_nothing_up() {
    let server = Server::start().await;
    let mut silent = server.socket().await;
    server.begin_drain();
    let begun = Instant::now();
    sent_away(&mut silent).await;
    drop(silent);
    server.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn who_connects_while_the_node_goes_is_sent_away_like_the_others() {
    // Round by round the connect comes a little later into the drain.
    for wait in 0..6 {
        let server = Server::start().await;
        let ana = server.user("ana").await;
        let mut socket = server.socket().await;
        let (connected, ()) = tokio::join!(
            async {
                tokio::time::sleep(Duration::from_micros(200 * wait)).await;
                socket.say(json!({ "type": "connect", "token": ana.token })).await;
                sent_away(&mut socket).await
            },
            async { server.begin_drain() },
        );
        assert!(connected.0.len() <= 1, "ready at most");
        drop(socket);
        let begun = Instant::now();
        server.stop().await;
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_client_that_neither_reads_nor_closes_does_not_hold_the_node_up() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let _deaf = Wire::connect(&server, &ana.token).await;
    let _idle = TcpStream::connect(server.address).await.unwrap();
    let begun = Instant::now();
    server.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn half_a_request_holds_the_node_up_for_ten_seconds_at_most() {
    let server = Server::start().await;
    let mut half_a_request = TcpStream::connect(server.address).await.unwrap();
    half_a_request.write_all(&wire::handshake(&server, "").as_bytes()[..40]).await.unwrap();
    server.user("ana").await; // By now it was read.
    let begun = Instant::now();
    server.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn who_says_half_a_body_or_does_not_read_his_answer_is_cut_when_the_drain_is_over() {
    let server = Server::start_with(|config| config.drain = Duration::from_secs(1)).await;
    let ana = server.user("ana").await;
    let group = server.group(&ana, &[]).await;
    for number in 1..=30 {
        ana.send(&server, &group, number, &"\u{1}".repeat(65_000)).await;
    }
    let mut half_a_body = TcpStream::connect(server.address).await.unwrap();
    let half = "POST /api/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n";
    half_a_body.write_all(half.as_bytes()).await.unwrap();
    let mut deaf = TcpStream::connect(server.address).await.unwrap();
    let page = format!(
        "GET /api/conversations/{group}/messages?limit=200 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        ana.token
    );
    deaf.write_all(page.as_bytes()).await.unwrap();
    deaf.readable().await.unwrap();
    let begun = Instant::now();
    // Not how long it takes to close the store behind it.
    let cut = async {
        let end = half_a_body.read(&mut [0]).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        begun.elapsed()
    };
    let (after, _) = tokio::join!(cut, server.stop());
    assert!(after < Duration::from_secs(4), "{after:?}");
}

#[tokio::test]
async fn a_waiting_long_poll_is_answered() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let cursor = ana.get(&server, "/api/events").await.expect(200).body["cursor"].clone();
    let path = format!("/api/events?wait=60&cursor={}", cursor.as_str().unwrap());
    let (answer, ()) = tokio::join!(ana.get(&server, &path), async {
        server.until_metric("long_polls", |polls| polls == 1.0).await;
        server.begin_drain();
    });
    assert_eq!(answer.expect(200).body, json!({ "events": [], "cursor": cursor }));
    server.stop().await;
}

#[tokio::test]
async fn what_was_acked_is_there_afterwards_and_what_was_not_can_be_sent_again() {
    const SENT: u64 = 2_000;
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let (mut reader, ready) = server.connect(&bo).await;
    let (mut from, of_ana) = server.connect(&ana).await;
    let send = |number: u64| json!({ "type": "send_message", "convoId": group, "clientSeq": number, "body": number.to_string() });
    let (_, (events, _)) = tokio::join!(
        async {
            let mut last = Value::Null;
            for _ in 0..200 {
                last = reader.next().await;
            }
            server.begin_drain();
            last
        },
        async {
            for number in 1..=SENT {
                if !from.try_say(send(number)).await {
                    break;
                }
            }
            sent_away(&mut from).await
        },
    );
    let acked: BTreeSet<u64> = events
        .iter()
        .filter(|event| event["type"] == "message_ack")
        .map(|event| event["clientSeq"].as_u64().unwrap())
        .collect();
    assert!(acked.len() >= 199 && (acked.len() as u64) < SENT, "in the middle: {}", acked.len());
    drop((reader, from));

    let server = Server::start_on(server.stop().await, |_| {}).await;
    let stored: BTreeSet<u64> = stored(&server, &ana, &group).await.into_iter().collect();
    assert!(stored.is_superset(&acked), "acked, but not there: {:?}", acked.difference(&stored));
    let (mut again, _) = server.resume(&of_ana["resumeToken"], &of_ana["position"]).await;
    let retried: Vec<u64> = (1..=SENT).filter(|number| !acked.contains(number)).collect();
    for number in &retried {
        again.say(send(*number)).await;
    }
    for _ in &retried {
        again.wait_for("message_ack").await;
    }
    let stored = self::stored(&server, &ana, &group).await;
    assert_eq!(stored.len() as u64, SENT, "each once");
    assert_eq!(stored.into_iter().collect::<BTreeSet<_>>(), (1..=SENT).collect());
    let (mut reader, again) = server.resume(&ready["resumeToken"], &ready["position"]).await;
    assert_eq!(again["resumed"], true);
    assert!(!reader.so_far().await.is_empty());
}

/// The `clientSeq` of every message.
async fn stored(server: &Server, user: &crate::harness::User, convo: &str) -> Vec<u64> {
    let (mut numbers, mut after) = (Vec::new(), 1);
    loop {
        let page = user.history(server, convo, &format!("after={after}&limit=200")).await;
        for item in page["items"].as_array().unwrap() {
            numbers.push(item["clientSeq"].as_u64().unwrap());
            after = item["seq"].as_u64().unwrap();
        }
        if page["hasMore"] == false {
            return numbers;
        }
    }
}
