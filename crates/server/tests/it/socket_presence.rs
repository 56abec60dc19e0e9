//! Who is there: told to those who watch and share a conversation, and true within its time to live.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::asking::path;
use crate::harness::{DEADLINE, Server, Socket, User};
use crate::wire::Wire;

/// At once, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Subscribes to users, and takes the answer: one update for each, in any order.
async fn watch(socket: &mut Socket, users: &[&User]) -> Vec<Value> {
    let ids: Vec<&str> = users.iter().map(|user| user.id.as_str()).collect();
    socket.say(json!({ "type": "presence_subscribe", "userIds": ids })).await;
    let mut answers = Vec::new();
    for _ in users {
        answers.push(socket.event("presence_update").await);
    }
    answers.sort_by_key(|answer| ids.iter().position(|id| answer["userId"] == *id).expect("one of them"));
    answers
}

/// The next event says what a user now is.
async fn becomes(socket: &mut Socket, user: &User, status: &str) -> Value {
    let update = socket.event("presence_update").await;
    assert_eq!((&update["userId"], &update["status"]), (&json!(user.id), &json!(status)));
    update
}

async fn set(socket: &mut Socket, status: &str) {
    socket.say(json!({ "type": "presence_set", "status": status })).await;
}

/// A server where a TTL passes quickly.
async fn hasty() -> Server {
    Server::start_with(|config| {
        config.heartbeat = Duration::from_secs(1);
        config.presence_ttl = Duration::from_secs(3);
    })
    .await
}

#[tokio::test]
async fn a_subscription_is_answered_with_the_present_status_of_each() {
    let server = Server::start().await;
    let (ana, bo, cai) = (server.user("ana").await, server.user("bo1").await, server.user("cai").await);
    let dee = server.user("dee").await;
    server.group(&ana, &[&bo, &cai, &dee]).await;
    let _online = server.connect(&bo).await;
    let (mut away, _) = server.connect(&cai).await;
    set(&mut away, "away").await;
    away.so_far().await;
    let (mut watcher, _) = server.connect(&ana).await;
    let answers = watch(&mut watcher, &[&bo, &cai, &dee]).await;
    let statuses: Vec<&Value> = answers.iter().map(|answer| &answer["status"]).collect();
    assert_eq!(statuses, ["online", "away", "offline"]);
    assert!(answers.iter().all(|answer| answer.get("lastSeen").is_none()), "dee was never here: {answers:?}");
    assert!(watcher.so_far().await.is_empty());
    // Asked again, it is told again.
    assert_eq!(watch(&mut watcher, &[&bo]).await[0]["status"], "online");
}

#[tokio::test]
async fn those_who_watch_are_told_online_away_and_offline_at_once() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    server.group(&ana, &[&bo]).await;
    let (mut watcher, _) = server.connect(&ana).await;
    assert_eq!(watch(&mut watcher, &[&bo]).await[0]["status"], "offline");
    for orderly in [true, false] {
        let (mut socket, _) = server.connect(&bo).await;
        assert_eq!(becomes(&mut watcher, &bo, "online").await.get("lastSeen"), None);
        set(&mut socket, "away").await;
        becomes(&mut watcher, &bo, "away").await;
        set(&mut socket, "online").await;
        becomes(&mut watcher, &bo, "online").await;
        if orderly {
            socket.close(1000).await;
        } else {
            drop(socket);
        }
        let update = timeout(AT_ONCE, becomes(&mut watcher, &bo, "offline")).await.expect("at once");
        assert!(update["lastSeen"].is_string(), "{update}");
    }
    assert!(watch(&mut watcher, &[&bo]).await[0]["lastSeen"].is_string());
}

#[tokio::test]
async fn a_user_is_what_the_most_present_of_his_connections_is() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let phone = server.another_device("bo1").await;
    server.group(&ana, &[&bo]).await;
    let (mut watcher, _) = server.connect(&ana).await;
    watch(&mut watcher, &[&bo]).await;
    let (mut laptop, _) = server.connect(&bo).await;
    becomes(&mut watcher, &bo, "online").await;
    let (mut on_phone, _) = server.connect(&phone).await;
    set(&mut laptop, "away").await;
    laptop.so_far().await;
    assert!(watcher.so_far().await.is_empty(), "he is still online on his phone");
    set(&mut on_phone, "away").await;
    becomes(&mut watcher, &bo, "away").await;
    set(&mut laptop, "online").await;
    becomes(&mut watcher, &bo, "online").await;
    laptop.close(1000).await;
    becomes(&mut watcher, &bo, "away").await;
    on_phone.close(1000).await;
    becomes(&mut watcher, &bo, "offline").await;
}

#[tokio::test]
async fn who_vanishes_without_a_word_is_offline_within_the_ttl() {
    let server = hasty().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    server.group(&ana, &[&bo]).await;
    let (mut watcher, _) = server.connect(&ana).await;
    watch(&mut watcher, &[&bo]).await;
    // Its TCP connection stays open, but nobody is there.
    let ghost = Wire::connect(&server, &bo.token).await;
    becomes(&mut watcher, &bo, "online").await;
    let update = timeout(Duration::from_secs(4), becomes(&mut watcher, &bo, "offline")).await;
    assert!(update.expect("within the TTL")["lastSeen"].is_string());
    drop(ghost);
}

#[tokio::test]
async fn the_ttl_is_60_seconds_from_the_last_sign_of_life_and_a_new_sign_brings_one_back() {
    let (server, hand) =
        Server::start_with_hand(|config| config.heartbeat = Duration::from_secs(3_600)).await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    server.group(&ana, &[&bo]).await;
    let (mut watcher, _) = server.connect(&ana).await;
    watch(&mut watcher, &[&bo]).await;
    let (mut socket, _) = server.connect(&bo).await;
    becomes(&mut watcher, &bo, "online").await;
    hand.advance(Duration::from_secs(59));
    assert_eq!(watch(&mut watcher, &[&bo]).await[0]["status"], "online");
    hand.advance(Duration::from_secs(1));
    becomes(&mut watcher, &bo, "offline").await;
    socket.say(json!({ "type": "ping" })).await;
    becomes(&mut watcher, &bo, "online").await;
}

#[tokio::test]
async fn one_who_answers_pings_stays_online_beyond_the_ttl() {
    let server = hasty().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    server.group(&ana, &[&bo]).await;
    let (mut watcher, _) = server.connect(&ana).await;
    watch(&mut watcher, &[&bo]).await;
    let (mut socket, _) = server.connect(&bo).await;
    becomes(&mut watcher, &bo, "online").await;
    let idle = async {
        for _ in 0..4 {
            socket.frame().await; // Its library answers these pings.
        }
    };
    let (told, ()) = tokio::join!(timeout(Duration::from_millis(4_500), watcher.next()), idle);
    assert!(told.is_err(), "{told:?}");
}

#[tokio::test]
async fn only_those_who_share_a_conversation_see_each_other() {
    let server = Server::start().await;
    let (ana, bo, cai) = (server.user("ana").await, server.user("bo1").await, server.user("cai").await);
    server.group(&ana, &[&bo]).await;
    let (stranger, _) = server.connect(&cai).await;
    stranger.close(1000).await;
    let (mut watcher, _) = server.connect(&ana).await;
    let nobody = User { id: "019a0000-0000-7000-8000-000000000000".to_owned(), ..cai.clone() };
    let answers = watch(&mut watcher, &[&cai, &nobody]).await;
    for answer in answers {
        assert_eq!((&answer["status"], answer.get("lastSeen")), (&json!("offline"), None));
    }
    let _stranger = server.connect(&cai).await;
    assert_eq!(watch(&mut watcher, &[&cai]).await[0]["status"], "offline", "although he is online");
    assert!(watcher.so_far().await.is_empty());
    // From when they share one, he may watch.
    server.group(&cai, &[&ana]).await;
    watcher.event("conversation_update").await;
    watcher.event("message").await;
    assert_eq!(watch(&mut watcher, &[&cai]).await[0]["status"], "online");
}

#[tokio::test]
async fn who_shares_no_conversation_any_longer_is_no_longer_told() {
    let server = Server::start().await;
    let (ana, bo, cai) = (server.user("ana").await, server.user("bo1").await, server.user("cai").await);
    let group = server.group(&cai, &[&ana, &bo]).await;
    let (mut watcher, _) = server.connect(&ana).await;
    watch(&mut watcher, &[&bo]).await;
    let (socket, _) = server.connect(&bo).await;
    becomes(&mut watcher, &bo, "online").await;
    socket.close(1000).await;
    becomes(&mut watcher, &bo, "offline").await;
    cai.delete(&server, &path(&group, &format!("/members/{}", bo.id))).await.expect(204);
    watcher.event("message").await;
    let (mut socket, _) = server.connect(&bo).await;
    set(&mut socket, "away").await;
    socket.so_far().await;
    assert!(watcher.so_far().await.is_empty(), "he was removed before he came");
    socket.close(1000).await;
    assert!(watcher.so_far().await.is_empty());
}

#[tokio::test]
async fn a_subscription_ends_when_two_share_no_conversation_and_does_not_come_back_by_itself() {
    let server = Server::start().await;
    let (ana, bo, cai) = (server.user("ana").await, server.user("bo1").await, server.user("cai").await);
    let group = server.group(&cai, &[&ana, &bo]).await;
    let (mut watcher, _) = server.connect(&ana).await;
    let (mut socket, _) = server.connect(&bo).await;
    watch(&mut watcher, &[&bo]).await;
    let mut is_told = async || {
        cai.delete(&server, &path(&group, &format!("/members/{}", bo.id))).await.expect(204);
        set(&mut socket, "away").await;
        socket.so_far().await;
        cai.add(&server, &group, &bo).await.expect(200);
        set(&mut socket, "online").await;
        socket.so_far().await;
        watcher.so_far().await.iter().any(|event| event["type"] == "presence_update")
    };
    let ended = async { while is_told().await {} };
    timeout(DEADLINE, ended).await.expect("he is watched for ever");
    assert_eq!(watch(&mut watcher, &[&bo]).await[0]["status"], "online");
}

#[tokio::test]
async fn who_hides_when_he_was_last_seen_shows_only_that_he_is_gone() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    server.group(&ana, &[&bo]).await;
    let privacy = |audience: &str| json!({ "privacy": { "lastSeen": audience } });
    bo.patch(&server, "/api/users/me", privacy("nobody")).await.expect(200);
    let (mut watcher, _) = server.connect(&ana).await;
    watch(&mut watcher, &[&bo]).await;
    let (socket, _) = server.connect(&bo).await;
    becomes(&mut watcher, &bo, "online").await;
    socket.close(1000).await;
    assert_eq!(becomes(&mut watcher, &bo, "offline").await.get("lastSeen"), None);
    assert_eq!(watch(&mut watcher, &[&bo]).await[0].get("lastSeen"), None);
    bo.patch(&server, "/api/users/me", privacy("everyone")).await.expect(200);
    assert!(watch(&mut watcher, &[&bo]).await[0]["lastSeen"].is_string());
}

#[tokio::test]
async fn who_unsubscribes_is_told_nothing_more() {
    let server = Server::start().await;
    let (ana, bo, cai) = (server.user("ana").await, server.user("bo1").await, server.user("cai").await);
    server.group(&ana, &[&bo, &cai]).await;
    let (mut watcher, _) = server.connect(&ana).await;
    watch(&mut watcher, &[&bo, &cai]).await;
    watcher.say(json!({ "type": "presence_unsubscribe", "userIds": [bo.id] })).await;
    watcher.so_far().await;
    let _bo = server.connect(&bo).await;
    let _cai = server.connect(&cai).await;
    becomes(&mut watcher, &cai, "online").await;
    assert!(watcher.so_far().await.is_empty());
}

#[tokio::test]
async fn nobody_is_told_who_did_not_ask() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    server.group(&ana, &[&bo]).await;
    let (mut socket, _) = server.connect(&ana).await;
    let (other, _) = server.connect(&bo).await;
    other.close(1000).await;
    assert!(socket.so_far().await.is_empty());
}

#[tokio::test]
async fn who_waits_in_a_long_poll_is_online_until_the_ttl_after_it() {
    let server = Server::start_with(|config| config.presence_ttl = Duration::from_secs(2)).await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    server.group(&ana, &[&bo]).await;
    let (mut watcher, _) = server.connect(&ana).await;
    watch(&mut watcher, &[&bo]).await;
    let cursor = bo.get(&server, "/api/events").await.expect(200).body["cursor"].as_str().unwrap().to_owned();
    let waiting = format!("/api/events?cursor={cursor}&wait=4");
    let told = async {
        becomes(&mut watcher, &bo, "online").await;
        let waits = tokio::time::Instant::now();
        becomes(&mut watcher, &bo, "offline").await;
        waits.elapsed()
    };
    let (told, _) = tokio::join!(told, bo.get(&server, &waiting));
    assert!(told > Duration::from_secs(4) && told < Duration::from_secs(8), "{told:?}");
}

#[tokio::test]
async fn when_somebody_was_last_seen_is_known_after_a_restart() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    server.group(&ana, &[&bo]).await;
    let (mut watcher, _) = server.connect(&ana).await;
    watch(&mut watcher, &[&bo]).await;
    let (socket, _) = server.connect(&bo).await;
    becomes(&mut watcher, &bo, "online").await;
    socket.close(1000).await;
    let before = becomes(&mut watcher, &bo, "offline").await;
    drop(watcher);
    let server = Server::start_on(server.stop().await, |_| {}).await;
    let (mut watcher, _) = server.connect(&ana).await;
    assert_eq!(watch(&mut watcher, &[&bo]).await[0], before);
}

#[tokio::test]
async fn one_connection_watches_at_most_a_thousand() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let (mut socket, _) = server.connect(&ana).await;
    let ids: Vec<String> = (0..1_001).map(|n| format!("019a0000-0000-7000-8000-{n:012}")).collect();
    socket.say(json!({ "type": "presence_subscribe", "userIds": ids })).await;
    assert_eq!(socket.event("error").await["code"], "invalid");
    socket.say(json!({ "type": "presence_subscribe", "userIds": &ids[..1_000] })).await;
    for _ in 0..1_000 {
        assert_eq!(socket.event("presence_update").await["status"], "offline");
    }
}
