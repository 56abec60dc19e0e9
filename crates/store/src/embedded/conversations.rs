//! Conversations in the writer's memory: loaded when first needed, forgotten when there are too many.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};
use tertulia_domain::conversation::{Conversation, Effect, Membership, Record, Summary};
use tertulia_protocol::{ClientSeq, ConvoId, DeviceId, Entry, IdMap, Seq, UserId};

use super::OpenError;
use super::log;
use super::readers::{ReadError, open_one};
use super::rows::{self, get_count, get_seq, get_settings};
use super::tail::Tail;
use crate::StoreError;
use crate::remembered::Remembered;

/// How long the writer waits for a conversation to be settled before it loads it. That is only after a start that found
/// some of it in the journal, or after a batch failed; otherwise what is in the tail is in memory too.
const PATIENCE: Duration = Duration::from_secs(2);

/// The conversations that the writer knows.
pub(super) struct Conversations {
    db: Connection,
    /// `None`: there is none. Only within a batch: whoever asks for what is not there fills no memory.
    known: Remembered<Option<Conversation>>,
}

impl Conversations {
    pub(super) fn open(dir: &Path, weight_max: usize) -> Result<Self, OpenError> {
        Ok(Self { db: open_one(dir)?, known: Remembered::new(weight_max) })
    }

    /// These are asked for next: what of them has to be settled before is settled together, not one after the other.
    pub(super) fn expect(&self, convos: impl Iterator<Item = ConvoId>, tail: &Tail) {
        let unknown: Vec<_> = convos.filter(|convo| !self.known.has(*convo)).collect();
        if unknown.len() > 1 {
            tail.want_settled(unknown);
        }
    }

    /// A conversation as it is after all that was decided; `None` in it: there is none.
    pub(super) fn get(
        &mut self,
        convo: ConvoId,
        tail: &Tail,
    ) -> Result<&mut Option<Conversation>, StoreError> {
        if !self.known.has(convo) {
            // Its rows are exact only when nothing of it is on the way.
            tail.wait_settled(convo, PATIENCE)?;
            self.known.learn(convo, load(&self.db, convo)?);
        }
        let lost = || StoreError::Damaged("a conversation was lost in memory".into());
        self.known.get(convo).ok_or_else(lost)
    }

    /// Forgets what a batch that was not stored has done to these; they are loaded again when needed.
    pub(super) fn forget(&mut self, convos: impl IntoIterator<Item = ConvoId>) {
        self.known.forget(convos);
    }

    /// Ends a batch that used these: forgets the longest unused if there are too many.
    pub(super) fn end_batch(&mut self, used: impl IntoIterator<Item = ConvoId>, tail: &Tail) {
        // What is not settled could not be loaded again at once.
        self.known.end_batch(
            used,
            |convo| convo.as_ref().map(Conversation::weight),
            |id| tail.is_settled(id),
        );
    }

    /// The highest number that a device has sent in a conversation, as far as it is settled.
    ///
    /// Asked once a device after a conversation is loaded, and then nothing that it sent is on the way.
    pub(super) fn highest_sent(
        &self,
        convo: ConvoId,
        device: DeviceId,
    ) -> Result<Option<ClientSeq>, ReadError> {
        let highest: Option<i64> = self
            .db
            .prepare_cached(
                "SELECT client_seq + count - 1 FROM sends
                 WHERE convo = (SELECT key FROM conversations WHERE id = ?1)
                    AND device = (SELECT key FROM ids WHERE id = ?2)
                 ORDER BY client_seq DESC LIMIT 1",
            )?
            .query_row((convo.as_bytes(), device.as_bytes()), |row| row.get(0))
            .optional()?;
        Ok(highest.map(|number| ClientSeq::new(number.cast_unsigned())))
    }

    /// The message of a device under a number.
    pub(super) fn sent(
        &self,
        convo: ConvoId,
        device: DeviceId,
        client_seq: ClientSeq,
        tail: &Tail,
    ) -> Result<Option<std::sync::Arc<Entry>>, ReadError> {
        // First the tail: what leaves it meanwhile is in the rows.
        let mut found = tail.sent(convo, device, client_seq, None);
        while let Some((spot, pending)) = found {
            if let Record::Entry { entry, effect: Effect::Sent { device: from, .. }, .. } = pending.read()?
                && (from, entry.client_seq) == (device, Some(client_seq))
            {
                return Ok(Some(entry));
            }
            found = tail.sent(convo, device, client_seq, Some(spot));
        }
        let Some(key) = rows::convo_key(&self.db, convo)? else { return Ok(None) };
        let run = self
            .db
            .prepare_cached(
                "SELECT client_seq, count, seq FROM sends
                 WHERE convo = ?1 AND device = (SELECT key FROM ids WHERE id = ?2) AND client_seq <= ?3
                 ORDER BY client_seq DESC LIMIT 1",
            )?
            .query_row((key, device.as_bytes(), rows::count(client_seq.get())), |row| {
                Ok((get_count(row, 0)?, get_count(row, 1)?, get_count(row, 2)?))
            })
            .optional()?;
        let Some((first, count, seq)) = run else { return Ok(None) };
        let at = client_seq.get() - first;
        if at >= count {
            return Ok(None);
        }
        let entry = log::look(&self.db, key, Seq::new(seq + at), |line| line.entry(convo))?;
        Ok(entry.map(std::sync::Arc::new))
    }

    /// How many messages there are up to an entry.
    pub(super) fn message_no(&self, convo: ConvoId, seq: Seq, tail: &Tail) -> Result<u64, ReadError> {
        if let Some(number) = tail.message_no(convo, seq) {
            return Ok(number);
        }
        let key = rows::convo_key(&self.db, convo)?;
        let number = match key {
            Some(key) => log::look(&self.db, key, seq, |line| Ok(line.message_no))?,
            None => None,
        };
        number.ok_or_else(|| ReadError::Row(format!("entry {seq} of conversation {convo} is not there")))
    }
}

fn load(db: &Connection, id: ConvoId) -> Result<Option<Conversation>, ReadError> {
    // One moment for the summary and the members.
    let tx = db.unchecked_transaction()?;
    let mut statement = tx.prepare_cached(
        "SELECT key, kind, title, about, posting, history, created_at, last_seq, last_ts, last_message_no,
            last_change_seq, last_joined_no
         FROM conversations WHERE id = ?1",
    )?;
    let mut found = statement.query([id.as_bytes()])?;
    let Some(row) = found.next()? else { return Ok(None) };
    let key: i64 = row.get(0)?;
    let summary = Summary {
        id,
        kind: rows::get_code(row, 1)?,
        title: row.get(2)?,
        about: row.get(3)?,
        posting: rows::get_code(row, 4)?,
        history: rows::get_code(row, 5)?,
        created_at: rows::get_time(row, 6)?,
        last_seq: get_seq(row, 7)?,
        last_ts: rows::get_time(row, 8)?,
        last_message_no: get_count(row, 9)?,
        last_change_seq: get_seq(row, 10)?,
        last_joined_no: get_count(row, 11)?,
    };
    Ok(Some(Conversation::restored(summary, load_members(&tx, key)?)))
}

fn load_members(db: &Connection, convo: rows::Key) -> Result<IdMap<UserId, Membership>, ReadError> {
    let mut statement = db.prepare_cached(
        "SELECT u.id, role, joined_no, joined_seq, visible_from, delivered_seq, read_seq, read_no, muted,
            muted_until, pinned, archived, blocks
         FROM participants p JOIN ids u ON u.key = p.user
         WHERE p.convo = ?1 AND p.left_commit IS NULL",
    )?;
    let mut found = statement.query([convo])?;
    let mut members = IdMap::default();
    while let Some(row) = found.next()? {
        let member = Membership {
            role: rows::get_code(row, 1)?,
            joined_no: get_count(row, 2)?,
            joined_seq: get_seq(row, 3)?,
            visible_from: get_seq(row, 4)?,
            delivered: get_seq(row, 5)?,
            read: get_seq(row, 6)?,
            read_no: get_count(row, 7)?,
            settings: get_settings(row, 8)?,
            blocks: row.get(12)?,
        };
        members.insert(rows::get_user_id(row, 0)?, member);
    }
    Ok(members)
}
