//! Reads of `tertulia.db`: a few connections, each used by one read at a time on a thread that may block.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::sqlite;
use super::{OpenError, settled};
use crate::StoreError;

/// A pool of connections that only read.
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    count: u32,
}

impl Readers {
    pub(super) fn open(dir: &Path, count: usize) -> Result<Self, OpenError> {
        let count = count.clamp(1, 64);
        let idle = (0..count).map(|_| open_one(dir)).collect::<Result<_, _>>()?;
        let permits = Arc::new(Semaphore::new(count));
        // At most 64.
        Ok(Self { idle: Arc::new(Mutex::new(idle)), permits, count: count as u32 })
    }

    /// Runs `read` in one transaction of its own: all that it sees is of one moment.
    ///
    /// Waits while all connections are busy.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let idle = self.idle.clone();
        let task = tokio::task::spawn_blocking(move || {
            let lent = Lent::take(idle).ok_or(StoreError::Closed)?;
            let result = lent.run(read);
            // Only after the connection is back: whoever gets the permit finds one.
            drop(lent);
            drop(permit);
            result
        });
        task.await.map_err(|error| StoreError::Damaged(format!("a read did not end: {error}")))?
    }

    /// Waits for the reads that run, and lets none begin any more.
    pub(super) async fn close(&self) {
        let _all = self.permits.acquire_many(self.count).await;
        self.permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

pub(super) fn open_one(dir: &Path) -> Result<Connection, OpenError> {
    sqlite::open_reader(dir, &settled::SCHEMA)
}

/// A connection that goes back when its read ends, also by a panic.
struct Lent {
    db: Option<Connection>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Lent {
    fn take(idle: Arc<Mutex<Vec<Connection>>>) -> Option<Self> {
        let db = idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(Self { db: Some(db), idle })
    }

    fn run<T>(&self, read: impl FnOnce(&Connection) -> Result<T, ReadError>) -> Result<T, StoreError> {
        let db = self.db.as_ref().ok_or(StoreError::Closed)?;
        // Dropped without a commit: it changed nothing.
        let tx = db.unchecked_transaction().map_err(ReadError::from)?;
        Ok(read(&tx)?)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(db) = self.db.take() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(db);
        }
    }
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("a stored row is not understood: {0}")]
    Row(String),
    #[error("this cursor is not one that was given out")]
    Cursor,
}

impl From<ReadError> for StoreError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Cursor => Self::InvalidCursor,
            ReadError::Row(what) => Self::Damaged(what),
            ReadError::Sqlite(error) => from_sqlite(&error),
        }
    }
}

/// What another try may mend is `Unavailable`; what it cannot is `Damaged`.
pub(super) fn from_sqlite(error: &rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) | None => StoreError::Damaged(error.to_string()),
        Some(_) => StoreError::Unavailable {
            reason: error.to_string(),
            retry_after: std::time::Duration::from_secs(1),
        },
    }
}
