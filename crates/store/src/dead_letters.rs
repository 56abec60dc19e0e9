//! Entries that one who follows the logs could not take, however often he tried: kept, so that somebody looks at them,
//! and so that the rest goes on.
//!
//! They are in a small file of their own, `dead_letters.db` of the data folder. A server that runs and an administrator's
//! command may have it open at one time: each does one short transaction, and neither keeps anything of it in memory.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Row};
use tertulia_protocol::{ConvoId, Seq, Timestamp};

use crate::StoreError;
use crate::embedded::sqlite::{self, Durability, Schema};
use crate::embedded::{OpenError, unavailable_or_damaged};

const SCHEMA: Schema = Schema {
    file: "dead_letters.db",
    migrations: &[(
        "dead_letters",
        "CREATE TABLE dead_letters (
            id       INTEGER PRIMARY KEY,
            consumer TEXT NOT NULL,
            convo    BLOB NOT NULL,
            seq      INTEGER NOT NULL,
            why      TEXT NOT NULL,              -- as it was refused last
            tries    INTEGER NOT NULL,
            first_at INTEGER NOT NULL,           -- milliseconds since 1970
            last_at  INTEGER NOT NULL,
            again    INTEGER NOT NULL DEFAULT 0, -- whether somebody asked to try it again
            UNIQUE (consumer, convo, seq)
        ) STRICT",
    )],
};

/// The longest reason that is kept, in characters.
const WHY_CHARS_MAX: usize = 500;

/// The dead letters of a data folder.
///
/// Its methods block for a moment.
pub struct DeadLetters(Mutex<Connection>);

/// An entry that somebody could not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number.
    pub id: i64,
    /// Who could not take it.
    pub consumer: String,
    /// The conversation.
    pub convo: ConvoId,
    /// The entry.
    pub seq: Seq,
    /// Why not; nothing of what it says.
    pub why: String,
    /// How often it was tried in vain.
    pub tries: u32,
    /// When it was first laid here.
    pub first_at: Timestamp,
    /// When it was last tried.
    pub last_at: Timestamp,
    /// Whether it waits to be tried again.
    pub again: bool,
}

const COLUMNS: &str = "id, consumer, convo, seq, why, tries, first_at, last_at, again";

impl DeadLetters {
    /// Opens those of a data folder, or makes the file.
    ///
    /// # Errors
    /// A newer version has written it, or the disk does not let us.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Ok(Self(Mutex::new(sqlite::open_writer(dir, &SCHEMA, Durability::Full)?)))
    }

    /// Opens those of a data folder where there are any; `None`: there never was one.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_existing(dir: &Path) -> Result<Option<Self>, OpenError> {
        if dir.join(SCHEMA.file).exists() { Self::open(dir).map(Some) } else { Ok(None) }
    }

    /// Lays an entry here, or notes that it was tried again in vain.
    ///
    /// # Errors
    /// The disk does not let us, as with all of these.
    pub fn put(
        &self,
        consumer: &str,
        convo: ConvoId,
        seq: Seq,
        why: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let why: String = why.chars().take(WHY_CHARS_MAX).collect();
        let put = "INSERT INTO dead_letters (consumer, convo, seq, why, tries, first_at, last_at)
             VALUES (?1, ?2, ?3, ?4, 1, ?5, ?5)
             ON CONFLICT DO UPDATE SET why = excluded.why, tries = tries + 1, last_at = excluded.last_at, again = 0";
        let (convo, seq) = (convo.as_bytes(), seq.get().cast_signed());
        self.with(|db| db.prepare_cached(put)?.execute((consumer, convo, seq, why, now.as_millis())))?;
        Ok(())
    }

    /// Those there are, the first ones first, `limit` of them behind the number `after`.
    pub fn list(&self, after: i64, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let list = format!("SELECT {COLUMNS} FROM dead_letters WHERE id > ?1 ORDER BY id LIMIT ?2");
        self.with(|db| db.prepare_cached(&list)?.query_map((after, limit), get)?.collect())
    }

    /// How many of a consumer there are.
    pub fn count(&self, consumer: &str) -> Result<u64, StoreError> {
        let count = "SELECT count(*) FROM dead_letters WHERE consumer = ?1";
        self.with(|db| db.prepare_cached(count)?.query_row([consumer], |row| row.get::<_, i64>(0)))
            .map(i64::cast_unsigned)
    }

    /// Asks for one, or for all, to be tried again; says for how many.
    pub fn ask_again(&self, id: Option<i64>) -> Result<usize, StoreError> {
        let ask = "UPDATE dead_letters SET again = 1 WHERE ?1 IS NULL OR id = ?1";
        self.with(|db| db.prepare_cached(ask)?.execute([id]))
    }

    /// Those of a consumer that wait to be tried again.
    pub fn asked(&self, consumer: &str, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let asked = format!(
            "SELECT {COLUMNS} FROM dead_letters WHERE consumer = ?1 AND again = 1 ORDER BY id LIMIT ?2"
        );
        self.with(|db| db.prepare_cached(&asked)?.query_map((consumer, limit), get)?.collect())
    }

    /// Takes one away: it was taken at last.
    pub fn remove(&self, id: i64) -> Result<(), StoreError> {
        self.with(|db| db.prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?.execute([id]))?;
        Ok(())
    }

    fn with<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        work(&self.lock()).map_err(|error| unavailable_or_damaged(&error))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // Each use is one statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn get(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    Ok(DeadLetter {
        id: row.get(0)?,
        consumer: row.get(1)?,
        convo: ConvoId::from_bytes(row.get(2)?),
        seq: Seq::new(row.get::<_, i64>(3)?.cast_unsigned()),
        why: row.get(4)?,
        tries: row.get(5)?,
        first_at: Timestamp::from_millis(row.get(6)?),
        last_at: Timestamp::from_millis(row.get(7)?),
        again: row.get(8)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000);
    const LATER: Timestamp = Timestamp::from_millis(2_000);
    const CONVO: ConvoId = ConvoId::from_bytes([7; 16]);

    #[test]
    fn an_entry_is_laid_here_once_and_goes_when_it_was_taken() {
        let dir = tempfile::tempdir().unwrap();
        assert!(DeadLetters::open_existing(dir.path()).unwrap().is_none());
        let letters = DeadLetters::open(dir.path()).unwrap();
        letters.put("search", CONVO, Seq::new(3), "too odd", NOW).unwrap();
        letters.put("search", CONVO, Seq::new(5), "too odd", NOW).unwrap();
        letters.put("search", CONVO, Seq::new(3), &"still ".repeat(500), LATER).unwrap();
        letters.put("push", CONVO, Seq::new(3), "no such device", NOW).unwrap();
        assert_eq!((letters.count("search").unwrap(), letters.count("push").unwrap()), (2, 1));
        // Whoever else has the file open sees the same.
        let command = DeadLetters::open_existing(dir.path()).unwrap().unwrap();
        let list = command.list(0, 100).unwrap();
        assert_eq!(list.len(), 3);
        assert_eq!((list[0].tries, list[0].first_at, list[0].last_at), (2, NOW, LATER));
        assert_eq!(list[0].why.chars().count(), WHY_CHARS_MAX);
        assert_eq!(command.list(list[0].id, 1).unwrap(), list[1..2]);

        assert_eq!(letters.asked("search", 10).unwrap(), []);
        assert_eq!(command.ask_again(Some(list[1].id)).unwrap(), 1);
        assert_eq!(
            letters.asked("search", 10).unwrap().iter().map(|it| it.id).collect::<Vec<_>>(),
            [list[1].id]
        );
        assert_eq!(command.ask_again(None).unwrap(), 3);
        letters.put("search", CONVO, Seq::new(3), "in vain", LATER).unwrap();
        letters.remove(list[1].id).unwrap();
        assert_eq!(letters.asked("search", 10).unwrap(), []);
        assert_eq!(letters.asked("push", 10).unwrap().len(), 1);
    }
}
