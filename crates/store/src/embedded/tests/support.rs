//! A store in a folder that goes with the test.

use std::sync::Arc;

use tempfile::TempDir;

use crate::Store;
use crate::embedded::{Embedded, OpenOptions};
use crate::testsuite::StoreUnderTest;

pub(super) struct UnderTest {
    pub(super) dir: TempDir,
    pub(super) store: Arc<Embedded>,
    pub(super) options: OpenOptions,
}

impl UnderTest {
    pub(super) fn with(options: OpenOptions) -> Self {
        Self::at(tempfile::tempdir().unwrap(), options)
    }

    pub(super) fn at(dir: TempDir, options: OpenOptions) -> Self {
        let store = Embedded::open(dir.path(), options.clone()).unwrap();
        Self { dir, store, options }
    }
}

impl StoreUnderTest for UnderTest {
    async fn open() -> Self {
        Self::with(OpenOptions::default())
    }

    async fn reopen(self) -> Self {
        self.store.close().await;
        drop(self.store);
        Self::at(self.dir, self.options)
    }

    async fn crash(self) -> Self {
        // Nobody else holds it: this stops its threads where they are.
        drop(Arc::into_inner(self.store).unwrap());
        Self::at(self.dir, self.options)
    }

    fn store(&self) -> &dyn Store {
        &*self.store
    }
}
