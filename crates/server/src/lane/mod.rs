//! The way of everything durable: intents wait here, are appended in batches, and are handed to the hub.
//!
//! There are as many lanes as the store takes appends beside each other. A conversation has its lane, so its entries
//! come to the hub in their order.
//!
//! While one batch is being synced the next one gathers, and while a batch is handed to its readers the next
//! one is being synced: group commit without a timer.

mod queue;
mod under_way;

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tertulia_domain::hub::{Committed, Connection, Hub, Origin, encode};
use tertulia_domain::log::{Intent, Outcome, Position};
use tertulia_protocol::event::ServerEvent;
use tertulia_protocol::{ClientSeq, Code, ConvoId};
use tertulia_store::{Batch, Store, StoreError};
use tokio::sync::{Notify, oneshot};

use self::queue::{Gathered, Queue};
pub use self::under_way::Batches;
use crate::clock::Clock;
use crate::cluster::Outgoing;
use crate::metrics::Metrics;
use crate::outage::Outage;

/// What was heard from a connection and is to be appended.
pub struct Submission {
    /// What is to be appended.
    pub intent: Intent,
    /// The number that the client gave it, if it is a message.
    pub client_seq: Option<ClientSeq>,
    /// For a mark: whether its owner shows what he has read.
    pub shows_read: bool,
}

enum Reply {
    /// The connection that sent it; the hub tells it.
    Connection { connection: Arc<Connection>, convo: ConvoId, client_seq: Option<ClientSeq> },
    /// A call that waits. If it no longer does, what was stored is stored all the same.
    Call(oneshot::Sender<Result<Outcome, StoreError>>),
}

/// Submits intents; cheap to clone. When the last clone is gone, the lanes finish what waits and end.
#[derive(Clone)]
pub struct Lanes {
    door: Arc<Door>,
    store: Arc<dyn Store>,
    clock: Clock,
    batches: Arc<Batches>,
}

/// Closes the queues when the last [`Lanes`] are gone.
struct Door(Vec<Arc<Queue<Waiting>>>);

impl Drop for Door {
    fn drop(&mut self) {
        for queue in &self.0 {
            queue.close();
        }
    }
}

/// The other end of one lane: [`run`](LaneEnd::run) it.
pub struct LaneEnd {
    queue: Arc<Queue<Waiting>>,
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    /// Told when something did not come to the hub.
    repairs: Arc<Notify>,
    /// Where other nodes are told, and as which lane.
    outgoing: Option<Arc<Outgoing>>,
    number: usize,
    metrics: Arc<Metrics>,
    outage: Arc<Outage>,
    clock: Clock,
    batches: Arc<Batches>,
}

/// Makes the lanes into a store and out to a hub.
pub fn lanes(
    store: &Arc<dyn Store>,
    hub: &Arc<Hub>,
    repairs: &Arc<Notify>,
    outgoing: Option<&Arc<Outgoing>>,
    (metrics, outage): (&Arc<Metrics>, &Arc<Outage>),
    clock: &Clock,
) -> (Lanes, Vec<LaneEnd>) {
    let queues: Vec<_> = (0..store.lanes().get()).map(|_| Arc::new(Queue::new())).collect();
    let batches = Arc::new(Batches::new(queues.len()));
    let ends = queues.iter().enumerate().map(|(number, queue)| LaneEnd {
        queue: Arc::clone(queue),
        store: Arc::clone(store),
        hub: Arc::clone(hub),
        repairs: Arc::clone(repairs),
        outgoing: outgoing.cloned(),
        number,
        metrics: Arc::clone(metrics),
        outage: Arc::clone(outage),
        clock: clock.clone(),
        batches: Arc::clone(&batches),
    });
    let ends = ends.collect();
    let door = Arc::new(Door(queues));
    (Lanes { door, store: Arc::clone(store), clock: clock.clone(), batches }, ends)
}

impl Lanes {
    /// Submits, in this order, what was heard from a connection at this time; the hub answers it there. Waits while a queue
    /// is full.
    pub async fn submit(&self, connection: &Arc<Connection>, heard: &mut Vec<Submission>, at: Duration) {
        while let Some(first) = heard.first() {
            let lane = self.lane_of(&first.intent);
            let is_of_lane = |next: &&Submission| self.lane_of(&next.intent) == lane;
            let together = heard.iter().take_while(is_of_lane).count();
            let intents = heard.drain(..together).map(|Submission { intent, client_seq, shows_read }| {
                let connection = Arc::clone(connection);
                let reply = Reply::Connection { connection, convo: intent.convo(), client_seq };
                (intent, Waiting { reply, shows_read, at })
            });
            self.door.0[lane].push(intents).await;
        }
    }

    /// Appends an intent and waits for what comes of it.
    ///
    /// # Errors
    /// As [`Store::append`]: nobody knows whether it is stored.
    pub async fn append(&self, intent: Intent, shows_read: bool) -> Result<Outcome, StoreError> {
        let (sender, receiver) = oneshot::channel();
        let at = self.clock.monotonic();
        let waiting = Waiting { reply: Reply::Call(sender), shows_read, at };
        self.door.0[self.lane_of(&intent)].push([(intent, waiting)]).await;
        receiver.await.map_err(|_| StoreError::Closed)?
    }

    fn lane_of(&self, intent: &Intent) -> usize {
        if self.door.0.len() == 1 { 0 } else { self.store.lane_of(intent.convo()) }
    }

    /// What the lanes have at the store.
    pub fn batches(&self) -> Arc<Batches> {
        Arc::clone(&self.batches)
    }

    /// How many intents wait.
    pub fn depth(&self) -> usize {
        self.door.0.iter().map(|queue| queue.len()).sum()
    }
}

impl LaneEnd {
    /// Appends and hands over until all [`Lanes`] are gone and nothing waits.
    pub async fn run(self) {
        let store = Arc::clone(&self.store);
        let mut under_way = None;
        loop {
            let Some(batch) = under_way.take() else {
                let Some(gathered) = self.queue.wait().await else { return };
                under_way = Some(self.begin(store.as_ref(), gathered).await);
                continue;
            };
            let (result, waiting) = batch.finish().await;
            // What has gathered meanwhile is on its way to the disk while this batch goes to its readers.
            let gathered = self.queue.take();
            if !gathered.intents.is_empty() {
                under_way = Some(self.begin(store.as_ref(), gathered).await);
            }
            self.hand_over(result, waiting);
            self.batches.is_handed_over(self.number);
            if under_way.is_none()
                && store.is_sole_writer()
                && let Ok(horizon) = store.horizon().await
            {
                // Nothing committed is on its way to the hub: this lane is the only one that appends.
                self.hub.caught_up(horizon);
            }
        }
    }

    /// Hands a batch to the store, and does not wait for it.
    async fn begin<'s>(&self, store: &'s dyn Store, gathered: Gathered<Waiting>) -> UnderWay<'s> {
        let Gathered { intents, waiting } = gathered;
        self.batches.begins(self.number);
        let mut append = store.append(intents, self.clock.now());
        // The first poll is what hands it over, and fixes its place in the order.
        match futures_util::poll!(&mut append) {
            Poll::Ready(result) => UnderWay::Done(result, waiting),
            Poll::Pending => UnderWay::Pending(append, waiting),
        }
    }

    fn hand_over(&self, result: Result<Batch, StoreError>, waiting: Vec<Waiting>) {
        let batch = match result {
            Ok(batch) => batch,
            Err(error) => return self.hand_over_failure(&error, waiting),
        };
        if self.store.is_sole_writer()
            && let Some(commit) = batch.commit
        {
            self.hub.caught_up(Position::before(commit));
        }
        let pairs = batch.outcomes.iter().zip(&waiting);
        if self.hub.deliver(pairs.map(|(outcome, waiting)| waiting.committed(outcome))) {
            self.repairs.notify_one();
        }
        if let (Some(outgoing), Some(commit)) = (&self.outgoing, batch.commit) {
            let told = batch.outcomes.iter().zip(&waiting);
            outgoing.tell(self.number, commit, told.map(|(outcome, waiting)| (outcome, waiting.shows_read)));
        }
        let now = self.clock.monotonic();
        let is_sent = |outcome: &Outcome| matches!(outcome, Outcome::Appended { .. } | Outcome::Duplicate(_));
        let sent = batch.outcomes.iter().zip(&waiting).filter(|(outcome, _)| is_sent(outcome));
        self.metrics.acked(sent.map(|(_, waiting)| now.saturating_sub(waiting.at)));
        for (outcome, waiting) in batch.outcomes.into_iter().zip(waiting) {
            if let Reply::Call(sender) = waiting.reply {
                // Whoever asked may have gone; what is stored is stored.
                drop(sender.send(Ok(outcome)));
            }
        }
    }

    fn hand_over_failure(&self, error: &StoreError, waiting: Vec<Waiting>) {
        if let StoreError::Unavailable { reason, .. } = error {
            // Who called is answered elsewhere, and counted there.
            let told_here = |waiting: &&Waiting| matches!(waiting.reply, Reply::Connection { .. });
            self.outage.refused(waiting.iter().filter(told_here).count() as u64, reason);
        } else {
            tracing::error!(%error, intents = waiting.len(), "a batch could not be appended");
        }
        self.metrics.append_failed();
        for waiting in waiting {
            match waiting.reply {
                Reply::Call(sender) => drop(sender.send(Err(error.clone()))),
                Reply::Connection { connection, convo, client_seq } => {
                    let retry_after = match error {
                        StoreError::Unavailable { retry_after, .. } => *retry_after,
                        _ => Duration::from_secs(1),
                    };
                    let event = ServerEvent::Error {
                        code: Code::Unavailable,
                        detail: "the message could not be stored now; send it again with the same clientSeq"
                            .into(),
                        convo_id: Some(convo),
                        client_seq,
                        retry_after_ms: u64::try_from(retry_after.as_millis()).ok(),
                    };
                    connection.push(encode(&event));
                }
            }
        }
    }
}

/// Who waits for an intent that is to be appended.
struct Waiting {
    reply: Reply,
    /// For a mark: whether its owner shows what he has read.
    shows_read: bool,
    /// When it was heard, by the clock's monotonic time.
    at: Duration,
}

impl Waiting {
    fn committed<'a>(&'a self, outcome: &'a Outcome) -> Committed<'a> {
        let origin = match &self.reply {
            Reply::Connection { connection, convo, client_seq } => {
                Some(Origin { connection, convo: *convo, client_seq: *client_seq })
            }
            Reply::Call(_) => None,
        };
        Committed { outcome, origin, shows_read: self.shows_read }
    }
}

/// A batch that the store has.
enum UnderWay<'s> {
    Pending(BoxFuture<'s, Result<Batch, StoreError>>, Vec<Waiting>),
    Done(Result<Batch, StoreError>, Vec<Waiting>),
}

impl UnderWay<'_> {
    async fn finish(self) -> (Result<Batch, StoreError>, Vec<Waiting>) {
        match self {
            Self::Pending(append, waiting) => (append.await, waiting),
            Self::Done(result, waiting) => (result, waiting),
        }
    }
}
