//! The thread that writes the index, after all other work: on a busy machine messages go first, and what came is searchable
//! later.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tertulia_store::embedded::priority;
use tokio::sync::{mpsc, oneshot};

use super::apply::Writer;
use crate::port::IndexError;

/// What waits for the thread; whoever comes then waits himself.
const WAITING_MAX: usize = 4;

type Job = Box<dyn FnOnce(&mut Writer) + Send>;

/// Has the thread do things. It has ended when this is closed, or dropped: only then may another open the folder.
pub(super) struct Indexer {
    /// `None` once it is closed.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Indexer {
    pub(super) fn start(writer: Writer) -> io::Result<Self> {
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let thread = thread::Builder::new().name("indexer".into()).spawn(move || {
            priority::go_last();
            work(writer, waiting);
        })?;
        Ok(Self { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)) })
    }

    /// Does something with the writer.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, IndexError> {
        let jobs = lock(&self.jobs).clone().ok_or(IndexError::Closed)?;
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |writer| {
            // Whoever asked may have gone.
            let _ = answer.send(work(writer));
        });
        jobs.send(job).await.map_err(|_| IndexError::Closed)?;
        // It has panicked, and would again: what was to be written is at fault.
        answered.await.unwrap_or_else(|_| Err(IndexError::Refused("the index could not take it".into())))
    }

    /// Does what waits, and brings everything into the file.
    pub(super) async fn close(&self) {
        if let Some(thread) = self.end() {
            let ended = tokio::task::spawn_blocking(move || thread.join()).await;
            say_if_badly(matches!(ended, Ok(Ok(()))));
        }
    }

    /// Has the thread end when it has done what waits; `None`: somebody waits for that already.
    fn end(&self) -> Option<JoinHandle<()>> {
        lock(&self.jobs).take();
        lock(&self.thread).take()
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        if let Some(thread) = self.end() {
            say_if_badly(thread.join().is_ok());
        }
    }
}

fn say_if_badly(well: bool) {
    if !well {
        tracing::error!("the search index ended badly");
    }
}

fn work(mut writer: Writer, mut waiting: mpsc::Receiver<Job>) {
    while let Some(job) = waiting.blocking_recv() {
        let (begun, cpu) = (Instant::now(), cpu_time());
        // A transaction that is left half way is rolled back; whoever asked learns of it.
        if catch_unwind(AssertUnwindSafe(|| job(&mut writer))).is_err() {
            tracing::error!("writing the search index went wrong");
        }
        rest(begun.elapsed(), cpu_time().saturating_sub(cpu));
    }
    writer.close();
}

/// The priority of a thread says nothing to the disk, which others sync to. So the thread rests after a work for which it had
/// to wait, be it for a core or for the disk: there are others who need them.
fn rest(took: Duration, worked: Duration) {
    const RESTS: u32 = 3;
    const REST_MAX: Duration = Duration::from_millis(500);
    /// Of what is done sooner nobody notices anything.
    const LITTLE: Duration = Duration::from_millis(20);
    if worked >= LITTLE {
        thread::sleep((took.saturating_sub(worked) * RESTS).min(REST_MAX));
    }
}

/// For how long this thread had a core.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
