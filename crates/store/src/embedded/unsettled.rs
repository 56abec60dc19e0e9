//! What is unsettled of one conversation: where in the journal its records stand.
//!
//! 16 bytes a record, so that millions of them can wait. Numbers are kept by their lower halves: all that is unsettled is
//! less than 2^32 apart, so what is missing is that of the oldest.

use std::collections::VecDeque;

use tertulia_domain::conversation::{Effect, Record};
use tertulia_domain::log::Commit;
use tertulia_protocol::{ClientSeq, DeviceId, Seq};

/// A queue with room for so many times what it holds gives the room back.
const ROOM_MAX: usize = 4;
/// … but not what is so short.
const ROOM_KEPT: usize = 64;

/// Where a record is, and what is asked for most.
#[derive(Debug, Clone, Copy)]
struct Slot {
    commit: u32,
    /// Where it begins in the batch.
    start: u32,
    /// Of an entry: how many messages there are up to it.
    message_no: u32,
    /// Of a message: what it has of its [`tag`]; others have any.
    tag: u32,
}

/// The records of one conversation that are in the journal and not settled, or settled before their turn.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    /// Dense, from `first` on.
    entries: VecDeque<Slot>,
    first: Seq,
    /// The number of the first one.
    first_no: u64,
    /// What is no entry.
    others: VecDeque<Slot>,
    /// The last commit with anything of it.
    pub(super) last: Commit,
    /// The last commit that changed who is in it.
    pub(super) members: Option<Commit>,
    /// Its rows are exact up to this commit, which may be ahead of all that is settled in order.
    pub(super) settled: Commit,
}

/// Where in the journal a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) commit: Commit,
    pub(super) start: u32,
}

impl Unsettled {
    pub(super) fn push(&mut self, record: &Record, commit: Commit, start: u32) {
        self.last = commit;
        if record.changes_members() {
            self.members = Some(commit);
        }
        let mut slot = Slot { commit: low(commit.get()), start, message_no: 0, tag: 0 };
        let Record::Entry { entry, message_no, effect } = record else {
            self.others.push_back(slot);
            return;
        };
        if self.entries.is_empty() {
            (self.first, self.first_no) = (entry.seq, *message_no);
        }
        slot.message_no = low(*message_no);
        if let (Effect::Sent { device, .. }, Some(client_seq)) = (effect, entry.client_seq) {
            slot.tag = tag(*device, client_seq);
        }
        self.entries.push_back(slot);
    }

    /// The first and the newest entry.
    pub(super) fn range(&self) -> Option<(Seq, Seq)> {
        let count = self.entries.len() as u64;
        (count > 0).then(|| (self.first, Seq::new(self.first.get() + count - 1)))
    }

    /// Which of the entries has this number; of one before them the first, of one behind them their count.
    pub(super) fn place(&self, seq: Seq) -> usize {
        let place = usize::try_from(seq.get().saturating_sub(self.first.get())).unwrap_or(usize::MAX);
        place.min(self.entries.len())
    }

    /// Some of the entries, by their places; nothing is older than `oldest`.
    pub(super) fn entries(
        &self,
        places: std::ops::Range<usize>,
        oldest: Commit,
    ) -> impl Iterator<Item = (Seq, Spot)> {
        let seqs = (self.first.get() + places.start as u64..).map(Seq::new);
        seqs.zip(self.entries.range(places).map(move |slot| slot.spot(oldest)))
    }

    /// Messages that may be the one with this number of a device, the newest first; those before `before` if there is one.
    pub(super) fn sent(
        &self,
        device: DeviceId,
        client_seq: ClientSeq,
        oldest: Commit,
        before: Option<Spot>,
    ) -> impl Iterator<Item = Spot> {
        let tag = tag(device, client_seq);
        let end = before.map_or(self.entries.len(), |before| {
            self.entries.partition_point(|slot| slot.spot(oldest) < before)
        });
        // From the end: a retry comes soon, if it comes.
        self.entries.range(..end).rev().filter(move |slot| slot.tag == tag).map(move |slot| slot.spot(oldest))
    }

    /// How many messages there are up to an entry.
    pub(super) fn message_no(&self, seq: Seq) -> Option<u64> {
        let at = usize::try_from(seq.get().checked_sub(self.first.get())?).ok()?;
        self.entries.get(at).map(|slot| widen(slot.message_no, self.first_no))
    }

    /// The records whose rows are not there yet, in their order.
    pub(super) fn not_settled(&self, oldest: Commit) -> impl Iterator<Item = Spot> {
        let mut entries = self.not_settled_of(&self.entries, oldest).peekable();
        let mut others = self.not_settled_of(&self.others, oldest).peekable();
        std::iter::from_fn(move || match (entries.peek(), others.peek()) {
            (Some(entry), Some(other)) if other < entry => others.next(),
            (None, _) => others.next(),
            (Some(_), _) => entries.next(),
        })
    }

    fn not_settled_of<'a>(
        &self,
        slots: &'a VecDeque<Slot>,
        oldest: Commit,
    ) -> impl Iterator<Item = Spot> + use<'a> {
        let settled = slots.partition_point(|slot| slot.spot(oldest).commit <= self.settled);
        slots.range(settled..).map(move |slot| slot.spot(oldest))
    }

    /// Whether rows say all of it.
    pub(super) fn is_settled(&self) -> bool {
        self.settled >= self.last
    }

    /// Lets go of what is settled; tells of how many entries, and of how many records in all.
    pub(super) fn forget(&mut self, settled: Commit, oldest: Commit) -> (usize, usize) {
        let is_over = |slot: &Slot| slot.spot(oldest).commit <= settled;
        let entries = self.entries.partition_point(is_over);
        let others = self.others.partition_point(is_over);
        if let Some(front) = self.entries.get(entries) {
            self.first_no = widen(front.message_no, self.first_no);
            self.first = Seq::new(self.first.get() + entries as u64);
        }
        for (queue, count) in [(&mut self.entries, entries), (&mut self.others, others)] {
            queue.drain(..count);
            if queue.capacity() > ROOM_KEPT.max(queue.len() * ROOM_MAX) {
                queue.shrink_to(queue.len());
            }
        }
        if self.members <= Some(settled) {
            self.members = None;
        }
        (entries, entries + others)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.others.is_empty()
    }
}

impl Slot {
    fn spot(&self, oldest: Commit) -> Spot {
        Spot { commit: Commit::new(widen(self.commit, oldest.get())), start: self.start }
    }
}

/// What most messages differ in that are not the same message of the same device.
fn tag(device: DeviceId, client_seq: ClientSeq) -> u32 {
    let [a, b, c, d, e, f, g, h, ..] = *device.as_bytes();
    let mut mixed = u64::from_le_bytes([a, b, c, d, e, f, g, h]) ^ client_seq.get();
    for &byte in &device.as_bytes()[8..] {
        mixed = mixed.rotate_left(8) ^ u64::from(byte);
    }
    // The finaliser of SplitMix64 (Steele, Lea, Flood, 2014).
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    low(mixed ^ (mixed >> 31))
}

#[expect(clippy::cast_possible_truncation, reason = "it is what is wanted")]
const fn low(number: u64) -> u32 {
    number as u32
}

/// The number at or above `below` that has this lower half, if they are less than 2^32 apart.
const fn widen(half: u32, below: u64) -> u64 {
    below + half.wrapping_sub(low(below)) as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use tertulia_domain::conversation::Passed;
    use tertulia_protocol::rest::MemberSettings;
    use tertulia_protocol::{ConvoId, Entry, EntryKind, Timestamp, UserId};

    use super::*;

    const DEVICE: DeviceId = DeviceId::from_bytes([7; 16]);
    const CONVO: ConvoId = ConvoId::from_bytes([1; 16]);
    const ANA: UserId = UserId::from_bytes([2; 16]);

    /// What one says, or a rename, or a setting of his own.
    #[derive(Debug, Clone, Copy)]
    enum Kind {
        Message,
        Rename,
        Own,
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// A batch.
        Push(Vec<Kind>),
        /// This part of what there is is settled.
        Forget(f64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let kind = prop_oneof![5 => Just(Kind::Message), 1 => Just(Kind::Rename), 2 => Just(Kind::Own)];
        let push = prop::collection::vec(kind, 0..6).prop_map(Step::Push);
        prop::collection::vec(prop_oneof![4 => push, 1 => (0.0..1.0).prop_map(Step::Forget)], 1..60)
    }

    fn entry(seq: Seq, client_seq: Option<u64>) -> Arc<Entry> {
        let kind = match client_seq {
            Some(_) => EntryKind::Text { body: "x".into(), reply_to: None },
            None => EntryKind::Renamed { title: "x".into() },
        };
        let client_seq = client_seq.map(ClientSeq::new);
        Arc::new(Entry {
            convo_id: CONVO,
            seq,
            sender_id: ANA,
            client_seq,
            ts: Timestamp::from_millis(0),
            kind,
        })
    }

    proptest! {
        /// Also where the halves of the numbers begin anew.
        #[test]
        fn it_says_what_a_plain_list_says(steps in steps(), before in 0_u64..40) {
            let begin = u64::from(u32::MAX) - before;
            let (mut commit, mut oldest) = (Commit::new(begin), Commit::new(begin));
            let (mut seq, mut message_no) = (Seq::new(1_000), begin);
            let mut unsettled = Unsettled::default();
            let mut list: Vec<(Spot, Record)> = Vec::new();
            for step in steps {
                match step {
                    Step::Push(kinds) => {
                        for (start, kind) in (0..).zip(kinds) {
                            let record = match kind {
                                Kind::Own => {
                                    Record::Own { convo: CONVO, user: ANA, settings: MemberSettings::default() }
                                }
                                Kind::Rename => {
                                    seq = seq.next();
                                    Record::Entry { entry: entry(seq, None), message_no, effect: Effect::None }
                                }
                                Kind::Message => {
                                    (seq, message_no) = (seq.next(), message_no + 1);
                                    let passed = Passed { delivered: true, read: true };
                                    let effect = Effect::Sent { device: DEVICE, passed };
                                    Record::Entry { entry: entry(seq, Some(message_no)), message_no, effect }
                                }
                            };
                            unsettled.push(&record, commit, start);
                            list.push((Spot { commit, start }, record));
                        }
                        commit = commit.next();
                    }
                    Step::Forget(share) => {
                        let span = commit.get() - oldest.get();
                        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of it")]
                        let gone = (span as f64 * share) as u64;
                        if gone > 0 {
                            let settled = Commit::new(oldest.get() + gone - 1);
                            let count = list.iter().filter(|(spot, _)| spot.commit <= settled).count();
                            prop_assert_eq!(unsettled.forget(settled, oldest).1, count);
                            list.drain(..count);
                            oldest = settled.next();
                        }
                    }
                }
                let entries: Vec<_> = list
                    .iter()
                    .filter_map(|(spot, record)| match record {
                        Record::Entry { entry, message_no, .. } => Some((entry, *spot, *message_no)),
                        _ => None,
                    })
                    .collect();
                let range = entries.first().zip(entries.last()).map(|(first, last)| (first.0.seq, last.0.seq));
                prop_assert_eq!(unsettled.range(), range);
                prop_assert_eq!(unsettled.is_empty(), list.is_empty());
                let all: Vec<_> = unsettled.entries(0..entries.len(), oldest).collect();
                let expected: Vec<_> = entries.iter().map(|(entry, spot, _)| (entry.seq, *spot)).collect();
                prop_assert_eq!(all, expected);
                for (place, (entry, spot, message_no)) in entries.iter().enumerate() {
                    prop_assert_eq!(unsettled.place(entry.seq), place);
                    prop_assert_eq!(unsettled.message_no(entry.seq), Some(*message_no));
                    if let Some(client_seq) = entry.client_seq {
                        let found: Vec<_> = unsettled.sent(DEVICE, client_seq, oldest, None).collect();
                        prop_assert!(found.contains(spot));
                        let next = |before| unsettled.sent(DEVICE, client_seq, oldest, before).next();
                        let one_by_one = std::iter::successors(next(None), |spot| next(Some(*spot)));
                        prop_assert_eq!(one_by_one.collect::<Vec<_>>(), found);
                    }
                }
                let spots: Vec<_> = list.iter().map(|(spot, _)| *spot).collect();
                prop_assert_eq!(unsettled.not_settled(oldest).collect::<Vec<_>>(), spots);
                prop_assert_eq!(unsettled.message_no(seq.next()), None);
            }
        }
    }

    #[test]
    fn what_was_settled_before_its_turn_is_not_settled_again() {
        let mut unsettled = Unsettled::default();
        for number in 1..=5 {
            let record =
                Record::Entry { entry: entry(Seq::new(number), None), message_no: 0, effect: Effect::None };
            unsettled.push(&record, Commit::new(number), 0);
        }
        assert!(!unsettled.is_settled());
        unsettled.settled = Commit::new(3);
        let left: Vec<_> = unsettled.not_settled(Commit::new(1)).map(|spot| spot.commit.get()).collect();
        assert_eq!(left, [4, 5]);
        unsettled.settled = Commit::new(5);
        assert!(unsettled.is_settled());
        assert_eq!(unsettled.range(), Some((Seq::new(1), Seq::new(5))), "until its turn has come");
    }

    #[test]
    fn tags_differ() {
        let tags: std::collections::BTreeSet<_> =
            (0..10_000).map(|number| tag(DEVICE, ClientSeq::new(number))).collect();
        assert!(tags.len() > 9_990, "{}", tags.len());
    }

    #[test]
    fn room_that_was_needed_once_is_given_back() {
        let mut unsettled = Unsettled::default();
        for number in 1..=100_000 {
            let record =
                Record::Entry { entry: entry(Seq::new(number), None), message_no: 0, effect: Effect::None };
            unsettled.push(&record, Commit::new(number), 0);
        }
        unsettled.forget(Commit::new(99_990), Commit::new(1));
        assert!(unsettled.entries.capacity() < 100, "{}", unsettled.entries.capacity());
    }
}
