//! Who reads slowly or not at all: nobody else waits for him, he costs little, and he misses nothing unnamed.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use crate::asking::path;
use crate::follow::Follower;
use crate::harness::{Server, Socket, User};
use crate::wire::{self, PONG, Wire};

/// The length of a body that fills buffers.
const LONG: usize = 60_000;

/// A ready socket whose TCP connection takes little: what is not read soon stands at the server.
async fn narrow(server: &Server, user: &User) -> (Socket, Value) {
    let tcp = TcpSocket::new_v4().unwrap();
    tcp.set_recv_buffer_size(4_096).unwrap();
    let mut socket = server.socket_over(tcp.connect(server.address).await.unwrap()).await;
    socket.say(json!({ "type": "connect", "token": user.token })).await;
    let ready = socket.event("ready").await;
    (socket, ready)
}

/// Sends messages one after the other, and checks that each comes to `to` in time.
async fn converse(
    from: &mut Socket,
    to: &mut Socket,
    convo: &str,
    numbers: std::ops::Range<u64>,
    len: usize,
) {
    for number in numbers {
        let body = "x".repeat(len);
        from.say(json!({ "type": "send_message", "convoId": convo, "clientSeq": number, "body": body }))
            .await;
        from.wait_for("message_ack").await;
        to.wait_for("message").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_reading_slows_nobody_and_later_gets_everything_in_order() {
    const SENT: u64 = 300;
    let server = Server::start().await;
    let (ana, bo, cai) = (server.user("ana").await, server.user("bo1").await, server.user("cai").await);
    let group = server.group(&ana, &[&bo, &cai]).await;
    let ((mut from, _), (mut fast, _)) = (server.connect(&ana).await, server.connect(&bo).await);
    let (mut slow, ready) = narrow(&server, &cai).await;
    let before = server.metric("readers_lagged_total").await;
    converse(&mut from, &mut fast, &group, 1..SENT + 1, LONG).await;
    assert!(server.metric("readers_lagged_total").await > before, "he has fallen behind");
    assert_eq!(server.metric("readers_lagging").await, 1.0);

    let mut follower = Follower::from(&ready["position"]);
    follower.has(&group, 1);
    let mut unpositioned = 0;
    while follower.count(&group) < SENT + 1 {
        let event = slow.next().await;
        unpositioned += u64::from(event["position"].is_null());
        follower.hear(&event);
    }
    assert!(follower.named.is_empty(), "no gap for so few");
    assert!(unpositioned > 0, "while he lags no position is told");
    // Caught up, he is live again, with positions.
    server.until_metric("readers_lagging", |lagging| lagging == 0.0).await;
    converse(&mut from, &mut fast, &group, SENT + 1..SENT + 2, 10).await;
    let live = slow.wait_for("message").await;
    assert!(live["seq"] == SENT + 2 && live["position"].is_string(), "{live}");
    let position = live["position"].clone();
    drop(slow);
    let (mut again, _) = server.resume(&ready["resumeToken"], &position).await;
    let repeated = again.so_far().await.iter().filter(|event| event["type"] == "message").count();
    assert!(repeated <= 1, "the position was that of the end: {repeated}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_a_slow_reader_was_told_is_never_ahead_of_what_he_has() {
    const SENT: u64 = 200;
    let server = Server::start().await;
    let (ana, cai) = (server.user("ana").await, server.user("cai").await);
    let phone = server.another_device("ana").await;
    let convos = [server.group(&ana, &[&cai]).await, server.group(&ana, &[&cai]).await];
    let ((mut from, _), (mut fast, _)) = (server.connect(&ana).await, server.connect(&phone).await);
    let (mut slow, ready) = narrow(&server, &cai).await;
    let mut follower = Follower::from(&ready["position"]);
    let mut token = ready["resumeToken"].clone();
    for convo in &convos {
        follower.has(convo, 1);
    }
    for round in 0..4 {
        for convo in &convos {
            converse(&mut from, &mut fast, convo, round * SENT / 4 + 1..(round + 1) * SENT / 4 + 1, LONG / 2)
                .await;
        }
        // He reads a part of it, and breaks off in the middle.
        for _ in 0..30 {
            follower.hear(&slow.next().await);
        }
        drop(slow);
        follower.begin();
        let ready;
        (slow, ready) = server.resume(&token, &follower.position).await;
        assert_eq!(ready["resumed"], true);
        token = ready["resumeToken"].clone();
    }
    while convos.iter().any(|convo| follower.count(convo) < SENT + 1) {
        follower.hear(&slow.next().await);
    }
    assert!(follower.named.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_falls_more_than_a_thousand_behind_gets_a_gap_and_the_newest() {
    const LONG_ONES: u64 = 150;
    const SENT: u64 = 2_500;
    let server = Server::start().await;
    let (ana, cai) = (server.user("ana").await, server.user("cai").await);
    let phone = server.another_device("ana").await;
    let group = server.group(&ana, &[&cai]).await;
    let ((mut from, _), (mut fast, _)) = (server.connect(&ana).await, server.connect(&phone).await);
    let (mut slow, ready) = narrow(&server, &cai).await;
    converse(&mut from, &mut fast, &group, 1..LONG_ONES + 1, LONG).await;
    for number in LONG_ONES + 1..=SENT {
        from.say(json!({ "type": "send_message", "convoId": group, "clientSeq": number, "body": "x" })).await;
    }
    for _ in LONG_ONES + 1..=SENT {
        from.wait_for("message_ack").await;
    }
    let mut follower = Follower::from(&ready["position"]);
    follower.has(&group, 1);
    while follower.count(&group) < SENT + 1 {
        follower.hear(&slow.next().await);
    }
    let named = &follower.named[&group];
    assert!(named.len() as u64 > 1_000 && *named.last().unwrap() == SENT + 1 - 200, "{:?}", named.last());
    let history =
        cai.history(&server, &group, &format!("after={}&limit=1", named.first().unwrap() - 1)).await;
    assert_eq!(history["items"][0]["seq"], *named.first().unwrap(), "history has them");
    from.say(json!({ "type": "send_message", "convoId": group, "clientSeq": SENT + 1, "body": "live" }))
        .await;
    assert_eq!(slow.wait_for("message").await["seq"], SENT + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_never_read_slow_nobody_and_nothing_is_kept_for_them_beyond_their_outboxes() {
    const DEAF: usize = 30;
    const SENT: u64 = 200;
    let server = Server::start().await;
    let (ana, cai) = (server.user("ana").await, server.user("cai").await);
    let phone = server.another_device("ana").await;
    let group = server.group(&ana, &[&cai]).await;
    let ((mut from, _), (mut fast, _)) = (server.connect(&ana).await, server.connect(&phone).await);
    let mut deaf = Vec::new();
    for _ in 0..DEAF {
        deaf.push(narrow(&server, &cai).await.0);
    }
    let begun = Instant::now();
    converse(&mut from, &mut fast, &group, 1..SENT + 1, LONG).await;
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    // Whoever lags is given nothing before he has taken what waits for him.
    assert_eq!(server.metric("readers_lagging").await, DEAF as f64);
    drop(deaf);
    server.until_metric("readers_lagging", |lagging| lagging == 0.0).await;
}

/// Asks for the newest page, and reads nothing of it.
async fn ask_for_a_page(server: &Server, user: &User, convo: &str) -> TcpStream {
    let tcp = TcpSocket::new_v4().unwrap();
    tcp.set_recv_buffer_size(4_096).unwrap();
    let mut stream = tcp.connect(server.address).await.unwrap();
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        path(convo, "/messages?limit=200"),
        user.token
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.readable().await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_his_answer_is_cut_off_and_until_then_takes_no_more_than_there_is_for_answers() {
    const PAGE_BYTES: usize = 15 * 6 * 65_000;
    let server = Server::start_with(|config| {
        config.unread = Duration::from_secs(2);
        config.answers_bytes = PAGE_BYTES;
    })
    .await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    // Six bytes of JSON each.
    let long = "\u{1}".repeat(65_000);
    for number in 1..=15 {
        ana.send(&server, &group, number, &long).await;
    }
    let page = path(&group, "/messages?limit=200");
    let mut deaf = ask_for_a_page(&server, &ana, &group).await;
    let refused = bo.get(&server, &page).await.expect_problem(503, "unavailable");
    assert_eq!(refused.headers["retry-after"], "1");
    // What is short has its room.
    bo.newest(&server, &server.group(&bo, &[]).await).await;
    let given = async {
        while bo.get(&server, &page).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(10), given).await.expect("the room was not given back");
    let mut rest = Vec::new();
    let read =
        timeout(Duration::from_secs(10), deaf.read_to_end(&mut rest)).await.expect("he was not cut off");
    assert!(read.is_err() || rest.len() < PAGE_BYTES, "{} bytes", rest.len());
}

/// Else two accounts that read a little now and then could keep all others from long answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_holds_the_most_of_what_is_not_read_gives_way_to_who_asks_for_less() {
    let server = Server::start_with(|config| config.answers_bytes = 15 * 6 * 65_000).await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let long = "\u{1}".repeat(65_000);
    for number in 1..=15 {
        ana.send(&server, &group, number, &long).await;
    }
    let mut deaf = ask_for_a_page(&server, &ana, &group).await;
    assert_eq!(bo.get(&server, &path(&group, "/messages?limit=2")).await.status, 200);
    let mut rest = Vec::new();
    let read =
        timeout(Duration::from_secs(10), deaf.read_to_end(&mut rest)).await.expect("he was not cut off");
    assert!(read.is_err() || rest.len() < 15 * 6 * 65_000, "{} bytes", rest.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_his_answer_slowly_gets_all_of_it() {
    let server = Server::start_with(|config| config.unread = Duration::from_millis(500)).await;
    let ana = server.user("ana").await;
    let group = server.group(&ana, &[]).await;
    let long = "\u{1}".repeat(65_000);
    for number in 1..=15 {
        ana.send(&server, &group, number, &long).await;
    }
    let mut slow = ask_for_a_page(&server, &ana, &group).await;
    let (mut part, mut all) = (vec![0; 64 * 1_024], 0);
    let begun = Instant::now();
    while all < 15 * 6 * 65_000 {
        // At first more slowly than the kernel tells the server of.
        if begun.elapsed() < Duration::from_secs(3) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let read = timeout(Duration::from_secs(10), slow.read(&mut part)).await.unwrap().unwrap();
        assert!(read > 0, "cut off after {all} bytes");
        all += read;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_without_end_and_reads_no_answer_is_not_heard_any_further() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let mut flood = Wire::connect(&server, &ana.token).await;
    let pings = wire::frame(wire::TEXT, br#"{"type":"ping"}"#).repeat(1_000);
    let mut written = 0_usize;
    // Until nothing more is taken for a while.
    while let Ok(count) =
        timeout(Duration::from_secs(1), flood.stream.write(&pings[written % pings.len()..])).await
    {
        written += count.unwrap();
        assert!(written < 32 << 20, "{} MiB were taken", written >> 20);
    }
    // Others are heard as before.
    let ((mut from, _), (mut to, _)) = (server.connect(&ana).await, server.connect(&bo).await);
    from.say(json!({ "type": "send_message", "convoId": group, "clientSeq": 1, "body": "x" })).await;
    from.event("message_ack").await;
    to.event("message").await;
    // When it reads again, every question has its answer, and the message has come.
    let (mut pongs, mut messages) = (0, 0);
    let whole = written * 1_000 / pings.len();
    while pongs < whole {
        match flood.event().await["type"].as_str().unwrap() {
            "pong" => pongs += 1,
            "message" => messages += 1,
            other => panic!("{other}"),
        }
    }
    if messages == 0 {
        assert_eq!(flood.event().await["type"], "message");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_removed_while_he_lags_has_named_what_he_lacks_and_gets_his_removal_last() {
    let server = Server::start().await;
    let (ana, cai) = (server.user("ana").await, server.user("cai").await);
    let phone = server.another_device("ana").await;
    let group = server.group(&ana, &[&cai]).await;
    let ((mut from, _), (mut fast, _)) = (server.connect(&ana).await, server.connect(&phone).await);
    let (mut slow, ready) = narrow(&server, &cai).await;
    converse(&mut from, &mut fast, &group, 1..201, LONG).await;
    ana.delete(&server, &path(&group, &format!("/members/{}", cai.id))).await.expect(204);
    ana.send(&server, &group, 1_000, "secret").await;
    let mut follower = Follower::from(&ready["position"]);
    follower.has(&group, 1);
    loop {
        let event = slow.next().await;
        assert_ne!(event["body"], "secret");
        follower.hear(&event);
        if event["type"] == "conversation_update" {
            assert_eq!(event["conversation"], json!({ "id": group, "left": true }));
            break;
        }
    }
    assert_eq!(follower.count(&group), 202, "up to the removal, with what the gap names");
    assert!(!follower.named[&group].is_empty());
    assert!(slow.so_far().await.is_empty());
}

#[tokio::test]
async fn who_takes_nothing_for_two_heartbeats_is_closed_although_he_sends() {
    let server = Server::start_with(|config| config.heartbeat = Duration::from_secs(1)).await;
    let (ana, cai) = (server.user("ana").await, server.user("cai").await);
    let group = server.group(&ana, &[&cai]).await;
    let tcp = TcpSocket::new_v4().unwrap();
    tcp.set_recv_buffer_size(4_096).unwrap();
    let mut stream = tcp.connect(server.address).await.unwrap();
    stream.write_all(wire::handshake(&server, "").as_bytes()).await.unwrap();
    assert_eq!(wire::status(&mut stream).await, 101);
    let mut deaf = Wire { stream };
    deaf.say(&json!({ "type": "connect", "token": cai.token })).await;
    assert_eq!(deaf.event().await["type"], "ready");
    for number in 1..=200 {
        ana.send(&server, &group, number, &"x".repeat(LONG)).await;
    }
    let begun = Instant::now();
    while server.metric("sockets").await > 0.0 {
        assert!(begun.elapsed() < Duration::from_secs(15), "still there");
        // The server may have gone in between.
        drop(deaf.stream.write_all(&wire::frame(PONG, b"")).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
