//! Conversations that are settled before their turn, for whoever reads them while a burst is not settled.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tertulia_domain::conversation::Record;
use tertulia_domain::log::{Commit, Intent, Outcome, Position};
use tertulia_protocol::{ClientSeq, ConvoId, Seq};

use super::support::*;
use crate::embedded::settled::WAL_PAGES_MAX;
use crate::embedded::sqlite::PAGE_BYTES;
use crate::embedded::tail::Stretch;
use crate::embedded::{Embedded, OpenError, OpenOptions, TailLimits};
use crate::testsuite::StoreUnderTest as _;
use crate::testsuite::world::{ANA, BO, CY, convo, mark, send};
use crate::{Slice, Store, Touched};

fn unsettled(store: &Embedded) -> usize {
    figure(store, "store_unsettled_records") as usize
}

#[tokio::test]
async fn while_a_burst_lasts_reads_are_exact_and_the_rest_is_not_settled() {
    let (options, faults) = burst();
    let under_test = UnderTest::with(options);
    let store = &under_test.store;
    group(store, convo(1)).await;
    group(store, convo(2)).await;
    say(store, convo(1), 1..=100).await;
    say(store, convo(2), 1..=50).await;
    assert_eq!(store.inbox(BO, None, 9).await.unwrap().items.len(), 2);
    for number in 51..=70 {
        say(store, convo(2), number..=number).await;
        assert_messages(store, convo(2), number).await;
        let heads = store.heads(BO).await.unwrap();
        assert_eq!(heads.iter().map(|head| head.last_seq.get()).max(), Some(101));
        let inbox = store.inbox(BO, None, 9).await.unwrap();
        let unread: Vec<_> = inbox.items.iter().map(|item| item.unread_count).collect();
        assert_eq!(unread.iter().sum::<u64>(), 100 + number);
    }
    // All of it waits for its turn, also what was settled before it.
    assert_eq!(unsettled(store), 1 + 100 + 1 + 70);
    faults.burst.store(false, Relaxed);
    until(|| unsettled(store) == 0).await;
    assert_messages(store, convo(1), 100).await;
    assert_messages(store, convo(2), 70).await;
}

/// Nothing has its turn while it lasts, at which the WAL would be brought into the file.
#[tokio::test]
async fn reads_while_a_burst_lasts_leave_the_wal_as_short_as_it_is_otherwise() {
    let (options, _) = burst();
    let under_test = UnderTest::with(options);
    let store = &under_test.store;
    group(store, convo(1)).await;
    let body = "x".repeat(60_000);
    for round in 0..55 {
        let intents = (1..=30).map(|n| send(convo(1), ANA, round * 30 + n, &body)).collect();
        store.append(intents, NOW).await.unwrap();
        let inbox = store.inbox(BO, None, 1).await.unwrap();
        assert_eq!(inbox.items[0].last_seq.get(), 1 + (round + 1) * 30);
    }
    assert_eq!(unsettled(store), 1 + 55 * 30, "nothing had its turn");
    let length = |file: &str| std::fs::metadata(under_test.dir.path().join(file)).unwrap().len();
    let most = u64::from(WAL_PAGES_MAX * PAGE_BYTES) * 5 / 4;
    assert!(length("tertulia.db-wal") < most, "{} of {most}", length("tertulia.db-wal"));
    assert!(
        length("tertulia.db") + length("tertulia.db-wal") > most,
        "{} and {} of {most} are not enough to tell",
        length("tertulia.db"),
        length("tertulia.db-wal")
    );
}

#[tokio::test]
async fn who_is_in_a_conversation_is_known_while_a_burst_lasts() {
    let (options, _) = burst();
    let under_test = UnderTest::with(options);
    let store = &under_test.store;
    group(store, convo(1)).await;
    say(store, convo(1), 1..=5).await;
    assert_eq!(store.sharing(ANA, &[BO, CY]).await.unwrap(), [BO]);
    try_one(store, Intent::AddMembers { convo: convo(1), by: ANA, users: vec![CY] }).await.unwrap();
    assert_eq!(store.sharing(ANA, &[BO, CY]).await.unwrap(), [BO, CY]);
    let seen = store.history(CY, convo(1), Slice::Newest, 9).await.unwrap().unwrap();
    assert_eq!(seen.entries.len(), 1);
    let removed = Intent::RemoveMember { convo: convo(1), by: ANA, user: BO };
    try_one(store, removed).await.unwrap();
    say(store, convo(1), 6..=6).await;
    assert!(store.history(BO, convo(1), Slice::Newest, 9).await.unwrap().is_none());
    assert!(store.inbox(BO, None, 9).await.unwrap().items.is_empty());
    assert_eq!(store.sharing(ANA, &[BO, CY]).await.unwrap(), [CY]);
}

#[tokio::test]
async fn after_a_crash_nothing_is_settled_twice_and_nothing_is_missing() {
    let (options, _) = burst();
    let before = UnderTest::with(options);
    let store = &before.store;
    for number in 1..=3 {
        group(store, convo(number)).await;
    }
    for round in 0..4 {
        for number in 1..=3 {
            say(store, convo(number), 1 + round * 10..=10 + round * 10).await;
        }
        // Another one each time, and the second more than once.
        for number in [2, 1 + round as u16 % 3] {
            try_one(store, mark(convo(number), BO, 5 + round, 5 + round)).await.unwrap();
            store.conversation(BO, convo(number)).await.unwrap().unwrap();
        }
        let crashed = copy(before.dir.path());
        for _ in 0..2 {
            let after = Embedded::open(crashed.path(), OpenOptions::default()).unwrap();
            for number in 1..=3 {
                let seen = after.conversation(BO, convo(number)).await.unwrap().unwrap();
                assert_eq!(seen.last_seq.get(), 11 + round * 10);
                let here = store.conversation(BO, convo(number)).await.unwrap().unwrap();
                assert_eq!(seen, here);
                let again = try_one(&after, send(convo(number), ANA, 3, "3")).await.unwrap();
                assert!(matches!(again, Outcome::Duplicate(_)), "{again:?}");
                let page = after.history(BO, convo(number), Slice::Newest, 1_000).await.unwrap().unwrap();
                assert_eq!(page.entries.len() as u64, 11 + round * 10);
            }
        }
    }
}

/// The appender knows nothing of it any more, and what it loads must be exact.
#[tokio::test]
async fn after_a_crash_in_a_burst_what_is_sent_to_is_settled_before_its_turn() {
    let (options, _) = burst();
    let under_test = UnderTest::with(options);
    for number in [1, 2] {
        group(&under_test.store, convo(number)).await;
        say(&under_test.store, convo(number), 1..=5).await;
    }
    let under_test = under_test.crash().await;
    let store = &under_test.store;
    for number in [2, 1] {
        say(store, convo(number), 6..=8).await;
        let again = try_one(store, send(convo(number), ANA, 3, "3")).await.unwrap();
        assert!(matches!(again, Outcome::Duplicate(_)), "{again:?}");
        assert_messages(store, convo(number), 8).await;
    }
    assert_eq!(unsettled(store), 2 * (1 + 8), "nothing was settled in its turn");
}

#[tokio::test]
async fn after_a_crash_in_a_burst_all_that_a_batch_is_sent_to_is_settled_together() {
    let (options, _) = burst();
    let under_test = UnderTest::with(options);
    for number in 1..=30 {
        group(&under_test.store, convo(number)).await;
        say(&under_test.store, convo(number), 1..=2).await;
    }
    let under_test = under_test.crash().await;
    let store = &under_test.store;
    let intents = (1..=30).map(|number| send(convo(number), ANA, 3, "3")).collect();
    let batch = store.append(intents, tertulia_protocol::Timestamp::from_millis(0)).await.unwrap();
    assert!(batch.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Appended { .. })));
    let rounds = store.tail.rounds();
    assert!((1..=2).contains(&rounds), "{rounds} rounds for one batch");
    assert_messages(store, convo(30), 3).await;
}

/// Whoever follows asks from where he is: what is named behind his back he never hears of.
#[tokio::test]
async fn what_was_settled_before_its_turn_is_named_in_its_turn() {
    let (options, faults) = burst();
    let mut under_test = UnderTest::with(options);
    group(&under_test.store, convo(1)).await;
    group(&under_test.store, convo(2)).await;
    say(&under_test.store, convo(1), 1..=5).await;
    say(&under_test.store, convo(2), 1..=5).await;
    under_test.store.conversation(BO, convo(2)).await.unwrap();
    let rows = |store: Arc<Embedded>| async move {
        store.journal(Position::before(Commit::default()), 100).await.unwrap().unwrap()
    };
    assert!(rows(Arc::clone(&under_test.store)).await.is_empty());
    let expected =
        [1, 2].map(|number| Touched { convo: convo(number), first: Seq::new(1), last: Seq::new(6) });
    for is_crash in [false, true] {
        if is_crash {
            under_test = under_test.crash().await;
        } else {
            faults.burst.store(false, Relaxed);
            let store = &under_test.store;
            until(|| unsettled(store) == 0).await;
        }
        let rows = rows(Arc::clone(&under_test.store)).await;
        let mut found: Vec<_> = rows.into_iter().flat_map(|row| row.ranges).collect();
        found.sort_by_key(|touched| touched.convo);
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn a_retry_is_found_in_the_journal() {
    let (options, _) = burst();
    let under_test = UnderTest::with(options);
    let store = &under_test.store;
    group(store, convo(1)).await;
    say(store, convo(1), 1..=30).await;
    for number in [1, 17, 30] {
        let again = try_one(store, send(convo(1), ANA, number, &number.to_string())).await.unwrap();
        let Outcome::Duplicate(entry) = again else { panic!("{again:?}") };
        assert_eq!(entry.client_seq, Some(ClientSeq::new(number)));
        assert_eq!(entry.seq.get(), number + 1);
    }
    assert!(unsettled(store) > 0);
}

#[tokio::test]
async fn a_long_message_is_read_whole() {
    let (options, _) = burst();
    let under_test = UnderTest::with(options);
    let store = &under_test.store;
    group(store, convo(1)).await;
    let bodies: Vec<_> = [1, 300, 400, 511, 512, 513, 4_000, 16_000].map(|length| "é".repeat(length)).into();
    let sends = (1..).zip(&bodies).map(|(number, body)| send(convo(1), ANA, number, body)).collect();
    // One batch: each but the last has others behind it.
    store.append(sends, tertulia_protocol::Timestamp::from_millis(0)).await.unwrap();
    let page = store.history(BO, convo(1), Slice::After(Seq::new(1)), 100).await.unwrap().unwrap();
    let found: Vec<_> = page
        .entries
        .iter()
        .map(|(entry, _)| match &entry.kind {
            tertulia_protocol::EntryKind::Text { body, .. } => body.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(found, bodies);
    assert!(unsettled(store) > 0);
}

/// E7.
#[tokio::test]
async fn a_segment_in_which_somebody_reads_is_not_written_over() {
    let under_test = UnderTest::with(OpenOptions { journal_segment_bytes: 2_000, ..burst().0 });
    let (store, faults) = (&under_test.store, &under_test.options.faults);
    group(store, convo(1)).await;
    say(store, convo(1), 1..=60).await;
    let found = store.tail.find(convo(1), Stretch::From(Seq::new(2)), 1_000).entries;
    assert_eq!(found.len(), 60);
    faults.burst.store(false, Relaxed);
    // Until what stood there is long gone.
    for number in 61..=300 {
        say(store, convo(1), number..=number).await;
        store.heads(ANA).await.unwrap();
    }
    until(|| figure(store, "store_unsynced_commits") == 0.0).await;
    say(store, convo(1), 301..=400).await;
    for (seq, pending) in &found {
        let Record::Entry { entry, .. } = pending.read().unwrap() else { panic!("no entry") };
        assert_eq!((entry.seq, entry.client_seq), (*seq, Some(ClientSeq::new(seq.get() - 1))));
    }
    assert_messages(store, convo(1), 400).await;
}

#[tokio::test]
async fn a_folder_whose_journal_is_older_than_what_was_settled_before_its_turn_is_refused() {
    let (options, _) = burst();
    let before = UnderTest::with(options);
    group(&before.store, convo(1)).await;
    say(&before.store, convo(1), 1..=5).await;
    let early = copy(before.dir.path());
    say(&before.store, convo(1), 6..=9).await;
    before.store.conversation(BO, convo(1)).await.unwrap();
    let late = copy(before.dir.path());
    for segment in std::fs::read_dir(late.path()).unwrap().map(|file| file.unwrap()) {
        if segment.file_name().to_str().unwrap().starts_with("journal-") {
            std::fs::remove_file(segment.path()).unwrap();
        }
    }
    copy_files(early.path(), late.path(), |name| name.starts_with("journal-"));
    let refused = Embedded::open(late.path(), OpenOptions::default());
    assert!(matches!(&refused, Err(OpenError::Damaged(_))), "{:?}", refused.err());
}

/// Else a full disk would stay full: segments go only when they are settled.
#[tokio::test]
async fn a_full_disk_ends_the_waiting_for_the_end_of_a_burst() {
    let (options, faults) = burst();
    let under_test = UnderTest::with(options);
    let store = &under_test.store;
    group(store, convo(1)).await;
    say(store, convo(1), 1..=20).await;
    faults.journal_full.store(true, Relaxed);
    try_one(store, send(convo(1), ANA, 21, "x")).await.unwrap_err();
    until(|| unsettled(store) == 0).await;
}

#[tokio::test]
async fn a_tail_that_is_half_full_is_settled_also_while_a_burst_lasts() {
    let (options, _) = burst();
    let limits = [
        TailLimits { records_max: 100, ..options.tail },
        TailLimits { bytes_max: 10_000, ..options.tail },
        TailLimits { convos_max: 20, ..options.tail },
    ];
    for tail in limits {
        let under_test = UnderTest::with(OpenOptions { tail, ..options.clone() });
        let store = &under_test.store;
        for number in 1..=60 {
            let convo: ConvoId = convo(number);
            group(store, convo).await;
            say(store, convo, 1..=4).await;
        }
        until(|| unsettled(store) < 200).await;
    }
}
