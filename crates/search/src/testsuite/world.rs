//! The words that the statements are written in: an index, a clock, conversations by number.

use std::collections::HashMap;

use tertulia_protocol::{ConvoId, Seq, Timestamp, UserId};

use super::IndexUnderTest;
use crate::{Change, Document, Found, Order, Place, Search, SearchIndex, Term};

pub(super) const ANA: UserId = UserId::from_bytes([0xAA; 16]);
pub(super) const BO: UserId = UserId::from_bytes([0xB0; 16]);
/// No entries.
pub(super) const NOTHING: [u64; 0] = [];

pub(super) fn convo(number: u16) -> ConvoId {
    let [a, b] = number.to_be_bytes();
    ConvoId::from_bytes([0xCC, a, b, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, a, b])
}

/// An index, in which each message is a second newer than the one before.
pub(super) struct World<I> {
    under_test: Option<I>,
    pub(super) now: i64,
    seqs: HashMap<ConvoId, u64>,
    batches: u32,
}

impl<I: IndexUnderTest> World<I> {
    pub(super) async fn new() -> Self {
        Self { under_test: Some(I::open().await), now: 1_795_563_466_000, seqs: HashMap::new(), batches: 0 }
    }

    pub(super) fn index(&self) -> &dyn SearchIndex {
        self.under_test.as_ref().unwrap().index()
    }

    pub(super) async fn reopen(&mut self) {
        let under_test = self.under_test.take().unwrap();
        self.under_test = Some(under_test.reopen().await);
    }

    /// The next message of a conversation.
    pub(super) fn message(&mut self, convo: ConvoId, sender: UserId, body: &str) -> Document {
        self.now += 1_000;
        self.message_now(convo, sender, body)
    }

    /// The next message of a conversation, of the same moment as the last.
    pub(super) fn message_now(&mut self, convo: ConvoId, sender: UserId, body: &str) -> Document {
        let seq = self.seqs.entry(convo).or_default();
        *seq += 1;
        Document::new(convo, Seq::new(*seq), sender, Timestamp::from_millis(self.now), body)
    }

    pub(super) async fn put(&mut self, documents: Vec<Document>) {
        self.batches += 1;
        let changes = documents.into_iter().map(Change::Put).collect();
        self.index().apply(changes, Some(&format!("batch {}", self.batches))).await.unwrap();
    }

    /// Says something in conversation 1 and has it taken.
    pub(super) async fn say(&mut self, body: &str) -> Document {
        let document = self.message(convo(1), ANA, body);
        self.put(vec![document.clone()]).await;
        document
    }

    pub(super) async fn search(&self, search: Search) -> Found {
        self.index().search(search).await.unwrap()
    }

    /// The entries of conversation 1 that are found, the newest first.
    pub(super) async fn find(&self, sought: &str) -> Vec<u64> {
        let found = self.search(in_convos(sought, &[1])).await;
        assert_eq!(found.next, None);
        found.hits.iter().map(|hit| hit.seq.get()).collect()
    }
}

/// Words with a space between two, and phrases as `one_two`; in these conversations, all of which may be seen.
pub(crate) fn in_convos(sought: &str, convos: &[u16]) -> Search {
    Search {
        terms: sought.split_whitespace().map(|word| Term::of(&word.replace('_', " ")).unwrap()).collect(),
        convos: convos.iter().map(|&number| (convo(number), Seq::new(1))).collect(),
        limit: 50,
        ..Search::default()
    }
}

/// Where the hits of all pages stand, as (conversation, entry); `between` happens before each page but the first.
pub(super) async fn pages<I: IndexUnderTest>(
    world: &mut World<I>,
    search: Search,
    mut between: impl AsyncFnMut(&mut World<I>),
) -> Vec<(ConvoId, u64)> {
    let mut all = Vec::new();
    let mut from: Option<Place> = None;
    loop {
        let found = world.search(Search { from, ..search.clone() }).await;
        assert!(found.hits.len() <= search.limit);
        all.extend(found.hits.iter().map(|hit| (hit.convo, hit.seq.get())));
        assert!(found.hits.iter().all(|hit| hit.place.order() == search.order));
        if found.next.is_none() {
            return all;
        }
        // A place is taken up wherever a page ends.
        assert!(
            found.hits.len() < search.limit
                || search.order == Order::Newest
                || found.next == found.hits.last().map(|hit| hit.place)
        );
        from = found.next;
        between(world).await;
    }
}
