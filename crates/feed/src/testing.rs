//! A database of a test's own in the server that all tests share.

use std::sync::atomic::{AtomicU32, Ordering};

use tertulia_services::{Kind, shared};
use tertulia_store::postgres::PostgresOptions;
use tertulia_store::postgres::parts::{Connector, Failure};

/// An empty one, gone when this is dropped.
pub(crate) struct Database {
    server: String,
    name: String,
}

impl Database {
    pub(crate) async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = shared::url(Kind::Postgres).unwrap_or_else(|error| panic!("{error}"));
        let name = format!("feed{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        run(&server, &format!("CREATE DATABASE {name}")).await.unwrap();
        Self { server, name }
    }

    pub(crate) fn url(&self) -> String {
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
    Connector::new(url, &PostgresOptions::default()).unwrap().connect().await?.run(sql).await
}
