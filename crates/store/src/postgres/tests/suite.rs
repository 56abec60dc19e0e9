//! The store against the suite of its port.

use std::sync::Arc;

use super::database::{Database, options};
use crate::Store;
use crate::postgres::{Postgres, PostgresOptions};
use crate::testsuite::StoreUnderTest;

pub(super) struct UnderTest {
    pub(super) store: Arc<Postgres>,
    database: Database,
    options: PostgresOptions,
}

impl UnderTest {
    pub(super) async fn at(database: Database, options: PostgresOptions) -> Self {
        let store = Postgres::open(&database.url(), &options).await.unwrap();
        Self { store, database, options }
    }
}

impl StoreUnderTest for UnderTest {
    async fn open() -> Self {
        Self::at(Database::new().await, options()).await
    }

    async fn reopen(self) -> Self {
        self.store.close().await;
        drop(self.store);
        Self::at(self.database, self.options).await
    }

    async fn crash(self) -> Self {
        // Nobody else holds it: this stops its tasks where they are.
        drop(Arc::into_inner(self.store).unwrap());
        Self::at(self.database, self.options).await
    }

    fn store(&self) -> &dyn Store {
        &*self.store
    }
}

crate::store_suite!(UnderTest);
