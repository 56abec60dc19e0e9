//! Whose turn it is to search: a user has one search at a time, so that he cannot hold the few that the index does beside
//! each other. His next ones wait, for he may have two devices; when many wait already, one is refused.
//!
//! A search that he hangs up on is over (the index ends it), and the next one's turn comes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tertulia_protocol::UserId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::rest::problem::ApiError;

/// How many searches of a user wait for the one that is under way.
const WAITING_MAX: usize = 4;
/// When to come back, where too many wait: a search mostly takes less.
const COME_BACK: Duration = Duration::from_secs(1);

/// The turns of all users on this node.
#[derive(Default)]
pub struct Turns(Mutex<HashMap<UserId, Line>>);

/// The searches of one user.
struct Line {
    /// Under way and waiting.
    searches: usize,
    turn: Arc<Semaphore>,
}

/// A search that may go on; the next one's turn comes when it is dropped.
pub(crate) struct Turn<'a> {
    _permit: OwnedSemaphorePermit,
    _place: Place<'a>,
}

/// A place in a user's line.
struct Place<'a> {
    turns: &'a Turns,
    user: UserId,
}

impl Turns {
    /// Waits for the turn of a user's next search.
    ///
    /// # Errors
    /// `rate_limited` if too many of his wait already.
    pub(crate) async fn next(&self, user: UserId) -> Result<Turn<'_>, ApiError> {
        let (place, turn) = self.line_up(user)?;
        // It is never closed.
        let permit = turn.acquire_owned().await.map_err(|_| ApiError::fault())?;
        Ok(Turn { _permit: permit, _place: place })
    }

    fn line_up(&self, user: UserId) -> Result<(Place<'_>, Arc<Semaphore>), ApiError> {
        let mut lines = self.lines();
        let line =
            lines.entry(user).or_insert_with(|| Line { searches: 0, turn: Arc::new(Semaphore::new(1)) });
        if line.searches > WAITING_MAX {
            return Err(ApiError::rate_limited(COME_BACK));
        }
        line.searches += 1;
        Ok((Place { turns: self, user }, Arc::clone(&line.turn)))
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<UserId, Line>> {
        // Nothing under this lock can panic half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut lines = self.turns.lines();
        if let Some(line) = lines.get_mut(&self.user) {
            line.searches -= 1;
            if line.searches == 0 {
                lines.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tertulia_protocol::Code;

    use super::*;

    const ANA: UserId = UserId::from_bytes([1; 16]);
    const BO: UserId = UserId::from_bytes([2; 16]);

    #[tokio::test]
    async fn a_user_searches_once_at_a_time_and_holds_up_nobody_else() {
        let turns = Turns::default();
        let first = turns.next(ANA).await.unwrap();
        let mut second = Box::pin(turns.next(ANA));
        assert!(second.as_mut().now_or_never().is_none(), "it waits");
        assert!(turns.next(BO).now_or_never().is_some_and(|turn| turn.is_ok()));
        drop(first);
        drop(second.await.unwrap());
        assert!(turns.lines().is_empty(), "nobody is remembered");
    }

    #[tokio::test]
    async fn who_has_many_waiting_is_told_to_come_back_and_who_hangs_up_waits_no_more() {
        let turns = Turns::default();
        let first = turns.next(ANA).await.unwrap();
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(turns.next(ANA))).collect();
        for one in &mut waiting {
            assert!(one.as_mut().now_or_never().is_none());
        }
        let refused = turns.next(ANA).await.err().unwrap();
        assert_eq!((refused.code(), refused.retry_after()), (Code::RateLimited, Some(COME_BACK)));
        drop(waiting.pop());
        let mut last = Box::pin(turns.next(ANA));
        assert!(last.as_mut().now_or_never().is_none(), "there is room again");
        drop((first, waiting));
        drop(last.await.unwrap());
        assert!(turns.lines().is_empty());
    }
}
