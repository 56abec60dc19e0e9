//! A lane: a task with a connection of its own that appends what concerns its share of the conversations.
//!
//! It decides by what it remembers of a conversation, as the embedded writer does, and then says to PostgreSQL: write
//! this, if the conversation is still at the version that I know. Mostly it is, and a batch is one round trip. What is
//! not (another node wrote to it) is locked, brought up to date, decided and written in one transaction: two round trips
//! more. A batch with something that cannot be decided by memory alone goes that way at once.
//!
//! All calls that come while a batch is under way are the next batch.

mod group;
mod lookup;
mod plan;
mod rare;

#[cfg(test)]
pub(super) use plan::lock;

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tertulia_domain::log::{Commit, Intent, Outcome};
use tertulia_protocol::ConvoId;
use tokio::sync::{Notify, oneshot};

use self::group::{Cached, Group, Item};
use self::lookup::{Asks, FOLLOWED_MAX, Moment, look_up};
use self::plan::{Origin, Plan, Written};
use super::connect::{Connector, Session};
use super::epochs::Numbering;
use super::error::Failure;
use super::types::{RowExt as _, integer};
use crate::queue::{Call, Queue, Taken};
use crate::remembered::Remembered;
use crate::{AppendObserver, AppendStats, Batch, StoreError};

/// How many intents are decided together, unless one call has more. Each conversation among them is a lock in the memory
/// that PostgreSQL has for the locks of all: as it comes, for 6,400.
pub(super) const TOGETHER_MAX: usize = 500;
/// For how many batches a conversation is locked first after another node was found writing to it.
const CONTENDED: u8 = 3;
/// From how many members on a conversation is always locked first: what is decided by an old state is forgotten, and
/// this much is too much to load again.
const LARGE: usize = 5_000;
/// Up to how many members a conversation is read anew rather than followed.
const SMALL: usize = 64;
/// How long after the other nodes were told of a commit that is noted by itself, and when it is tried again.
const NOTE_AFTER: Duration = Duration::from_millis(20);
const NOTE_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The next number, which nobody has been told of anything by. Those go that nobody has used for long; a lane that was
/// only silent makes its row anew when it speaks.
const NUMBER: &str = "
    WITH gone AS (
        DELETE FROM published p WHERE p.commit_no > 0 AND p.at < clock_timestamp() - interval '1 day' AND NOT EXISTS (
            SELECT FROM journal j WHERE j.node = p.node AND j.lane = p.lane AND j.commit_no > p.commit_no)
    )
    INSERT INTO published (node, lane, commit_no) VALUES (nextval('node_numbers'), $1, 0) RETURNING node";
const NOTE: &str = "UPDATE published SET commit_no = $3, at = clock_timestamp()
    WHERE node = $1 AND lane = $2 AND commit_no < $3";

/// How often something is tried that another writer stood in the way of.
const TRIES_MAX: usize = 4;

/// What figures are made of.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) batches: AtomicU64,
    pub(super) round_trips: AtomicU64,
    /// Conversations that were not as they were remembered.
    pub(super) stale: AtomicU64,
    pub(super) on_append: Option<AppendObserver>,
}

/// The state of a lane; [`run`](Self::run) is its task.
pub(super) struct Lane {
    pub(super) queue: Arc<Queue>,
    pub(super) connector: Arc<Connector>,
    pub(super) numbering: Arc<Numbering>,
    pub(super) counts: Arc<Counts>,
    pub(super) lane: i32,
    told: Arc<Told>,
    /// Up to which commit it is noted that the other nodes were told.
    noted: u64,
    /// Which number its commits go by in the journal; a new one after a batch of which nobody knows whether it is
    /// stored: what is told later must not stand for that one too.
    node: Option<i32>,
    link: Option<Link>,
    known: Remembered<Cached>,
}

/// How far the other nodes have been told of a lane's commits.
#[derive(Default)]
pub(super) struct Told {
    commit: AtomicU64,
    more: Notify,
}

impl Told {
    pub(super) fn up_to(&self, commit: Commit) {
        self.commit.fetch_max(commit.get(), Ordering::Relaxed);
        self.more.notify_one();
    }
}

/// The connection of a lane.
struct Link {
    session: Session,
    base: i64,
}

/// A call, and where its intents stand among those of the batch.
struct Waiting {
    answer: oneshot::Sender<Result<Batch, StoreError>>,
    count: usize,
}

/// What came of an intent.
enum Answer {
    Told(Outcome, Option<Commit>),
    Failed(StoreError),
}

impl Lane {
    pub(super) fn new(
        queue: Arc<Queue>,
        connector: Arc<Connector>,
        numbering: Arc<Numbering>,
        counts: Arc<Counts>,
        told: Arc<Told>,
        lane: i32,
        weight_max: usize,
    ) -> Self {
        let known = Remembered::new(weight_max);
        Self { queue, connector, numbering, counts, lane, told, noted: 0, node: None, link: None, known }
    }

    /// Appends until the queue is closed and empty.
    pub(super) async fn run(mut self) {
        loop {
            match self.next().await {
                Taken::Calls(calls) => self.batch(calls).await,
                Taken::Nothing => {}
                Taken::Closed => return,
            }
        }
    }

    /// Waits for calls. When none comes for a while after the other nodes were told of the last, that is noted.
    async fn next(&mut self) -> Taken {
        let mut patience = NOTE_AFTER;
        loop {
            let is_more = self.told.commit.load(Ordering::Relaxed) > self.noted;
            let queue = Arc::clone(&self.queue);
            tokio::select! {
                biased;
                taken = queue.taken(TOGETHER_MAX) => return taken,
                () = tokio::time::sleep(patience), if is_more => {
                    if let Err(error) = self.note().await {
                        tracing::debug!(%error, "what was told to the other nodes is noted later");
                        patience = NOTE_AGAIN_AFTER;
                    }
                }
                () = self.told.more.notified(), if !is_more => {}
            }
        }
    }

    /// Notes how far the other nodes were told, by itself.
    async fn note(&mut self) -> Result<(), Failure> {
        let Some(node) = self.node else {
            // Nothing goes by its number: what was told before is another's to note.
            self.noted = self.told.commit.load(Ordering::Relaxed);
            return Ok(());
        };
        let (lane, told) = (self.lane, self.told.commit.load(Ordering::Relaxed));
        let link = self.link().await?;
        let noted = link.session.rows(NOTE, &[&node, &lane, &integer(told)]).await;
        self.settle(noted)?;
        self.noted = told;
        Ok(())
    }

    async fn batch(&mut self, calls: std::collections::VecDeque<Call>) {
        let (began, first) = (Instant::now(), calls.front().map(|call| call.arrived));
        let mut groups = Vec::<Group>::new();
        let mut places = HashMap::<ConvoId, usize>::new();
        let mut waiting = Vec::with_capacity(calls.len());
        let mut count = 0;
        for Call { intents, now, answer, .. } in calls {
            waiting.push(Waiting { answer, count: intents.len() });
            for intent in intents {
                let convo = intent.convo();
                let at = match places.entry(convo) {
                    Slot::Occupied(slot) => *slot.get(),
                    Slot::Vacant(slot) => {
                        groups.push(Group::new(convo));
                        *slot.insert(groups.len() - 1)
                    }
                };
                groups[at].items.push(Item { place: count, intent, now });
                count += 1;
            }
        }
        let mut answers: Vec<Option<Answer>> = (0..count).map(|_| None).collect();
        self.append(groups, &mut answers).await;
        self.known.end_batch(places.into_keys(), Cached::weight, |_| true);
        self.counts.batches.fetch_add(1, Ordering::Relaxed);
        let is_commit = |answer: &Option<Answer>| matches!(answer, Some(Answer::Told(_, Some(_))));
        if let Some(observer) = self.counts.on_append.as_ref().filter(|_| answers.iter().any(is_commit)) {
            let queued = first.map_or(Duration::ZERO, |first| began.saturating_duration_since(first));
            observer(AppendStats { intents: count, queued, commit: began.elapsed() });
        }
        let mut answers = answers.into_iter();
        for Waiting { answer, count } in waiting {
            // Whoever does not wait for his answer any more has none.
            let _ = answer.send(put_together(answers.by_ref().take(count)));
        }
    }

    /// Appends by memory; what other nodes have changed meanwhile, once more.
    async fn append(&mut self, groups: Vec<Group>, answers: &mut [Option<Answer>]) {
        // All in one transaction: where one has to be locked, all are.
        let is_free = groups.iter().all(|group| group.is_plain() && self.is_calm(group.convo));
        let (mut free, mut locked) = if is_free { (groups, Vec::new()) } else { (Vec::new(), groups) };
        if is_free {
            let appended = self.append_free(&mut free).await;
            self.roll_back().await;
            match appended {
                Ok(commit) => {
                    for group in free {
                        if group.was_stale {
                            locked.push(group);
                        } else {
                            tell(group, commit, answers);
                        }
                    }
                }
                // Somebody else has sent this: what was decided is taken back, and read.
                Err(failure) if failure.is_conflict() => {
                    for mut group in free {
                        self.known.forget([group.convo]);
                        group.restart();
                        locked.push(group);
                    }
                }
                Err(failure) => self.fail(free, &failure, answers),
            }
        }
        let mut tries = 0;
        while !locked.is_empty() {
            tries += 1;
            let appended = self.append_locked(&mut locked).await;
            self.roll_back().await;
            match appended {
                Ok(commit) => {
                    for group in locked {
                        tell(group, commit, answers);
                    }
                    return;
                }
                Err(failure) if failure.is_conflict() && tries < TRIES_MAX => {
                    for group in &mut locked {
                        self.known.forget([group.convo]);
                        group.restart();
                    }
                }
                Err(failure) => return self.fail(locked, &failure, answers),
            }
        }
    }

    /// Nobody knows what became of these.
    fn fail(&mut self, groups: Vec<Group>, failure: &Failure, answers: &mut [Option<Answer>]) {
        tracing::warn!(error = %failure, lane = self.lane, "a batch was not appended, or nobody knows");
        for group in groups {
            self.known.forget([group.convo]);
            for item in group.items {
                answers[item.place] = Some(Answer::Failed(failure.told()));
            }
        }
    }

    /// Whether a conversation is decided by memory: it is small enough to be loaded again, and no other node was found
    /// writing to it lately.
    fn is_calm(&mut self, convo: ConvoId) -> bool {
        self.known.get(convo).is_none_or(|cached| cached.contended == 0 && cached.members() < LARGE)
    }

    /// Decides by memory, and writes what is still so; the others are marked as stale.
    async fn append_free(&mut self, groups: &mut [Group]) -> Result<Option<Commit>, Failure> {
        let mut asks = Asks::default();
        for group in groups.iter_mut() {
            if !self.known.has(group.convo) {
                asks.load.push(group.convo);
                asks.highest.extend(group.devices().into_iter().map(|device| (group.convo, device)));
                group.is_fresh = true;
            }
        }
        if !asks.is_empty() {
            self.look_up(&asks, Moment::Snapshot, groups).await?;
        }
        self.decide(groups, Moment::Snapshot).await?;
        let mut plan = Plan::default();
        let mut planned = Vec::new();
        for (at, group) in groups.iter().enumerate() {
            // What was just read and is only answered needs no second look.
            if !group.is_fresh || group.records().next().is_some() {
                plan.add(group, known(&mut self.known, group.convo)?)?;
                planned.push(at);
            }
        }
        if plan.is_empty() {
            return Ok(None);
        }
        let written = self.write(&plan).await?;
        for (place, &at) in planned.iter().enumerate() {
            let group = &mut groups[at];
            if written.is_current.get(place) == Some(&true) {
                group.correct_marks(|receipt| plan.before(&written, place, receipt.user));
            } else {
                self.counts.stale.fetch_add(1, Ordering::Relaxed);
                self.known.forget([group.convo]);
                group.restart();
                group.was_stale = true;
            }
        }
        Ok(written.commit.map(|commit| Commit::new(commit.cast_unsigned())))
    }

    /// Locks, reads what is missing, decides and writes.
    async fn append_locked(&mut self, groups: &mut [Group]) -> Result<Option<Commit>, Failure> {
        let mut asks = Asks::default();
        for group in groups.iter_mut() {
            let cached = self.known.get(group.convo);
            match cached.filter(|cached| cached.members() > SMALL) {
                Some(cached) => {
                    asks.follow.push((group.convo, cached.last_seq()));
                    asks.settings.extend(group.items.iter().filter_map(|item| match item.intent {
                        Intent::SetOwn { convo, user, .. } => Some((convo, user)),
                        _ => None,
                    }));
                }
                None => {
                    asks.load.push(group.convo);
                    asks.highest.extend(group.devices().into_iter().map(|device| (group.convo, device)));
                }
            }
            group.is_fresh = true;
        }
        let locks = plan::locks(groups.iter().map(|group| group.convo));
        self.append_in_transaction(groups, &asks, &locks).await
    }

    async fn append_in_transaction(
        &mut self,
        groups: &mut [Group],
        asks: &Asks,
        locks: &[i64],
    ) -> Result<Option<Commit>, Failure> {
        self.look_up(asks, Moment::Locked(locks), groups).await?;
        self.decide(groups, Moment::StillLocked).await?;
        let mut plan = Plan::default();
        let mut planned = Vec::new();
        for (at, group) in groups.iter().enumerate() {
            if group.records().next().is_some() {
                plan.add(group, known(&mut self.known, group.convo)?)?;
                planned.push(at);
            }
        }
        if plan.is_empty() {
            self.finish().await?;
            return Ok(None);
        }
        let written = self.write_and_commit(&plan).await?;
        if written.is_current.contains(&false) {
            return Err(Failure::Row("a conversation has changed while it was locked".into()));
        }
        for (place, &at) in planned.iter().enumerate() {
            groups[at].correct_marks(|receipt| plan.before(&written, place, receipt.user));
        }
        Ok(written.commit.map(|commit| Commit::new(commit.cast_unsigned())))
    }

    /// Decides all groups; what they ask is looked up for all together.
    async fn decide(&mut self, groups: &mut [Group], moment: Moment<'_>) -> Result<(), Failure> {
        loop {
            let mut asks = Asks::default();
            for group in groups.iter_mut() {
                group.decide(known(&mut self.known, group.convo)?, &mut asks);
            }
            if asks.is_empty() {
                return Ok(());
            }
            self.look_up(&asks, moment, groups).await?;
        }
    }

    async fn look_up(
        &mut self,
        asks: &Asks,
        moment: Moment<'_>,
        groups: &mut [Group],
    ) -> Result<(), Failure> {
        self.count_round_trip();
        let link = match moment {
            Moment::StillLocked => self.locked()?,
            Moment::Snapshot | Moment::Locked(_) => self.link().await?,
        };
        let answers = look_up(&link.session, asks, moment).await;
        let mut answers = self.settle(answers)?;
        for &convo in &asks.load {
            let (convo_is, version) = answers.loaded(convo);
            let contended =
                groups.iter().any(|group| group.convo == convo && group.was_stale).then_some(CONTENDED);
            let contended = contended
                .unwrap_or_else(|| self.known.get(convo).map_or(0, |cached| calmer(cached, version)));
            self.known.learn(convo, Cached { convo: convo_is, version, contended });
        }
        let mut again = Asks::default();
        for &(convo, _) in &asks.follow {
            let version = answers.summaries.remove(&convo).map_or(0, |(_, version)| version);
            let entries = answers.entries.remove(&convo).unwrap_or_default();
            let cached = known(&mut self.known, convo)?;
            cached.contended = calmer(cached, version);
            let is_whole = entries.len() < usize::try_from(FOLLOWED_MAX).unwrap_or(usize::MAX);
            let expected = cached.version + i64::try_from(entries.len()).unwrap_or(i64::MAX);
            match &mut cached.convo {
                // Versions move with entries; only in direct conversations, which are small, with blocks too.
                Some(state) if is_whole && version == expected => {
                    for ((entry, _), device) in &entries {
                        state.follow(entry, *device);
                    }
                    cached.version = version;
                }
                _ => {
                    again.load.push(convo);
                    let devices = groups.iter().filter(|group| group.convo == convo).flat_map(Group::devices);
                    again.highest.extend(devices.map(|device| (convo, device)));
                }
            }
        }
        for (convo, user, settings) in answers.settings {
            if let Some(state) = &mut known(&mut self.known, convo)?.convo {
                state.learn_settings(user, settings);
            }
        }
        for (convo, device, highest) in answers.highest {
            if let Some(state) = &mut known(&mut self.known, convo)?.convo {
                state.learn_highest_sent(device, highest);
            }
        }
        let group_of = |groups: &mut [Group], convo| groups.iter_mut().position(|group| group.convo == convo);
        for ((convo, ..), found) in answers.sent {
            if let Some(at) = group_of(groups, convo) {
                groups[at].learn_sent(found.map(|(entry, _)| entry));
            }
        }
        for (convo, number) in answers.numbers {
            if let Some(at) = group_of(groups, convo) {
                groups[at].learn_message_no(number);
            }
        }
        if again.is_empty() {
            return Ok(());
        }
        // Of what was to be followed, and cannot be.
        Box::pin(self.look_up(&again, Moment::StillLocked, groups)).await
    }

    /// Writes in one round trip, which is a transaction by itself.
    async fn write(&mut self, plan: &Plan) -> Result<Written, Failure> {
        self.count_round_trip();
        self.link().await?;
        let origin = self.origin()?;
        let link = self.link.as_ref().ok_or_else(lost)?;
        let written = plan.write(&link.session, origin).await;
        self.settle_write(origin, written)
    }

    /// Writes and commits in one round trip.
    async fn write_and_commit(&mut self, plan: &Plan) -> Result<Written, Failure> {
        self.count_round_trip();
        let origin = self.origin()?;
        let session = &self.locked()?.session;
        let written = tokio::try_join!(
            biased;
            plan.rare.begin(session),
            plan.write(session, origin),
            plan.rare.write(session, origin.base),
            session.run("COMMIT")
        );
        self.settle_write(origin, written.map(|((), written, (), ())| written))
    }

    /// Passes on how a write went; if nobody knows, what it may have left is no longer this lane's.
    fn settle_write(
        &mut self,
        origin: Origin,
        written: Result<Written, Failure>,
    ) -> Result<Written, Failure> {
        match &written {
            Ok(_) => self.noted = origin.published.cast_unsigned(),
            Err(failure) if failure.breaks_connection() => self.node = None,
            Err(_) => {}
        }
        self.settle(written)
    }

    /// Ends a transaction that writes nothing.
    async fn finish(&mut self) -> Result<(), Failure> {
        self.count_round_trip();
        let finished = self.locked()?.session.run("COMMIT").await;
        self.settle(finished)
    }

    /// Whose batch it is that goes out on the connection.
    fn origin(&self) -> Result<Origin, Failure> {
        let (lane, published) = (self.lane, integer(self.told.commit.load(Ordering::Relaxed)));
        let (Some(link), Some(node)) = (&self.link, self.node) else { return Err(lost()) };
        Ok(Origin { base: link.base, node, lane, published })
    }

    /// The connection on which a transaction was begun. If that is broken, so are the locks.
    fn locked(&self) -> Result<&Link, Failure> {
        self.link.as_ref().filter(|link| link.session.is_in_transaction()).ok_or_else(lost)
    }

    /// The connection, made anew if it is broken.
    async fn link(&mut self) -> Result<&Link, Failure> {
        if self.link.as_ref().is_none_or(|link| link.session.is_closed()) {
            self.link = None;
            let session = self.connector.connect().await?;
            let base = self.numbering.base(&session).await?;
            // Those that are polled together go out in their order only if none has to be prepared first.
            let own = [plan::APPEND, NUMBER, NOTE];
            let statements = lookup::STATEMENTS.into_iter().chain(rare::STATEMENTS).chain(own);
            session.prepare(&statements.collect::<Vec<_>>()).await?;
            if self.node.is_none() {
                // Outside of any transaction: a number that is in use is there to be found.
                let row = session.row(NUMBER, &[&self.lane]).await?;
                let row = row.ok_or_else(|| Failure::Row("no number for this lane".into()))?;
                self.node = Some(row.value(0)?);
            }
            self.link = Some(Link { session, base });
        }
        self.link.as_ref().ok_or_else(lost)
    }

    /// Passes on how something went; what breaks the connection, ends it.
    fn settle<T>(&mut self, result: Result<T, Failure>) -> Result<T, Failure> {
        if result.as_ref().is_err_and(Failure::breaks_connection) {
            self.link = None;
        }
        result
    }

    /// Ends what a failure has left of a transaction.
    async fn roll_back(&mut self) {
        let Some(link) = self.link.as_ref().filter(|link| link.session.is_in_transaction()) else { return };
        if link.session.run("ROLLBACK").await.is_err() {
            self.link = None;
        }
    }

    fn count_round_trip(&self) {
        self.counts.round_trips.fetch_add(1, Ordering::Relaxed);
    }
}

/// The connection went in the middle of something.
fn lost() -> Failure {
    Failure::Down { reason: "the connection was lost".into(), retry_after: NOTE_AFTER }
}

/// What is remembered of a conversation that was looked up before.
fn known(known: &mut Remembered<Cached>, convo: ConvoId) -> Result<&mut Cached, Failure> {
    known.get(convo).ok_or_else(|| Failure::Row("a conversation was lost in memory".into()))
}

/// For how many more batches a conversation is locked first, found at this version.
const fn calmer(cached: &Cached, version: i64) -> u8 {
    if cached.version == version { cached.contended.saturating_sub(1) } else { CONTENDED }
}

fn tell(group: Group, commit: Option<Commit>, answers: &mut [Option<Answer>]) {
    for decided in group.decisions {
        let commit = commit.filter(|_| decided.record.is_some());
        answers[decided.place] = Some(Answer::Told(decided.outcome, commit));
    }
}

/// The answer to a call whose intents were answered so.
fn put_together(answers: impl Iterator<Item = Option<Answer>>) -> Result<Batch, StoreError> {
    let mut batch = Batch { commit: None, outcomes: Vec::new() };
    for answer in answers {
        match answer {
            Some(Answer::Told(outcome, commit)) => {
                batch.outcomes.push(outcome);
                batch.commit = batch.commit.max(commit);
            }
            Some(Answer::Failed(error)) => return Err(error),
            None => return Err(StoreError::Damaged("an intent was not answered".into())),
        }
    }
    Ok(batch)
}
