//! The newest entries and the watermarks of conversations, as many ask for them at once: after a break everybody
//! misses the same.
//!
//! What is kept of a conversation is good as long as its `last_commit` is the one that it was read at: anything that
//! changes in a conversation changes that number in the same transaction. So whoever has read the number in his own
//! transaction knows whether what is here is what his transaction would read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, Row};
use tertulia_domain::log::{Commit, Receipt};
use tertulia_protocol::{ConvoId, Entry, EntryKind, Seq};

use super::log;
use super::readers::ReadError;
use super::rows::{self, Key, RECEIPT_COLUMNS, get_commit};

/// How many entries are read when nothing is known of a conversation.
const ENTRIES_MIN: u64 = 16;
/// About how many bytes are kept; then all goes, and what is asked for is read anew.
const BYTES_MAX: usize = 16 << 20;
/// About what an entry takes beside its body, and a receipt.
const ITEM_BYTES: usize = 160;

/// An entry and its commit.
type Stored = (Arc<Entry>, Commit);

/// What is newest in a conversation.
pub(super) struct Newest {
    last_commit: Commit,
    /// The newest entries, ascending, without holes.
    entries: Vec<Stored>,
    /// The watermarks of all members; `None` in a large conversation.
    pub(super) receipts: Option<Vec<Watermarks>>,
}

/// A member's watermarks.
#[derive(Clone, Copy)]
pub(super) struct Watermarks {
    receipt: Receipt,
    /// When they last moved, and when he last received something.
    marked: Commit,
    delivered: Commit,
}

impl Watermarks {
    /// What moved at or after `since`, if something did.
    pub(super) fn since(&self, since: Commit) -> Option<Receipt> {
        let delivered_at = self.receipt.delivered_at.filter(|_| self.delivered >= since);
        (self.marked >= since).then_some(Receipt { delivered_at, ..self.receipt })
    }
}

/// What is newest in the conversations that were asked for lately.
#[derive(Default)]
pub(super) struct NewestCache(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    convos: HashMap<Key, Arc<Newest>>,
    bytes: usize,
}

impl NewestCache {
    /// What is newest at `last_commit`, which was read in the transaction of `db`, as `last_seq` was.
    pub(super) fn get(
        &self,
        db: &Connection,
        convo: (Key, ConvoId),
        last_commit: Commit,
        last_seq: Seq,
        is_small: bool,
    ) -> Result<Arc<Newest>, ReadError> {
        let known =
            self.lock().convos.get(&convo.0).filter(|known| known.last_commit == last_commit).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let first = Seq::new(last_seq.get().saturating_sub(ENTRIES_MIN - 1).max(1));
        let newest = Newest {
            last_commit,
            entries: read_entries(db, convo, first, last_seq)?,
            receipts: if is_small { Some(read_receipts(db, convo)?) } else { None },
        };
        Ok(self.keep(convo.0, newest))
    }

    /// The entries from `first` on; to be asked after [`get`](Self::get), in the same transaction.
    pub(super) fn entries(
        &self,
        db: &Connection,
        convo: (Key, ConvoId),
        newest: &Arc<Newest>,
        first: Seq,
        last: Seq,
    ) -> Result<Vec<Stored>, ReadError> {
        if let Some(known) = newest.from(first) {
            return Ok(known.to_vec());
        }
        let entries = read_entries(db, convo, first, last)?;
        let (last_commit, receipts) = (newest.last_commit, newest.receipts.clone());
        self.keep(convo.0, Newest { last_commit, entries: entries.clone(), receipts });
        Ok(entries)
    }

    fn keep(&self, key: Key, newest: Newest) -> Arc<Newest> {
        let newest = Arc::new(newest);
        let mut kept = self.lock();
        if kept.bytes >= BYTES_MAX {
            *kept = Kept::default();
        }
        kept.bytes += newest.bytes();
        if let Some(old) = kept.convos.insert(key, Arc::clone(&newest)) {
            kept.bytes -= old.bytes();
        }
        newest
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing under this lock can panic half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Newest {
    /// The first entry from `first` on that was committed at or after `since`; commits rise with `seq`. Outside
    /// `None`: it may be older than what is known here.
    pub(super) fn first_since(&self, since: Commit, first: Seq) -> Option<Option<Seq>> {
        let at = self.entries.partition_point(|(entry, commit)| *commit < since || entry.seq < first);
        let is_known = at > 0 || self.entries.first().is_some_and(|(entry, _)| entry.seq <= first);
        is_known.then(|| self.entries.get(at).map(|(entry, _)| entry.seq))
    }

    fn from(&self, first: Seq) -> Option<&[Stored]> {
        let oldest = self.entries.first()?.0.seq;
        let skipped = usize::try_from(first.get().checked_sub(oldest.get())?).ok()?;
        self.entries.get(skipped..)
    }

    fn bytes(&self) -> usize {
        let body =
            |entry: &Entry| if let EntryKind::Text { body, .. } = &entry.kind { body.len() } else { 0 };
        let entries: usize = self.entries.iter().map(|(entry, _)| ITEM_BYTES + body(entry)).sum();
        entries + ITEM_BYTES * (1 + self.receipts.as_ref().map_or(0, Vec::len))
    }
}

fn read_entries(
    db: &Connection,
    (key, convo): (Key, ConvoId),
    first: Seq,
    last: Seq,
) -> Result<Vec<Stored>, ReadError> {
    let mut entries = Vec::new();
    log::read(db, convo, key, &(first..=last), &mut entries)?;
    if entries.len() as u64 != last.get() + 1 - first.get() {
        return Err(ReadError::Row(format!(
            "entries of conversation {convo} are missing from {first} to {last}"
        )));
    }
    Ok(entries)
}

fn read_receipts(db: &Connection, (key, convo): (Key, ConvoId)) -> Result<Vec<Watermarks>, ReadError> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT {RECEIPT_COLUMNS}, p.marked_commit FROM participants p JOIN ids u ON u.key = p.user
         WHERE p.convo = ?1 AND p.left_commit IS NULL AND p.marked_commit > 0"
    ))?;
    let found = statement.query_map([key], |row| get_watermarks(convo, row))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// The watermarks of one member, if they ever moved.
pub(super) fn read_watermarks(
    db: &Connection,
    (key, convo): (Key, ConvoId),
    user: Key,
) -> Result<Option<Watermarks>, ReadError> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT {RECEIPT_COLUMNS}, p.marked_commit FROM participants p JOIN ids u ON u.key = p.user
         WHERE p.convo = ?1 AND p.user = ?2 AND p.left_commit IS NULL AND p.marked_commit > 0"
    ))?;
    Ok(statement.query_row((key, user), |row| get_watermarks(convo, row)).optional()?)
}

/// [`RECEIPT_COLUMNS`] and `marked_commit`.
fn get_watermarks(convo: ConvoId, row: &Row<'_>) -> rusqlite::Result<Watermarks> {
    let (receipt, delivered) = rows::get_receipt(convo, row)?;
    Ok(Watermarks { receipt, delivered, marked: get_commit(row, 6)? })
}
