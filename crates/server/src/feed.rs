//! Where consumers are told from: the store's journal, each node for itself; or Kafka, all nodes together, and then what
//! they derive is shared, too.

use std::sync::Arc;
use std::time::Duration;

use tertulia_fabric::NodeId;
use tertulia_feed::journal::JournalFeed;
use tertulia_feed::kafka::{KafkaFeed, KafkaPublisher};
use tertulia_feed::relay::{Relay, RelayProgress};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Random};
use crate::config::FeedAt;
use crate::consumers::{Consumers, Following, Progresses, Sources};
use crate::data::Data;

/// How long the relay may take to end.
const END_MAX: Duration = Duration::from_secs(5);

/// The feed of a node, before anybody follows it.
pub(crate) struct Feeding {
    consumers: Consumers,
    sources: Sources,
    relay: Option<(Relay<KafkaPublisher>, CancellationToken)>,
}

impl Feeding {
    /// The feed that is said, for consumers of what a node keeps.
    pub(crate) fn new(at: &FeedAt, data: &Data, node: NodeId, consumers: Consumers) -> Self {
        let (store, letters) = (Arc::clone(&data.store), Arc::clone(&data.letters));
        match (at, &data.leases) {
            (FeedAt::Kafka(target), Some(leases)) => {
                let name = node.to_string();
                let publisher = KafkaPublisher::new(target.clone(), &name);
                let stop = CancellationToken::new();
                let relay = Relay::new(
                    Arc::clone(&store),
                    Arc::clone(leases),
                    publisher,
                    &target.topic,
                    stop.clone(),
                );
                let feed = Arc::new(KafkaFeed::new(target.clone(), name));
                let sources = Sources { store, feed, letters, leases: Some(Arc::clone(leases)) };
                Self { consumers, sources, relay: Some((relay, stop)) }
            }
            _ => {
                let feed = Arc::new(JournalFeed::new(Arc::clone(&store), consumers.names()));
                let sources = Sources { store, feed, letters, leases: None };
                Self { consumers, sources, relay: None }
            }
        }
    }

    /// What consumers and relay show.
    pub(crate) fn progresses(&self) -> (Progresses, Option<Arc<RelayProgress>>) {
        (self.consumers.progresses(), self.relay.as_ref().map(|(relay, _)| relay.progress()))
    }

    /// Begins to relay, when it is this node's turn, and to tell the consumers.
    pub(crate) fn start(self, clock: &Clock, random: &Random) -> Fed {
        let relay = self.relay.map(|(relay, stop)| (tokio::spawn(relay.run()), stop));
        Fed { following: self.consumers.follow(&self.sources, clock, random), relay }
    }
}

/// The feed of a node that runs.
pub(crate) struct Fed {
    following: Following,
    relay: Option<(JoinHandle<()>, CancellationToken)>,
}

impl Fed {
    /// Stops, after the batch that each is at. The store must be there still.
    pub(crate) async fn stop(self) {
        if let Some((task, stop)) = self.relay {
            stop.cancel();
            if tokio::time::timeout(END_MAX, task).await.is_err() {
                tracing::warn!("the relay does not end; another node takes over when its lease is over");
            }
        }
        self.following.stop().await;
    }
}
