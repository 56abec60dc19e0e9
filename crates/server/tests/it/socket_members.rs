//! What a socket is told of conversations: created, joined, left, renamed, settings changed.

use serde_json::{Value, json};

use crate::asking::path;
use crate::harness::{Server, Socket};

/// The next event is news of a conversation: it.
async fn news(socket: &mut Socket) -> Value {
    socket.event("conversation_update").await["conversation"].clone()
}

/// The next event is an entry of this kind.
async fn entry(socket: &mut Socket, kind: &str) -> Value {
    let entry = socket.event("message").await;
    assert_eq!(entry["kind"], kind, "{entry}");
    entry
}

#[tokio::test]
async fn a_new_conversation_is_told_whole_and_then_its_first_entry() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let ((mut own, _), (mut other, _)) = (server.connect(&ana).await, server.connect(&bo).await);
    let group = server.group(&ana, &[&bo]).await;
    for (socket, role) in [(&mut own, "owner"), (&mut other, "member")] {
        let told = news(socket).await;
        assert_eq!((&told["id"], &told["type"]), (&json!(group), &json!("group")));
        assert_eq!((&told["title"], &told["role"]), (&json!("Tertulia"), &json!(role)));
        assert_eq!(
            (&told["lastSeq"], &told["memberCount"], &told["unreadCount"]),
            (&json!(1), &json!(2), &json!(0))
        );
        let created = entry(socket, "created").await;
        assert_eq!((&created["seq"], &created["senderId"]), (&json!(1), &json!(ana.id)));
        assert_eq!((&created["conversationType"], &created["title"]), (&json!("group"), &json!("Tertulia")));
        assert_eq!(created["userIds"], json!([ana.id, bo.id]));
        assert!(socket.so_far().await.is_empty());
    }
    let direct = ana.direct(&server, &bo).await;
    for socket in [&mut own, &mut other] {
        assert_eq!(news(socket).await["id"], json!(direct));
        assert_eq!(entry(socket, "created").await["conversationType"], "direct");
        assert!(socket.so_far().await.is_empty());
    }
}

#[tokio::test]
async fn who_is_added_is_told_the_conversation_and_sees_his_own_member_added_first() {
    let server = Server::start().await;
    let (ana, bo, cai) = (server.user("ana").await, server.user("bo1").await, server.user("cai").await);
    let group = server.group(&ana, &[&bo]).await;
    ana.send(&server, &group, 1, "before").await;
    let ((mut old, _), (mut new, _)) = (server.connect(&bo).await, server.connect(&cai).await);
    ana.post(&server, &path(&group, "/members"), json!({ "userIds": [cai.id] })).await.expect(200);
    ana.send(&server, &group, 2, "after").await;

    let told = news(&mut new).await;
    assert_eq!(
        (&told["id"], &told["title"], &told["memberCount"]),
        (&json!(group), &json!("Tertulia"), &json!(3))
    );
    assert_eq!(told["visibleFromSeq"], 3);
    for socket in [&mut new, &mut old] {
        let added = entry(socket, "member_added").await;
        assert_eq!((&added["seq"], &added["userIds"]), (&json!(3), &json!([cai.id])));
        assert_eq!(entry(socket, "text").await["body"], "after");
        assert!(socket.so_far().await.is_empty());
    }
}

#[tokio::test]
async fn who_is_removed_sees_his_own_removal_last_and_is_told_that_he_left() {
    let server = Server::start().await;
    let (ana, bo, cai) = (server.user("ana").await, server.user("bo1").await, server.user("cai").await);
    let group = server.group(&ana, &[&bo, &cai]).await;
    let ((mut gone, _), (mut stays, _)) = (server.connect(&bo).await, server.connect(&cai).await);
    let (mut his_other, _) = server.connect(&bo).await;
    ana.send(&server, &group, 1, "before").await;
    ana.delete(&server, &path(&group, &format!("/members/{}", bo.id))).await.expect(204);
    ana.send(&server, &group, 2, "after").await;
    assert_eq!(entry(&mut stays, "text").await["seq"], 2);
    assert_eq!(entry(&mut stays, "member_removed").await["seq"], 3);
    assert_eq!(entry(&mut stays, "text").await["body"], "after");
    for socket in [&mut gone, &mut his_other] {
        assert_eq!(entry(socket, "text").await["seq"], 2);
        let removed = entry(socket, "member_removed").await;
        assert_eq!((&removed["senderId"], &removed["userIds"]), (&json!(ana.id), &json!([bo.id])));
        assert_eq!(news(socket).await, json!({ "id": group, "left": true }));
        assert!(socket.so_far().await.is_empty(), "nothing sequenced after it");
    }
    for event in [
        json!({ "type": "send_message", "convoId": group, "clientSeq": 1, "body": "x" }),
        json!({ "type": "mark", "convoId": group, "readSeq": 1 }),
        json!({ "type": "typing", "convoId": group, "active": true }),
    ] {
        gone.say(event).await;
        let error = gone.event("error").await;
        assert_eq!((&error["code"], &error["convoId"]), (&json!("not_found"), &json!(group)));
    }
}

#[tokio::test]
async fn who_leaves_and_is_added_again_starts_anew() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let (mut socket, _) = server.connect(&bo).await;
    bo.delete(&server, &path(&group, &format!("/members/{}", bo.id))).await.expect(204);
    ana.send(&server, &group, 1, "not for him").await;
    ana.post(&server, &path(&group, "/members"), json!({ "userIds": [bo.id] })).await.expect(200);
    ana.send(&server, &group, 2, "for him").await;
    assert_eq!(entry(&mut socket, "member_removed").await["senderId"], json!(bo.id));
    assert_eq!(news(&mut socket).await["left"], true);
    let told = news(&mut socket).await;
    assert_eq!((&told["visibleFromSeq"], &told["readSeq"]), (&json!(4), &json!(4)));
    assert_eq!(entry(&mut socket, "member_added").await["seq"], 4);
    assert_eq!(entry(&mut socket, "text").await["seq"], 5);
}

#[tokio::test]
async fn whoever_is_removed_again_and_again_never_sees_what_was_said_meanwhile() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let (mut socket, _) = server.connect(&bo).await;
    for round in 0..10 {
        ana.delete(&server, &path(&group, &format!("/members/{}", bo.id))).await.expect(204);
        ana.send(&server, &group, 2 * round + 1, "secret").await;
        ana.post(&server, &path(&group, "/members"), json!({ "userIds": [bo.id] })).await.expect(200);
        ana.send(&server, &group, 2 * round + 2, "public").await;
    }
    let (mut public, mut left) = (0, 0);
    while public < 10 {
        let event = socket.next().await;
        assert_ne!(event["body"], "secret", "{event}");
        public += u64::from(event["body"] == "public");
        left += u64::from(event["conversation"]["left"] == true);
    }
    assert_eq!(left, 10);
}

#[tokio::test]
async fn a_new_title_and_new_policies_are_told_to_all_behind_their_entry() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let ((mut own, _), (mut other, _)) = (server.connect(&ana).await, server.connect(&bo).await);
    ana.patch(&server, &path(&group, ""), json!({ "title": "Sobremesa" })).await.expect(200);
    for socket in [&mut own, &mut other] {
        assert_eq!(entry(socket, "renamed").await["title"], "Sobremesa");
        let told = news(socket).await;
        assert_eq!(
            (&told["id"], &told["title"], &told["posting"]),
            (&json!(group), &json!("Sobremesa"), &json!("all"))
        );
    }
    ana.patch(&server, &path(&group, ""), json!({ "about": "After lunch", "posting": "admins" }))
        .await
        .expect(200);
    for socket in [&mut own, &mut other] {
        let changed = entry(socket, "settings_changed").await;
        assert_eq!((&changed["about"], &changed["posting"]), (&json!("After lunch"), &json!("admins")));
        let told = news(socket).await;
        assert_eq!((&told["about"], &told["posting"]), (&json!("After lunch"), &json!("admins")));
        assert!(socket.so_far().await.is_empty());
    }
}

#[tokio::test]
async fn a_new_role_is_an_entry_for_all() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let (mut socket, _) = server.connect(&bo).await;
    ana.patch(&server, &path(&group, &format!("/members/{}", bo.id)), json!({ "role": "admin" }))
        .await
        .expect(200);
    let changed = entry(&mut socket, "role_changed").await;
    assert_eq!((&changed["userId"], &changed["role"]), (&json!(bo.id), &json!("admin")));
}

#[tokio::test]
async fn ones_own_settings_are_told_to_ones_own_connections_only() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let phone = server.another_device("ana").await;
    let group = server.group(&ana, &[&bo]).await;
    let ((mut own, _), (mut on_phone, _)) = (server.connect(&ana).await, server.connect(&phone).await);
    let (mut other, _) = server.connect(&bo).await;
    ana.patch(&server, &path(&group, "/settings"), json!({ "muted": true, "pinned": true }))
        .await
        .expect(200);
    for socket in [&mut own, &mut on_phone] {
        let told = news(socket).await;
        assert_eq!(
            (&told["id"], &told["muted"], &told["pinned"]),
            (&json!(group), &json!(true), &json!(true))
        );
        assert_eq!(told["archived"], false);
    }
    assert!(other.so_far().await.is_empty());
}
