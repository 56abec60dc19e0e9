//! Conversations by REST: direct ones, groups, the inbox, settings.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::asking::{field, path};
use crate::harness::{Server, User};

const CONVERSATIONS: &str = "/api/conversations";
const NOBODY: &str = "0198f3a2-7c4e-7b1a-9d3e-5f6a7b8c9d0e";

/// All pages of an inbox.
async fn inbox(server: &Server, user: &User, limit: usize) -> Vec<Value> {
    let mut items: Vec<Value> = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = user.get(server, &format!("{CONVERSATIONS}?limit={limit}{cursor}")).await.expect(200).body;
        let page_items = page["items"].as_array().unwrap();
        items.extend(page_items.iter().cloned());
        let Some(next) = page["nextCursor"].as_str() else { return items };
        assert_eq!(page_items.len(), limit, "a page is full while there is another");
        cursor = format!("&cursor={next}");
    }
}

#[tokio::test]
async fn a_direct_conversation_is_created_once_however_many_ask_for_it_at_once() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let from_both = (0..20).map(|n| match n % 2 {
        0 => ana.ask_direct(&server, &bo),
        _ => bo.ask_direct(&server, &ana),
    });
    let answers = join_all(from_both).await;
    let created = answers.iter().filter(|answer| answer.status == 201).count();
    let found = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((created, found), (1, 19));
    let id = &answers[0].body["conversation"]["id"];
    assert!(answers.iter().all(|answer| answer.body["conversation"]["id"] == *id));

    let server = Server::start_on(server.stop().await, |_| {}).await;
    let again = bo.ask_direct(&server, &ana).await.expect(200);
    assert_eq!((&again.body["conversation"]["id"], &again.body["conversation"]["lastSeq"]), (id, &json!(1)));
    assert_eq!(ana.entries(&server, id.as_str().unwrap()).await.len(), 1);
}

#[tokio::test]
async fn both_see_a_direct_conversation_with_both_in_it() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let convo = ana.direct(&server, &bo).await;
    for user in [&ana, &bo] {
        let seen = user.convo(&server, &convo).await;
        assert_eq!(
            (&seen["type"], &seen["memberCount"], &seen["role"]),
            (&json!("direct"), &json!(2), &json!("member"))
        );
        assert_eq!(field(&seen["members"], "userId"), [json!(ana.id), json!(bo.id)]);
        assert_eq!(seen.get("title"), None);
        let listed = inbox(&server, user, 10).await;
        assert_eq!(field(&listed[0]["members"], "userId"), [json!(ana.id), json!(bo.id)]);
    }
    let created = &bo.entries(&server, &convo).await[0];
    assert_eq!((&created["kind"], &created["seq"]), (&json!("created"), &json!(1)));
    assert_eq!((&created["conversationType"], &created["senderId"]), (&json!("direct"), &json!(ana.id)));
    assert_eq!(bo.send(&server, &convo, 1, "hola").await["seq"], 2);
}

#[tokio::test]
async fn a_direct_conversation_with_oneself_alone_holds_notes() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let notes = ana.direct(&server, &ana).await;
    let again = ana.ask_direct(&server, &ana).await.expect(200);
    assert_eq!(again.body["conversation"]["id"], notes.as_str());
    ana.send(&server, &notes, 1, "milk, eggs").await;
    let seen = ana.convo(&server, &notes).await;
    assert_eq!((&seen["memberCount"], &seen["unreadCount"]), (&json!(1), &json!(0)));
    assert_eq!(field(&seen["members"], "userId"), [json!(ana.id)]);
}

#[tokio::test]
async fn a_direct_conversation_has_one_other_and_neither_title_nor_policies() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let cleo = server.user("cleo").await;
    for broken in [
        json!({ "type": "direct", "members": [bo.id, cleo.id] }),
        json!({ "type": "direct", "members": [bo.id], "title": "us" }),
        json!({ "type": "direct", "members": [bo.id], "history": "all" }),
        json!({ "type": "channel", "members": [bo.id] }),
        json!({ "type": "direct" }),
        json!({ "type": "direct", "members": ["bo1"] }),
    ] {
        ana.post(&server, CONVERSATIONS, broken).await.expect_problem(400, "invalid");
    }
    assert_eq!(inbox(&server, &bo, 10).await, Vec::<Value>::new());
    let named = json!({ "type": "direct", "members": [ana.id, bo.id, bo.id] });
    let convo = ana.post(&server, CONVERSATIONS, named).await.expect(201).body["conversation"]["id"].clone();
    let convo = convo.as_str().unwrap();

    ana.patch(&server, &path(convo, ""), json!({ "title": "us" })).await.expect_problem(403, "forbidden");
    ana.patch(&server, &path(convo, ""), json!({ "posting": "admins" }))
        .await
        .expect_problem(403, "forbidden");
    ana.add(&server, convo, &cleo).await.expect_problem(403, "forbidden");
    ana.promote(&server, convo, &ana, "owner").await.expect_problem(403, "forbidden");
    for user in [&ana, &bo] {
        ana.remove(&server, convo, user).await.expect_problem(403, "forbidden");
    }
    assert_eq!(bo.entries(&server, convo).await.len(), 1);
}

#[tokio::test]
async fn who_is_no_user_cannot_be_a_member() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    for kind in ["direct", "group"] {
        let body = json!({ "type": kind, "members": [NOBODY] });
        ana.post(&server, CONVERSATIONS, body).await.expect_problem(404, "not_found");
    }
    let group = server.group(&ana, &[]).await;
    let body = json!({ "userIds": [bo.id, NOBODY] });
    ana.post(&server, &path(&group, "/members"), body).await.expect_problem(404, "not_found");
    assert_eq!(ana.convo(&server, &group).await["memberCount"], 1);
}

#[tokio::test]
async fn a_block_closes_a_direct_conversation_for_both_and_leaves_it_readable() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let (convo, group) = (ana.direct(&server, &bo).await, server.group(&ana, &[&bo]).await);
    ana.send(&server, &convo, 1, "before").await;
    bo.block(&server, &ana).await;
    for user in [&ana, &bo] {
        user.try_send(&server, &convo, json!({ "clientSeq": 9, "body": "no" }))
            .await
            .expect_problem(403, "forbidden");
        assert_eq!(user.entries(&server, &convo).await[1]["body"], "before");
        user.ask_direct(&server, if user.id == ana.id { &bo } else { &ana }).await.expect(200);
        user.send(&server, &group, 9, "groups go on").await;
    }
    bo.mark(&server, &convo, json!({ "readSeq": 2 })).await.expect(204);
    // A retry of what was taken before is no new send.
    let retry = ana.try_send(&server, &convo, json!({ "clientSeq": 1, "body": "before" })).await.expect(200);
    assert_eq!(retry.body["message"]["seq"], 2);

    ana.block(&server, &bo).await;
    bo.unblock(&server, &ana).await;
    bo.try_send(&server, &convo, json!({ "clientSeq": 9, "body": "no" }))
        .await
        .expect_problem(403, "forbidden");
    let server = Server::start_on(server.stop().await, |_| {}).await;
    bo.try_send(&server, &convo, json!({ "clientSeq": 9, "body": "no" }))
        .await
        .expect_problem(403, "forbidden");
    ana.unblock(&server, &bo).await;
    assert_eq!(bo.send(&server, &convo, 9, "again").await["seq"], 3);
}

#[tokio::test]
async fn a_block_keeps_a_direct_conversation_from_being_started_from_either_side() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    ana.block(&server, &bo).await;
    ana.ask_direct(&server, &bo).await.expect_problem(403, "forbidden");
    bo.ask_direct(&server, &ana).await.expect_problem(403, "forbidden");
    let server = Server::start_on(server.stop().await, |_| {}).await;
    bo.ask_direct(&server, &ana).await.expect_problem(403, "forbidden");
    assert_eq!(inbox(&server, &bo, 10).await, Vec::<Value>::new());
    ana.unblock(&server, &bo).await;
    let convo = bo.direct(&server, &ana).await;
    ana.send(&server, &convo, 1, "hola").await;
}

#[tokio::test]
async fn a_direct_conversation_that_begins_while_one_blocks_the_other_takes_no_sends() {
    let server = Server::start().await;
    for round in 0..8 {
        let (ana, bo) =
            (server.user(&format!("ana{round}")).await, server.user(&format!("bo1{round}")).await);
        let (asked, ()) = tokio::join!(bo.ask_direct(&server, &ana), ana.block(&server, &bo));
        if let Some(convo) = asked.body["conversation"]["id"].as_str() {
            let message = json!({ "clientSeq": 1, "body": "no" });
            bo.try_send(&server, convo, message).await.expect_problem(403, "forbidden");
        }
        bo.ask_direct(&server, &ana).await;
        bo.unblock(&server, &ana).await;
    }
}

#[tokio::test]
async fn a_direct_conversation_that_begins_while_a_block_comes_and_goes_takes_sends() {
    let server = Server::start().await;
    for round in 0..8 {
        let (ana, bo) =
            (server.user(&format!("ana{round}")).await, server.user(&format!("bo1{round}")).await);
        let there_and_back = async {
            ana.block(&server, &bo).await;
            ana.unblock(&server, &bo).await;
        };
        tokio::join!(bo.ask_direct(&server, &ana), there_and_back);
        let convo = bo.ask_direct(&server, &ana).await.body["conversation"]["id"].clone();
        bo.send(&server, convo.as_str().unwrap(), 1, "hola").await;
    }
}

#[tokio::test]
async fn a_group_begins_with_its_creator_as_owner_and_with_what_he_says() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let title = " Tertulia ☕ café\u{301}";
    let body =
        json!({ "type": "group", "title": title, "history": "all", "members": [bo.id, ana.id, bo.id] });
    let answer = ana.post(&server, CONVERSATIONS, body).await.expect(201);
    let convo = &answer.body["conversation"];
    assert_eq!((&convo["title"], &convo["history"]), (&json!(title), &json!("all")));
    assert_eq!(
        (&convo["posting"], &convo["about"], &convo["role"]),
        (&json!("all"), &json!(""), &json!("owner"))
    );
    assert_eq!(field(&convo["members"], "userId"), [json!(ana.id), json!(bo.id)]);
    assert_eq!(field(&convo["members"], "role"), [json!("owner"), json!("member")]);

    let created = bo.entries(&server, convo["id"].as_str().unwrap()).await[0].clone();
    assert_eq!((&created["kind"], &created["seq"]), (&json!("created"), &json!(1)));
    assert_eq!((&created["title"], &created["history"]), (&json!(title), &json!("all")));
    assert_eq!((&created["senderId"], &created["userIds"]), (&json!(ana.id), &json!([ana.id, bo.id])));

    let plain = ana.post(&server, CONVERSATIONS, json!({ "type": "group", "members": [] })).await.expect(201);
    let convo = &plain.body["conversation"];
    assert_eq!((convo.get("title"), &convo["history"]), (None, &json!("since_joined")));
}

#[tokio::test]
async fn a_title_has_1_to_128_characters_and_one_call_names_at_most_1000_members() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let create = async |title: &str| {
        ana.post(&server, CONVERSATIONS, json!({ "type": "group", "members": [], "title": title })).await
    };
    for broken in ["", "  ", "a\nb", &"字".repeat(129)] {
        create(broken).await.expect_problem(400, "invalid");
    }
    create(&"字".repeat(128)).await.expect(201);
    let too_many: Vec<String> = (0..1_001).map(|n| format!("0198f3a2-7c4e-7b1a-9d3e-{n:012x}")).collect();
    let body = json!({ "type": "group", "members": too_many });
    ana.post(&server, CONVERSATIONS, body).await.expect_problem(400, "invalid");
}

#[tokio::test]
async fn the_inbox_is_ordered_by_activity_and_its_pages_lose_and_repeat_none() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    assert_eq!(ana.get(&server, CONVERSATIONS).await.expect(200).body, json!({ "items": [] }));
    let members = [&bo];
    let mut groups = join_all((0..23).map(|_| server.group(&ana, &members))).await;
    for at in [17, 3, 11] {
        bo.send(&server, &groups[at], 1, "news").await;
    }
    let newest = [11, 3, 17].map(|at| groups[at].clone());
    for limit in [1, 5, 23, 200] {
        let items = inbox(&server, &ana, limit).await;
        let ids: Vec<&str> = items.iter().map(|item| item["id"].as_str().unwrap()).collect();
        assert_eq!(ids[..3], newest);
        let times: Vec<&str> = items.iter().map(|item| item["updatedAt"].as_str().unwrap()).collect();
        assert!(times.is_sorted_by(|later, earlier| later >= earlier), "{times:?}");
        let mut ids: Vec<String> = ids.into_iter().map(str::to_owned).collect();
        ids.sort_unstable();
        groups.sort_unstable();
        assert_eq!(ids, groups);
    }
    let default = ana.get(&server, CONVERSATIONS).await.expect(200).body;
    assert_eq!(default["items"].as_array().unwrap().len(), 23);
    assert!(default["items"][0].get("members").is_none());
    for broken in ["limit=0", "limit=201", "limit=-1", "limit=x", "cursor=garbage", "cursor=", "cursor=AAAA"]
    {
        ana.get(&server, &format!("{CONVERSATIONS}?{broken}")).await.expect_problem(400, "invalid");
    }
}

#[tokio::test]
async fn a_cursor_of_another_list_is_none_here() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let (group, _) = (server.group(&ana, &[]).await, server.group(&ana, &[]).await);
    let cursor =
        ana.get(&server, &format!("{CONVERSATIONS}?limit=1")).await.expect(200).body["nextCursor"].clone();
    let members = path(&group, &format!("?membersCursor={}", cursor.as_str().unwrap()));
    ana.get(&server, &members).await.expect_problem(400, "invalid");
}

#[tokio::test]
async fn the_inbox_shows_the_last_message_and_how_many_of_others_are_unread() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let seen = async |user: &User| {
        let item = inbox(&server, user, 10).await.remove(0);
        let convo = user.convo(&server, &group).await;
        for name in ["lastSeq", "lastMessage", "deliveredSeq", "readSeq", "unreadCount"] {
            assert_eq!(item.get(name), convo.get(name));
        }
        let number = |name: &str| item[name].as_u64().unwrap();
        (number("deliveredSeq"), number("readSeq"), number("unreadCount"))
    };
    assert_eq!(inbox(&server, &ana, 10).await[0].get("lastMessage"), None);
    assert_eq!((seen(&ana).await, seen(&bo).await), ((1, 1, 0), (1, 1, 0)));
    for number in 1..=4 {
        ana.send(&server, &group, number, &format!("message {number}")).await;
    }
    assert_eq!((seen(&ana).await, seen(&bo).await), ((5, 5, 0), (1, 1, 4)));
    assert_eq!(inbox(&server, &bo, 10).await[0]["lastMessage"]["body"], "message 4");
    // A change is no message.
    ana.patch(&server, &path(&group, ""), json!({ "title": "renamed" })).await.expect(200);
    assert_eq!((seen(&ana).await, seen(&bo).await), ((5, 5, 0), (1, 1, 4)));
    assert_eq!(inbox(&server, &bo, 10).await[0]["lastSeq"], 6);
    assert_eq!(inbox(&server, &bo, 10).await[0]["lastMessage"]["seq"], 5);

    bo.mark(&server, &group, json!({ "deliveredSeq": 5 })).await.expect(204);
    assert_eq!(seen(&bo).await, (5, 1, 4));
    bo.mark(&server, &group, json!({ "readSeq": 3 })).await.expect(204);
    assert_eq!(seen(&bo).await, (5, 3, 2));
    // Who writes has read.
    bo.send(&server, &group, 1, "answer").await;
    assert_eq!((seen(&ana).await, seen(&bo).await), ((5, 5, 1), (7, 7, 0)));

    let cleo = server.user("cleo").await;
    ana.add(&server, &group, &cleo).await.expect(200);
    assert_eq!(seen(&cleo).await, (8, 8, 0));
    assert_eq!(inbox(&server, &cleo, 10).await[0].get("lastMessage"), None);
    bo.send(&server, &group, 2, "welcome").await;
    assert_eq!((seen(&cleo).await, seen(&ana).await), ((8, 8, 1), (5, 5, 2)));

    let server = Server::start_on(server.stop().await, |_| {}).await;
    let unread = async |user: &User| inbox(&server, user, 10).await[0]["unreadCount"].clone();
    assert_eq!((unread(&ana).await, unread(&bo).await, unread(&cleo).await), (json!(2), json!(0), json!(1)));
}

#[tokio::test]
async fn a_group_is_changed_by_entries_that_hold_what_changed() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let change = async |patch: Value| ana.patch(&server, &path(&group, ""), patch).await;
    let answer = change(json!({ "title": "Neue Runde" })).await.expect(200);
    assert_eq!(answer.body["conversation"]["title"], "Neue Runde");
    let renamed = bo.newest(&server, &group).await;
    assert_eq!(
        (&renamed["kind"], &renamed["title"], &renamed["seq"]),
        (&json!("renamed"), &json!("Neue Runde"), &json!(2))
    );
    assert_eq!(renamed["senderId"], ana.id.as_str());

    let answer = change(json!({ "about": "on Thursdays", "posting": "admins", "history": "since_joined" }))
        .await
        .expect(200);
    assert_eq!(answer.body["conversation"]["posting"], "admins");
    let changed = bo.newest(&server, &group).await;
    assert_eq!((&changed["kind"], &changed["seq"]), (&json!("settings_changed"), &json!(3)));
    assert_eq!(
        (&changed["about"], &changed["posting"], changed.get("history")),
        (&json!("on Thursdays"), &json!("admins"), None)
    );

    // What is so already is no entry.
    change(json!({ "title": "Neue Runde", "about": "on Thursdays", "posting": "admins" })).await.expect(200);
    assert_eq!(bo.newest(&server, &group).await["seq"], 3);
    for broken in [
        json!({}),
        json!({ "title": "" }),
        json!({ "title": "x".repeat(129) }),
        json!({ "about": "x".repeat(1_025) }),
        json!({ "posting": "nobody" }),
        json!({ "history": "some" }),
    ] {
        change(broken).await.expect_problem(400, "invalid");
    }
    change(json!({ "about": "" })).await.expect(200);
    let server = Server::start_on(server.stop().await, |_| {}).await;
    let seen = bo.convo(&server, &group).await;
    assert_eq!(
        (&seen["title"], &seen["about"], &seen["lastSeq"]),
        (&json!("Neue Runde"), &json!(""), &json!(4))
    );
}

#[tokio::test]
async fn settings_of_a_conversation_are_ones_own_and_no_entry() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let set = async |patch: Value| {
        let answer = ana.patch(&server, &path(&group, "/settings"), patch).await.expect(200);
        let convo = &answer.body["conversation"];
        (
            ["muted", "pinned", "archived"].map(|name| convo[name].as_bool().unwrap()),
            convo.get("mutedUntil").cloned(),
        )
    };
    assert_eq!(set(json!({})).await, ([false; 3], None));
    assert_eq!(set(json!({ "pinned": true })).await, ([false, true, false], None));
    assert_eq!(set(json!({ "archived": true, "muted": true })).await, ([true; 3], None));
    let until = json!("2100-01-01T00:00:00.000Z");
    assert_eq!(set(json!({ "muted": false })).await, ([false, true, true], None));
    assert_eq!(set(json!({ "mutedUntil": until })).await, ([true; 3], Some(until.clone())));
    assert_eq!(set(json!({ "pinned": false })).await, ([true, false, true], Some(until.clone())));

    let others = bo.convo(&server, &group).await;
    assert_eq!(
        (&others["muted"], &others["archived"], &others["lastSeq"]),
        (&json!(false), &json!(false), &json!(1))
    );
    ana.patch(&server, &path(&group, "/settings"), json!({ "muted": "yes" }))
        .await
        .expect_problem(400, "invalid");

    let server = Server::start_on(server.stop().await, |_| {}).await;
    let item = inbox(&server, &ana, 10).await.remove(0);
    assert_eq!((&item["muted"], &item["mutedUntil"], &item["pinned"]), (&json!(true), &until, &json!(false)));
}

#[tokio::test]
async fn members_of_a_group_come_in_pages_by_the_time_they_joined() {
    let server = Server::start().await;
    let users = join_all(["ana", "bo1", "cleo", "dan", "eva"].map(|name| server.user(name))).await;
    let group = server.group(&users[0], &[&users[3], &users[1]]).await;
    users[0].add(&server, &group, &users[2]).await.expect(200);
    users[0].add(&server, &group, &users[4]).await.expect(200);
    let expected: Vec<Value> = [0, 3, 1, 2, 4].map(|at: usize| json!(users[at].id)).to_vec();
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let asked = path(&group, &format!("?membersLimit=2{cursor}"));
        let convo = users[4].get(&server, &asked).await.expect(200).body["conversation"].clone();
        found.extend(field(&convo["members"], "userId"));
        let Some(next) = convo["membersNextCursor"].as_str() else { break };
        assert_eq!(convo["members"].as_array().unwrap().len(), 2);
        cursor = format!("&membersCursor={next}");
    }
    assert_eq!(found, expected);
    assert_eq!(field(&users[1].convo(&server, &group).await["members"], "userId"), expected);
    for broken in ["membersLimit=0", "membersLimit=201", "membersCursor=garbage"] {
        users[0].get(&server, &path(&group, &format!("?{broken}"))).await.expect_problem(400, "invalid");
    }
}
