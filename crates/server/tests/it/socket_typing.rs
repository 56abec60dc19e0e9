//! Typing: to the others in a conversation, while it lasts.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Server, Socket, User};

async fn types(socket: &mut Socket, convo: &str, active: bool) {
    socket.say(json!({ "type": "typing", "convoId": convo, "active": active })).await;
}

fn typing(convo: &str, user: &User, active: bool) -> Value {
    json!({ "type": "typing", "convoId": convo, "userId": user.id, "active": active })
}

#[tokio::test]
async fn it_reaches_the_others_on_all_their_connections_and_not_oneself() {
    let server = Server::start().await;
    let (ana, bo, cai) = (server.user("ana").await, server.user("bo1").await, server.user("cai").await);
    let phone = server.another_device("ana").await;
    let group = server.group(&ana, &[&bo]).await;
    server.group(&ana, &[&cai]).await;
    let ((mut from, _), (mut own, _)) = (server.connect(&ana).await, server.connect(&phone).await);
    let ((mut one, _), (mut two, _)) = (server.connect(&bo).await, server.connect(&bo).await);
    let (mut elsewhere, _) = server.connect(&cai).await;
    for active in [true, false] {
        types(&mut from, &group, active).await;
        for socket in [&mut one, &mut two] {
            assert_eq!(socket.next().await, typing(&group, &ana, active));
        }
    }
    for socket in [&mut from, &mut own, &mut elsewhere] {
        assert!(socket.so_far().await.is_empty());
    }
}

#[tokio::test]
async fn it_ends_by_itself_unless_it_is_said_again() {
    let (server, hand) = Server::start_with_hand(|_| {}).await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let ((mut from, _), (mut to, _)) = (server.connect(&ana).await, server.connect(&bo).await);
    types(&mut from, &group, true).await;
    assert_eq!(to.next().await, typing(&group, &ana, true));
    hand.advance(Duration::from_secs(5));
    types(&mut from, &group, true).await;
    assert_eq!(to.next().await, typing(&group, &ana, true));
    hand.advance(Duration::from_secs(5));
    assert!(
        tokio::time::timeout(Duration::from_millis(1_500), to.next()).await.is_err(),
        "5 s are not too long"
    );
    hand.advance(Duration::from_secs(5));
    assert_eq!(to.next().await, typing(&group, &ana, false));
}

#[tokio::test]
async fn it_ends_with_the_connection() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let (mut to, _) = server.connect(&bo).await;
    for orderly in [true, false] {
        let (mut from, _) = server.connect(&ana).await;
        types(&mut from, &group, true).await;
        assert_eq!(to.next().await, typing(&group, &ana, true));
        if orderly {
            from.close(1000).await;
        } else {
            drop(from);
        }
        assert_eq!(to.next().await, typing(&group, &ana, false));
    }
}

#[tokio::test]
async fn who_begins_elsewhere_ends_here() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let (one, two) = (server.group(&ana, &[&bo]).await, server.group(&ana, &[&bo]).await);
    let ((mut from, _), (mut to, _)) = (server.connect(&ana).await, server.connect(&bo).await);
    types(&mut from, &one, true).await;
    assert_eq!(to.next().await, typing(&one, &ana, true));
    types(&mut from, &two, true).await;
    let both = [to.next().await, to.next().await];
    assert!(
        both.contains(&typing(&one, &ana, false)) && both.contains(&typing(&two, &ana, true)),
        "{both:?}"
    );
}

#[tokio::test]
async fn who_is_no_member_is_told_that_there_is_nothing() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[]).await;
    let ((mut member, _), (mut stranger, _)) = (server.connect(&ana).await, server.connect(&bo).await);
    let nowhere = "019a0000-0000-7000-8000-000000000000";
    let mut details = Vec::new();
    for convo in [group.as_str(), nowhere] {
        types(&mut stranger, convo, true).await;
        let error = stranger.event("error").await;
        assert_eq!((&error["code"], &error["convoId"]), (&json!("not_found"), &json!(convo)));
        details.push(error["detail"].clone());
    }
    assert_eq!(details[0], details[1]);
    assert!(member.so_far().await.is_empty());
}

#[tokio::test]
async fn it_is_not_kept_for_those_who_come_back() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let (socket, ready) = server.connect(&bo).await;
    drop(socket);
    let (mut from, _) = server.connect(&ana).await;
    types(&mut from, &group, true).await;
    from.so_far().await;
    let (mut again, _) = server.resume(&ready["resumeToken"], &ready["position"]).await;
    assert!(again.so_far().await.is_empty());
}
