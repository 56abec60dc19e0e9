//! Stores of several parts against the suite of the port, and what they alone promise.

mod agree;
mod faults;
mod folders;
mod servers;

use std::sync::Arc;

use crate::postgres::{Postgres, PostgresOptions, servers as of_postgres};
use crate::{Sharded, Store};

/// A store over these servers, in whatever order they are named.
async fn open(urls: &[String], options: &PostgresOptions) -> Arc<Sharded> {
    let mut stores: Vec<Arc<dyn Store>> = Vec::new();
    for url in of_postgres::agree(urls, options).await.unwrap() {
        stores.push(Postgres::open(&url, options).await.unwrap());
    }
    Sharded::over(stores).await.unwrap()
}
