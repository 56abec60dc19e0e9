//! The suite, and what is of this adapter alone.

use std::fs;

use tertulia_protocol::{ConvoId, Seq, Timestamp, UserId};

use super::*;
use crate::testsuite::IndexUnderTest;
use crate::{Document, Term};

struct UnderTest {
    index: Embedded,
    dir: tempfile::TempDir,
}

impl IndexUnderTest for UnderTest {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { index: Embedded::open(dir.path()).unwrap(), dir }
    }

    async fn reopen(self) -> Self {
        self.index.close().await;
        Self { index: Embedded::open(self.dir.path()).unwrap(), dir: self.dir }
    }

    fn index(&self) -> &dyn SearchIndex {
        &self.index
    }
}

mod suite {
    crate::search_suite!(super::UnderTest);
}

#[tokio::test]
async fn a_closed_index_is_one_file() {
    let under_test = UnderTest::open().await;
    under_test.index.apply(Vec::new(), Some("x")).await.unwrap();
    under_test.index.close().await;
    let files: Vec<_> =
        fs::read_dir(under_test.dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["search.db"]);
}

#[tokio::test]
async fn a_damaged_index_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("search.db"), "this is no database, and was one").unwrap();
    let index = Embedded::open(dir.path()).unwrap();
    assert_eq!(index.cursor().await.unwrap(), None);
}

/// Takes tens of seconds: phrases of hundreds of words in messages that say nothing else.
fn endless() -> Search {
    let phrase = Term::of(&"tea and ".repeat(16)).unwrap();
    let convos = (300..700_u16).map(|number| ([number.to_be_bytes(); 8].concat(), Seq::new(1)));
    let convos = convos.map(|(id, from)| (ConvoId::from_bytes(id.try_into().unwrap()), from)).collect();
    Search { terms: vec![phrase; 200], convos, limit: 50, ..Search::default() }
}

#[tokio::test]
async fn whoever_no_longer_waits_for_a_search_holds_nobody_up() {
    let under_test = UnderTest::open().await;
    let (convo, sender) = (ConvoId::from_bytes([1; 16]), UserId::from_bytes([2; 16]));
    let body = "tea and ".repeat(500);
    let message = |number: u64| {
        let ts = Timestamp::from_millis(number.cast_signed() * 1_000);
        Change::Put(Document::new(convo, Seq::new(number), sender, ts, &body))
    };
    under_test.index.apply((1..=400).map(message).collect(), None).await.unwrap();
    let began = std::time::Instant::now();
    for _ in 0..READERS {
        let searching = under_test.index.search(endless());
        assert!(tokio::time::timeout(Duration::from_millis(300), searching).await.is_err(), "it is too fast");
    }
    let back = under_test.index.permits.acquire_many(u32::try_from(READERS).unwrap());
    drop(tokio::time::timeout(Duration::from_secs(3), back).await.expect("they go on").unwrap());
    assert!(began.elapsed() < SEARCH_MAX, "they were given up, not at their end");
    // The connections are as good as new.
    let search = Search { terms: vec![Term::of("tea").unwrap()], ..endless() };
    assert_eq!(under_test.index.search(search).await.unwrap().hits.len(), 0);
}
