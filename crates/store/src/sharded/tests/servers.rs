//! Two PostgreSQL servers as one store.

use std::sync::Arc;

use super::open;
use crate::postgres::PostgresOptions;
use crate::postgres::tests::database::{Database, SECOND, SHARED, options};
use crate::testsuite::StoreUnderTest;
use crate::{Sharded, Store};

struct Servers {
    store: Arc<Sharded>,
    databases: [Database; 2],
    options: PostgresOptions,
}

impl Servers {
    async fn at(databases: [Database; 2], options: PostgresOptions) -> Self {
        let urls = databases.each_ref().map(Database::url);
        Self { store: open(&urls, &options).await, databases, options }
    }

    /// Also in the other order.
    async fn again(self) -> Self {
        let Self { store, databases: [one, other], options } = self;
        drop(store);
        Self::at([other, one], options).await
    }
}

impl StoreUnderTest for Servers {
    async fn open() -> Self {
        let databases = [Database::at(&SHARED).await, Database::at(&SECOND).await];
        Self::at(databases, PostgresOptions { readers: 2, ..options() }).await
    }

    async fn reopen(self) -> Self {
        self.store.close().await;
        self.again().await
    }

    async fn crash(self) -> Self {
        self.again().await
    }

    fn store(&self) -> &dyn Store {
        &*self.store
    }
}

crate::store_suite!(Servers);
