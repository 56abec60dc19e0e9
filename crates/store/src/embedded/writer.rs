//! The thread that appends: it decides, writes the journal, and answers.
//!
//! All calls that came while one batch was being synced are the next batch: group commit without a timer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tertulia_domain::conversation::{Decision, Effect, Facts, Question, Record, apply, decide};
use tertulia_domain::log::{Commit, Intent, Outcome, Refusal};
use tertulia_protocol::{ConvoId, IdSet, Timestamp};
use tokio::sync::oneshot;

use super::conversations::Conversations;
use super::journal::{Journal, JournalError, Written};
use super::settler::Progress;
use super::tail::{FULL_FROM, Tail};
use crate::queue::{Call, Queue, Taken};
use crate::{AppendObserver, AppendStats};
use crate::{Batch, StoreError};

/// How long a full tail may make calls wait before they are refused.
const ROOM_PATIENCE: Duration = Duration::from_secs(2);
/// The longest pause before a batch.
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// When to come back after the journal could not be written.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The writer's state; [`Writer::run`] is its thread.
pub(super) struct Writer {
    pub(super) queue: Arc<Queue>,
    pub(super) tail: Arc<Tail>,
    pub(super) progress: Arc<Progress>,
    pub(super) journal: Journal,
    /// How long to wait for calls before the journal is tidied.
    pub(super) journal_patience: Duration,
    pub(super) conversations: Conversations,
    pub(super) on_append: Option<AppendObserver>,
    pub(super) batches: Arc<AtomicU64>,
}

/// A call whose intents are decided, but not durable.
struct Decided {
    answer: oneshot::Sender<Result<Batch, StoreError>>,
    outcomes: Vec<Outcome>,
    /// Whether it has records in the batch.
    changed: bool,
}

impl Writer {
    /// Appends until the queue is closed and empty; gives the journal back, to be tidied up.
    pub(super) fn run(mut self) -> Journal {
        loop {
            // What may go goes with a later commit, or when none comes for a while.
            let patience = self.journal.is_untidy().then_some(self.journal_patience);
            match self.queue.take(patience) {
                Taken::Calls(calls) => self.commit(calls),
                Taken::Nothing => {
                    if let Err(error) = self.journal.tidy(self.progress.synced()) {
                        tracing::warn!(%error, "what is settled stays in the journal for now");
                    }
                }
                Taken::Closed => return self.journal,
            }
        }
    }

    fn commit(&mut self, calls: VecDeque<Call>) {
        let begun = Instant::now();
        let queued = calls.front().map_or(Duration::ZERO, |call| begun - call.arrived);
        let intents: usize = calls.iter().map(|call| call.intents.len()).sum();
        if let Err(error) = self.slow_down(intents) {
            for call in calls {
                // Whoever does not wait for his answer any more has none.
                let _ = call.answer.send(Err(error.clone()));
            }
            return;
        }
        let begun = Instant::now();
        let mut records = Vec::with_capacity(intents);
        let mut used = IdSet::default();
        let intents_of_all = calls.iter().flat_map(|call| &call.intents);
        self.conversations.expect(intents_of_all.map(Intent::convo), &self.tail);
        let decided: Vec<_> = calls
            .into_iter()
            .map(|Call { intents, now, answer, .. }| {
                let before = records.len();
                let outcomes = self.decide_all(intents, now, &mut records, &mut used);
                Decided { answer, outcomes, changed: records.len() > before }
            })
            .collect();
        let stored = if records.is_empty() { Ok(None) } else { self.store(&records).map(Some) };
        match stored {
            Ok(_) => self.conversations.end_batch(used, &self.tail),
            Err(_) => self.conversations.forget(used),
        }
        for Decided { answer, outcomes, changed } in decided {
            let _ = answer.send(match &stored {
                Err(error) => Err(error.clone()),
                Ok(commit) => Ok(Batch { commit: commit.filter(|_| changed), outcomes }),
            });
        }
        if let Some(observer) = &self.on_append {
            observer(AppendStats { intents, queued, commit: begun.elapsed() });
        }
    }

    /// Takes the pace of the settler before the tail is full: a wall would stop everybody for seconds.
    fn slow_down(&self, intents: usize) -> Result<(), StoreError> {
        let fill = self.tail.fill();
        if fill < FULL_FROM {
            return Ok(());
        }
        // At three quarters a batch takes as long as settling it; beyond, the tail gets emptier.
        let share = (fill - FULL_FROM) * 4.0;
        let pause = self.progress.record_cost().mul_f64(share * intents as f64).min(PAUSE_MAX);
        std::thread::sleep(pause);
        self.tail.wait_for_room(ROOM_PATIENCE)
    }

    /// Decides the intents of one call, in order.
    ///
    /// One that cannot be decided is refused, and no other: an error of the whole call would say of those before it
    /// that they are not stored.
    fn decide_all(
        &mut self,
        intents: Vec<Intent>,
        now: Timestamp,
        records: &mut Vec<Record>,
        used: &mut IdSet<ConvoId>,
    ) -> Vec<Outcome> {
        let decided = intents.into_iter().map(|intent| {
            let convo = intent.convo();
            used.insert(convo);
            self.decide_one(intent, now, records).unwrap_or_else(|error| {
                // That settling stopped was said where it did, once and not for each.
                if matches!(error, StoreError::Unavailable { .. }) {
                    tracing::debug!(%error, %convo, "an intent was refused: it needs what cannot be settled now");
                } else {
                    tracing::error!(%error, %convo, "an intent was refused: what decides it cannot be read");
                }
                Outcome::Refused(Refusal::Unavailable)
            })
        });
        decided.collect()
    }

    fn decide_one(
        &mut self,
        mut intent: Intent,
        now: Timestamp,
        records: &mut Vec<Record>,
    ) -> Result<Outcome, StoreError> {
        let id = intent.convo();
        let mut facts = Facts::default();
        loop {
            let convo = self.conversations.get(id, &self.tail)?;
            match decide(convo.as_ref(), intent, now, &facts) {
                Decision::Answer(outcome) => return Ok(outcome),
                Decision::Accept(proposal) => {
                    let (record, outcome) = apply(convo, proposal);
                    records.push(record);
                    return Ok(outcome);
                }
                Decision::Ask(question, again) => {
                    self.look_up(id, question, records, &mut facts)?;
                    intent = again;
                }
            }
        }
    }

    /// Answers a question from this batch, the tail and the settled rows, in this order.
    fn look_up(
        &mut self,
        id: ConvoId,
        question: Question,
        batch: &[Record],
        facts: &mut Facts,
    ) -> Result<(), StoreError> {
        // From the end: a retry in the same batch is rare, but it must find the first.
        let mut own = batch.iter().rev().filter_map(|record| match record {
            Record::Entry { entry, message_no, effect } if entry.convo_id == id => {
                Some((entry, *message_no, effect))
            }
            _ => None,
        });
        match question {
            Question::HighestSent(device) => {
                let highest = self.conversations.highest_sent(id, device)?;
                if let Some(convo) = self.conversations.get(id, &self.tail)? {
                    convo.learn_highest_sent(device, highest);
                }
            }
            Question::Sent(device, client_seq) => {
                let found = own.find(|(entry, _, effect)| {
                    entry.client_seq == Some(client_seq)
                        && matches!(effect, Effect::Sent { device: from, .. } if *from == device)
                });
                facts.sent = Some(match found {
                    Some((entry, ..)) => Some(entry.clone()),
                    None => self.conversations.sent(id, device, client_seq, &self.tail)?,
                });
            }
            Question::MessageNo(seq) => {
                facts.message_no = Some(match own.find(|(entry, ..)| entry.seq == seq) {
                    Some((_, message_no, _)) => message_no,
                    None => self.conversations.message_no(id, seq, &self.tail)?,
                });
            }
        }
        Ok(())
    }

    /// Writes and syncs the batch, then shows it to reads.
    fn store(&mut self, records: &[Record]) -> Result<Commit, StoreError> {
        match self.journal.append(records, self.progress.synced()) {
            Ok(Written { commit, place, starts }) => {
                self.tail.push(commit, place, records, starts);
                self.batches.fetch_add(1, Ordering::Relaxed);
                Ok(commit)
            }
            Err(error) => {
                self.tail.hurry();
                tracing::error!(%error, records = records.len(), "a batch was refused: the journal cannot be written");
                Err(match error {
                    JournalError::Io(_) => {
                        StoreError::Unavailable { reason: error.to_string(), retry_after: RETRY_AFTER }
                    }
                    JournalError::Encoding(error) => StoreError::Damaged(error.to_string()),
                })
            }
        }
    }
}
