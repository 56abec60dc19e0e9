//! The topic, made if it is not there.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::error::RDKafkaErrorCode;

use super::{Quiet, config, unavailable};
use crate::port::FeedError;
use crate::target::KafkaTarget;

/// How long the brokers may take.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How long records are kept: who was away for longer reads the logs.
const RETENTION_MS: &str = "604800000";
/// As many replicas as the brokers give to topics by default.
const REPLICAS: TopicReplication<'static> = TopicReplication::Fixed(-1);

/// Makes the topic, unless it is there: then it is taken as it is.
pub(super) async fn ensure(target: &KafkaTarget, name: &str) -> Result<(), FeedError> {
    let config = config(target, name);
    let made = async {
        let admin = AdminClient::from_config_and_context(&config, Quiet)?;
        let topic = NewTopic::new(&target.topic, i32::from(target.partitions), REPLICAS)
            .set("cleanup.policy", "delete")
            .set("retention.ms", RETENTION_MS);
        let options = AdminOptions::new().request_timeout(Some(WAIT_MAX)).operation_timeout(Some(WAIT_MAX));
        let made = admin.create_topics([&topic], &options).await;
        // Letting go of a client waits for its threads.
        tokio::task::spawn_blocking(move || drop(admin));
        made
    };
    let made = made.await.map_err(|error| unavailable(&error))?;
    match made.into_iter().next() {
        Some(Ok(_)) => {
            tracing::info!(
                topic = target.topic,
                partitions = target.partitions,
                "made the topic of the feed"
            );
            Ok(())
        }
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((topic, code))) => Err(FeedError::Unavailable {
            reason: format!("Kafka does not make the topic {topic}: {code}"),
            retry_after: Duration::from_secs(1),
        }),
        None => Err(FeedError::Unavailable {
            reason: "Kafka does not answer for the topic".to_owned(),
            retry_after: Duration::from_secs(1),
        }),
    }
}
