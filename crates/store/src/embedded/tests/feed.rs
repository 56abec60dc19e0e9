//! What is remembered of what came, and for how long.

use tertulia_domain::log::{Commit, Position};

use super::support::*;
use crate::embedded::OpenOptions;
use crate::testsuite::StoreUnderTest as _;
use crate::testsuite::world::convo;
use crate::{JournalRow, Store};

async fn settled(under_test: &UnderTest) -> Commit {
    until(|| figure(&under_test.store, "store_settle_lag_commits") == 0.0).await;
    under_test.store.horizon().await.unwrap().of_part(0)
}

async fn journal(under_test: &UnderTest, since: Commit) -> Option<Vec<JournalRow>> {
    under_test.store.journal(Position::before(since), 1_000).await.unwrap()
}

#[tokio::test]
async fn what_all_have_passed_goes_with_the_next_bite() {
    let mut under_test = UnderTest::with(OpenOptions::default());
    group(&under_test.store, convo(1)).await;
    say(&under_test.store, convo(1), 1..=5).await;
    let passed = settled(&under_test).await;
    assert!(journal(&under_test, Commit::default()).await.is_some());
    under_test.store.forget_journal(Position::before(passed)).await.unwrap();
    say(&under_test.store, convo(1), 6..=9).await;
    settled(&under_test).await;
    for _ in 0..2 {
        assert_eq!(journal(&under_test, Commit::default()).await, None);
        assert_eq!(journal(&under_test, passed.previous()).await, None);
        let rows = journal(&under_test, passed).await.unwrap();
        assert_eq!(rows.first().map(|row| row.ranges[0].first.get()), Some(7));
        under_test = under_test.reopen().await;
    }
}

#[tokio::test]
async fn of_what_came_before_there_was_a_journal_only_the_logs_tell() {
    let under_test = UnderTest::with(OpenOptions::default());
    group(&under_test.store, convo(1)).await;
    say(&under_test.store, convo(1), 1..=5).await;
    under_test.store.close().await;
    let db = rusqlite::Connection::open(under_test.dir.path().join("tertulia.db")).unwrap();
    db.execute_batch(
        "DROP TABLE touched; ALTER TABLE meta DROP COLUMN touched_from; DELETE FROM migrations WHERE number = 2",
    )
    .unwrap();
    drop(db);
    let under_test = under_test.reopen().await;
    let horizon = under_test.store.horizon().await.unwrap().of_part(0);
    assert_eq!(journal(&under_test, horizon.previous()).await, None);
    assert_eq!(journal(&under_test, horizon).await, Some(Vec::new()));
    say(&under_test.store, convo(1), 6..=9).await;
    settled(&under_test).await;
    assert_eq!(journal(&under_test, horizon).await.unwrap()[0].ranges[0].first.get(), 7);
}
