//! Commits, positions, restarts and crashes.

use tertulia_domain::log::{Outcome, Position};

use super::StoreUnderTest;
use super::world::*;
use crate::StoreError;

pub async fn commits_rise_and_go_on_after_a_restart<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let mut horizon = world.horizon().await;
    let tea = convo(1);
    for round in 0..30 {
        let intent = if round == 0 {
            create_group(tea, &[ANA], Default::default())
        } else {
            world.saying(tea, ANA, "x")
        };
        let commit = world.commit(vec![intent]).await;
        assert!(!horizon.has(commit), "{commit:?} lies below {horizon:?}, which was told before");
        horizon = world.horizon().await;
        assert!(horizon.has(commit));
        match round {
            10 => world.reopen().await,
            20 => world.crash().await,
            _ => {}
        }
        assert!(world.horizon().await.covers(&horizon), "it went back from {horizon:?}");
    }
}

pub async fn positions_survive_a_restart<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA]).await;
    let mut positions = Vec::new();
    for round in 0..4 {
        for _ in 0..3 {
            let horizon = world.horizon().await;
            positions.push((horizon, world.store().position(horizon)));
            world.say(tea, ANA, "x").await;
        }
        let horizon = world.horizon().await;
        positions.push((horizon, world.store().position(horizon)));
        if round % 2 == 0 {
            world.crash().await;
        } else {
            world.reopen().await;
        }
        for (commit, position) in &positions {
            assert_eq!(world.store().parse_position(position).await.unwrap(), Some(*commit), "{position}");
            assert!(position.len() <= 40 && position.bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}

pub async fn a_position_of_another_store_is_unknown<S: StoreUnderTest>() {
    let (mut world, mut other) = (World::<S>::new().await, World::<S>::new().await);
    for world in [&mut world, &mut other] {
        let tea = world.group(&[ANA]).await;
        world.say(tea, ANA, "x").await;
    }
    let position = other.store().position(other.horizon().await);
    assert_eq!(world.store().parse_position(&position).await.unwrap(), None);
}

pub async fn a_position_from_beyond_is_unknown<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    world.group(&[ANA]).await;
    let horizon = world.horizon().await;
    // Others may be writing to what is behind the store: far beyond.
    let beyond = horizon.numbers().map(|number| number + (1 << 40));
    let beyond = world.store().position(Position::new(beyond));
    assert_eq!(world.store().parse_position(&beyond).await.unwrap(), None);
    assert_eq!(world.store().parse_position(&world.store().position(horizon)).await.unwrap(), Some(horizon));
}

pub async fn garbage_is_no_position<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    world.group(&[ANA]).await;
    let good = world.store().position(world.horizon().await);
    let long = "9".repeat(100_000);
    for garbage in ["", "0", "garbage", "🫖", "\0", &good[1..], &format!("{good}0000000000000000"), &long] {
        assert_eq!(world.store().parse_position(garbage).await.unwrap(), None, "{garbage:?}");
    }
}

async fn fill<S: StoreUnderTest>(world: &mut World<S>) -> Vec<String> {
    let (tea, talk) = (world.group(&[ANA, BO, CY]).await, world.direct(ANA, BO).await);
    for number in 0..20 {
        world.say(tea, ANA, &format!("a{number}")).await;
        world.say(talk, BO, &format!("b{number}")).await;
    }
    world.entry(rename(tea, ANA, "tea")).await;
    world.remove(tea, ANA, CY).await;
    world.mark(tea, BO, 9, 7).await;
    everything(world).await
}

/// All that can be seen, as text.
async fn everything<S: StoreUnderTest>(world: &World<S>) -> Vec<String> {
    let mut seen = Vec::new();
    for user in [ANA, BO, CY] {
        let page = world.store().inbox(user, None, 200).await.unwrap();
        for item in page.items {
            seen.push(world.log(user, item.id).await);
            seen.push(world.members(user, item.id).await);
            seen.push(format!("{item:?}"));
        }
        seen.push(format!("{:?}", world.changes(user, Position::default()).await));
    }
    seen
}

pub async fn everything_is_there_after_a_restart<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let before = fill(&mut world).await;
    for _ in 0..2 {
        world.reopen().await;
        assert_eq!(everything(&world).await, before);
    }
}

pub async fn everything_that_was_acked_is_there_after_a_crash<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let mut before = fill(&mut world).await;
    for round in 0..5 {
        world.crash().await;
        assert_eq!(everything(&world).await, before);
        let tea = convo(1);
        world.say(tea, ANA, &format!("after crash {round}")).await;
        if round == 2 {
            world.crash().await; // At once.
        }
        before = everything(&world).await;
    }
}

pub async fn nothing_is_done_after_close<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA]).await;
    let now = world.tick();
    let store = world.store();
    store.close().await;
    store.close().await;
    let closed = |error: StoreError| assert!(matches!(error, StoreError::Closed), "{error}");
    closed(store.append(vec![send(tea, ANA, 1, "x")], now).await.unwrap_err());
    closed(store.history(ANA, tea, crate::Slice::Newest, 1).await.unwrap_err());
    closed(store.inbox(ANA, None, 1).await.unwrap_err());
    closed(store.heads(ANA).await.unwrap_err());
}

pub async fn a_hundred_conversations_at_once_stay_dense<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let mut convos = Vec::new();
    for _ in 0..100 {
        convos.push(world.group(&[ANA, BO]).await);
    }
    let now = world.tick();
    for round in 0..20 {
        let mut intents = Vec::new();
        for (place, &convo) in convos.iter().enumerate() {
            for number in 0..=place as u64 % 3 {
                intents.push(send(convo, BO, round * 3 + number + 1, "x"));
            }
        }
        let batch = world.store().append(intents, now).await.unwrap();
        assert!(batch.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Appended { .. })));
        if round == 10 {
            world.crash().await;
        }
    }
    for (place, &convo) in convos.iter().enumerate() {
        let page =
            world.store().history(ANA, convo, crate::Slice::After(seq(0)), 200).await.unwrap().unwrap();
        let seqs: Vec<_> = page.entries.iter().map(|(entry, _)| entry.seq.get()).collect();
        let expected = 1 + 20 * (place as u64 % 3 + 1);
        assert_eq!(seqs, (1..=expected).collect::<Vec<_>>());
    }
}
