//! Relays that take turns, and publishers that fail.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use tertulia_protocol::ConvoId;
use tertulia_store::embedded::{Embedded, OpenOptions};
use tertulia_store::leases::local::LocalLeases;
use tokio::task::JoinHandle;

use super::*;
use crate::testsuite::world::{DEADLINE, Logs, Writer};

/// What was published, by whichever relay.
#[derive(Default)]
struct Published(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    entries: Vec<(ConvoId, u64)>,
    missed: u32,
    /// So many calls fail.
    failing: u32,
    /// No call comes to its end.
    stuck: bool,
}

impl Published {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap()
    }

    /// What was published, without repeats.
    fn logs(&self) -> Logs {
        let mut logs = Logs::new();
        for &(convo, seq) in &self.heard().entries {
            logs.entry(convo).or_default().insert(seq);
        }
        logs
    }

    /// Whether nothing was published before what precedes it.
    fn is_in_order(&self) -> bool {
        let mut newest: BTreeMap<ConvoId, u64> = BTreeMap::new();
        self.heard().entries.iter().all(|&(convo, seq)| {
            let newest = newest.entry(convo).or_default();
            let follows = seq <= *newest + 1;
            *newest = seq.max(*newest);
            follows
        })
    }
}

#[async_trait]
impl Publisher for Arc<Published> {
    async fn publish(&mut self, news: &News) -> Result<(), FeedError> {
        while self.heard().stuck {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut heard = self.heard();
        heard.missed += u32::from(news.missed);
        for came in &news.came {
            let seqs = came.range.first.get()..=came.range.last.get();
            heard.entries.extend(seqs.map(|seq| (came.range.convo, seq)));
        }
        // It may have come all the same.
        if heard.failing > 0 {
            heard.failing -= 1;
            return Err(FeedError::Unavailable { reason: "not now".into(), retry_after: Duration::ZERO });
        }
        Ok(())
    }
}

struct World {
    _dir: tempfile::TempDir,
    leases: Arc<LocalLeases>,
    published: Arc<Published>,
    writer: Writer,
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
    progress: Arc<RelayProgress>,
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Embedded::open(dir.path(), OpenOptions::default()).unwrap();
        Self { _dir: dir, leases: Arc::default(), published: Arc::default(), writer: Writer::new(store) }
    }

    fn relay(&self) -> Relay<Arc<Published>> {
        let (store, leases) = (Arc::clone(&self.writer.store), Arc::<LocalLeases>::clone(&self.leases));
        Relay::new(store, leases, Arc::clone(&self.published), "test", CancellationToken::new())
    }

    async fn start(&self) -> Running {
        self.start_as(self.relay()).await
    }

    async fn start_as(&self, relay: Relay<Arc<Published>>) -> Running {
        let (stop, progress) = (relay.stop.clone(), relay.progress());
        let task = tokio::spawn(relay.run());
        until(|| self.leases.note("relay to test").is_some()).await;
        Running { stop, task, progress }
    }

    async fn all_is_published(&self) {
        until(|| self.published.logs() == self.writer.said).await;
    }
}

async fn until(what: impl Fn() -> bool) {
    let come = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, come).await.unwrap();
}

#[tokio::test]
async fn what_was_appended_is_published_in_the_order_of_each_conversation() {
    let mut world = World::new();
    let running = world.start().await;
    for round in 1..=5 {
        for number in 1..=round {
            world.writer.say(number, 7).await;
        }
    }
    world.all_is_published().await;
    assert!(world.published.is_in_order());
    assert_eq!(world.published.heard().missed, 1, "by those who were before it");
    until(|| running.progress.lag(i64::MAX) == Duration::ZERO).await;
    assert!(running.progress.leads() && running.progress.published() > 0);
    running.stop().await;
}

#[tokio::test]
async fn whoever_takes_over_goes_on_where_the_other_has_noted() {
    let mut world = World::new();
    for round in 1..=3 {
        let running = world.start().await;
        world.writer.say(1, 5).await;
        world.writer.say(round, 5).await;
        world.all_is_published().await;
        running.stop().await;
        // Meanwhile.
        world.writer.say(2, 5).await;
    }
    let running = world.start().await;
    world.all_is_published().await;
    assert!(world.published.is_in_order());
    assert_eq!(world.published.heard().missed, 1);
    running.stop().await;
}

#[tokio::test]
async fn one_relays_at_a_time_and_another_goes_on_when_it_is_late() {
    let mut world = World::new();
    let (one, other) = (world.start().await, world.start().await);
    until(|| one.progress.leads()).await;
    world.writer.say(1, 5).await;
    world.all_is_published().await;
    assert!(!other.progress.leads());
    // The first is paused for as long as it takes.
    world.published.heard().stuck = true;
    world.writer.say(1, 5).await;
    until(|| !one.progress.leads() || one.progress.lag(i64::MAX) > Duration::ZERO).await;
    world.leases.expire("relay to test");
    until(|| other.progress.leads()).await;
    until(|| !one.progress.leads()).await;
    world.published.heard().stuck = false;
    world.writer.say(2, 5).await;
    world.all_is_published().await;
    assert!(world.published.is_in_order());
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn what_cannot_be_published_now_is_tried_again() {
    let mut world = World::new();
    let running = world.start().await;
    world.published.heard().failing = 4;
    world.writer.say(1, 5).await;
    world.writer.say(2, 5).await;
    world.all_is_published().await;
    until(|| running.progress.failures() == 4).await;
    world.writer.say(1, 5).await;
    world.all_is_published().await;
    assert!(world.published.is_in_order());
    running.stop().await;
}

#[tokio::test]
async fn when_too_much_waits_it_is_told_that_something_was_missed() {
    let mut world = World::new();
    let mut relay = world.relay();
    (relay.waiting_max, relay.counted_max) = (0, 1);
    let running = world.start_as(relay).await;
    world.writer.say(1, 5).await;
    world.all_is_published().await;
    world.published.heard().stuck = true;
    world.writer.say(1, 5).await;
    until(|| running.progress.lag(i64::MAX) > Duration::ZERO).await;
    // And this waits behind it.
    world.writer.say(1, 5).await;
    let place = || world.leases.note("relay to test").unwrap_or_default();
    until(|| place().starts_with(MISSED)).await;
    world.published.heard().stuck = false;
    until(|| world.published.heard().missed == 2).await;
    until(|| !place().starts_with(MISSED)).await;
    world.writer.forget_what_was_said();
    world.writer.say(2, 5).await;
    until(|| crate::testsuite::world::is_all(&world.writer.said, &world.published.logs())).await;
    running.stop().await;
}

#[tokio::test]
async fn who_cannot_go_on_can_still_be_stopped() {
    let mut world = World::new();
    let running = world.start().await;
    world.published.heard().stuck = true;
    world.writer.say(1, 5).await;
    tokio::time::timeout(DEADLINE, running.stop()).await.unwrap();
}
