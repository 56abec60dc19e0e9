//! History, inbox and what else is asked of the present.

use tertulia_domain::log::Intent;
use tertulia_protocol::EntryKind;
use tertulia_protocol::entry::{ConversationType, HistoryPolicy, Posting, Role};

use super::StoreUnderTest;
use super::world::*;
use crate::{Slice, StoreError};

async fn with_messages<S: StoreUnderTest>(count: u64) -> (World<S>, tertulia_protocol::ConvoId) {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    for number in 2..=count {
        world.say(tea, ANA, &number.to_string()).await;
    }
    (world, tea)
}

pub async fn history_begins_with_the_newest_page<S: StoreUnderTest>() {
    let (mut world, tea) = with_messages::<S>(6).await;
    for _ in 0..2 {
        assert_eq!(world.slice(BO, tea, Slice::Newest, 3).await, "4 ana: 4, 5 ana: 5, 6 ana: 6 …");
        let all = "1 new ana bo, 2 ana: 2, 3 ana: 3, 4 ana: 4, 5 ana: 5, 6 ana: 6";
        assert_eq!(world.slice(BO, tea, Slice::Newest, 6).await, all);
        assert_eq!(world.slice(BO, tea, Slice::Newest, 200).await, all);
        world.reopen().await;
    }
}

pub async fn history_after_and_before_meet<S: StoreUnderTest>() {
    let (mut world, tea) = with_messages::<S>(6).await;
    for _ in 0..2 {
        assert_eq!(world.slice(BO, tea, Slice::After(seq(0)), 2).await, "1 new ana bo, 2 ana: 2 …");
        assert_eq!(world.slice(BO, tea, Slice::After(seq(4)), 2).await, "5 ana: 5, 6 ana: 6");
        assert_eq!(world.slice(BO, tea, Slice::After(seq(5)), 2).await, "6 ana: 6");
        assert_eq!(world.slice(BO, tea, Slice::After(seq(6)), 2).await, "");
        assert_eq!(world.slice(BO, tea, Slice::After(seq(99)), 2).await, "");
        assert_eq!(world.slice(BO, tea, Slice::Before(seq(6)), 2).await, "4 ana: 4, 5 ana: 5 …");
        assert_eq!(world.slice(BO, tea, Slice::Before(seq(3)), 2).await, "1 new ana bo, 2 ana: 2");
        assert_eq!(world.slice(BO, tea, Slice::Before(seq(1)), 2).await, "");
        assert_eq!(world.slice(BO, tea, Slice::Before(seq(0)), 2).await, "");
        assert_eq!(world.slice(BO, tea, Slice::Before(seq(99)), 1).await, "6 ana: 6 …");
        world.reopen().await;
    }
}

/// While entries are on their way to wherever they rest, pages must not show it.
pub async fn pages_are_full_while_there_is_more<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    for number in 2..=120 {
        world.say(tea, ANA, &number.to_string()).await;
        for (slice, first) in [(Slice::After(seq(0)), 1), (Slice::After(seq(number / 2)), number / 2 + 1)] {
            let page = world.store().history(BO, tea, slice, 40).await.unwrap().unwrap();
            let seqs: Vec<_> = page.entries.iter().map(|(entry, _)| entry.seq.get()).collect();
            let last = (first + 39).min(number);
            assert_eq!(seqs, (first..=last).collect::<Vec<_>>());
            assert_eq!(page.has_more, last < number);
        }
        let page = world.store().history(BO, tea, Slice::Newest, 40).await.unwrap().unwrap();
        assert_eq!(page.entries.len() as u64, number.min(40));
        assert_eq!(page.has_more, number > 40);
    }
}

/// Who sees nothing older than his coming asks from the beginning, or from where he was before he was put out.
pub async fn entries_are_all_of_a_log_whoever_may_see_them<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    for _ in 0..5 {
        world.say(tea, ANA, "x").await;
    }
    world.remove(tea, ANA, BO).await;
    world.remove(tea, ANA, ANA).await;
    for _ in 0..2 {
        for (from, limit, expected) in
            [(1, 200, 1..=8), (0, 3, 1..=3), (4, 3, 4..=6), (7, 200, 7..=8), (8, 1, 8..=8)]
        {
            let found = world.store().entries(tea, seq(from), limit).await.unwrap();
            let seqs: Vec<_> = found.iter().map(|(entry, _)| entry.seq.get()).collect();
            assert_eq!(seqs, expected.collect::<Vec<_>>(), "{limit} from {from}");
            assert!(found.is_sorted_by_key(|(_, commit)| *commit));
        }
        for (id, from, limit) in [(tea, 9, 200), (tea, 1, 0), (convo(99), 1, 200)] {
            assert!(world.store().entries(id, seq(from), limit).await.unwrap().is_empty());
        }
        world.reopen().await;
    }
}

pub async fn pages_begin_where_a_member_may_begin<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group_with(&[ANA, BO], HistoryPolicy::SinceJoined).await;
    for number in 2..=20 {
        world.say(tea, ANA, &number.to_string()).await;
    }
    world.remove(tea, ANA, BO).await;
    world.add(tea, ANA, &[BO, CY]).await;
    for reader in [BO, CY] {
        // Each of them has the first pages after the other's reads; some entries rest by then, and some do not.
        for number in 1..=5 {
            let said = world.say(tea, ANA, &format!("new {number}")).await.get();
            for after in [0, 1, 15, 21] {
                let page =
                    world.store().history(reader, tea, Slice::After(seq(after)), 3).await.unwrap().unwrap();
                let seqs: Vec<_> = page.entries.iter().map(|(entry, _)| entry.seq.get()).collect();
                assert_eq!(
                    seqs,
                    (22..=said.min(24)).collect::<Vec<_>>(),
                    "after {after}, while {said} is the newest"
                );
                assert_eq!(page.has_more, said > 24);
            }
        }
    }
}

pub async fn history_carries_commit_numbers<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA]).await;
    let first = world.commit(vec![send(tea, ANA, 1, "a"), send(tea, ANA, 2, "b")]).await;
    let second = world.commit(vec![send(tea, ANA, 3, "c")]).await;
    for _ in 0..2 {
        let page = world.store().history(ANA, tea, Slice::After(seq(1)), 9).await.unwrap().unwrap();
        let commits: Vec<_> = page.entries.iter().map(|&(_, commit)| commit).collect();
        assert_eq!(commits, [first, first, second]);
        world.reopen().await;
    }
}

pub async fn the_inbox_has_the_newest_activity_first<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let (tea, talk, notes) =
        (world.group(&[ANA, BO]).await, world.direct(BO, ANA).await, world.direct(ANA, ANA).await);
    world.group(&[BO, CY]).await;
    let inbox = async |world: &World<S>| {
        let page = world.store().inbox(ANA, None, 50).await.unwrap();
        assert_eq!(page.next_cursor, None);
        page.items.iter().map(|item| item.id).collect::<Vec<_>>()
    };
    assert_eq!(inbox(&world).await, [notes, talk, tea]);
    world.say(tea, BO, "hi").await;
    assert_eq!(inbox(&world).await, [tea, notes, talk]);
    // Reading is no activity.
    world.mark(talk, ANA, 0, 1).await;
    assert_eq!(inbox(&world).await, [tea, notes, talk]);
    world.remove(tea, ANA, ANA).await;
    assert_eq!(inbox(&world).await, [notes, talk]);
    let page = world.store().inbox(ANA, None, 50).await.unwrap();
    let members: Vec<_> = page.items.iter().map(|item| item.members.as_ref().map_or(0, Vec::len)).collect();
    assert_eq!(members, [1, 2], "direct ones carry members");
}

pub async fn pages_of_the_inbox_make_up_the_whole<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let mut convos = Vec::new();
    for round in 0..23 {
        convos.push(world.group(&[ANA]).await);
        if round % 3 == 0 {
            world.now -= 1_000; // Some have the same time.
        }
    }
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = world.store().inbox(ANA, cursor.as_deref(), 5).await.unwrap();
        assert!(page.items.len() == 5 || page.next_cursor.is_none());
        assert!(page.items.is_sorted_by_key(|item| std::cmp::Reverse(item.updated_at)));
        found.extend(page.items.iter().map(|item| item.id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    found.sort();
    assert_eq!(found, convos);
}

pub async fn an_inbox_shows_the_newest_visible_message<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    world.say(tea, ANA, "secret").await;
    world.add(tea, ANA, &[CY]).await;
    let last = async |world: &World<S>, user| {
        let page = world.store().inbox(user, None, 1).await.unwrap();
        page.items[0].last_message.as_ref().map(show)
    };
    assert_eq!(last(&world, CY).await, None);
    assert_eq!(last(&world, BO).await.as_deref(), Some("2 ana: secret"));
    world.say(tea, BO, "hi").await;
    world.entry(rename(tea, ANA, "tea")).await;
    for user in [ANA, BO, CY] {
        assert_eq!(last(&world, user).await.as_deref(), Some("4 bo: hi"));
    }
}

pub async fn the_inbox_of_nobody_is_empty<S: StoreUnderTest>() {
    let world = World::<S>::new().await;
    let page = world.store().inbox(DI, None, 9).await.unwrap();
    assert!(page.items.is_empty() && page.next_cursor.is_none());
    assert_eq!(world.store().heads(DI).await.unwrap(), []);
    assert_eq!(world.changes(DI, Default::default()).await, []);
}

pub async fn a_garbage_cursor_is_refused<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    world.group(&[ANA]).await;
    for garbage in ["", "garbage", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "'", "\0"] {
        let page = world.store().inbox(ANA, Some(garbage), 9).await;
        assert!(matches!(page, Err(StoreError::InvalidCursor)), "{garbage:?}: {page:?}");
    }
}

pub async fn a_conversation_is_shown_as_its_member_sees_it<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let id = convo(50);
    let create = Intent::Create {
        convo: id,
        by: ANA,
        kind: ConversationType::Group,
        title: Some("tea".into()),
        members: vec![ANA, BO],
        history: HistoryPolicy::All,
    };
    let created = world.entry(create).await;
    world.say(id, ANA, "hi").await;
    let said = world.now;
    world.mark(id, BO, 2, 0).await;
    let seen = world.see(BO, id).await;
    assert_eq!((seen.id, seen.kind, seen.title.as_deref()), (id, ConversationType::Group, Some("tea")));
    assert_eq!((seen.about.as_str(), seen.posting, seen.history), ("", Posting::All, HistoryPolicy::All));
    assert_eq!((seen.created_at, seen.updated_at.as_millis()), (created.ts, said));
    assert_eq!((seen.last_seq, seen.visible_from_seq), (seq(2), seq(1)));
    assert_eq!((seen.delivered_seq, seen.read_seq, seen.unread_count), (seq(2), seq(1), 1));
    assert_eq!((seen.role, seen.member_count), (Role::Member, 2));
    assert!(seen.members.is_none());
    let message = seen.last_message.unwrap();
    assert_eq!(message.kind, EntryKind::Text { body: "hi".into(), reply_to: None });
}

pub async fn heads_are_of_all_conversations_that_one_is_in<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let (tea, talk) = (world.group(&[ANA, BO, CY]).await, world.direct(ANA, BO).await);
    let gone = world.group(&[CY, ANA]).await;
    world.remove(gone, CY, ANA).await;
    world.say(tea, BO, "hi").await;
    let mut heads: Vec<_> = world
        .store()
        .heads(ANA)
        .await
        .unwrap()
        .iter()
        .map(|head| (head.convo, head.last_seq, head.member_count))
        .collect();
    heads.sort();
    let mut expected = [(tea, seq(2), 3), (talk, seq(1), 2)];
    expected.sort();
    assert_eq!(heads, expected);
}

pub async fn sharing_is_being_in_one_conversation_now<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO, CY]).await;
    world.direct(ANA, DI).await;
    let sharing =
        async |world: &World<S>, user| world.store().sharing(user, &[ANA, BO, CY, DI, user]).await.unwrap();
    let stranger = user(77);
    assert_eq!(sharing(&world, ANA).await, [ANA, BO, CY, DI, ANA]);
    assert_eq!(sharing(&world, BO).await, [ANA, BO, CY, BO]);
    assert_eq!(sharing(&world, stranger).await, [stranger]);
    world.remove(tea, ANA, BO).await;
    assert_eq!(sharing(&world, BO).await, [BO, BO]);
    assert_eq!(sharing(&world, ANA).await, [ANA, CY, DI, ANA]);
}

pub async fn what_was_acked_is_read_at_once<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    for round in 1..=60 {
        let said = world.say(tea, ANA, "x").await;
        match round % 5 {
            0 => assert_eq!(world.see(BO, tea).await.last_seq, said),
            1 => assert_eq!(world.store().inbox(BO, None, 1).await.unwrap().items[0].last_seq, said),
            2 => assert_eq!(world.store().heads(BO).await.unwrap()[0].last_seq, said),
            3 => {
                let page = world.store().history(BO, tea, Slice::Newest, 1).await.unwrap().unwrap();
                assert_eq!(page.entries[0].0.seq, said);
            }
            _ => {
                world.mark(tea, BO, 0, said.get()).await;
                assert_eq!(world.unread(BO, tea).await, (0, said.get(), said.get()));
            }
        }
    }
}
