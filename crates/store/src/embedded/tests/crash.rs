//! Crashes at every point between journal and settled rows, and folders that were put together wrongly.

use std::sync::atomic::Ordering::Relaxed;

use rusqlite::Connection;

use super::support::*;
use crate::Store;
use crate::embedded::{Embedded, Faults, OpenError, OpenOptions};
use crate::testsuite::world::{ANA, convo, send};

fn options(faults: &Faults) -> OpenOptions {
    OpenOptions { faults: faults.clone(), ..OpenOptions::default() }
}

fn sqlite(dir: &std::path::Path, file: &str) -> Connection {
    Connection::open(dir.join(file)).unwrap()
}

fn rows_of_the_journal(dir: &std::path::Path) -> i64 {
    sqlite(dir, "journal.db").query_row("SELECT count(*) FROM journal", (), |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn after_the_journal_and_before_settling() {
    let faults = Faults::default();
    let before = UnderTest::with(options(&faults));
    group(&before.store, convo(1)).await;
    before.store.heads(ANA).await.unwrap();
    faults.settled_full.store(true, Relaxed);
    say(&before.store, convo(1), 1..=50).await;
    let crashed = copy(before.dir.path());
    assert!(rows_of_the_journal(crashed.path()) >= 50);
    // Replaying is repeated by a crash of its own, and must not be seen.
    for _ in 0..3 {
        let after = Embedded::open(crashed.path(), OpenOptions::default()).unwrap();
        assert_messages(&after, convo(1), 50).await;
        assert_eq!(after.horizon(), before.store.horizon());
    }
}

#[tokio::test]
async fn after_settling_and_before_the_journal_forgets() {
    let faults = Faults::default();
    faults.keep_journal.store(true, Relaxed);
    let before = UnderTest::with(options(&faults));
    group(&before.store, convo(1)).await;
    say(&before.store, convo(1), 1..=50).await;
    before.store.heads(ANA).await.unwrap();
    let crashed = copy(before.dir.path());
    assert_eq!(rows_of_the_journal(crashed.path()), 51);
    let after = Embedded::open(crashed.path(), OpenOptions::default()).unwrap();
    assert_messages(&after, convo(1), 50).await;
    say(&after, convo(1), 51..=60).await;
    assert_messages(&after, convo(1), 60).await;
}

#[tokio::test]
async fn after_the_journal_forgot() {
    let before = UnderTest::with(OpenOptions::default());
    group(&before.store, convo(1)).await;
    say(&before.store, convo(1), 1..=50).await;
    until(|| figure(&before.store, "store_unsynced_commits") == 0.0).await;
    until(|| rows_of_the_journal(before.dir.path()) == 0).await;
    let crashed = copy(before.dir.path());
    let after = Embedded::open(crashed.path(), OpenOptions::default()).unwrap();
    assert_messages(&after, convo(1), 50).await;
    assert_eq!(after.horizon(), before.store.horizon());
}

/// Power loss takes from `tertulia.db` what was not synced, and nothing from the journal.
#[tokio::test]
async fn settled_rows_that_were_not_synced_come_back_from_the_journal() {
    let faults = Faults::default();
    faults.keep_journal.store(true, Relaxed);
    let before = UnderTest::with(options(&faults));
    group(&before.store, convo(1)).await;
    say(&before.store, convo(1), 1..=20).await;
    before.store.heads(ANA).await.unwrap();
    let crashed = copy(before.dir.path());
    say(&before.store, convo(1), 21..=40).await;
    before.store.heads(ANA).await.unwrap();
    copy_files(before.dir.path(), crashed.path(), |name| name.starts_with("journal.db"));
    let after = Embedded::open(crashed.path(), OpenOptions::default()).unwrap();
    assert_messages(&after, convo(1), 40).await;
}

/// A torn write at the end of the journal's WAL was never acked: what is before it stays, without holes.
#[tokio::test]
async fn a_torn_end_of_the_journal_takes_whole_batches_only() {
    let faults = Faults::default();
    faults.settled_full.store(true, Relaxed);
    let before = UnderTest::with(options(&faults));
    group(&before.store, convo(1)).await;
    say(&before.store, convo(1), 1..=30).await;
    let wal = before.dir.path().join("journal.db-wal");
    let length = std::fs::metadata(&wal).unwrap().len();
    for cut in [1, 5_000, 30_000, 60_000] {
        let crashed = copy(before.dir.path());
        let torn = std::fs::File::options().write(true).open(crashed.path().join("journal.db-wal")).unwrap();
        torn.set_len(length - cut).unwrap();
        let after = Embedded::open(crashed.path(), OpenOptions::default()).unwrap();
        let seen = after.conversation(ANA, convo(1)).await.unwrap().unwrap();
        let messages = seen.last_seq.get() - 1;
        assert!((10..30).contains(&messages), "{messages}");
        assert_messages(&after, convo(1), messages).await;
        say(&after, convo(1), messages + 1..=messages + 3).await;
        assert_messages(&after, convo(1), messages + 3).await;
    }
}

#[tokio::test]
async fn an_old_settled_file_with_a_newer_journal_is_refused() {
    let before = UnderTest::with(OpenOptions::default());
    group(&before.store, convo(1)).await;
    before.store.close().await;
    let mixed = copy(before.dir.path());
    let before = UnderTest::at(before.dir, OpenOptions::default());
    say(&before.store, convo(1), 1..=20).await;
    before.store.close().await;
    copy_files(before.dir.path(), mixed.path(), |name| name.starts_with("journal.db"));
    let refused = Embedded::open(mixed.path(), OpenOptions::default());
    assert!(matches!(&refused, Err(OpenError::Damaged(_))), "{:?}", refused.err());
}

#[tokio::test]
async fn files_of_two_folders_are_refused() {
    let (one, other) = (UnderTest::with(OpenOptions::default()), UnderTest::with(OpenOptions::default()));
    one.store.close().await;
    other.store.close().await;
    copy_files(one.dir.path(), other.dir.path(), |name| name.starts_with("journal.db"));
    let refused = Embedded::open(other.dir.path(), OpenOptions::default());
    assert!(matches!(&refused, Err(OpenError::Damaged(_))), "{:?}", refused.err());
}

#[tokio::test]
async fn a_hole_in_the_journal_is_refused() {
    let faults = Faults::default();
    faults.settled_full.store(true, Relaxed);
    let before = UnderTest::with(options(&faults));
    group(&before.store, convo(1)).await;
    say(&before.store, convo(1), 1..=5).await;
    for damage in [
        "DELETE FROM journal WHERE commit_no = 3",
        "UPDATE journal SET batch = zeroblob(length(batch)) WHERE commit_no = 3",
        "UPDATE journal SET batch = substr(batch, 1, 20) WHERE commit_no = 3",
    ] {
        let crashed = copy(before.dir.path());
        sqlite(crashed.path(), "journal.db").execute(damage, ()).unwrap();
        let refused = Embedded::open(crashed.path(), OpenOptions::default());
        assert!(matches!(&refused, Err(OpenError::Damaged(_))), "{damage}: {:?}", refused.err());
    }
}

#[tokio::test]
async fn a_restored_backup_does_not_know_positions_of_its_lost_future() {
    let before = UnderTest::with(OpenOptions::default());
    group(&before.store, convo(1)).await;
    let early = before.store.position(before.store.horizon());
    say(&before.store, convo(1), 1..=5).await;
    before.store.close().await;
    let backup = copy(before.dir.path());
    // The same opening goes on in both: what comes after is told apart by the next opening's tag.
    let before = UnderTest::at(before.dir, OpenOptions::default());
    say(&before.store, convo(1), 6..=9).await;
    let late = before.store.position(before.store.horizon());
    let restored = Embedded::open(backup.path(), OpenOptions::default()).unwrap();
    assert!(restored.parse_position(&early).is_some());
    assert_eq!(restored.parse_position(&late), None);
    // Also not when it has grown past that number.
    say(&restored, convo(1), 6..=20).await;
    assert_eq!(restored.parse_position(&late), None);
}

#[tokio::test]
async fn a_backup_of_the_settled_file_alone_can_be_opened() {
    let before = UnderTest::with(OpenOptions::default());
    group(&before.store, convo(1)).await;
    say(&before.store, convo(1), 1..=5).await;
    before.store.close().await;
    let backup = tempfile::tempdir().unwrap();
    copy_files(before.dir.path(), backup.path(), |name| name == "tertulia.db");
    let restored = Embedded::open(backup.path(), OpenOptions::default()).unwrap();
    assert_messages(&restored, convo(1), 5).await;
    say(&restored, convo(1), 6..=7).await;
    let restored = std::sync::Arc::into_inner(restored).unwrap();
    drop(restored);
    assert_messages(&Embedded::open(backup.path(), OpenOptions::default()).unwrap(), convo(1), 7).await;
}

#[tokio::test]
async fn a_call_that_is_dropped_after_it_was_polled_is_done_all_the_same() {
    let under_test = UnderTest::with(OpenOptions::default());
    let store = &under_test.store;
    group(store, convo(1)).await;
    for round in 0..50 {
        let numbers = 1 + round * 3..=3 + round * 3;
        let intents = numbers.map(|number| send(convo(1), ANA, number, &number.to_string())).collect();
        let now = tertulia_protocol::Timestamp::from_millis(0);
        let call = store.append(intents, now);
        // Polled once, then dropped.
        let _ = tokio::time::timeout(std::time::Duration::ZERO, call).await;
    }
    group(store, convo(2)).await; // Behind them all.
    assert_messages(store, convo(1), 150).await;
}
