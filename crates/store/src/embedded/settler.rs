//! The thread that settles: the one writer of `tertulia.db`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tertulia_domain::log::Commit;
use tertulia_protocol::EntryKind;

use super::paced::{Paced, PacedError};
use super::settle::{self, Keys, SettleError};
use super::tail::{Bite, Committed, Tail, Work};
use super::{Faults, OpenError};

/// Batches wait this long for company, unless somebody waits for them: rows of one conversation that are
/// written together cost a fraction of rows written one by one.
const LINGER: Duration = Duration::from_millis(500);
/// So many records do not wait longer.
const BITE_RECORDS_MIN: usize = 20_000;
/// The most records of one bite. When there is more to do than can be done, larger bites are the cheaper ones:
/// over 10,000 conversations 20,000 messages touch nearly as many pages as 50,000 do.
const BITE_RECORDS_MAX: usize = 50_000;
/// A bite when a read waits for one of its batches.
const BITE_RECORDS_HURRIED: usize = 10_000;
/// What is settled is synced at least this often, and the journal can then be trimmed.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// And after this many bytes of bodies and rows, so that the journal stays small under load.
const SYNC_BYTES: usize = 32 << 20;
/// About what a record takes in the journal beside its body.
const RECORD_BYTES: usize = 120;
/// How long to wait before trying again what failed, at first and at most.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What the settler tells of itself.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The newest commit that is settled and synced: the journal may forget it.
    synced: AtomicU64,
    /// What settling a record costs at present, in nanoseconds.
    record_ns: AtomicU64,
    /// All who follow the logs have passed what came before this commit.
    passed: AtomicU64,
}

impl Progress {
    pub(super) fn synced(&self) -> Commit {
        Commit::new(self.synced.load(Ordering::Acquire))
    }

    pub(super) fn set_synced(&self, commit: Commit) {
        self.synced.store(commit.get(), Ordering::Release);
    }

    pub(super) fn passed(&self) -> Commit {
        Commit::new(self.passed.load(Ordering::Relaxed))
    }

    /// Only forward.
    pub(super) fn set_passed(&self, commit: Commit) {
        self.passed.fetch_max(commit.get(), Ordering::Relaxed);
    }

    pub(super) fn record_cost(&self) -> Duration {
        Duration::from_nanos(self.record_ns.load(Ordering::Relaxed))
    }

    fn observe(&self, records: usize, took: Duration) {
        let nanos =
            u64::try_from(took.as_nanos()).unwrap_or(u64::MAX) / u64::try_from(records.max(1)).unwrap_or(1);
        let old = self.record_ns.load(Ordering::Relaxed);
        self.record_ns.store(if old == 0 { nanos } else { old - old / 4 + nanos / 4 }, Ordering::Relaxed);
    }
}

/// The settler's state; [`Settler::run`] is its thread.
pub(super) struct Settler {
    db: Paced,
    dir: PathBuf,
    keys: Keys,
    tail: Arc<Tail>,
    progress: Arc<Progress>,
    faults: Faults,
    settled: Commit,
    /// What was settled was synced then.
    synced_at: Instant,
    bytes_since: usize,
}

impl Settler {
    pub(super) fn new(
        db: Paced,
        dir: PathBuf,
        tail: Arc<Tail>,
        progress: Arc<Progress>,
        faults: Faults,
        settled: Commit,
    ) -> Self {
        progress.set_synced(settled);
        Self {
            db,
            dir,
            keys: Keys::default(),
            tail,
            progress,
            faults,
            settled,
            synced_at: Instant::now(),
            bytes_since: 0,
        }
    }

    /// Settles until the tail is closed and empty, or abandoned.
    pub(super) fn run(mut self) {
        loop {
            let unsynced = self.settled > self.progress.synced();
            let patience = unsynced.then(|| SYNC_INTERVAL.saturating_sub(self.synced_at.elapsed()));
            let bite = Bite {
                linger: LINGER,
                records_min: BITE_RECORDS_MIN,
                records_max: BITE_RECORDS_MAX,
                hurried_max: BITE_RECORDS_HURRIED,
                patience,
            };
            match self.tail.next_bite(&bite) {
                Work::Settle(batches) => {
                    // Not one after the other under one roof: what is settled is not to be settled again if the sync fails.
                    if !self.insist(|settler| settler.settle(&batches)) || !self.insist(Self::sync_if_due) {
                        return;
                    }
                }
                Work::Nothing => {
                    if !self.insist(Self::sync) {
                        return;
                    }
                }
                Work::Closed => {
                    if self.insist(Self::sync) {
                        self.finish();
                    }
                    return;
                }
                Work::Abandoned => return,
            }
        }
    }

    /// Does it until it succeeds; `false`: it is to stop.
    fn insist(&mut self, work: impl Fn(&mut Self) -> Result<(), SettleError>) -> bool {
        let mut retry = RETRY_MIN;
        loop {
            let Err(error) = work(self) else { return true };
            // What was interned in a transaction that is rolled back is not there.
            self.keys.clear();
            if let SettleError::Paced(PacedError::Failed(_)) = &error {
                tracing::error!(%error, "settling has ended; nothing is lost, it is in the journal");
                self.tail.stuck(error.to_string());
                return false;
            }
            if error.is_full() {
                tracing::warn!(%error, retry_ms = retry.as_millis(), "cannot settle: the disk is full; it goes on when there is room");
            } else {
                tracing::error!(%error, retry_ms = retry.as_millis(), "cannot settle; nothing is lost, it is in the journal");
            }
            self.tail.stuck(error.to_string());
            if !self.tail.pause(retry) {
                return false;
            }
            if self.tail.is_closing() && retry >= RETRY_MAX / 8 {
                tracing::warn!("closing with an unsettled journal; the next start settles it");
                return false;
            }
            retry = (retry * 2).min(RETRY_MAX);
        }
    }

    fn settle(&mut self, batches: &[Arc<Committed>]) -> Result<(), SettleError> {
        Faults::check(&self.faults.settled_full)?;
        let begun = Instant::now();
        let passed = self.progress.passed();
        self.settled = settle::settle(self.db.db_to_write()?, &mut self.keys, batches, passed)?;
        self.bytes_since += batches.iter().map(|batch| size(batch)).sum::<usize>();
        self.progress.observe(batches.iter().map(|batch| batch.records.len()).sum(), begun.elapsed());
        self.tail.pop(self.settled);
        Ok(())
    }

    fn sync_if_due(&mut self) -> Result<(), SettleError> {
        let is_due = self.bytes_since >= SYNC_BYTES || self.synced_at.elapsed() >= SYNC_INTERVAL;
        if is_due { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<(), SettleError> {
        if self.settled > self.progress.synced() {
            Faults::check(&self.faults.settled_full)?;
            self.db.sync()?;
            self.is_synced();
            self.db.tidy()?;
        }
        Ok(())
    }

    fn is_synced(&mut self) {
        self.progress.set_synced(self.settled);
        (self.synced_at, self.bytes_since) = (Instant::now(), 0);
    }

    /// Brings the WAL into the file, so that a closed folder is one file a database.
    fn finish(self) {
        if let Err(error) = self.db.close() {
            tracing::warn!(%error, file = %self.dir.join(super::settled::SCHEMA.file).display(), "the WAL stays; the next start reads it");
        }
    }

    /// Syncs what [`Settler::replay`] has settled, and gives its end and the file.
    pub(super) fn replayed(&mut self) -> Result<(Commit, &mut Paced), OpenError> {
        let synced = self.sync();
        synced.map_err(|error| self.opening(error))?;
        Ok((self.settled, &mut self.db))
    }

    fn opening(&self, error: SettleError) -> OpenError {
        let file = super::settled::SCHEMA.file;
        match error {
            SettleError::Sqlite(source) => PacedError::Sqlite(source).opening(&self.dir, file),
            SettleError::Paced(error) => error.opening(&self.dir, file),
            error => OpenError::Damaged(error.to_string()),
        }
    }

    /// Settles what an earlier process left in the journal.
    pub(super) fn replay(&mut self, batches: &[Arc<Committed>]) -> Result<(), OpenError> {
        self.try_replay(batches).map_err(|error| self.opening(error))
    }

    fn try_replay(&mut self, batches: &[Arc<Committed>]) -> Result<(), SettleError> {
        self.settled = settle::settle(self.db.db_to_write()?, &mut self.keys, batches, Commit::default())?;
        Ok(self.db.tidy()?)
    }
}

fn size(batch: &Committed) -> usize {
    use tertulia_domain::conversation::Record;
    let body = |record: &Record| match record {
        Record::Entry { entry, .. } => match &entry.kind {
            EntryKind::Text { body, .. } => body.len(),
            _ => 0,
        },
        _ => 0,
    };
    batch.records.iter().map(|record| RECORD_BYTES + body(record)).sum()
}
