//! Several stores as one: each conversation is in one part, found by rendezvous hashing of its id.
//!
//! What is of one conversation, its part does alone. What is of a user, all parts are asked for, and their answers put
//! together. A position has a number for each part, so that none of them waits for another.
//!
//! While a part does not answer, the conversations of the others go on; what asks all parts for something that must not be
//! incomplete (an inbox, a resume) fails until it is back.
//!
//! - `place` says which part a conversation is in.
//! - `asked` remembers how far each part was.
//! - `merge` puts answers together.
//! - `port` is the port, answered.

mod asked;
mod merge;
mod place;
mod port;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tertulia_domain::log::{Commit, PARTS_MAX, Position};
use tertulia_protocol::ConvoId;

use self::asked::Asked;
use crate::{Store, StoreError};

/// How long the answer of a part is waited for by those who can do with what it told before.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long it is waited for before anything is known.
const PATIENCE_AT_FIRST: Duration = Duration::from_secs(30);

/// Several stores as one.
pub struct Sharded {
    parts: Vec<Part>,
}

/// One of the stores.
struct Part {
    store: Arc<dyn Store>,
    /// The number of its first lane.
    first_lane: usize,
    horizon: Asked,
    barrier: Asked,
    /// It did not answer when it was last asked.
    is_away: AtomicBool,
}

impl Sharded {
    /// Of these, of which there are as many as [`PARTS_MAX`] at most, always in this order.
    ///
    /// # Errors
    /// One of them does not answer: how far it is has to be known once.
    pub async fn over(stores: Vec<Arc<dyn Store>>) -> Result<Arc<Self>, StoreError> {
        assert!((1..=PARTS_MAX).contains(&stores.len()), "a store of {} parts", stores.len());
        let mut first_lane = 0;
        let parts = stores.into_iter().map(|store| {
            let lanes = store.lanes().get();
            let part = Part {
                store,
                first_lane,
                horizon: Asked::default(),
                barrier: Asked::default(),
                is_away: AtomicBool::new(false),
            };
            first_lane += lanes;
            part
        });
        let parts: Vec<_> = parts.collect();
        for Part { store, horizon, barrier, .. } in &parts {
            let own = || Arc::clone(store);
            let (horizon_of, barrier_of) = (own(), own());
            horizon.ask(PATIENCE_AT_FIRST, || Box::pin(async move { horizon_of.horizon().await })).await?;
            barrier
                .ask(PATIENCE_AT_FIRST, || Box::pin(async move { barrier_of.barrier_horizon().await }))
                .await?;
        }
        Ok(Arc::new(Self { parts }))
    }

    /// The part of a conversation, of so many.
    pub fn place(convo: ConvoId, parts: usize) -> usize {
        place::part_of(convo, parts)
    }

    /// The part of a conversation, and its number.
    fn part(&self, convo: ConvoId) -> (usize, &dyn Store) {
        let number = place::part_of(convo, self.parts.len());
        (number, &*self.parts[number].store)
    }

    /// What each of the parts tells. All of them must: together they are what was asked for.
    async fn of_all<'s, T, F>(&'s self, ask: impl Fn(usize, &'s dyn Store) -> F) -> Result<Vec<T>, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        self.ask(ask).await.into_iter().collect()
    }

    /// What those of the parts tell that answer, with their numbers. Of none of them: what is the matter.
    async fn of_those_that_answer<'s, T, F>(
        &'s self,
        ask: impl Fn(usize, &'s dyn Store) -> F,
    ) -> Result<Vec<(usize, T)>, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let (mut told, mut failed) = (Vec::new(), None);
        for (number, answer) in self.ask(ask).await.into_iter().enumerate() {
            match answer {
                Ok(answer) => told.push((number, answer)),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) if told.is_empty() => Err(error),
            _ => Ok(told),
        }
    }

    async fn ask<'s, T, F>(&'s self, ask: impl Fn(usize, &'s dyn Store) -> F) -> Vec<Result<T, StoreError>>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let answers = self.parts.iter().enumerate().map(|(number, part)| ask(number, &*part.store));
        let answers = join_all(answers).await;
        for (number, answer) in answers.iter().enumerate() {
            self.note(number, answer.as_ref().err());
        }
        answers
    }

    /// How far each part is, as it tells now or, if it does not, told before.
    async fn position_of(
        &self,
        asked: impl Fn(&Part) -> &Asked,
        ask: impl Fn(Arc<dyn Store>) -> futures_util::future::BoxFuture<'static, Result<Position, StoreError>>,
    ) -> Result<Position, StoreError> {
        let answers = self.parts.iter().map(|part| {
            let store = Arc::clone(&part.store);
            asked(part).ask(PATIENCE, || ask(store))
        });
        let answers = join_all(answers).await;
        let mut position = Position::default();
        let mut failed = None;
        for (number, (part, answer)) in self.parts.iter().zip(answers).enumerate() {
            self.note(number, answer.as_ref().err());
            failed = failed.or(answer.err());
            position.set(Commit::new(asked(part).known()).in_part(number));
        }
        match failed {
            Some(error) if self.parts.iter().all(Part::is_away) => Err(error),
            _ => Ok(position),
        }
    }

    /// Says once that a part is away, and that it is back.
    fn note(&self, number: usize, error: Option<&StoreError>) {
        let is_away = error.is_some_and(|error| !matches!(error, StoreError::InvalidCursor));
        if self.parts[number].is_away.swap(is_away, Ordering::AcqRel) == is_away {
            return;
        }
        let part = number + 1;
        match error {
            Some(StoreError::Closed) => {}
            Some(error) => tracing::warn!(
                part,
                %error,
                "a part of the store does not answer: conversations of the others go on"
            ),
            None => tracing::info!(part, "the part of the store answers again"),
        }
    }
}

impl Part {
    fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Acquire)
    }
}

/// Everything below the part's component, as the part counts.
fn in_its_words(position: &Position, part: usize) -> Position {
    Position::before(position.of_part(part).in_part(0))
}
