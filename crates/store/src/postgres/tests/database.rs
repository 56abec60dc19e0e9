//! A database of a test's own in one of the servers that all tests share.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use tertulia_services::{Kind, Server, shared};
use tokio::sync::OnceCell;

use crate::postgres::connect::{Connector, Session};
use crate::postgres::migrate::{MIGRATIONS, migrate};
use crate::postgres::options::PostgresOptions;
use crate::postgres::types::RowExt as _;

/// Few connections: many tests share a server.
pub(crate) fn options() -> PostgresOptions {
    PostgresOptions { lanes: 2.try_into().unwrap(), readers: 3, ..PostgresOptions::default() }
}

/// A server, and what tests have left in it.
pub(crate) struct Place {
    url: LazyLock<String>,
    /// Databases that tests have left.
    free: Mutex<Vec<String>>,
    /// A database with all tables and nothing in them, made once a process.
    template: OnceCell<String>,
    /// Held while a database is made: nobody else may look at a template while it is copied.
    copying: tokio::sync::Mutex<()>,
}

/// The server that all tests of all crates share.
pub(crate) static SHARED: Place =
    Place::at(|| shared::url(Kind::Postgres).unwrap_or_else(|error| panic!("{error}")));

/// Another one, of this process alone.
pub(crate) static SECOND: Place = Place::at(|| {
    static SERVER: LazyLock<Server> = LazyLock::new(|| Server::temporary(Kind::Postgres).unwrap());
    SERVER.url()
});

impl Place {
    const fn at(url: fn() -> String) -> Self {
        Self {
            url: LazyLock::new(url),
            free: Mutex::new(Vec::new()),
            template: OnceCell::const_new(),
            copying: tokio::sync::Mutex::const_new(()),
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<String>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A database with all tables, gone when this is dropped.
pub(crate) struct Database {
    place: &'static Place,
    name: String,
}

impl Database {
    /// One that another test has left, or a copy of the template.
    pub(crate) async fn new() -> Self {
        Self::at(&SHARED).await
    }

    pub(crate) async fn at(place: &'static Place) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let url = tokio::task::spawn_blocking(|| &*place.url).await.unwrap();
        let template = place.template.get_or_init(|| template(url)).await;
        if let Some(name) = place.free().pop() {
            return Self { place, name };
        }
        let name = format!("{template}_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let admin = connect(url).await;
        let copying = place.copying.lock().await;
        admin.run(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await.unwrap();
        drop(copying);
        Self { place, name }
    }

    pub(crate) fn url(&self) -> String {
        in_server(&self.place.url, &self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (url, name) = (self.url(), std::mem::take(&mut self.name));
        // The test's runtime may be at its end, so this has its own.
        let emptied = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let empty = async {
                let session = Connector::new(&url, &options()).unwrap().connect().await?;
                session.run(EMPTY).await
            };
            runtime.is_ok_and(|runtime| runtime.block_on(empty).is_ok())
        });
        if emptied.join().unwrap_or(false) {
            self.place.free().push(name);
        }
    }
}

/// Makes a database as good as new, which is quicker than making one. Whoever is still at work there is sent away.
const EMPTY: &str = "
    SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid();
    DELETE FROM access_tokens; DELETE FROM blocks; DELETE FROM devices; DELETE FROM users; DELETE FROM meta;
    DELETE FROM conversations; DELETE FROM participants; DELETE FROM messages; DELETE FROM receipts;
    DELETE FROM journal; DELETE FROM published; DELETE FROM epochs; DELETE FROM lineage;
    DELETE FROM leases; DELETE FROM dead_letters;
    UPDATE journal_forgotten SET before = 0;";

/// The URL of another database in a server.
fn in_server(server: &str, name: &str) -> String {
    let (server, _) = server.rsplit_once('/').unwrap();
    format!("{server}/{name}")
}

pub(crate) async fn connect(url: &str) -> Session {
    Connector::new(url, &options()).unwrap().connect().await.unwrap()
}

/// Makes a database with all tables and nothing in them.
async fn template(server: &str) -> String {
    let name = format!("t{}", std::process::id());
    let admin = connect(server).await;
    // Of processes that are no more, or of one that had the same number.
    let left = admin.rows("SELECT datname::text FROM pg_database WHERE datname ~ '^t[0-9]+'", &[]).await;
    for row in left.unwrap() {
        let left: String = row.value(0).unwrap();
        let process = left[1..].split('_').next().unwrap();
        if process == &name[1..] || !Path::new("/proc").join(process).exists() {
            // Another process may be at the same.
            let _ = admin.run(&format!("DROP DATABASE IF EXISTS {left} WITH (FORCE)")).await;
        }
    }
    admin.run(&format!("CREATE DATABASE {name}")).await.unwrap();
    let session = connect(&in_server(server, &name)).await;
    migrate(&session, MIGRATIONS).await.unwrap();
    drop(session);
    name
}
