//! The port, answered.

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::join_all;
use tertulia_domain::log::{Change, Commit, Head, HistorySlice, Intent, Missed, Position};
use tertulia_protocol::rest::Conversation;
use tertulia_protocol::{ConvoId, Seq, Timestamp, UserId};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::connect::{Connector, Session};
use super::epochs::Numbering;
use super::error::{Failure, OpenError};
use super::lane::{Counts, Lane, TOGETHER_MAX, Told};
use super::migrate::{MIGRATIONS, migrate};
use super::options::PostgresOptions;
use super::pool::Pool;
use super::reads::{changes, conversation, feed, history, leftovers, members};
use super::types::RowExt as _;
use crate::queue::{Call, Queue};
use crate::{
    Batch, InboxPage, JournalRow, Leftover, Logged, MemberPage, ReceiptPage, Slice, Store, StoreError,
    Touched,
};

/// A node's way to the conversations that all nodes share: see the [module](super).
///
/// Dropped without [`close`](Store::close) it stops where it is, as by a crash.
pub struct Postgres {
    lanes: Vec<LaneDoor>,
    /// Empty once it is closed.
    tasks: Mutex<Vec<JoinHandle<()>>>,
    pool: Pool,
    /// For what all who are here wait for together: it stands behind no reads of those who come back by the thousand.
    urgent: Pool,
    numbering: Arc<Numbering>,
    counts: Arc<Counts>,
}

/// How many locks the server has room for, of all connections together.
const LOCKS: &str = "SELECT current_setting('max_locks_per_transaction')::bigint
    * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint)";

/// Urgent reads at a time: how far the nodes are, and what did not come to this one.
const URGENT: usize = 2;

/// What a lane is reached by.
struct LaneDoor {
    queue: Arc<Queue>,
    told: Arc<Told>,
}

impl Postgres {
    /// Opens the database, and makes its tables or brings them up to date.
    ///
    /// # Errors
    /// The database does not answer, or is not one that the service can use; see [`OpenError`].
    pub async fn open(url: &str, options: &PostgresOptions) -> Result<Arc<Self>, OpenError> {
        let connector = Arc::new(Connector::new(url, options)?);
        let pool = Pool::new(Arc::clone(&connector), options.readers, options.wait_max);
        let urgent = Pool::new(Arc::clone(&connector), URGENT, options.wait_max);
        let session = pool.lend().await?;
        session.check().await?;
        say_if_few_locks(&session, options.lanes).await?;
        migrate(&session, MIGRATIONS).await?;
        let numbering = Arc::new(Numbering::open(&session).await?);
        let count = i32::try_from(options.lanes.get()).unwrap_or(i32::MAX);
        drop(session);
        let counts = Arc::new(Counts { on_append: options.on_append.clone(), ..Counts::default() });
        let (mut lanes, mut tasks) = (Vec::new(), Vec::new());
        for lane in 0..count {
            let queue = Arc::new(Queue::new(options.queue_intents_max, options.queue_bytes_max));
            let told = Arc::<Told>::default();
            let weight_max = options.conversations_weight_max / options.lanes;
            let lane = Lane::new(
                Arc::clone(&queue),
                Arc::clone(&connector),
                Arc::clone(&numbering),
                Arc::clone(&counts),
                Arc::clone(&told),
                lane,
                weight_max,
            );
            lanes.push(LaneDoor { queue, told });
            tasks.push(tokio::spawn(lane.run()));
        }
        Ok(Arc::new(Self { lanes, tasks: Mutex::new(tasks), pool, urgent, numbering, counts }))
    }

    fn take_tasks(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Appends what is all of one lane.
    async fn append_in(
        &self,
        lane: usize,
        intents: Vec<Intent>,
        now: Timestamp,
    ) -> Result<Batch, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.lanes[lane].queue.push(Call { intents, now, arrived: Instant::now(), answer }).await?;
        // Without an answer the lane is gone: it was closed meanwhile, or it has panicked.
        answered.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// Says for how many nodes the server has room, if they are few: beyond it full batches would be refused.
async fn say_if_few_locks(session: &Session, lanes: NonZeroUsize) -> Result<(), OpenError> {
    let row = session.row(LOCKS, &[]).await?.ok_or_else(|| Failure::Row("no settings".into()))?;
    let (room, of_a_node) = (row.count(0)?, (lanes.get() * TOGETHER_MAX) as u64);
    match room / of_a_node {
        nodes @ 0..2 => tracing::warn!(
            "PostgreSQL has room for {room} locks, and a node with full batches takes {of_a_node}: that is enough for \
             {nodes}; set max_locks_per_transaction there, say to 256"
        ),
        nodes @ 2..8 => tracing::info!(
            "PostgreSQL has room for the locks of {nodes} nodes with full batches; for more, set \
             max_locks_per_transaction there, say to 256"
        ),
        _ => {}
    }
    Ok(())
}

impl Drop for Postgres {
    fn drop(&mut self) {
        for LaneDoor { queue, .. } in &self.lanes {
            queue.abandon();
        }
        for task in self.take_tasks() {
            task.abort();
        }
    }
}

#[async_trait]
impl Store for Postgres {
    async fn append(&self, intents: Vec<Intent>, now: Timestamp) -> Result<Batch, StoreError> {
        let lane = |intent: &Intent| self.lane_of(intent.convo());
        let Some(first) = intents.first().map(lane) else {
            return Ok(Batch { commit: None, outcomes: Vec::new() });
        };
        if intents.iter().all(|intent| lane(intent) == first) {
            return self.append_in(first, intents, now).await;
        }
        // Of several lanes: beside each other, and put together again.
        let count = intents.len();
        let mut split = vec![(Vec::new(), Vec::new()); self.lanes.len()];
        for (place, intent) in intents.into_iter().enumerate() {
            let (places, intents) = &mut split[lane(&intent)];
            places.push(place);
            intents.push(intent);
        }
        let parts = split.into_iter().enumerate().filter(|(_, (places, _))| !places.is_empty());
        let parts =
            parts.map(async |(lane, (places, intents))| (places, self.append_in(lane, intents, now).await));
        let (mut outcomes, mut commit) = (vec![None; count], None::<Commit>);
        for (places, part) in join_all(parts).await {
            let part = part?;
            commit = commit.max(part.commit);
            for (place, outcome) in places.into_iter().zip(part.outcomes) {
                outcomes[place] = Some(outcome);
            }
        }
        Ok(Batch { commit, outcomes: outcomes.into_iter().flatten().collect() })
    }

    fn lanes(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.lanes.len()).unwrap_or(NonZeroUsize::MIN)
    }

    fn is_sole_writer(&self) -> bool {
        false
    }

    async fn horizon(&self) -> Result<Position, StoreError> {
        Ok(Position::before(self.numbering.horizon(&self.urgent).await?))
    }

    fn position(&self, position: Position) -> String {
        self.numbering.position(position.of_part(0))
    }

    async fn parse_position(&self, position: &str) -> Result<Option<Position>, StoreError> {
        Ok(self.numbering.parse(&self.pool, position).await?.map(Position::before))
    }

    async fn history(
        &self,
        user: UserId,
        convo: ConvoId,
        slice: Slice,
        limit: usize,
    ) -> Result<Option<HistorySlice>, StoreError> {
        Ok(history::read(&self.pool, user, convo, slice, limit).await?)
    }

    async fn entries(&self, convo: ConvoId, from: Seq, limit: usize) -> Result<Vec<Logged>, StoreError> {
        Ok(history::entries(&self.urgent, convo, from, limit).await?)
    }

    async fn member_changes(&self, among: &[Touched]) -> Result<Vec<Logged>, StoreError> {
        if among.is_empty() {
            return Ok(Vec::new());
        }
        Ok(history::member_changes(&self.urgent, among).await?)
    }

    async fn ranges(&self, ranges: &[Touched]) -> Result<Vec<Vec<Logged>>, StoreError> {
        Ok(history::ranges(&self.pool, ranges).await?)
    }

    async fn conversation(&self, user: UserId, convo: ConvoId) -> Result<Option<Conversation>, StoreError> {
        Ok(conversation::read(&self.pool, user, convo).await?)
    }

    async fn inbox(&self, user: UserId, cursor: Option<&str>, limit: usize) -> Result<InboxPage, StoreError> {
        conversation::inbox(&self.pool, user, cursor, limit).await
    }

    async fn members(
        &self,
        user: UserId,
        convo: ConvoId,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Option<MemberPage>, StoreError> {
        members::read(&self.pool, user, convo, cursor, limit).await
    }

    async fn message_receipts(
        &self,
        user: UserId,
        convo: ConvoId,
        seq: Seq,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Option<ReceiptPage>, StoreError> {
        members::receipts(&self.pool, (user, convo, seq), cursor, limit).await
    }

    async fn heads(&self, user: UserId) -> Result<Vec<Head>, StoreError> {
        Ok(conversation::heads(&self.pool, user).await?)
    }

    async fn changes(
        &self,
        user: UserId,
        since: Position,
        only: Option<ConvoId>,
    ) -> Result<Vec<Change>, StoreError> {
        Ok(changes::read(&self.pool, user, since.of_part(0), only, 0).await?.changes)
    }

    async fn missed(&self, user: UserId, since: Position, entries_max: usize) -> Result<Missed, StoreError> {
        Ok(changes::read(&self.pool, user, since.of_part(0), None, entries_max).await?)
    }

    async fn sharing(&self, user: UserId, others: &[UserId]) -> Result<Vec<UserId>, StoreError> {
        Ok(conversation::sharing(&self.pool, user, others).await?)
    }

    async fn visible_from(
        &self,
        user: UserId,
        only: Option<ConvoId>,
    ) -> Result<Vec<(ConvoId, Seq)>, StoreError> {
        Ok(feed::visible_from(&self.pool, user, only).await?)
    }

    async fn journal(&self, since: Position, limit: usize) -> Result<Option<Vec<JournalRow>>, StoreError> {
        Ok(feed::journal(&self.pool, since.of_part(0), limit).await?)
    }

    async fn forget_journal(&self, before: Position) -> Result<(), StoreError> {
        Ok(feed::forget_journal(&self.pool, before.of_part(0)).await?)
    }

    async fn logs(&self, after: Option<ConvoId>, limit: usize) -> Result<Vec<(ConvoId, Seq)>, StoreError> {
        Ok(feed::logs(&self.pool, after, limit).await?)
    }

    fn published(&self, lane: usize, commit: Commit) {
        if let Some(lane) = self.lanes.get(lane) {
            lane.told.up_to(commit);
        }
    }

    async fn ceiling(&self) -> Result<Position, StoreError> {
        Ok(Position::before(self.numbering.ceiling(&self.urgent).await?))
    }

    async fn barrier_horizon(&self) -> Result<Position, StoreError> {
        Ok(Position::before(self.numbering.barrier(&self.urgent).await?))
    }

    async fn unpublished(&self, longer_than: Duration, limit: usize) -> Result<Vec<Leftover>, StoreError> {
        Ok(leftovers::read(&self.urgent, longer_than, limit).await?)
    }

    async fn take_over(&self, leftovers: &[Leftover]) -> Result<(), StoreError> {
        Ok(leftovers::take_over(&self.urgent, leftovers).await?)
    }

    fn figures(&self) -> Vec<(&'static str, f64)> {
        let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed) as f64;
        let depth: usize = self.lanes.iter().map(|lane| lane.queue.depth()).sum();
        vec![
            ("store_append_queue_intents", depth as f64),
            ("store_batches", count(&self.counts.batches)),
            ("store_round_trips", count(&self.counts.round_trips)),
            ("store_stale_conversations", count(&self.counts.stale)),
        ]
    }

    async fn close(&self) {
        for LaneDoor { queue, .. } in &self.lanes {
            queue.close();
        }
        for task in self.take_tasks() {
            if task.await.is_err_and(|error| error.is_panic()) {
                tracing::error!("a lane had panicked");
            }
        }
        self.pool.close().await;
        self.urgent.close().await;
    }
}
