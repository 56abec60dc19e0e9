//! The suite against a real server, and what is of this adapter alone.

use std::sync::atomic::{AtomicU32, Ordering};

use tertulia_services::{Kind, shared};

use super::*;
use crate::testsuite::IndexUnderTest;

/// Few connections: many tests share a server.
fn options() -> PostgresOptions {
    PostgresOptions { readers: 2, ..PostgresOptions::default() }
}

/// A database of a test's own, gone when this is dropped.
struct Database {
    server: String,
    name: String,
}

impl Database {
    async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = shared::url(Kind::Postgres).unwrap_or_else(|error| panic!("{error}"));
        let name = format!("search{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        run(&server, &format!("CREATE DATABASE {name}")).await.unwrap();
        Self { server, name }
    }

    fn url(&self) -> String {
        let (server, _) = self.server.rsplit_once('/').unwrap();
        format!("{server}/{}", self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, drop) =
            (self.server.clone(), format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        // The test's runtime may be at its end, so this has its own.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.is_ok_and(|runtime| runtime.block_on(run(&server, &drop)).is_ok())
        });
        let _ = dropped.join();
    }
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
        let database = Database::new().await;
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
    let database = Database::new().await;
    let (url, options) = (database.url(), options());
    let opened = [(); 4].map(|()| Postgres::open(&url, &options));
    for index in futures_util::future::join_all(opened).await {
        assert_eq!(index.unwrap().cursor().await.unwrap(), None);
    }
}
