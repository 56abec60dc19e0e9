//! What is in the journal, but not settled yet: the newest entries, in memory.
//!
//! The writer puts a batch in once it is synced; the settler takes it out once it is settled. In between
//! reads find its entries here. Both ends move under one lock that is held for moments.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tertulia_domain::conversation::{Effect, Record};
use tertulia_domain::log::Commit;
use tertulia_protocol::{ClientSeq, ConvoId, DeviceId, Entry, EntryKind, IdMap, Seq};
use tokio::sync::watch;

use crate::StoreError;

/// About how many records the settler takes out under one lock; the writer and all reads wait for it.
const POPPED_AT_ONCE: usize = 1_000;

/// A batch that is in the journal.
pub(super) struct Committed {
    pub(super) commit: Commit,
    pub(super) records: Vec<Record>,
}

/// The batches that are in the journal, but not settled yet.
pub(super) struct Tail {
    inner: Mutex<Inner>,
    /// The settler waits here for something to do.
    work: Condvar,
    /// The writer waits here for settling: for room, or for a conversation that it must load.
    progress: Condvar,
    settled: watch::Sender<Settled>,
    /// How many reads wait at the barrier: for them the settler takes smaller bites, and at once.
    waiting: AtomicUsize,
    horizon: AtomicU64,
    entries_max: usize,
    bytes_max: usize,
}

#[derive(Default)]
struct Inner {
    batches: VecDeque<Arc<Committed>>,
    /// When the first of `batches` came.
    since: Option<Instant>,
    convos: IdMap<ConvoId, TailConvo>,
    records: usize,
    entries: usize,
    bytes: usize,
    settled: Commit,
    stuck: Option<String>,
    closing: bool,
    abandoned: bool,
}

/// How far settling has come.
#[derive(Debug, Clone)]
struct Settled {
    commit: Commit,
    /// Why it does not go on at present.
    stuck: Option<String>,
}

/// What is unsettled of one conversation.
#[derive(Default)]
struct TailConvo {
    entries: VecDeque<TailEntry>,
    /// The last commit with anything of it.
    last: Commit,
    /// The last commit that changed who is in it.
    members: Option<Commit>,
}

/// An unsettled entry.
#[derive(Debug, Clone)]
pub(super) struct TailEntry {
    pub(super) entry: Arc<Entry>,
    pub(super) commit: Commit,
    pub(super) message_no: u64,
    device: Option<DeviceId>,
}

/// What a read finds of a conversation.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The entries that were asked for and are not settled, ascending.
    pub(super) entries: Vec<TailEntry>,
    /// The first and the newest unsettled entry; what is below the first is settled.
    pub(super) range: Option<(Seq, Seq)>,
    /// Only when this is settled does `participants` say who is in it.
    pub(super) members: Option<Commit>,
}

/// What the settler is to do next.
pub(super) enum Work {
    /// Settle these.
    Settle(Vec<Arc<Committed>>),
    /// Nothing came in time.
    Nothing,
    /// Everything is settled, and nothing will come.
    Closed,
    /// Stop where you are.
    Abandoned,
}

impl Tail {
    pub(super) fn new(settled: Commit, entries_max: usize, bytes_max: usize) -> Self {
        Self {
            inner: Mutex::new(Inner { settled, ..Inner::default() }),
            work: Condvar::new(),
            progress: Condvar::new(),
            settled: watch::Sender::new(Settled { commit: settled, stuck: None }),
            waiting: AtomicUsize::new(0),
            horizon: AtomicU64::new(settled.next().get()),
            entries_max,
            bytes_max,
        }
    }

    /// The number of the next commit.
    pub(super) fn horizon(&self) -> Commit {
        Commit::new(self.horizon.load(Ordering::Acquire))
    }

    /// The newest settled commit.
    pub(super) fn settled(&self) -> Commit {
        self.lock().settled
    }

    /// Entries, and records of all kinds, that are not settled.
    pub(super) fn unsettled(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.entries, inner.records)
    }

    /// How full it is: 0 … 1, or more.
    pub(super) fn fill(&self) -> f64 {
        let inner = self.lock();
        // Records that are no entries take memory too.
        let entries = inner.records as f64 / self.entries_max as f64;
        entries.max(inner.bytes as f64 / self.bytes_max as f64)
    }

    // --- the writer ---

    /// Takes a batch that is synced: from now on reads see it.
    pub(super) fn push(&self, commit: Commit, records: Vec<Record>) {
        let mut inner = self.lock();
        for record in &records {
            let convo = inner.convos.entry(record.convo()).or_default();
            convo.last = commit;
            if record.changes_members() {
                convo.members = Some(commit);
            }
            if let Record::Entry { entry, message_no, effect } = record {
                let device = if let Effect::Sent { device, .. } = effect { Some(*device) } else { None };
                let tail_entry = TailEntry { entry: entry.clone(), commit, message_no: *message_no, device };
                convo.entries.push_back(tail_entry);
                inner.entries += 1;
                inner.bytes += bytes(entry);
            }
        }
        inner.records += records.len();
        inner.since.get_or_insert_with(Instant::now);
        inner.batches.push_back(Arc::new(Committed { commit, records }));
        drop(inner);
        self.horizon.store(commit.next().get(), Ordering::Release);
        self.work.notify_one();
    }

    /// The message of a device under a number, if it is not settled.
    pub(super) fn sent(&self, convo: ConvoId, device: DeviceId, client_seq: ClientSeq) -> Option<Arc<Entry>> {
        let inner = self.lock();
        let entries = &inner.convos.get(&convo)?.entries;
        // From the end: a retry comes soon, if it comes.
        let same =
            |found: &&TailEntry| found.device == Some(device) && found.entry.client_seq == Some(client_seq);
        entries.iter().rev().find(same).map(|found| found.entry.clone())
    }

    /// How many messages there are up to an entry that is not settled.
    pub(super) fn message_no(&self, convo: ConvoId, seq: Seq) -> Option<u64> {
        let inner = self.lock();
        let entries = &inner.convos.get(&convo)?.entries;
        let first = entries.front()?.entry.seq;
        let at = usize::try_from(seq.get().checked_sub(first.get())?).ok()?;
        entries.get(at).map(|found| found.message_no)
    }

    /// Whether all of a conversation is settled, so that its rows are exact.
    pub(super) fn is_settled(&self, convo: ConvoId) -> bool {
        !self.lock().convos.contains_key(&convo)
    }

    /// Waits until all of a conversation is settled, but not for ever.
    pub(super) fn wait_settled(&self, convo: ConvoId, patience: Duration) -> Result<(), StoreError> {
        self.wait_while(patience, |inner| inner.convos.contains_key(&convo))
    }

    /// Waits until there is room for more, but not for ever.
    pub(super) fn wait_for_room(&self, patience: Duration) -> Result<(), StoreError> {
        let (entries_max, bytes_max) = (self.entries_max, self.bytes_max);
        self.wait_while(patience, move |inner| inner.records >= entries_max || inner.bytes >= bytes_max)
    }

    fn wait_while(&self, patience: Duration, blocked: impl Fn(&Inner) -> bool) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if !blocked(&inner) {
            return Ok(());
        }
        // The settler must not linger while somebody waits for it.
        let _waiting = Waiting::enter(&self.waiting);
        self.work.notify_one();
        inner = self
            .progress
            .wait_timeout_while(inner, patience, |inner| {
                blocked(inner) && inner.stuck.is_none() && !inner.abandoned
            })
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        if !blocked(&inner) {
            return Ok(());
        }
        Err(behind(inner.stuck.as_deref()))
    }

    // --- reads ---

    /// Waits until everything up to `commit` is settled.
    ///
    /// # Errors
    /// `Unavailable` if settling does not go on.
    pub(super) async fn settled_to(&self, commit: Commit) -> Result<(), StoreError> {
        let mut settled = self.settled.subscribe();
        if settled.borrow_and_update().commit >= commit {
            return Ok(());
        }
        let _waiting = Waiting::enter(&self.waiting);
        // Under the lock the settler either waits already, or has yet to look at the count.
        drop(self.lock());
        self.work.notify_one();
        let reached = settled
            .wait_for(|settled| settled.commit >= commit || settled.stuck.is_some())
            .await
            .map_err(|_| StoreError::Closed)?;
        if reached.commit >= commit { Ok(()) } else { Err(behind(reached.stuck.as_deref())) }
    }

    /// Waits until everything that is visible now is settled.
    pub(super) async fn all_settled(&self) -> Result<(), StoreError> {
        self.settled_to(Commit::new(self.horizon().get().saturating_sub(1))).await
    }

    /// Waits until everything of a conversation that is visible now is settled.
    pub(super) async fn convo_settled(&self, convo: ConvoId) -> Result<(), StoreError> {
        let last = self.lock().convos.get(&convo).map(|convo| convo.last);
        match last {
            Some(commit) => self.settled_to(commit).await,
            None => Ok(()),
        }
    }

    /// The unsettled entries of a conversation from `from` (or the newest `limit` before `to`), at most `limit`.
    pub(super) fn find(&self, convo: ConvoId, stretch: Stretch, limit: usize) -> Found {
        let inner = self.lock();
        let Some(convo) = inner.convos.get(&convo) else { return Found::default() };
        let members = convo.members;
        let (Some(first), Some(last)) = (convo.entries.front(), convo.entries.back()) else {
            return Found { members, ..Found::default() };
        };
        let (first, last) = (first.entry.seq, last.entry.seq);
        // Entries are dense, so places are differences.
        let place = |seq: Seq| {
            let place = usize::try_from(seq.get().saturating_sub(first.get())).unwrap_or(usize::MAX);
            place.min(convo.entries.len())
        };
        let wanted = match stretch {
            Stretch::From(from) => {
                // What is asked for begins in the settled part: that much of the page comes from there.
                let settled = usize::try_from(first.get().saturating_sub(from.get())).unwrap_or(usize::MAX);
                let start = place(from);
                start..start.saturating_add(limit.saturating_sub(settled)).min(convo.entries.len())
            }
            Stretch::Before(to) => {
                let end = place(to);
                end.saturating_sub(limit)..end
            }
        };
        let entries = convo.entries.range(wanted).cloned().collect();
        Found { entries, range: Some((first, last)), members }
    }

    // --- the settler ---

    /// Waits for work, and takes at most about `records_max` records of it.
    ///
    /// Lingers a little, so that rows of one conversation are written together; not while somebody waits,
    /// and not when there is a full bite.
    pub(super) fn next_bite(&self, bite: &Bite) -> Work {
        let deadline = bite.patience.map(|patience| Instant::now() + patience);
        let mut inner = self.lock();
        loop {
            if inner.abandoned {
                return Work::Abandoned;
            }
            let hurried = self.waiting.load(Ordering::Acquire) > 0;
            if let Some(since) = inner.since {
                let lingered = since.elapsed();
                if hurried || inner.closing || inner.records >= bite.records_min || lingered >= bite.linger {
                    let max = if hurried { bite.hurried_max } else { bite.records_max };
                    return Work::Settle(inner.first_batches(max));
                }
                inner = self.wait_for_work(inner, Some(bite.linger - lingered));
                continue;
            }
            if inner.closing {
                return Work::Closed;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Work::Nothing;
            }
            inner = self.wait_for_work(inner, left);
        }
    }

    fn wait_for_work<'a>(
        &'a self,
        inner: MutexGuard<'a, Inner>,
        patience: Option<Duration>,
    ) -> MutexGuard<'a, Inner> {
        match patience {
            None => self.work.wait(inner).unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                self.work.wait_timeout(inner, patience).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Takes out what is settled.
    pub(super) fn pop(&self, settled: Commit) {
        // First the rows are there, then the reads that wait are told, then the memory goes, in pieces.
        self.settled.send_replace(Settled { commit: settled, stuck: None });
        loop {
            let mut inner = self.lock();
            inner.settled = settled;
            inner.stuck = None;
            let mut popped = 0;
            while popped < POPPED_AT_ONCE {
                let Some(batch) = inner.batches.pop_front_if(|batch| batch.commit <= settled) else {
                    inner.since = (!inner.batches.is_empty()).then(Instant::now);
                    drop(inner);
                    self.progress.notify_all();
                    return;
                };
                inner.forget(&batch);
                popped += batch.records.len();
            }
        }
    }

    /// Says that settling does not go on: whoever waits for it is told, and whoever comes.
    pub(super) fn stuck(&self, reason: String) {
        let mut inner = self.lock();
        inner.stuck = Some(reason.clone());
        let commit = inner.settled;
        drop(inner);
        self.settled.send_replace(Settled { commit, stuck: Some(reason) });
        self.progress.notify_all();
    }

    /// Waits, unless it is to stop.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let inner = self.lock();
        let (inner, _) = self
            .work
            .wait_timeout_while(inner, pause, |inner| !inner.abandoned && !inner.closing)
            .unwrap_or_else(PoisonError::into_inner);
        !inner.abandoned
    }

    /// No batch will come any more.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.work.notify_all();
    }

    /// Whether no batch will come any more.
    pub(super) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// Stops everything where it is, as a crash would.
    pub(super) fn abandon(&self) {
        self.lock().abandoned = true;
        self.work.notify_all();
        self.progress.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under this lock can panic half way but running out of memory, which ends the process.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn first_batches(&self, records_max: usize) -> Vec<Arc<Committed>> {
        let mut records = 0;
        self.batches
            .iter()
            .take_while(|batch| {
                let begun_below = records < records_max;
                records += batch.records.len();
                begun_below
            })
            .cloned()
            .collect()
    }

    fn forget(&mut self, batch: &Committed) {
        self.records -= batch.records.len();
        for record in &batch.records {
            let id = record.convo();
            let Some(convo) = self.convos.get_mut(&id) else { continue };
            if let Record::Entry { entry, .. } = record {
                convo.entries.pop_front();
                self.entries -= 1;
                self.bytes -= bytes(entry);
            }
            if convo.last <= batch.commit {
                // Its last record of this batch may come later in it; then there is nothing left to forget.
                if convo.entries.is_empty() {
                    self.convos.remove(&id);
                }
            } else if convo.members <= Some(batch.commit) {
                convo.members = None;
            }
        }
    }
}

/// Which stretch of a conversation a read wants.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stretch {
    /// From this entry on.
    From(Seq),
    /// The newest below this one.
    Before(Seq),
}

/// How the settler wants its work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bite {
    /// How long batches may wait for company.
    pub(super) linger: Duration,
    /// So many records do not wait for more.
    pub(super) records_min: usize,
    /// The most records to take.
    pub(super) records_max: usize,
    /// How many when a read waits.
    pub(super) hurried_max: usize,
    /// How long to wait for the first batch; `None`: as long as it takes.
    pub(super) patience: Option<Duration>,
}

fn bytes(entry: &Entry) -> usize {
    if let EntryKind::Text { body, .. } = &entry.kind { body.len() } else { 0 }
}

fn behind(stuck: Option<&str>) -> StoreError {
    StoreError::Unavailable {
        reason: stuck.map_or_else(|| "settling is behind".into(), |why| format!("settling stopped: {why}")),
        retry_after: Duration::from_secs(2),
    }
}

/// Counts somebody who waits for settling.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
