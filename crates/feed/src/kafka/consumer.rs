//! A member of a consumer group, and the thread that polls for it.
//!
//! The thread polls all the time, whatever whoever reads is at: so the group knows that it is alive, and nobody waits for
//! it. What comes lies on the shelf; when a partition has much there, it is paused.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message as _;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset as Stored, TopicPartitionList};

use super::record::Record;
use super::shelf::{Found, Shelf};
use super::{config, said, unavailable};
use crate::port::{FeedError, Offset};
use crate::target::KafkaTarget;

/// How long one poll waits; no longer may it take until somebody who stops is heard.
const POLL: Duration = Duration::from_millis(100);
/// How long the brokers may take to say where a group is.
const ASK_MAX: Duration = Duration::from_secs(5);
/// How long a partition that goes to somebody else waits for what the reader is at.
const HAND_OVER_MAX: Duration = Duration::from_secs(10);
/// How long after an error the next poll is.
const AFTER_ERROR: Duration = Duration::from_millis(200);

/// What the thread, the callbacks and the reader share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Told when something was called taken, or nobody reads any more.
    taken: Condvar,
}

/// See [`Shared`].
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) shelf: Shelf,
    /// What went wrong last, until somebody asks.
    pub(super) failed: Option<FeedError>,
    /// Nobody reads any more.
    pub(super) left: bool,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Each use is one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self) {
        self.taken.notify_all();
    }

    /// Waits until the reader is at none of these partitions, but not for long.
    fn hand_over(&self, partitions: &[i32]) {
        let mut state = self.state();
        partitions.iter().for_each(|&partition| state.shelf.withdraw(partition));
        let is_in_hand = |state: &mut State| {
            !state.left && partitions.iter().any(|&partition| state.shelf.is_in_hand(partition))
        };
        let waited = self.taken.wait_timeout_while(state, HAND_OVER_MAX, is_in_hand);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            tracing::warn!("what this node is at takes long: another node will be told some of it again");
        }
        partitions.iter().for_each(|&partition| state.shelf.revoke(partition));
    }
}

/// What librdkafka calls, on the thread that polls.
pub(super) struct Context {
    shared: Arc<Shared>,
    topic: String,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        said(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }

    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&self.topic) else { return };
        let mut state = self.shared.state();
        for (&partition, said) in &topic.partitions {
            state.shelf.ends(partition, said.hi_offset);
        }
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => {
                let partitions = partitions(list);
                tracing::info!(?partitions, "follows partitions of the feed");
                let mut state = self.shared.state();
                partitions.iter().for_each(|&partition| state.shelf.assign(partition));
            }
            Rebalance::Revoke(list) => {
                let partitions = partitions(list);
                tracing::info!(?partitions, "follows partitions of the feed no longer");
                self.shared.hand_over(&partitions);
            }
            Rebalance::Error(error) => {
                tracing::warn!(%error, "the group of a consumer cannot share its work");
            }
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            // What was taken meanwhile may be told again.
            tracing::debug!(%error, "could not note what was taken");
        }
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<i32> {
    list.elements().iter().map(|element| element.partition()).collect()
}

/// A member of a consumer group.
pub(super) struct Member {
    consumer: BaseConsumer<Context>,
    shared: Arc<Shared>,
    topic: String,
}

impl Member {
    /// Begins to become one; it is when it is polled.
    pub(super) fn join(
        target: &KafkaTarget,
        name: &str,
        group: &str,
        shared: Arc<Shared>,
    ) -> Result<Self, FeedError> {
        let mut config = config(target, name);
        config
            .set("group.id", group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            // Whoever dies is found out after this.
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "2000")
            // What was called taken is noted, in the background.
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("topic.metadata.refresh.interval.ms", "30000")
            .set("queued.min.messages", "2000")
            .set("queued.max.messages.kbytes", "2048")
            .set("statistics.interval.ms", "1000");
        let context = Context { shared: Arc::clone(&shared), topic: target.topic.clone() };
        let consumer = BaseConsumer::from_config_and_context(&config, context);
        let consumer = consumer.map_err(|error| unavailable(&error))?;
        consumer.subscribe(&[&target.topic]).map_err(|error| unavailable(&error))?;
        Ok(Self { consumer, shared, topic: target.topic.clone() })
    }

    /// Notes what was taken; the group is told within a second.
    pub(super) fn store(&self, offsets: &[Offset]) {
        let mut list = TopicPartitionList::new();
        for &Offset { partition, next, .. } in offsets {
            // It is not in the list yet.
            let _ = list.add_partition_offset(&self.topic, partition, Stored::Offset(next));
        }
        if let Err(error) = self.consumer.store_offsets(&list) {
            // A partition is another's by now: that one is told it again.
            tracing::debug!(%error, "what was taken is not noted");
        }
    }

    /// Polls until nobody reads any more.
    pub(super) fn poll(&self) {
        while !self.shared.state().left {
            if let Err(error) = self.look_where_it_begins() {
                self.failed(&error);
                std::thread::sleep(AFTER_ERROR);
                continue;
            }
            match self.consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) => {
                    let record = Record::parse(message.key(), message.payload());
                    let mut state = self.shared.state();
                    state.failed = None;
                    let (partition, offset) = (message.partition(), message.offset());
                    state.shelf.put(partition, offset, message.timestamp().to_millis(), record);
                }
                Some(Err(error)) => {
                    self.failed(&error);
                    std::thread::sleep(AFTER_ERROR);
                }
            }
            self.make_room();
        }
    }

    /// Where the group is in partitions that are new here.
    fn look_where_it_begins(&self) -> KafkaResult<()> {
        let unknown = self.shared.state().shelf.unknown();
        if unknown.is_empty() {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        for &partition in &unknown {
            list.add_partition(&self.topic, partition);
        }
        let begun = Instant::now();
        let committed = self.consumer.committed_offsets(list, ASK_MAX)?;
        let mut found = Vec::with_capacity(unknown.len());
        for partition in unknown {
            let left = ASK_MAX.saturating_sub(begun.elapsed());
            let (first, end) = self.consumer.fetch_watermarks(&self.topic, partition, left)?;
            let committed = committed.find_partition(&self.topic, partition);
            let committed = committed.and_then(|element| match element.offset() {
                Stored::Offset(offset) => Some(offset),
                _ => None,
            });
            found.push((partition, Found { committed, first, end }));
        }
        // At once: what is missed in several of them is told once.
        let mut state = self.shared.state();
        found.into_iter().for_each(|(partition, found)| state.shelf.found(partition, found));
        Ok(())
    }

    /// Fetches no more of what lies here in heaps, and again of what does no longer.
    fn make_room(&self) {
        let (full, free) = self.shared.state().shelf.rooms();
        let list = |partitions: &[i32]| {
            let mut list = TopicPartitionList::new();
            for &partition in partitions {
                list.add_partition(&self.topic, partition);
            }
            list
        };
        let mut done = Ok(());
        if !full.is_empty() {
            done = self.consumer.pause(&list(&full));
        }
        if !free.is_empty() {
            done = done.and(self.consumer.resume(&list(&free)));
        }
        if let Err(error) = done {
            // Of a partition that is another's by now.
            tracing::debug!(%error, "cannot pause or resume");
        }
    }

    fn failed(&self, error: &KafkaError) {
        tracing::debug!(%error, "the feed cannot be read now");
        self.shared.state().failed = Some(unavailable(error));
    }
}
