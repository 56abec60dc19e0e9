//! Two embedded stores as one, against the suite of the port.

use std::sync::Arc;

use tempfile::TempDir;

use crate::Sharded;
use crate::Store;
use crate::embedded::{Embedded, OpenOptions};
use crate::testsuite::StoreUnderTest;

struct Folders {
    store: Arc<Sharded>,
    dirs: [TempDir; 2],
}

impl Folders {
    async fn at(dirs: [TempDir; 2]) -> Self {
        let open =
            |dir: &TempDir| -> Arc<dyn Store> { Embedded::open(dir.path(), OpenOptions::default()).unwrap() };
        let stores = dirs.iter().map(open).collect();
        Self { store: Sharded::over(stores).await.unwrap(), dirs }
    }
}

impl StoreUnderTest for Folders {
    async fn open() -> Self {
        Self::at([(); 2].map(|()| tempfile::tempdir().unwrap())).await
    }

    async fn reopen(self) -> Self {
        self.store.close().await;
        drop(self.store);
        Self::at(self.dirs).await
    }

    async fn crash(self) -> Self {
        drop(Arc::into_inner(self.store).unwrap());
        Self::at(self.dirs).await
    }

    fn store(&self) -> &dyn Store {
        &*self.store
    }
}

crate::store_suite!(Folders);
