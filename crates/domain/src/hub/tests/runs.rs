//! Messages that follow on each other are handed over at once. Nobody is to see a difference.

use super::*;

/// What is committed in one batch, and by which of the connections it was sent.
type Batch = Vec<(Outcome, Option<usize>)>;

/// A node with four readers, of whom the second is slow and the third lags in another conversation.
struct Node {
    world: World,
    readers: [Arc<Connection>; 4],
}

impl Node {
    fn new(limits: Limits, others_append: bool) -> Self {
        let mut world = World::with(limits, others_append);
        let readers = [ANA, BO, BO, CY].map(|user| world.connect(user));
        let reached = (at(1), &world.hub.lagging);
        readers[2].state().lag_at(reached, ConvoId::from_bytes([9; 16]), Seq::new(1));
        let node = Self { world, readers };
        node.hand_over_as_one(&[(said(0), None)]);
        // The slow one does not take what was before.
        [0, 2, 3].iter().for_each(|reader| drop(got(&node.readers[*reader])));
        node
    }

    fn hand_over_as_one(&self, batch: &[(Outcome, Option<usize>)]) {
        self.world.hub.deliver(batch.iter().map(|(outcome, sender)| {
            let origin = sender.map(|sender| Origin {
                connection: &self.readers[sender],
                convo: CONVO,
                client_seq: None,
            });
            Committed { outcome, origin, shows_read: true }
        }));
    }

    fn hand_over_one_by_one(&self, batch: &Batch) {
        batch.iter().for_each(|one| self.hand_over_as_one(std::slice::from_ref(one)));
    }

    /// What each of them got, and whether he lags and where.
    fn seen(&self) -> Vec<(Vec<String>, Option<Step>)> {
        let of = |reader: &Arc<Connection>| (got(reader), self.world.hub.next_step(reader));
        self.readers.iter().map(of).collect()
    }
}

fn entry(seq: u64, kind: EntryKind) -> Outcome {
    let (seq, client_seq, ts) = (Seq::new(seq + 1), Some(ClientSeq::new(seq)), Timestamp::from_millis(1_000));
    Outcome::Appended {
        entry: Arc::new(Entry { convo_id: CONVO, seq, sender_id: ANA, client_seq, ts, kind }),
        shared: None,
    }
}

fn said(seq: u64) -> Outcome {
    entry(seq, EntryKind::Text { body: "x".repeat(seq as usize), reply_to: None })
}

fn is_the_same_as_one_by_one(limits: Limits, others_append: bool, batch: &Batch) -> Vec<Vec<String>> {
    let (at_once, one_by_one) = (Node::new(limits, others_append), Node::new(limits, others_append));
    at_once.hand_over_as_one(batch);
    one_by_one.hand_over_one_by_one(batch);
    let (seen, expected) = (at_once.seen(), one_by_one.seen());
    assert_eq!(seen, expected, "limits {limits:?}, others append: {others_append}, {batch:?}");
    seen.into_iter().map(|(got, _)| got).collect()
}

#[test]
fn a_run_is_acked_to_its_sender_and_comes_to_the_others_in_its_order() {
    let batch = (1..4).map(|seq| (said(seq), Some(0))).collect();
    let got = is_the_same_as_one_by_one(Limits::default(), false, &batch);
    assert_eq!(got[0], ["ack 1=2", "ack 2=3", "ack 3=4"]);
    assert_eq!(got[1], ["1  @1", "2 x @1", "3 xx @1", "4 xxx @1"]);
    assert_eq!(got[2], ["2 x", "3 xx", "4 xxx"], "who lags elsewhere keeps his position");
}

#[test]
fn of_a_run_that_does_not_fit_a_reader_gets_what_does() {
    let batch = (1..7).map(|seq| (said(seq), Some(0))).collect();
    for frames in 1..9 {
        let limits = Limits { frames, ..Limits::default() };
        let got = is_the_same_as_one_by_one(limits, false, &batch);
        assert_eq!(got[1].len(), frames.min(7), "with room for {frames}");
    }
    for bytes in (1..30).map(|number| number * 60) {
        is_the_same_as_one_by_one(Limits { bytes, ..Limits::default() }, false, &batch);
    }
}

#[test]
fn what_came_too_early_comes_behind_the_run_that_it_waited_for() {
    let batch = [4, 1, 2, 3].map(|seq| (said(seq), Some(0))).to_vec();
    let got = is_the_same_as_one_by_one(Limits::default(), true, &batch);
    assert_eq!(got[1][1..], ["2 x @1", "3 xx @1", "4 xxx @1", "5 xxxx @1"]);
}

/// A run of other nodes may be of several senders.
#[test]
fn who_says_something_in_a_run_has_read_what_is_before_it_and_nobody_is_told_that_again() {
    let node = Node::new(Limits::default(), true);
    let by = |sender_id, seq| {
        let Outcome::Appended { entry, shared } = said(seq) else { unreachable!() };
        Outcome::Appended { entry: Arc::new(Entry { sender_id, ..Entry::clone(&entry) }), shared }
    };
    node.hand_over_as_one(&[(by(ANA, 1), None), (by(BO, 2), None), (by(CY, 3), None)]);
    node.seen();
    for (user, said) in [(ANA, 2), (BO, 3), (CY, 4)] {
        let marked = |seq| {
            let (seq, ts) = (Seq::new(seq), Timestamp::from_millis(1_000));
            (
                Outcome::Marked(Receipt {
                    convo: CONVO,
                    user,
                    delivered: seq,
                    read: seq,
                    ts,
                    delivered_at: Some(ts),
                }),
                None,
            )
        };
        node.hand_over_as_one(&[marked(said)]);
        assert!(got(&node.readers[1]).is_empty(), "{user} said entry {said}");
        node.hand_over_as_one(&[marked(said + 1)]);
        assert_eq!(got(&node.readers[1]), [format!("receipt {0} {0}", said + 1)]);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(500))]

    /// Runs of several senders, cut by entries that are no messages, by those that come twice, too early or not at all.
    #[test]
    fn a_batch_comes_to_everybody_as_if_one_entry_came_after_the_other(
        steps in proptest::collection::vec((0u64..12, proptest::option::of(0usize..4)), 1..40),
        frames in 1usize..20,
        others_append in proptest::bool::ANY,
    ) {
        let mut next = 1_u64;
        let mut batch = Batch::new();
        for (step, sender) in steps {
            let seqs = match step {
                // One comes too early, twice, or not at all.
                1 if others_append => vec![next + 1, next],
                2 if others_append => vec![next.saturating_sub(2)],
                3 if others_append => vec![next + 1],
                _ => vec![next],
            };
            next = seqs.iter().fold(next, |next, seq| next.max(seq + 1));
            // Mostly the same one, or there would be no runs.
            let sender = if step < 4 { sender } else { Some(0) };
            batch.extend(seqs.into_iter().map(|seq| match step {
                0 => (entry(seq, EntryKind::MemberRemoved { user_ids: vec![CY] }), sender),
                _ => (said(seq), sender),
            }));
        }
        is_the_same_as_one_by_one(Limits { frames, ..Limits::default() }, others_append, &batch);
    }

    #[test]
    fn what_is_longer_than_a_run_comes_whole(length in 1u64..200) {
        let batch = (1..=length).map(|seq| (said(seq), Some(0))).collect();
        let got = is_the_same_as_one_by_one(Limits::default(), false, &batch);
        assert_eq!(got[1].len() as u64, length + 1);
    }
}
