//! What is in the journal, but not settled yet: where each record stands.
//!
//! The writer puts a batch in once it is synced; the settler takes it out once it is settled. In between reads find here
//! where its entries are, and read them in the journal. Both ends move under one lock that is held for moments.
//!
//! Settling goes by commits, the oldest first, unless a read needs the rows of some conversations and much is before
//! them: these are then settled before their turn. What is settled so stays in here until its turn has come.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tertulia_domain::conversation::Record;
use tertulia_domain::log::Commit;
use tertulia_protocol::{ClientSeq, ConvoId, DeviceId, IdMap, IdSet, Seq};
use tokio::sync::watch;

use super::TailLimits;
use super::journal::{Place, PlaceError};
use super::unsettled::{Spot, Unsettled};
use crate::StoreError;

/// From how many conversations the settler lets go under one lock; the writer and all reads wait for it.
const FORGOTTEN_AT_ONCE: usize = 1_000;
/// When the tail is this full, it is settled whatever the load is, and appending begins to slow down.
pub(super) const FULL_FROM: f64 = 0.5;

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
    limits: TailLimits,
}

struct Inner {
    batches: VecDeque<Unit>,
    /// The commit of the first of them, or the next one that comes.
    first: Commit,
    convos: IdMap<ConvoId, Unsettled>,
    records: usize,
    entries: usize,
    bytes: u64,
    /// How many records ever came.
    pushed: u64,
    settled: Commit,
    /// Who is in these is not settled yet.
    joining: IdSet<ConvoId>,
    /// These are to be settled before their turn.
    wanted: IdSet<ConvoId>,
    /// How often the settler took what was wanted.
    rounds: u64,
    /// With so many records the settler is woken.
    wakes_at: usize,
    /// All is to be settled soon: the journal's disk is full.
    hurry: bool,
    stuck: Option<String>,
    closing: bool,
    abandoned: bool,
}

/// A batch.
struct Unit {
    place: Place,
    records: usize,
    came: Instant,
}

/// How far settling has come.
#[derive(Debug, Clone)]
struct Settled {
    commit: Commit,
    /// How often what was wanted before its turn is settled.
    rounds: u64,
    /// Why it does not go on at present.
    stuck: Option<String>,
}

/// A record that is not settled.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) commit: Commit,
    place: Place,
    start: u32,
}

impl Pending {
    /// Reads it in the journal.
    pub(super) fn read(&self) -> Result<Record, PlaceError> {
        self.place.record(self.start)
    }
}

/// When conversations that a read waits for are settled.
enum Turn {
    /// They are.
    None,
    /// With this commit, in its turn.
    Commit(Commit),
    /// At the end of this round, or in their turn with this commit.
    Round(u64, Commit),
}

/// What a read finds of a conversation.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The entries that were asked for and are not settled, ascending.
    pub(super) entries: Vec<(Seq, Pending)>,
    /// The first and the newest unsettled entry; what is below the first is settled.
    pub(super) range: Option<(Seq, Seq)>,
    /// Who is in it is not settled: `participants` says it only when all of the conversation is.
    pub(super) is_joining: bool,
}

/// What the settler is to do next.
pub(super) enum Work {
    /// Settle these, the first of which has this commit.
    Settle(Commit, Vec<Place>),
    /// Settle these conversations; then this round is over.
    Wanted(Vec<ConvoId>, u64),
    /// Nothing came in time.
    Nothing,
    /// Everything is settled, and nothing will come.
    Closed,
    /// Stop where you are.
    Abandoned,
}

impl Tail {
    pub(super) fn new(settled: Commit, limits: TailLimits) -> Self {
        let inner = Inner {
            batches: VecDeque::new(),
            first: settled.next(),
            convos: IdMap::default(),
            records: 0,
            entries: 0,
            bytes: 0,
            pushed: 0,
            settled,
            joining: IdSet::default(),
            wanted: IdSet::default(),
            rounds: 0,
            wakes_at: 0,
            hurry: false,
            stuck: None,
            closing: false,
            abandoned: false,
        };
        Self {
            inner: Mutex::new(inner),
            work: Condvar::new(),
            progress: Condvar::new(),
            settled: watch::Sender::new(Settled { commit: settled, rounds: 0, stuck: None }),
            waiting: AtomicUsize::new(0),
            horizon: AtomicU64::new(settled.next().get()),
            limits,
        }
    }

    /// The number of the next commit.
    pub(super) fn horizon(&self) -> Commit {
        Commit::new(self.horizon.load(Ordering::Acquire))
    }

    /// The newest commit that is settled, as all before it are.
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
        self.lock().fill(&self.limits)
    }

    // --- the writer ---

    /// Takes a batch that is synced: from now on reads see it. `starts`: where in it each record begins.
    pub(super) fn push(&self, commit: Commit, place: Place, records: &[Record], starts: &[u32]) {
        let mut inner = self.lock();
        for (record, &start) in records.iter().zip(starts) {
            let id = record.convo();
            inner.convos.entry(id).or_default().push(record, commit, start);
            if record.changes_members() {
                inner.joining.insert(id);
            }
            inner.entries += usize::from(matches!(record, Record::Entry { .. }));
        }
        inner.records += records.len();
        inner.pushed += records.len() as u64;
        inner.bytes += place.length() as u64;
        let is_first = inner.batches.is_empty();
        inner.batches.push_back(Unit { place, records: records.len(), came: Instant::now() });
        let wakes = is_first || inner.records >= inner.wakes_at;
        drop(inner);
        self.horizon.store(commit.next().get(), Ordering::Release);
        if wakes {
            self.work.notify_one();
        }
    }

    /// Messages that may be the one with this number of a device, the newest first; most have none.
    pub(super) fn sent(&self, convo: ConvoId, device: DeviceId, client_seq: ClientSeq) -> Vec<Pending> {
        let inner = self.lock();
        let Some(found) = inner.convos.get(&convo) else { return Vec::new() };
        found.sent(device, client_seq, inner.first).filter_map(|spot| inner.pending(spot)).collect()
    }

    /// How many messages there are up to an entry that is not settled.
    pub(super) fn message_no(&self, convo: ConvoId, seq: Seq) -> Option<u64> {
        self.lock().convos.get(&convo)?.message_no(seq)
    }

    /// Whether all of a conversation is settled, so that its rows are exact.
    pub(super) fn is_settled(&self, convo: ConvoId) -> bool {
        self.lock().convos.get(&convo).is_none_or(Unsettled::is_settled)
    }

    /// Waits until all of a conversation is settled, but not for ever.
    pub(super) fn wait_settled(&self, convo: ConvoId, patience: Duration) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if inner.convos.get(&convo).is_some_and(|found| !found.is_settled()) {
            inner.wanted.insert(convo);
        }
        self.wait_while(inner, patience, |inner| {
            inner.convos.get(&convo).is_some_and(|found| !found.is_settled())
        })
    }

    /// Waits until there is room for more, but not for ever.
    pub(super) fn wait_for_room(&self, patience: Duration) -> Result<(), StoreError> {
        let inner = self.lock();
        self.wait_while(inner, patience, |inner| inner.fill(&self.limits) >= 1.0)
    }

    fn wait_while(
        &self,
        inner: MutexGuard<'_, Inner>,
        patience: Duration,
        blocked: impl Fn(&Inner) -> bool,
    ) -> Result<(), StoreError> {
        if !blocked(&inner) {
            return Ok(());
        }
        // The settler must not linger while somebody waits for it.
        let _waiting = Waiting::enter(&self.waiting);
        self.work.notify_one();
        let (inner, _) = self
            .progress
            .wait_timeout_while(inner, patience, |inner| {
                blocked(inner) && inner.stuck.is_none() && !inner.abandoned
            })
            .unwrap_or_else(PoisonError::into_inner);
        if !blocked(&inner) {
            return Ok(());
        }
        Err(behind(inner.stuck.as_deref()))
    }

    /// Has all settled soon, whatever the load is: segments of the journal can go only then.
    pub(super) fn hurry(&self) {
        let mut inner = self.lock();
        inner.hurry = !inner.batches.is_empty();
        drop(inner);
        self.work.notify_one();
    }

    // --- reads ---

    /// Waits until everything up to `commit` is settled.
    ///
    /// # Errors
    /// `Unavailable` if settling does not go on.
    pub(super) async fn settled_to(&self, commit: Commit) -> Result<(), StoreError> {
        if self.settled.borrow().commit >= commit {
            return Ok(());
        }
        let _waiting = Waiting::enter(&self.waiting);
        // Under the lock the settler either waits already, or has yet to look at the count.
        drop(self.lock());
        self.work.notify_one();
        self.wait_for(|settled| settled.commit >= commit).await
    }

    /// Waits until everything that is visible now is settled.
    pub(super) async fn all_settled(&self) -> Result<(), StoreError> {
        self.settled_to(Commit::new(self.horizon().get().saturating_sub(1))).await
    }

    /// Waits until everything of these conversations that is visible now is settled: if much is before it, they are
    /// settled before their turn.
    pub(super) async fn convos_settled(
        &self,
        convos: impl IntoIterator<Item = ConvoId>,
    ) -> Result<(), StoreError> {
        match self.want(convos) {
            Turn::None => Ok(()),
            Turn::Commit(commit) => self.settled_to(commit).await,
            Turn::Round(round, commit) => {
                self.work.notify_one();
                self.wait_for(|settled| settled.rounds >= round || settled.commit >= commit).await
            }
        }
    }

    fn want(&self, convos: impl IntoIterator<Item = ConvoId>) -> Turn {
        let mut inner = self.lock();
        let mut unsettled = Vec::new();
        let mut newest = None;
        for convo in convos {
            if let Some(found) = inner.convos.get(&convo).filter(|found| !found.is_settled()) {
                newest = newest.max(Some(found.last));
                unsettled.push(convo);
            }
        }
        match newest {
            None => Turn::None,
            Some(commit) if inner.is_short(&self.limits) => Turn::Commit(commit),
            Some(commit) => {
                inner.wanted.extend(unsettled);
                Turn::Round(inner.rounds + 1, commit)
            }
        }
    }

    /// Waits until it is settled who is in which conversation, as it is visible now.
    pub(super) async fn members_settled(&self) -> Result<(), StoreError> {
        let joining: Vec<_> = self.lock().joining.iter().copied().collect();
        self.convos_settled(joining).await
    }

    /// Whether all that is not settled is settled in a moment.
    pub(super) fn is_short(&self) -> bool {
        self.lock().is_short(&self.limits)
    }

    async fn wait_for(&self, is_reached: impl Fn(&Settled) -> bool) -> Result<(), StoreError> {
        let mut settled = self.settled.subscribe();
        let reached = settled
            .wait_for(|settled| is_reached(settled) || settled.stuck.is_some())
            .await
            .map_err(|_| StoreError::Closed)?;
        if is_reached(&reached) { Ok(()) } else { Err(behind(reached.stuck.as_deref())) }
    }

    /// The unsettled entries of a conversation from `from` (or the newest `limit` before `to`), at most `limit`.
    pub(super) fn find(&self, convo: ConvoId, stretch: Stretch, limit: usize) -> Found {
        let inner = self.lock();
        let Some(found) = inner.convos.get(&convo) else { return Found::default() };
        let is_joining = found.members.is_some_and(|members| members > found.settled);
        let Some((first, last)) = found.range() else { return Found { is_joining, ..Found::default() } };
        let count = found.place(Seq::MAX);
        let wanted = match stretch {
            Stretch::From(from) => {
                // What is asked for begins in the settled part: that much of the page comes from there.
                let settled = usize::try_from(first.get().saturating_sub(from.get())).unwrap_or(usize::MAX);
                let start = found.place(from);
                start..start.saturating_add(limit.saturating_sub(settled)).min(count)
            }
            Stretch::Before(to) => {
                let end = found.place(to);
                end.saturating_sub(limit)..end
            }
        };
        let pending = |(seq, spot)| inner.pending(spot).map(|pending| (seq, pending));
        let entries = found.entries(wanted, inner.first).filter_map(pending).collect();
        Found { entries, range: Some((first, last)), is_joining }
    }

    // --- the settler ---

    /// Waits for work, and takes at most about `records_max` records of it.
    ///
    /// Lingers a little, so that rows of one conversation are written together, and while `is_burst` says so of the records
    /// that have come until now, but not for ever; not while somebody waits, and not when it is rather full.
    pub(super) fn next_work(&self, bite: &Bite, mut is_burst: impl FnMut(u64, Instant) -> bool) -> Work {
        let deadline = bite.patience.map(|patience| Instant::now() + patience);
        let mut inner = self.lock();
        loop {
            if inner.abandoned {
                return Work::Abandoned;
            }
            let is_full = inner.fill(&self.limits) >= FULL_FROM;
            // Those who read must not keep it from getting emptier.
            let is_their_turn = !(is_full && bite.is_after_wanted);
            if is_their_turn && !inner.wanted.is_empty() {
                inner.rounds += 1;
                let wanted = std::mem::take(&mut inner.wanted);
                return Work::Wanted(wanted.into_iter().collect(), inner.rounds);
            }
            let patience = if let Some(oldest) = inner.batches.front() {
                let hurried = self.waiting.load(Ordering::Acquire) > 0;
                let lingered = oldest.came.elapsed();
                let is_due = inner.records >= bite.records_min || lingered >= bite.linger;
                let is_late = lingered >= bite.linger_max;
                let cannot_wait = hurried || is_full || is_late || inner.hurry || inner.closing;
                if cannot_wait || (is_due && !is_burst(inner.pushed, Instant::now())) {
                    let max = if hurried { bite.hurried_max } else { bite.records_max };
                    return inner.first_batches(max);
                }
                inner.wakes_at = if is_due { usize::MAX } else { bite.records_min };
                Some(if is_due { bite.linger } else { bite.linger - lingered })
            } else {
                if inner.closing {
                    return Work::Closed;
                }
                let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                if left == Some(Duration::ZERO) {
                    return Work::Nothing;
                }
                left
            };
            inner = self.wait_for_work(inner, patience);
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

    /// The records of a conversation whose rows are not there, in their order.
    pub(super) fn not_settled(&self, convo: ConvoId) -> Vec<Pending> {
        let inner = self.lock();
        let spots = inner.convos.get(&convo).map(|found| found.not_settled(inner.first)).unwrap_or_default();
        spots.into_iter().filter_map(|spot| inner.pending(spot)).collect()
    }

    /// A conversation is settled up to this commit, before its turn.
    pub(super) fn settled_before_turn(&self, convo: ConvoId, settled: Commit) {
        let mut inner = self.lock();
        if let Some(found) = inner.convos.get_mut(&convo) {
            found.settled = settled;
            if found.members <= Some(settled) {
                inner.joining.remove(&convo);
            }
        }
    }

    /// What was wanted in this round is settled.
    pub(super) fn end_round(&self, round: u64) {
        self.lock().stuck = None;
        self.settled.send_modify(|settled| (settled.rounds, settled.stuck) = (round, None));
        self.progress.notify_all();
    }

    /// Takes out what is settled, which is of these conversations.
    pub(super) fn pop(&self, settled: Commit, convos: &[ConvoId]) {
        // First the rows are there, then the reads that wait are told, then the memory goes, in pieces.
        let mut inner = self.lock();
        (inner.settled, inner.stuck) = (settled, None);
        drop(inner);
        self.settled.send_modify(|state| (state.commit, state.stuck) = (settled, None));
        for convos in convos.chunks(FORGOTTEN_AT_ONCE) {
            let mut inner = self.lock();
            convos.iter().for_each(|convo| inner.forget(*convo, settled));
        }
        // Last what the rest points to.
        let mut inner = self.lock();
        let count =
            usize::try_from((settled.get() + 1).saturating_sub(inner.first.get())).unwrap_or(usize::MAX);
        let gone: Vec<_> = {
            let count = count.min(inner.batches.len());
            inner.batches.drain(..count).collect()
        };
        inner.first = settled.next();
        inner.bytes -= gone.iter().map(|gone| gone.place.length() as u64).sum::<u64>();
        inner.hurry &= !inner.batches.is_empty();
        drop(inner);
        self.progress.notify_all();
    }

    /// Says that settling does not go on: whoever waits for it is told, and whoever comes.
    pub(super) fn stuck(&self, reason: String) {
        self.lock().stuck = Some(reason.clone());
        self.settled.send_modify(|settled| settled.stuck = Some(reason));
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
    fn fill(&self, limits: &TailLimits) -> f64 {
        let records = self.records as f64 / limits.records_max as f64;
        let convos = self.convos.len() as f64 / limits.convos_max as f64;
        records.max(convos).max(self.bytes as f64 / limits.bytes_max as f64)
    }

    const fn is_short(&self, limits: &TailLimits) -> bool {
        self.records <= limits.whole_max
    }

    /// `None`: its batch is gone, so it is settled.
    fn pending(&self, Spot { commit, start }: Spot) -> Option<Pending> {
        let at = usize::try_from(commit.get().checked_sub(self.first.get())?).ok()?;
        let place = self.batches.get(at)?.place.clone();
        Some(Pending { commit, place, start })
    }

    fn first_batches(&self, records_max: usize) -> Work {
        let mut records = 0;
        let begun_below = |batch: &&Unit| {
            let begun_below = records < records_max;
            records += batch.records;
            begun_below
        };
        let places = self.batches.iter().take_while(begun_below).map(|batch| batch.place.clone()).collect();
        Work::Settle(self.first, places)
    }

    fn forget(&mut self, convo: ConvoId, settled: Commit) {
        let Some(found) = self.convos.get_mut(&convo) else { return };
        let (entries, records) = found.forget(settled, self.first);
        self.entries -= entries;
        self.records -= records;
        if found.members.is_none() {
            self.joining.remove(&convo);
        }
        if found.is_empty() {
            self.convos.remove(&convo);
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
    /// How long at most, if this is a burst.
    pub(super) linger_max: Duration,
    /// So many records do not wait for more, unless this is a burst.
    pub(super) records_min: usize,
    /// The most records to take.
    pub(super) records_max: usize,
    /// How many when a read waits.
    pub(super) hurried_max: usize,
    /// How long to wait for the first batch; `None`: as long as it takes.
    pub(super) patience: Option<Duration>,
    /// What was done last was settled before its turn.
    pub(super) is_after_wanted: bool,
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
