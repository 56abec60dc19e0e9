//! What changed since a commit: what a resume is made of.

use tertulia_domain::conversation::RECEIPTS_MEMBERS_MAX;
use tertulia_domain::log::{Change, Position, Receipt};
use tertulia_protocol::entry::HistoryPolicy;
use tertulia_protocol::rest::{MemberSettings, MemberSettingsPatch};
use tertulia_protocol::{ConvoId, Seq, Timestamp, UserId};

use super::StoreUnderTest;
use super::world::*;
use crate::Slice;

/// A change in short.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    joined: bool,
    missed: Option<u64>,
    title: Option<String>,
    own: Option<MemberSettings>,
    /// (user, delivered, read).
    receipts: Vec<(UserId, u64, u64)>,
}

/// The one conversation that changed.
async fn only<S: StoreUnderTest>(world: &World<S>, user: UserId, since: Position, convo: ConvoId) -> Seen {
    let mut changes = world.changes(user, since).await;
    assert_eq!(changes.len(), 1, "{changes:?}");
    let Change::In { convo: found, joined, first_missed, last_seq, shared, own, receipts } =
        changes.remove(0)
    else {
        panic!("he has left")
    };
    assert_eq!((found, last_seq), (convo, world.see(user, convo).await.last_seq));
    let short = |receipt: &Receipt| (receipt.user, receipt.delivered.get(), receipt.read.get());
    let mut receipts: Vec<_> = receipts.iter().map(short).collect();
    receipts.sort();
    let title = shared.map(|shared| shared.title.clone().unwrap_or_default());
    Seen { joined, missed: first_missed.map(Seq::get), title, own, receipts }
}

pub async fn nothing_has_changed_since_the_horizon<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    world.say(tea, ANA, "hi").await;
    for _ in 0..2 {
        let horizon = world.horizon().await;
        assert_eq!(world.changes(ANA, horizon).await, []);
        world.reopen().await;
    }
}

pub async fn the_first_missed_entry_is_the_first_since_then<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    let mut commits = Vec::new();
    for round in 0..40_usize {
        let count = 1 + round % 3;
        let intents = (0..count).map(|_| world.saying(tea, ANA, "x")).collect();
        let commit = world.commit(intents).await;
        commits.extend(std::iter::repeat_n(commit, count));
    }
    world.mark(tea, BO, 0, 1).await;
    let newest = commits.last().copied();
    let sinces: Vec<_> = commits.iter().flat_map(|&commit| [commit, commit.next()]).collect();
    for since in sinces.into_iter().filter(|since| Some(*since) <= newest) {
        let expected = commits.iter().position(|&commit| commit >= since).map(|at| at as u64 + 2);
        let since = world.before(since).await;
        assert_eq!(only(&world, BO, since, tea).await.missed, expected, "{since:?}");
    }
}

pub async fn a_change_carries_what_all_share<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    let since = world.horizon().await;
    world.say(tea, ANA, "hi").await;
    let before = only(&world, BO, since, tea).await;
    assert_eq!((before.missed, before.title), (Some(2), None));
    let since = world.horizon().await;
    world.entry(rename(tea, ANA, "tea")).await;
    let seen = only(&world, BO, since, tea).await;
    assert_eq!(seen, Seen { missed: Some(3), title: Some("tea".into()), ..Seen::default() });
}

pub async fn ones_own_settings_are_replayed<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    let since = world.horizon().await;
    let patch = MemberSettingsPatch { muted: Some(true), ..Default::default() };
    world.one(set_own(tea, ANA, patch)).await;
    let own = Some(MemberSettings { muted: true, ..Default::default() });
    assert_eq!(only(&world, ANA, since, tea).await, Seen { own, ..Seen::default() });
    assert_eq!(world.changes(BO, since).await, [], "another's settings are nothing to him");
}

pub async fn receipts_are_replayed_with_their_present_values<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO, CY]).await;
    world.say(tea, ANA, "a").await;
    world.say(tea, ANA, "b").await;
    world.mark(tea, CY, 2, 0).await;
    let since = world.horizon().await;
    world.mark(tea, BO, 2, 0).await;
    world.mark(tea, BO, 0, 3).await;
    for user in [ANA, BO, CY] {
        let seen = only(&world, user, since, tea).await;
        assert_eq!(seen, Seen { receipts: vec![(BO, 3, 3)], ..Seen::default() });
    }
    let since = world.horizon().await;
    world.say(tea, CY, "c").await;
    let seen = only(&world, ANA, since, tea).await;
    assert_eq!(seen, Seen { missed: Some(4), receipts: vec![(CY, 4, 4)], ..Seen::default() });
}

pub async fn a_receipt_says_when_something_was_received_beside_when_it_was_read<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    for text in ["a", "b", "c"] {
        world.say(tea, ANA, text).await;
    }
    let before = world.horizon().await;
    world.mark(tea, BO, 3, 0).await;
    let (received, behind) = (world.now, world.horizon().await);
    world.mark(tea, BO, 0, 2).await;
    world.mark(tea, BO, 3, 3).await;
    for _ in 0..2 {
        for user in [ANA, BO] {
            for (since, delivered_at) in [(before, Some(received)), (behind, None)] {
                let changes = world.changes(user, since).await;
                let [Change::In { receipts, .. }] = &changes[..] else { panic!("{changes:?}") };
                let of_bo: Vec<_> = receipts
                    .iter()
                    .map(|receipt| (receipt.read.get(), receipt.ts.as_millis(), receipt.delivered_at))
                    .collect();
                let delivered_at = delivered_at.map(Timestamp::from_millis);
                assert_eq!(of_bo, [(3, world.now, delivered_at)]);
            }
        }
        world.reopen().await;
    }
    let behind = world.horizon().await;
    world.mark(tea, BO, 0, 4).await;
    let at = Timestamp::from_millis(world.now);
    let changes = world.changes(ANA, behind).await;
    let [Change::In { receipts, .. }] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((receipts[0].ts, receipts[0].delivered_at), (at, Some(at)), "reading carries it along");
}

pub async fn in_a_large_conversation_only_ones_own_receipts_are_replayed<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    let others: Vec<_> = (0..RECEIPTS_MEMBERS_MAX as u16 - 2).map(|number| user(number + 1_000)).collect();
    world.add(tea, ANA, &others).await;
    let since = world.horizon().await;
    world.mark(tea, ANA, 0, 2).await;
    world.mark(tea, BO, 0, 2).await;
    assert_eq!(only(&world, BO, since, tea).await.receipts, [(ANA, 2, 2), (BO, 2, 2)]);
    world.add(tea, ANA, &[CY]).await;
    assert_eq!(only(&world, BO, since, tea).await.receipts, [(BO, 2, 2)]);
    assert_eq!(only(&world, ANA, since, tea).await.receipts, [(ANA, 2, 2)]);
}

pub async fn who_came_is_told_that_he_joined<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let since = world.horizon().await;
    let tea = world.group(&[ANA, BO]).await;
    for user in [ANA, BO] {
        assert_eq!(
            only(&world, user, since, tea).await,
            Seen { joined: true, missed: Some(1), ..Seen::default() }
        );
    }
    let since = world.horizon().await;
    world.add(tea, ANA, &[CY]).await;
    assert_eq!(only(&world, CY, since, tea).await, Seen { joined: true, missed: Some(2), ..Seen::default() });
    assert_eq!(only(&world, BO, since, tea).await, Seen { missed: Some(2), ..Seen::default() });
}

pub async fn who_came_late_missed_nothing_before<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let since = world.horizon().await;
    let tea = world.group_with(&[ANA, BO], HistoryPolicy::All).await;
    world.say(tea, ANA, "hi").await;
    world.add(tea, ANA, &[CY]).await;
    world.say(tea, BO, "hi cy").await;
    let seen = only(&world, CY, since, tea).await;
    assert_eq!((seen.joined, seen.missed), (true, Some(3)), "it begins with his own member_added");
}

pub async fn who_left_is_told_so<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    let since = world.horizon().await;
    world.remove(tea, ANA, BO).await;
    world.say(tea, ANA, "alone").await;
    for _ in 0..2 {
        assert_eq!(world.changes(BO, since).await, [Change::Left(tea)]);
        assert_eq!(world.store().changes(BO, since, Some(tea)).await.unwrap(), [Change::Left(tea)]);
        world.reopen().await;
    }
    assert_eq!(world.changes(BO, world.horizon().await).await, []);
}

pub async fn who_left_and_came_again_is_in<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    let since = world.horizon().await;
    world.remove(tea, ANA, BO).await;
    world.add(tea, ANA, &[BO]).await;
    assert_eq!(only(&world, BO, since, tea).await, Seen { joined: true, missed: Some(3), ..Seen::default() });
}

pub async fn changes_can_be_asked_of_one_conversation<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let (tea, talk) = (world.group(&[ANA, BO]).await, world.direct(ANA, BO).await);
    let since = world.horizon().await;
    world.say(tea, ANA, "a").await;
    world.say(talk, ANA, "b").await;
    for convo in [tea, talk] {
        let changes = world.store().changes(BO, since, Some(convo)).await.unwrap();
        assert!(matches!(&changes[..], [Change::In { convo: found, .. }] if *found == convo), "{changes:?}");
    }
    assert_eq!(world.store().changes(BO, since, Some(convo(99))).await.unwrap(), []);
    assert_eq!(world.changes(BO, since).await.len(), 2);
}

pub async fn changes_are_ordered_by_id<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let mut expected = vec![world.direct(ANA, BO).await, world.direct(CY, ANA).await];
    for _ in 0..5 {
        expected.push(world.group(&[ANA, BO]).await);
    }
    let since = world.horizon().await;
    for &convo in expected.clone().iter().rev() {
        world.say(convo, ANA, "x").await;
    }
    world.remove(expected[4], ANA, ANA).await;
    expected.sort();
    let changes = world.changes(ANA, since).await;
    let found: Vec<_> = changes
        .iter()
        .map(|change| match change {
            Change::Left(convo) | Change::In { convo, .. } => *convo,
        })
        .collect();
    assert_eq!(found, expected);
}

pub async fn entries_come_along_where_few_were_missed<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let mut convos = [world.group(&[ANA, BO]).await, world.group(&[ANA, BO]).await];
    // Changes come in the order of ids, and the first has the first say.
    convos.sort();
    let [many, few] = convos;
    let since = world.horizon().await;
    for (convo, count) in [(many, 40), (few, 3)] {
        for number in 0..count {
            world.say(convo, ANA, &format!("{number}")).await;
        }
    }
    let rooms = [(43, vec![many, few]), (42, vec![many]), (40, vec![many]), (39, vec![few]), (2, vec![])];
    for (entries_max, fit) in rooms {
        let missed = world.missed(BO, since, entries_max).await;
        assert_eq!(missed.pages.iter().map(|(convo, _)| *convo).collect::<Vec<_>>(), fit, "{entries_max}");
        for (convo, page) in missed.pages {
            let all = world.store().history(BO, convo, Slice::After(Seq::new(1)), 100).await.unwrap();
            assert_eq!(Some(page), all);
        }
    }
}

pub async fn what_comes_along_is_of_now_whoever_asked_before<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO, CY]).await;
    let mut sinces = vec![world.horizon().await];
    for round in 0..30_u64 {
        match round % 3 {
            0 => drop(world.mark(tea, CY, 1 + round / 2, 0).await),
            _ => drop(world.say(tea, ANA, &format!("{round}")).await),
        }
        sinces.push(world.horizon().await);
        for (at, since) in sinces.iter().enumerate().rev().step_by(1 + round as usize % 4) {
            let user = if at % 2 == 0 { BO } else { ANA };
            let missed = world.missed(user, *since, 1_000).await;
            assert_eq!(missed.changes, world.store().changes(user, *since, None).await.unwrap());
            let firsts = missed.changes.iter().filter_map(|change| match change {
                Change::In { first_missed, .. } => *first_missed,
                Change::Left(_) => None,
            });
            for first in firsts {
                let after = Slice::After(first.previous());
                let all = world.store().history(user, tea, after, 1_000).await.unwrap();
                assert_eq!(
                    missed.pages.iter().find(|(convo, _)| *convo == tea).map(|(_, page)| page),
                    all.as_ref()
                );
            }
        }
    }
}

pub async fn who_came_in_gets_no_entries_along<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA]).await;
    let since = world.horizon().await;
    world.add(tea, ANA, &[BO]).await;
    world.say(tea, ANA, "hi").await;
    let missed = world.missed(BO, since, 100).await;
    assert!(matches!(missed.changes[..], [Change::In { joined: true, .. }]), "{missed:?}");
    assert_eq!(missed.pages, []);
}
