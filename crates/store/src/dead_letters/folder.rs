//! Dead letters in `dead_letters.db` of the data folder: each call is one short transaction, and nothing is kept in memory.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, Row};
use tertulia_protocol::{ConvoId, Seq, Timestamp};

use super::{DeadLetter, DeadLetters, shortened};
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
    functions: sqlite::no_functions,
};

const COLUMNS: &str = "id, consumer, convo, seq, why, tries, first_at, last_at, again";

/// The dead letters of a data folder.
pub struct FolderDeadLetters(Arc<Mutex<Connection>>);

impl FolderDeadLetters {
    /// Opens those of a data folder, or makes the file.
    ///
    /// # Errors
    /// A newer version has written it, or the disk does not let us.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Ok(Self(Arc::new(Mutex::new(sqlite::open_writer(dir, &SCHEMA, Durability::Full)?))))
    }

    /// Opens those of a data folder where there are any; `None`: there never was one.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_existing(dir: &Path) -> Result<Option<Self>, OpenError> {
        if dir.join(SCHEMA.file).exists() { Self::open(dir).map(Some) } else { Ok(None) }
    }

    /// Does one statement, on a thread that may block.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let db = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || {
            // Each use is one statement.
            let db = db.lock().unwrap_or_else(PoisonError::into_inner);
            work(&db).map_err(|error| unavailable_or_damaged(&error))
        });
        done.await.unwrap_or_else(|error| {
            Err(StoreError::Unavailable { reason: error.to_string(), retry_after: Duration::ZERO })
        })
    }
}

#[async_trait]
impl DeadLetters for FolderDeadLetters {
    async fn put(
        &self,
        consumer: &str,
        convo: ConvoId,
        seq: Seq,
        why: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let put = "INSERT INTO dead_letters (consumer, convo, seq, why, tries, first_at, last_at)
             VALUES (?1, ?2, ?3, ?4, 1, ?5, ?5)
             ON CONFLICT DO UPDATE SET why = excluded.why, tries = tries + 1, last_at = excluded.last_at, again = 0";
        let (consumer, why, seq) = (consumer.to_owned(), shortened(why), seq.get().cast_signed());
        self.with(move |db| {
            db.prepare_cached(put)?.execute((consumer, convo.as_bytes(), seq, why, now.as_millis()))
        })
        .await
        .map(drop)
    }

    async fn list(&self, after: i64, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let list = format!("SELECT {COLUMNS} FROM dead_letters WHERE id > ?1 ORDER BY id LIMIT ?2");
        self.with(move |db| db.prepare_cached(&list)?.query_map((after, limit), get)?.collect()).await
    }

    async fn count(&self, consumer: &str) -> Result<u64, StoreError> {
        let count = "SELECT count(*) FROM dead_letters WHERE consumer = ?1";
        let consumer = consumer.to_owned();
        self.with(move |db| db.prepare_cached(count)?.query_row([consumer], |row| row.get::<_, i64>(0)))
            .await
            .map(i64::cast_unsigned)
    }

    async fn ask_again(&self, id: Option<i64>) -> Result<u64, StoreError> {
        let ask = "UPDATE dead_letters SET again = 1 WHERE ?1 IS NULL OR id = ?1";
        self.with(move |db| db.prepare_cached(ask)?.execute([id])).await.map(|asked| asked as u64)
    }

    async fn asked(&self, consumer: &str, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let asked = format!(
            "SELECT {COLUMNS} FROM dead_letters WHERE consumer = ?1 AND again = 1 ORDER BY id LIMIT ?2"
        );
        let consumer = consumer.to_owned();
        self.with(move |db| db.prepare_cached(&asked)?.query_map((consumer, limit), get)?.collect()).await
    }

    async fn remove(&self, id: i64) -> Result<(), StoreError> {
        let remove = "DELETE FROM dead_letters WHERE id = ?1 AND again = 1";
        self.with(move |db| db.prepare_cached(remove)?.execute([id])).await.map(drop)
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
    use crate::dead_letters::testsuite;

    #[tokio::test]
    async fn an_entry_is_laid_here_once_and_goes_when_it_was_taken() {
        let dir = tempfile::tempdir().unwrap();
        assert!(FolderDeadLetters::open_existing(dir.path()).unwrap().is_none());
        let letters = FolderDeadLetters::open(dir.path()).unwrap();
        let command = FolderDeadLetters::open_existing(dir.path()).unwrap().unwrap();
        testsuite::an_entry_is_laid_here_once_and_goes_when_it_was_taken(&letters, &command).await;
    }
}
