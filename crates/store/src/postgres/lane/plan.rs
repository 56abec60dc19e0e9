//! What was decided, as the arrays of one call of `append_1`.

use std::collections::HashMap;

use tertulia_domain::conversation::{Effect, Passed, Record};
use tertulia_protocol::{ConvoId, Entry, EntryKind, Seq, Timestamp, UserId};

use super::group::{Cached, Group};
use super::rare::Rare;
use crate::codes::{CHANGE, TEXT};
use crate::postgres::connect::Session;
use crate::postgres::error::Failure;
use crate::postgres::rows::seq;
use crate::postgres::types::{Id, RowExt as _, integer};

/// Writes a batch, or those of its conversations that are still as they were.
pub(super) const APPEND: &str = "SELECT o_commit, o_current, o_delivered, o_read FROM append_1($1, $2, $3, $4, $5, $6,
    $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29,
    $30, $31, $32, $33, $34, $35, $36, $37)";

/// Whose batch it is, for the journal.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub(super) base: i64,
    pub(super) node: i32,
    pub(super) lane: i32,
    /// Up to which commit this lane's have been told to the other nodes.
    pub(super) published: i64,
}

/// The number that stands for a conversation among the locks.
pub(in super::super) fn lock(convo: ConvoId) -> i64 {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *convo.as_bytes();
    i64::from_be_bytes([a, b, c, d, e, f, g, h]) ^ i64::from_be_bytes([i, j, k, l, m, n, o, p])
}

/// The locks of several, in the order in which everybody takes them.
pub(super) fn locks(convos: impl Iterator<Item = ConvoId>) -> Vec<i64> {
    let mut locks: Vec<_> = convos.map(lock).collect();
    locks.sort_unstable();
    locks.dedup();
    locks
}

/// The arrays, a column each.
#[derive(Default)]
pub(super) struct Plan {
    convos: Convos,
    messages: Messages,
    marks: Marks,
    receipts: Receipts,
    /// What `append_1` does not write.
    pub(super) rare: Rare,
    /// For each conversation the place of a user's mark.
    mark_places: Vec<HashMap<UserId, usize>>,
}

#[derive(Default)]
struct Convos {
    id: Vec<Id>,
    lock: Vec<ConvoId>,
    version: Vec<i64>,
    writes: Vec<bool>,
    next_version: Vec<i64>,
    entries: Vec<i64>,
    last_seq: Vec<i64>,
    last_ts: Vec<i64>,
    message_no: Vec<i64>,
    message_seq: Vec<i64>,
    change_seq: Vec<i64>,
    members: Vec<i64>,
    joined_no: Vec<i64>,
}

#[derive(Default)]
struct Messages {
    at: Vec<i32>,
    seq: Vec<i64>,
    kind: Vec<i16>,
    sender: Vec<Id>,
    device: Vec<Option<Id>>,
    client_seq: Vec<Option<i64>>,
    ts: Vec<i64>,
    message_no: Vec<i64>,
    reply_to: Vec<Option<i64>>,
    body: Vec<String>,
}

#[derive(Default)]
struct Marks {
    at: Vec<i32>,
    user: Vec<Id>,
    delivered: Vec<i64>,
    read: Vec<i64>,
    read_no: Vec<i64>,
    ts: Vec<i64>,
}

#[derive(Default)]
struct Receipts {
    mark: Vec<i32>,
    seq: Vec<i64>,
    delivered_at: Vec<Option<i64>>,
    seen_at: Vec<Option<i64>>,
    /// The place of a user's receipt at an entry.
    places: HashMap<(usize, Seq), usize>,
}

/// What came of it.
pub(super) struct Written {
    /// `None`: nothing was.
    pub(super) commit: Option<i64>,
    /// Whether each conversation was as it was decided by.
    pub(super) is_current: Vec<bool>,
    /// The watermarks of each mark before it.
    delivered: Vec<i64>,
    read: Vec<i64>,
}

impl Plan {
    pub(super) fn is_empty(&self) -> bool {
        self.convos.id.is_empty()
    }

    /// Takes in what was decided of a group; `cached` is the conversation after it.
    pub(super) fn add(&mut self, group: &Group, cached: &mut Cached) -> Result<(), Failure> {
        let at = self.convos.id.len();
        self.mark_places.push(HashMap::new());
        let (mut entries, mut blocks, mut message_seq) = (0, 0, Seq::default());
        for record in group.records() {
            match record {
                Record::Entry { entry, message_no, effect } => {
                    entries += 1;
                    if entry.kind.is_message() {
                        message_seq = entry.seq;
                    }
                    self.entry(at, entry, *message_no, effect)?;
                }
                Record::Mark { receipt, read_no, passed } => {
                    let marks = (receipt.delivered, receipt.read, *read_no);
                    self.mark(at, receipt.user, marks, receipt.ts, *passed);
                }
                Record::Block { .. } => blocks += 1,
                Record::Own { .. } => {}
            }
        }
        let writes = group.records().next().is_some();
        let version = cached.version;
        cached.version += entries + blocks;
        self.rare.add(group, cached);
        let Convos { id, lock, .. } = &mut self.convos;
        id.push(group.convo.into());
        lock.extend(writes.then_some(group.convo));
        let (summary, members) = match &cached.convo {
            Some(convo) => (Some(convo.summary()), convo.members().len()),
            None => (None, 0),
        };
        let number = |of: fn(&tertulia_domain::conversation::Summary) -> i64| summary.map_or(0, of);
        let convos = &mut self.convos;
        convos.version.push(version);
        convos.writes.push(writes);
        convos.next_version.push(cached.version);
        convos.entries.push(entries);
        convos.last_seq.push(number(|summary| seq(summary.last_seq)));
        convos.last_ts.push(number(|summary| summary.last_ts.as_millis()));
        convos.message_no.push(number(|summary| integer(summary.last_message_no)));
        convos.message_seq.push(seq(message_seq));
        convos.change_seq.push(number(|summary| seq(summary.last_change_seq)));
        convos.members.push(integer(members));
        convos.joined_no.push(number(|summary| integer(summary.last_joined_no)));
        Ok(())
    }

    fn entry(&mut self, at: usize, entry: &Entry, message_no: u64, effect: &Effect) -> Result<(), Failure> {
        let (kind, reply_to, body) = match &entry.kind {
            EntryKind::Text { body, reply_to } => (TEXT, *reply_to, body.clone()),
            change => {
                let json = serde_json::to_string(change).map_err(|error| Failure::Row(error.to_string()))?;
                (CHANGE, None, json)
            }
        };
        let device = match effect {
            Effect::Sent { device, passed } => {
                self.mark(at, entry.sender_id, (entry.seq, entry.seq, message_no), entry.ts, *passed);
                Some(Id::from(*device))
            }
            _ => None,
        };
        let messages = &mut self.messages;
        messages.at.push(place(at));
        messages.seq.push(seq(entry.seq));
        messages.kind.push(kind);
        messages.sender.push(entry.sender_id.into());
        messages.device.push(device);
        messages.client_seq.push(entry.client_seq.map(|number| integer(number.get())));
        messages.ts.push(entry.ts.as_millis());
        messages.message_no.push(integer(message_no));
        messages.reply_to.push(reply_to.map(seq));
        messages.body.push(body);
        Ok(())
    }

    /// One row a member, however often his watermarks moved; of the places that they reached one each.
    fn mark(
        &mut self,
        at: usize,
        user: UserId,
        (delivered, read, read_no): (Seq, Seq, u64),
        ts: Timestamp,
        passed: Passed,
    ) {
        let marks = &mut self.marks;
        let mark = *self.mark_places[at].entry(user).or_insert_with(|| {
            marks.at.push(place(at));
            marks.user.push(user.into());
            marks.delivered.push(0);
            marks.read.push(0);
            marks.read_no.push(0);
            marks.ts.push(0);
            marks.at.len() - 1
        });
        // Within a batch they only rise, or begin anew higher.
        marks.delivered[mark] = seq(delivered);
        marks.read[mark] = seq(read);
        marks.read_no[mark] = integer(read_no);
        marks.ts[mark] = ts.as_millis();
        if passed.delivered {
            let receipt = self.receipts.at(mark, delivered);
            self.receipts.delivered_at[receipt].get_or_insert(ts.as_millis());
        }
        if passed.read {
            let receipt = self.receipts.at(mark, read);
            self.receipts.seen_at[receipt].get_or_insert(ts.as_millis());
        }
    }

    /// Writes it all in one round trip. Outside of a transaction it is one.
    pub(super) async fn write(&self, session: &Session, origin: Origin) -> Result<Written, Failure> {
        let Self { convos, messages, marks, receipts, .. } = self;
        let locks = locks(convos.lock.iter().copied());
        let Origin { base, node, lane, published } = origin;
        let row = session
            .row(
                APPEND,
                &[
                    &locks,
                    &base,
                    &node,
                    &lane,
                    &published,
                    &convos.id,
                    &convos.version,
                    &convos.writes,
                    &convos.next_version,
                    &convos.entries,
                    &convos.last_seq,
                    &convos.last_ts,
                    &convos.message_no,
                    &convos.message_seq,
                    &convos.change_seq,
                    &convos.members,
                    &convos.joined_no,
                    &messages.at,
                    &messages.seq,
                    &messages.kind,
                    &messages.sender,
                    &messages.device,
                    &messages.client_seq,
                    &messages.ts,
                    &messages.message_no,
                    &messages.reply_to,
                    &messages.body,
                    &marks.at,
                    &marks.user,
                    &marks.delivered,
                    &marks.read,
                    &marks.read_no,
                    &marks.ts,
                    &receipts.mark,
                    &receipts.seq,
                    &receipts.delivered_at,
                    &receipts.seen_at,
                ],
            )
            .await?;
        let row = row.ok_or_else(|| Failure::Row("append_1 gave nothing".into()))?;
        Ok(Written {
            commit: row.value(0)?,
            is_current: row.value(1)?,
            delivered: row.value::<Option<_>>(2)?.unwrap_or_default(),
            read: row.value::<Option<_>>(3)?.unwrap_or_default(),
        })
    }

    /// The watermarks of a user before the batch, of the conversation that was taken in as the `at`-th.
    pub(super) fn before(&self, written: &Written, at: usize, user: UserId) -> Option<(Seq, Seq)> {
        let mark = *self.mark_places.get(at)?.get(&user)?;
        let seq = |of: &[i64]| of.get(mark).map(|seq| Seq::new(seq.cast_unsigned()));
        Some((seq(&written.delivered)?, seq(&written.read)?))
    }
}

impl Receipts {
    fn at(&mut self, mark: usize, reached: Seq) -> usize {
        *self.places.entry((mark, reached)).or_insert_with(|| {
            self.mark.push(place(mark));
            self.seq.push(seq(reached));
            self.delivered_at.push(None);
            self.seen_at.push(None);
            self.mark.len() - 1
        })
    }
}

/// A place in an array as PostgreSQL counts it.
fn place(at: usize) -> i32 {
    i32::try_from(at).unwrap_or(i32::MAX - 1) + 1
}
