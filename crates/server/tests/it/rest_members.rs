//! Who may do what in a group, who comes and goes, and what they see of it.

use serde_json::{Value, json};

use crate::asking::{field, path, seqs};
use crate::harness::{Answer, Server, User};

/// Ana owns the group; bo is its admin; cleo and dan are members; eva is not in it.
struct Cast {
    server: Server,
    ana: User,
    bo: User,
    cleo: User,
    dan: User,
    eva: User,
    group: String,
}

async fn cast() -> Cast {
    let server = Server::start().await;
    let users =
        futures_util::future::join_all(["ana", "bo1", "cleo", "dan", "eva"].map(|name| server.user(name)))
            .await;
    let [ana, bo, cleo, dan, eva] = <[User; 5]>::try_from(users).unwrap();
    let group = server.group(&ana, &[&bo, &cleo, &dan]).await;
    ana.promote(&server, &group, &bo, "admin").await.expect(200);
    Cast { server, ana, bo, cleo, dan, eva, group }
}

impl Cast {
    async fn change(&self, by: &User, patch: Value) -> Answer {
        by.patch(&self.server, &path(&self.group, ""), patch).await
    }

    async fn role(&self, of: &User) -> Value {
        self.ana.member(&self.server, &self.group, of).await["role"].clone()
    }
}

/// That somebody is told of the conversation what he is told of one that does not exist.
async fn is_gone(server: &Server, convo: &str, for_user: &User) {
    for below in ["", "/messages", "/messages/1/receipts"] {
        for_user.get(server, &path(convo, below)).await.expect_problem(404, "not_found");
    }
    let message = json!({ "clientSeq": 999, "body": "still here?" });
    for_user.try_send(server, convo, message).await.expect_problem(404, "not_found");
    for_user.mark(server, convo, json!({ "readSeq": 1 })).await.expect_problem(404, "not_found");
    let inbox = for_user.get(server, "/api/conversations").await.expect(200);
    assert!(!inbox.text.contains(convo));
}

#[tokio::test]
async fn owners_and_admins_rename_and_set_policies_and_members_do_not() {
    let cast = cast().await;
    for (by, posting, history) in [(&cast.ana, "admins", "all"), (&cast.bo, "all", "since_joined")] {
        cast.change(by, json!({ "title": posting })).await.expect(200);
        cast.change(by, json!({ "about": history })).await.expect(200);
        cast.change(by, json!({ "posting": posting })).await.expect(200);
        let answer = cast.change(by, json!({ "history": history })).await.expect(200);
        let convo = &answer.body["conversation"];
        assert_eq!((&convo["posting"], &convo["history"]), (&json!(posting), &json!(history)));
    }
    let before = cast.cleo.newest(&cast.server, &cast.group).await;
    for patch in [
        json!({ "title": "x" }),
        json!({ "about": "x" }),
        json!({ "posting": "all" }),
        json!({ "history": "all" }),
    ] {
        cast.change(&cast.cleo, patch.clone()).await.expect_problem(403, "forbidden");
        cast.change(&cast.eva, patch).await.expect_problem(404, "not_found");
    }
    assert_eq!(cast.cleo.newest(&cast.server, &cast.group).await, before);
}

#[tokio::test]
async fn owners_and_admins_add_members_and_a_member_who_is_one_already_is_no_entry() {
    let cast = cast().await;
    let (server, group) = (&cast.server, &cast.group);
    cast.cleo.add(server, group, &cast.eva).await.expect_problem(403, "forbidden");
    cast.eva.add(server, group, &cast.eva).await.expect_problem(404, "not_found");
    let added = json!({ "userIds": [cast.cleo.id, cast.eva.id, cast.eva.id] });
    let answer = cast.bo.post(server, &path(group, "/members"), added.clone()).await.expect(200);
    assert_eq!(answer.body["conversation"]["memberCount"], 5);
    let entry = cast.ana.newest(server, group).await;
    assert_eq!((&entry["kind"], &entry["userIds"]), (&json!("member_added"), &json!([cast.eva.id])));
    assert_eq!((&entry["senderId"], cast.role(&cast.eva).await), (&json!(cast.bo.id), json!("member")));

    cast.ana.post(server, &path(group, "/members"), added).await.expect(200);
    assert_eq!(cast.ana.newest(server, group).await, entry);
    for broken in
        [json!({ "userIds": [] }), json!({}), json!({ "userIds": ["eva"] }), json!({ "userIds": "eva" })]
    {
        cast.ana.post(server, &path(group, "/members"), broken).await.expect_problem(400, "invalid");
    }
}

#[tokio::test]
async fn owners_remove_anybody_admins_only_members_and_members_nobody() {
    let cast = cast().await;
    let (server, group) = (&cast.server, &cast.group);
    cast.cleo.remove(server, group, &cast.dan).await.expect_problem(403, "forbidden");
    cast.bo.remove(server, group, &cast.ana).await.expect_problem(403, "forbidden");
    cast.eva.remove(server, group, &cast.dan).await.expect_problem(404, "not_found");
    cast.ana.remove(server, group, &cast.eva).await.expect_problem(404, "not_found");
    cast.ana.promote(server, group, &cast.cleo, "admin").await.expect(200);
    cast.bo.remove(server, group, &cast.cleo).await.expect_problem(403, "forbidden");

    cast.bo.remove(server, group, &cast.dan).await.expect(204);
    let entry = cast.ana.newest(server, group).await;
    assert_eq!((&entry["kind"], &entry["userIds"]), (&json!("member_removed"), &json!([cast.dan.id])));
    assert_eq!(entry["senderId"], cast.bo.id.as_str());
    cast.ana.remove(server, group, &cast.cleo).await.expect(204);
    cast.ana.promote(server, group, &cast.bo, "owner").await.expect(200);
    cast.bo.remove(server, group, &cast.ana).await.expect(204);
    is_gone(server, group, &cast.ana).await;
    assert_eq!(cast.bo.convo(server, group).await["memberCount"], 1);
}

#[tokio::test]
async fn only_owners_give_roles_and_a_change_of_role_is_an_entry() {
    let cast = cast().await;
    let (server, group) = (&cast.server, &cast.group);
    for (by, status, code) in
        [(&cast.bo, 403, "forbidden"), (&cast.cleo, 403, "forbidden"), (&cast.eva, 404, "not_found")]
    {
        by.promote(server, group, &cast.cleo, "admin").await.expect_problem(status, code);
    }
    cast.ana.promote(server, group, &cast.eva, "admin").await.expect_problem(404, "not_found");
    cast.ana.promote(server, group, &cast.cleo, "king").await.expect_problem(400, "invalid");

    let answer = cast.ana.promote(server, group, &cast.cleo, "admin").await.expect(200);
    assert_eq!(field(&answer.body["conversation"]["members"], "role"), ["owner", "admin", "admin", "member"]);
    let entry = cast.dan.newest(server, group).await;
    assert_eq!((&entry["kind"], &entry["role"]), (&json!("role_changed"), &json!("admin")));
    assert_eq!((&entry["userId"], &entry["senderId"]), (&json!(cast.cleo.id), &json!(cast.ana.id)));
    cast.ana.promote(server, group, &cast.cleo, "admin").await.expect(200);
    assert_eq!(cast.dan.newest(server, group).await, entry);
    cast.ana.promote(server, group, &cast.cleo, "member").await.expect(200);
    assert_eq!(cast.role(&cast.cleo).await, "member");
}

#[tokio::test]
async fn the_last_owner_cannot_step_down_and_one_of_several_can() {
    let cast = cast().await;
    let (server, group) = (&cast.server, &cast.group);
    cast.ana.promote(server, group, &cast.ana, "member").await.expect_problem(409, "conflict");
    cast.ana.promote(server, group, &cast.bo, "owner").await.expect(200);
    cast.ana.promote(server, group, &cast.ana, "admin").await.expect(200);
    cast.ana.promote(server, group, &cast.ana, "owner").await.expect_problem(403, "forbidden");
    cast.bo.promote(server, group, &cast.bo, "admin").await.expect_problem(409, "conflict");
    assert_eq!((cast.role(&cast.ana).await, cast.role(&cast.bo).await), (json!("admin"), json!("owner")));
}

#[tokio::test]
async fn of_two_owners_who_step_down_at_once_one_stays() {
    let cast = cast().await;
    let (server, group) = (&cast.server, &cast.group);
    cast.ana.promote(server, group, &cast.bo, "owner").await.expect(200);
    let (one, other) = tokio::join!(
        cast.ana.promote(server, group, &cast.ana, "member"),
        cast.bo.promote(server, group, &cast.bo, "member"),
    );
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
}

#[tokio::test]
async fn when_the_last_owner_leaves_the_longest_standing_admin_follows_and_else_the_longest_standing_member()
{
    let cast = cast().await;
    let (server, group) = (&cast.server, &cast.group);
    cast.ana.remove(server, group, &cast.ana).await.expect(204);
    let entry = cast.bo.newest(server, group).await;
    assert_eq!((&entry["kind"], &entry["senderId"]), (&json!("member_removed"), &json!(cast.ana.id)));
    assert_eq!(entry["userIds"], json!([cast.ana.id]));
    let roles = |seen: Value| field(&seen["members"], "role");
    assert_eq!(roles(cast.cleo.convo(server, group).await), ["owner", "member", "member"]);

    cast.bo.remove(server, group, &cast.bo).await.expect(204);
    assert_eq!(cast.cleo.convo(server, group).await["role"], "owner");
    assert_eq!(roles(cast.dan.convo(server, group).await), ["owner", "member"]);
    let server = Server::start_on(cast.server.stop().await, |_| {}).await;
    cast.cleo.promote(&server, group, &cast.dan, "admin").await.expect(200);
    // The last one goes, too, and nobody has it any more.
    cast.dan.remove(&server, group, &cast.dan).await.expect(204);
    cast.cleo.remove(&server, group, &cast.cleo).await.expect(204);
    is_gone(&server, group, &cast.cleo).await;
}

#[tokio::test]
async fn an_owner_who_leaves_while_there_is_another_leaves_roles_as_they_are() {
    let cast = cast().await;
    let (server, group) = (&cast.server, &cast.group);
    cast.ana.promote(server, group, &cast.dan, "owner").await.expect(200);
    cast.ana.remove(server, group, &cast.ana).await.expect(204);
    let seen = cast.cleo.convo(server, group).await;
    assert_eq!(field(&seen["members"], "role"), ["admin", "member", "owner"]);
}

#[tokio::test]
async fn where_admins_post_members_only_read() {
    let cast = cast().await;
    let (server, group) = (&cast.server, &cast.group);
    cast.cleo.send(server, group, 1, "before").await;
    cast.change(&cast.bo, json!({ "posting": "admins" })).await.expect(200);
    for by in [&cast.ana, &cast.bo] {
        by.send(server, group, 1, "announcement").await;
    }
    let message = json!({ "clientSeq": 2, "body": "no" });
    cast.cleo.try_send(server, group, message.clone()).await.expect_problem(403, "forbidden");
    let retry = json!({ "clientSeq": 1, "body": "before" });
    cast.cleo.try_send(server, group, retry).await.expect(200);
    assert_eq!(cast.cleo.newest(server, group).await["body"], "announcement");
    cast.ana.promote(server, group, &cast.cleo, "admin").await.expect(200);
    cast.cleo.try_send(server, group, message).await.expect(201);
    cast.change(&cast.bo, json!({ "posting": "all" })).await.expect(200);
    cast.dan.send(server, group, 1, "again").await;
}

#[tokio::test]
async fn who_is_added_sees_from_his_own_joining_on_or_everything_as_the_policy_says() {
    let cast = cast().await;
    let (server, group) = (&cast.server, &cast.group);
    let before = cast.cleo.send(server, group, 1, "before").await["seq"].as_u64().unwrap();
    cast.ana.add(server, group, &cast.eva).await.expect(200);
    let joined = before + 1;
    cast.cleo.send(server, group, 2, "after").await;
    let seen = cast.eva.entries(server, group).await;
    assert_eq!(seqs(&json!(seen)), [joined, joined + 1]);
    assert_eq!((&seen[0]["kind"], &seen[1]["body"]), (&json!("member_added"), &json!("after")));
    let convo = cast.eva.convo(server, group).await;
    assert_eq!((&convo["visibleFromSeq"], &convo["readSeq"]), (&json!(joined), &json!(joined)));
    for query in ["after=0", "after=1", "before=999"] {
        assert_eq!(seqs(&cast.eva.history(server, group, query).await["items"]), [joined, joined + 1]);
    }
    let page = cast.eva.history(server, group, &format!("before={joined}")).await;
    assert_eq!(page, json!({ "items": [], "hasMore": false }));
    let receipts = path(group, &format!("/messages/{before}/receipts"));
    cast.eva.get(server, &receipts).await.expect_problem(404, "not_found");
    // A policy is for those who come later.
    cast.change(&cast.ana, json!({ "history": "all" })).await.expect(200);
    assert_eq!(cast.eva.entries(server, group).await.len(), 3);

    cast.ana.remove(server, group, &cast.eva).await.expect(204);
    cast.ana.add(server, group, &cast.eva).await.expect(200);
    let seen = cast.eva.entries(server, group).await;
    assert_eq!(seqs(&json!(seen)), (1..=joined + 4).collect::<Vec<_>>());
    let convo = cast.eva.convo(server, group).await;
    assert_eq!((&convo["visibleFromSeq"], &convo["readSeq"]), (&json!(1), &json!(joined + 4)));
    assert_eq!((&convo["unreadCount"], &convo["lastMessage"]["body"]), (&json!(0), &json!("after")));
}

#[tokio::test]
async fn who_is_removed_finds_nothing_anywhere_and_who_is_added_again_starts_anew() {
    let cast = cast().await;
    let (server, group) = (&cast.server, &cast.group);
    cast.dan.send(server, group, 1, "mine").await;
    cast.dan.patch(server, &path(group, "/settings"), json!({ "pinned": true })).await.expect(200);
    cast.ana.promote(server, group, &cast.dan, "admin").await.expect(200);
    cast.ana.remove(server, group, &cast.dan).await.expect(204);
    is_gone(server, group, &cast.dan).await;
    let retry = json!({ "clientSeq": 1, "body": "mine" });
    cast.dan.try_send(server, group, retry.clone()).await.expect_problem(404, "not_found");
    cast.dan.remove(server, group, &cast.dan).await.expect_problem(404, "not_found");
    cast.ana.remove(server, group, &cast.dan).await.expect_problem(404, "not_found");

    let server = Server::start_on(cast.server.stop().await, |_| {}).await;
    is_gone(&server, group, &cast.dan).await;
    cast.ana.send(&server, group, 1, "without dan").await;
    cast.ana.add(&server, group, &cast.dan).await.expect(200);
    let convo = cast.dan.convo(&server, group).await;
    assert_eq!((&convo["role"], &convo["pinned"]), (&json!("member"), &json!(false)));
    let joined = convo["visibleFromSeq"].as_u64().unwrap();
    for name in ["lastSeq", "deliveredSeq", "readSeq"] {
        assert_eq!(convo[name], joined, "{name}");
    }
    assert_eq!(seqs(&json!(cast.dan.entries(&server, group).await)), [joined]);
    // His number still stands for what he sent before.
    cast.dan.try_send(&server, group, retry).await.expect(200);
    let other = json!({ "clientSeq": 1, "body": "other" });
    cast.dan.try_send(&server, group, other).await.expect_problem(409, "conflict");
    assert_eq!(cast.dan.send(&server, group, 2, "back").await["seq"], joined + 1);
}

#[tokio::test]
async fn nothing_that_follows_an_acked_removal_reaches_the_removed_one() {
    let cast = cast().await;
    let (server, group) = (&cast.server, &cast.group);
    let sending = async {
        for number in 1..=30 {
            cast.cleo.send(server, group, number, "go on").await;
        }
    };
    let removing = async {
        cast.ana.remove(server, group, &cast.dan).await.expect(204);
        for _ in 0..10 {
            is_gone(server, group, &cast.dan).await;
        }
    };
    tokio::join!(sending, removing);
}
