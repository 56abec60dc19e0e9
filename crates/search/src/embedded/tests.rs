//! The suite, and what is of this adapter alone.

use std::fs;

use super::*;
use crate::testsuite::IndexUnderTest;

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
