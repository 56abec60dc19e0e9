//! The adapter in SQLite: `search.db`, a file of its own in the data folder, so that indexing never waits for the store
//! nor the store for it.
//!
//! `apply` writes batches, on the thread of `indexer`; `ask` answers, on threads that may block.

mod apply;
mod ask;
mod indexer;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode};
use tertulia_store::embedded::OpenError;
use tertulia_store::embedded::paced::{Paced, PacedError};
use tertulia_store::embedded::sqlite::{self, Durability, Schema};
use tokio::sync::Semaphore;

use self::apply::Writer;
use self::indexer::Indexer;
use crate::port::{Change, Found, IndexError, Search, SearchIndex};

const SCHEMA: Schema = Schema {
    file: "search.db",
    migrations: &[("documents", include_str!("schema_001.sql"))],
    functions: sqlite::no_functions,
};

/// Searches at one time; more wait.
const READERS: usize = 2;
/// How long a search may take: one that takes longer asks for what nearly every message has, in all ways at once.
const SEARCH_MAX: Duration = Duration::from_secs(5);
/// After how many steps of SQLite's machine a search looks whether anybody still waits for it; reading a page takes some.
const STEPS: i32 = 100;
/// Pages in the WAL at which it is brought into the file; batches are large.
const WAL_PAGES_MAX: u32 = 4_000;
/// The cache of the writer, in KiB: merging reads what was written lately.
const CACHE_KIB: i64 = 32_768;

/// The index of one process, in `search.db` of a data folder.
pub struct Embedded {
    dir: PathBuf,
    indexer: Indexer,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Embedded {
    /// Opens the index of a data folder, or makes it; one that is damaged is made anew. The folder's lock must be held.
    ///
    /// Blocks: call it before the service starts, or on a thread that may.
    ///
    /// # Errors
    /// A newer version has written it, or the disk does not let us.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        let dir = dir.as_ref();
        let db = match open_writer(dir) {
            Err(OpenError::Sqlite { file, source }) if is_damaged(&source) => {
                tracing::warn!(%source, file = %file.display(), "the search index is damaged: it is made anew");
                remove(dir)?;
                open_writer(dir)?
            }
            opened => opened?,
        };
        let idle = (0..READERS).map(|_| sqlite::open_reader(dir, &SCHEMA)).collect::<Result<_, _>>()?;
        let indexer = Indexer::start(Writer::new(db))
            .map_err(|source| OpenError::Folder { dir: dir.to_owned(), source })?;
        Ok(Self {
            dir: dir.to_owned(),
            indexer,
            idle: Arc::new(Mutex::new(idle)),
            permits: Arc::new(Semaphore::new(READERS)),
        })
    }
}

fn open_writer(dir: &Path) -> Result<Paced, OpenError> {
    // What a power loss takes is indexed again: its cursor goes with it.
    let db = sqlite::open_writer(dir, &SCHEMA, Durability::Normal)?;
    let failed = |source| OpenError::Sqlite { file: dir.join(SCHEMA.file), source };
    db.pragma_update(None, "cache_size", -CACHE_KIB).map_err(failed)?;
    Paced::new(db, dir, SCHEMA.file, WAL_PAGES_MAX)
}

fn is_damaged(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn remove(dir: &Path) -> Result<(), OpenError> {
    for suffix in ["", "-wal", "-shm"] {
        match fs::remove_file(dir.join(format!("{}{suffix}", SCHEMA.file))) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(OpenError::Folder { dir: dir.to_owned(), source });
            }
            _ => {}
        }
    }
    Ok(())
}

#[async_trait]
impl SearchIndex for Embedded {
    async fn cursor(&self) -> Result<Option<String>, IndexError> {
        self.indexer.write(|writer| Ok(writer.cursor()?)).await
    }

    async fn apply(&self, batch: Vec<Change>, cursor: Option<&str>) -> Result<(), IndexError> {
        let cursor = cursor.map(str::to_owned);
        self.indexer.write(move |writer| writer.apply(batch, cursor.as_deref())).await
    }

    async fn move_cursor(&self, from: Option<&str>, to: &str) -> Result<bool, IndexError> {
        let (from, to) = (from.map(str::to_owned), to.to_owned());
        self.indexer.write(move |writer| Ok(writer.move_cursor(from.as_deref(), &to)?)).await
    }

    async fn sync(&self) -> Result<(), IndexError> {
        self.indexer.write(|writer| Ok(writer.sync()?)).await
    }

    async fn clear(&self) -> Result<(), IndexError> {
        self.indexer.write(|writer| Ok(writer.clear()?)).await
    }

    async fn search(&self, search: Search) -> Result<Found, IndexError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| IndexError::Closed)?;
        let mut db = match lock(&self.idle).pop() {
            Some(db) => db,
            // The search that had it has panicked.
            None => {
                sqlite::open_reader(&self.dir, &SCHEMA).map_err(|error| unavailable(error.to_string()))?
            }
        };
        let unwanted = Unwanted::default();
        let is_unwanted = unwanted.flag();
        let idle = Arc::clone(&self.idle);
        let mut searching = tokio::task::spawn_blocking(move || {
            // In the place of that of the search before.
            db.progress_handler(STEPS, Some(move || is_unwanted.load(Ordering::Relaxed)))?;
            let found = ask::ask(&db, &search);
            lock(&idle).push(db);
            drop(permit);
            found
        });
        let found = match tokio::time::timeout(SEARCH_MAX, &mut searching).await {
            Ok(found) => found,
            Err(_) => {
                drop(unwanted);
                searching.await
            }
        };
        match found {
            Ok(Err(error)) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Err(
                unavailable("this search takes too long; seek rarer words, or name a conversation".into()),
            ),
            Ok(found) => Ok(found?),
            Err(error) => Err(unavailable(error.to_string())),
        }
    }

    fn figures(&self) -> Vec<(&'static str, f64)> {
        let bytes = |suffix: &str| {
            let file = self.dir.join(format!("{}{suffix}", SCHEMA.file));
            fs::metadata(file).map_or(0, |meta| meta.len()) as f64
        };
        vec![("search_bytes", bytes("") + bytes("-wal"))]
    }

    async fn close(&self) {
        // The searches that have begun come to their end; no other begins.
        let all = u32::try_from(READERS).unwrap_or(u32::MAX);
        let waited = self.permits.acquire_many(all).await;
        self.permits.close();
        drop(waited);
        lock(&self.idle).clear();
        self.indexer.close().await;
    }
}

/// Ends a search when this is dropped: it takes too long, or whoever asked has hung up and his future is dropped. A search
/// that has not begun yet ends as soon as it does, and no other one with the same connection: each has its own.
#[derive(Default)]
struct Unwanted(Arc<AtomicBool>);

impl Unwanted {
    /// Whether it is.
    fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for Unwanted {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A transaction that is left half way is rolled back.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unavailable(reason: String) -> IndexError {
    IndexError::Unavailable { reason, retry_after: Duration::from_secs(1) }
}

impl From<PacedError> for IndexError {
    fn from(error: PacedError) -> Self {
        match error {
            PacedError::Sqlite(error) => error.into(),
            error => unavailable(error.to_string()),
        }
    }
}

impl From<rusqlite::Error> for IndexError {
    fn from(error: rusqlite::Error) -> Self {
        use ErrorCode::{ConstraintViolation, TooBig, TypeMismatch, Unknown};
        match error.sqlite_error_code() {
            // What another try will not mend, and what was to be written is at fault.
            Some(ConstraintViolation | TooBig | TypeMismatch | Unknown) | None => {
                Self::Refused(error.to_string())
            }
            Some(_) => unavailable(error.to_string()),
        }
    }
}
