//! The thread that writes the index, after all other work: on a busy machine messages go first, and what came is searchable
//! later.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// The thread rests no more: whoever closes the index waits for it.
    is_closing: Arc<AtomicBool>,
}

impl Indexer {
    pub(super) fn start(writer: Writer) -> io::Result<Self> {
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let is_closing = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_closing);
        let thread = thread::Builder::new().name("indexer".into()).spawn(move || {
            priority::go_last();
            work(writer, waiting, &told);
        })?;
        Ok(Self { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)), is_closing })
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
        let thread = lock(&self.thread).take()?;
        self.is_closing.store(true, Ordering::Release);
        thread.thread().unpark();
        Some(thread)
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

fn work(mut writer: Writer, mut waiting: mpsc::Receiver<Job>, is_closing: &AtomicBool) {
    while let Some(job) = waiting.blocking_recv() {
        let (begun, cpu, all) = (Instant::now(), cpu_of_thread(), cpu_of_process());
        // A transaction that is left half way is rolled back; whoever asked learns of it.
        if catch_unwind(AssertUnwindSafe(|| job(&mut writer))).is_err() {
            tracing::error!("writing the search index went wrong");
        }
        let worked = cpu_of_thread().saturating_sub(cpu);
        let others = cpu_of_process().saturating_sub(all).saturating_sub(worked);
        rest(rest_after(begun.elapsed(), worked, others), is_closing);
    }
    writer.close();
}

/// How long the thread rests after a work that `took` so long, for which it had a core for so long, and all `others` of the
/// process together.
///
/// The policy of a thread says nothing to the disk, which others sync to, nor to the caches. So the thread rests after a work
/// for which it had to wait, be it for a core or for the disk: there are others who need them. What is left is a twentieth
/// of its time, which is thousands of messages a second. By the wait for a core alone, as the system tells it, logs are read
/// anew in two thirds of the time, and sends beside it wait longer (p99 at 40,000 a second 32 to 60 ms, not 23 to 28).
///
/// Where the others do next to nothing it has waited for nobody but the disk, for itself.
fn rest_after(took: Duration, worked: Duration, others: Duration) -> Duration {
    const RESTS: u32 = 20;
    const REST_MAX: Duration = Duration::from_secs(5);
    /// Of what is done sooner nobody notices anything.
    const LITTLE: Duration = Duration::from_millis(20);
    /// This part of a core is next to nothing: some two hundred messages a second.
    const IDLE_SHARE: u32 = 50;
    if worked < LITTLE || others * IDLE_SHARE < took {
        return Duration::ZERO;
    }
    (took.saturating_sub(worked) * RESTS).min(REST_MAX)
}

fn rest(rest: Duration, is_closing: &AtomicBool) {
    let until = Instant::now() + rest;
    while !is_closing.load(Ordering::Acquire) {
        // It may wake up for no reason.
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}

/// For how long this thread had a core.
fn cpu_of_thread() -> Duration {
    time_of(rustix::time::ClockId::ThreadCPUTime)
}

/// For how long all threads of this process had one, together.
fn cpu_of_process() -> Duration {
    time_of(rustix::time::ClockId::ProcessCPUTime)
}

fn time_of(clock: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_closes_the_index_does_not_wait_for_its_rest() {
        let is_closing = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_closing);
        let (done, is_done) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            rest(Duration::from_secs(60), &told);
            done.send(()).unwrap();
        });
        let soon = Duration::from_millis(100);
        is_done.recv_timeout(soon).expect_err("it did not rest");
        is_closing.store(true, Ordering::Release);
        thread.thread().unpark();
        is_done.recv_timeout(Duration::from_secs(2)).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn it_rests_longer_than_it_had_to_wait_but_not_for_ever() {
        let (took, worked) = (Duration::from_millis(150), Duration::from_millis(100));
        assert_eq!(rest_after(took, worked, took), Duration::from_secs(1));
        let minute = Duration::from_secs(60);
        assert_eq!(rest_after(minute, worked, minute), Duration::from_secs(5));
    }

    #[test]
    fn what_is_little_or_did_not_wait_or_waited_while_nobody_else_works_needs_no_rest() {
        let minute = Duration::from_secs(60);
        assert_eq!(rest_after(minute, Duration::from_millis(19), minute), Duration::ZERO);
        assert_eq!(rest_after(minute, minute, minute), Duration::ZERO);
        assert_eq!(rest_after(minute, Duration::from_secs(1), Duration::from_secs(1)), Duration::ZERO);
    }
}
