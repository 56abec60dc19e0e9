//! What the threads of a storm and their owner tell each other.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::chronicle::Chronicle;

/// A clock, orders and counters.
#[derive(Debug)]
pub(super) struct Shared {
    began: Instant,
    /// When the first message is due; zero before that is known.
    pub(super) writing_from: AtomicU64,
    /// When all are cut; zero before that is known.
    pub(super) cut_at: AtomicU64,
    /// Where all of it is written down, if it is.
    pub(super) chronicle: Option<Arc<Chronicle>>,
    /// Whether everybody has been told everything.
    pub(super) settled: AtomicBool,
    quiet: AtomicBool,
    stopped: AtomicBool,
    /// The highest entry of each conversation that is known to be durable.
    pub(super) heads: Box<[AtomicU64]>,
    pub(super) writers_ready: AtomicUsize,
    pub(super) acked: AtomicUsize,
    /// Connections that stand.
    pub(super) standing: AtomicUsize,
    /// Connections that have caught up.
    pub(super) caught_up: AtomicUsize,
    /// Threads that have cut theirs.
    pub(super) cut: AtomicUsize,
    pub(super) errors: AtomicUsize,
    /// In the end, connections that have everything, by thread.
    pub(super) level: Box<[AtomicUsize]>,
    trouble: Mutex<Option<String>>,
}

impl Shared {
    pub(super) fn new(convos: usize, threads: usize, chronicle: Option<Arc<Chronicle>>) -> Self {
        Self {
            began: Instant::now(),
            writing_from: AtomicU64::new(0),
            cut_at: AtomicU64::new(0),
            chronicle,
            settled: AtomicBool::new(false),
            quiet: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            heads: (0..convos).map(|_| AtomicU64::new(0)).collect(),
            writers_ready: AtomicUsize::new(0),
            acked: AtomicUsize::new(0),
            standing: AtomicUsize::new(0),
            caught_up: AtomicUsize::new(0),
            cut: AtomicUsize::new(0),
            errors: AtomicUsize::new(0),
            level: (0..threads).map(|_| AtomicUsize::new(0)).collect(),
            trouble: Mutex::new(None),
        }
    }

    /// Nanoseconds since it was made.
    pub(super) fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Whether nobody writes any more.
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet.load(Relaxed)
    }

    pub(super) fn be_quiet(&self) {
        self.quiet.store(true, Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    /// Ends all threads; the first reason counts.
    pub(super) fn fail(&self, why: String) {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.stop();
    }

    /// Why it cannot go on.
    pub(super) fn trouble(&self) -> Option<String> {
        if let Some(trouble) = self.chronicle.as_ref().and_then(|chronicle| chronicle.trouble()) {
            self.fail(trouble);
        }
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
