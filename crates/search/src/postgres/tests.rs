//! The suite against a real server, and what is of this adapter alone.

use tertulia_services::Database;

use super::*;
use crate::testsuite::IndexUnderTest;

/// Few connections: many tests share a server.
fn options() -> PostgresOptions {
    PostgresOptions { readers: 2, ..PostgresOptions::default() }
}

async fn run(url: &str, sql: &str) -> Result<(), Failure> {
    Connector::new(url, &options()).unwrap().connect().await?.run(sql).await
}

struct UnderTest {
    index: Postgres,
    database: Database,
}

impl IndexUnderTest for UnderTest {
    async fn open() -> Self {
        let database = Database::new("search").unwrap();
        Self { index: Postgres::open(&database.url(), &options()).await.unwrap(), database }
    }

    async fn reopen(self) -> Self {
        self.index.close().await;
        Self {
            index: Postgres::open(&self.database.url(), &options()).await.unwrap(),
            database: self.database,
        }
    }

    fn index(&self) -> &dyn SearchIndex {
        &self.index
    }
}

mod suite {
    crate::search_suite!(super::UnderTest);
}

#[tokio::test]
async fn tables_of_a_newer_version_are_left_alone_and_those_of_an_older_one_are_made_anew() {
    let under_test = UnderTest::open().await;
    under_test.index.apply(Vec::new(), Some("here")).await.unwrap();
    let url = under_test.database.url();
    run(&url, "UPDATE search_meta SET version = 99").await.unwrap();
    let refused = Postgres::open(&url, &options()).await;
    assert!(matches!(refused.err(), Some(OpenError::Newer { found: 99, known: VERSION })));
    assert_eq!(under_test.index.cursor().await.unwrap().as_deref(), Some("here"));
    run(&url, "UPDATE search_meta SET version = 0").await.unwrap();
    let index = Postgres::open(&url, &options()).await.unwrap();
    assert_eq!(index.cursor().await.unwrap(), None);
}

#[tokio::test]
async fn nodes_that_open_it_at_one_time_make_it_once() {
    let database = Database::new("search").unwrap();
    let (url, options) = (database.url(), options());
    let opened = [(); 4].map(|()| Postgres::open(&url, &options));
    for index in futures_util::future::join_all(opened).await {
        assert_eq!(index.unwrap().cursor().await.unwrap(), None);
    }
}
