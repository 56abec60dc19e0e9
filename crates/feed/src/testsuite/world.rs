//! The words of the suite: a store in which somebody writes, and those who follow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tertulia_domain::log::{Intent, Outcome};
use tertulia_protocol::entry::{ConversationType, HistoryPolicy};
use tertulia_protocol::{ClientSeq, ConvoId, DeviceId, Timestamp, UserId};
use tertulia_store::Store;

use super::FeedUnderTest;
use crate::{Came, Feed, News, Place, Reader};

/// Longer than anything here may take, on a busy machine: members of a group may have to be waited for that are gone.
pub const DEADLINE: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(20);

const ANA: UserId = UserId::from_bytes([0xAA; 16]);

/// A conversation by number; ids are spread as those of random ones.
pub fn convo(number: u16) -> ConvoId {
    let [a, b] = number.to_be_bytes();
    let [c, d] = number.wrapping_mul(40_503).to_be_bytes();
    ConvoId::from_bytes([0xcc, a, b, 0, 0, 0, 0x70, 0, 0x80, 0, 0, c, d, 0, c, d])
}

/// What somebody was told, by conversation, without repeats.
pub type Logs = BTreeMap<ConvoId, BTreeSet<u64>>;

/// Somebody who writes.
pub struct Writer {
    /// Where to.
    pub store: Arc<dyn Store>,
    /// All that was acknowledged.
    pub said: Logs,
    /// Of whom the numbers are: each writer's own.
    pub device: u8,
    number: u64,
}

impl Writer {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, said: Logs::new(), device: 0xDD, number: 0 }
    }

    /// As many messages in a conversation, which begins with the first.
    pub async fn say(&mut self, number: u16, count: u64) {
        let convo = convo(number);
        let mut intents = Vec::new();
        if !self.said.contains_key(&convo) {
            let (kind, history) = (ConversationType::Group, HistoryPolicy::All);
            intents.push(Intent::Create { convo, by: ANA, kind, title: None, members: vec![ANA], history });
        }
        for _ in 0..count {
            self.number += 1;
            intents.push(Intent::Send {
                convo,
                sender: ANA,
                device: DeviceId::from_bytes([self.device; 16]),
                client_seq: ClientSeq::new(self.number),
                body: "tea".into(),
                reply_to: None,
            });
        }
        for outcome in self.store.append(intents, Timestamp::from_millis(1)).await.unwrap().outcomes {
            let Outcome::Appended { entry, .. } = outcome else { panic!("{outcome:?}") };
            self.said.entry(convo).or_default().insert(entry.seq.get());
        }
    }

    /// What was said from now on.
    pub fn forget_what_was_said(&mut self) {
        self.said.values_mut().for_each(BTreeSet::clear);
    }
}

/// One who follows, and what he was told.
pub struct Follower {
    consumer: &'static str,
    feed: Arc<dyn Feed>,
    reader: Option<Box<dyn Reader>>,
    /// As he has stored it.
    place: Option<String>,
    /// All he has called taken.
    pub told: Logs,
    /// The newest that he was told since he came, by conversation.
    newest: BTreeMap<ConvoId, u64>,
    /// How often he was told that he has missed something.
    pub missed: u32,
    /// How many entries he was told, repeats among them.
    pub count: u64,
}

impl Follower {
    /// Begins to follow, as somebody new.
    pub async fn new(feed: Arc<dyn Feed>, consumer: &'static str) -> Self {
        let mut follower = Self {
            consumer,
            feed,
            reader: None,
            place: None,
            told: Logs::new(),
            newest: BTreeMap::new(),
            missed: 0,
            count: 0,
        };
        follower.come().await;
        follower
    }

    /// Comes back, with the place that he stored.
    pub async fn come(&mut self) {
        self.reader = Some(self.feed.follow(self.consumer, self.place.as_deref()).await.unwrap());
        self.newest.clear();
    }

    /// Goes in order.
    pub async fn leave(&mut self) {
        self.reader.take().unwrap().leave().await;
    }

    /// Where he is from now on.
    pub fn is_on(&mut self, feed: Arc<dyn Feed>) {
        self.feed = feed;
    }

    pub fn reader(&mut self) -> &mut dyn Reader {
        self.reader.as_mut().unwrap().as_mut()
    }

    /// What has come, and is not called taken yet.
    pub async fn hear(&mut self) -> News {
        let news = loop {
            // A server that is away, or somebody who joins meanwhile, is no failure.
            if let Ok(news) = self.reader().next().await {
                break news;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        for Came { range, .. } in &news.came {
            assert!(range.first <= range.last);
            self.count += range.last.get() + 1 - range.first.get();
        }
        news
    }

    /// Takes what he was told. In a conversation nothing comes before what is before it.
    pub async fn take(&mut self, news: &News) {
        for Came { range, .. } in &news.came {
            let (first, last) = (range.first.get(), range.last.get());
            // Where he began he does not know what was before.
            let newest = self.newest.entry(range.convo).or_insert(first - 1);
            assert!(first <= *newest + 1, "{}: {first} after {newest}", range.convo);
            *newest = last.max(*newest);
            self.told.entry(range.convo).or_default().extend(first..=last);
        }
        self.missed += u32::from(news.missed);
        self.taken(&news.place).await;
    }

    pub async fn taken(&mut self, place: &Place) {
        if let Some(text) = place.text() {
            self.place = Some(text.to_owned());
        }
        self.reader().taken(place).await.unwrap();
    }

    /// Follows until he was told all of it, at least.
    pub async fn hear_all(&mut self, said: &Logs) {
        let begun = Instant::now();
        while !is_all(said, &self.told) {
            let missing = || missing(said, &self.told);
            assert!(begun.elapsed() < DEADLINE, "{} was not told {:?}", self.consumer, missing());
            let news = self.hear().await;
            self.take(&news).await;
            if news.came.is_empty() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Follows until he has all that is his to follow: whoever is new is told at once that he has missed something.
    pub async fn settle(&mut self) {
        let begun = Instant::now();
        while self.missed == 0 || self.reader().lag().iter().any(|lag| lag.entries > 0) {
            assert!(begun.elapsed() < DEADLINE, "{} does not come in", self.consumer);
            let news = self.hear().await;
            self.take(&news).await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Whether all that was said was told.
pub fn is_all(said: &Logs, told: &Logs) -> bool {
    missing(said, told).is_empty()
}

/// What was said and not told: conversation, and its first such entry.
pub fn missing(said: &Logs, told: &Logs) -> Vec<(ConvoId, u64)> {
    let first = |(convo, said): (&ConvoId, &BTreeSet<u64>)| {
        let told = told.get(convo);
        let first = said.iter().find(|seq| told.is_none_or(|told| !told.contains(seq)));
        first.map(|&seq| (*convo, seq))
    };
    said.iter().filter_map(first).collect()
}

/// An adapter, with a writer on its store.
pub struct World<F> {
    pub under_test: Option<F>,
    pub writer: Writer,
}

impl<F: FeedUnderTest> World<F> {
    pub async fn new() -> Self {
        let under_test = F::open().await;
        let writer = Writer::new(under_test.store());
        Self { under_test: Some(under_test), writer }
    }

    pub fn feed(&self) -> Arc<dyn Feed> {
        self.under_test.as_ref().unwrap().feed()
    }

    /// Somebody new, who is told of all that comes from here on.
    pub async fn follower(&self, consumer: &'static str) -> Follower {
        let mut follower = Follower::new(self.feed(), consumer).await;
        follower.settle().await;
        follower
    }

    pub async fn reopen(&mut self) {
        let under_test = self.under_test.take().unwrap();
        let under_test = under_test.reopen().await;
        self.writer.store = under_test.store();
        self.under_test = Some(under_test);
    }
}
