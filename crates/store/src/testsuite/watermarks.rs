//! Watermarks, unread counts, receipts, and a member's own settings.

use tertulia_domain::log::{Outcome, Refusal};
use tertulia_protocol::entry::HistoryPolicy;
use tertulia_protocol::rest::{MemberSettings, MemberSettingsPatch, MessageReceipt};
use tertulia_protocol::{ConvoId, Timestamp, UserId};

use super::StoreUnderTest;
use super::world::*;
use crate::StoreError;

pub async fn unread_counts_messages_of_others<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO, CY]).await;
    for text in ["a", "b", "c"] {
        world.say(tea, ANA, text).await;
    }
    assert_eq!(world.unread(BO, tea).await, (3, 1, 1));
    assert_eq!(world.unread(ANA, tea).await, (0, 4, 4));
    world.mark(tea, BO, 0, 3).await;
    assert_eq!(world.unread(BO, tea).await, (1, 3, 3));
    world.say(tea, BO, "d").await;
    assert_eq!(world.unread(BO, tea).await, (0, 5, 5));
    assert_eq!(world.unread(ANA, tea).await, (1, 4, 4));
    assert_eq!(world.unread(CY, tea).await, (4, 1, 1));
}

pub async fn changes_are_not_unread<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    world.entry(rename(tea, ANA, "tea")).await;
    world.add(tea, ANA, &[CY]).await;
    assert_eq!(world.unread(BO, tea).await, (0, 1, 1));
    world.say(tea, ANA, "hi").await;
    world.remove(tea, ANA, CY).await;
    assert_eq!(world.unread(BO, tea).await, (1, 1, 1));
    world.mark(tea, BO, 0, 3).await;
    assert_eq!(world.unread(BO, tea).await, (1, 3, 3));
    world.mark(tea, BO, 0, 5).await;
    assert_eq!(world.unread(BO, tea).await, (0, 5, 5));
}

pub async fn sending_moves_ones_own_watermarks<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    world.say(tea, ANA, "a").await;
    world.say(tea, BO, "b").await;
    for _ in 0..2 {
        assert_eq!(world.unread(BO, tea).await, (0, 3, 3));
        assert_eq!(world.unread(ANA, tea).await, (1, 2, 2));
        assert_eq!(world.mark(tea, BO, 0, 2).await, Outcome::Unchanged);
        world.reopen().await;
    }
    // A change that one makes is no message that one has sent.
    world.entry(rename(tea, ANA, "tea")).await;
    assert_eq!(world.unread(ANA, tea).await, (1, 2, 2));
}

pub async fn reading_carries_delivered_along<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    for text in ["a", "b", "c"] {
        world.say(tea, ANA, text).await;
    }
    let marks = [((2, 0), (2, 1)), ((0, 3), (3, 3)), ((4, 2), (4, 3)), ((2, 4), (4, 4))];
    for ((delivered, read), expected) in marks {
        let outcome = world.mark(tea, BO, delivered, read).await;
        let Outcome::Marked(receipt) = outcome else { panic!("{outcome:?}") };
        assert_eq!((receipt.convo, receipt.user), (tea, BO));
        assert_eq!((receipt.delivered.get(), receipt.read.get()), expected);
        assert_eq!(receipt.ts, Timestamp::from_millis(world.now));
    }
}

pub async fn a_lower_mark_changes_nothing<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    world.say(tea, ANA, "a").await;
    world.mark(tea, BO, 0, 2).await;
    for (delivered, read) in [(1, 0), (0, 1), (2, 2), (0, 0)] {
        assert_eq!(world.mark(tea, BO, delivered, read).await, Outcome::Unchanged);
    }
    assert_eq!(world.unread(BO, tea).await, (0, 2, 2));
}

pub async fn a_mark_beyond_the_head_is_refused<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    assert_eq!(world.refused(mark(tea, BO, 0, 2)).await, Refusal::BeyondHead(seq(2), seq(1)));
    assert_eq!(world.refused(mark(tea, BO, 9, 1)).await, Refusal::BeyondHead(seq(9), seq(1)));
    assert_eq!(world.unread(BO, tea).await, (0, 1, 1));
}

/// Where changes stand between messages, the number of a message must be looked up: in the batch itself, among
/// what is new, and in what was stored long ago.
pub async fn a_mark_far_below_the_head_counts_right<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO, CY]).await;
    let mut messages = vec![0, 0]; // By seq: how many messages there are up to it.
    for round in 0..12 {
        let intents = vec![
            rename(tea, ANA, &format!("tea {round}")),
            world.saying(tea, ANA, "x"),
            world.saying(tea, ANA, "y"),
            mark(tea, CY, 0, messages.len() as u64 + 1),
        ];
        let mut so_far = messages[messages.len() - 1];
        for message in [0, 1, 1] {
            so_far += message;
            messages.push(so_far);
        }
        world.append(intents).await;
        let (unread, _, read) = world.unread(CY, tea).await;
        assert_eq!((read, unread), (messages.len() as u64 - 2, 1));
        if round == 6 {
            world.reopen().await;
        }
    }
    let total = messages[messages.len() - 1];
    for (place, &number) in messages.iter().enumerate().skip(2).step_by(3) {
        world.mark(tea, BO, 0, place as u64).await;
        assert_eq!(world.unread(BO, tea).await, (total - number, place as u64, place as u64));
    }
}

pub async fn a_mark_of_nobody_is_not_found<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA]).await;
    assert_eq!(world.refused(mark(tea, BO, 0, 1)).await, Refusal::NotFound);
    assert_eq!(world.refused(mark(convo(9), ANA, 0, 1)).await, Refusal::NotFound);
}

async fn receipts<S: StoreUnderTest>(
    world: &World<S>,
    user: UserId,
    convo: ConvoId,
    message: u64,
) -> Option<Vec<(UserId, Option<i64>, Option<i64>)>> {
    let found = world.store().message_receipts(user, convo, seq(message), None, 1_000).await.unwrap()?;
    assert_eq!(found.next_cursor, None);
    let millis = |ts: Option<Timestamp>| ts.map(Timestamp::as_millis);
    let short =
        |receipt: &MessageReceipt| (receipt.user_id, millis(receipt.delivered_at), millis(receipt.seen_at));
    Some(found.items.iter().map(short).collect())
}

pub async fn receipts_tell_when_a_message_was_passed<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO, CY]).await;
    for text in ["a", "b", "c"] {
        world.say(tea, ANA, text).await;
    }
    world.mark(tea, BO, 3, 0).await;
    let t1 = world.now;
    world.mark(tea, BO, 0, 2).await;
    let t2 = world.now;
    world.mark(tea, BO, 0, 4).await;
    let t3 = world.now;
    for _ in 0..2 {
        let of = async |message| receipts(&world, ANA, tea, message).await.unwrap();
        assert_eq!(of(2).await, [(BO, Some(t1), Some(t2)), (CY, None, None)]);
        assert_eq!(of(3).await, [(BO, Some(t1), Some(t3)), (CY, None, None)]);
        assert_eq!(of(4).await, [(BO, Some(t3), Some(t3)), (CY, None, None)]);
        world.reopen().await;
    }
}

pub async fn who_writes_has_read_what_was_before<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    world.say(tea, ANA, "a").await;
    world.say(tea, ANA, "b").await;
    world.mark(tea, BO, 3, 0).await;
    let t1 = world.now;
    world.say(tea, BO, "c").await;
    let t2 = world.now;
    world.say(tea, BO, "d").await;
    assert_eq!(receipts(&world, BO, tea, 2).await.unwrap(), [(BO, Some(t1), Some(t2))]);
    assert_eq!(receipts(&world, ANA, tea, 3).await.unwrap(), [(BO, Some(t1), Some(t2))]);
    assert_eq!(receipts(&world, ANA, tea, 5).await.unwrap(), [(ANA, None, None)]);
}

pub async fn receipts_of_a_newcomer_date_from_his_joining<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group_with(&[ANA, BO], HistoryPolicy::All).await;
    world.say(tea, ANA, "a").await;
    world.add(tea, ANA, &[CY]).await;
    let joined = world.now;
    world.say(tea, ANA, "b").await;
    world.mark(tea, CY, 0, 4).await;
    let read = world.now;
    assert_eq!(
        receipts(&world, ANA, tea, 2).await.unwrap(),
        [(BO, None, None), (CY, Some(joined), Some(joined))]
    );
    assert_eq!(
        receipts(&world, ANA, tea, 4).await.unwrap(),
        [(BO, None, None), (CY, Some(read), Some(read))]
    );
    // Away and back: what he had read before he left counts no more.
    world.remove(tea, ANA, CY).await;
    world.add(tea, ANA, &[CY]).await;
    let again = world.now;
    assert_eq!(
        receipts(&world, ANA, tea, 4).await.unwrap(),
        [(BO, None, None), (CY, Some(again), Some(again))]
    );
}

pub async fn receipts_are_for_messages_that_one_may_see<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    world.say(tea, ANA, "a").await;
    world.add(tea, ANA, &[CY]).await;
    world.say(tea, ANA, "b").await;
    assert_eq!(receipts(&world, ANA, tea, 1).await, None, "no message");
    assert_eq!(receipts(&world, ANA, tea, 9).await, None, "not there");
    assert_eq!(receipts(&world, CY, tea, 2).await, None, "before he came");
    assert_eq!(receipts(&world, DI, tea, 2).await, None, "not in it");
    // Who cannot see it is not listed as one who has not read it.
    assert_eq!(receipts(&world, ANA, tea, 2).await.unwrap(), [(BO, None, None)]);
    assert_eq!(receipts(&world, CY, tea, 4).await.unwrap(), [(BO, None, None), (CY, None, None)]);
}

pub async fn pages_of_receipts_make_up_the_whole<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let others: Vec<UserId> = (0..300).map(|number| user(number + 1_000)).collect();
    let tea = world.group(&[ANA, BO]).await;
    world.add(tea, ANA, &others).await;
    let message = world.say(tea, BO, "hi").await;
    world.mark(tea, others[7], message.get(), message.get()).await;
    let seen = world.now;
    // They do not see it, and are in no page.
    world.add(tea, ANA, &[CY, DI]).await;
    for limit in [1, 7, 100, 301, 302] {
        let (mut found, mut cursor, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = world.store().message_receipts(ANA, tea, message, cursor.as_deref(), limit).await;
            let page = page.unwrap().unwrap();
            pages += 1;
            assert!(page.items.len() == limit || page.next_cursor.is_none());
            found.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(pages, 301_usize.div_ceil(limit), "the last is none without a member");
        assert_eq!(found[0].user_id, ANA);
        assert!(found[1..].iter().map(|receipt| receipt.user_id).eq(others.iter().copied()));
        let passed = |receipt: &MessageReceipt| receipt.delivered_at.or(receipt.seen_at).is_some();
        let passed: Vec<_> = found.iter().filter(|receipt| passed(receipt)).collect();
        let at = Some(Timestamp::from_millis(seen));
        assert_eq!(
            passed,
            [&MessageReceipt { user_id: others[7], delivered_at: at, seen_at: at }],
            "limit {limit}"
        );
    }
    let garbage = world.store().message_receipts(ANA, tea, message, Some("garbage"), 10).await;
    assert!(matches!(garbage, Err(StoreError::InvalidCursor)), "{garbage:?}");
}

pub async fn own_settings_are_ones_own<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    let patch = MemberSettingsPatch { pinned: Some(true), archived: Some(true), ..Default::default() };
    let expected = MemberSettings { pinned: true, archived: true, ..Default::default() };
    let outcome = world.one(set_own(tea, ANA, patch)).await;
    assert_eq!(outcome, Outcome::OwnChanged { convo: tea, user: ANA, settings: expected });
    assert_eq!(world.one(set_own(tea, ANA, patch)).await, Outcome::Unchanged);
    for _ in 0..2 {
        assert_eq!(world.see(ANA, tea).await.settings, expected);
        assert_eq!(world.see(BO, tea).await.settings, MemberSettings::default());
        world.reopen().await;
    }
    assert_eq!(world.log(ANA, tea).await, "1 new ana bo", "they are no entries");
}

pub async fn muting_ends_when_it_is_taken_back<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA]).await;
    let until = Timestamp::from_millis(world.now + 1);
    let steps = [
        ((None, Some(until)), (true, Some(until))),
        ((Some(true), None), (true, None)),
        ((Some(true), Some(until)), (true, Some(until))),
        ((Some(false), None), (false, None)),
    ];
    for ((muted, muted_until), expected) in steps {
        world.one(set_own(tea, ANA, MemberSettingsPatch { muted, muted_until, ..Default::default() })).await;
        let settings = world.see(ANA, tea).await.settings;
        assert_eq!((settings.muted, settings.muted_until), expected);
    }
}
