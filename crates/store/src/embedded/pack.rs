//! `pack(…)` of SQL: the one who brings logs of a row a message (schema 2) into blocks.

use rusqlite::functions::{Aggregate, Context, FunctionFlags};
use rusqlite::{Connection, Error, Result};
use tertulia_domain::log::Commit;
use tertulia_protocol::{ClientSeq, ConvoId, Entry, EntryKind, Seq, Timestamp, UserId};

use super::block::Packer;
use crate::codes::TEXT;

/// seq, kind, sender, client_seq, ts, commit_no, message_no, reply_to, body.
const COLUMNS: i32 = 9;

/// Lets a migration call it.
pub(super) fn register(db: &Connection) -> Result<()> {
    db.create_aggregate_function("pack", COLUMNS, FunctionFlags::SQLITE_UTF8, Pack)
}

struct Pack;

/// The entries of a group, with commit and number, in any order.
type Group = Vec<(Entry, Commit, u64)>;

impl Aggregate<Group, Vec<u8>> for Pack {
    fn init(&self, _: &mut Context<'_>) -> Result<Group> {
        Ok(Group::new())
    }

    fn step(&self, row: &mut Context<'_>, group: &mut Group) -> Result<()> {
        let count = |at| row.get::<i64>(at).map(i64::cast_unsigned);
        let optional = |at| row.get::<Option<i64>>(at).map(|number| number.map(i64::cast_unsigned));
        let body: String = row.get(8)?;
        let kind = if row.get::<i16>(1)? == TEXT {
            EntryKind::Text { body, reply_to: optional(7)?.map(Seq::new) }
        } else {
            serde_json::from_str(&body).map_err(failed)?
        };
        let entry = Entry {
            // It stands in the row.
            convo_id: ConvoId::from_bytes([0; 16]),
            seq: Seq::new(count(0)?),
            sender_id: UserId::from_bytes(row.get(2)?),
            client_seq: optional(3)?.map(ClientSeq::new),
            ts: Timestamp::from_millis(row.get(4)?),
            kind,
        };
        group.push((entry, Commit::new(count(5)?), count(6)?));
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, group: Option<Group>) -> Result<Vec<u8>> {
        let mut group = group.unwrap_or_default();
        group.sort_by_key(|(entry, ..)| entry.seq);
        let mut packer = Packer::default();
        for (entry, commit, message_no) in &group {
            packer.push(entry, *commit, *message_no).map_err(failed)?;
        }
        Ok(packer.block().map(|(_, bytes)| bytes.to_vec()).unwrap_or_default())
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::UserFunctionError(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::super::sqlite::{self, Durability, Schema};
    use super::super::{log, settled};

    use super::*;
    use crate::codes::CHANGE;

    #[test]
    fn logs_of_a_row_a_message_become_blocks() {
        const OLD: Schema =
            Schema { migrations: settled::SCHEMA.migrations.split_at(2).0, ..settled::SCHEMA };
        let dir = tempfile::tempdir().unwrap();
        let mut old = sqlite::open_writer(dir.path(), &OLD, Durability::Normal).unwrap();
        let tx = old.transaction().unwrap();
        for user in 1..=3_u8 {
            tx.execute("INSERT INTO ids (key, id) VALUES (?1, ?2)", (user, [user; 16])).unwrap();
        }
        let convo = |key: i64| ConvoId::from_bytes([key.to_le_bytes()[0]; 16]);
        let mut expected = Vec::new();
        for (key, count) in [(1, 1), (2, 15), (3, 16), (4, 100)] {
            for seq in 1..=count {
                let (sender, ts, commit) = (seq % 3 + 1, 1_795_000_000_000 + seq * 7, seq * 5 + key);
                let is_change = seq == 1;
                let kind = if is_change {
                    EntryKind::Renamed { title: "tea".into() }
                } else {
                    EntryKind::Text { body: format!("{seq}"), reply_to: (seq > 9).then(|| Seq::new(2)) }
                };
                let client_seq = (!is_change).then_some(seq);
                let (code, reply_to, body) = match &kind {
                    EntryKind::Text { body, reply_to } => (TEXT, reply_to.map(|_| 2), body.clone()),
                    change => (CHANGE, None, serde_json::to_string(change).unwrap()),
                };
                tx.execute(
                    "INSERT INTO messages (convo, seq, kind, sender, device, client_seq, ts, commit_no, message_no,
                        reply_to, body) VALUES (?1, ?2, ?3, ?4, 3, ?5, ?6, ?7, ?8, ?9, ?10)",
                    (key, seq, code, sender, client_seq, ts, commit, seq - 1, reply_to, body),
                )
                .unwrap();
                let entry = Entry {
                    convo_id: convo(key),
                    seq: Seq::new(seq.cast_unsigned()),
                    sender_id: UserId::from_bytes([sender.to_le_bytes()[0]; 16]),
                    client_seq: client_seq.map(|number| ClientSeq::new(number.cast_unsigned())),
                    ts: Timestamp::from_millis(ts),
                    kind,
                };
                expected.push((key, entry, Commit::new(commit.cast_unsigned()), (seq - 1).cast_unsigned()));
            }
        }
        tx.commit().unwrap();
        drop(old);

        let opened = settled::open(dir.path(), [1; 16]).unwrap();
        let db = opened.db.db();
        for (key, entry, commit, message_no) in &expected {
            let mut read = Vec::new();
            log::read(db, entry.convo_id, *key, &(entry.seq..=entry.seq), &mut read).unwrap();
            assert_eq!(read, [(std::sync::Arc::new(entry.clone()), *commit)]);
            let number = log::look(db, *key, entry.seq, |line| Ok(line.message_no)).unwrap();
            assert_eq!(number, Some(*message_no));
        }
        let mut all = Vec::new();
        log::read(db, convo(4), 4, &(Seq::new(9)..=Seq::new(90)), &mut all).unwrap();
        assert_eq!(all.len(), 82);
        let gone =
            db.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'messages'", (), |row| row.get(0));
        assert_eq!(gone, Ok(0));
    }
}
