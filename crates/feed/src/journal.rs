//! The adapter of the store's journal: its rows are what came, and a place is a position of the store.
//!
//! Whoever follows stores his place himself, together with what he has taken. The journal is one partition.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tertulia_domain::log::Position;
use tertulia_protocol::ConvoId;
use tertulia_store::{Store, Touched};

use crate::port::{Came, Feed, FeedError, Lag, News, Place, Reader};

/// The one partition.
pub const PARTITION: i32 = 0;
/// Rows of the journal that are read at once: some seconds of it, where a row holds what was settled together, and where
/// each append of a node is one.
const ROWS_MAX: (usize, usize) = (64, 256);

/// Those who follow the journal of a store. It may forget what all of them have let go of.
pub struct JournalFeed {
    store: Arc<dyn Store>,
    passed: Arc<Passed>,
}

impl JournalFeed {
    /// For these consumers, and no others.
    pub fn new(store: Arc<dyn Store>, consumers: impl IntoIterator<Item = &'static str>) -> Self {
        Self { store, passed: Arc::new(Passed::new(consumers)) }
    }
}

#[async_trait]
impl Feed for JournalFeed {
    fn keeps_places(&self) -> bool {
        false
    }

    async fn follow(
        &self,
        consumer: &'static str,
        place: Option<&str>,
    ) -> Result<Box<dyn Reader>, FeedError> {
        let rows = Rows::open(Arc::clone(&self.store), place).await?;
        Ok(Box::new(JournalReader { rows, consumer, passed: Arc::clone(&self.passed) }))
    }
}

struct JournalReader {
    rows: Rows,
    consumer: &'static str,
    passed: Arc<Passed>,
}

#[async_trait]
impl Reader for JournalReader {
    async fn next(&mut self) -> Result<News, FeedError> {
        let (settled, appended) = ROWS_MAX;
        let rows_max = if self.rows.store.is_sole_writer() { settled } else { appended };
        self.rows.next(rows_max).await
    }

    async fn taken(&mut self, _place: &Place) -> Result<(), FeedError> {
        // The consumer has stored it.
        Ok(())
    }

    async fn let_go(&mut self, place: &Place) -> Result<(), FeedError> {
        let Some(before) = self.rows.position(place).await? else { return Ok(()) };
        let passed = self.passed.passed(self.consumer, before);
        Ok(self.rows.store.forget_journal(passed).await?)
    }

    fn lag(&self) -> Vec<Lag> {
        vec![Lag { partition: PARTITION, entries: 0, since_ms: None }]
    }

    async fn leave(self: Box<Self>) {}
}

/// The rows of a journal from a place on: all that knows how a store numbers what was committed.
pub(crate) struct Rows {
    store: Arc<dyn Store>,
    since: Position,
    /// Where it began is not where somebody left off.
    missed: bool,
}

impl Rows {
    /// From a place on that was given out as a text, or, if the store does not know it, from now on.
    pub(crate) async fn open(store: Arc<dyn Store>, place: Option<&str>) -> Result<Self, FeedError> {
        let known = match place {
            Some(place) => store.parse_position(place).await?,
            None => None,
        };
        let (since, missed) = match known {
            Some(since) => (since, false),
            None => (store.horizon().await?, true),
        };
        Ok(Self { store, since, missed })
    }

    /// What has come by now.
    pub(crate) async fn next(&mut self, rows_max: usize) -> Result<News, FeedError> {
        if std::mem::take(&mut self.missed) {
            return Ok(self.news(Vec::new(), true, true));
        }
        let Some(rows) = self.store.journal(self.since, rows_max).await? else {
            self.since = self.store.horizon().await?;
            return Ok(self.news(Vec::new(), true, true));
        };
        let more = rows.len() >= rows_max;
        for row in &rows {
            self.since.pass(row.commit);
        }
        let ranges = joined(rows.into_iter().flat_map(|row| row.ranges));
        let came = ranges.into_iter().map(|range| Came { partition: PARTITION, range }).collect();
        Ok(self.news(came, false, more))
    }

    fn news(&self, came: Vec<Came>, missed: bool, more: bool) -> News {
        News { came, missed, more, place: self.place() }
    }

    /// The rows behind all that it gave, for somebody else.
    pub(crate) fn behind(&self) -> Self {
        Self { store: Arc::clone(&self.store), since: self.since, missed: false }
    }

    /// Passes so many rows, if that many are there.
    pub(crate) async fn is_full_of(&mut self, count: usize) -> Result<bool, FeedError> {
        let Some(rows) = self.store.journal(self.since, count).await? else { return Ok(false) };
        let is_full = rows.len() >= count && !rows.is_empty();
        if is_full {
            rows.iter().for_each(|row| self.since.pass(row.commit));
        }
        Ok(is_full)
    }

    /// Something from before where it begins was passed over.
    pub(crate) fn has_missed(&mut self) {
        self.missed = true;
    }

    /// Everything that it gave is taken by all who were to be told.
    pub(crate) async fn forget(&self) -> Result<(), FeedError> {
        Ok(self.store.forget_journal(self.since).await?)
    }

    /// Behind all that it gave.
    pub(crate) fn place(&self) -> Place {
        Place { text: Some(self.store.position(self.since)), offsets: Vec::new() }
    }

    async fn position(&self, place: &Place) -> Result<Option<Position>, FeedError> {
        match place.text() {
            Some(text) => Ok(self.store.parse_position(text).await?),
            None => Ok(None),
        }
    }
}

/// Ranges, and where one goes on where that conversation's last has ended, both as one.
fn joined(ranges: impl Iterator<Item = Touched>) -> Vec<Touched> {
    let mut joined = Vec::<Touched>::new();
    let mut newest = HashMap::<ConvoId, usize>::new();
    for range in ranges {
        if let Some(known) = newest.get(&range.convo).and_then(|&at| joined.get_mut(at))
            && known.last.next() == range.first
        {
            known.last = range.last;
            continue;
        }
        newest.insert(range.convo, joined.len());
        joined.push(range);
    }
    joined
}

/// How far all consumers are.
struct Passed(Mutex<BTreeMap<&'static str, Position>>);

impl Passed {
    fn new(consumers: impl IntoIterator<Item = &'static str>) -> Self {
        Self(Mutex::new(consumers.into_iter().map(|consumer| (consumer, Position::default())).collect()))
    }

    /// Notes that one of them has passed what is below a position; says what all of them have passed.
    fn passed(&self, consumer: &'static str, before: Position) -> Position {
        // Each use is one step.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(consumer, before);
        all.values().copied().reduce(|all, one| all.and(&one)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use tertulia_domain::log::Commit;
    use tertulia_protocol::Seq;
    use tertulia_services::Database;
    use tertulia_store::embedded::{Embedded, OpenOptions};
    use tertulia_store::postgres::{Postgres, PostgresOptions};

    use super::*;
    use crate::testsuite::{CONSUMERS, FeedUnderTest};

    /// In a folder.
    struct InFolder {
        dir: tempfile::TempDir,
        store: Arc<dyn Store>,
        feed: Arc<dyn Feed>,
    }

    impl InFolder {
        fn at(dir: tempfile::TempDir) -> Self {
            let store: Arc<dyn Store> = Embedded::open(dir.path(), OpenOptions::default()).unwrap();
            let feed = Arc::new(JournalFeed::new(Arc::clone(&store), CONSUMERS));
            Self { dir, store, feed }
        }
    }

    impl FeedUnderTest for InFolder {
        async fn open() -> Self {
            Self::at(tempfile::tempdir().unwrap())
        }

        async fn reopen(self) -> Self {
            self.store.close().await;
            let Self { dir, store, feed } = self;
            drop((store, feed));
            Self::at(dir)
        }

        fn store(&self) -> Arc<dyn Store> {
            Arc::clone(&self.store)
        }

        fn feed(&self) -> Arc<dyn Feed> {
            Arc::clone(&self.feed)
        }
    }

    /// In PostgreSQL.
    struct InDatabase {
        database: Database,
        store: Arc<dyn Store>,
        feed: Arc<dyn Feed>,
    }

    impl InDatabase {
        async fn at(database: Database) -> Self {
            let options = PostgresOptions { readers: 2, ..PostgresOptions::default() };
            let store: Arc<dyn Store> = Postgres::open(&database.url(), &options).await.unwrap();
            let feed = Arc::new(JournalFeed::new(Arc::clone(&store), CONSUMERS));
            Self { database, store, feed }
        }
    }

    impl FeedUnderTest for InDatabase {
        async fn open() -> Self {
            Self::at(Database::new("feed").unwrap()).await
        }

        async fn reopen(self) -> Self {
            self.store.close().await;
            Self::at(self.database).await
        }

        fn store(&self) -> Arc<dyn Store> {
            Arc::clone(&self.store)
        }

        fn feed(&self) -> Arc<dyn Feed> {
            Arc::clone(&self.feed)
        }
    }

    mod in_folder {
        crate::feed_suite!(super::InFolder);
    }

    mod in_database {
        crate::feed_suite!(super::InDatabase);
    }

    #[test]
    fn what_goes_on_where_the_last_has_ended_is_one_range_and_nothing_else_is() {
        let range = |convo, first, last| Touched {
            convo: ConvoId::from_bytes([convo; 16]),
            first: Seq::new(first),
            last: Seq::new(last),
        };
        let ranges = [
            range(1, 1, 2),
            range(2, 7, 7),
            range(1, 3, 3),
            range(2, 9, 9),
            range(1, 4, 8),
            range(2, 10, 10),
            range(2, 7, 8),
            range(1, 9, 9),
        ];
        let expected = [range(1, 1, 9), range(2, 7, 7), range(2, 9, 10), range(2, 7, 8)];
        assert_eq!(joined(ranges.into_iter()), expected);
    }

    #[test]
    fn what_the_slowest_has_passed_all_have_passed() {
        let at = |number| Position::before(Commit::new(number));
        let all = Passed::new(["fast", "slow"]);
        assert_eq!(all.passed("fast", at(9)), at(0));
        assert_eq!(all.passed("slow", at(4)), at(4));
        assert_eq!(all.passed("slow", at(12)), at(9));
    }
}
