//! Reads of `tertulia.db`: a few connections, each used by one read at a time on a thread that may block.
//!
//! Reads that wait are done together: whoever has a connection goes on with those that came meanwhile, a few in one
//! transaction, before it gives the connection back. So when thousands come at once a read costs no thread's
//! waking, and no snapshot of its own.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{Notify, oneshot};

use super::journal::PlaceError;
use super::sqlite;
use super::{OpenError, settled};
use crate::StoreError;

/// How many reads are done in one transaction at most: a long one holds up those that were taken with it.
const TOGETHER_MAX: usize = 16;

/// When to come back after a read that another try may mend.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A pool of connections that only read.
pub(super) struct Readers {
    pool: Arc<Pool>,
}

#[derive(Default)]
struct Pool {
    state: Mutex<State>,
    /// Told when a connection comes back.
    returned: Notify,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    /// How many there are, idle or at work.
    open: usize,
    /// Only when no connection is idle.
    waiting: VecDeque<Job>,
    closed: bool,
}

/// A read that answers whoever asked; without a transaction it answers why there is none.
type Job = Box<dyn FnOnce(Result<&Connection, StoreError>) + Send>;

impl Readers {
    pub(super) fn open(dir: &Path, count: usize) -> Result<Self, OpenError> {
        let count = count.clamp(1, 64);
        let idle = (0..count).map(|_| open_one(dir)).collect::<Result<_, _>>()?;
        let state = Mutex::new(State { idle, open: count, ..State::default() });
        Ok(Self { pool: Arc::new(Pool { state, returned: Notify::new() }) })
    }

    /// Runs `read` in a transaction that begins after this was called: all that it sees is of one moment.
    ///
    /// Waits while all connections are busy.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |db| {
            if !answer.is_closed() {
                let result = db.and_then(|db| Ok(read(db)?));
                // Whoever asked may have gone meanwhile.
                drop(answer.send(result));
            }
        });
        self.pool.begin(job)?;
        answered.await.unwrap_or_else(|_| Err(StoreError::Damaged("a read did not end".into())))
    }

    /// Waits for the reads that have begun or wait, and lets none begin any more.
    pub(super) async fn close(&self) {
        self.pool.lock().closed = true;
        while !self.pool.let_go() {
            self.pool.returned.notified().await;
        }
    }
}

pub(super) fn open_one(dir: &Path) -> Result<Connection, OpenError> {
    sqlite::open_reader(dir, &settled::SCHEMA)
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the connections if none is at work. Returns whether it did.
    fn let_go(&self) -> bool {
        let mut state = self.lock();
        let is_idle = state.idle.len() == state.open;
        if is_idle {
            (state.idle, state.open) = (Vec::new(), 0);
        }
        is_idle
    }

    /// Begins with a read, or leaves it to one of those who are at work.
    fn begin(self: &Arc<Self>, job: Job) -> Result<(), StoreError> {
        let mut state = self.lock();
        if state.closed {
            return Err(StoreError::Closed);
        }
        let Some(db) = state.idle.pop() else {
            state.waiting.push_back(job);
            return Ok(());
        };
        drop(state);
        let lent = Lent { db: Some(db), pool: Arc::clone(self) };
        drop(tokio::task::spawn_blocking(move || lent.work(job)));
        Ok(())
    }
}

/// A connection that goes back when there is nothing more to read, also if its thread never began.
struct Lent {
    db: Option<Connection>,
    pool: Arc<Pool>,
}

impl Lent {
    fn work(mut self, first: Job) {
        let mut jobs = vec![first];
        while let Some(db) = &self.db {
            run(db, jobs);
            let mut state = self.pool.lock();
            let count = state.waiting.len().min(TOGETHER_MAX);
            if count == 0 {
                // Under the same lock: a read that comes now finds the connection.
                state.idle.extend(self.db.take());
                break;
            }
            jobs = state.waiting.drain(..count).collect();
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(db) = self.db.take() {
            self.pool.lock().idle.push(db);
        }
        self.pool.returned.notify_one();
    }
}

fn run(db: &Connection, jobs: Vec<Job>) {
    // Dropped without a commit: it changed nothing.
    let begun = db.unchecked_transaction().map_err(|error| from_sqlite(&error));
    for job in jobs {
        let db = begun.as_deref().map_err(Clone::clone);
        // Its asker is told, for the answer's sender is gone with it; the others go on.
        if catch_unwind(AssertUnwindSafe(|| job(db))).is_err() {
            tracing::error!("a read has panicked");
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
    #[error("{0}")]
    Journal(#[from] PlaceError),
}

impl From<ReadError> for StoreError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Row(what) => Self::Damaged(what),
            ReadError::Journal(PlaceError::Io(error)) => {
                Self::Unavailable { reason: format!("read the journal: {error}"), retry_after: RETRY_AFTER }
            }
            ReadError::Journal(error @ PlaceError::Decode(_)) => Self::Damaged(error.to_string()),
            ReadError::Sqlite(error) => from_sqlite(&error),
        }
    }
}

/// What another try may mend is `Unavailable`; what it cannot is `Damaged`.
pub(crate) fn from_sqlite(error: &rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) | None => StoreError::Damaged(error.to_string()),
        Some(_) => StoreError::Unavailable { reason: error.to_string(), retry_after: RETRY_AFTER },
    }
}
