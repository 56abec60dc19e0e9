//! History by REST: its pages, their order and their ends.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::asking::{path, seqs};
use crate::harness::{Server, User};

/// A group of ana's with entries 1 to `last`.
async fn group_up_to(last: u64) -> (Server, User, String) {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let group = server.group(&ana, &[]).await;
    join_all((1..last).map(|number| ana.send(&server, &group, number, "word"))).await;
    (server, ana, group)
}

fn page(of: &Value) -> (Vec<u64>, bool) {
    (seqs(&of["items"]), of["hasMore"].as_bool().unwrap())
}

fn range(from: u64, to: u64) -> Vec<u64> {
    (from..=to).collect()
}

#[tokio::test]
async fn without_after_and_before_the_newest_page_comes() {
    let (server, ana, group) = group_up_to(60).await;
    assert_eq!(page(&ana.history(&server, &group, "").await), (range(11, 60), true));
    assert_eq!(page(&ana.history(&server, &group, "limit=1").await), (vec![60], true));
    assert_eq!(page(&ana.history(&server, &group, "limit=59").await), (range(2, 60), true));
    assert_eq!(page(&ana.history(&server, &group, "limit=60").await), (range(1, 60), false));
    assert_eq!(page(&ana.history(&server, &group, "limit=200").await), (range(1, 60), false));
}

#[tokio::test]
async fn after_and_before_give_what_is_next_to_them() {
    let (server, ana, group) = group_up_to(60).await;
    for (query, items, has_more) in [
        ("after=0&limit=3", range(1, 3), true),
        ("after=10&limit=3", range(11, 13), true),
        ("after=57&limit=3", range(58, 60), false),
        ("after=58&limit=3", range(59, 60), false),
        ("after=60", vec![], false),
        ("after=9007199254740991", vec![], false),
        ("after=18446744073709551615", vec![], false),
        ("before=61&limit=3", range(58, 60), true),
        ("before=11&limit=3", range(8, 10), true),
        ("before=4&limit=3", range(1, 3), false),
        ("before=3&limit=3", range(1, 2), false),
        ("before=1", vec![], false),
        ("before=0", vec![], false),
        ("before=18446744073709551615&limit=2", range(59, 60), true),
    ] {
        assert_eq!(page(&ana.history(&server, &group, query).await), (items, has_more), "{query}");
    }
}

#[tokio::test]
async fn pages_are_full_while_there_is_more_in_both_directions() {
    let (server, ana, group) = group_up_to(447).await;
    for limit in [1_u64, 7, 149, 200] {
        let (mut forwards, mut backwards) = (Vec::new(), Vec::new());
        let steps = if limit == 1 { 20 } else { usize::MAX };
        for _ in 0..steps {
            let after = forwards.last().copied().unwrap_or(0);
            let (items, has_more) =
                page(&ana.history(&server, &group, &format!("after={after}&limit={limit}")).await);
            assert!(!has_more || items.len() as u64 == limit);
            forwards.extend(items);
            if !has_more {
                assert_eq!(forwards, range(1, 447));
                break;
            }
        }
        for _ in 0..steps {
            let before = backwards.first().copied().unwrap_or(448);
            let (mut items, has_more) =
                page(&ana.history(&server, &group, &format!("before={before}&limit={limit}")).await);
            assert!(!has_more || items.len() as u64 == limit);
            items.append(&mut backwards);
            backwards = items;
            if !has_more {
                assert_eq!(backwards, range(1, 447));
                break;
            }
        }
    }
}

#[tokio::test]
async fn pages_are_the_same_whether_entries_are_new_or_long_settled() {
    let (server, ana, group) = group_up_to(250).await;
    let queries =
        ["", "limit=200", "after=0&limit=200", "after=100&limit=200", "before=200&limit=150", "after=249"];
    let ask = async |server: &Server| join_all(queries.map(|query| ana.history(server, &group, query))).await;
    let fresh = ask(&server).await;
    let server = Server::start_on(server.stop().await, |_| {}).await;
    assert_eq!(ask(&server).await, fresh);
}

#[tokio::test]
async fn a_reader_sees_what_was_acked_to_anybody_at_once() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    for number in 1..=50 {
        let sent = ana.send(&server, &group, number, "now").await;
        assert_eq!(bo.newest(&server, &group).await, sent);
        assert_eq!(bo.convo(&server, &group).await["lastMessage"], sent);
    }
}

#[tokio::test]
async fn a_history_that_is_read_while_it_grows_has_no_holes() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let group = server.group(&ana, &[&bo]).await;
    let writing = async {
        for round in 0..15 {
            join_all((1..=10).map(|n| ana.send(&server, &group, round * 10 + n, "grows"))).await;
        }
    };
    let reading = async {
        let mut seen = Vec::new();
        while seen.last() != Some(&151) {
            let after = seen.last().copied().unwrap_or(0);
            let (items, has_more) =
                page(&bo.history(&server, &group, &format!("after={after}&limit=20")).await);
            assert!(!has_more || items.len() == 20);
            seen.extend(items);
            let newest = seqs(&bo.history(&server, &group, "limit=5").await["items"]);
            assert!(newest.is_sorted_by(|a, b| a + 1 == *b), "{newest:?}");
        }
        assert_eq!(seen, range(1, 151));
    };
    tokio::join!(writing, reading);
}

#[tokio::test]
async fn what_is_no_page_is_invalid() {
    let (server, ana, group) = group_up_to(2).await;
    for broken in [
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=ten",
        "limit=",
        "limit=1&limit=2",
        "after=-1",
        "after=1.5",
        "after=x",
        "before=x",
        "before=99999999999999999999",
        "after=1&before=2",
    ] {
        let answer = ana.get(&server, &path(&group, &format!("/messages?{broken}"))).await;
        assert_eq!((answer.status.as_u16(), &answer.body["code"]), (400, &json!("invalid")), "{broken}");
    }
    ana.get(&server, &path(&group, "/messages?limit=200&unknown=1")).await.expect(200);
}
