//! Writing batches.

use std::collections::HashMap;
use std::fmt::Write as _;

use rusqlite::{OptionalExtension as _, Transaction, TransactionBehavior};
use tertulia_protocol::{ConvoId, IdMap, Seq, Timestamp};
use tertulia_store::embedded::paced::{Paced, PacedError};

use crate::port::{Change, Document, IndexError, NUMBER_BITS, first_id};

/// How many names are remembered; then all are forgotten and looked up again.
const NAMES_REMEMBERED: usize = 200_000;

/// The key of a conversation or user in one file.
type Key = i64;

/// The ids of messages, by conversation and entry.
type Known = HashMap<(Key, i64), i64>;

/// The one who writes.
pub(super) struct Writer {
    db: Paced,
    names: IdMap<[u8; 16], Key>,
}

impl Writer {
    pub(super) fn new(db: Paced) -> Self {
        Self { db, names: IdMap::default() }
    }

    pub(super) fn cursor(&self) -> rusqlite::Result<Option<String>> {
        self.db.db().query_row("SELECT cursor FROM meta", (), |row| row.get(0))
    }

    pub(super) fn apply(&mut self, batch: Vec<Change>, cursor: Option<&str>) -> Result<(), IndexError> {
        let done = self.try_apply(batch, cursor);
        if done.is_err() || self.names.len() > NAMES_REMEMBERED {
            // What was named in a transaction that is rolled back is not there.
            self.names.clear();
        }
        done
    }

    fn try_apply(&mut self, mut batch: Vec<Change>, cursor: Option<&str>) -> Result<(), IndexError> {
        // By time: the ids go up, and so the words of a batch become one segment.
        batch.sort_by_key(place);
        let tx = self.db.db_to_write()?.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let newest: i64 = tx.query_row("SELECT coalesce(max(id), 0) FROM documents", (), |row| row.get(0))?;
        let mut work = Work { tx: &tx, names: &mut self.names, text: String::new() };
        for moment in batch.chunk_by(|one, next| place(one).0 == place(next).0) {
            work.moment(moment, newest)?;
        }
        if let Some(cursor) = cursor {
            tx.prepare_cached("UPDATE meta SET cursor = ?1")?.execute([cursor])?;
        }
        tx.commit()?;
        Ok(self.db.tidy()?)
    }

    pub(super) fn move_cursor(&mut self, from: Option<&str>, to: &str) -> Result<bool, PacedError> {
        let db = self.db.db_to_write()?;
        let moved = db.execute("UPDATE meta SET cursor = ?2 WHERE cursor IS ?1", (from, to))?;
        Ok(moved > 0)
    }

    pub(super) fn sync(&mut self) -> Result<(), PacedError> {
        self.db.sync()
    }

    pub(super) fn clear(&mut self) -> Result<(), PacedError> {
        self.names.clear();
        let tx = self.db.db_to_write()?.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(
            "INSERT INTO texts (texts) VALUES ('delete-all');
             DELETE FROM documents;
             DELETE FROM names;
             UPDATE meta SET cursor = NULL;",
        )?;
        tx.commit()?;
        self.db.tidy()
    }

    /// Brings the WAL into the file, so that a closed index is one file.
    pub(super) fn close(self) {
        if let Err(error) = self.db.close() {
            tracing::warn!(%error, "the WAL of the search index stays; the next start reads it");
        }
    }
}

fn place(change: &Change) -> (Timestamp, ConvoId, Seq) {
    match change {
        Change::Put(Document { convo, seq, ts, .. }) | Change::Remove { convo, seq, ts } => {
            (*ts, *convo, *seq)
        }
    }
}

struct Work<'a, 'db> {
    tx: &'a Transaction<'db>,
    names: &'a mut IdMap<[u8; 16], Key>,
    text: String,
}

impl Work<'_, '_> {
    /// Takes the changes of one millisecond, in the order of their places; `newest` is the highest id before the batch.
    fn moment(&mut self, changes: &[Change], newest: i64) -> Result<(), IndexError> {
        let Some((ts, ..)) = changes.first().map(place) else { return Ok(()) };
        let first = first_id(ts);
        let (known, mut next) = if first > newest { (Known::new(), first) } else { self.known(first)? };
        let mut new = Vec::new();
        let mut old = Vec::new();
        // Of two changes of one message the later one counts: they stand beside each other.
        for same in changes.chunk_by(|one, next| place(one) == place(next)) {
            let Some(change) = same.last() else { continue };
            let (_, convo, seq) = place(change);
            let key = self.key(convo.as_bytes())?;
            match known.get(&(key, seq.get().cast_signed())) {
                Some(&id) => old.push((id, key, change)),
                None => new.push((key, change)),
            }
        }
        old.sort_unstable_by_key(|&(id, ..)| id);
        for (id, key, change) in old {
            self.delete(id)?;
            if let Change::Put(document) = change {
                self.insert(id, key, document)?;
            }
        }
        for (key, change) in new {
            let Change::Put(document) = change else { continue };
            if next >> NUMBER_BITS != first >> NUMBER_BITS {
                return Err(IndexError::Refused(format!("there is no number left for a message of {ts}")));
            }
            self.insert(next, key, document)?;
            next += 1;
        }
        Ok(())
    }

    /// What is there of a millisecond, and its next id.
    fn known(&self, first: i64) -> rusqlite::Result<(Known, i64)> {
        let last = first + ((1 << NUMBER_BITS) - 1);
        let mut statement = self
            .tx
            .prepare_cached("SELECT id, convo, seq FROM documents WHERE id BETWEEN ?1 AND ?2 ORDER BY id")?;
        let mut known = Known::new();
        let mut next = first;
        let mut rows = statement.query((first, last))?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            known.insert((row.get(1)?, row.get(2)?), id);
            next = id + 1;
        }
        Ok((known, next))
    }

    fn insert(&mut self, id: i64, convo: Key, document: &Document) -> rusqlite::Result<()> {
        let sender = self.key(document.sender.as_bytes())?;
        let (words, count) = document.words();
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        // To a text it can always be written.
        let _ = write!(text, "~c{convo} ~u{sender} {words}");
        self.tx.prepare_cached("INSERT INTO texts (rowid, text) VALUES (?1, ?2)")?.execute((id, &text))?;
        self.text = text;
        self.tx
            .prepare_cached("INSERT INTO documents (id, convo, seq, words) VALUES (?1, ?2, ?3, ?4)")?
            .execute((id, convo, document.seq.get().cast_signed(), count))?;
        Ok(())
    }

    fn delete(&self, id: i64) -> rusqlite::Result<()> {
        self.tx.prepare_cached("DELETE FROM texts WHERE rowid = ?1")?.execute([id])?;
        self.tx.prepare_cached("DELETE FROM documents WHERE id = ?1")?.execute([id])?;
        Ok(())
    }

    fn key(&mut self, id: &[u8; 16]) -> rusqlite::Result<Key> {
        if let Some(&key) = self.names.get(id) {
            return Ok(key);
        }
        let found = self
            .tx
            .prepare_cached("SELECT key FROM names WHERE id = ?1")?
            .query_row([id], |row| row.get(0))
            .optional()?;
        let key = match found {
            Some(key) => key,
            None => self.tx.prepare_cached("INSERT INTO names (id) VALUES (?1)")?.insert([id])?,
        };
        self.names.insert(*id, key);
        Ok(key)
    }
}
