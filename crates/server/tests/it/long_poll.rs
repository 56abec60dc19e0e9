//! `GET /api/events`: the events of the socket for clients that cannot keep one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::asking::path;
use crate::harness::{Answer, Server, User};

async fn ask(server: &Server, user: &User, cursor: &str, wait: u64) -> Answer {
    user.get(server, &format!("/api/events?cursor={cursor}&wait={wait}")).await
}

/// The events since a cursor, and the next one.
async fn poll(server: &Server, user: &User, cursor: &str, wait: u64) -> (Vec<Value>, String) {
    let page = ask(server, user, cursor, wait).await.expect(200).body;
    (page["events"].as_array().unwrap().clone(), page["cursor"].as_str().unwrap().to_owned())
}

/// A cursor to begin with.
async fn begin(server: &Server, user: &User) -> String {
    let page = user.get(server, "/api/events").await.expect(200).body;
    assert_eq!(page["events"], json!([]));
    page["cursor"].as_str().unwrap().to_owned()
}

/// Everything since a cursor, poll after poll until one is empty, and the last cursor.
async fn drain(server: &Server, user: &User, mut cursor: String) -> (Vec<Value>, String) {
    let mut all = Vec::new();
    loop {
        let (events, next) = poll(server, user, &cursor, 0).await;
        cursor = next;
        if events.is_empty() {
            return (all, cursor);
        }
        all.extend(events);
    }
}

/// The seqs of the messages of each conversation, in the order in which they came.
fn messages(events: &[Value]) -> BTreeMap<String, Vec<u64>> {
    let mut by_convo = BTreeMap::<String, Vec<u64>>::new();
    for event in events.iter().filter(|event| event["type"] == "message") {
        let convo = event["convoId"].as_str().unwrap().to_owned();
        by_convo.entry(convo).or_default().push(event["seq"].as_u64().unwrap());
    }
    by_convo
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

/// Waits until as many long-polls wait on the node.
async fn waiting(server: &Server, polls: u32) {
    let line = format!("tertulia_long_polls {polls}\n");
    let all_wait = async {
        while !server.call(reqwest::Method::GET, "/metrics", None, None).await.text.contains(&line) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::harness::DEADLINE, all_wait).await.expect("the polls did not wait");
}

async fn pair() -> (Server, User, User, String) {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    (server, ana, bo, group)
}

#[tokio::test]
async fn without_a_cursor_it_answers_at_once_with_one_and_no_events() {
    let (server, ana, bo, group) = pair().await;
    ana.send(&server, &group, 1, "before").await;
    let asked = Instant::now();
    let answer = bo.get(&server, "/api/events?wait=60").await.expect(200);
    assert!(asked.elapsed() < Duration::from_secs(10));
    let cursor = answer.body["cursor"].as_str().unwrap();
    assert_eq!(poll(&server, &bo, cursor, 0).await.0, Vec::<Value>::new());
    let sent = ana.send(&server, &group, 2, "after").await;
    let (events, _) = poll(&server, &bo, cursor, 0).await;
    assert_eq!(
        (kinds(&events)[0], &events[0]["seq"], &events[0]["body"]),
        ("message", &sent["seq"], &json!("after"))
    );
}

#[tokio::test]
async fn it_waits_and_is_woken_by_a_message() {
    let (server, ana, bo, group) = pair().await;
    let cursor = begin(&server, &bo).await;
    let waits = poll(&server, &bo, &cursor, 60);
    let wakes = async {
        waiting(&server, 1).await;
        ana.send(&server, &group, 1, "wake up").await
    };
    let ((events, next), sent) = tokio::join!(waits, wakes);
    let message = events.iter().find(|event| event["type"] == "message").unwrap();
    assert_eq!((&message["seq"], &message["senderId"]), (&sent["seq"], &sent["senderId"]));
    // What belongs to the message comes with it or after it, and nothing twice.
    let (rest, _) = drain(&server, &bo, next).await;
    assert_eq!(messages(&[events, rest].concat())[&group], [2]);
}

#[tokio::test]
async fn an_answer_is_bounded_in_bytes_as_they_are_written_and_the_next_goes_on_behind_it() {
    const SENT: u64 = 30;
    let (server, ana, bo, group) = pair().await;
    let mut cursor = begin(&server, &bo).await;
    // Six bytes of JSON each: nearly 400,000 a message.
    let long = "\u{1}".repeat(65_000);
    for number in 1..=SENT {
        ana.send(&server, &group, number, &long).await;
    }
    let mut events = Vec::new();
    loop {
        let answer = ask(&server, &bo, &cursor, 0).await.expect(200);
        assert!(answer.text.len() < 5 << 19, "{} bytes", answer.text.len());
        cursor = answer.body["cursor"].as_str().unwrap().to_owned();
        let more = answer.body["events"].as_array().unwrap();
        if more.is_empty() {
            break;
        }
        events.extend(more.iter().cloned());
    }
    assert_eq!(messages(&events)[&group], (2..=SENT + 1).collect::<Vec<_>>());
}

#[tokio::test]
async fn of_one_device_eight_wait_and_with_one_more_the_oldest_answers() {
    let (server, ana, bo, _) = pair().await;
    let cursor = begin(&server, &bo).await;
    let mut oldest = Box::pin(ask(&server, &bo, &cursor, 60));
    let waits = async {
        tokio::select! {
            _ = &mut oldest => panic!("nothing has come, and there are no more than eight"),
            () = waiting(&server, 1) => {}
        }
        let mut others = Box::pin(join_all((0..7).map(|_| ask(&server, &bo, &cursor, 60))));
        // Another device has its own.
        let of_ana = begin(&server, &ana).await;
        let mut other = Box::pin(ask(&server, &ana, &of_ana, 60));
        tokio::select! {
            _ = &mut oldest => panic!("nothing has come, and there are no more than eight"),
            _ = &mut others => panic!("nothing has come"),
            _ = &mut other => panic!("nothing has come"),
            () = waiting(&server, 9) => {}
        }
        let mut ninth = Box::pin(ask(&server, &bo, &cursor, 60));
        let answer = tokio::select! {
            answer = &mut oldest => answer,
            _ = &mut others => panic!("they are not the oldest"),
            _ = &mut other => panic!("nothing has come"),
            _ = &mut ninth => panic!("it is the newest"),
        };
        assert_eq!(answer.expect(200).body, json!({ "events": [], "cursor": cursor }));
    };
    tokio::time::timeout(crate::harness::DEADLINE, waits).await.expect("the oldest did not answer");
}

#[tokio::test]
async fn nothing_in_time_is_no_events_and_a_cursor_that_goes_on() {
    let (server, ana, bo, group) = pair().await;
    let mut cursor = begin(&server, &bo).await;
    for (seq, wait) in [(2, 0), (3, 1)] {
        let (events, next) = poll(&server, &bo, &cursor, wait).await;
        assert_eq!(events, Vec::<Value>::new());
        ana.send(&server, &group, seq, "later").await;
        let (events, next) = drain(&server, &bo, next).await;
        assert_eq!(messages(&events)[&group], [seq]);
        cursor = next;
    }
}

#[tokio::test]
async fn the_same_cursor_gives_the_same_events_again() {
    let (server, ana, bo, group) = pair().await;
    let cursor = begin(&server, &bo).await;
    for number in 1..=3 {
        ana.send(&server, &group, number, "again").await;
    }
    ana.patch(&server, &path(&group, ""), json!({ "title": "renamed" })).await.expect(200);
    let first = ask(&server, &bo, &cursor, 0).await.expect(200).body;
    assert_eq!(messages(first["events"].as_array().unwrap())[&group], [2, 3, 4, 5]);
    for _ in 0..2 {
        assert_eq!(ask(&server, &bo, &cursor, 0).await.expect(200).body["events"], first["events"]);
    }
    let server = Server::start_on(server.stop().await, |_| {}).await;
    assert_eq!(ask(&server, &bo, &cursor, 0).await.expect(200).body["events"], first["events"]);
    assert_eq!(
        drain(&server, &bo, first["cursor"].as_str().unwrap().to_owned()).await.0,
        Vec::<Value>::new()
    );
}

#[tokio::test]
async fn a_cursor_survives_restarts() {
    let (mut server, ana, bo, group) = pair().await;
    let mut cursor = begin(&server, &bo).await;
    for number in 1..=3 {
        ana.send(&server, &group, number, "before the restart").await;
        server = Server::start_on(server.stop().await, |_| {}).await;
        ana.send(&server, &group, number + 10, "after it").await;
        let (events, next) = drain(&server, &bo, cursor).await;
        assert_eq!(messages(&events)[&group], [2 * number, 2 * number + 1]);
        cursor = next;
    }
}

#[tokio::test]
async fn a_cursor_that_was_never_given_out_is_invalid() {
    let (server, ana, _, _) = pair().await;
    let cursor = begin(&server, &ana).await;
    let other = Server::start().await;
    let stranger = other.user("ana").await;
    let foreign = begin(&other, &stranger).await;
    for broken in [
        "".to_owned(),
        "garbage".to_owned(),
        "~~~".to_owned(),
        "%00".to_owned(),
        format!("{cursor}x"),
        format!("{cursor}~"),
        format!("{cursor}~{cursor}"),
        format!("{cursor}~{cursor}~x~1"),
        format!("{cursor}~{cursor}~{}~1~1", ana.id),
        cursor[..cursor.len() / 2].to_owned(),
        foreign,
    ] {
        let answer = ask(&server, &ana, &broken, 0).await;
        assert_eq!((answer.status.as_u16(), &answer.body["code"]), (400, &json!("invalid")), "{broken}");
    }
    for wait in ["-1", "x", "1.5", ""] {
        let asked = format!("/api/events?cursor={cursor}&wait={wait}");
        ana.get(&server, &asked).await.expect_problem(400, "invalid");
    }
}

#[tokio::test]
async fn everything_that_is_durable_comes_and_only_to_those_whom_it_concerns() {
    let (server, ana, bo, group) = pair().await;
    let cleo = server.user("cleo").await;
    let (of_ana, of_bo, of_cleo) =
        (begin(&server, &ana).await, begin(&server, &bo).await, begin(&server, &cleo).await);
    ana.send(&server, &group, 1, "hola").await;
    bo.mark(&server, &group, json!({ "readSeq": 2 })).await.expect(204);
    bo.patch(&server, &path(&group, "/settings"), json!({ "pinned": true })).await.expect(200);
    ana.patch(&server, &path(&group, ""), json!({ "title": "renamed" })).await.expect(200);
    let direct = bo.direct(&server, &ana).await;

    let (events, _) = drain(&server, &ana, of_ana).await;
    // Her own message, too: it may have been sent by another device.
    assert_eq!(messages(&events), BTreeMap::from([(group.clone(), vec![2, 3]), (direct.clone(), vec![1])]));
    let read =
        events.iter().find(|event| event["type"] == "receipt" && event["userId"] == bo.id.as_str()).unwrap();
    assert_eq!((&read["deliveredSeq"], &read["readSeq"]), (&json!(2), &json!(2)));
    let updates = |events: &[Value]| -> Vec<Value> {
        let updates = events.iter().filter(|event| event["type"] == "conversation_update");
        updates.map(|event| event["conversation"].clone()).collect()
    };
    assert!(updates(&events).iter().any(|update| update["title"] == "renamed"));
    assert!(
        updates(&events).iter().any(|update| update["id"] == direct.as_str() && update["type"] == "direct")
    );
    assert!(updates(&events).iter().all(|update| update["pinned"] != true));

    let (events, _) = drain(&server, &bo, of_bo).await;
    assert!(updates(&events).iter().any(|update| update["pinned"] == true && update["id"] == group.as_str()));
    assert_eq!(drain(&server, &cleo, of_cleo).await.0, Vec::<Value>::new());
}

#[tokio::test]
async fn hidden_read_receipts_are_hidden_here_too() {
    let (server, ana, bo, group) = pair().await;
    ana.send(&server, &group, 1, "seen?").await;
    bo.change(&server, json!({ "privacy": { "readReceipts": "nobody" } })).await;
    let (of_ana, of_bo) = (begin(&server, &ana).await, begin(&server, &bo).await);
    bo.mark(&server, &group, json!({ "readSeq": 2 })).await.expect(204);
    let (events, _) = drain(&server, &ana, of_ana).await;
    assert_eq!((kinds(&events), &events[0]["deliveredSeq"]), (vec!["receipt"], &json!(2)));
    assert_eq!(events[0].get("readSeq"), None);
    let (events, _) = drain(&server, &bo, of_bo).await;
    assert_eq!((kinds(&events), &events[0]["readSeq"]), (vec!["receipt"], &json!(2)));
}

#[tokio::test]
async fn typing_comes_only_while_one_waits() {
    let (server, ana, bo, group) = pair().await;
    let (mut socket, _) = server.connect(&ana).await;
    let typing = json!({ "type": "typing", "convoId": group, "active": true });
    let cursor = begin(&server, &bo).await;
    socket.say(typing.clone()).await;
    socket.so_far().await;
    assert_eq!(poll(&server, &bo, &cursor, 0).await.0, Vec::<Value>::new());

    socket.say(json!({ "type": "typing", "convoId": group, "active": false })).await;
    socket.so_far().await;
    let waits = poll(&server, &bo, &cursor, 60);
    let wakes = async {
        waiting(&server, 1).await;
        socket.say(typing).await;
    };
    let ((events, next), ()) = tokio::join!(waits, wakes);
    assert_eq!(events, [json!({ "type": "typing", "convoId": group, "userId": ana.id, "active": true })]);
    assert_eq!(poll(&server, &bo, &next, 0).await.0, Vec::<Value>::new());
}

#[tokio::test]
async fn who_waits_is_online_and_who_stopped_waiting_is_not_for_ever() {
    let server = Server::start_with(|config| {
        config.presence_ttl = Duration::from_secs(2);
        config.heartbeat = Duration::from_secs(1);
    })
    .await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    server.group(&ana, &[&bo]).await;
    let (mut socket, _) = server.connect(&ana).await;
    socket.say(json!({ "type": "presence_subscribe", "userIds": [bo.id] })).await;
    assert_eq!(socket.event("presence_update").await["status"], "offline");
    let cursor = begin(&server, &bo).await;
    let waits = poll(&server, &bo, &cursor, 1);
    let ((events, _), online) = tokio::join!(waits, socket.event("presence_update"));
    assert_eq!((events.len(), &online["status"], &online["userId"]), (0, &json!("online"), &json!(bo.id)));
    let offline = socket.event("presence_update").await;
    assert_eq!((&offline["status"], offline["lastSeen"].is_string()), (&json!("offline"), true));
}

#[tokio::test]
async fn more_than_one_answer_holds_comes_in_pieces_each_entry_once_and_in_order() {
    let (server, ana, bo, group) = pair().await;
    let members = [&bo];
    let others = join_all((0..12).map(|_| server.group(&ana, &members))).await;
    let cursor = begin(&server, &bo).await;
    let mut expected = BTreeMap::from([(group.clone(), (2..=901).collect::<Vec<u64>>())]);
    for chunk in (1..=900).collect::<Vec<u64>>().chunks(100) {
        join_all(chunk.iter().map(|number| ana.send(&server, &group, *number, "one of many"))).await;
    }
    for (n, convo) in (1..).zip(&others) {
        join_all((1..=n * 9).map(|number| ana.send(&server, convo, number, "one of many"))).await;
        expected.insert(convo.clone(), (2..=n * 9 + 1).collect());
    }
    let (mut events, mut at, mut polls) = (Vec::new(), cursor, 0);
    loop {
        let (some, next) = poll(&server, &bo, &at, 0).await;
        if some.is_empty() {
            break;
        }
        // Using a cursor twice gives the same, in the middle of a list, too.
        if polls < 3 {
            assert_eq!(poll(&server, &bo, &at, 0).await.0, some);
        }
        events.extend(some);
        (at, polls) = (next, polls + 1);
    }
    assert!(polls > 2, "{polls}");
    assert_eq!(messages(&events), expected);
    assert!(!kinds(&events).contains(&"gap"));
}

#[tokio::test]
async fn what_comes_while_a_list_is_given_in_pieces_comes_after_it() {
    let (server, ana, bo, group) = pair().await;
    let other = server.group(&ana, &[&bo]).await;
    let mut cursor = begin(&server, &bo).await;
    for convo in [&group, &other] {
        for chunk in (1..=700).collect::<Vec<u64>>().chunks(100) {
            join_all(chunk.iter().map(|number| ana.send(&server, convo, *number, "one of many"))).await;
        }
    }
    let mut events = Vec::new();
    let mut more = 0..4;
    loop {
        let (some, next) = poll(&server, &bo, &cursor, 0).await;
        cursor = next;
        if let Some(round) = more.next() {
            for convo in [&group, &other] {
                ana.send(&server, convo, 701 + round, "meanwhile").await;
            }
        } else if some.is_empty() {
            break;
        }
        events.extend(some);
    }
    let all: Vec<u64> = (2..=705).collect();
    assert_eq!(messages(&events), BTreeMap::from([(group, all.clone()), (other, all)]));
}

/// A cursor from the middle of a list is used when much has come since the list was begun.
#[tokio::test]
async fn a_gap_in_a_list_names_nothing_that_came_after_the_list_was_begun() {
    let (server, ana, bo, group) = pair().await;
    let other = server.group(&ana, &[&bo]).await;
    let cursor = begin(&server, &bo).await;
    let send = async |convo: &str, numbers: std::ops::RangeInclusive<u64>| {
        for chunk in numbers.collect::<Vec<u64>>().chunks(100) {
            join_all(chunk.iter().map(|number| ana.send(&server, convo, *number, "one of many"))).await;
        }
    };
    send(&group, 1..=600).await;
    send(&other, 1..=10).await;
    let (_, middle) = poll(&server, &bo, &cursor, 0).await;
    send(&other, 11..=1_210).await;
    let (rest, after) = poll(&server, &bo, &middle, 0).await;
    assert!(!kinds(&rest).contains(&"gap"));
    assert_eq!(messages(&rest)[&other], (2..=11).collect::<Vec<_>>());
    let (later, _) = drain(&server, &bo, after).await;
    assert_eq!(later[0], json!({ "type": "gap", "convoId": other, "fromSeq": 12, "toSeq": 1_011 }));
    assert_eq!(messages(&later)[&other], (1_012..=1_211).collect::<Vec<_>>());
}

#[tokio::test]
async fn of_more_than_1000_missed_entries_the_newest_200_come_and_a_gap_names_the_others() {
    let (server, ana, bo, group) = pair().await;
    let cursor = begin(&server, &bo).await;
    for chunk in (1..=1_001).collect::<Vec<u64>>().chunks(143) {
        join_all(chunk.iter().map(|number| ana.send(&server, &group, *number, "one of many"))).await;
    }
    let (events, after) = drain(&server, &bo, cursor.clone()).await;
    assert_eq!(events[0], json!({ "type": "gap", "convoId": group, "fromSeq": 2, "toSeq": 802 }));
    assert_eq!(messages(&events)[&group], (803..=1_002).collect::<Vec<_>>());
    assert_eq!(drain(&server, &bo, cursor).await.0, events);
    ana.send(&server, &group, 2_000, "live goes on").await;
    assert_eq!(messages(&drain(&server, &bo, after).await.0)[&group], [1_003]);
}

#[tokio::test]
async fn who_was_removed_is_told_that_he_left_and_nothing_that_came_after() {
    let (server, ana, bo, group) = pair().await;
    let cursor = begin(&server, &bo).await;
    ana.send(&server, &group, 1, "before").await;
    ana.remove(&server, &group, &bo).await.expect(204);
    ana.send(&server, &group, 2, "without bo").await;
    let answer = ask(&server, &bo, &cursor, 0).await.expect(200);
    let left = json!({ "type": "conversation_update", "conversation": { "id": group, "left": true } });
    assert_eq!(answer.body["events"], json!([left]));
    assert!(!answer.text.contains("without bo"));

    ana.add(&server, &group, &bo).await.expect(200);
    ana.send(&server, &group, 3, "bo is back").await;
    let (events, _) = drain(&server, &bo, cursor).await;
    assert_eq!(
        (&events[0]["type"], &events[0]["conversation"]["visibleFromSeq"]),
        (&json!("conversation_update"), &json!(5))
    );
    assert_eq!(messages(&events)[&group], [5, 6]);
}

#[tokio::test]
async fn who_is_removed_while_he_waits_is_woken() {
    let (server, ana, bo, group) = pair().await;
    let cursor = begin(&server, &bo).await;
    let removes = async {
        waiting(&server, 1).await;
        ana.remove(&server, &group, &bo).await.expect(204);
        ana.send(&server, &group, 2, "without bo").await;
    };
    let ((events, next), ()) = tokio::join!(poll(&server, &bo, &cursor, 60), removes);
    let (rest, _) = drain(&server, &bo, next).await;
    let all = [events, rest].concat();
    assert!(all.iter().any(|event| event["conversation"]["left"] == true), "{all:?}");
    assert!(messages(&all).get(&group).is_none_or(|seqs| *seqs == [2]));
}

#[tokio::test]
async fn who_is_added_while_he_waits_is_woken_and_told_of_the_conversation() {
    let (server, ana, _, group) = pair().await;
    let cleo = server.user("cleo").await;
    let cursor = begin(&server, &cleo).await;
    let adds = async {
        waiting(&server, 1).await;
        ana.add(&server, &group, &cleo).await.expect(200);
    };
    let ((events, _), ()) = tokio::join!(poll(&server, &cleo, &cursor, 60), adds);
    assert_eq!(kinds(&events)[..2], ["conversation_update", "message"]);
    assert_eq!(events[0]["conversation"]["id"], group.as_str());
    assert_eq!((&events[1]["kind"], &events[1]["userIds"]), (&json!("member_added"), &json!([cleo.id])));
}

#[tokio::test]
async fn all_who_wait_are_woken_and_a_device_that_is_logged_out_is_told_so() {
    let (server, ana, bo, group) = pair().await;
    let phone = server.another_device("bo1").await;
    let (here, there) = (begin(&server, &bo).await, begin(&server, &phone).await);
    let sends = async {
        waiting(&server, 2).await;
        ana.send(&server, &group, 1, "to both").await;
    };
    let ((here, cursor), (there, at), ()) =
        tokio::join!(poll(&server, &bo, &here, 60), poll(&server, &phone, &there, 60), sends);
    assert_eq!((&messages(&here)[&group], &messages(&there)[&group]), (&vec![2], &vec![2]));

    let (_, at) = drain(&server, &phone, at).await;
    let revokes = async {
        waiting(&server, 1).await;
        bo.delete(&server, &format!("/api/sessions/{}", phone.device)).await.expect(204);
    };
    let (refused, ()) = tokio::join!(ask(&server, &phone, &at, 60), revokes);
    refused.expect_problem(401, "unauthenticated");
    poll(&server, &bo, &cursor, 0).await;
}

#[tokio::test]
async fn a_drain_ends_the_wait_with_a_cursor_that_goes_on() {
    let (server, ana, bo, group) = pair().await;
    let cursor = begin(&server, &bo).await;
    let drains = async {
        waiting(&server, 1).await;
        server.begin_drain();
    };
    let ((events, next), ()) = tokio::join!(poll(&server, &bo, &cursor, 60), drains);
    assert_eq!(events, Vec::<Value>::new());
    let server = Server::start_on(server.stop().await, |_| {}).await;
    ana.send(&server, &group, 1, "on the next node").await;
    assert_eq!(messages(&drain(&server, &bo, next).await.0)[&group], [2]);
}
