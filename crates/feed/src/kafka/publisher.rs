//! Publishes what has come.
//!
//! An idempotent producer without a time limit: within its life records are written once and in order, however often it
//! has to try. When something fails for good, or somebody does not wait for it to end, it is let go of, and all that was
//! not acknowledged is published again by the next one.

use async_trait::async_trait;
use futures_util::future::try_join_all;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::record::Record;
use super::{Quiet, config, topic, unavailable};
use crate::port::{FeedError, News};
use crate::relay::Publisher;
use crate::target::KafkaTarget;

/// Where it is said that something was passed over; any will do.
const MISSED_PARTITION: i32 = 0;

/// Publishes to a topic.
pub struct KafkaPublisher {
    target: KafkaTarget,
    name: String,
    /// The one that is at work, while nothing has failed.
    producer: Option<Producer>,
}

impl KafkaPublisher {
    /// To the topic of a place, from what is called `node`. Nothing is connected to before something is published.
    pub fn new(target: KafkaTarget, node: &str) -> Self {
        Self { target, name: format!("tertulia-relay-{node}"), producer: None }
    }

    fn make(&self) -> Result<Producer, FeedError> {
        let mut config = config(&self.target, &self.name);
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", "0")
            .set("linger.ms", "5")
            .set("compression.type", "lz4")
            // As the clients in Java do it.
            .set("partitioner", "murmur2");
        let producer = FutureProducer::from_config_and_context(&config, Quiet);
        Ok(Producer(Some(producer.map_err(|error| unavailable(&error))?)))
    }
}

#[async_trait]
impl Publisher for KafkaPublisher {
    async fn publish(&mut self, news: &News) -> Result<(), FeedError> {
        let producer = match self.producer.take() {
            Some(producer) => producer,
            None => {
                topic::ensure(&self.target, &self.name).await?;
                self.make()?
            }
        };
        let mut records = Vec::with_capacity(news.came.len() + 1);
        if news.missed {
            records.push(Record::Missed);
        }
        records.extend(news.came.iter().map(|came| Record::Came(came.range)));
        let mut waiting = Vec::with_capacity(records.len());
        for record in records {
            let delivery = producer.enqueue(&self.target.topic, record, &mut waiting).await?;
            waiting.push(delivery);
        }
        acknowledged(waiting).await?;
        // Whatever went wrong, or was not waited for, has ended it.
        self.producer = Some(producer);
        Ok(())
    }
}

/// Waits until all of them are written by all who have to.
async fn acknowledged(waiting: Vec<DeliveryFuture>) -> Result<(), FeedError> {
    let each = waiting.into_iter().map(async |delivery| match delivery.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err((error, _))) => Err(unavailable(&error)),
        Err(_) => Err(unavailable(&KafkaError::Canceled)),
    });
    try_join_all(each).await.map(drop)
}

/// A producer, which is let go of beside those who have no time for that.
struct Producer(Option<FutureProducer<Quiet>>);

impl Producer {
    /// Has a record sent, after those before it. While there is no room, those that wait are waited for.
    async fn enqueue(
        &self,
        topic: &str,
        record: Record,
        waiting: &mut Vec<DeliveryFuture>,
    ) -> Result<DeliveryFuture, FeedError> {
        let Some(producer) = &self.0 else { return Err(unavailable(&KafkaError::Canceled)) };
        let (key, value) = (record.key(), record.value());
        loop {
            let mut sent = FutureRecord::<str, str>::to(topic).payload(&value);
            match &key {
                Some(key) => sent = sent.key(key.as_str()),
                None => sent = sent.partition(MISSED_PARTITION),
            }
            match producer.send_result(sent) {
                Ok(delivery) => return Ok(delivery),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _))
                    if !waiting.is_empty() =>
                {
                    acknowledged(std::mem::take(waiting)).await?;
                }
                Err((error, _)) => return Err(unavailable(&error)),
            }
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // It waits for threads, and a moment for what is on its way.
        if let Some(producer) = self.0.take() {
            std::thread::spawn(move || drop(producer));
        }
    }
}
