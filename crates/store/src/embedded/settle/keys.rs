//! The numbers that stand for ids in `tertulia.db`, and those of them that were seen lately.

use rusqlite::{Connection, OptionalExtension};
use tertulia_domain::conversation::Record;
use tertulia_domain::log::Commit;
use tertulia_protocol::{ConvoId, Entry, EntryKind, IdMap};

use super::super::rows::{self, Key};
use super::SettleError;
use crate::codes::Code;

/// How many keys are remembered of each kind; then all are forgotten and looked up again.
const KEYS_REMEMBERED: usize = 500_000;

/// A conversation that was seen lately.
#[derive(Clone, Copy)]
struct Known {
    key: Key,
    /// Its rows have everything up to this commit.
    settled: Commit,
}

/// Keys that were seen lately.
#[derive(Default)]
pub(in crate::embedded) struct Keys {
    convos: IdMap<ConvoId, Known>,
    /// Users and devices: both are UUIDs, and none is the other.
    ids: IdMap<[u8; 16], Key>,
}

impl Keys {
    /// Forgets everything: after a rollback some of it may never have been stored.
    pub(in crate::embedded) fn clear(&mut self) {
        self.convos.clear();
        self.ids.clear();
    }

    pub(super) fn bound(&mut self) {
        if self.convos.len() > KEYS_REMEMBERED {
            self.convos.clear();
        }
        if self.ids.len() > KEYS_REMEMBERED {
            self.ids.clear();
        }
    }

    pub(super) fn id(&mut self, db: &Connection, id: &[u8; 16]) -> rusqlite::Result<Key> {
        if let Some(&key) = self.ids.get(id) {
            return Ok(key);
        }
        let found = db
            .prepare_cached("SELECT key FROM ids WHERE id = ?1")?
            .query_row([id], |row| row.get(0))
            .optional()?;
        let key = match found {
            Some(key) => key,
            None => db.prepare_cached("INSERT INTO ids (id) VALUES (?1)")?.insert([id])?,
        };
        self.ids.insert(*id, key);
        Ok(key)
    }

    /// The key of a conversation; its `created` makes the row.
    pub(super) fn convo(&mut self, db: &Connection, record: &Record) -> Result<Key, SettleError> {
        let convo = record.convo();
        if let Some(known) = self.convos.get(&convo) {
            return Ok(known.key);
        }
        let found = db
            .prepare_cached("SELECT key, last_commit FROM conversations WHERE id = ?1")?
            .query_row([convo.as_bytes()], |row| {
                Ok(Known { key: row.get(0)?, settled: rows::get_commit(row, 1)? })
            })
            .optional()?;
        let known = match (found, record) {
            (Some(known), _) => known,
            (None, Record::Entry { entry, .. }) => {
                let key = create(db, entry)?.ok_or(SettleError::NeverCreated(convo))?;
                Known { key, settled: Commit::default() }
            }
            (None, _) => return Err(SettleError::NeverCreated(convo)),
        };
        self.convos.insert(convo, known);
        Ok(known.key)
    }

    /// Up to where the rows of a conversation are exact.
    pub(super) fn settled(&mut self, convo: ConvoId) -> Option<&mut Commit> {
        self.convos.get_mut(&convo).map(|known| &mut known.settled)
    }
}

/// Makes the row of a conversation; its numbers come with the rest of the bite.
fn create(db: &Connection, entry: &Entry) -> Result<Option<Key>, rusqlite::Error> {
    let EntryKind::Created { conversation_type, title, history, .. } = &entry.kind else { return Ok(None) };
    let key = db
        .prepare_cached(
            "INSERT INTO conversations (id, kind, title, history, created_at, member_count, last_joined_no,
                last_seq, last_ts, last_message_no, last_message_seq, last_change_seq, last_commit)
             VALUES (?1, ?2, ?3, ?4, ?5, 0, 0, 0, ?5, 0, 0, 0, 0)",
        )?
        .insert((
            entry.convo_id.as_bytes(),
            conversation_type.code(),
            title,
            history.code(),
            entry.ts.as_millis(),
        ))?;
    Ok(Some(key))
}
