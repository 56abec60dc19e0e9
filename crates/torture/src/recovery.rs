//! How long it takes until all is well again, by what was wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::board::Board;

/// The times from a fault, or from its end, until all is well.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recoveries {
    pub(crate) faults: u64,
    pub(crate) first_ack: Vec<Duration>,
    pub(crate) all_back: Vec<Duration>,
    pub(crate) all_hear: Vec<Duration>,
}

/// A task that ends when nobody wants it any more.
#[derive(Debug)]
pub(crate) struct AbortOnDrop(pub(crate) tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Takes the time of recoveries; `K` is a kind of fault.
#[derive(Debug)]
pub(crate) struct Recovering<K> {
    board: Arc<Board>,
    all: Arc<Mutex<BTreeMap<K, Recoveries>>>,
    /// The last one, until it is over or another fault comes upon it.
    timing: Vec<AbortOnDrop>,
}

impl<K: Copy + Ord + Send + Sync + 'static> Recovering<K> {
    pub(crate) fn new(board: Arc<Board>) -> Self {
        Self { board, all: Arc::default(), timing: Vec::new() }
    }

    /// Another fault begins: what is not well by now is no longer waited for.
    pub(crate) fn begin(&mut self, kind: K) {
        self.timing.clear();
        self.inflicted(kind);
    }

    pub(crate) fn inflicted(&self, kind: K) {
        lock(&self.all).entry(kind).or_default().faults += 1;
    }

    /// From here on it counts until the first message is acked, and until everybody is connected.
    pub(crate) fn count(&mut self, kind: K) {
        let (board, all) = (Arc::clone(&self.board), Arc::clone(&self.all));
        let mut acks = board.acks();
        acks.borrow_and_update();
        let since = Instant::now();
        let timing = async move {
            let first_ack = async {
                if acks.changed().await.is_ok() {
                    lock(&all).entry(kind).or_default().first_ack.push(since.elapsed());
                }
            };
            let all_back = async {
                board.all_back().await;
                lock(&all).entry(kind).or_default().all_back.push(since.elapsed());
            };
            tokio::join!(first_ack, all_back);
        };
        self.timing.push(AbortOnDrop(tokio::spawn(timing)));
    }

    /// From here on it counts until each node has heard from all others what was said after this.
    pub(crate) fn count_hearing(&mut self, kind: K) {
        let (board, all) = (Arc::clone(&self.board), Arc::clone(&self.all));
        let since = Instant::now();
        let timing = async move {
            board.echoes.all_hear(since).await;
            lock(&all).entry(kind).or_default().all_hear.push(since.elapsed());
        };
        self.timing.push(AbortOnDrop(tokio::spawn(timing)));
    }

    /// What was done, and how long it took to recover.
    pub(crate) fn all(&self) -> BTreeMap<K, Recoveries> {
        lock(&self.all).clone()
    }
}

fn lock<K>(all: &Mutex<BTreeMap<K, Recoveries>>) -> MutexGuard<'_, BTreeMap<K, Recoveries>> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}
