//! Coming back: from any position everything that is durable since arrives, or is named by a gap.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::asking::path;
use crate::follow::Follower;
use crate::harness::{Server, Socket, User};

/// `SplitMix64`: the same chance every time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// A resumed socket that was known here.
async fn resume(server: &Server, token: &Value, position: &Value) -> Socket {
    let (socket, ready) = server.resume(token, position).await;
    assert_eq!(ready["resumed"], true);
    socket
}

/// Sends `count` messages over a socket, and waits for their acks.
async fn send_many(server: &Server, from: &User, convo: &str, first: u64, count: u64) {
    let (mut socket, _) = server.connect(from).await;
    for number in first..first + count {
        let body = number.to_string();
        socket
            .say(json!({ "type": "send_message", "convoId": convo, "clientSeq": number, "body": body }))
            .await;
    }
    for _ in 0..count {
        socket.event("message_ack").await;
    }
}

/// What came besides the watermarks of those who sent.
async fn so_far(socket: &mut Socket) -> Vec<Value> {
    let mut events = socket.so_far().await;
    events.retain(|event| event["type"] != "receipt");
    events
}

fn seqs(events: &[Value]) -> Vec<u64> {
    events
        .iter()
        .filter(|event| event["type"] == "message")
        .map(|event| event["seq"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn from_every_position_that_was_told_all_that_followed_arrives() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let (mut socket, ready) = server.connect(&bo).await;
    let mut told = vec![(1, ready["position"].clone())];
    for number in 1..=8 {
        ana.send(&server, &group, number, "x").await;
        let entry = socket.event("message").await;
        told.push((entry["seq"].as_u64().unwrap(), entry["position"].clone()));
        socket.say(json!({ "type": "ping" })).await;
        told.push((number + 1, socket.event("pong").await["position"].clone()));
    }
    for (seen, position) in told {
        let mut socket = resume(&server, &ready["resumeToken"], &position).await;
        let again: BTreeSet<u64> = seqs(&socket.so_far().await).into_iter().collect();
        assert!(again.is_superset(&(seen + 1..=9).collect()), "{again:?} from {seen}");
        assert!(
            again.first().is_none_or(|first| *first >= seen),
            "no more than was missed: {again:?} from {seen}"
        );
    }
}

#[tokio::test]
async fn who_missed_nothing_is_told_nothing_and_goes_on_live() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    ana.send(&server, &group, 1, "x").await;
    let (mut socket, ready) = server.connect(&bo).await;
    socket.say(json!({ "type": "ping" })).await;
    let position = socket.event("pong").await["position"].clone();
    drop(socket);
    let mut socket = resume(&server, &ready["resumeToken"], &position).await;
    assert!(socket.so_far().await.is_empty());
    ana.send(&server, &group, 2, "live").await;
    let entry = socket.event("message").await;
    assert_eq!((&entry["body"], entry["position"].is_string()), (&json!("live"), true));
}

#[tokio::test]
async fn who_connects_is_told_nothing_old() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    ana.send(&server, &group, 1, "old").await;
    let (mut socket, _) = server.connect(&bo).await;
    ana.send(&server, &group, 2, "new").await;
    assert_eq!(socket.event("message").await["body"], "new");
}

#[tokio::test]
async fn a_resume_brings_receipts_settings_and_what_was_created_joined_and_left() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let phone = server.another_device("bo1").await;
    let group = server.group(&ana, &[&bo]).await;
    let left = server.group(&ana, &[&bo]).await;
    let joined = server.group(&ana, &[]).await;
    ana.send(&server, &joined, 1, "before him").await;
    let (socket, ready) = server.connect(&phone).await;
    drop(socket);

    ana.send(&server, &group, 1, "missed").await;
    ana.put(&server, &path(&group, "/receipts"), Some(json!({ "readSeq": 2 }))).await.expect(204);
    bo.put(&server, &path(&group, "/receipts"), Some(json!({ "deliveredSeq": 2 }))).await.expect(204);
    ana.patch(&server, &path(&group, ""), json!({ "title": "Later" })).await.expect(200);
    bo.patch(&server, &path(&group, "/settings"), json!({ "muted": true })).await.expect(200);
    ana.delete(&server, &path(&left, &format!("/members/{}", bo.id))).await.expect(204);
    ana.post(&server, &path(&joined, "/members"), json!({ "userIds": [bo.id] })).await.expect(200);
    let created = ana.direct(&server, &bo).await;

    let mut socket = resume(&server, &ready["resumeToken"], &ready["position"]).await;
    let events = socket.so_far().await;
    let of = |convo: &str| -> Vec<&Value> {
        let is_of = |event: &&Value| event["convoId"] == convo || event["conversation"]["id"] == convo;
        events.iter().filter(is_of).collect()
    };
    let kinds = |convo: &str| -> Vec<&str> {
        let messages = of(convo).into_iter().filter(|event| event["type"] == "message");
        messages.map(|event| event["kind"].as_str().unwrap()).collect()
    };
    let news = |convo: &str| -> Vec<&Value> {
        let updates = of(convo).into_iter().filter(|event| event["type"] == "conversation_update");
        updates.map(|event| &event["conversation"]).collect()
    };
    assert_eq!(kinds(&group), ["text", "renamed"]);
    assert!(news(&group).iter().any(|told| told["title"] == "Later"), "{events:#?}");
    assert!(news(&group).iter().any(|told| told["muted"] == true), "{events:#?}");
    let receipts: Vec<&Value> = of(&group).into_iter().filter(|event| event["type"] == "receipt").collect();
    let of_user =
        |user: &User| receipts.iter().find(|receipt| receipt["userId"] == user.id.as_str()).unwrap();
    // Sending `renamed` moves nobody's watermarks; the present values are told.
    assert_eq!((&of_user(&ana)["readSeq"], &of_user(&bo)["deliveredSeq"]), (&json!(2), &json!(2)));
    assert_eq!((kinds(&left), news(&left)), (vec![], vec![&json!({ "id": left, "left": true })]));
    assert_eq!(kinds(&joined), ["member_added"]);
    assert_eq!((news(&joined).len(), &news(&joined)[0]["visibleFromSeq"]), (1, &json!(3)));
    assert_eq!(kinds(&created), ["created"]);
    assert_eq!(news(&created)[0]["type"], "direct");
    for convo in [&joined, &created] {
        assert_eq!(of(convo)[0]["type"], "conversation_update", "the conversation before its entries");
    }
}

#[tokio::test]
async fn who_was_removed_and_added_again_meanwhile_sees_only_what_follows() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let (socket, ready) = server.connect(&bo).await;
    drop(socket);
    ana.send(&server, &group, 1, "while he was in").await;
    ana.delete(&server, &path(&group, &format!("/members/{}", bo.id))).await.expect(204);
    ana.send(&server, &group, 2, "secret").await;
    ana.post(&server, &path(&group, "/members"), json!({ "userIds": [bo.id] })).await.expect(200);
    ana.send(&server, &group, 3, "for him").await;
    let mut socket = resume(&server, &ready["resumeToken"], &ready["position"]).await;
    let events = socket.so_far().await;
    assert_eq!(events[0]["conversation"]["visibleFromSeq"], 5);
    assert_eq!(seqs(&events), [5, 6]);
}

#[tokio::test]
async fn up_to_a_thousand_missed_entries_all_arrive() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let (socket, ready) = server.connect(&bo).await;
    drop(socket);
    send_many(&server, &ana, &group, 1, 1_000).await;
    let mut socket = resume(&server, &ready["resumeToken"], &ready["position"]).await;
    let events = so_far(&mut socket).await;
    assert_eq!((seqs(&events), events.len()), ((2..=1_001).collect(), 1_000));
}

#[tokio::test]
async fn of_more_than_a_thousand_missed_entries_the_newest_200_arrive_and_a_gap_names_the_others() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let (group, other) = (server.group(&ana, &[&bo]).await, server.group(&ana, &[&bo]).await);
    let (socket, ready) = server.connect(&bo).await;
    drop(socket);
    send_many(&server, &ana, &group, 1, 1_001).await;
    send_many(&server, &ana, &other, 1, 3).await;
    let mut socket = resume(&server, &ready["resumeToken"], &ready["position"]).await;
    let events = so_far(&mut socket).await;
    let of_group: Vec<&Value> = events.iter().filter(|event| event["convoId"] == group.as_str()).collect();
    let gap = of_group[0];
    assert_eq!((&gap["type"], &gap["fromSeq"], &gap["toSeq"]), (&json!("gap"), &json!(2), &json!(802)));
    let came: Vec<u64> = of_group[1..].iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(came, (803..=1_002).collect::<Vec<_>>());
    assert_eq!(events.len() - of_group.len(), 3, "a gap is of one conversation");
    ana.send(&server, &group, 2_000, "live").await;
    assert_eq!(socket.event("message").await["seq"], 1_003);
    let history = bo.history(&server, &group, "after=1&limit=200").await;
    assert_eq!(history["items"][0]["seq"], 2, "history has them");
}

#[tokio::test]
async fn while_something_is_on_its_way_no_position_is_told_and_none_is_ever_ahead() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let mut convos = Vec::new();
    for _ in 0..3 {
        convos.push(server.group(&ana, &[&bo]).await);
    }
    let (socket, ready) = server.connect(&bo).await;
    drop(socket);
    for convo in &convos {
        send_many(&server, &ana, convo, 1, 5).await;
    }
    let mut socket = resume(&server, &ready["resumeToken"], &ready["position"]).await;
    let events = so_far(&mut socket).await;
    let positions: Vec<usize> = events
        .iter()
        .enumerate()
        .filter(|(_, event)| event["position"].is_string())
        .map(|(at, _)| at)
        .collect();
    assert!(events.len() == 15 && positions.iter().all(|at| *at == 14), "{positions:?}");
    // Whoever broke off before the end and comes back with what he has lacks nothing.
    let mut socket = resume(&server, &ready["resumeToken"], &ready["position"]).await;
    socket.wait_for("message").await;
    drop(socket);
    let mut socket = resume(&server, &ready["resumeToken"], &ready["position"]).await;
    assert_eq!(so_far(&mut socket).await.len(), 15);
}

#[tokio::test]
async fn a_position_that_is_not_known_here_is_told_so_and_the_socket_is_live_from_now_on() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let (socket, ready) = server.connect(&bo).await;
    drop(socket);
    let elsewhere = Server::start().await;
    let (_socket, of_elsewhere) = elsewhere.connect(&elsewhere.user("bo1").await).await;
    let foreign = of_elsewhere["position"].clone();
    for (number, position) in
        (1..).zip([foreign, json!(""), json!("nonsense"), json!("0"), json!("é".repeat(900))])
    {
        let (mut socket, again) = server.resume(&ready["resumeToken"], &position).await;
        assert_eq!((&again["resumed"], &again["userId"]), (&json!(false), &json!(bo.id)), "{position}");
        assert_ne!(again["position"], position);
        ana.send(&server, &group, number, "live").await;
        assert_eq!(socket.event("message").await["seq"], number + 1);
        resume(&server, &again["resumeToken"], &again["position"]).await;
    }
}

#[tokio::test]
async fn a_resume_goes_on_after_a_restart_of_the_node() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let (mut socket, ready) = server.connect(&bo).await;
    ana.send(&server, &group, 1, "seen").await;
    let position = socket.event("message").await["position"].clone();
    drop(socket);
    ana.send(&server, &group, 2, "missed before").await;
    let server = Server::start_on(server.stop().await, |_| {}).await;
    ana.send(&server, &group, 3, "missed after").await;
    let mut socket = resume(&server, &ready["resumeToken"], &position).await;
    let came = seqs(&socket.so_far().await);
    assert!(came.ends_with(&[3, 4]), "{came:?}");
    ana.send(&server, &group, 4, "live").await;
    assert_eq!(socket.event("message").await["seq"], 5);
}

#[tokio::test]
async fn a_position_from_before_a_restore_is_told_so() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let (socket, ready) = server.connect(&bo).await;
    drop(socket);
    let data = server.stop().await;
    let backup = tempfile::tempdir().unwrap();
    copy(data.path(), backup.path());

    let server = Server::start_on(data, |_| {}).await;
    for number in 1..=5 {
        ana.send(&server, &group, number, "lost").await;
    }
    let (mut socket, _) = server.connect(&bo).await;
    socket.say(json!({ "type": "ping" })).await;
    let position = socket.event("pong").await["position"].clone();
    drop(socket);
    server.stop().await;

    let server = Server::start_on(backup, |_| {}).await;
    let (_socket, again) = server.resume(&ready["resumeToken"], &position).await;
    assert_eq!(again["resumed"], false, "what it named is not here");
    // Also when as much has been written since.
    for number in 1..=9 {
        ana.send(&server, &group, number, "another").await;
    }
    let (_socket, again) = server.resume(&ready["resumeToken"], &position).await;
    assert_eq!(again["resumed"], false, "what it named is not here");
}

/// Copies a folder.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test]
async fn positions_do_not_age() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let (socket, ready) = server.connect(&bo).await;
    drop(socket);
    let mut server = server;
    for round in 0..3 {
        for number in 0..50 {
            ana.send(&server, &group, 50 * round + number + 1, "x").await;
        }
        server = Server::start_on(server.stop().await, |_| {}).await;
    }
    let mut socket = resume(&server, &ready["resumeToken"], &ready["position"]).await;
    assert_eq!(seqs(&socket.so_far().await), (2..=151).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_device_may_resume_on_many_sockets_at_once_from_one_position() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let (socket, ready) = server.connect(&bo).await;
    drop(socket);
    send_many(&server, &ana, &group, 1, 300).await;
    let resumes = (0..6).map(|_| async {
        let mut socket = resume(&server, &ready["resumeToken"], &ready["position"]).await;
        seqs(&socket.so_far().await)
    });
    for came in futures_util::future::join_all(resumes).await {
        assert_eq!(came, (2..=301).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_twenty_disconnects_in_the_middle_of_everything_nothing_is_lost() {
    const EACH: u64 = 150;
    let server = std::sync::Arc::new(Server::start().await);
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let (cai, dee) = (server.user("cai").await, server.user("dee").await);
    let convos = [server.group(&ana, &[&bo, &cai, &dee]).await, server.group(&cai, &[&ana, &bo, &dee]).await];
    let (mut socket, ready) = server.connect(&bo).await;
    let mut follower = Follower::from(&ready["position"]);
    for convo in &convos {
        follower.has(convo, 1);
    }
    let mut tasks = Vec::new();
    let (mut reads, _) = server.connect(&dee).await;
    for user in [ana.clone(), cai.clone()] {
        let (server, convos) = (std::sync::Arc::clone(&server), convos.clone());
        tasks.push(tokio::spawn(async move {
            let (mut socket, _) = server.connect(&user).await;
            for number in 1..=EACH {
                for convo in &convos {
                    let send =
                        json!({ "type": "send_message", "convoId": convo, "clientSeq": number, "body": "x" });
                    socket.say(send).await;
                    socket.wait_for("message_ack").await;
                }
            }
        }));
    }
    tasks.push(tokio::spawn(async move {
        for _ in 0..4 * EACH {
            let entry = reads.wait_for("message").await;
            reads.say(json!({ "type": "mark", "convoId": entry["convoId"], "readSeq": entry["seq"] })).await;
        }
        reads.so_far().await;
    }));
    let mut chance = Chance(7);
    for _ in 0..20 {
        for _ in 0..chance.below(40) {
            follower.hear(&socket.next().await);
            if follower.known.values().all(|known| known.len() as u64 > 2 * EACH) {
                break;
            }
        }
        if chance.below(3) == 0 {
            socket.close(1000).await;
        } else {
            drop(socket);
        }
        follower.begin();
        socket = resume(&server, &ready["resumeToken"], &follower.position).await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    while convos.iter().any(|convo| follower.count(convo) < 2 * EACH + 1) {
        follower.hear(&socket.next().await);
    }
    for event in socket.so_far().await {
        follower.hear(&event);
    }
    for convo in &convos {
        assert_eq!(follower.known[convo], (1..=2 * EACH + 1).collect());
        for user in [&ana, &cai, &dee] {
            let member = bo.member(&server, convo, user).await;
            let (delivered, read) = follower.receipts[&(convo.clone(), user.id.clone())];
            assert_eq!(
                (json!(delivered), json!(read)),
                (member["deliveredSeq"].clone(), member["readSeq"].clone())
            );
        }
    }
    assert!(follower.named.is_empty(), "no gap for so few");
}
