//! What is in the journal, but not settled yet: where each record stands.
//!
//! The writer puts a batch in once it is synced; the settler takes it out once it is settled. In between reads find here
//! where its entries are, and read them in the journal. Both ends move under one lock that is held for moments.
//!
//! Settling goes by commits, the oldest first, unless a read needs the rows of some conversations and much is before
//! them: these are then settled before their turn. What is settled so stays in here until its turn has come.
//!
//! Here is what comes in, is found and goes; `waiting` has those who wait for settling, `work` what the settler does next.

mod waiting;
mod work;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tertulia_domain::conversation::Record;
use tertulia_domain::log::Commit;
use tertulia_protocol::{ClientSeq, ConvoId, DeviceId, IdMap, IdSet, Seq};
use tokio::sync::watch;

pub(super) use self::work::{Bite, Work};
use super::TailLimits;
use super::journal::{Place, PlaceError};
use super::unsettled::{Spot, Unsettled};

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
    /// How many wait for what is settled in its turn, or for room: for them the settler takes smaller bites, and at once.
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
    /// About how long it is, as those of its batch are on the average.
    pub(super) about_bytes: usize,
}

impl Pending {
    /// Reads it in the journal.
    pub(super) fn read(&self) -> Result<Record, PlaceError> {
        self.place.record(self.start)
    }
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

    /// How often the settler took what was wanted before its turn.
    #[cfg(test)]
    pub(super) fn rounds(&self) -> u64 {
        self.lock().rounds
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

    /// The newest message that may be the one with this number of a device, of those before `before` if there is one.
    pub(super) fn sent(
        &self,
        convo: ConvoId,
        device: DeviceId,
        client_seq: ClientSeq,
        before: Option<Spot>,
    ) -> Option<(Spot, Pending)> {
        let inner = self.lock();
        let mut spots = inner.convos.get(&convo)?.sent(device, client_seq, inner.first, before);
        spots.find_map(|spot| Some((spot, inner.pending(spot)?)))
    }

    /// How many messages there are up to an entry that is not settled.
    pub(super) fn message_no(&self, convo: ConvoId, seq: Seq) -> Option<u64> {
        self.lock().convos.get(&convo)?.message_no(seq)
    }

    /// Whether all of a conversation is settled, so that its rows are exact.
    pub(super) fn is_settled(&self, convo: ConvoId) -> bool {
        self.lock().convos.get(&convo).is_none_or(Unsettled::is_settled)
    }

    /// Has all settled soon, whatever the load is: segments of the journal can go only then.
    pub(super) fn hurry(&self) {
        let mut inner = self.lock();
        inner.hurry = !inner.batches.is_empty();
        drop(inner);
        self.work.notify_one();
    }

    // --- reads ---

    /// Whether all that is not settled is settled in a moment.
    pub(super) fn is_short(&self) -> bool {
        self.lock().is_short(&self.limits)
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

    /// The records of a conversation below `until` whose rows are not there, in their order: whole commits of them, as long as
    /// `has_room` says so of those that were taken and their bytes. And whether these are all.
    pub(super) fn not_settled(
        &self,
        convo: ConvoId,
        until: Commit,
        mut has_room: impl FnMut(&Pending) -> bool,
    ) -> (Vec<Pending>, bool) {
        let inner = self.lock();
        let Some(found) = inner.convos.get(&convo) else { return (Vec::new(), true) };
        let spots = found.not_settled(inner.first).take_while(|spot| spot.commit < until);
        let mut taken = Vec::<Pending>::new();
        let mut is_full = false;
        for pending in spots.filter_map(|spot| inner.pending(spot)) {
            if is_full && taken.last().is_some_and(|last| last.commit < pending.commit) {
                return (taken, false);
            }
            is_full = !has_room(&pending);
            taken.push(pending);
        }
        (taken, true)
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

    /// What had failed has succeeded.
    pub(super) fn goes_on(&self) {
        self.lock().stuck = None;
        self.settled.send_modify(|settled| settled.stuck = None);
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
        let Unit { place, records, .. } = self.batches.get(at)?;
        let about_bytes = place.length() / (*records).max(1);
        Some(Pending { commit, place: place.clone(), start, about_bytes })
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
