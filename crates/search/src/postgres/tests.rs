//! The suite against a real server, and what is of this adapter alone.

use tertulia_services::Database;

use super::*;
use crate::testsuite::{IndexUnderTest, in_convos};

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

#[tokio::test]
async fn whoever_no_longer_waits_for_a_search_holds_nobody_up() {
    let under_test = UnderTest::open().await;
    let (index, url) = (&under_test.index, under_test.database.url());
    let locker = Connector::new(&url, &options()).unwrap().connect().await.unwrap();
    locker.run("BEGIN").await.unwrap();
    locker.run("LOCK TABLE search_documents").await.unwrap();
    let search = in_convos("tea", &[1]);
    for _ in 0..3 * options().readers {
        let searching = index.search(search.clone());
        assert!(
            tokio::time::timeout(Duration::from_millis(200), searching).await.is_err(),
            "nothing locks it"
        );
    }
    // Who asks for something else need not wait for what nobody wants any more, ...
    let deadline = Duration::from_secs(3);
    let cursor = tokio::time::timeout(deadline, index.cursor()).await.expect("the connections are held");
    assert_eq!(cursor.unwrap(), None);
    // ... and the server does not go on with it.
    const AT_WORK: &str = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()";
    let given_up = async {
        while locker.row(AT_WORK, &[]).await.unwrap().unwrap().value::<i64>(0).unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(deadline, given_up).await.expect("the server goes on");
    locker.run("ROLLBACK").await.unwrap();
    assert_eq!(index.search(search).await.unwrap(), Found::default());
}
