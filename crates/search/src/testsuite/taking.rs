//! What is taken, and what becomes of it.

use super::IndexUnderTest;
use super::world::{ANA, NOTHING, World, convo, in_convos};
use crate::{Change, IndexError, Search};

pub async fn a_new_index_has_no_cursor_and_finds_nothing<I: IndexUnderTest>() {
    let world = World::<I>::new().await;
    assert_eq!(world.index().cursor().await.unwrap(), None);
    assert_eq!(world.find("tea").await, NOTHING);
}

pub async fn the_cursor_is_that_of_the_last_batch_also_after_a_restart<I: IndexUnderTest>() {
    let mut world = World::<I>::new().await;
    world.say("tea").await;
    world.say("tea").await;
    assert_eq!(world.index().cursor().await.unwrap().as_deref(), Some("batch 2"));
    world.reopen().await;
    assert_eq!(world.index().cursor().await.unwrap().as_deref(), Some("batch 2"));
    assert_eq!(world.find("tea").await, [2, 1]);
    // A batch may have nothing for it.
    world.index().apply(Vec::new(), Some("further")).await.unwrap();
    assert_eq!(world.index().cursor().await.unwrap().as_deref(), Some("further"));
}

pub async fn the_cursor_stays_where_a_batch_brings_none<I: IndexUnderTest>() {
    let mut world = World::<I>::new().await;
    let [first, second, third] = [1, 2, 3].map(|number| world.message(convo(number), ANA, "tea"));
    world.index().apply(vec![Change::Put(first)], None).await.unwrap();
    assert_eq!(world.index().cursor().await.unwrap(), None);
    world.index().apply(vec![Change::Put(second)], Some("here")).await.unwrap();
    world.index().apply(vec![Change::Put(third)], None).await.unwrap();
    assert_eq!(world.index().cursor().await.unwrap().as_deref(), Some("here"));
    assert_eq!(world.search(in_convos("tea", &[1, 2, 3])).await.hits.len(), 3);
}

pub async fn the_cursor_is_moved_by_who_knows_where_it_is<I: IndexUnderTest>() {
    let world = World::<I>::new().await;
    let moved = async |from, to| world.index().move_cursor(from, to).await.unwrap();
    assert!(!moved(Some("here"), "there").await);
    assert!(moved(None, "here").await);
    assert!(!moved(None, "there").await);
    assert!(moved(Some("here"), "there").await);
    assert!(!moved(Some("here"), "here").await);
    assert_eq!(world.index().cursor().await.unwrap().as_deref(), Some("there"));
}

/// Of several who feed it, each with conversations of his own.
pub async fn what_several_bring_at_one_time_is_all_found<I: IndexUnderTest>() {
    let mut world = World::<I>::new().await;
    let mut batches = Vec::new();
    for round in 0..6 {
        for number in 1..=3 {
            // Of one moment: they want numbers beside each other.
            let messages = (0..20).map(|_| world.message_now(convo(number), ANA, "tea"));
            batches.push(messages.map(Change::Put).collect::<Vec<_>>());
        }
        world.now += i64::from(round % 2);
    }
    // Each brings some of it, and one brings all of it again.
    let bring = async |first: usize, step: usize| {
        for batch in batches.iter().skip(first).step_by(step) {
            world.index().apply(batch.clone(), None).await.unwrap();
        }
    };
    tokio::join!(bring(0, 3), bring(1, 3), bring(2, 3), bring(0, 1));
    let found = world.search(Search { limit: 1_000, ..in_convos("tea", &[1, 2, 3]) }).await;
    let mut places: Vec<_> = found.hits.iter().map(|hit| (hit.convo, hit.seq)).collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!((found.hits.len(), places.len()), (360, 360));
}

pub async fn a_batch_that_comes_again_is_found_once<I: IndexUnderTest>() {
    let mut world = World::<I>::new().await;
    let batch: Vec<_> = (0..5).map(|_| world.message(convo(1), ANA, "tea")).collect();
    for _ in 0..3 {
        world.put(batch.clone()).await;
        assert_eq!(world.find("tea").await, [5, 4, 3, 2, 1]);
    }
    world.reopen().await;
    world.put(batch[1..3].to_vec()).await;
    world.put([batch.clone(), batch].concat()).await;
    assert_eq!(world.find("tea").await, [5, 4, 3, 2, 1]);
}

pub async fn what_was_said_last_is_what_is_found<I: IndexUnderTest>() {
    let mut world = World::<I>::new().await;
    let mut message = world.say("tea").await;
    for (body, word) in [("coffee", "coffee"), ("milk", "milk")] {
        message = crate::Document::new(message.convo, message.seq, message.sender, message.ts, body);
        world.put(vec![message.clone()]).await;
        assert_eq!(world.find(word).await, [1]);
        assert_eq!(world.find("tea").await, NOTHING);
    }
    assert_eq!(world.find("coffee").await, NOTHING);
    // Both in one batch.
    let first = world.message(convo(1), ANA, "water");
    let second = crate::Document::new(first.convo, first.seq, first.sender, first.ts, "wine");
    world.put(vec![first, second]).await;
    assert_eq!((world.find("water").await, world.find("wine").await), (vec![], vec![2]));
}

pub async fn what_was_removed_is_not_found<I: IndexUnderTest>() {
    let mut world = World::<I>::new().await;
    let first = world.say("tea").await;
    world.say("tea").await;
    let remove = Change::Remove { convo: first.convo, seq: first.seq, ts: first.ts };
    for _ in 0..2 {
        world.index().apply(vec![remove.clone()], Some("removed")).await.unwrap();
        assert_eq!(world.find("tea").await, [2]);
    }
    // In the batch that brought it.
    let third = world.message(convo(1), ANA, "tea");
    let remove = Change::Remove { convo: third.convo, seq: third.seq, ts: third.ts };
    world.index().apply(vec![Change::Put(third.clone()), remove.clone()], Some("both")).await.unwrap();
    assert_eq!(world.find("tea").await, [2]);
    world.index().apply(vec![remove, Change::Put(third)], Some("back")).await.unwrap();
    assert_eq!(world.find("tea").await, [3, 2]);
}

pub async fn a_cleared_index_is_as_new<I: IndexUnderTest>() {
    let mut world = World::<I>::new().await;
    let message = world.say("tea").await;
    world.index().clear().await.unwrap();
    assert_eq!(world.index().cursor().await.unwrap(), None);
    assert_eq!(world.find("tea").await, NOTHING);
    world.put(vec![message]).await;
    assert_eq!(world.find("tea").await, [1]);
}

pub async fn nothing_is_done_after_close<I: IndexUnderTest>() {
    let mut world = World::<I>::new().await;
    let message = world.say("tea").await;
    let index = world.index();
    index.close().await;
    index.close().await;
    let is_closed = |error: IndexError| assert!(matches!(error, IndexError::Closed), "{error}");
    is_closed(index.apply(vec![Change::Put(message)], Some("late")).await.unwrap_err());
    is_closed(index.search(in_convos("tea", &[1])).await.unwrap_err());
    is_closed(index.cursor().await.unwrap_err());
}
