//! What those are told who follow.

use std::task::Poll;

use super::world::{Logs, World, convo};
use super::{CONSUMERS, FeedUnderTest};

const ONE: &str = CONSUMERS[0];
const OTHER: &str = CONSUMERS[1];

pub async fn who_follows_is_told_of_every_entry_in_the_order_of_each_conversation<F: FeedUnderTest>() {
    let mut world = World::<F>::new().await;
    let mut one = world.follower(ONE).await;
    for round in 1..=12 {
        for number in 1..=round {
            world.writer.say(number, u64::from(1 + (round + number) % 5)).await;
        }
        if round % 3 == 0 {
            one.hear_all(&world.writer.said).await;
        }
    }
    one.hear_all(&world.writer.said).await;
    assert_eq!(one.told, world.writer.said, "and of nothing else");
}

pub async fn who_comes_back_goes_on_where_he_was<F: FeedUnderTest>() {
    let mut world = World::<F>::new().await;
    let mut one = world.follower(ONE).await;
    world.writer.say(1, 5).await;
    world.writer.say(2, 5).await;
    one.hear_all(&world.writer.said).await;
    one.leave().await;
    let (missed, count) = (one.missed, one.count);
    // Meanwhile.
    world.writer.say(2, 5).await;
    world.writer.say(3, 5).await;
    one.come().await;
    one.hear_all(&world.writer.said).await;
    one.leave().await;
    world.writer.say(3, 5).await;
    world.reopen().await;
    world.writer.say(1, 5).await;
    one.is_on(world.feed());
    one.come().await;
    one.hear_all(&world.writer.said).await;
    assert_eq!(one.missed, missed, "he has missed nothing");
    assert!(one.count - count >= 21, "5, 6, 5 and 5 more");
}

pub async fn what_was_not_called_taken_is_told_again<F: FeedUnderTest>() {
    let mut world = World::<F>::new().await;
    let mut one = world.follower(ONE).await;
    world.writer.say(1, 5).await;
    one.hear_all(&world.writer.said).await;
    let missed = one.missed;
    world.writer.say(1, 5).await;
    world.writer.say(2, 5).await;
    let mut heard = 0;
    while heard < 11 {
        let news = one.hear().await;
        heard += news.came.iter().map(|came| came.range.last.get() + 1 - came.range.first.get()).sum::<u64>();
    }
    // He dies before he has taken any of it.
    one.leave().await;
    one.come().await;
    one.hear_all(&world.writer.said).await;
    assert!(one.count >= 6 + 11 + 11, "{} were told", one.count);
    assert_eq!(one.missed, missed, "he has missed nothing");
}

pub async fn consumers_do_not_know_of_each_other<F: FeedUnderTest>() {
    let mut world = World::<F>::new().await;
    let (mut one, mut other) = (world.follower(ONE).await, world.follower(OTHER).await);
    world.writer.say(1, 5).await;
    one.hear_all(&world.writer.said).await;
    one.leave().await;
    world.writer.say(2, 5).await;
    other.hear_all(&world.writer.said).await;
    one.come().await;
    one.hear_all(&world.writer.said).await;
    assert_eq!(one.told, other.told);
}

pub async fn who_is_new_is_told_that_he_has_missed_what_was_before<F: FeedUnderTest>() {
    let mut world = World::<F>::new().await;
    world.writer.say(1, 5).await;
    let one = world.follower(ONE).await;
    assert!(one.missed > 0);
    // By then it is in the logs.
    let logs = world.writer.store.logs(None, 10).await.unwrap();
    assert_eq!(
        logs.iter().map(|(convo, newest)| (*convo, newest.get())).collect::<Vec<_>>(),
        [(convo(1), 6)]
    );
}

pub async fn who_has_let_go_of_what_he_took_is_told_what_comes<F: FeedUnderTest>() {
    let mut world = World::<F>::new().await;
    let mut one = world.follower(ONE).await;
    let missed = one.missed;
    for round in 1..=3 {
        world.writer.say(round, 5).await;
        one.hear_all(&world.writer.said).await;
        let news = one.hear().await;
        one.take(&news).await;
        one.reader().let_go(&news.place).await.unwrap();
    }
    one.leave().await;
    world.writer.say(1, 5).await;
    one.come().await;
    one.hear_all(&world.writer.said).await;
    assert_eq!(one.missed, missed, "he has missed nothing since he was new");
}

pub async fn when_all_is_taken_nothing_waits<F: FeedUnderTest>() {
    let mut world = World::<F>::new().await;
    let mut one = world.follower(ONE).await;
    world.writer.say(1, 500).await;
    one.hear_all(&world.writer.said).await;
    let lag = one.reader().lag();
    assert!(!lag.is_empty());
    assert!(lag.iter().all(|lag| lag.entries == 0 && lag.since_ms.is_none()), "{lag:?}");
}

pub async fn who_is_about_to_be_told_and_goes_misses_nothing<F: FeedUnderTest>() {
    let mut world = World::<F>::new().await;
    let mut one = world.follower(ONE).await;
    let mut expected = Logs::new();
    for round in 1..=8_u16 {
        world.writer.say(1, 3).await;
        expected.clone_from(&world.writer.said);
        for polls in 0..round {
            // The call is dropped half way, wherever that is.
            let mut next = one.reader().next();
            let mut came = None;
            for _ in 0..polls {
                let polled = std::future::poll_fn(|context| Poll::Ready(next.as_mut().poll(context)));
                if let Poll::Ready(news) = polled.await {
                    came = news.ok();
                    break;
                }
            }
            drop(next);
            // It came all the same.
            if let Some(news) = came {
                one.take(&news).await;
            }
        }
        one.hear_all(&expected).await;
    }
    assert_eq!(one.told, expected);
}
