//! Crashes at every point between journal and settled rows, and folders that were put together wrongly.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::support::*;
use crate::Store;
use crate::embedded::{Embedded, Faults, OpenError, OpenOptions};
use crate::testsuite::world::{ANA, convo, send};

/// Short segments: copies of the folder are small, and a test crosses several.
fn options(faults: &Faults) -> OpenOptions {
    OpenOptions { faults: faults.clone(), journal_segment_bytes: 2_000, ..OpenOptions::default() }
}

/// The segments of the journal in a folder, the oldest first.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mut found: Vec<_> = files.filter(|path| path.extension().is_some_and(|kind| kind == "log")).collect();
    found.sort();
    found
}

fn is_journal(name: &str) -> bool {
    name.starts_with("journal-")
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
    assert!(segments(crashed.path()).len() >= 3);
    // Replaying is repeated by a crash of its own, and must not be seen.
    for _ in 0..3 {
        let after = Embedded::open(crashed.path(), OpenOptions::default()).unwrap();
        assert_messages(&after, convo(1), 50).await;
        assert_eq!(after.horizon().await.unwrap(), before.store.horizon().await.unwrap());
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
    assert!(segments(crashed.path()).len() >= 3);
    let after = Embedded::open(crashed.path(), OpenOptions::default()).unwrap();
    assert_messages(&after, convo(1), 50).await;
    say(&after, convo(1), 51..=60).await;
    assert_messages(&after, convo(1), 60).await;
}

#[tokio::test]
async fn after_the_journal_forgot() {
    let faults = Faults::default();
    let age = Duration::from_millis(50);
    let before = UnderTest::with(OpenOptions { journal_segment_age: age, ..options(&faults) });
    group(&before.store, convo(1)).await;
    say(&before.store, convo(1), 1..=50).await;
    until(|| figure(&before.store, "store_unsynced_commits") == 0.0).await;
    let next = before.store.horizon().await.unwrap().of_part(0).get();
    until(|| segments(before.dir.path()) == [before.dir.path().join(format!("journal-{next:020}.log"))])
        .await;
    let crashed = copy(before.dir.path());
    let after = Embedded::open(crashed.path(), OpenOptions::default()).unwrap();
    assert_messages(&after, convo(1), 50).await;
    assert_eq!(after.horizon().await.unwrap(), before.store.horizon().await.unwrap());
}

/// What was let go is kept to be written over, but not much of it, and not for long: what was deleted is in there, too.
#[tokio::test]
async fn segments_that_were_let_go_are_written_over_and_go_in_the_end() {
    let spares = |dir: &Path| {
        let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|kind| kind == "spare")).count()
    };
    let faults = Faults::default();
    let begin = |age| UnderTest::with(OpenOptions { journal_segment_age: age, ..options(&faults) });
    let is_synced = async |store: &Embedded| {
        until(|| figure(store, "store_unsynced_commits") == 0.0).await;
    };

    let node = begin(Duration::from_secs(3_600));
    group(&node.store, convo(1)).await;
    faults.settled_full.store(true, Relaxed);
    say(&node.store, convo(1), 1..=200).await;
    assert!(segments(node.dir.path()).len() > 6, "more than are kept");
    faults.settled_full.store(false, Relaxed);
    is_synced(&node.store).await;
    say(&node.store, convo(1), 201..=201).await;
    let kept = spares(node.dir.path());
    assert!((3..=4).contains(&kept), "{kept}");
    say(&node.store, convo(1), 202..=240).await;
    assert!(spares(node.dir.path()) < kept);
    // What stands behind the end of what was written over is older, and nobody's.
    let crashed = copy(node.dir.path());
    std::fs::write(crashed.path().join("journal.spare"), "of an earlier build").unwrap();
    let after = Embedded::open(crashed.path(), OpenOptions::default()).unwrap();
    assert_messages(&after, convo(1), 240).await;
    assert_eq!(spares(crashed.path()), 0);

    let node = begin(Duration::from_millis(50));
    group(&node.store, convo(1)).await;
    say(&node.store, convo(1), 1..=100).await;
    is_synced(&node.store).await;
    until(|| segments(node.dir.path()).len() == 1 && spares(node.dir.path()) == 0).await;
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
    copy_files(before.dir.path(), crashed.path(), is_journal);
    let after = Embedded::open(crashed.path(), OpenOptions::default()).unwrap();
    assert_messages(&after, convo(1), 40).await;
}

/// A torn write at the end of the journal was never acked: what is before it stays, without holes.
#[tokio::test]
async fn a_torn_end_of_the_journal_takes_whole_batches_only() {
    let faults = Faults::default();
    faults.settled_full.store(true, Relaxed);
    let before = UnderTest::with(OpenOptions { faults, ..OpenOptions::default() });
    group(&before.store, convo(1)).await;
    say(&before.store, convo(1), 1..=30).await;
    let [segment] = segments(before.dir.path()).try_into().unwrap();
    let written = std::fs::read(&segment).unwrap();
    let written = written.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for cut in [1, 40, 500, 1_200] {
        let crashed = copy(before.dir.path());
        let torn = crashed.path().join(segment.file_name().unwrap());
        let torn = std::fs::File::options().write(true).open(torn).unwrap();
        torn.set_len((written - cut) as u64).unwrap();
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
    copy_files(before.dir.path(), mixed.path(), is_journal);
    let refused = Embedded::open(mixed.path(), OpenOptions::default());
    assert!(matches!(&refused, Err(OpenError::Damaged(_))), "{:?}", refused.err());
}

#[tokio::test]
async fn files_of_two_folders_are_refused() {
    let (one, other) = (UnderTest::with(OpenOptions::default()), UnderTest::with(OpenOptions::default()));
    for each in [&one, &other] {
        group(&each.store, convo(1)).await;
        each.store.close().await;
    }
    copy_files(one.dir.path(), other.dir.path(), is_journal);
    let refused = Embedded::open(other.dir.path(), OpenOptions::default());
    assert!(matches!(&refused, Err(OpenError::Damaged(_))), "{:?}", refused.err());
}

#[tokio::test]
async fn a_hole_in_the_journal_is_refused() {
    let faults = Faults::default();
    faults.settled_full.store(true, Relaxed);
    let before = UnderTest::with(options(&faults));
    group(&before.store, convo(1)).await;
    say(&before.store, convo(1), 1..=99).await;
    let names = segments(before.dir.path());
    assert!(names.len() >= 3);
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("removed", |path| std::fs::remove_file(path).unwrap()),
        ("cut", |path| std::fs::File::options().write(true).open(path).unwrap().set_len(1_000).unwrap()),
        ("empty", |path| std::fs::write(path, []).unwrap()),
        ("a byte", |path| {
            let mut bytes = std::fs::read(path).unwrap();
            bytes[300] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let crashed = copy(before.dir.path());
        damage(&crashed.path().join(names[1].file_name().unwrap()));
        let refused = Embedded::open(crashed.path(), OpenOptions::default());
        assert!(matches!(&refused, Err(OpenError::Damaged(_))), "{what}: {:?}", refused.err());
    }
}

#[tokio::test]
async fn a_restored_backup_does_not_know_positions_of_its_lost_future() {
    let before = UnderTest::with(OpenOptions::default());
    group(&before.store, convo(1)).await;
    let early = before.store.position(before.store.horizon().await.unwrap());
    say(&before.store, convo(1), 1..=5).await;
    before.store.close().await;
    let backup = copy(before.dir.path());
    // The same opening goes on in both: what comes after is told apart by the next opening's tag.
    let before = UnderTest::at(before.dir, OpenOptions::default());
    say(&before.store, convo(1), 6..=9).await;
    let late = before.store.position(before.store.horizon().await.unwrap());
    let restored = Embedded::open(backup.path(), OpenOptions::default()).unwrap();
    assert!(restored.parse_position(&early).await.unwrap().is_some());
    assert_eq!(restored.parse_position(&late).await.unwrap(), None);
    // Also not when it has grown past that number.
    say(&restored, convo(1), 6..=20).await;
    assert_eq!(restored.parse_position(&late).await.unwrap(), None);
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
        let _ = tokio::time::timeout(Duration::ZERO, call).await;
    }
    group(store, convo(2)).await; // Behind them all.
    assert_messages(store, convo(1), 150).await;
}
