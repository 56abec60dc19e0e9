//! A database of a test's own in the server that all tests share.

use std::sync::atomic::{AtomicU32, Ordering};

use tertulia_services::{Kind, shared};
use tokio::sync::OnceCell;

use crate::postgres::connect::{Connector, Session};
use crate::postgres::migrate::{MIGRATIONS, migrate};
use crate::postgres::options::PostgresOptions;

/// Few connections: many tests share a server.
pub(super) fn options() -> PostgresOptions {
    PostgresOptions { lanes: 2.try_into().unwrap(), readers: 3, ..PostgresOptions::default() }
}

/// A database with all tables, gone when this is dropped.
pub(super) struct Database {
    server: String,
    name: String,
}

impl Database {
    /// Copies the template of this run of tests.
    pub(super) async fn new() -> Self {
        let server = server();
        Self::in_server(&server).await
    }

    /// The same in another server than the shared one.
    pub(super) async fn in_server(server: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let template = template(server).await;
        let name = format!("{template}_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let admin = connect(server).await;
        // One at a time: nobody else may look at a template while it is copied.
        static COPYING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let copying = COPYING.lock().await;
        admin.run(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await.unwrap();
        drop(copying);
        Self { server: server.to_owned(), name }
    }

    pub(super) fn url(&self) -> String {
        in_server(&self.server, &self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // The test's runtime may be at its end, so this has its own. What stays goes with the server.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let connector = Connector::new(&server, &options()).unwrap();
                if let Ok(session) = connector.connect().await {
                    let _ = session.run(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
                }
            });
        });
        let _ = dropped.join();
    }
}

/// The URL of the server that all tests share.
fn server() -> String {
    shared::url(Kind::Postgres).unwrap_or_else(|error| panic!("{error}"))
}

/// The URL of another database in a server.
fn in_server(server: &str, name: &str) -> String {
    let (server, _) = server.rsplit_once('/').unwrap();
    format!("{server}/{name}")
}

pub(super) async fn connect(url: &str) -> Session {
    Connector::new(url, &options()).unwrap().connect().await.unwrap()
}

/// A database with all tables and nothing in them, made once a process.
async fn template(server: &str) -> String {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    let name = format!("t{}", std::process::id());
    let make = async || {
        let admin = connect(server).await;
        // Of an earlier process that had the same number.
        admin.run(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await.unwrap();
        admin.run(&format!("CREATE DATABASE {name}")).await.unwrap();
        let session = connect(&in_server(server, &name)).await;
        migrate(&session, MIGRATIONS).await.unwrap();
        drop(session);
        name.clone()
    };
    TEMPLATE.get_or_init(make).await.clone()
}
