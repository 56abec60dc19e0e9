//! Disks that are full, or seem so: nothing acked is lost, and service goes on when there is room.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tertulia_domain::log::{Intent, Outcome, Refusal};

use super::support::*;
use crate::embedded::{Faults, OpenOptions, TailLimits};
use crate::testsuite::world::{ANA, BO, CY, convo, rename, send};
use crate::{Slice, Store, StoreError};

fn is_unavailable<T: std::fmt::Debug>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable { retry_after, .. }) if *retry_after >= Duration::from_secs(1))
}

#[tokio::test]
async fn a_full_journal_refuses_the_batch_and_leaves_no_trace_of_it() {
    let faults = Faults::default();
    let under_test = UnderTest::with(OpenOptions { faults: faults.clone(), ..OpenOptions::default() });
    let store = &under_test.store;
    group(store, convo(1)).await;
    say(store, convo(1), 1..=3).await;
    let horizon = store.horizon().await.unwrap();
    faults.journal_full.store(true, Relaxed);
    let refused = [
        send(convo(1), ANA, 4, "lost"),
        Intent::AddMembers { convo: convo(1), by: ANA, users: vec![CY] },
        rename(convo(1), ANA, "lost"),
        Intent::RemoveMember { convo: convo(1), by: ANA, user: BO },
        Intent::Create {
            convo: convo(2),
            by: ANA,
            kind: tertulia_protocol::entry::ConversationType::Group,
            title: None,
            members: vec![ANA],
            history: Default::default(),
        },
    ];
    for intent in refused {
        let result = try_one(store, intent).await;
        assert!(is_unavailable(&result), "{result:?}");
        // What is read, and what changes nothing, goes on.
        assert_messages(store, convo(1), 3).await;
        let again = try_one(store, send(convo(1), ANA, 2, "2")).await.unwrap();
        assert!(matches!(again, Outcome::Duplicate(_)), "{again:?}");
    }
    assert_eq!(store.horizon().await.unwrap(), horizon);
    faults.journal_full.store(false, Relaxed);
    say(store, convo(1), 4..=6).await;
    assert_messages(store, convo(1), 6).await;
    let stranger = try_one(store, send(convo(1), CY, 1, "hi")).await.unwrap();
    assert_eq!(stranger, Outcome::Refused(Refusal::NotFound));
    assert_eq!(store.conversation(ANA, convo(1)).await.unwrap().unwrap().title, None);
    group(store, convo(2)).await;
}

#[tokio::test]
async fn a_journal_that_finds_no_room_refuses_and_service_goes_on_by_itself() {
    let faults = Faults { journal_bytes_max: Some(250_000), ..Faults::default() };
    faults.keep_journal.store(true, Relaxed);
    let under_test = UnderTest::with(OpenOptions {
        faults: faults.clone(),
        journal_segment_bytes: 30_000,
        ..OpenOptions::default()
    });
    let store = &under_test.store;
    group(store, convo(1)).await;
    let body = "x".repeat(10_000);
    let mut stored = 0;
    let refused = loop {
        match try_one(store, send(convo(1), ANA, stored + 1, &body)).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100, "there was always room");
    };
    let StoreError::Unavailable { reason, .. } = &refused else { panic!("{refused}") };
    assert!(reason.contains("storage space"), "{reason}");
    assert!(stored > 5);
    assert_messages(store, convo(1), stored).await;
    // When settled rows may go again there is room again, without a restart.
    faults.keep_journal.store(false, Relaxed);
    for _ in 0..1_000 {
        match try_one(store, send(convo(1), ANA, stored + 1, &body)).await {
            Ok(_) => stored += 1,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        if stored >= 100 {
            break;
        }
    }
    assert_eq!(stored, 100);
    assert_messages(store, convo(1), 100).await;
    let under_test = crate::testsuite::StoreUnderTest::crash(under_test).await;
    assert_messages(&under_test.store, convo(1), 100).await;
}

#[tokio::test]
async fn while_nothing_settles_the_tail_serves_until_it_is_full() {
    let faults = Faults::default();
    let under_test = UnderTest::with(OpenOptions {
        faults: faults.clone(),
        tail: TailLimits { records_max: 40, ..TailLimits::default() },
        ..OpenOptions::default()
    });
    let store = &under_test.store;
    group(store, convo(1)).await;
    store.heads(ANA).await.unwrap();
    faults.settled_full.store(true, Relaxed);
    let mut stored = 0;
    let refused = loop {
        match try_one(store, send(convo(1), ANA, stored + 1, "x")).await {
            Ok(_) => stored += 1,
            refused => break refused,
        }
        assert!(stored < 1_000, "the tail has no end");
    };
    assert!(is_unavailable(&refused), "{refused:?}");
    assert_eq!(stored, 40);
    // The log is read as before; what needs settled rows says that it must wait.
    let page = store.history(BO, convo(1), Slice::Newest, 200).await.unwrap().unwrap();
    assert_eq!(page.entries.len(), 41);
    let inbox = store.inbox(BO, None, 9).await;
    assert!(is_unavailable(&inbox), "{inbox:?}");
    faults.settled_full.store(false, Relaxed);
    until(|| figure(store, "store_unsettled_entries") == 0.0).await;
    say(store, convo(1), stored + 1..=stored + 5).await;
    assert_messages(store, convo(1), stored + 5).await;
}

#[tokio::test]
async fn while_the_wal_cannot_be_brought_into_the_file_reads_are_told_so_and_go_on_when_it_can() {
    let (options, faults) = burst();
    let under_test = UnderTest::with(options);
    let store = &under_test.store;
    group(store, convo(1)).await;
    say(store, convo(1), 1..=5).await;
    let unread = async || store.inbox(BO, None, 9).await.map(|page| page.items[0].unread_count);
    faults.wal_stays.store(true, Relaxed);
    assert_eq!(unread().await.unwrap(), 5, "the rows are there before it");
    for number in 6..=8 {
        say(store, convo(1), number..=number).await;
        let told = unread().await;
        assert!(is_unavailable(&told), "{told:?}");
    }
    faults.wal_stays.store(false, Relaxed);
    let goes_on = async {
        loop {
            match unread().await {
                Ok(unread) => return unread,
                told => assert!(is_unavailable(&told), "{told:?}"),
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), goes_on).await.expect("it does not go on"), 8);
    say(store, convo(1), 9..=9).await;
    assert_eq!(unread().await.unwrap(), 9);
}

#[tokio::test]
async fn a_store_that_cannot_settle_can_be_closed_and_loses_nothing() {
    let faults = Faults::default();
    let under_test = UnderTest::with(OpenOptions { faults: faults.clone(), ..OpenOptions::default() });
    group(&under_test.store, convo(1)).await;
    faults.settled_full.store(true, Relaxed);
    say(&under_test.store, convo(1), 1..=20).await;
    under_test.store.close().await;
    faults.settled_full.store(false, Relaxed);
    let under_test = UnderTest::at(under_test.dir, OpenOptions::default());
    assert_messages(&under_test.store, convo(1), 20).await;
}

/// A small tail makes its writers slower, not refused.
#[tokio::test]
async fn more_than_the_tail_holds_is_taken_at_the_pace_of_settling() {
    let under_test = UnderTest::with(OpenOptions {
        tail: TailLimits { records_max: 50, ..TailLimits::default() },
        ..OpenOptions::default()
    });
    let store = &under_test.store;
    group(store, convo(1)).await;
    for chunk in 0..50 {
        let numbers = 1 + chunk * 40..=40 + chunk * 40;
        let intents = numbers.map(|number| send(convo(1), ANA, number, &number.to_string())).collect();
        store.append(intents, tertulia_protocol::Timestamp::from_millis(0)).await.unwrap();
    }
    assert_messages(store, convo(1), 2_000).await;
}
