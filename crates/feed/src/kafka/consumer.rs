//! A member of a consumer group, and the thread that polls for it.
//!
//! The thread polls all the time, whatever whoever reads is at: so the group knows that it is alive, and nobody waits for
//! it. What comes lies on the shelf; when a partition has much there, it is paused.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message as _;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset as Stored, TopicPartitionList};

use super::begin::{self, FOUNDER, Seen};
use super::record::Record;
use super::shelf::{Shelf, Taken};
use super::{config, said, unavailable};
use crate::port::FeedError;
use crate::target::KafkaTarget;

/// How long one poll waits; no longer may it take until somebody who stops is heard.
const POLL: Duration = Duration::from_millis(100);
/// How long the brokers may take to say where a group is.
const ASK_MAX: Duration = Duration::from_secs(5);
/// How long a partition that goes to somebody else waits for what the reader is at.
const HAND_OVER_MAX: Duration = Duration::from_secs(10);
/// How long after an error the next poll is.
const AFTER_ERROR: Duration = Duration::from_millis(200);
/// How often to look where this reader begins, as long as that is not known.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a consumer that is new waits for the first word of whoever publishes.
const EARLY_MAX: Duration = Duration::from_secs(10);

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

    /// Notes what was taken, some of it for the group within a second, some at once.
    pub(super) fn note(&self, taken: &Taken) {
        let soon = taken.soon.iter().map(|offset| (offset.partition, offset.next));
        let noted =
            if taken.soon.is_empty() { Ok(()) } else { self.consumer.store_offsets(&self.places(soon)) };
        if let Err(error) = noted {
            // A partition is another's by now: that one is told it again.
            tracing::debug!(%error, "what was taken is not noted");
        }
        self.note_now(&taken.now);
    }

    fn note_now(&self, places: &[(i32, i64)]) {
        if places.is_empty() {
            return;
        }
        if let Err(error) = self.consumer.commit(&self.places(places.iter().copied()), CommitMode::Async) {
            // It is looked whether it is there, and tried again.
            tracing::debug!(%error, "where a consumer begins is not noted");
        }
    }

    fn places(&self, places: impl Iterator<Item = (i32, i64)>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (partition, next) in places {
            // It is not in the list yet.
            let _ = list.add_partition_offset(&self.topic, partition, Stored::Offset(next));
        }
        list
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for &partition in partitions {
            list.add_partition(&self.topic, partition);
        }
        list
    }

    /// Polls until nobody reads any more.
    pub(super) fn poll(&self) {
        let begun = Instant::now();
        let mut look_at = begun;
        while !self.shared.state().left {
            if Instant::now() >= look_at {
                if let Err(error) = self.look_where_it_begins(begun) {
                    self.failed(&error);
                }
                look_at = Instant::now() + LOOK_EVERY;
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

    /// Where this reader begins in partitions that are new here.
    fn look_where_it_begins(&self, begun: Instant) -> KafkaResult<()> {
        let unknown = self.shared.state().shelf.unknown();
        if unknown.is_empty() {
            return Ok(());
        }
        let until = Instant::now() + ASK_MAX;
        let left = || until.saturating_duration_since(Instant::now());
        let is_founder = unknown.contains(&FOUNDER);
        let mut asked = unknown.clone();
        if is_founder {
            asked = self.partitions(left())?;
        } else {
            asked.push(FOUNDER);
        }
        let noted = self.consumer.committed_offsets(self.list(&asked), left())?;
        let noted = |partition| match noted.find_partition(&self.topic, partition)?.offset() {
            Stored::Offset(offset) => Some(offset),
            _ => None,
        };
        let is_founded = noted(FOUNDER).is_some();

        let mut seen = BTreeMap::new();
        for partition in asked {
            let noted = noted(partition);
            if unknown.contains(&partition) || (is_founder && noted.is_none()) {
                let (first, end) = self.consumer.fetch_watermarks(&self.topic, partition, left())?;
                seen.insert(partition, Seen { noted, first, end });
            }
        }
        let is_early = begun.elapsed() < EARLY_MAX;
        let mut again = Vec::new();
        let mut state = self.shared.state();
        for partition in unknown {
            if let Some(found) = begin::find(partition, &seen, is_founded, is_early) {
                again.extend(state.shelf.found(partition, found));
            }
        }
        drop(state);
        self.note_now(&again);
        Ok(())
    }

    /// All partitions of the topic.
    fn partitions(&self, wait_max: Duration) -> KafkaResult<Vec<i32>> {
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), wait_max)?;
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        Ok(partitions.map(|partition| partition.id()).collect())
    }

    /// Fetches no more of what lies here in heaps, and again of what does no longer.
    fn make_room(&self) {
        let (full, free) = self.shared.state().shelf.rooms();
        let mut done = Ok(());
        if !full.is_empty() {
            done = self.consumer.pause(&self.list(&full));
        }
        if !free.is_empty() {
            done = done.and(self.consumer.resume(&self.list(&free)));
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
