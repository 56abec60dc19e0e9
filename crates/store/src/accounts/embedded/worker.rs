//! Threads that own connections: one that writes, with group commit, and a few that read.
//!
//! Each takes its work from a bounded queue. When that is full the work is refused at once, with a wait:
//! the disk is slower than the callers, and more waiting ones would not make it faster.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::StoreError;

/// How much may wait: a second or two of a slow disk's work.
const QUEUE_MAX: usize = 1_024;
/// How many changes share one sync at the most.
const BATCH_MAX: usize = 256;
/// When trying again makes sense after a refusal.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A queue of work, and the threads that do it.
pub(super) struct Workers {
    /// `None` after the end.
    queue: Mutex<Option<mpsc::Sender<Box<dyn Job>>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Workers {
    /// One thread that writes: everything that is queued when it looks goes into one transaction and one sync.
    pub(super) fn writer(db: Connection) -> std::io::Result<Self> {
        let (queue, mut jobs) = mpsc::channel::<Box<dyn Job>>(QUEUE_MAX);
        let thread = std::thread::Builder::new().name("accounts-write".into()).spawn(move || {
            while let Some(first) = jobs.blocking_recv() {
                let mut batch = vec![first];
                batch.extend(std::iter::from_fn(|| jobs.try_recv().ok()).take(BATCH_MAX - 1));
                commit(&db, batch);
            }
        })?;
        Ok(Self { queue: Mutex::new(Some(queue)), threads: Mutex::new(vec![thread]) })
    }

    /// A thread for each connection, all of which read.
    pub(super) fn readers(connections: Vec<Connection>) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel::<Box<dyn Job>>(QUEUE_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        let read = |db: Connection| {
            let jobs = Arc::clone(&jobs);
            std::thread::Builder::new().name("accounts-read".into()).spawn(move || {
                // The lock is held while waiting: whoever has it takes the next one, and then lets another wait.
                let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                while let Some(mut job) = next() {
                    // What comes of it is in the job.
                    let _ = job.run(&db);
                    job.answer(Ok(()));
                }
            })
        };
        let threads = connections.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { queue: Mutex::new(Some(queue)), threads: Mutex::new(threads) })
    }

    /// Has `work` done. Once this was polled the work is done, whether or not somebody waits for it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let task = Task { work: Some(work), result: None, reply };
        self.submit(Box::new(task))?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    fn submit(&self, job: Box<dyn Job>) -> Result<(), StoreError> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.as_ref().ok_or(StoreError::Closed)?.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => StoreError::Unavailable {
                reason: "the queue of the accounts is full".into(),
                retry_after: RETRY_AFTER,
            },
            mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
        })
    }

    /// Does what is queued, and ends the threads.
    pub(super) async fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = tokio::task::spawn_blocking(move || {
            threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count()
        });
        match ended.await {
            Ok(0) => {}
            Ok(_) | Err(_) => tracing::error!("a thread of the accounts has panicked"),
        }
    }
}

/// A piece of work whose outcome is told only after the commit.
trait Job: Send {
    /// Does it, and remembers what came of it.
    fn run(&mut self, db: &Connection) -> Result<(), ()>;
    /// Tells what came of it, or why it was not committed.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Task<F, T> {
    work: Option<F>,
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, F: FnOnce(&Connection) -> Result<T, StoreError> + Send> Job for Task<F, T> {
    fn run(&mut self, db: &Connection) -> Result<(), ()> {
        let result = self.work.take().map_or(Err(StoreError::Closed), |work| work(db));
        let done = result.as_ref().map(drop).map_err(drop);
        self.result = Some(result);
        done
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let Self { result, reply, .. } = *self;
        let result = committed.and_then(|()| result.unwrap_or(Err(StoreError::Closed)));
        // Nobody waits any more: what was done stays done.
        let _ = reply.send(result);
    }
}

/// Does a batch in one transaction; a job that fails takes back its own changes and nobody else's.
fn commit(db: &Connection, mut batch: Vec<Box<dyn Job>>) {
    let outcome = transaction(db, &mut batch).map_err(|error| failed(&error));
    if outcome.is_err() && !db.is_autocommit() && db.execute_batch("ROLLBACK").is_err() {
        tracing::error!("a transaction of the accounts cannot be rolled back");
    }
    for job in batch {
        job.answer(outcome.clone());
    }
}

fn transaction(db: &Connection, batch: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
    db.execute_batch("BEGIN IMMEDIATE")?;
    for job in batch {
        db.prepare_cached("SAVEPOINT job")?.execute(())?;
        if job.run(db).is_err() {
            // Fails if the error was such that SQLite has ended the whole transaction: then all have failed.
            db.prepare_cached("ROLLBACK TO job")?.execute(())?;
        }
        db.prepare_cached("RELEASE job")?.execute(())?;
    }
    db.execute_batch("COMMIT")
}

/// What callers are told of an error of SQLite.
pub(super) fn failed(error: &rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error {
        rusqlite::Error::SqliteFailure(failure, _)
            if matches!(failure.code, DatabaseCorrupt | NotADatabase) =>
        {
            StoreError::Damaged(format!("accounts.db: {error}"))
        }
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..) => StoreError::Damaged(format!("accounts.db: {error}")),
        _ => StoreError::Unavailable { reason: format!("accounts.db: {error}"), retry_after: RETRY_AFTER },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE t (x INTEGER PRIMARY KEY)").unwrap();
        db
    }

    fn insert(x: i64) -> impl FnOnce(&Connection) -> Result<i64, StoreError> {
        move |db| {
            db.execute("INSERT INTO t VALUES (?1)", [x]).map_err(|error| failed(&error))?;
            db.query_row("SELECT count(*) FROM t", (), |row| row.get(0)).map_err(|error| failed(&error))
        }
    }

    #[tokio::test]
    async fn a_job_that_fails_takes_back_only_its_own_changes() {
        let workers = Workers::writer(table()).unwrap();
        let half = |db: &Connection| {
            db.execute("INSERT INTO t VALUES (2)", ()).map_err(|error| failed(&error))?;
            Err::<(), _>(StoreError::InvalidCursor)
        };
        let (one, two, three) =
            tokio::join!(workers.run(insert(1)), workers.run(half), workers.run(insert(3)));
        assert!(matches!((one, two, three), (Ok(1), Err(StoreError::InvalidCursor), Ok(2))));
    }

    #[tokio::test]
    async fn when_the_transaction_is_lost_nobody_is_told_that_it_worked() {
        let workers = Workers::writer(table()).unwrap();
        let lose = |db: &Connection| db.execute_batch("ROLLBACK").map_err(|error| failed(&error));
        // While one is at work the others gather, so that they share a transaction.
        let (begun, has_begun) = oneshot::channel();
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let stuck = workers.run(move |_| {
            begun.send(()).unwrap();
            Ok(gate.recv().map_or(0, |()| 0))
        });
        let gathered = async {
            has_begun.await.unwrap();
            let open = async { open.send(()).unwrap() };
            tokio::join!(workers.run(insert(1)), workers.run(lose), workers.run(insert(3)), open)
        };
        let (_, (one, two, three, ())) = tokio::join!(stuck, gathered);
        assert!(matches!(one, Err(StoreError::Unavailable { .. })), "{one:?}");
        assert!(matches!(two, Err(StoreError::Unavailable { .. })), "{two:?}");
        assert!(matches!(three, Err(StoreError::Unavailable { .. })), "{three:?}");
        assert_eq!(workers.run(insert(4)).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn what_is_queued_is_done_before_the_end_and_nothing_after_it() {
        let workers = Workers::writer(table()).unwrap();
        let (queued, ()) = tokio::join!(workers.run(insert(1)), workers.close());
        assert_eq!(queued.unwrap(), 1);
        assert!(matches!(workers.run(insert(2)).await, Err(StoreError::Closed)));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_what_it_took_is_done() {
        let workers = Arc::new(Workers::writer(table()).unwrap());
        let mut running = tokio::task::JoinSet::new();
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let stuck = Arc::clone(&workers);
        running.spawn(async move { stuck.run(move |_| Ok(gate.recv().map_or(0, |()| 0))).await });
        for x in 0..2 * QUEUE_MAX as i64 {
            let workers = Arc::clone(&workers);
            running.spawn(async move { workers.run(insert(x)).await });
        }
        // Nothing is done yet, so those that end now are those that were refused.
        for _ in 0..QUEUE_MAX - BATCH_MAX {
            let refused = running.join_next().await.unwrap().unwrap();
            assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
        }
        open.send(()).unwrap();
        let rest = running.join_all().await;
        assert!(rest.iter().filter(|result| result.is_ok()).count() > QUEUE_MAX);
    }
}
