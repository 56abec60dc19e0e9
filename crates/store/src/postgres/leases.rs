//! Leases as rows: who holds one is decided under the lock of its row, and until when by the clock of the database.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::connect::Connector;
use super::error::{Failure, OpenError};
use super::migrate::{MIGRATIONS, migrate};
use super::options::PostgresOptions;
use super::pool::Pool;
use super::types::{RowExt as _, integer};
use crate::StoreError;
use crate::leases::{Lease, Leases};

const TAKE: &str = "
    INSERT INTO leases AS known (name, holder, term, until)
    VALUES ($1, $2, 1, clock_timestamp() + $3 * interval '1 millisecond')
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, term = known.term + 1, until = excluded.until
    WHERE known.until <= clock_timestamp()
    RETURNING term, note";
const KEEP: &str = "
    UPDATE leases SET until = clock_timestamp() + $3 * interval '1 millisecond', note = coalesce($4, note)
    WHERE name = $1 AND term = $2 AND until > clock_timestamp()
    RETURNING term";
const GIVE_UP: &str = "UPDATE leases SET until = '-infinity' WHERE name = $1 AND term = $2";

/// Leases in a database that all nodes share.
pub struct PostgresLeases {
    pool: Pool,
    holder: String,
}

impl PostgresLeases {
    /// Opens the database, and makes its tables or brings them up to date. `holder` is what this node is called.
    ///
    /// # Errors
    /// The database does not answer, or is not one that the service can use; see [`OpenError`].
    pub async fn open(url: &str, options: &PostgresOptions, holder: String) -> Result<Self, OpenError> {
        let connector = Arc::new(Connector::new(url, options)?);
        let pool = Pool::new(connector, options.readers, options.wait_max);
        let session = pool.lend().await?;
        session.check().await?;
        migrate(&session, MIGRATIONS).await?;
        drop(session);
        Ok(Self { pool, holder })
    }

    async fn try_take(&self, name: &str, ttl: Duration) -> Result<Option<Lease>, Failure> {
        let row = self.pool.row(TAKE, &[&name, &self.holder, &milliseconds(ttl)]).await?;
        row.map(|row| Ok(Lease { name: name.to_owned(), term: row.value(0)?, ttl, note: row.value(1)? }))
            .transpose()
    }
}

#[async_trait]
impl Leases for PostgresLeases {
    async fn take(&self, name: &str, ttl: Duration) -> Result<Option<Lease>, StoreError> {
        Ok(self.try_take(name, ttl).await?)
    }

    async fn keep(&self, lease: &Lease, note: Option<&str>) -> Result<bool, StoreError> {
        let Lease { name, term, ttl, .. } = lease;
        Ok(self.pool.row(KEEP, &[name, term, &milliseconds(*ttl), &note]).await?.is_some())
    }

    async fn give_up(&self, lease: &Lease) -> Result<(), StoreError> {
        Ok(self.pool.rows(GIVE_UP, &[&lease.name, &lease.term]).await.map(drop)?)
    }
}

fn milliseconds(ttl: Duration) -> f64 {
    integer(ttl.as_millis()) as f64
}
