//! The adapter against the suite of its port, and what befalls a real Kafka.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tertulia_services::{Kind, shared};
use tertulia_store::Store;
use tertulia_store::embedded::{Embedded, OpenOptions};
use tertulia_store::leases::local::LocalLeases;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{KafkaFeed, KafkaPublisher};
use crate::Feed;
use crate::relay::Relay;
use crate::target::KafkaTarget;
use crate::testsuite::FeedUnderTest;
use crate::testsuite::world::DEADLINE;

/// A topic of a test's own.
fn target(url: &str) -> KafkaTarget {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{url}?topic=test{}-{number}&partitions=3", std::process::id()).parse().unwrap()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let come = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, come).await.unwrap_or_else(|_| panic!("{what}: in vain"));
}

/// A relay that runs.
struct Relaying {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Relaying {
    fn start(store: &Arc<dyn Store>, leases: &Arc<LocalLeases>, target: &KafkaTarget) -> Self {
        let stop = CancellationToken::new();
        let publisher = KafkaPublisher::new(target.clone(), "relay");
        let leases = Arc::<LocalLeases>::clone(leases);
        let relay = Relay::new(Arc::clone(store), leases, publisher, &target.topic, stop.clone());
        Self { stop, task: tokio::spawn(relay.run()) }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// A store in a folder, a relay, and a Kafka that others use, too.
struct OverKafka {
    dir: tempfile::TempDir,
    store: Arc<dyn Store>,
    leases: Arc<LocalLeases>,
    target: KafkaTarget,
    relaying: Relaying,
    feed: Arc<dyn Feed>,
}

impl OverKafka {
    fn at(dir: tempfile::TempDir, leases: Arc<LocalLeases>, target: KafkaTarget) -> Self {
        let store: Arc<dyn Store> = Embedded::open(dir.path(), OpenOptions::default()).unwrap();
        let relaying = Relaying::start(&store, &leases, &target);
        let feed = Arc::new(KafkaFeed::new(target.clone(), "node".to_owned()));
        Self { dir, store, leases, target, relaying, feed }
    }
}

impl FeedUnderTest for OverKafka {
    async fn open() -> Self {
        let url = shared::url(Kind::Kafka).unwrap_or_else(|error| panic!("{error}"));
        let opened = Self::at(tempfile::tempdir().unwrap(), Arc::default(), target(&url));
        // What comes from here on is told.
        until("the relay has begun", || {
            opened.leases.note(&format!("relay to {}", opened.target.topic)).is_some()
        })
        .await;
        opened
    }

    async fn reopen(self) -> Self {
        self.relaying.stop().await;
        self.store.close().await;
        let Self { dir, store, feed, leases, target, .. } = self;
        drop((store, feed));
        Self::at(dir, leases, target)
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    fn feed(&self) -> Arc<dyn Feed> {
        Arc::clone(&self.feed)
    }
}

mod suite {
    crate::feed_suite!(super::OverKafka);
}
