//! The adapter against the suite of its port, and what befalls a real Kafka.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tertulia_protocol::ConvoId;
use tertulia_services::{Kind, Server, shared};
use tertulia_store::Store;
use tertulia_store::embedded::{Embedded, OpenOptions};
use tertulia_store::leases::local::LocalLeases;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{KafkaFeed, KafkaPublisher};
use crate::relay::Relay;
use crate::target::KafkaTarget;
use crate::testsuite::FeedUnderTest;
use crate::testsuite::world::{DEADLINE, Logs, Writer, is_all};
use crate::{Came, Feed, News};

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

/// What a group of readers was told, whoever of them was.
#[derive(Default)]
struct Told {
    logs: Logs,
    newest: BTreeMap<ConvoId, u64>,
    missed: u32,
}

impl Told {
    /// Takes what one of them was told. Of a conversation nothing comes before what is before it, whoever had that.
    fn take(&mut self, news: &News) {
        self.missed += u32::from(news.missed);
        for Came { range, .. } in &news.came {
            let (first, last) = (range.first.get(), range.last.get());
            let newest = self.newest.entry(range.convo).or_default();
            assert!(first <= *newest + 1, "{}: {first} after {newest}", range.convo);
            *newest = last.max(*newest);
            self.logs.entry(range.convo).or_default().extend(first..=last);
        }
    }
}

/// Follows with others until it is told to go.
struct Following {
    stop: CancellationToken,
    task: JoinHandle<()>,
    partitions: Arc<AtomicUsize>,
}

impl Following {
    fn start(target: &KafkaTarget, told: &Arc<Mutex<Told>>) -> Self {
        let feed = KafkaFeed::new(target.clone(), "node".to_owned());
        let (stop, told, partitions) =
            (CancellationToken::new(), Arc::clone(told), Arc::<AtomicUsize>::default());
        let (stopped, count) = (stop.clone(), Arc::clone(&partitions));
        let task = tokio::spawn(async move {
            let mut reader = feed.follow("one", None).await.unwrap();
            while !stopped.is_cancelled() {
                // A Kafka that is away is no failure.
                if let Ok(news) = reader.next().await {
                    told.lock().unwrap().take(&news);
                    reader.taken(&news.place).await.unwrap();
                }
                count.store(reader.lag().len(), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            reader.leave().await;
        });
        Self { stop, task, partitions }
    }

    fn partitions(&self) -> usize {
        self.partitions.load(Ordering::Relaxed)
    }

    async fn leave(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// A store and a relay, readers that share the work, and a Kafka of the test's own.
struct Group {
    _dir: tempfile::TempDir,
    kafka: Server,
    target: KafkaTarget,
    relaying: Relaying,
    writer: Writer,
    told: Arc<Mutex<Told>>,
}

impl Group {
    async fn new() -> Self {
        let kafka = tokio::task::spawn_blocking(|| Server::temporary(Kind::Kafka).unwrap()).await.unwrap();
        let (dir, target) = (tempfile::tempdir().unwrap(), target(&kafka.url()));
        let store: Arc<dyn Store> = Embedded::open(dir.path(), OpenOptions::default()).unwrap();
        let leases = Arc::<LocalLeases>::default();
        let relaying = Relaying::start(&store, &leases, &target);
        until("the relay has begun", || leases.note(&format!("relay to {}", target.topic)).is_some()).await;
        Self { _dir: dir, kafka, target, relaying, writer: Writer::new(store), told: Arc::default() }
    }

    fn follow(&self) -> Following {
        Following::start(&self.target, &self.told)
    }

    /// Somebody writes in many conversations.
    async fn say(&mut self, times: u64) {
        for number in 1..=30 {
            self.writer.say(number, times).await;
        }
    }

    async fn all_is_told(&self) {
        until("all is told", || is_all(&self.writer.said, &self.told.lock().unwrap().logs)).await;
    }

    /// What comes from here on is told.
    async fn has_begun(&self) {
        until("the group has begun", || self.missed() > 0).await;
    }

    fn missed(&self) -> u32 {
        self.told.lock().unwrap().missed
    }

    async fn until_shared_by(&self, readers: &[&Following]) {
        let partitions = || readers.iter().map(|reader| reader.partitions()).collect::<Vec<_>>();
        let each = 3 / readers.len();
        until("the work is shared", || {
            partitions().iter().sum::<usize>() == 3 && partitions().iter().all(|&count| count >= each)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_come_and_go_and_together_they_are_told_everything_in_order() {
    let mut group = Group::new().await;
    let one = group.follow();
    group.until_shared_by(&[&one]).await;
    group.has_begun().await;
    group.say(3).await;
    let (two, three) = (group.follow(), group.follow());
    group.say(3).await;
    group.until_shared_by(&[&one, &two, &three]).await;
    group.say(3).await;
    group.all_is_told().await;
    one.leave().await;
    group.say(3).await;
    group.until_shared_by(&[&two, &three]).await;
    let four = group.follow();
    group.say(3).await;
    two.leave().await;
    group.say(3).await;
    three.leave().await;
    group.say(3).await;
    group.until_shared_by(&[&four]).await;
    group.all_is_told().await;
    four.leave().await;
    assert_eq!(group.told.lock().unwrap().logs, group.writer.said);
    assert_eq!(group.missed(), 1, "when the group was new");
    group.relaying.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kafka_that_dies_or_does_not_answer_loses_nothing_and_changes_no_order() {
    let mut group = Group::new().await;
    let (one, two) = (group.follow(), group.follow());
    group.until_shared_by(&[&one, &two]).await;
    group.has_begun().await;
    group.say(1).await;
    group.all_is_told().await;
    // Once, when the group was new.
    assert_eq!(group.missed(), 1);
    group.kafka.pause().unwrap();
    group.say(10).await;
    group.kafka.resume().unwrap();
    group.say(3).await;
    tokio::task::block_in_place(|| group.kafka.kill().unwrap());
    group.say(3).await;
    tokio::task::block_in_place(|| group.kafka.restart().unwrap());
    group.say(3).await;
    group.all_is_told().await;
    // Where they were is still known to who goes on.
    one.leave().await;
    group.until_shared_by(&[&two]).await;
    group.say(3).await;
    group.all_is_told().await;
    assert_eq!(group.told.lock().unwrap().logs, group.writer.said);
    assert_eq!(group.missed(), 1, "nothing was missed since");
    two.leave().await;
    group.relaying.stop().await;
}
