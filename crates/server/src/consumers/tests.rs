//! Consumers against a store, and what befalls them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use tertulia_domain::log::{Intent, Outcome};
use tertulia_feed::journal::JournalFeed;
use tertulia_feed::{FeedError, Lag, News, Place, Reader};
use tertulia_protocol::entry::{ConversationType, HistoryPolicy};
use tertulia_protocol::{ClientSeq, ConvoId, DeviceId, Timestamp, UserId};
use tertulia_store::dead_letters::FolderDeadLetters;
use tertulia_store::embedded::{Embedded, OpenOptions};
use tertulia_store::leases::local::LocalLeases;

use super::*;

const ANA: UserId = UserId::from_bytes([0xAA; 16]);
/// Longer than anything here may take, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// An entry.
type At = (ConvoId, u64);

/// Remembers what it was told.
#[derive(Default)]
struct Listener(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    entries: Vec<At>,
    cursor: Option<String>,
    resets: u32,
    /// So many calls fail.
    failing: u32,
    /// What it can never take.
    refused: BTreeSet<At>,
}

impl Listener {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap()
    }

    /// The entries without repeats, by conversation.
    fn logs(&self) -> BTreeMap<ConvoId, Vec<u64>> {
        let mut logs: BTreeMap<ConvoId, Vec<u64>> = BTreeMap::new();
        for &(convo, seq) in self.heard().entries.iter().collect::<BTreeSet<_>>() {
            logs.entry(convo).or_default().push(seq);
        }
        logs
    }

    /// Whether nothing was heard before what precedes it.
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
impl Consumer for Listener {
    fn name(&self) -> &'static str {
        "listener"
    }

    async fn cursor(&self) -> Result<Option<String>, ConsumeError> {
        Ok(self.heard().cursor.clone())
    }

    async fn take(&self, entries: Vec<Arc<Entry>>, cursor: Option<&str>) -> Result<(), ConsumeError> {
        let mut heard = self.heard();
        if heard.failing > 0 {
            heard.failing -= 1;
            return Err(ConsumeError::Again { why: "not now".into(), retry_after: Duration::ZERO });
        }
        let places: Vec<_> = entries.iter().map(|entry| (entry.convo_id, entry.seq.get())).collect();
        if places.iter().any(|place| heard.refused.contains(place)) {
            return Err(ConsumeError::Never("it is too odd".into()));
        }
        heard.entries.extend(places);
        if let Some(cursor) = cursor {
            heard.cursor = Some(cursor.to_owned());
        }
        Ok(())
    }

    async fn move_cursor(&self, from: Option<&str>, to: &str) -> Result<bool, ConsumeError> {
        let mut heard = self.heard();
        let is_there = heard.cursor.as_deref() == from;
        if is_there {
            heard.cursor = Some(to.to_owned());
        }
        Ok(is_there)
    }

    async fn sync(&self) -> Result<(), ConsumeError> {
        Ok(())
    }

    async fn reset(&self) -> Result<(), ConsumeError> {
        let mut heard = self.heard();
        (heard.entries, heard.cursor) = (Vec::new(), None);
        heard.resets += 1;
        Ok(())
    }
}

struct World {
    dir: tempfile::TempDir,
    store: Arc<dyn Store>,
    letters: Arc<dyn DeadLetters>,
    listener: Arc<Listener>,
    expected: BTreeMap<ConvoId, Vec<u64>>,
    number: u64,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Embedded::open(dir.path(), OpenOptions::default()).unwrap();
        let letters = Arc::new(FolderDeadLetters::open(dir.path()).unwrap());
        Self { dir, store, letters, listener: Arc::default(), expected: BTreeMap::new(), number: 0 }
    }

    /// Follows with other nodes, which share what is taken.
    fn follow_together(&self, feed: &Arc<Silent>, leases: &Arc<LocalLeases>) -> Following {
        self.follow_together_by(&Clock::system(), feed, leases)
    }

    fn follow_together_by(&self, clock: &Clock, feed: &Arc<Silent>, leases: &Arc<LocalLeases>) -> Following {
        let listener: Arc<dyn Consumer> = Arc::<Listener>::clone(&self.listener);
        let sources = Sources {
            store: Arc::clone(&self.store),
            feed: Arc::<Silent>::clone(feed),
            letters: Arc::clone(&self.letters),
            leases: Some(Arc::<LocalLeases>::clone(leases)),
        };
        Consumers::new([listener]).follow(&sources, clock, &Random::seeded(1))
    }

    fn count(&self) -> usize {
        self.expected.values().map(Vec::len).sum()
    }

    fn follow(&self) -> (Following, Progresses) {
        let listener: Arc<dyn Consumer> = Arc::<Listener>::clone(&self.listener);
        let consumers = Consumers::new([listener]);
        let progresses = consumers.progresses();
        let sources = Sources {
            store: Arc::clone(&self.store),
            feed: Arc::new(JournalFeed::new(Arc::clone(&self.store), consumers.names())),
            letters: Arc::clone(&self.letters),
            leases: None,
        };
        (consumers.follow(&sources, &Clock::system(), &Random::seeded(1)), progresses)
    }

    /// As many messages of a conversation, which begins with the first.
    async fn say(&mut self, convo: u8, count: u64) {
        let convo = ConvoId::from_bytes([convo; 16]);
        let mut intents = Vec::new();
        if !self.expected.contains_key(&convo) {
            let (kind, history) = (ConversationType::Group, HistoryPolicy::All);
            intents.push(Intent::Create { convo, by: ANA, kind, title: None, members: vec![ANA], history });
        }
        for _ in 0..count {
            self.number += 1;
            intents.push(Intent::Send {
                convo,
                sender: ANA,
                device: DeviceId::from_bytes([0xDD; 16]),
                client_seq: ClientSeq::new(self.number),
                body: "tea".into(),
                reply_to: None,
            });
        }
        for outcome in self.store.append(intents, Timestamp::from_millis(1)).await.unwrap().outcomes {
            let Outcome::Appended { entry, .. } = outcome else { panic!("{outcome:?}") };
            self.expected.entry(convo).or_default().push(entry.seq.get());
        }
    }

    async fn all_is_heard(&self) {
        until(|| self.listener.logs() == self.expected).await;
    }
}

/// A feed in which nothing comes, and which keeps the places of those who follow it.
struct Silent {
    /// Whether the next who asks is told that he has missed something.
    missed: Arc<AtomicBool>,
}

impl Silent {
    /// Of which a consumer is new, or of which it is not.
    fn feed(is_new: bool) -> Arc<Self> {
        Arc::new(Self { missed: Arc::new(AtomicBool::new(is_new)) })
    }
}

#[async_trait]
impl Feed for Silent {
    fn keeps_places(&self) -> bool {
        true
    }

    async fn follow(&self, _: &'static str, _: Option<&str>) -> Result<Box<dyn Reader>, FeedError> {
        Ok(Box::new(Silent { missed: Arc::clone(&self.missed) }))
    }
}

#[async_trait]
impl Reader for Silent {
    async fn next(&mut self) -> Result<News, FeedError> {
        let missed = self.missed.swap(false, Ordering::SeqCst);
        Ok(News { came: Vec::new(), missed, more: false, place: Place::default() })
    }

    async fn taken(&mut self, _: &Place) -> Result<(), FeedError> {
        Ok(())
    }

    async fn let_go(&mut self, _: &Place) -> Result<(), FeedError> {
        Ok(())
    }

    fn lag(&self) -> Vec<Lag> {
        Vec::new()
    }

    async fn leave(self: Box<Self>) {}
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
async fn a_consumer_hears_every_entry_and_goes_on_where_it_was() {
    let mut world = World::new();
    for round in 0..3 {
        let (following, progresses) = world.follow();
        world.say(1, 3).await;
        world.all_is_heard().await;
        world.say(2, 700).await;
        world.say(1, 1).await;
        world.all_is_heard().await;
        until(|| progresses.iter().all(|progress| progress.lag_entries() == 0)).await;
        following.stop().await;
        // Meanwhile.
        world.say(3, 5).await;
        assert!(round < 2 || world.listener.heard().resets == 1);
    }
    assert_eq!(world.listener.heard().resets, 1, "it began once");
    assert!(world.listener.is_in_order());
}

#[tokio::test]
async fn who_is_new_hears_what_was_said_before() {
    let mut world = World::new();
    for convo in 1..=40 {
        world.say(convo, u64::from(convo) * 30).await;
    }
    let (following, progresses) = world.follow();
    world.say(7, 10).await;
    world.all_is_heard().await;
    let progress = progresses.iter().next().unwrap();
    until(|| progress.backfill().1 == 0).await;
    assert!(progress.backfill().0 >= 24_640, "{:?}", progress.backfill());
    let cursor = || world.listener.heard().cursor.clone().unwrap();
    until(|| !cursor().contains("backfill")).await;
    following.stop().await;
}

#[tokio::test]
async fn whose_cursor_is_of_another_folder_begins_anew() {
    let (mut world, mut other) = (World::new(), World::new());
    for world in [&mut world, &mut other] {
        world.say(1, 5).await;
        let (following, _) = world.follow();
        world.all_is_heard().await;
        following.stop().await;
    }
    world.listener = Arc::clone(&other.listener);
    world.say(2, 5).await;
    let (following, _) = world.follow();
    until(|| world.listener.heard().resets == 2).await;
    world.all_is_heard().await;
    following.stop().await;
}

#[tokio::test]
async fn what_cannot_be_taken_now_is_tried_again() {
    let mut world = World::new();
    world.listener.heard().failing = 4;
    let (following, progresses) = world.follow();
    world.say(1, 5).await;
    world.all_is_heard().await;
    assert!(progresses.iter().all(|progress| progress.failures() == 4));
    following.stop().await;
}

#[tokio::test]
async fn who_cannot_go_on_can_still_be_stopped() {
    let mut world = World::new();
    world.listener.heard().failing = u32::MAX;
    let (following, progresses) = world.follow();
    world.say(1, 5).await;
    until(|| progresses.iter().all(|progress| progress.failures() > 0)).await;
    tokio::time::timeout(DEADLINE, following.stop()).await.unwrap();
}

#[tokio::test]
async fn what_can_never_be_taken_is_laid_down_until_somebody_asks_for_it() {
    let mut world = World::new();
    let convo = ConvoId::from_bytes([1; 16]);
    world.say(1, 1).await;
    let (following, progresses) = world.follow();
    world.all_is_heard().await;
    world.listener.heard().refused.extend([(convo, 5), (convo, 90)]);
    world.say(1, 100).await;
    world.expected.get_mut(&convo).unwrap().retain(|&seq| seq != 5 && seq != 90);
    world.all_is_heard().await;
    until(|| progresses.iter().all(|progress| progress.dead_letters() == 2)).await;
    let letters = world.letters.list(0, 10).await.unwrap();
    let places: Vec<_> = letters.iter().map(|letter| (letter.convo, letter.seq.get())).collect();
    assert_eq!(places, [(convo, 5), (convo, 90)]);
    assert_eq!((letters[0].consumer.as_str(), letters[0].why.as_str()), ("listener", "it is too odd"));

    // Asked for, one is taken now, and the other is not.
    world.listener.heard().refused.remove(&(convo, 5));
    let command = FolderDeadLetters::open_existing(world.dir.path()).unwrap().unwrap();
    assert_eq!(command.ask_again(None).await.unwrap(), 2);
    until(|| progresses.iter().all(|progress| progress.dead_letters() == 1)).await;
    let letters = world.letters.list(0, 10).await.unwrap();
    assert!(letters.iter().all(|letter| letter.tries == 2 && !letter.again), "{letters:?}");
    assert!(world.listener.heard().entries.contains(&(convo, 5)));

    // What comes is heard all the time.
    world.say(2, 3).await;
    until(|| world.listener.logs().contains_key(&ConvoId::from_bytes([2; 16]))).await;
    following.stop().await;
}

#[tokio::test]
async fn together_one_node_reads_the_logs_and_another_goes_on_where_it_died() {
    let mut world = World::new();
    for convo in 1..=40 {
        world.say(convo, 100).await;
    }
    let (feed, leases) = (Silent::feed(true), Arc::<LocalLeases>::default());
    // It gets nowhere, and dies.
    world.listener.heard().failing = u32::MAX;
    let dying = world.follow_together(&feed, &leases);
    until(|| world.listener.heard().cursor.is_some() && world.listener.heard().failing < u32::MAX).await;
    drop(dying);
    leases.expire("logs of listener");
    world.listener.heard().failing = 0;
    let (one, other) = (world.follow_together(&feed, &leases), world.follow_together(&feed, &leases));
    world.all_is_heard().await;
    until(|| !world.listener.heard().cursor.clone().unwrap().contains("backfill")).await;
    assert_eq!(world.listener.heard().entries.len(), world.count(), "each was read once");
    assert_eq!(world.listener.heard().cursor.clone().unwrap(), r#"{"round":1}"#);

    // What comes says the feed; this one says nothing but that something was missed.
    world.say(50, 10).await;
    feed.missed.store(true, Ordering::SeqCst);
    world.all_is_heard().await;
    until(|| world.listener.heard().cursor.clone().unwrap() == r#"{"round":2}"#).await;
    assert_eq!(world.listener.heard().resets, 0, "what was taken stays");
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn who_reads_the_logs_for_an_earlier_time_moves_the_cursor_no_more() {
    let mut world = World::new();
    for convo in 1..=40 {
        world.say(convo, 100).await;
    }
    let (feed, leases) = (Silent::feed(true), Arc::<LocalLeases>::default());
    let following = world.follow_together(&feed, &leases);
    until(|| world.listener.heard().cursor.is_some()).await;
    // Somebody who thinks that something was missed, in the middle of it.
    let anew = r#"{"round":7,"backfill":{"next":1}}"#;
    world.listener.heard().cursor = Some(anew.to_owned());
    until(|| world.listener.heard().cursor.clone().unwrap() == r#"{"round":7}"#).await;
    assert_eq!(world.listener.logs(), world.expected);
    following.stop().await;
}

#[tokio::test]
async fn who_has_lost_what_he_took_is_new_though_the_feed_knows_him() {
    let mut world = World::new();
    world.say(1, 5).await;
    let (feed, leases) = (Silent::feed(false), Arc::<LocalLeases>::default());
    let (clock, hand) = Clock::manual();
    let following = world.follow_together_by(&clock, &feed, &leases);
    // For a while it may be that the feed says more.
    let advanced = async {
        while world.listener.logs() != world.expected {
            hand.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, advanced).await.unwrap();
    assert!(clock.monotonic() >= catch_up::NEW_MAX);
    following.stop().await;
}
