//! What can be set when a data folder is opened.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::AppendObserver;

/// What can be set when a data folder is opened. The defaults are for a service on a small machine.
#[derive(Clone)]
pub struct OpenOptions {
    /// The most intents that wait to be appended; further calls of `append` wait at the door.
    pub queue_intents_max: usize,
    /// The most bytes of bodies that wait to be appended.
    pub queue_bytes_max: usize,
    /// How much may be in the journal and not settled yet. A burst is settled from half of it on, and `append` is slowed; when
    /// it is full, `append` waits for room, and is refused if there is none soon.
    pub tail: TailLimits,
    /// The length of a file of the journal, in bytes; a longer batch has a file of its own.
    pub journal_segment_bytes: u64,
    /// How long such a file is written to at least, if all of it is settled; then it goes, and what was deleted with it.
    pub journal_segment_age: Duration,
    /// How much is remembered of conversations, in members and devices; about 200 bytes each.
    pub conversations_weight_max: usize,
    /// The most reads at a time; the others wait.
    pub readers: usize,
    /// Told of every commit, on the thread that commits: be quick.
    pub on_append: Option<AppendObserver>,
    /// Provoked failures, for tests.
    pub faults: Faults,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            queue_intents_max: 8_192,
            queue_bytes_max: 32 << 20,
            tail: TailLimits::default(),
            journal_segment_bytes: 16 << 20,
            journal_segment_age: Duration::from_secs(60),
            conversations_weight_max: 1_000_000,
            readers: 4,
            on_append: None,
            faults: Faults::default(),
        }
    }
}

/// How much may be unsettled.
#[derive(Debug, Clone, Copy)]
pub struct TailLimits {
    /// Records of all kinds; each takes 16 bytes of memory.
    pub records_max: usize,
    /// Their bytes in the journal, on the disk.
    pub bytes_max: u64,
    /// Conversations that they are of; each takes some 200 bytes of memory, and is not forgotten by the appender.
    pub convos_max: usize,
    /// So many records at most are settled as a whole for whoever reads what is of some conversations; with more, these
    /// are settled before their turn.
    pub whole_max: usize,
}

impl Default for TailLimits {
    /// Half of it, with which settling begins, is as much of the disk as PostgreSQL's `max_wal_size` by default.
    fn default() -> Self {
        Self { records_max: 16_000_000, bytes_max: 2 << 30, convos_max: 100_000, whole_max: 10_000 }
    }
}

/// Provoked failures, for tests. By default nothing fails.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// No batch can be written to the journal, as on a full disk.
    pub journal_full: Arc<AtomicBool>,
    /// Nothing can be settled, as on a full disk.
    pub settled_full: Arc<AtomicBool>,
    /// The WAL cannot be brought into the settled file, as on a full disk.
    pub wal_stays: Arc<AtomicBool>,
    /// So much comes that nothing is settled in its turn which nobody waits for.
    pub burst: Arc<AtomicBool>,
    /// Segments of the journal stay although they are settled.
    pub keep_journal: Arc<AtomicBool>,
    /// The most bytes that the journal's files may have: beyond, the disk is full.
    pub journal_bytes_max: Option<u64>,
}

impl Faults {
    pub(super) fn check(flag: &AtomicBool) -> rusqlite::Result<()> {
        if flag.load(Ordering::Relaxed) {
            let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
            return Err(rusqlite::Error::SqliteFailure(full, Some("a test says so".into())));
        }
        Ok(())
    }
}
