//! Dead letters in a table that all nodes share.

use std::sync::Arc;

use async_trait::async_trait;
use tertulia_protocol::{ConvoId, Seq, Timestamp};
use tokio_postgres::Row;

use super::connect::Connector;
use super::error::{Failure, OpenError};
use super::migrate::{MIGRATIONS, migrate};
use super::options::PostgresOptions;
use super::pool::Pool;
use super::types::{Id, RowExt as _, integer};
use crate::StoreError;
use crate::dead_letters::{DeadLetter, DeadLetters, shortened};

const PUT: &str = "
    INSERT INTO dead_letters AS known (consumer, convo, seq, why, tries, first_at, last_at)
    VALUES ($1, $2, $3, $4, 1, $5, $5)
    ON CONFLICT (consumer, convo, seq) DO UPDATE SET
        why = excluded.why, tries = known.tries + 1, last_at = excluded.last_at, again = false, tried_until = NULL";
const LIST: &str = "
    SELECT id, consumer, convo, seq, why, tries, first_at, last_at, again
    FROM dead_letters WHERE id > $1 ORDER BY id LIMIT $2";
const COUNT: &str = "SELECT count(*) FROM dead_letters WHERE consumer = $1";
const ASK: &str = "UPDATE dead_letters SET again = true, tried_until = NULL WHERE id = $1 RETURNING id";
const ASK_ALL: &str = "
    WITH asked AS (UPDATE dead_letters SET again = true, tried_until = NULL WHERE id > 0 RETURNING id)
    SELECT count(*) FROM asked";
const ASKED: &str = "
    WITH free AS (
        SELECT id FROM dead_letters
        WHERE consumer = $1 AND again AND (tried_until IS NULL OR tried_until < clock_timestamp())
        ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
    ), given AS (
        UPDATE dead_letters d SET tried_until = clock_timestamp() + interval '1 minute' FROM free f WHERE d.id = f.id
        RETURNING d.id, d.consumer, d.convo, d.seq, d.why, d.tries, d.first_at, d.last_at, d.again
    )
    SELECT * FROM given ORDER BY id";
const REMOVE: &str = "DELETE FROM dead_letters WHERE id = $1 AND again";
const EXISTS: &str = "SELECT to_regclass('dead_letters') IS NOT NULL";

/// The dead letters of all nodes.
pub struct PostgresDeadLetters {
    pool: Pool,
}

impl PostgresDeadLetters {
    /// Opens the database, and makes its tables or brings them up to date.
    ///
    /// # Errors
    /// The database does not answer, or is not one that the service can use; see [`OpenError`].
    pub async fn open(url: &str, options: &PostgresOptions) -> Result<Self, OpenError> {
        let letters = Self::connect(url, options)?;
        let session = letters.pool.lend().await?;
        session.check().await?;
        migrate(&session, MIGRATIONS).await?;
        drop(session);
        Ok(letters)
    }

    /// Opens the dead letters of a database where there are any; `None`: no node has ever made the table.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_existing(url: &str, options: &PostgresOptions) -> Result<Option<Self>, OpenError> {
        let letters = Self::connect(url, options)?;
        let row = letters.pool.row(EXISTS, &[]).await?;
        let exists: bool = row.map_or(Ok(false), |row| row.value(0))?;
        Ok(exists.then_some(letters))
    }

    fn connect(url: &str, options: &PostgresOptions) -> Result<Self, OpenError> {
        let connector = Arc::new(Connector::new(url, options)?);
        Ok(Self { pool: Pool::new(connector, options.readers, options.wait_max) })
    }

    async fn count_of(
        &self,
        sql: &'static str,
        parameters: super::connect::Parameters<'_>,
    ) -> Result<u64, Failure> {
        let row = self.pool.row(sql, parameters).await?;
        row.map_or(Ok(0), |row| row.count(0))
    }
}

#[async_trait]
impl DeadLetters for PostgresDeadLetters {
    async fn put(
        &self,
        consumer: &str,
        convo: ConvoId,
        seq: Seq,
        why: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        // The one character that a text here cannot hold.
        let why = shortened(why).replace('\0', " ");
        let (convo, seq, now) = (Id::from(convo), integer(seq.get()), now.as_millis());
        Ok(self.pool.rows(PUT, &[&consumer, &convo, &seq, &why, &now]).await.map(drop)?)
    }

    async fn list(&self, after: i64, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        letters(&self.pool.rows(LIST, &[&after, &integer(limit)]).await?)
    }

    async fn count(&self, consumer: &str) -> Result<u64, StoreError> {
        Ok(self.count_of(COUNT, &[&consumer]).await?)
    }

    async fn ask_again(&self, id: Option<i64>) -> Result<u64, StoreError> {
        Ok(match id {
            Some(id) => self.pool.rows(ASK, &[&id]).await?.len() as u64,
            None => self.count_of(ASK_ALL, &[]).await?,
        })
    }

    async fn asked(&self, consumer: &str, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        letters(&self.pool.rows(ASKED, &[&consumer, &integer(limit)]).await?)
    }

    async fn remove(&self, id: i64) -> Result<(), StoreError> {
        Ok(self.pool.rows(REMOVE, &[&id]).await.map(drop)?)
    }
}

fn letters(rows: &[Row]) -> Result<Vec<DeadLetter>, StoreError> {
    rows.iter().map(|row| letter(row).map_err(StoreError::from)).collect()
}

fn letter(row: &Row) -> Result<DeadLetter, Failure> {
    Ok(DeadLetter {
        id: row.value(0)?,
        consumer: row.value(1)?,
        convo: row.id(2)?,
        seq: row.seq(3)?,
        why: row.value(4)?,
        tries: row.value::<i32>(5)?.cast_unsigned(),
        first_at: Timestamp::from_millis(row.value(6)?),
        last_at: Timestamp::from_millis(row.value(7)?),
        again: row.value(8)?,
    })
}
