//! What those are told who follow the logs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tertulia_domain::log::Position;
use tertulia_protocol::ConvoId;
use tertulia_protocol::entry::HistoryPolicy;

use super::StoreUnderTest;
use super::world::*;
use crate::{JournalRow, Touched};

/// Longer than it may take until what was committed is told.
const DEADLINE: Duration = Duration::from_secs(20);

/// The newest entry of each conversation, as far as one has followed; nothing is passed over on the way.
type Followed = BTreeMap<ConvoId, u64>;

/// Follows from `since` on, so many rows at a time, until all that is `expected` was told; says where that ends.
async fn follow<S: StoreUnderTest>(
    world: &World<S>,
    mut since: Position,
    limit: usize,
    followed: &mut Followed,
    expected: &Followed,
) -> Position {
    let begun = Instant::now();
    loop {
        let rows = world.store().journal(since, limit).await.unwrap().unwrap();
        assert!(rows.len() <= limit);
        if rows.is_empty() && followed == expected {
            return since;
        }
        if rows.is_empty() {
            assert!(begun.elapsed() < DEADLINE, "followed to {followed:?}, and not to {expected:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        for JournalRow { commit, ranges, .. } in rows {
            assert!(!since.has(commit), "rows rise");
            since.pass(commit);
            for range in ranges {
                let known = followed.entry(range.convo).or_default();
                assert!(range.first.get() <= *known + 1, "nothing is passed over");
                assert!(range.first <= range.last);
                *known = range.last.get().max(*known);
                // What is told can be read.
                let count = usize::try_from(range.last.get() - range.first.get() + 1).unwrap();
                let entries = world.store().entries(range.convo, range.first, count).await.unwrap();
                assert_eq!(entries.len(), count);
                assert_eq!(entries.last().map(|(entry, _)| entry.seq), Some(range.last));
            }
        }
    }
}

pub async fn who_follows_is_told_of_every_entry<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let mut expected = Followed::new();
    let mut places: Vec<_> = [1, 2, 100].map(|limit| (limit, Position::default(), Followed::new())).into();
    for round in 0..8 {
        if round < 4 {
            let convo = world.group(&[ANA, BO]).await;
            expected.insert(convo, 1);
        }
        for number in 1..=round {
            let convo = convo(1 + u16::try_from(number % 4).unwrap().min(u16::try_from(round).unwrap()));
            let seq = world.say(convo, ANA, "x").await.get();
            expected.insert(convo, seq);
        }
        // What is no entry tells of none.
        world.mark(convo(1), BO, 1, 1).await;
        for (limit, since, followed) in &mut places {
            *since = follow(&world, *since, *limit, followed, &expected).await;
        }
        match round {
            2 => world.reopen().await,
            5 => world.crash().await,
            _ => {}
        }
    }
}

pub async fn several_ranges_are_read_as_each_of_them<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    // More than are read beside each other.
    let mut wanted = Vec::new();
    for number in 0..20 {
        let convo = world.group(&[ANA, BO]).await;
        for _ in 0..number % 4 {
            world.say(convo, BO, "x").await;
        }
        wanted.push(range(convo, 1, 1 + number % 4));
        wanted.push(range(convo, 2, 3));
    }
    // Once more, a stretch that is empty, and one of nothing that there is.
    wanted.extend([wanted[1], range(wanted[0].convo, 2, 1), range(convo(99), 1, 5)]);
    let found = world.store().ranges(&wanted).await.unwrap();
    assert_eq!(found.len(), wanted.len());
    for (found, Touched { convo, first, last }) in found.into_iter().zip(wanted) {
        let alone = world.store().entries(convo, first, 100).await.unwrap();
        let alone: Vec<_> = alone.into_iter().filter(|(entry, _)| entry.seq <= last).collect();
        assert_eq!(found, alone, "{convo} {first} {last}");
    }
    assert_eq!(world.store().ranges(&[]).await.unwrap(), Vec::<Vec<_>>::new());
}

fn range(convo: ConvoId, first: u64, last: u64) -> Touched {
    Touched { convo, first: seq(first), last: seq(last) }
}

pub async fn who_comes_back_goes_on_where_he_was<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    let mut followed = Followed::new();
    let at = follow(&world, Position::default(), 100, &mut followed, &Followed::from([(tea, 1)])).await;
    for _ in 0..10 {
        world.say(tea, ANA, "x").await;
    }
    let expected = Followed::from([(tea, 11)]);
    for _ in 0..2 {
        follow(&world, at, 100, &mut followed.clone(), &expected).await;
        world.reopen().await;
    }
}

pub async fn what_was_not_passed_is_not_forgotten<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA]).await;
    let mut followed = Followed::new();
    let mut at = Position::default();
    for round in 0..6 {
        let seq = world.say(tea, ANA, "x").await.get();
        let behind = (at, followed.clone());
        at = follow(&world, at, 100, &mut followed, &Followed::from([(tea, seq)])).await;
        world.store().forget_journal(behind.0).await.unwrap();
        let (since, mut followed) = behind;
        follow(&world, since, 100, &mut followed, &Followed::from([(tea, seq)])).await;
        if round == 3 {
            world.crash().await;
        }
    }
}

pub async fn logs_are_all_conversations_by_id<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    assert_eq!(world.store().logs(None, 10).await.unwrap(), []);
    let mut expected = Vec::new();
    for number in 0..7 {
        let convo = if number == 3 { world.direct(ANA, BO).await } else { world.group(&[ANA]).await };
        let mut last = seq(1);
        for _ in 0..number {
            last = world.say(convo, ANA, "x").await;
        }
        expected.push((convo, last));
    }
    expected.sort_unstable();
    for limit in [1, 3, 7, 8] {
        let mut found = Vec::new();
        loop {
            let after = found.last().map(|&(convo, _)| convo);
            let page = world.store().logs(after, limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        assert_eq!(found, expected);
    }
}

pub async fn one_is_told_from_where_one_may_see<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let since_joined = world.group(&[ANA]).await;
    let all = world.group_with(&[ANA], HistoryPolicy::All).await;
    for convo in [since_joined, all] {
        world.say(convo, ANA, "x").await;
        world.add(convo, ANA, &[BO]).await;
    }
    assert_eq!(world.see_from(BO).await, [(since_joined, seq(3)), (all, seq(1))]);
    world.remove(since_joined, ANA, BO).await;
    assert_eq!(world.see_from(BO).await, [(all, seq(1))]);
    assert_eq!(world.store().visible_from(BO, Some(since_joined)).await.unwrap(), []);
    world.add(since_joined, ANA, &[BO]).await;
    assert_eq!(world.see_from(BO).await, [(since_joined, seq(5)), (all, seq(1))]);
    assert_eq!(world.store().visible_from(BO, Some(since_joined)).await.unwrap(), [(since_joined, seq(5))]);
    assert_eq!(world.store().visible_from(BO, Some(convo(99))).await.unwrap(), []);
    assert_eq!(world.see_from(CY).await, []);
}

pub async fn who_did_not_hear_of_it_learns_who_came_in_and_who_went_out<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let (tea, quiet, direct) =
        (world.group(&[ANA]).await, world.group(&[ANA]).await, world.direct(ANA, BO).await);
    world.say(tea, ANA, "x").await;
    world.add(tea, ANA, &[BO, CY]).await; // 3
    world.entry(rename(tea, ANA, "cake")).await;
    world.remove(tea, ANA, BO).await; // 5
    world.add(tea, ANA, &[BO]).await; // 6
    for _ in 0..3 {
        world.say(tea, ANA, "x").await;
        world.say(quiet, ANA, "x").await;
    }
    world.entry(rename(quiet, ANA, "cake")).await;
    for _ in 0..2 {
        let found = async |among: &[(ConvoId, u64, u64)]| {
            let touched = |&(convo, first, last)| Touched { convo, first: seq(first), last: seq(last) };
            let among: Vec<_> = among.iter().map(touched).collect();
            let found = world.store().member_changes(&among).await.unwrap();
            let mut places = Vec::new();
            for (entry, commit) in found {
                // As the log has it.
                let logged = world.store().entries(entry.convo_id, entry.seq, 1).await.unwrap();
                assert_eq!(logged, [(Arc::clone(&entry), commit)]);
                places.push((entry.convo_id, entry.seq.get()));
            }
            places.sort_unstable();
            places
        };
        let mut all = vec![(tea, 1), (tea, 3), (tea, 5), (tea, 6), (quiet, 1), (direct, 1)];
        all.sort_unstable();
        assert_eq!(found(&[(quiet, 1, 5), (tea, 1, 9), (direct, 1, 1)]).await, all);
        assert_eq!(found(&[(tea, 4, 9), (quiet, 2, 5), (direct, 2, 2)]).await, [(tea, 5), (tea, 6)]);
        assert_eq!(found(&[(tea, 2, 5)]).await, [(tea, 3), (tea, 5)]);
        assert_eq!(found(&[(tea, 6, 6)]).await, [(tea, 6)]);
        // In another order, in parts, and where there is nothing.
        assert_eq!(found(&[(tea, 6, 9), (tea, 3, 4)]).await, [(tea, 3), (tea, 6)]);
        assert_eq!(found(&[(tea, 7, 99), (convo(99), 1, 9)]).await, []);
        assert_eq!(found(&[]).await, []);
        world.crash().await;
    }
}
