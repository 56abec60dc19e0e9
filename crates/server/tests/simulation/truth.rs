//! What was told to be durable, and what follows from it for each user.

use std::collections::BTreeMap;
use std::sync::Arc;

use tertulia_domain::log::{Commit, Intent, Outcome};
use tertulia_protocol::entry::{EntryKind, HistoryPolicy};
use tertulia_protocol::{ConvoId, Entry, Seq, UserId};
use tertulia_store::{Batch, Slice, Store};

/// What was told to be durable, from outcomes.
#[derive(Default)]
pub struct Truth {
    pub log: BTreeMap<ConvoId, Log>,
    /// Sends that may be tried again.
    pub sent: Vec<(Intent, Seq)>,
}

impl Truth {
    /// Takes what came of a batch, and checks it.
    pub fn note(&mut self, intents: Vec<Intent>, batch: &Batch) {
        assert_eq!(batch.outcomes.len(), intents.len());
        for (intent, outcome) in intents.into_iter().zip(&batch.outcomes) {
            match outcome {
                Outcome::Appended { entry, .. } => {
                    let log = self.log.entry(entry.convo_id).or_default();
                    let expected = log.last_key_value().map_or(Seq::new(1), |(seq, _)| seq.next());
                    assert_eq!(entry.seq, expected, "guarantee 2: dense, in the order of acks");
                    log.insert(entry.seq, (Arc::clone(entry), batch.commit.unwrap()));
                    if matches!(entry.kind, EntryKind::Text { .. }) {
                        self.sent.push((intent, entry.seq));
                    }
                }
                Outcome::Duplicate(entry) => {
                    let first = self.sent.iter().find(|(known, _)| *known == intent);
                    assert_eq!(
                        first.map(|(_, seq)| *seq),
                        Some(entry.seq),
                        "guarantee 3: a retry is the same entry"
                    );
                }
                _ => {}
            }
        }
    }

    /// What was acked is what is stored: once, dense, for each who may see it.
    pub async fn check_history(&self, store: &dyn Store, users: &[UserId]) {
        for (convo, log) in &self.log {
            for &user in users {
                let mut read = Vec::new();
                let mut after = Seq::default();
                let expected: Vec<Arc<Entry>> = match visible_from(log, user) {
                    None => Vec::new(),
                    Some(from) => {
                        let from = if sees_all(log) { Seq::new(1) } else { from };
                        log.range(from..).map(|(_, (entry, _))| Arc::clone(entry)).collect()
                    }
                };
                while let Some(page) = store.history(user, *convo, Slice::After(after), 200).await.unwrap() {
                    after = page.entries.last().map_or(after, |(entry, _)| entry.seq);
                    read.extend(page.entries.into_iter().map(|(entry, _)| entry));
                    if !page.has_more {
                        break;
                    }
                }
                assert_eq!(
                    read, expected,
                    "guarantees 1, 2, 3 and 6: the log of {convo} as {user} may read it"
                );
            }
        }
    }
}

/// The entries of a conversation, with their commits.
pub type Log = BTreeMap<Seq, (Arc<Entry>, Commit)>;

/// The stretches of a log in which a user was a member: from his own entry in to his own entry out.
fn memberships(log: &Log, user: UserId) -> Vec<(Seq, Option<Seq>)> {
    let mut stretches: Vec<(Seq, Option<Seq>)> = Vec::new();
    for (seq, (entry, _)) in log {
        match &entry.kind {
            EntryKind::Created { user_ids, .. } | EntryKind::MemberAdded { user_ids }
                if user_ids.contains(&user) =>
            {
                stretches.push((*seq, None));
            }
            EntryKind::MemberRemoved { user_ids } if user_ids.contains(&user) => {
                if let Some(stretch) = stretches.last_mut() {
                    stretch.1 = Some(*seq);
                }
            }
            _ => {}
        }
    }
    stretches
}

/// Whether an entry may have been pushed to a user.
pub fn may_see(log: &Log, user: UserId, seq: Seq) -> bool {
    memberships(log, user).iter().any(|(from, to)| *from <= seq && to.is_none_or(|to| seq <= to))
}

/// Where the present membership of a user begins, if he has one.
pub fn visible_from(log: &Log, user: UserId) -> Option<Seq> {
    memberships(log, user).last().filter(|(_, to)| to.is_none()).map(|(from, _)| *from)
}

/// Whether the history policy lets those who come later read what was before.
pub fn sees_all(log: &Log) -> bool {
    log.values()
        .any(|(entry, _)| matches!(entry.kind, EntryKind::Created { history: HistoryPolicy::All, .. }))
}
