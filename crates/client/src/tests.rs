//! The whole client against a server that speaks a script.

mod fake;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use tertulia_protocol::event::ServerEvent;
use tertulia_protocol::{ClientSeq, ConvoId, EntryKind, Seq, UserId};

use crate::api::Api;
use crate::client::{Client, Config, Events, Start};
use crate::error::{Error, SessionLost};
use crate::event::{Event, Via};
use crate::session::Password;
use fake::{CONVO, Fake, OTHER, answer, entry, history, login};

async fn next(events: &mut Events) -> Event {
    tokio::time::timeout(Duration::from_secs(20), events.next())
        .await
        .expect("an event in time")
        .expect("the client goes on")
}

/// The next event that `pick` wants; others are passed over.
async fn until<T>(events: &mut Events, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
    loop {
        if let Some(found) = pick(&next(events).await) {
            return found;
        }
    }
}

/// The next `count` entries: seq and body.
async fn entries(events: &mut Events, count: usize) -> Vec<(u64, String)> {
    let mut seen = Vec::new();
    while seen.len() < count {
        if let Event::Entry { entry, .. } = next(events).await
            && let EntryKind::Text { body, .. } = entry.kind
        {
            seen.push((entry.seq.get(), body));
        }
    }
    seen
}

fn expected(seqs: std::ops::RangeInclusive<u64>) -> Vec<(u64, String)> {
    seqs.map(|seq| (seq, format!("s{seq}"))).collect()
}

fn config() -> Config {
    Config::new(Start::Head, ClientSeq::new(1))
}

fn convo() -> ConvoId {
    CONVO.parse().expect("an id")
}

#[tokio::test]
async fn a_send_whose_ack_was_lost_is_sent_again_and_is_one_entry() {
    let mut fake = Fake::start(|_, _, _| answer(200, json!({"items": []}))).await;
    let (client, mut events) = Client::connect(fake.session(None), &config());
    let mut socket = fake.socket().await;
    assert_eq!(socket.hello().await, json!({"type": "connect", "token": "access-1"}));
    socket.ready("p1", false).await;

    client.send(convo(), "hello", None).await.expect("a running client");
    let sent = socket.read().await;
    assert_eq!((&sent["type"], &sent["body"]), (&json!("send_message"), &json!("hello")));
    drop(socket);

    let mut socket = fake.socket().await;
    assert_eq!(socket.hello().await, json!({"type": "resume", "resumeToken": "resume", "position": "p1"}));
    socket.ready("p1", true).await;
    assert_eq!(socket.read().await, sent, "the same message with the same number");
    let own = json!({"type": "message", "convoId": CONVO, "seq": 5, "senderId": fake::ME, "clientSeq": 1,
        "ts": "2026-01-01T00:00:00.000Z", "kind": "text", "body": "hello", "position": "p2"});
    socket.write(own).await;
    socket.ack(1, 5).await;
    socket.push(6).await;

    let mut seen = Vec::new();
    while !seen.contains(&"entry 6".to_owned()) {
        match next(&mut events).await {
            Event::Entry { entry, .. } => seen.push(format!("entry {}", entry.seq)),
            Event::SendAcked { client_seq, seq, .. } => seen.push(format!("acked {client_seq}={seq}")),
            _ => {}
        }
    }
    assert_eq!(seen, ["entry 5", "acked 1=5", "entry 6"]);
}

#[tokio::test]
async fn a_gap_is_read_from_history_before_what_follows() {
    let mut fake = Fake::start(|_, path, query| {
        if path.ends_with("/messages") { history(query, 300) } else { answer(200, json!({"items": []})) }
    })
    .await;
    let (_client, mut events) = Client::connect(fake.session(None), &config());
    let mut socket = fake.socket().await;
    socket.hello().await;
    socket.ready("p", false).await;
    socket.push(1).await;
    socket.write(json!({"type": "gap", "convoId": CONVO, "fromSeq": 2, "toSeq": 299})).await;
    socket.push(300).await;
    assert_eq!(entries(&mut events, 300).await, expected(1..=300));
}

#[tokio::test]
async fn an_application_that_takes_no_events_stops_the_reading_and_loses_nothing() {
    let mut fake = Fake::start(|_, _, _| answer(200, json!({"items": []}))).await;
    let config = Config { events_max: 4, ..config() };
    let (client, mut events) = Client::connect(fake.session(None), &config);
    let mut socket = fake.socket().await;
    socket.hello().await;
    socket.ready("p", false).await;
    let writer = tokio::spawn(async move {
        for seq in 1..=2_000 {
            socket.push(seq).await;
        }
        socket
    });
    // A command gets through while the events wait: the task is not stuck.
    client.send(convo(), "meanwhile", None).await.expect("a running client");
    assert_eq!(entries(&mut events, 2_000).await, expected(1..=2_000));
    let mut socket = writer.await.expect("the writer ends");
    assert_eq!(socket.read().await["body"], json!("meanwhile"));
}

#[tokio::test]
async fn a_draining_server_is_left_and_come_back_to_when_it_says() {
    let mut fake = Fake::start(|_, _, _| answer(200, json!({"items": []}))).await;
    let (_client, mut events) = Client::connect(fake.session(None), &config());
    let mut socket = fake.socket().await;
    socket.hello().await;
    socket.ready("p7", false).await;
    socket.close(4010, r#"{"retryAfterMs":30}"#).await;
    let retry_in = until(&mut events, |event| match event {
        Event::Disconnected { retry_in, .. } => Some(*retry_in),
        _ => None,
    })
    .await;
    assert_eq!(retry_in, Duration::from_millis(30));
    assert_eq!(fake.socket().await.hello().await["position"], json!("p7"));
}

#[tokio::test]
async fn who_is_turned_away_by_one_node_comes_to_the_other_at_once_and_waits_when_both_do_so() {
    let mut two = Fake::start(|_, _, _| answer(200, json!({"items": []}))).await;
    let urls = Arc::<OnceLock<[String; 2]>>::default();
    let known = Arc::clone(&urls);
    let mut one = Fake::start(move |_, path, _| match path {
        "/api/gateway" => {
            let [one, two] = known.get().expect("the addresses");
            answer(200, json!({"url": one, "others": [two]}))
        }
        _ => answer(200, json!({"items": []})),
    })
    .await;
    urls.set([one.url(), two.url()]).expect("the first");
    let (_client, mut events) = Client::connect(one.session(None), &config());
    for _ in 0..2 {
        let mut socket = one.socket().await;
        socket.hello().await;
        socket.close(1013, r#"{"retryAfterMs":3600000}"#).await;
        let mut socket = two.socket().await;
        socket.hello().await;
        socket.close(1013, r#"{"retryAfterMs":30}"#).await;
        let mut waits = Vec::new();
        while waits.len() < 2 {
            waits.extend(match next(&mut events).await {
                Event::Disconnected { retry_in, .. } => Some(retry_in),
                _ => None,
            });
        }
        assert_eq!(waits, [Duration::ZERO, Duration::from_millis(30)]);
    }
    assert_eq!(one.calls("/api/gateway"), 2, "it is asked where to go before each round");
}

#[tokio::test]
async fn an_access_token_that_is_not_accepted_is_refreshed_once() {
    let mut fake = Fake::start(|_, path, _| match path {
        "/api/sessions/refresh" => answer(200, login(2)),
        _ => answer(200, json!({"items": []})),
    })
    .await;
    let session = fake.session(None);
    let mut tokens = session.watch();
    let (_client, mut events) = Client::connect(session, &config());
    let mut socket = fake.socket().await;
    socket.hello().await;
    socket.close(4001, "").await;
    let mut socket = fake.socket().await;
    assert_eq!(socket.hello().await, json!({"type": "connect", "token": "access-2"}));
    assert!(tokens.has_changed().expect("a session"));
    assert_eq!(tokens.borrow_and_update().refresh_token, "refresh-2");
    socket.close(4001, "").await;
    let lost = until(&mut events, |event| match event {
        Event::SessionLost(lost) => Some(*lost),
        _ => None,
    })
    .await;
    assert_eq!(lost, SessionLost::Expired);
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_revoked_device_is_told_so() {
    let mut fake = Fake::start(|_, _, _| answer(200, json!({"items": []}))).await;
    let (client, mut events) = Client::connect(fake.session(None), &config());
    let mut socket = fake.socket().await;
    socket.hello().await;
    socket.ready("p", false).await;
    socket.close(4002, "").await;
    let lost = until(&mut events, |event| match event {
        Event::SessionLost(lost) => Some(*lost),
        _ => None,
    })
    .await;
    assert_eq!(lost, SessionLost::Revoked);
    assert_eq!(events.next().await, None);
    assert!(client.send(convo(), "too late", None).await.is_err());
}

#[tokio::test]
async fn many_who_are_refused_at_once_share_one_refresh() {
    let fake = Fake::start(|_, path, query| match path {
        "/api/sessions/refresh" => answer(200, login(2)),
        _ if query.contains("token=access-2") => answer(200, json!({"user": fake::user()})),
        _ => answer(401, fake::problem(401, "unauthenticated")),
    })
    .await;
    let api = Api::new(fake.session(None));
    let (a, b, c) = tokio::join!(api.me(), api.me(), api.me());
    for user in [a, b, c] {
        assert_eq!(user.expect("an answer").username, "ana");
    }
    assert_eq!(fake.calls("/api/sessions/refresh"), 1);
}

#[tokio::test]
async fn a_refresh_whose_answer_was_lost_is_never_repeated() {
    let script = |_: &str, path: &str, query: &str| match path {
        "/api/sessions/refresh" => None,
        "/api/sessions" => answer(201, login(3)),
        _ if query.contains("token=access-3") => answer(200, json!({"user": fake::user()})),
        _ => answer(401, fake::problem(401, "unauthenticated")),
    };
    let fake = Fake::start(script).await;
    let api = Api::new(fake.session(None));
    for _ in 0..2 {
        let error = api.me().await.expect_err("no session");
        assert!(matches!(error, Error::SessionLost(SessionLost::RefreshUncertain)), "{error}");
    }
    assert_eq!(fake.calls("/api/sessions/refresh"), 1);

    let fake = Fake::start(script).await;
    let password =
        Password { username: "ana".into(), password: "secret-word".into(), device: Default::default() };
    let api = Api::new(fake.session(Some(password)));
    assert_eq!(api.me().await.expect("logged in again").username, "ana");
    assert_eq!((fake.calls("/api/sessions/refresh"), fake.calls("/api/sessions")), (1, 1));
}

#[tokio::test]
async fn refusals_carry_the_code_and_the_wait() {
    let fake = Fake::start(|_, _, _| {
        let mut problem = fake::problem(429, "rate_limited");
        problem["retryAfterMs"] = json!(2_500);
        answer(429, problem)
    })
    .await;
    let error = Api::new(fake.session(None)).me().await.expect_err("refused");
    assert!(error.is_temporary() && !error.is_uncertain());
    assert_eq!(error.retry_after(), Some(Duration::from_millis(2_500)));
}

#[tokio::test]
async fn an_unreachable_server_is_tried_again_until_it_is_there() {
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = reserved.local_addr().expect("an address");
    drop(reserved);
    let (_client, mut events) = Client::connect(fake::session_on(address, None), &config());
    until(&mut events, |event| matches!(event, Event::Disconnected { .. }).then_some(())).await;
    let mut fake = Fake::start_on(address, |_, _, _| answer(200, json!({"items": []}))).await;
    let mut socket = fake.socket().await;
    socket.hello().await;
    socket.ready("p", false).await;
    until(&mut events, |event| matches!(event, Event::Connected { .. }).then_some(())).await;
}

#[tokio::test]
async fn everything_else_is_passed_on() {
    let mut fake = Fake::start(|_, _, _| answer(200, json!({"items": []}))).await;
    let (client, mut events) = Client::connect(fake.session(None), &config());
    let mut socket = fake.socket().await;
    socket.hello().await;
    socket.ready("p", false).await;
    socket.write(json!({"type": "news_from_the_future", "x": 1})).await;
    socket.write(json!({"type": "typing", "convoId": CONVO, "userId": OTHER, "active": true})).await;
    let other: UserId = OTHER.parse().expect("an id");
    let typing = until(&mut events, |event| match event {
        Event::Typing { user_id, active, .. } => Some((*user_id, *active)),
        _ => None,
    })
    .await;
    assert_eq!(typing, (other, true));

    client.mark(convo(), None, Some(Seq::new(4))).await.expect("a running client");
    let mark: Value = socket.read().await;
    assert_eq!(mark, json!({"type": "mark", "convoId": CONVO, "readSeq": 4}));
    client.close().await;
    assert!(socket.is_closed().await);
}

#[tokio::test]
async fn what_was_pushed_and_what_was_read_can_be_told_apart() {
    let mut fake = Fake::start(
        |_, path, query| {
            if path.ends_with("/messages") { history(query, 2) } else { fake::inbox(2) }
        },
    )
    .await;
    let config = Config::new(Start::Beginning, ClientSeq::new(1));
    let (_client, mut events) = Client::connect(fake.session(None), &config);
    let mut socket = fake.socket().await;
    socket.hello().await;
    socket.ready("p", false).await;
    socket.push(3).await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        if let Event::Entry { entry, via } = next(&mut events).await {
            seen.push((entry.seq.get(), via));
        }
    }
    assert_eq!(seen, [(1, Via::History), (2, Via::History), (3, Via::Push)]);
}

#[test]
fn entries_of_the_fake_are_those_of_the_contract() {
    let event = entry(3);
    assert!(serde_json::from_value::<ServerEvent>(event).is_ok());
}
