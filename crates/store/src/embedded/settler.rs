//! The thread that settles: the one writer of `tertulia.db`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tertulia_domain::log::Commit;
use tertulia_protocol::ConvoId;

use super::Faults;
use super::burst::Burst;
use super::journal::Place;
use super::paced::{Paced, PacedError};
use super::settle::{self, Committed, Keys, SettleError};
use super::tail::{Bite, Pending, Tail, Work};

/// Batches wait this long for company, unless somebody waits for them: rows of one conversation that are
/// written together cost a fraction of rows written one by one.
const LINGER: Duration = Duration::from_millis(500);
/// So many records do not wait longer.
const BITE_RECORDS_MIN: usize = 20_000;
/// The most records of one bite. When there is more to do than can be done, larger bites are the cheaper ones:
/// over 10,000 conversations 20,000 messages touch nearly as many pages as 50,000 do.
const BITE_RECORDS_MAX: usize = 50_000;
/// The most bytes of the journal in one bite: all of it is in memory while it is settled.
const BITE_BYTES_MAX: usize = 32 << 20;
/// A bite when a read waits for one of its batches.
const BITE_RECORDS_HURRIED: usize = 10_000;
/// What is settled is synced at least this often, and the journal can then be trimmed.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// And after this many bytes of the journal, so that it stays small under load.
const SYNC_BYTES: usize = 32 << 20;
/// What is lately, in records.
const LATELY_RECORDS: u64 = 100_000;
/// How long a burst may put off settling: those who follow the logs (the search index is one) hear of nothing before.
const BURST_MAX: Duration = Duration::from_secs(15);
/// How long to wait before trying again what failed, at first and at most.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What the settler tells of itself.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The newest commit that is settled and synced: the journal may forget it.
    synced: AtomicU64,
    /// How many records were settled lately, and how long it took, in nanoseconds.
    records: AtomicU64,
    took_ns: AtomicU64,
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

    /// What settling a record costs at present.
    pub(super) fn record_cost(&self) -> Duration {
        let records = self.records.load(Ordering::Relaxed).max(1);
        Duration::from_nanos(self.took_ns.load(Ordering::Relaxed) / records)
    }

    /// Only the settler calls it. Small bites say less than large ones.
    fn observe(&self, records: usize, took: Duration) {
        let settled = [(&self.records, records as u64), (&self.took_ns, took.as_nanos() as u64)];
        let is_much = self.records.load(Ordering::Relaxed) > LATELY_RECORDS;
        for (sum, more) in settled {
            let before = sum.load(Ordering::Relaxed);
            sum.store(if is_much { before / 2 } else { before } + more, Ordering::Relaxed);
        }
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
    burst: Burst,
    /// Kept for its capacity.
    bytes: Vec<u8>,
}

impl Settler {
    /// `settled` is the newest commit that is in `db`, with all before it, and synced.
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
            burst: Burst::new(Instant::now()),
            bytes: Vec::new(),
        }
    }

    /// Settles until the tail is closed and empty, or abandoned.
    pub(super) fn run(mut self) {
        let mut is_after_wanted = false;
        loop {
            let unsynced = self.settled > self.progress.synced();
            let patience = unsynced.then(|| SYNC_INTERVAL.saturating_sub(self.synced_at.elapsed()));
            let bite = Bite {
                linger: LINGER,
                linger_max: BURST_MAX,
                records_min: BITE_RECORDS_MIN,
                records_max: BITE_RECORDS_MAX,
                bytes_max: BITE_BYTES_MAX,
                hurried_max: BITE_RECORDS_HURRIED,
                patience,
                is_after_wanted,
            };
            let work = self.tail.next_work(&bite, |records, now| {
                let is_provoked = self.faults.burst.load(Ordering::Relaxed);
                is_provoked || self.burst.is_on(now, records, self.progress.record_cost())
            });
            is_after_wanted = matches!(work, Work::Wanted(..));
            let goes_on = match work {
                // Not one after the other under one roof: what is settled is not to be settled again if the sync fails.
                Work::Settle(first, places) => {
                    self.insist(|settler| settler.settle(first, &places)) && self.insist(Self::sync_if_due)
                }
                Work::Wanted(convos, round) => {
                    self.settle_before_turn(convos) && {
                        self.tail.end_round(round);
                        self.insist(Self::tidy)
                    }
                }
                Work::Nothing => self.insist(Self::sync),
                Work::Closed => {
                    if self.insist(Self::sync) {
                        self.finish();
                    }
                    return;
                }
                Work::Abandoned => return,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Does it until it succeeds; `false`: it is to stop.
    fn insist(&mut self, work: impl Fn(&mut Self) -> Result<(), SettleError>) -> bool {
        let mut retry = RETRY_MIN;
        loop {
            let Err(error) = work(self) else {
                if retry > RETRY_MIN {
                    self.tail.goes_on();
                }
                return true;
            };
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

    fn settle(&mut self, first: Commit, places: &[Place]) -> Result<(), SettleError> {
        Faults::check(&self.faults.settled_full)?;
        let begun = Instant::now();
        let mut batches = Vec::with_capacity(places.len());
        let mut commit = first;
        for place in places {
            batches.push(Committed { commit, records: place.records(&mut self.bytes)? });
            commit = commit.next();
        }
        let passed = self.progress.passed();
        let convos = settle::settle(self.db.db_to_write()?, &mut self.keys, &batches, passed)?;
        self.settled = commit.previous();
        self.bytes_since += places.iter().map(Place::length).sum::<usize>();
        self.progress.observe(batches.iter().map(|batch| batch.records.len()).sum(), begun.elapsed());
        self.tail.pop(self.settled, &convos);
        Ok(())
    }

    /// Settles these conversations, a bite at a time. Returns whether to go on.
    fn settle_before_turn(&mut self, convos: Vec<ConvoId>) -> bool {
        // What comes from here on nobody waits for.
        let until = self.tail.horizon();
        let mut convos = convos.into_iter().peekable();
        while convos.peek().is_some() {
            let (mut bite, mut records, mut bytes) = (Vec::new(), 0, 0);
            while records < BITE_RECORDS_MAX
                && bytes < BITE_BYTES_MAX
                && let Some(&convo) = convos.peek()
            {
                let has_room = |pending: &Pending| {
                    records += 1;
                    bytes += pending.about_bytes;
                    records < BITE_RECORDS_MAX && bytes < BITE_BYTES_MAX
                };
                let (pending, is_all) = self.tail.not_settled(convo, until, has_room);
                bite.push((convo, pending));
                if !is_all {
                    // The next bite begins with the rest.
                    break;
                }
                convos.next();
            }
            if !self.insist(|settler| settler.settle_these(&bite)) {
                return false;
            }
        }
        true
    }

    fn settle_these(&mut self, bite: &[(ConvoId, Vec<Pending>)]) -> Result<(), SettleError> {
        Faults::check(&self.faults.settled_full)?;
        let read =
            |pending: &Pending| Ok(Committed { commit: pending.commit, records: vec![pending.read()?] });
        let parts = bite
            .iter()
            .flat_map(|(_, pending)| pending)
            .map(read)
            .collect::<Result<Vec<_>, SettleError>>()?;
        settle::settle_before_turn(self.db.db_to_write()?, &mut self.keys, &parts)?;
        for (convo, pending) in bite {
            if let Some(last) = pending.last() {
                self.tail.settled_before_turn(*convo, last.commit);
            }
        }
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
        }
        self.tidy()
    }

    fn tidy(&mut self) -> Result<(), SettleError> {
        Faults::check(&self.faults.wal_stays)?;
        Ok(self.db.tidy()?)
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
}
