//! A store in a folder that goes with the test.

use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tempfile::TempDir;
use tertulia_domain::log::{Intent, Outcome};
use tertulia_protocol::{ConvoId, Timestamp};

use crate::embedded::{Embedded, Faults, OpenOptions, TailLimits};
use crate::testsuite::StoreUnderTest;
use crate::testsuite::world::{ANA, BO, create_group, send};
use crate::{Slice, Store, StoreError};

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

/// The same, opened with other options.
pub(super) struct Limited<L>(UnderTest, PhantomData<L>);

pub(super) trait Limits {
    fn options() -> OpenOptions;
}

/// Limits so small that every one of them is reached.
pub(super) type Tiny = Limited<TinyLimits>;
/// Whoever reads has what he reads settled before its turn.
pub(super) type Ahead = Limited<NothingWhole>;

pub(super) enum TinyLimits {}

impl Limits for TinyLimits {
    fn options() -> OpenOptions {
        OpenOptions {
            queue_intents_max: 3,
            queue_bytes_max: 1_000,
            tail: TailLimits { records_max: 6, bytes_max: 100_000, convos_max: 6, whole_max: 2 },
            journal_segment_bytes: 300,
            journal_segment_age: std::time::Duration::from_millis(2),
            conversations_weight_max: 6,
            readers: 1,
            ..OpenOptions::default()
        }
    }
}

pub(super) enum NothingWhole {}

impl Limits for NothingWhole {
    fn options() -> OpenOptions {
        let tail = TailLimits { whole_max: 0, ..TailLimits::default() };
        OpenOptions { tail, ..OpenOptions::default() }
    }
}

impl<L: Limits> StoreUnderTest for Limited<L> {
    async fn open() -> Self {
        Self(UnderTest::with(L::options()), PhantomData)
    }

    async fn reopen(self) -> Self {
        Self(self.0.reopen().await, PhantomData)
    }

    async fn crash(self) -> Self {
        Self(self.0.crash().await, PhantomData)
    }

    fn store(&self) -> &dyn Store {
        self.0.store()
    }
}

/// A burst that does not end, and what is read is settled before its turn.
pub(super) fn burst() -> (OpenOptions, Faults) {
    let faults = Faults::default();
    faults.burst.store(true, Ordering::Relaxed);
    (OpenOptions { faults: faults.clone(), ..NothingWhole::options() }, faults)
}

/// A copy of a folder as it is at this moment, as a crash would leave it. Nothing may be writing.
pub(super) fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    copy_files(from, to.path(), |_| true);
    to
}

/// Copies some files; shared memory is left out, for it does not survive a process.
pub(super) fn copy_files(from: &Path, to: &Path, wanted: impl Fn(&str) -> bool) {
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        if wanted(&name) && !name.ends_with("-shm") {
            std::fs::copy(file.path(), to.join(name)).unwrap();
        }
    }
}

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_795_563_466_000);

pub(super) async fn try_one(store: &Embedded, intent: Intent) -> Result<Outcome, StoreError> {
    Ok(store.append(vec![intent], NOW).await?.outcomes.remove(0))
}

/// A group of Ana and Bo.
pub(super) async fn group(store: &Embedded, convo: ConvoId) {
    let created = try_one(store, create_group(convo, &[ANA, BO], Default::default())).await.unwrap();
    assert!(matches!(created, Outcome::Appended { .. }), "{created:?}");
}

/// Ana sends the numbers, a call each.
pub(super) async fn say(store: &Embedded, convo: ConvoId, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let sent = try_one(store, send(convo, ANA, number, &number.to_string())).await.unwrap();
        assert!(matches!(sent, Outcome::Appended { .. }), "{sent:?}");
    }
}

/// The conversation has `messages` messages, 1, 2, 3, … after its first entry, and nothing else; each once.
pub(super) async fn assert_messages(store: &Embedded, convo: ConvoId, messages: u64) {
    for slice in [Slice::Newest, Slice::After(Default::default())] {
        let page = store.history(BO, convo, slice, 100_000).await.unwrap().unwrap();
        let found: Vec<_> = page
            .entries
            .iter()
            .map(|(entry, _)| (entry.seq.get(), entry.client_seq.map(|number| number.get())))
            .collect();
        let expected: Vec<_> = (1..=messages + 1).map(|seq| (seq, (seq > 1).then(|| seq - 1))).collect();
        assert_eq!(found, expected);
    }
    let seen = store.conversation(BO, convo).await.unwrap().unwrap();
    assert_eq!((seen.last_seq.get(), seen.unread_count), (messages + 1, messages));
}

/// Waits for something that comes by itself soon.
pub(super) async fn until(what: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if what() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it did not come");
}

pub(super) fn figure(store: &Embedded, name: &str) -> f64 {
    store.figures().into_iter().find(|(found, _)| *found == name).unwrap().1
}
