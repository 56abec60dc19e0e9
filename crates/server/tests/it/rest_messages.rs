//! Sending by REST: what a body may be, and that a retry is never a second message.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::asking::{path, seqs};
use crate::harness::{Answer, Server, User};
use reqwest::Method;

const CLIENT_SEQ_MAX: u64 = 9_007_199_254_740_991;

async fn pair() -> (Server, User, User, String) {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    (server, ana, bo, group)
}

/// Sends a body that is JSON already.
async fn send_json(server: &Server, user: &User, convo: &str, json: String) -> Answer {
    let token = format!("Bearer {}", user.token);
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    server.call_raw(Method::POST, &path(convo, "/messages"), &headers, json).await
}

#[tokio::test]
async fn a_message_has_what_the_contract_says_and_nothing_else() {
    let (server, ana, bo, group) = pair().await;
    let sent = ana.send(&server, &group, 7, "hola").await;
    assert_eq!(
        sent,
        json!({
            "convoId": group, "seq": 2, "senderId": ana.id, "clientSeq": 7, "ts": sent["ts"], "kind": "text", "body": "hola",
        })
    );
    assert_eq!(bo.newest(&server, &group).await, sent);
    let reply =
        bo.try_send(&server, &group, json!({ "clientSeq": 1, "body": "re", "replyTo": 2 })).await.expect(201);
    assert_eq!((&reply.body["message"]["seq"], &reply.body["message"]["replyTo"]), (&json!(3), &json!(2)));
    assert_eq!(ana.newest(&server, &group).await, reply.body["message"]);
}

#[tokio::test]
async fn bodies_are_kept_byte_for_byte() {
    let (server, ana, bo, group) = pair().await;
    let bodies = [
        "  leading and trailing  ".to_owned(),
        "\n\ttabs\r\nand lines\n".to_owned(),
        "👩🏽‍💻🇪🇸👨‍👩‍👧‍👦".to_owned(),
        "cafe\u{301} is not caf\u{e9}".to_owned(),
        "\u{1e9b}\u{323} \u{fb01} \u{212b}".to_owned(),
        "\u{feff}byte order\u{202e}mark\u{200b}".to_owned(),
        "שלום עולם \u{200f}مرحبا".to_owned(),
        "\u{1}\u{7f}\u{85}\u{2028}".to_owned(),
        "\u{10ffff}\u{fffd}\u{fdd0}".to_owned(),
        r#"{"type":"message"} \u0041 \" </script>"#.to_owned(),
        "x".to_owned(),
        "字".repeat(21_845),
    ];
    for (number, body) in (1..).zip(&bodies) {
        assert_eq!(ana.send(&server, &group, number, body).await["body"], **body);
    }
    let server = Server::start_on(server.stop().await, |_| {}).await;
    let read: Vec<Value> =
        bo.entries(&server, &group).await[1..].iter().map(|entry| entry["body"].clone()).collect();
    assert_eq!(read, bodies);
}

#[tokio::test]
async fn a_body_has_at_most_65536_bytes_however_it_is_written() {
    let (server, ana, bo, group) = pair().await;
    for (number, full) in (1..).zip(["a".repeat(65_536), "😀".repeat(16_384)]) {
        ana.send(&server, &group, number, &full).await;
        assert_eq!(bo.newest(&server, &group).await["body"], full);
    }
    let escaped = |bytes: usize| format!(r#"{{"clientSeq":9,"body":"{}"}}"#, r"\u0041".repeat(bytes));
    send_json(&server, &ana, &group, escaped(65_536)).await.expect(201);
    assert_eq!(bo.newest(&server, &group).await["body"], "A".repeat(65_536));
    for larger in ["a".repeat(65_537), "é".repeat(32_769), "a".repeat(200_000)] {
        let message = json!({ "clientSeq": 10, "body": larger });
        ana.try_send(&server, &group, message).await.expect_problem(413, "too_large");
    }
    assert_eq!(ana.send(&server, &group, 10, "the number is still free").await["seq"], 5);
}

#[tokio::test]
async fn a_body_that_is_blank_or_holds_nul_is_invalid() {
    let (server, ana, _, group) = pair().await;
    for body in ["", " ", "\n\t ", "\u{3000}\u{a0}", "\0", "a\0b"] {
        let message = json!({ "clientSeq": 1, "body": body });
        ana.try_send(&server, &group, message).await.expect_problem(400, "invalid");
    }
    for broken in [
        json!({ "clientSeq": 1 }),
        json!({ "body": "a" }),
        json!({ "clientSeq": 1, "body": null }),
        json!({ "clientSeq": 1, "body": 7 }),
        json!({ "clientSeq": 1, "body": ["a"] }),
        json!({ "clientSeq": 1, "body": "a", "replyTo": "2" }),
        json!({ "clientSeq": 1, "body": "a", "mediaIds": "x" }),
    ] {
        ana.try_send(&server, &group, broken).await.expect_problem(400, "invalid");
    }
    for broken in [r#"{"clientSeq":1,"body":"\ud800"}"#, r#"{"clientSeq":1,"body":"a"#] {
        send_json(&server, &ana, &group, broken.to_owned()).await.expect_problem(400, "invalid");
    }
    assert_eq!(ana.entries(&server, &group).await.len(), 1);
}

#[tokio::test]
async fn client_seqs_are_integers_from_1_to_2_to_the_53_minus_1_in_any_order() {
    let (server, ana, _, group) = pair().await;
    for number in
        ["0", "-1", "9007199254740992", "18446744073709551615", "1e30", "1.5", "\"1\"", "null", "true"]
    {
        let json = format!(r#"{{"clientSeq":{number},"body":"a"}}"#);
        send_json(&server, &ana, &group, json).await.expect_problem(400, "invalid");
    }
    for (seq, number) in (2..).zip([CLIENT_SEQ_MAX, 1, 500, 2, CLIENT_SEQ_MAX - 1]) {
        assert_eq!(ana.send(&server, &group, number, &format!("number {number}")).await["seq"], seq);
    }
}

#[tokio::test]
async fn a_retry_gets_the_same_message_and_another_content_is_a_conflict() {
    let (server, ana, bo, group) = pair().await;
    let other = server.group(&ana, &[&bo]).await;
    let message = json!({ "clientSeq": 5, "body": " a retry ", "replyTo": 1 });
    let first = ana.try_send(&server, &group, message.clone()).await.expect(201).body;
    ana.send(&server, &group, 6, "something between").await;
    let check = async |server: &Server| {
        for _ in 0..2 {
            assert_eq!(ana.try_send(server, &group, message.clone()).await.expect(200).body, first);
        }
        for changed in [
            json!({ "clientSeq": 5, "body": "a retry", "replyTo": 1 }),
            json!({ "clientSeq": 5, "body": " a retry " }),
            json!({ "clientSeq": 5, "body": " a retry ", "replyTo": 2 }),
        ] {
            ana.try_send(server, &group, changed).await.expect_problem(409, "conflict");
        }
        assert_eq!(bo.entries(server, &group).await.len(), 3);
    };
    check(&server).await;
    let server = Server::start_on(server.stop().await, |_| {}).await;
    check(&server).await;
    // The number is the device's own, in each conversation.
    bo.send(&server, &group, 5, "of another device").await;
    ana.send(&server, &other, 5, "in another conversation").await;
    let phone = server.another_device("ana").await;
    phone.send(&server, &group, 5, "of another device of hers").await;
}

#[tokio::test]
async fn concurrent_retries_give_one_entry() {
    let (server, ana, bo, group) = pair().await;
    for number in 1..=5_u64 {
        let message = json!({ "clientSeq": number, "body": "again and again" });
        let answers = join_all((0..20).map(|_| ana.try_send(&server, &group, message.clone()))).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 19);
        assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    }
    assert_eq!(seqs(&json!(bo.entries(&server, &group).await)), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn of_concurrent_sends_with_one_number_and_different_contents_one_is_taken() {
    let (server, ana, bo, group) = pair().await;
    let bodies: Vec<String> = (0..10).map(|n| format!("content {n}")).collect();
    let sends =
        bodies.iter().map(|body| ana.try_send(&server, &group, json!({ "clientSeq": 1, "body": body })));
    let answers = join_all(sends).await;
    let (taken, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!(taken.len(), 1);
    for answer in refused {
        answer.expect_problem(409, "conflict");
    }
    assert_eq!(bo.newest(&server, &group).await, taken[0].body["message"]);
}

#[tokio::test]
async fn concurrent_sends_of_many_get_the_numbers_1_2_3_without_a_gap() {
    let (server, ana, bo, group) = pair().await;
    let each = |user: User| {
        let (server, group) = (&server, &group);
        (1..=40).map(move |number| {
            let user = user.clone();
            async move { user.send(server, group, number, &format!("{number}")).await }
        })
    };
    let mut sent = join_all(each(ana.clone()).chain(each(bo))).await;
    sent.sort_unstable_by_key(|message| message["seq"].as_u64());
    assert_eq!(seqs(&json!(sent)), (2..=81).collect::<Vec<_>>());
    assert_eq!(ana.entries(&server, &group).await[1..], sent);
    let times: Vec<&str> = sent.iter().map(|message| message["ts"].as_str().unwrap()).collect();
    assert!(times.is_sorted());
}

#[tokio::test]
async fn a_reply_is_to_an_entry_that_one_can_see() {
    let (server, ana, bo, group) = pair().await;
    ana.send(&server, &group, 1, "before cleo").await;
    let cleo = server.user("cleo").await;
    ana.add(&server, &group, &cleo).await.expect(200);
    for nothing in [json!(0), json!(4), json!(999), json!(CLIENT_SEQ_MAX)] {
        let message = json!({ "clientSeq": 1, "body": "re", "replyTo": nothing });
        bo.try_send(&server, &group, message).await.expect_problem(400, "invalid");
    }
    for broken in [json!(-1), json!(1.5), json!("2")] {
        let message = json!({ "clientSeq": 1, "body": "re", "replyTo": broken });
        bo.try_send(&server, &group, message).await.expect_problem(400, "invalid");
    }
    let hidden = json!({ "clientSeq": 1, "body": "re", "replyTo": 2 });
    cleo.try_send(&server, &group, hidden.clone()).await.expect_problem(400, "invalid");
    bo.try_send(&server, &group, hidden).await.expect(201);
}

#[tokio::test]
async fn files_are_refused_as_long_as_there_are_none() {
    let (server, ana, _, group) = pair().await;
    let message =
        json!({ "clientSeq": 1, "body": "a", "mediaIds": ["0198f3a2-7c4e-7b1a-9d3e-5f6a7b8c9d0e"] });
    ana.try_send(&server, &group, message).await.expect_problem(400, "invalid");
    ana.try_send(&server, &group, json!({ "clientSeq": 1, "body": "a", "mediaIds": [] })).await.expect(201);
}

#[tokio::test]
async fn what_was_acked_is_there_after_the_node_goes() {
    let (server, ana, bo, group) = pair().await;
    let sent = join_all((1..=50).map(|number| ana.send(&server, &group, number, "kept"))).await;
    let server = Server::start_on(server.stop().await, |_| {}).await;
    let mut sent = sent;
    sent.sort_unstable_by_key(|message| message["seq"].as_u64());
    assert_eq!(bo.entries(&server, &group).await[1..], sent);
    assert_eq!(ana.send(&server, &group, 51, "next").await["seq"], 52);
}
