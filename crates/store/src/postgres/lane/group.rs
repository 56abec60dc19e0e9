//! The intents of one conversation in a batch, and how they are decided.

use std::collections::HashSet;

use tertulia_domain::conversation::{Conversation, Decision, Effect, Facts, Question, Record, apply, decide};
use tertulia_domain::log::{Intent, Outcome, Receipt};
use tertulia_protocol::{ClientSeq, ConvoId, DeviceId, Entry, Seq, Timestamp};

use super::lookup::Asks;

/// An intent of a call, and its place among those of the batch.
pub(super) struct Item {
    pub(super) place: usize,
    pub(super) intent: Intent,
    pub(super) now: Timestamp,
}

/// A conversation as it is at a version.
pub(super) struct Cached {
    /// `None`: there is none.
    pub(super) convo: Option<Conversation>,
    /// 0: there is none.
    pub(super) version: i64,
    /// For how many more batches it is locked before it is decided, because other nodes write to it too.
    pub(super) contended: u8,
}

impl Cached {
    /// The head that it is known up to.
    pub(super) fn last_seq(&self) -> Seq {
        self.convo.as_ref().map_or(Seq::default(), |convo| convo.summary().last_seq)
    }

    pub(super) fn members(&self) -> usize {
        self.convo.as_ref().map_or(0, |convo| convo.members().len())
    }

    /// How much memory it takes; what is not there is not remembered.
    pub(super) fn weight(&self) -> Option<usize> {
        self.convo.as_ref().map(Conversation::weight)
    }
}

/// The intents of one conversation, in their order.
pub(super) struct Group {
    pub(super) convo: ConvoId,
    pub(super) items: Vec<Item>,
    /// How many are decided.
    decided: usize,
    /// What was looked up for the next one.
    facts: Facts,
    pub(super) decisions: Vec<Decided>,
    /// It was read in this very batch.
    pub(super) is_fresh: bool,
    /// It was not as it was remembered.
    pub(super) was_stale: bool,
}

/// What was decided of an item.
pub(super) struct Decided {
    pub(super) place: usize,
    pub(super) outcome: Outcome,
    /// What is kept of it.
    pub(super) record: Option<Record>,
}

impl Group {
    pub(super) fn new(convo: ConvoId) -> Self {
        Self {
            convo,
            items: Vec::new(),
            decided: 0,
            facts: Facts::default(),
            decisions: Vec::new(),
            is_fresh: false,
            was_stale: false,
        }
    }

    /// Whether all of it can be written without a look at rows that are not remembered exactly.
    pub(super) fn is_plain(&self) -> bool {
        self.items.iter().all(|item| matches!(item.intent, Intent::Send { .. } | Intent::Mark { .. }))
    }

    /// The devices that send.
    pub(super) fn devices(&self) -> HashSet<DeviceId> {
        self.items
            .iter()
            .filter_map(|item| match item.intent {
                Intent::Send { device, .. } => Some(device),
                _ => None,
            })
            .collect()
    }

    /// Takes back all that was decided.
    pub(super) fn restart(&mut self) {
        (self.decided, self.facts) = (0, Facts::default());
        self.decisions.clear();
        self.is_fresh = false;
    }

    /// How many of its decisions are kept.
    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.decisions.iter().filter_map(|decided| decided.record.as_ref())
    }

    /// Decides as far as it can be told; what has to be looked up for the rest goes into `asks`.
    pub(super) fn decide(&mut self, cached: &mut Cached, asks: &mut Asks) {
        while let Some(item) = self.items.get(self.decided) {
            // Kept, for it may have to be decided again.
            let intent = item.intent.clone();
            let (outcome, record) = match decide(cached.convo.as_ref(), intent, item.now, &self.facts) {
                Decision::Answer(outcome) => (outcome, None),
                Decision::Accept(proposal) => {
                    let (record, outcome) = apply(&mut cached.convo, proposal);
                    (outcome, Some(record))
                }
                Decision::Ask(question, _) => {
                    if self.answer_from_batch(question) {
                        continue;
                    }
                    asks.ask(self.convo, question);
                    return;
                }
            };
            self.decisions.push(Decided { place: item.place, outcome, record });
            self.decided += 1;
            self.facts = Facts::default();
        }
    }

    /// Answers a question from what was decided before in this batch, if that has the answer.
    fn answer_from_batch(&mut self, question: Question) -> bool {
        // From the end: a retry in the same batch is rare, but it must find the first.
        let mut own = self.decisions.iter().rev().filter_map(|decided| match &decided.record {
            Some(Record::Entry { entry, message_no, effect }) => Some((entry, *message_no, effect)),
            _ => None,
        });
        match question {
            Question::HighestSent(_) => false,
            Question::Sent(device, client_seq) => {
                let found = own.find(|(entry, _, effect)| {
                    entry.client_seq == Some(client_seq)
                        && matches!(effect, Effect::Sent { device: from, .. } if *from == device)
                });
                let found = found.map(|(entry, ..)| entry.clone());
                let is_known = found.is_some();
                if is_known {
                    self.facts.sent = Some(found);
                }
                is_known
            }
            Question::MessageNo(seq) => {
                let found = own.find(|(entry, ..)| entry.seq == seq).map(|(_, message_no, _)| message_no);
                if found.is_some() {
                    self.facts.message_no = found;
                }
                found.is_some()
            }
        }
    }

    pub(super) fn learn_sent(&mut self, sent: Option<std::sync::Arc<Entry>>) {
        self.facts.sent = Some(sent);
    }

    pub(super) fn learn_message_no(&mut self, message_no: u64) {
        self.facts.message_no = Some(message_no);
    }

    /// Corrects what is told of marks by what each user's watermarks were before the batch: another node may have moved
    /// them.
    pub(super) fn correct_marks(&mut self, mut before: impl FnMut(&Receipt) -> Option<(Seq, Seq)>) {
        let mut moved: std::collections::HashMap<_, (Seq, Seq)> = std::collections::HashMap::new();
        for decided in &mut self.decisions {
            match &decided.record {
                Some(Record::Mark { receipt, .. }) => {
                    let known = moved.get(&receipt.user).copied().or_else(|| before(receipt));
                    let Some((delivered, read)) = known else { continue };
                    let now = (receipt.delivered.max(delivered), receipt.read.max(read));
                    moved.insert(receipt.user, now);
                    decided.outcome = if now == (delivered, read) {
                        Outcome::Unchanged
                    } else {
                        let delivered_at = (now.0 > delivered).then_some(receipt.ts);
                        Outcome::Marked(Receipt { delivered: now.0, read: now.1, delivered_at, ..*receipt })
                    };
                }
                Some(Record::Entry { entry, effect: Effect::Sent { .. }, .. }) => {
                    moved.insert(entry.sender_id, (entry.seq, entry.seq));
                }
                _ => {}
            }
        }
    }
}

/// A message of a device, by its number.
pub(super) type SentKey = (ConvoId, DeviceId, ClientSeq);
