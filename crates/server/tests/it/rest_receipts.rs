//! Watermarks and receipts by REST.

use serde_json::{Value, json};

use crate::asking::{field, path};
use crate::harness::{Server, User};

/// Ana, bo and cleo in a group with messages 2 to 6, all of ana.
async fn trio() -> (Server, User, User, User, String) {
    let server = Server::start().await;
    let (ana, bo, cleo) = (server.user("ana").await, server.user("bo1").await, server.user("cleo").await);
    let group = server.group(&ana, &[&bo, &cleo]).await;
    for number in 1..=5 {
        ana.send(&server, &group, number, "word").await;
    }
    (server, ana, bo, cleo, group)
}

async fn receipts(server: &Server, user: &User, group: &str, seq: u64) -> Value {
    let answer = user.get(server, &path(group, &format!("/messages/{seq}/receipts"))).await.expect(200);
    answer.body["items"].clone()
}

async fn watermarks(server: &Server, user: &User, group: &str) -> (u64, u64) {
    let convo = user.convo(server, group).await;
    (convo["deliveredSeq"].as_u64().unwrap(), convo["readSeq"].as_u64().unwrap())
}

#[tokio::test]
async fn watermarks_only_move_forward_and_reading_carries_delivery_along() {
    let (server, ana, bo, _, group) = trio().await;
    for (mark, after) in [
        (json!({ "deliveredSeq": 3 }), (3, 1)),
        (json!({ "deliveredSeq": 2 }), (3, 1)),
        (json!({ "deliveredSeq": 0, "readSeq": 0 }), (3, 1)),
        (json!({ "readSeq": 2 }), (3, 2)),
        (json!({ "readSeq": 4 }), (4, 4)),
        (json!({ "readSeq": 1, "deliveredSeq": 5 }), (5, 4)),
        (json!({ "readSeq": 6, "deliveredSeq": 2 }), (6, 6)),
        (json!({ "readSeq": 1 }), (6, 6)),
    ] {
        bo.mark(&server, &group, mark.clone()).await.expect(204);
        assert_eq!(watermarks(&server, &bo, &group).await, after, "{mark}");
        let seen = ana.member(&server, &group, &bo).await;
        assert_eq!((&seen["deliveredSeq"], &seen["readSeq"]), (&json!(after.0), &json!(after.1)), "{mark}");
    }
    assert_eq!(bo.newest(&server, &group).await["seq"], 6);
    let server = Server::start_on(server.stop().await, |_| {}).await;
    assert_eq!(watermarks(&server, &bo, &group).await, (6, 6));
}

#[tokio::test]
async fn a_mark_beyond_the_newest_entry_is_invalid_and_moves_nothing() {
    let (server, _, bo, _, group) = trio().await;
    for broken in [
        json!({ "deliveredSeq": 7 }),
        json!({ "readSeq": 7 }),
        json!({ "deliveredSeq": 5, "readSeq": 7 }),
        json!({ "deliveredSeq": 9_007_199_254_740_992_u64 }),
        json!({ "deliveredSeq": u64::MAX }),
        json!({ "deliveredSeq": -1 }),
        json!({ "deliveredSeq": "3" }),
        json!({ "readSeq": 1.5 }),
        json!({}),
    ] {
        bo.mark(&server, &group, broken).await.expect_problem(400, "invalid");
    }
    assert_eq!(watermarks(&server, &bo, &group).await, (1, 1));
}

#[tokio::test]
async fn sending_moves_ones_own_watermarks_and_no_others() {
    let (server, ana, bo, cleo, group) = trio().await;
    assert_eq!(watermarks(&server, &ana, &group).await, (6, 6));
    bo.send(&server, &group, 1, "answer").await;
    assert_eq!(watermarks(&server, &bo, &group).await, (7, 7));
    assert_eq!(watermarks(&server, &ana, &group).await, (6, 6));
    assert_eq!(watermarks(&server, &cleo, &group).await, (1, 1));
    // A change is not a send.
    ana.patch(&server, &path(&group, ""), json!({ "title": "renamed" })).await.expect(200);
    assert_eq!(watermarks(&server, &ana, &group).await, (6, 6));
}

#[tokio::test]
async fn receipts_tell_when_each_member_received_and_saw_a_message() {
    let (server, ana, bo, cleo, group) = trio().await;
    let nothing = json!([{ "userId": bo.id }, { "userId": cleo.id }]);
    assert_eq!(receipts(&server, &ana, &group, 4).await, nothing);

    bo.mark(&server, &group, json!({ "deliveredSeq": 4 })).await.expect(204);
    cleo.mark(&server, &group, json!({ "readSeq": 3 })).await.expect(204);
    let four = receipts(&server, &ana, &group, 4).await;
    let delivered = four[0]["deliveredAt"].as_str().unwrap();
    assert_eq!(four, json!([{ "userId": bo.id, "deliveredAt": delivered }, { "userId": cleo.id }]));
    assert!(delivered >= ana.newest(&server, &group).await["ts"].as_str().unwrap());
    let three = receipts(&server, &bo, &group, 3).await;
    assert_eq!(
        (&three[1]["deliveredAt"], &three[0]["deliveredAt"]),
        (&three[1]["seenAt"], &json!(delivered))
    );
    assert!(three[1]["seenAt"].is_string() && three[0].get("seenAt").is_none());

    bo.mark(&server, &group, json!({ "readSeq": 6 })).await.expect(204);
    let four = receipts(&server, &cleo, &group, 4).await;
    assert_eq!(four[0]["deliveredAt"], delivered, "a moment that has passed stays as it was");
    assert!(four[0]["seenAt"].as_str().unwrap() >= delivered);
    let kept = [receipts(&server, &ana, &group, 3).await, four];
    let server = Server::start_on(server.stop().await, |_| {}).await;
    assert_eq!([receipts(&server, &bo, &group, 3).await, receipts(&server, &ana, &group, 4).await], kept);
}

#[tokio::test]
async fn receipts_come_in_pages() {
    let (server, ana, bo, cleo, group) = trio().await;
    let dan = server.user("dan").await;
    ana.add(&server, &group, &dan).await.expect(200);
    let seq = ana.send(&server, &group, 6, "to all").await["seq"].as_u64().unwrap();
    let page = async |query: &str| {
        ana.get(&server, &path(&group, &format!("/messages/{seq}/receipts{query}"))).await
    };
    let whole = page("").await.expect(200).body;
    assert_eq!(field(&whole["items"], "userId"), [json!(bo.id), json!(cleo.id), json!(dan.id)]);
    assert_eq!(whole.get("nextCursor"), None);
    let first = page("?limit=2").await.expect(200).body;
    assert_eq!(field(&first["items"], "userId"), [json!(bo.id), json!(cleo.id)]);
    let cursor = first["nextCursor"].as_str().unwrap();
    let rest = page(&format!("?limit=2&cursor={cursor}")).await.expect(200).body;
    assert_eq!((field(&rest["items"], "userId"), rest.get("nextCursor")), (vec![json!(dan.id)], None));
    for broken in ["?limit=0", "?limit=201", "?limit=x", "?cursor=x"] {
        page(broken).await.expect_problem(400, "invalid");
    }
}

#[tokio::test]
async fn who_answers_has_received_and_seen_what_was_before() {
    let (server, ana, bo, cleo, group) = trio().await;
    let answer = bo.send(&server, &group, 1, "answer").await;
    let four = receipts(&server, &ana, &group, 4).await;
    assert_eq!(field(&four, "userId"), [json!(bo.id), json!(cleo.id)]);
    assert_eq!((&four[0]["deliveredAt"], &four[0]["seenAt"]), (&answer["ts"], &answer["ts"]));
    let seven = receipts(&server, &bo, &group, 7).await;
    assert_eq!(seven, json!([{ "userId": ana.id }, { "userId": cleo.id }]));
}

#[tokio::test]
async fn receipts_are_of_messages_that_one_may_see() {
    let (server, ana, bo, _, group) = trio().await;
    let dan = server.user("dan").await;
    for nothing in ["1", "7", "0", "-1", "x", "18446744073709551615", "99999999999999999999"] {
        let asked = path(&group, &format!("/messages/{nothing}/receipts"));
        ana.get(&server, &asked).await.expect_problem(404, "not_found");
    }
    dan.get(&server, &path(&group, "/messages/4/receipts")).await.expect_problem(404, "not_found");
    ana.add(&server, &group, &dan).await.expect(200);
    dan.get(&server, &path(&group, "/messages/4/receipts")).await.expect_problem(404, "not_found");
    // Who came later, and may not look back, has nothing to say of what was before.
    assert_eq!(receipts(&server, &bo, &group, 4).await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn who_hides_his_read_receipts_shows_none_and_sees_none_and_delivery_stays() {
    let (server, ana, bo, cleo, group) = trio().await;
    for user in [&ana, &bo, &cleo] {
        user.mark(&server, &group, json!({ "readSeq": 6 })).await.expect(204);
    }
    bo.change(&server, json!({ "privacy": { "readReceipts": "nobody" } })).await;
    // (who looks, at whom, whether he sees what was read)
    let check = async |server: &Server, table: [(&User, &User, bool); 6]| {
        for (looks, at, sees) in table {
            let member = looks.member(server, &group, at).await;
            assert_eq!((member.get("readSeq").is_some(), &member["deliveredSeq"]), (sees, &json!(6)));
            if at.id != ana.id {
                let receipts = receipts(server, looks, &group, 4).await;
                let receipt =
                    receipts.as_array().unwrap().iter().find(|receipt| receipt["userId"] == at.id.as_str());
                let receipt = receipt.unwrap();
                assert_eq!(
                    (receipt.get("seenAt").is_some(), receipt["deliveredAt"].is_string()),
                    (sees, true)
                );
            }
        }
    };
    let hidden = [
        (&ana, &bo, false),
        (&cleo, &bo, false),
        (&bo, &ana, false),
        (&bo, &cleo, false),
        (&bo, &bo, true),
        (&ana, &cleo, true),
    ];
    check(&server, hidden).await;
    let server = Server::start_on(server.stop().await, |_| {}).await;
    check(&server, hidden).await;
    assert_eq!(watermarks(&server, &bo, &group).await, (6, 6));
    bo.change(&server, json!({ "privacy": { "readReceipts": "everyone" } })).await;
    check(&server, hidden.map(|(looks, at, _)| (looks, at, true))).await;
}

#[tokio::test]
async fn hidden_read_receipts_are_hidden_wherever_a_direct_conversation_is_shown() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let convo = ana.direct(&server, &bo).await;
    ana.send(&server, &convo, 1, "seen?").await;
    bo.change(&server, json!({ "privacy": { "readReceipts": "nobody" } })).await;
    bo.mark(&server, &convo, json!({ "readSeq": 2 })).await.expect(204);
    let hides = |members: &Value, other: &User| {
        let members = members.as_array().unwrap();
        let of = |user: &str| members.iter().find(|member| member["userId"] == user).unwrap();
        assert_eq!((of(&other.id).get("readSeq"), &of(&other.id)["deliveredSeq"]), (None, &json!(2)));
    };
    for (looks, other) in [(&ana, &bo), (&bo, &ana)] {
        let inbox = looks.get(&server, "/api/conversations").await.expect(200);
        hides(&inbox.body["items"][0]["members"], other);
        let again = looks.ask_direct(&server, other).await.expect(200);
        hides(&again.body["conversation"]["members"], other);
        let settings =
            looks.patch(&server, &path(&convo, "/settings"), json!({ "pinned": true })).await.expect(200);
        hides(&settings.body["conversation"]["members"], other);
    }
}
