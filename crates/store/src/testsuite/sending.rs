//! Sending: order, idempotency, who may.

use tertulia_domain::log::{Intent, Outcome, Refusal};
use tertulia_protocol::entry::{HistoryPolicy, Posting};
use tertulia_protocol::{ClientSeq, DeviceId, EntryKind, Timestamp};

use super::StoreUnderTest;
use super::world::*;

pub async fn the_first_message_of_a_conversation_is_entry_2<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    let entry = world.entry(send(tea, BO, 9, "hi")).await;
    assert_eq!((entry.seq, entry.sender_id, entry.convo_id), (seq(2), BO, tea));
    assert_eq!(entry.client_seq, Some(ClientSeq::new(9)));
    assert_eq!(entry.ts, Timestamp::from_millis(world.now));
    assert_eq!(world.log(ANA, tea).await, "1 new ana bo, 2 bo: hi");
}

pub async fn entries_are_dense_in_the_order_of_intents<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let (tea, talk) = (world.group(&[ANA, BO]).await, world.direct(ANA, BO).await);
    let intents = vec![
        send(tea, ANA, 1, "a"),
        send(talk, BO, 1, "x"),
        send(tea, BO, 1, "b"),
        rename(tea, ANA, "tea"),
        send(talk, ANA, 1, "y"),
        send(tea, ANA, 2, "c"),
    ];
    world.append(intents).await;
    assert_eq!(world.log(BO, tea).await, "1 new ana bo, 2 ana: a, 3 bo: b, 4 \"tea\", 5 ana: c");
    assert_eq!(world.log(BO, talk).await, "1 new ana bo, 2 bo: x, 3 ana: y");
}

pub async fn each_intent_of_a_batch_has_its_own_outcome<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    let batch = world
        .append(vec![
            send(tea, ANA, 1, "a"),
            send(tea, CY, 1, "who is this"),
            send(tea, ANA, 1, "a"),
            mark(tea, BO, 0, 2),
            mark(tea, BO, 0, 1),
            send(tea, BO, 1, "b"),
        ])
        .await;
    let kinds: Vec<_> = batch
        .outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Appended { entry, .. } => format!("entry {}", entry.seq),
            Outcome::Duplicate(entry) => format!("again {}", entry.seq),
            Outcome::Marked(receipt) => format!("read {}", receipt.read),
            Outcome::Unchanged => "unchanged".into(),
            Outcome::Refused(refusal) => format!("{:?}", refusal.code()),
            Outcome::OwnChanged { .. } => "own".into(),
        })
        .collect();
    assert_eq!(kinds, ["entry 2", "NotFound", "again 2", "read 2", "unchanged", "entry 3"]);
}

pub async fn the_same_message_again_is_the_same_entry<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    let first = world.entry(send(tea, ANA, 1, "hi")).await;
    world.say(tea, BO, "hello").await;
    for _ in 0..3 {
        let again = world.one(send(tea, ANA, 1, "hi")).await;
        assert_eq!(again, Outcome::Duplicate(first.clone().into()));
    }
    assert_eq!(world.log(ANA, tea).await, "1 new ana bo, 2 ana: hi, 3 bo: hello");
}

pub async fn second_use_of_client_seq_with_other_content_is_refused<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    world.entry(send(tea, ANA, 1, "hi")).await;
    let refusal = world.refused(send(tea, ANA, 1, "hi ")).await;
    assert_eq!(refusal, Refusal::ClientSeqTaken(ClientSeq::new(1)));
    assert_eq!(world.log(ANA, tea).await, "1 new ana bo, 2 ana: hi");
}

pub async fn a_retry_with_another_reply_is_other_content<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    let entry = world.entry(reply(tea, ANA, 1, "hi", Some(seq(1)))).await;
    assert_eq!(world.refused(send(tea, ANA, 1, "hi")).await, Refusal::ClientSeqTaken(ClientSeq::new(1)));
    let again = world.one(reply(tea, ANA, 1, "hi", Some(seq(1)))).await;
    assert_eq!(again, Outcome::Duplicate(entry.into()));
}

pub async fn client_seq_may_come_in_any_order<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA]).await;
    let numbers = [9, ClientSeq::MAX.get(), 2, 700, 1];
    for (place, &number) in (2..).zip(&numbers) {
        assert_eq!(world.entry(send(tea, ANA, number, &number.to_string())).await.seq, seq(place));
    }
    for (place, &number) in (2..).zip(&numbers) {
        let again = world.one(send(tea, ANA, number, &number.to_string())).await;
        assert!(matches!(&again, Outcome::Duplicate(entry) if entry.seq == seq(place)), "{again:?}");
    }
}

pub async fn client_seq_counts_by_device_and_conversation<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let (tea, talk) = (world.group(&[ANA, BO]).await, world.direct(ANA, BO).await);
    world.entry(send(tea, ANA, 1, "one")).await;
    world.entry(send(talk, ANA, 1, "another conversation")).await;
    world.entry(send(tea, BO, 1, "another user")).await;
    let tablet = Intent::Send {
        convo: tea,
        sender: ANA,
        device: DeviceId::from_bytes([7; 16]),
        client_seq: ClientSeq::new(1),
        body: "another device".into(),
        reply_to: None,
    };
    world.entry(tablet).await;
    let log = "1 new ana bo, 2 ana: one, 3 bo: another user, 4 ana: another device";
    assert_eq!(world.log(ANA, tea).await, log);
}

pub async fn a_retry_in_the_same_batch_is_one_entry<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA]).await;
    let batch =
        world.append(vec![send(tea, ANA, 5, "hi"), send(tea, ANA, 5, "hi"), send(tea, ANA, 5, "ho")]).await;
    let [Outcome::Appended { entry, .. }, Outcome::Duplicate(again), Outcome::Refused(refusal)] =
        &batch.outcomes[..]
    else {
        panic!("{:?}", batch.outcomes)
    };
    assert_eq!(entry, again);
    assert_eq!(*refusal, Refusal::ClientSeqTaken(ClientSeq::new(5)));
}

pub async fn a_retry_after_a_restart_is_the_same_entry<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    let first = world.entry(send(tea, ANA, 7, "hi")).await;
    world.entry(send(tea, ANA, 9, "later")).await;
    world.reopen().await;
    assert_eq!(world.one(send(tea, ANA, 7, "hi")).await, Outcome::Duplicate(first.clone().into()));
    world.crash().await;
    assert_eq!(world.one(send(tea, ANA, 7, "hi")).await, Outcome::Duplicate(first.into()));
    // A number in between was never used.
    assert_eq!(world.entry(send(tea, ANA, 8, "late")).await.seq, seq(4));
}

pub async fn each_number_of_a_device_is_its_own_message_in_whatever_order_they_came<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    let mut sent = Vec::new();
    // Runs up and down, with holes, and with others in between.
    for number in [1, 2, 3, 7, 8, 6, 5, 100, 101, 50, 51, 52, 102] {
        sent.push(world.entry(send(tea, ANA, number, &format!("ana {number}"))).await);
        if number % 4 == 0 {
            world.entry(send(tea, BO, number, &format!("bo {number}"))).await;
        }
    }
    world.reopen().await;
    for entry in &sent {
        let number = entry.client_seq.unwrap().get();
        let again = world.one(send(tea, ANA, number, &format!("ana {number}"))).await;
        assert_eq!(again, Outcome::Duplicate(entry.clone().into()));
    }
    for number in [4, 9, 49, 53, 99, 103] {
        world.entry(send(tea, ANA, number, "new")).await;
    }
}

pub async fn a_retry_is_answered_when_sending_is_no_longer_allowed<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let (tea, talk) = (world.group(&[ANA, BO]).await, world.direct(ANA, BO).await);
    world.entry(send(tea, BO, 1, "hi")).await;
    world.entry(send(talk, BO, 1, "hi")).await;
    world.entry(set_posting(tea, ANA, Posting::Admins)).await;
    world.one(Intent::SetBlock { convo: talk, by: ANA, blocked: true }).await;
    for convo in [tea, talk] {
        let again = world.one(send(convo, BO, 1, "hi")).await;
        assert!(matches!(again, Outcome::Duplicate(_)), "{again:?}");
        let refusal = world.refused(send(convo, BO, 2, "ho")).await;
        assert_eq!(refusal.code(), tertulia_protocol::Code::Forbidden);
    }
}

pub async fn a_retry_of_who_was_removed_is_not_found<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    world.entry(send(tea, BO, 1, "hi")).await;
    world.remove(tea, ANA, BO).await;
    assert_eq!(world.refused(send(tea, BO, 1, "hi")).await, Refusal::NotFound);
    // He may come again, and it is still the same message.
    world.add(tea, ANA, &[BO]).await;
    let again = world.one(send(tea, BO, 1, "hi")).await;
    assert!(matches!(&again, Outcome::Duplicate(entry) if entry.seq == seq(2)), "{again:?}");
}

pub async fn bodies_are_kept_byte_for_byte<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA]).await;
    let bodies = [
        " two  spaces \n",
        "e\u{301} is not é",
        "👩\u{200d}🚀",
        "\u{feff}\r\n\t",
        "'; DROP TABLE messages;--",
    ];
    for (number, body) in (1..).zip(bodies) {
        world.entry(send(tea, ANA, number, body)).await;
    }
    world.entry(send(tea, ANA, 9, &"x".repeat(65_536))).await;
    world.reopen().await;
    let history = world.store().history(ANA, tea, crate::Slice::After(seq(1)), 10).await.unwrap().unwrap();
    let found: Vec<_> = history
        .entries
        .iter()
        .map(|(entry, _)| match &entry.kind {
            EntryKind::Text { body, .. } => body.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(found[..5], bodies);
    assert_eq!(found[5].len(), 65_536);
}

pub async fn a_conversation_that_does_not_exist_is_like_one_that_one_is_not_in<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    for convo in [tea, convo(999)] {
        let intents = vec![
            send(convo, CY, 1, "hi"),
            Intent::AddMembers { convo, by: CY, users: vec![DI] },
            Intent::RemoveMember { convo, by: CY, user: ANA },
            Intent::RemoveMember { convo, by: CY, user: CY },
            set_role(convo, CY, ANA, tertulia_protocol::entry::Role::Member),
            rename(convo, CY, "mine"),
            set_history(convo, CY, HistoryPolicy::All),
            mark(convo, CY, 0, 1),
            set_own(convo, CY, Default::default()),
        ];
        for outcome in world.append(intents).await.outcomes {
            assert_eq!(outcome, Outcome::Refused(Refusal::NotFound));
        }
        let store = world.store();
        assert_eq!(world.log(CY, convo).await, "-");
        assert_eq!(store.conversation(CY, convo).await.unwrap(), None);
        assert!(store.members(CY, convo, None, 9).await.unwrap().is_none());
        assert_eq!(store.message_receipts(CY, convo, seq(1), None, 9).await.unwrap(), None);
        assert_eq!(store.changes(CY, Default::default(), Some(convo)).await.unwrap(), []);
    }
}

pub async fn a_reply_needs_an_entry_that_the_sender_may_see<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    world.say(tea, ANA, "hi").await;
    world.add(tea, ANA, &[CY]).await;
    for bad in [0, 1, 2, 4, 99] {
        let refusal = world.refused(reply(tea, CY, 1, "re", Some(seq(bad)))).await;
        assert_eq!(refusal, Refusal::NoSuchTarget(seq(bad)));
    }
    let entry = world.entry(reply(tea, CY, 1, "re", Some(seq(3)))).await;
    assert_eq!(entry.kind, EntryKind::Text { body: "re".into(), reply_to: Some(seq(3)) });
    world.entry(reply(tea, BO, 1, "re", Some(seq(2)))).await;
}

pub async fn time_never_goes_back_in_a_conversation<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let (tea, other) = (world.group(&[ANA, BO]).await, world.group(&[ANA]).await);
    let first = world.entry(send(tea, ANA, 1, "a")).await;
    world.now -= 3_600_000;
    let second = world.entry(send(tea, ANA, 2, "b")).await;
    assert_eq!(second.ts, first.ts);
    let Outcome::Marked(receipt) = world.mark(tea, BO, 0, 3).await else { panic!() };
    assert_eq!(receipt.ts, first.ts);
    world.reopen().await;
    assert_eq!(world.entry(send(tea, ANA, 3, "c")).await.ts, first.ts);
    world.now += 7_200_000;
    assert_eq!(world.entry(send(tea, ANA, 4, "d")).await.ts, Timestamp::from_millis(world.now));
    assert!(world.see(ANA, other).await.updated_at < first.ts);
}

pub async fn where_admins_post_members_do_not<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO, CY]).await;
    world.entry(set_role(tea, ANA, BO, tertulia_protocol::entry::Role::Admin)).await;
    world.entry(set_posting(tea, BO, Posting::Admins)).await;
    world.say(tea, ANA, "owner").await;
    world.say(tea, BO, "admin").await;
    let refusal = world.refused(send(tea, CY, 1, "member")).await;
    assert!(matches!(refusal, Refusal::Role(_)), "{refusal:?}");
    world.entry(set_posting(tea, ANA, Posting::All)).await;
    world.entry(send(tea, CY, 1, "member")).await;
}

pub async fn calls_are_committed_in_the_order_in_which_they_came<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA]).await;
    let now = world.tick();
    let calls: Vec<_> =
        (1..=500).map(|number| world.store().append(vec![send(tea, ANA, number, "x")], now)).collect();
    // `join_all` polls them in this order the first time.
    for (place, batch) in (2..).zip(join_all(calls).await) {
        let batch = batch.unwrap();
        assert!(matches!(&batch.outcomes[..], [Outcome::Appended { entry, .. }] if entry.seq == seq(place)));
    }
}

/// Polls all, in order, until all are done.
async fn join_all<F: Future + Unpin>(mut futures: Vec<F>) -> Vec<F::Output> {
    let mut outputs: Vec<_> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let std::task::Poll::Ready(done) = std::pin::Pin::new(future).poll(context)
            {
                *output = Some(done);
            }
        }
        if outputs.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

pub async fn a_batch_that_changes_nothing_is_no_commit<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA]).await;
    let first = world.commit(vec![send(tea, ANA, 1, "hi")]).await;
    for nothing in [send(tea, ANA, 1, "hi"), mark(tea, ANA, 0, 1), send(tea, BO, 1, "hi")] {
        assert_eq!(world.append(vec![nothing]).await.commit, None);
    }
    let horizon = world.horizon().await;
    let second = world.commit(vec![send(tea, ANA, 2, "ho")]).await;
    assert!(horizon.has(first) && !horizon.has(second), "{first:?} {horizon:?} {second:?}");
}

pub async fn an_empty_batch_is_answered<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let batch = world.append(Vec::new()).await;
    assert_eq!((batch.commit, batch.outcomes.len()), (None, 0));
}
