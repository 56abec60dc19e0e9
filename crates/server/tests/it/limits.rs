//! Rate limits over REST: who is refused, what he is told, and that it works after the wait he is told.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tertulia_server::config::Config;
use tertulia_server::limits::{LimitsConfig, Period, Rate};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{Answer, DEADLINE, Server};

const PASSWORD: &str = "correct horse battery";

fn rate(count: u32, per: Period, burst: u32) -> Rate {
    Rate { count: NonZeroU32::new(count).unwrap(), per, burst: NonZeroU32::new(burst) }
}

/// A node whose limits are the defaults but for what `change` changes.
async fn start(change: impl FnOnce(&mut LimitsConfig)) -> Server {
    start_with(change, |_| {}).await
}

async fn start_with(change: impl FnOnce(&mut LimitsConfig), more: impl FnOnce(&mut Config)) -> Server {
    Server::start_with(|config| {
        let mut limits = LimitsConfig::default();
        change(&mut limits);
        config.limits = Some(limits);
        more(config);
    })
    .await
}

/// The wait that a refusal tells, which its header tells in whole seconds.
#[track_caller]
fn wait_of(answer: Answer) -> Duration {
    let answer = answer.expect_problem(429, "rate_limited");
    let millis = answer.body["retryAfterMs"].as_u64().unwrap();
    let seconds: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert_eq!(seconds, millis.div_ceil(1_000).max(1));
    Duration::from_millis(millis)
}

/// That 60 went through, one more for each second that passed meanwhile, and that the others were told to wait.
#[track_caller]
fn burst_of_60(began: Instant, answers: Vec<Answer>, taken: u16) {
    let most = 61 + usize::try_from(began.elapsed().as_secs()).unwrap();
    let (taken, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == taken);
    assert!((60..=most).contains(&taken.len()), "{} of {most}", taken.len());
    for answer in refused {
        assert!(wait_of(answer) <= Duration::from_secs(1));
    }
}

fn message(number: u64) -> Value {
    json!({ "clientSeq": number, "body": "quick" })
}

async fn log_in(server: &Server, username: &str, password: &str, from: &str) -> Answer {
    let body = json!({ "username": username, "password": password }).to_string();
    let headers = [("content-type", "application/json"), ("x-forwarded-for", from)];
    server.call_raw(Method::POST, "/api/sessions", &headers, body).await
}

async fn register(server: &Server, username: &str, from: &str) -> Answer {
    let body = json!({ "username": username, "password": PASSWORD }).to_string();
    let headers = [("content-type", "application/json"), ("x-forwarded-for", from)];
    server.call_raw(Method::POST, "/api/users", &headers, body).await
}

async fn handshake(server: &Server, from: &str) -> Answer {
    let headers = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("x-forwarded-for", from),
    ];
    server.call_raw(Method::GET, "/api/ws", &headers, "").await
}

/// Believes what the tests say of where they come from.
fn behind_a_proxy(config: &mut Config) {
    config.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
}

#[tokio::test]
async fn the_default_lets_60_sends_through_at_once_and_the_next_after_the_wait_it_tells() {
    // Slower than the default, so that the test does not depend on how fast the machine is.
    let server = start(|limits| limits.sends = rate(1, Period::Second, 60)).await;
    assert_eq!(LimitsConfig::default().sends, rate(20, Period::Second, 60));
    let ana = server.user("ana").await;
    let phone = server.another_device("ana").await;
    let group = server.group(&ana, &[]).await;
    let began = Instant::now();
    let answers = join_all((1..=70).map(|number| ana.try_send(&server, &group, message(number)))).await;
    burst_of_60(began, answers, 201);
    // The limit is the device's; reading goes on.
    phone.send(&server, &group, 1, "from the phone").await;
    ana.convo(&server, &group).await;

    let mut number = 1_000;
    let refused = loop {
        let answer = ana.try_send(&server, &group, message(number)).await;
        if answer.status != 201 {
            break answer;
        }
        number += 1;
    };
    tokio::time::sleep(wait_of(refused)).await;
    ana.try_send(&server, &group, message(number)).await.expect(201);
}

#[tokio::test]
async fn sends_on_sockets_and_by_rest_share_one_limit() {
    let server = start(|limits| limits.sends = rate(1, Period::Hour, 3)).await;
    let ana = server.user("ana").await;
    let group = server.group(&ana, &[]).await;
    let (mut socket, _) = server.connect(&ana).await;
    ana.send(&server, &group, 1, "by REST").await;
    for number in [2, 3] {
        socket
            .say(
                json!({ "type": "send_message", "convoId": group, "clientSeq": number, "body": "by socket" }),
            )
            .await;
        socket.wait_for("message_ack").await;
    }
    wait_of(ana.try_send(&server, &group, message(4)).await);
    socket
        .say(json!({ "type": "send_message", "convoId": group, "clientSeq": 4, "body": "by socket" }))
        .await;
    let error = socket.wait_for("error").await;
    assert_eq!((&error["code"], &error["clientSeq"]), (&json!("rate_limited"), &json!(4)));
    assert!(error["retryAfterMs"].as_u64().unwrap() > 1_000);
}

#[tokio::test]
async fn a_retry_that_was_refused_for_its_pace_is_taken_later_with_the_same_number() {
    let server = start(|limits| limits.sends = rate(4, Period::Second, 1)).await;
    let ana = server.user("ana").await;
    let group = server.group(&ana, &[]).await;
    for number in 1..=3 {
        let sent = loop {
            let answer = ana.try_send(&server, &group, message(number)).await;
            if answer.status == 201 {
                break answer;
            }
            tokio::time::sleep(wait_of(answer)).await;
        };
        assert_eq!(sent.body["message"]["seq"], number + 1);
    }
}

#[tokio::test]
async fn bytes_of_a_device_are_limited_by_rest_too() {
    let server = start(|limits| limits.bytes = rate(100_000, Period::Hour, 150_000)).await;
    let ana = server.user("ana").await;
    let group = server.group(&ana, &[]).await;
    for number in [1, 2] {
        ana.send(&server, &group, number, &"x".repeat(65_000)).await;
    }
    let large = json!({ "clientSeq": 3, "body": "x".repeat(65_000) });
    wait_of(ana.try_send(&server, &group, large).await);
    ana.send(&server, &group, 4, "a small one").await;
}

#[tokio::test]
async fn a_device_that_has_read_too_much_is_told_to_wait_before_it_reads_more() {
    let server = start(|limits| limits.answers = rate(1_000, Period::Second, 40_000)).await;
    let ana = server.user("ana").await;
    let phone = server.another_device("ana").await;
    let group = server.group(&ana, &[]).await;
    phone.send(&server, &group, 1, &"x".repeat(60_000)).await;
    // The answer is longer than what may be read at once, and given.
    ana.history(&server, &group, "limit=200").await;
    let (mut wait, asked) = (Duration::ZERO, Instant::now());
    for again in 0..30 {
        wait = wait_of(ana.get(&server, "/api/users/me").await);
        // Asking again makes it no longer.
        assert!(wait <= Duration::from_secs(21), "{again}: {wait:?}");
    }
    assert!(wait + asked.elapsed() > Duration::from_secs(19), "{wait:?}");
    ana.send(&server, &group, 1, "who only writes goes on").await;
}

/// A connection from an address of this machine on which half a call has been said.
async fn half_a_body(server: &Server, from: &str) -> TcpStream {
    let tcp = TcpSocket::new_v4().unwrap();
    tcp.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let mut stream = tcp.connect(server.address).await.unwrap();
    let half = "POST /api/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n";
    // It may be closed already.
    let _ = stream.write_all(half.as_bytes()).await;
    stream
}

#[tokio::test]
async fn one_address_does_not_take_all_connections_from_the_others() {
    let server = start(|_| {}).await;
    let mut halves = Vec::new();
    for _ in 0..600 {
        halves.push(half_a_body(&server, "127.0.0.1").await);
    }
    let mut other = half_a_body(&server, "127.0.0.2").await;
    let refused = async {
        let mut closed = 0;
        for half in &mut halves[512..] {
            closed += usize::from(matches!(half.read(&mut [0]).await, Ok(0) | Err(_)));
        }
        closed
    };
    assert_eq!(tokio::time::timeout(DEADLINE, refused).await.expect("they were not closed"), 88);
    assert!(halves[..512].iter().all(|half| half.try_read(&mut [0]).is_err()), "the others wait");
    // From elsewhere the node is as it was.
    other
        .write_all(b"0123456789GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    tokio::time::timeout(DEADLINE, other.read_to_string(&mut text)).await.unwrap().unwrap();
    assert!(text.starts_with("HTTP/1.1 400 ") && text.contains("HTTP/1.1 200 "), "{text}");
    assert!(text.contains("\ntertulia_http_connections_refused_total 88\n"), "{text}");
    // Whoever goes makes room.
    drop(halves);
    let served = async {
        while server.try_healthz().await.is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, served).await.expect("no room was made");
}

#[tokio::test]
async fn a_trusted_proxy_and_whoever_has_no_limits_may_have_as_many_as_there_are() {
    for server in [start_with(|_| {}, behind_a_proxy).await, Server::start().await] {
        let mut halves = Vec::new();
        for _ in 0..520 {
            halves.push(half_a_body(&server, "127.0.0.1").await);
        }
        server.call(Method::GET, "/healthz", None, None).await.expect(200);
        assert!(halves.iter().all(|half| half.try_read(&mut [0]).is_err()), "all wait");
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_in_time_is_not_waited_for() {
    let server = Server::start_with(|config| config.body = Duration::from_millis(300)).await;
    let mut half = half_a_body(&server, "127.0.0.1").await;
    let mut text = String::new();
    tokio::time::timeout(DEADLINE, half.read_to_string(&mut text)).await.expect("it waits").unwrap();
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    assert!(text.contains("application/problem+json") && text.contains(r#""code":"invalid""#), "{text}");
}

#[tokio::test]
async fn calls_that_read_and_calls_that_change_have_limits_of_their_own() {
    let server = start(|limits| {
        limits.reads = rate(1, Period::Hour, 5);
        limits.writes = rate(1, Period::Hour, 3);
    })
    .await;
    let ana = server.user("ana").await;
    for _ in 0..5 {
        ana.get(&server, "/api/users/me").await.expect(200);
    }
    wait_of(ana.get(&server, "/api/users/me").await);
    wait_of(ana.get(&server, "/api/conversations").await);
    for _ in 0..3 {
        ana.change(&server, json!({ "about": "x" })).await;
    }
    wait_of(ana.patch(&server, "/api/users/me", json!({ "about": "x" })).await);
    let refresh = json!({ "refreshToken": ana.refresh_token });
    wait_of(server.call(Method::POST, "/api/sessions/refresh", None, Some(refresh)).await);
    server.call(Method::GET, "/healthz", None, None).await.expect(200);
}

#[tokio::test]
async fn logins_are_limited_by_user_and_address_whether_or_not_there_is_one_and_tenfold_from_wherever() {
    let server = start_with(|limits| limits.logins_per_user = rate(1, Period::Hour, 1), behind_a_proxy).await;
    register(&server, "ana", "192.0.2.1").await.expect(201);
    for name in ["ana", "nobody"] {
        for n in 1..=9 {
            log_in(&server, name, "a wrong password", &format!("192.0.2.{n}")).await.expect(401);
            wait_of(log_in(&server, &name.to_uppercase(), PASSWORD, &format!("192.0.2.{n}")).await);
        }
    }
    log_in(&server, "ana", PASSWORD, "192.0.2.10").await.expect(201);
    wait_of(log_in(&server, "ana", PASSWORD, "192.0.2.11").await);
    register(&server, "bo1", "192.0.2.1").await.expect(201);
    log_in(&server, "bo1", PASSWORD, "192.0.2.1").await.expect(201);
}

#[tokio::test]
async fn logins_and_registrations_are_limited_by_address() {
    let change = |limits: &mut LimitsConfig| {
        limits.logins_per_address = rate(1, Period::Hour, 3);
        limits.registrations = rate(1, Period::Hour, 2);
    };
    let server = start_with(change, behind_a_proxy).await;
    for name in ["ana", "bo1"] {
        register(&server, name, "192.0.2.1").await.expect(201);
    }
    wait_of(register(&server, "cleo", "192.0.2.1").await);
    register(&server, "cleo", "192.0.2.2").await.expect(201);
    for name in ["ana", "bo1", "cleo"] {
        log_in(&server, name, PASSWORD, "2001:db8::1").await.expect(201);
    }
    // A network of IPv6 counts as one address.
    wait_of(log_in(&server, "ana", PASSWORD, "2001:db8::2").await);
    log_in(&server, "ana", PASSWORD, "2001:db8:0:1::1").await.expect(201);
}

#[tokio::test]
async fn who_is_no_trusted_proxy_does_not_say_where_he_comes_from() {
    let server = start(|limits| limits.registrations = rate(1, Period::Hour, 1)).await;
    register(&server, "ana", "192.0.2.1").await.expect(201);
    wait_of(register(&server, "bo1", "192.0.2.2").await);
}

#[tokio::test]
async fn an_address_opens_60_sockets_at_once_and_the_next_after_the_wait_it_tells() {
    assert_eq!(LimitsConfig::default().connections, rate(60, Period::Minute, 60));
    let server = start_with(|_| {}, behind_a_proxy).await;
    let began = Instant::now();
    let answers = join_all((0..70).map(|_| handshake(&server, "192.0.2.1"))).await;
    burst_of_60(began, answers, 101);
    handshake(&server, "192.0.2.2").await.expect(101);
    let refused = loop {
        let answer = handshake(&server, "192.0.2.1").await;
        if answer.status != 101 {
            break answer;
        }
    };
    tokio::time::sleep(wait_of(refused)).await;
    handshake(&server, "192.0.2.1").await.expect(101);
    let metrics = server.call(Method::GET, "/metrics", None, None).await.text;
    assert!(!metrics.contains("tertulia_connections_refused_total 0\n"), "{metrics}");
}

#[tokio::test]
async fn what_is_no_handshake_is_no_connection() {
    let server = start(|limits| limits.connections = rate(1, Period::Hour, 1)).await;
    for _ in 0..5 {
        server.call(Method::GET, "/api/ws", None, None).await.expect(426);
    }
    let ana = server.user("ana").await;
    server.connect(&ana).await;
    wait_of(handshake(&server, "192.0.2.1").await);
}

#[tokio::test]
async fn without_limits_nobody_waits() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let group = server.group(&ana, &[]).await;
    let sends = join_all((1..=150).map(|number| ana.try_send(&server, &group, message(number)))).await;
    assert!(sends.iter().all(|answer| answer.status == 201));
    let sockets = join_all((0..70).map(|_| handshake(&server, "192.0.2.1"))).await;
    assert!(sockets.iter().all(|answer| answer.status == 101));
    assert_eq!(ana.newest(&server, &group).await["seq"], 151);
}

#[tokio::test]
async fn who_was_refused_has_lost_nothing() {
    let server = start(|limits| limits.sends = rate(2, Period::Second, 2)).await;
    let ana = server.user("ana").await;
    let group = server.group(&ana, &[]).await;
    let mut waits = 0;
    // Asking again and again while one must wait does not make the wait longer.
    let sending = async {
        for number in 1..=6 {
            while ana.try_send(&server, &group, message(number)).await.status != 201 {
                waits += 1;
            }
        }
    };
    tokio::time::timeout(DEADLINE, sending).await.expect("the wait grew");
    assert!(waits > 0);
    let numbers: Vec<Value> =
        ana.entries(&server, &group).await[1..].iter().map(|entry| entry["clientSeq"].clone()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
}
