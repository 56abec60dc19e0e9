//! How far a part is, as it told last: a part that does not answer holds up nobody who asks for all of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tertulia_domain::log::Position;
use tokio::sync::oneshot;

use crate::StoreError;

type Told = Result<Position, StoreError>;

/// A number of a part that only grows, and is asked for again and again: what was told once stays true.
#[derive(Default)]
pub(super) struct Asked {
    known: Arc<AtomicU64>,
    under_way: Mutex<Option<Shared<oneshot::Receiver<Told>>>>,
}

impl Asked {
    /// What is known.
    pub(super) fn known(&self) -> u64 {
        self.known.load(Ordering::Acquire)
    }

    /// Asks, unless somebody does already, and waits so long for the answer. It is not lost if it comes later.
    pub(super) async fn ask(
        &self,
        patience: Duration,
        ask: impl FnOnce() -> BoxFuture<'static, Told>,
    ) -> Result<(), StoreError> {
        let told = self.begin(ask);
        match tokio::time::timeout(patience, told).await {
            Ok(Ok(told)) => told.map(drop),
            // The runtime is going down.
            Ok(Err(_)) => Err(StoreError::Closed),
            Err(_) => Err(StoreError::Unavailable { reason: "no answer yet".into(), retry_after: patience }),
        }
    }

    fn begin(&self, ask: impl FnOnce() -> BoxFuture<'static, Told>) -> Shared<oneshot::Receiver<Told>> {
        // Nothing under this lock leaves it half done.
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = under_way.as_ref().filter(|told| told.peek().is_none()) {
            return told.clone();
        }
        let (teller, told) = oneshot::channel();
        let (known, asking) = (Arc::clone(&self.known), ask());
        tokio::spawn(async move {
            let told = asking.await;
            if let Ok(position) = &told {
                known.fetch_max(position.of_part(0).get(), Ordering::AcqRel);
            }
            // Nobody may wait any more.
            drop(teller.send(told));
        });
        let told = told.shared();
        *under_way = Some(told.clone());
        told
    }
}

#[cfg(test)]
mod tests {
    use tertulia_domain::log::Commit;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn told(number: u64) -> BoxFuture<'static, Told> {
        Box::pin(async move { Ok(Position::before(Commit::new(number))) })
    }

    #[tokio::test]
    async fn what_was_told_stays_true() {
        let asked = Asked::default();
        for (number, known) in [(5, 5), (3, 5), (9, 9)] {
            asked.ask(LONG, || told(number)).await.unwrap();
            assert_eq!(asked.known(), known);
        }
        asked.ask(LONG, || Box::pin(async { Err(StoreError::Closed) })).await.unwrap_err();
        assert_eq!(asked.known(), 9);
    }

    #[tokio::test]
    async fn an_answer_that_is_late_is_waited_for_by_those_who_ask_next() {
        let asked = Asked::default();
        let (answer, answered) = oneshot::channel();
        let late = || -> BoxFuture<'static, Told> { Box::pin(async { told(answered.await.unwrap()).await }) };
        asked.ask(Duration::ZERO, late).await.unwrap_err();
        asked.ask(Duration::ZERO, || panic!("it is asked already")).await.unwrap_err();
        answer.send(7).unwrap();
        asked.ask(LONG, || panic!("it is asked already")).await.unwrap();
        assert_eq!(asked.known(), 7);
        asked.ask(LONG, || told(8)).await.unwrap();
        assert_eq!(asked.known(), 8);
    }
}
