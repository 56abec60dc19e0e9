//! Opening, closing, and what a folder looks like in between.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use tertulia_domain::log::{Change, Position};
use tertulia_protocol::Timestamp;

use super::support::*;
use crate::AppendStats;
use crate::Store;
use crate::embedded::{Embedded, Faults, OpenError, OpenOptions};
use crate::testsuite::StoreUnderTest as _;
use crate::testsuite::world::{ANA, BO, convo, create_group, mark, send};

#[tokio::test]
async fn a_folder_that_is_open_is_not_opened_again() {
    let under_test = UnderTest::with(OpenOptions::default());
    let refused = Embedded::open(under_test.dir.path(), OpenOptions::default());
    assert!(matches!(&refused, Err(OpenError::InUse { .. })), "{:?}", refused.err());
    under_test.store.close().await;
    Embedded::open(under_test.dir.path(), OpenOptions::default()).unwrap();
}

#[tokio::test]
async fn a_folder_of_a_newer_version_is_refused_and_left_as_it_is() {
    let under_test = UnderTest::with(OpenOptions::default());
    under_test.store.close().await;
    let path = under_test.dir.path().join("tertulia.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute("INSERT INTO migrations VALUES (99, 'of the future', 0)", ()).unwrap();
    drop(db);
    let before = std::fs::read(&path).unwrap();
    let refused = Embedded::open(under_test.dir.path(), OpenOptions::default());
    assert!(matches!(&refused, Err(OpenError::Newer { found: 99, known: 5, .. })), "{:?}", refused.err());
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

/// An earlier version wrote down when a watermark last moved, whichever of the two it was.
#[tokio::test]
async fn in_a_folder_of_an_earlier_version_what_was_received_moved_when_a_watermark_did() {
    let UnderTest { dir, store, .. } = UnderTest::with(OpenOptions::default());
    group(&store, convo(1)).await;
    say(&store, convo(1), 1..=3).await;
    let at = Timestamp::from_millis;
    store.append(vec![mark(convo(1), BO, 3, 2)], at(7_000)).await.unwrap();
    let behind = store.horizon().await.unwrap();
    store.close().await;
    drop(store);
    let db = rusqlite::Connection::open(dir.path().join("tertulia.db")).unwrap();
    db.execute_batch(
        "ALTER TABLE participants DROP COLUMN delivered_at;
         ALTER TABLE participants DROP COLUMN delivered_commit;
         DELETE FROM migrations WHERE number = 5",
    )
    .unwrap();
    drop(db);
    let store = Embedded::open(dir.path(), OpenOptions::default()).unwrap();
    let told = async |since| {
        let changes = store.changes(ANA, since, None).await.unwrap();
        let [Change::In { receipts, .. }] = &changes[..] else { panic!("{changes:?}") };
        let of_bo = receipts.iter().find(|receipt| receipt.user == BO).copied();
        of_bo.map(|receipt| (receipt.delivered_at, receipt.ts))
    };
    let moved = told(Position::default()).await;
    assert!(moved.is_some_and(|(delivered_at, ts)| delivered_at == Some(ts)), "{moved:?}");
    let (delivered_at, _) = moved.unwrap();
    let now = at(9_000_000_000_000);
    store.append(vec![mark(convo(1), BO, 0, 3)], now).await.unwrap();
    assert_eq!(told(Position::default()).await, Some((delivered_at, now)));
    assert_eq!(told(behind).await, Some((None, now)));
}

#[tokio::test]
async fn a_closed_folder_is_a_file_a_database_and_an_empty_journal() {
    let under_test = UnderTest::with(OpenOptions::default());
    group(&under_test.store, convo(1)).await;
    say(&under_test.store, convo(1), 1..=20).await;
    under_test.store.close().await;
    drop(under_test.store);
    let mut files: Vec<_> = std::fs::read_dir(under_test.dir.path())
        .unwrap()
        .map(|file| file.unwrap())
        .map(|file| (file.file_name().into_string().unwrap(), file.metadata().unwrap().len()))
        .filter(|(name, length)| name.starts_with("journal") || (name.ends_with("-wal") && *length > 0))
        .collect();
    files.sort();
    assert_eq!(files, [("journal-00000000000000000022.log".to_owned(), 36)]);
}

/// A node takes the number of each commit as its position.
#[tokio::test]
async fn commits_are_dense_and_the_horizon_is_the_next_one() {
    let mut under_test = UnderTest::with(OpenOptions::default());
    let mut next = under_test.store.horizon().await.unwrap().of_part(0);
    for number in 0..30 {
        let intent = if number == 0 {
            create_group(convo(1), &[ANA], Default::default())
        } else {
            send(convo(1), ANA, number, "x")
        };
        let batch = under_test.store.append(vec![intent], Timestamp::from_millis(1)).await.unwrap();
        assert_eq!(batch.commit, Some(next));
        next = next.next();
        match number {
            10 => under_test = under_test.reopen().await,
            20 => under_test = under_test.crash().await,
            _ => {}
        }
        assert_eq!(under_test.store.horizon().await.unwrap().of_part(0), next);
    }
}

#[tokio::test]
async fn what_is_queued_when_it_is_closed_is_done() {
    let under_test = UnderTest::with(OpenOptions::default());
    let store = &under_test.store;
    group(store, convo(1)).await;
    let calls: Vec<_> = (1..=100)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move { say(&store, convo(1), number..=number).await })
        })
        .collect();
    // On a single thread they are polled between these, and are in the queue then, or done.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    store.close().await;
    for call in calls {
        call.await.unwrap();
    }
    let under_test = UnderTest::at(under_test.dir, OpenOptions::default());
    assert_messages(&under_test.store, convo(1), 100).await;
}

#[tokio::test]
async fn calls_that_come_while_a_batch_is_synced_are_one_commit() {
    let seen: Arc<Mutex<Vec<AppendStats>>> = Arc::default();
    let told = seen.clone();
    let under_test = UnderTest::with(OpenOptions {
        on_append: Some(Arc::new(move |stats| told.lock().unwrap().push(stats))),
        ..OpenOptions::default()
    });
    let store = &under_test.store;
    group(store, convo(1)).await;
    let calls: Vec<_> = (1..=500)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let intents = vec![send(convo(1), ANA, number, &number.to_string())];
                store.append(intents, Timestamp::from_millis(0)).await.unwrap()
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert_messages(store, convo(1), 500).await;
    let seen = seen.lock().unwrap();
    assert_eq!(seen.iter().map(|stats| stats.intents).sum::<usize>(), 501);
    assert!(seen.len() < 400, "{} commits for 501 intents", seen.len());
    assert_eq!(figure(store, "store_batches") as usize, seen.len());
}

#[tokio::test]
async fn figures_say_what_waits() {
    let faults = Faults::default();
    faults.settled_full.store(true, Relaxed);
    let under_test = UnderTest::with(OpenOptions { faults, ..OpenOptions::default() });
    group(&under_test.store, convo(1)).await;
    say(&under_test.store, convo(1), 1..=9).await;
    assert_eq!(figure(&under_test.store, "store_unsettled_entries"), 10.0);
    assert_eq!(figure(&under_test.store, "store_settle_lag_commits"), 10.0);
    assert!(figure(&under_test.store, "store_journal_bytes") > 4_096.0);
    assert!(figure(&under_test.store, "store_settled_bytes") > 4_096.0);
}

/// Reads and writes of many tasks at once, on few readers: none is starved, none sees a hole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_beside_writes_never_see_a_hole() {
    let under_test = UnderTest::with(OpenOptions { readers: 2, ..OpenOptions::default() });
    let store = &under_test.store;
    group(store, convo(1)).await;
    let done = Arc::new(AtomicUsize::new(0));
    let readers: Vec<_> = (0..6)
        .map(|_| {
            let (store, done) = (store.clone(), done.clone());
            tokio::spawn(async move {
                let mut newest = 0;
                while done.load(Relaxed) == 0 {
                    let page =
                        store.history(ANA, convo(1), crate::Slice::Newest, 500).await.unwrap().unwrap();
                    let seqs: Vec<_> = page.entries.iter().map(|(entry, _)| entry.seq.get()).collect();
                    assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seqs:?}");
                    let last = seqs.last().copied().unwrap_or(0);
                    assert!(last >= newest, "{newest} was seen, then {last}");
                    newest = last;
                    store.inbox(ANA, None, 5).await.unwrap();
                }
            })
        })
        .collect();
    say(store, convo(1), 1..=800).await;
    done.store(1, Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    assert_messages(store, convo(1), 800).await;
}
