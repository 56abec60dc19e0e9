//! What is found, by whom, and what is not.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tertulia_server::limits::LimitsConfig;

use crate::asking::{path, seqs, told};
use crate::harness::{Answer, DEADLINE, Server, User};

/// A call of `/api/search`, with these parameters.
async fn ask(server: &Server, user: &User, parameters: &[(&str, &str)]) -> Answer {
    let url = reqwest::Url::parse_with_params("http://x/api/search", parameters).unwrap();
    user.get(server, &format!("{}?{}", url.path(), url.query().unwrap())).await
}

/// The first page of what is found, the newest first.
async fn find(server: &Server, user: &User, q: &str) -> Value {
    ask(server, user, &[("q", q)]).await.expect(200).body["items"].clone()
}

/// Waits until a word is found so often by one who may see it.
async fn indexed(server: &Server, user: &User, word: &str, times: usize) {
    let found = async {
        while find(server, user, word).await.as_array().unwrap().len() != times {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, found).await.expect(word);
}

/// The text of a hit, with brackets around what is marked; counted as browsers do.
fn marked(hit: &Value) -> String {
    let units: Vec<u16> = hit["snippet"]["text"].as_str().unwrap().encode_utf16().collect();
    let part = |from: usize, to: usize| String::from_utf16(&units[from..to]).unwrap();
    let (mut text, mut at) = (String::new(), 0);
    for mark in hit["snippet"]["marks"].as_array().unwrap() {
        let [from, to] = [0, 1].map(|end| usize::try_from(mark[end].as_u64().unwrap()).unwrap());
        text += &format!("{}[{}]", part(at, from), part(from, to));
        at = to;
    }
    text + &part(at, units.len())
}

struct Cast {
    server: Server,
    ana: User,
    bo: User,
    cleo: User,
    /// Of Ana and Bo.
    group: String,
}

async fn cast() -> Cast {
    let server = Server::start().await;
    let users = join_all(["ana", "bo1", "cleo"].map(|name| server.user(name))).await;
    let [ana, bo, cleo] = <[User; 3]>::try_from(users).unwrap();
    let group = server.group(&ana, &[&bo]).await;
    Cast { server, ana, bo, cleo, group }
}

#[tokio::test]
async fn a_message_is_found_by_its_words_and_shows_where_they_stand() {
    let Cast { server, ana, bo, cleo, group } = cast().await;
    let bodies = [
        "🫖 Un TÉ, por favor",
        "我在上海工作",
        "tea for two",
        "two for tea",
        "The last one is about kettles",
    ];
    let mut sent = Vec::new();
    for (number, body) in (1..).zip(bodies) {
        sent.push(ana.send(&server, &group, number, body).await);
    }
    indexed(&server, &bo, "kettles", 1).await;
    for (q, expected) in [
        ("te", vec!["🫖 Un [TÉ], por favor"]),
        ("Té favor", vec!["🫖 Un [TÉ], por [favor]"]),
        ("上海", vec!["我在[上海]工作"]),
        ("海", vec!["我在上[海]工作"]),
        ("tea two", vec!["[two] for [tea]", "[tea] for [two]"]),
        ("\"tea for\" two", vec!["[tea for] [two]"]),
        ("“FOR Tea”", vec!["two [for tea]"]),
        ("tea coffee", vec![]),
        ("kettle", vec![]),
    ] {
        let items = find(&server, &bo, q).await;
        assert_eq!(items.as_array().unwrap().iter().map(marked).collect::<Vec<_>>(), expected, "{q}");
        assert_eq!(find(&server, &ana, q).await, items, "the sender finds the same");
        assert_eq!(find(&server, &cleo, q).await, json!([]), "and who is not in it nothing");
    }
    // A hit is the message, and what was found of it.
    let mut hit = find(&server, &bo, "kettles").await[0].clone();
    hit.as_object_mut().unwrap().remove("snippet").unwrap();
    assert_eq!(hit, sent[4]);
}

#[tokio::test]
async fn whoever_was_removed_finds_nothing_and_added_again_only_what_came_since() {
    let Cast { server, ana, bo, cleo, group } = cast().await;
    ana.send(&server, &group, 1, "tea before").await;
    ana.add(&server, &group, &cleo).await.expect(200);
    ana.send(&server, &group, 2, "tea while cleo is here").await;
    indexed(&server, &ana, "tea", 2).await;
    assert_eq!(seqs(&find(&server, &bo, "tea").await), [4, 2]);
    assert_eq!(seqs(&find(&server, &cleo, "tea").await), [4]);

    for user in [&bo, &cleo] {
        ana.remove(&server, &group, user).await.expect(204);
        assert_eq!(find(&server, user, "tea").await, json!([]));
        ask(&server, user, &[("q", "tea"), ("convoId", &group)]).await.expect_problem(404, "not_found");
    }
    ana.send(&server, &group, 3, "tea while they are away").await;
    indexed(&server, &ana, "tea", 3).await;
    assert_eq!(find(&server, &bo, "tea").await, json!([]));

    ana.add(&server, &group, &bo).await.expect(200);
    assert_eq!(find(&server, &bo, "tea").await, json!([]));
    ana.send(&server, &group, 4, "tea when bo is back").await;
    indexed(&server, &ana, "tea", 4).await;
    assert_eq!(seqs(&find(&server, &bo, "tea").await), [9]);
    assert_eq!(find(&server, &cleo, "tea").await, json!([]));

    // Whoever is told everything finds everything.
    ana.patch(&server, &path(&group, ""), json!({ "history": "all" })).await.expect(200);
    ana.add(&server, &group, &cleo).await.expect(200);
    assert_eq!(seqs(&find(&server, &cleo, "tea").await), [9, 7, 4, 2]);
}

#[tokio::test]
async fn a_conversation_that_one_is_not_in_is_like_one_that_does_not_exist() {
    let Cast { server, ana, cleo, group, .. } = cast().await;
    ana.send(&server, &group, 1, "tea").await;
    indexed(&server, &ana, "tea", 1).await;
    let nowhere = "0198f3a2-7c4e-7b1a-9d3e-5f6a7b8c9d0e";
    let mut answers = Vec::new();
    for convo in [group.as_str(), nowhere] {
        answers.push(told(&ask(&server, &cleo, &[("q", "tea"), ("convoId", convo)]).await));
        answers.push(told(&ask(&server, &cleo, &[("q", &format!("tea in:{convo}"))]).await));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0].0, 404);
}

#[tokio::test]
async fn filters_narrow_it() {
    let Cast { server, ana, bo, group, .. } = cast().await;
    let direct = ana.direct(&server, &bo).await;
    let first = ana.send(&server, &group, 1, "tea").await;
    bo.send(&server, &group, 1, "more tea").await;
    let third = bo.send(&server, &direct, 1, "tea for two").await;
    indexed(&server, &ana, "tea", 3).await;
    let by_id = format!("tea from:{}", bo.id);
    let in_group = format!("tea in:{group}");
    let both = format!("from:ana in:{group}");
    let (before, after) = (format!("tea before:{}", first["ts"]), format!("tea after:{}", third["ts"]));
    let (before, after) = (before.replace('"', ""), after.replace('"', ""));
    for (q, expected) in [
        ("tea", vec!["tea for two", "more tea", "tea"]),
        ("tea from:bo1", vec!["tea for two", "more tea"]),
        ("tea from:@BO1", vec!["tea for two", "more tea"]),
        (&by_id, vec!["tea for two", "more tea"]),
        ("tea from:me", vec!["tea"]),
        ("from:me", vec!["tea"]),
        ("tea from:nobody", vec![]),
        (&in_group, vec!["more tea", "tea"]),
        (&both, vec!["tea"]),
        ("tea before:2020-01-01", vec![]),
        ("tea after:2020-01-01", vec!["tea for two", "more tea", "tea"]),
        (&before, vec![]),
    ] {
        let items = find(&server, &ana, q).await;
        let bodies: Vec<_> =
            items.as_array().unwrap().iter().map(|item| item["body"].as_str().unwrap()).collect();
        assert_eq!(bodies, expected, "{q}");
    }
    assert_eq!(find(&server, &ana, &after).await[0]["body"], "tea for two");
    let answer = ask(&server, &ana, &[("q", "tea"), ("convoId", &direct)]).await.expect(200);
    assert_eq!(seqs(&answer.body["items"]), [2]);
    ask(&server, &ana, &[("q", &in_group), ("convoId", &direct)]).await.expect_problem(400, "invalid");
}

/// The places of all pages; after each of them Bo says something more.
async fn all_pages(cast: &Cast, order: &str, limit: &str, number: &mut u64) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut parameters = vec![("q", "tea"), ("order", order), ("limit", limit)];
        parameters.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let page = ask(&cast.server, &cast.ana, &parameters).await.expect(200).body;
        for item in page["items"].as_array().unwrap() {
            all.push((item["convoId"].as_str().unwrap().to_owned(), item["seq"].as_u64().unwrap()));
        }
        let Some(next) = page["nextCursor"].as_str() else { return all };
        cursor = Some(next.to_owned());
        *number += 1;
        cast.bo.send(&cast.server, &cast.group, *number, "still more tea").await;
    }
}

#[tokio::test]
async fn pages_are_complete_and_without_repeats_while_more_is_said() {
    let cast = cast().await;
    let direct = cast.ana.direct(&cast.server, &cast.bo).await;
    for number in 1..=20 {
        let body = format!("tea{}", " and".repeat(usize::try_from(number % 7).unwrap()));
        cast.ana.send(&cast.server, &cast.group, number, &body).await;
        cast.ana.send(&cast.server, &direct, number, &body).await;
    }
    indexed(&cast.server, &cast.ana, "tea", 40).await;
    let mut number = 0;
    for order in ["newest", "rank"] {
        for limit in ["1", "7", "200"] {
            let found = all_pages(&cast, order, limit, &mut number).await;
            let mut sorted = found.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), found.len(), "{order} {limit}: none twice");
            let of_ana =
                sorted.iter().filter(|(convo, seq)| *convo == direct || (2..=21).contains(seq)).count();
            assert_eq!(of_ana, 40, "{order} {limit}: all of them");
        }
    }
}

#[tokio::test]
async fn a_cursor_is_for_who_was_given_it_and_for_his_search_also_after_a_restart() {
    let Cast { mut server, ana, bo, group, .. } = cast().await;
    for number in 1..=3 {
        ana.send(&server, &group, number, "tea").await;
    }
    indexed(&server, &ana, "tea", 3).await;
    for order in ["newest", "rank"] {
        let first = ask(&server, &ana, &[("q", "tea"), ("order", order), ("limit", "1")]).await.expect(200);
        let cursor = first.body["nextCursor"].as_str().unwrap();
        let other = if order == "rank" { "newest" } else { "rank" };
        let of_bo = ask(&server, &bo, &[("q", "tea"), ("order", order), ("cursor", cursor)]).await;
        of_bo.expect_problem(400, "invalid");
        for parameters in [
            &[("q", "tea"), ("order", other)][..],
            &[("q", "TEA"), ("order", order)],
            &[("q", "tea after:2020-01-01"), ("order", order)],
            &[("q", "tea"), ("order", order), ("convoId", &group)],
        ] {
            let parameters = [parameters, &[("cursor", cursor)]].concat();
            ask(&server, &ana, &parameters).await.expect_problem(400, "invalid");
        }
        server = Server::start_on(server.stop().await, |_| {}).await;
        let rest = ask(&server, &ana, &[("q", "tea"), ("order", order), ("cursor", cursor)]).await;
        assert_eq!(seqs(&rest.expect(200).body["items"]), [3, 2]);
    }
}

#[tokio::test]
async fn short_messages_rank_before_long_ones() {
    let Cast { server, ana, group, .. } = cast().await;
    for (number, body) in (1..).zip(["tea", &format!("tea {}", "and so on ".repeat(60)), "tea and cake"]) {
        ana.send(&server, &group, number, body).await;
    }
    indexed(&server, &ana, "tea", 3).await;
    let ranked = ask(&server, &ana, &[("q", "tea"), ("order", "rank")]).await.expect(200);
    assert_eq!(seqs(&ranked.body["items"]), [2, 4, 3]);
    assert_eq!(seqs(&find(&server, &ana, "tea").await), [4, 3, 2]);
}

#[tokio::test]
async fn what_is_no_search_is_invalid_and_says_what_to_do() {
    let Cast { server, ana, .. } = cast().await;
    let long = "x".repeat(1_025);
    for parameters in [
        &[][..],
        &[("q", "")],
        &[("q", " 🎉 ")],
        &[("q", "\"tea")],
        &[("q", "tea from:x")],
        &[("q", "tea in:there")],
        &[("q", "tea before:soon")],
        &[("q", &long)],
        &[("q", "tea"), ("limit", "0")],
        &[("q", "tea"), ("limit", "201")],
        &[("q", "tea"), ("order", "oldest")],
        &[("q", "tea"), ("convoId", "there")],
        &[("q", "tea"), ("cursor", "garbage")],
        &[("q", "tea"), ("cursor", "")],
        // A place that is not sealed.
        &[("q", "tea"), ("cursor", "bgAAAAAAAAAH")],
    ] {
        let answer = ask(&server, &ana, parameters).await.expect_problem(400, "invalid");
        assert!(answer.body["detail"].as_str().unwrap().len() > 20, "{parameters:?}: {}", answer.text);
    }
    server
        .call(reqwest::Method::GET, "/api/search?q=tea", None, None)
        .await
        .expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn everything_is_found_after_a_restart_and_when_the_index_was_lost() {
    let Cast { mut server, ana, bo, group, .. } = cast().await;
    for number in 1..=30 {
        ana.send(&server, &group, number, "tea").await;
    }
    indexed(&server, &bo, "tea", 30).await;
    for round in 1..=3 {
        let data = server.stop().await;
        let index = data.path().join("search.db");
        match round {
            2 => std::fs::remove_file(&index).unwrap(),
            3 => std::fs::write(&index, "somebody has written over it").unwrap(),
            _ => {}
        }
        server = Server::start_on(data, |_| {}).await;
        ana.send(&server, &group, 30 + round, "more tea").await;
        indexed(&server, &bo, "tea", usize::try_from(30 + round).unwrap()).await;
    }
    assert!(server.metric("consumer_entries_total{consumer=\"search\"}").await >= 33.0);
    assert_eq!(server.metric("consumer_dead_letters{consumer=\"search\"}").await, 0.0);
    server.until_metric("consumer_lag_entries{consumer=\"search\",partition=\"0\"}", |lag| lag == 0.0).await;
    server
        .until_metric("consumer_backfill_entries{consumer=\"search\",state=\"left\"}", |left| left == 0.0)
        .await;
}

#[tokio::test]
async fn who_searches_too_often_is_asked_to_wait() {
    let server = Server::start_with(|config| {
        let limits = r#"{ "reads": { "count": 1, "per": "hour", "burst": 3 } }"#;
        let limits: LimitsConfig = serde_json::from_str(limits).unwrap();
        config.limits = Some(limits);
    })
    .await;
    let ana = server.user("ana").await;
    for _ in 0..3 {
        ask(&server, &ana, &[("q", "tea")]).await.expect(200);
    }
    let refused = ask(&server, &ana, &[("q", "tea")]).await.expect_problem(429, "rate_limited");
    assert!(refused.headers.contains_key("retry-after"));
}
