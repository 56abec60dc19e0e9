//! Whose turn it is: for what costs much, a user does a few things at a time, and all users together no more than there is
//! room for.
//!
//! So nobody holds up the others, and what is under way has a bound in memory. His next ones wait, for he may have two
//! devices or a busy program; when many wait already, one is refused. Whoever hangs up gives his turn, or his place in the
//! line, away, unless he has sent more behind his call: then that is not noticed before the call is answered.

use std::collections::HashMap;
use std::num::NonZero;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tertulia_domain::log::PARTS_MAX;
use tertulia_protocol::UserId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::gateway::listener::OF_ONE_ADDRESS_MAX;
use crate::rest::problem::ApiError;

/// When to come back, where too many wait: their turns mostly come sooner.
const COME_BACK: Duration = Duration::from_secs(1);
/// How long a turn of all lasts. What takes longer waits for something, for instance for a store that is stalled, and has no
/// page in memory meanwhile; the others are not to wait for that, too.
const TURN_MAX: Duration = Duration::from_millis(500);
/// How many of a user wait. To wait takes a connection and little else, so it is as many as come from one address at most.
const WAITING_MAX: usize = OF_ONE_ADDRESS_MAX;

/// Turns to read pages of messages, while they are read. One page has up to 12.5 MiB (200 bodies of 64 KiB).
///
/// Each part of the store has its own, so that of one that is stalled only those wait who ask for its conversations.
pub struct Pages {
    of_parts: [Turns; PARTS_MAX],
    of_all_parts: Turns,
}

/// Turns for one kind of thing, on this node.
pub struct Turns {
    most: Most,
    lines: Mutex<HashMap<UserId, Line>>,
    all: Semaphore,
}

/// How many there are at most.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Turns at one time, of all users together.
    pub at_once: usize,
    /// Turns at one time of one user.
    pub of_one: usize,
    /// How many of a user wait for these.
    pub waiting: usize,
}

/// Those of one user.
struct Line {
    /// How many have a turn, or wait.
    count: usize,
    turn: Arc<Semaphore>,
}

/// A turn, until it is dropped.
pub(crate) struct Turn<'a> {
    of_all: Option<SemaphorePermit<'a>>,
    _of_user: OwnedSemaphorePermit,
    _place: Place<'a>,
}

/// A place in a user's line.
struct Place<'a> {
    turns: &'a Turns,
    user: UserId,
}

impl Pages {
    /// For each part twice as many at once as there are cores, and eight at least.
    pub fn of_this_machine() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let most = Most { at_once: (2 * cores).max(8), of_one: 2, waiting: WAITING_MAX };
        Self { of_parts: std::array::from_fn(|_| Turns::new(most)), of_all_parts: Turns::new(most) }
    }

    /// Those of conversations in [this part](tertulia_store::Store::part_of).
    pub(crate) fn of_part(&self, part: usize) -> &Turns {
        &self.of_parts[part]
    }

    /// Those of what all parts are asked for.
    pub(crate) fn of_all_parts(&self) -> &Turns {
        &self.of_all_parts
    }
}

impl Turns {
    /// Searches. The index does a few beside each other; of what they have found, each has a page of whole messages.
    pub fn of_searches() -> Self {
        Self::new(Most { at_once: 16, of_one: 1, waiting: WAITING_MAX })
    }

    fn new(most: Most) -> Self {
        Self { most, lines: Mutex::default(), all: Semaphore::new(most.at_once) }
    }

    /// Waits for the next turn of a user.
    ///
    /// # Errors
    /// `rate_limited` if too many of his wait already.
    pub(crate) async fn next(&self, user: UserId) -> Result<Turn<'_>, ApiError> {
        let (place, turn) = self.line_up(user)?;
        // First his own line: who waits for himself stands in nobody's way. They are never closed.
        let of_user = turn.acquire_owned().await.map_err(|_| ApiError::fault())?;
        let of_all = self.all.acquire().await.map_err(|_| ApiError::fault())?;
        Ok(Turn { of_all: Some(of_all), _of_user: of_user, _place: place })
    }

    fn line_up(&self, user: UserId) -> Result<(Place<'_>, Arc<Semaphore>), ApiError> {
        let Most { of_one, waiting, .. } = self.most;
        let mut lines = self.lines();
        let line =
            lines.entry(user).or_insert_with(|| Line { count: 0, turn: Arc::new(Semaphore::new(of_one)) });
        if line.count >= of_one + waiting {
            return Err(ApiError::rate_limited(COME_BACK));
        }
        line.count += 1;
        Ok((Place { turns: self, user }, Arc::clone(&line.turn)))
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<UserId, Line>> {
        // Nothing under this lock can panic half way.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Waits for a read. If it takes long, others have their turns meanwhile, but no more of this user.
    pub(crate) async fn wait_for<T>(&mut self, read: impl Future<Output = T>) -> T {
        let mut read = pin!(read);
        if let Ok(done) = tokio::time::timeout(TURN_MAX, &mut read).await {
            return done;
        }
        self.of_all = None;
        read.await
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut lines = self.turns.lines();
        if let Some(line) = lines.get_mut(&self.user) {
            line.count -= 1;
            if line.count == 0 {
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
    const CY: UserId = UserId::from_bytes([3; 16]);
    const MOST: Most = Most { at_once: 2, of_one: 1, waiting: 3 };

    #[tokio::test]
    async fn a_user_has_his_turns_one_after_the_other_and_holds_up_nobody_else() {
        let turns = Turns::new(MOST);
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
        let turns = Turns::new(MOST);
        let first = turns.next(ANA).await.unwrap();
        let mut waiting: Vec<_> = (0..MOST.waiting).map(|_| Box::pin(turns.next(ANA))).collect();
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

    #[tokio::test]
    async fn all_together_have_no_more_turns_than_there_are() {
        let turns = Turns::new(MOST);
        let first = turns.next(ANA).await.unwrap();
        let _second = turns.next(BO).await.unwrap();
        let mut third = Box::pin(turns.next(CY));
        assert!(third.as_mut().now_or_never().is_none(), "it waits");
        drop(first);
        drop(third.await.unwrap());
    }

    #[tokio::test]
    async fn who_has_all_turns_of_one_part_of_the_store_holds_up_no_other() {
        let pages = Pages::of_this_machine();
        let most = pages.of_part(0).most;
        let mut taken = Vec::new();
        for user in 0..most.at_once {
            let user = UserId::from_bytes((user as u128).to_be_bytes());
            taken.push(pages.of_part(0).next(user).await.unwrap());
        }
        let now = |turns: &Turns, user| turns.next(user).now_or_never().is_some_and(|turn| turn.is_ok());
        assert!(!now(pages.of_part(0), CY), "it waits");
        assert!((1..PARTS_MAX).all(|part| now(pages.of_part(part), CY)));
        assert!(now(pages.of_all_parts(), CY));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_what_is_stalled_holds_up_himself_alone() {
        let turns = Turns::new(MOST);
        let stalled =
            async |user| turns.next(user).await.unwrap().wait_for(std::future::pending::<()>()).await;
        let (mut of_ana, mut of_bo) = (Box::pin(stalled(ANA)), Box::pin(stalled(BO)));
        assert!(of_ana.as_mut().now_or_never().is_none() && of_bo.as_mut().now_or_never().is_none());
        let mut third = Box::pin(turns.next(CY));
        assert!(third.as_mut().now_or_never().is_none(), "it waits");
        tokio::time::advance(TURN_MAX).await;
        assert!(of_ana.as_mut().now_or_never().is_none() && of_bo.as_mut().now_or_never().is_none());
        drop(third.now_or_never().expect("it has its turn").unwrap());
        assert!(turns.next(ANA).now_or_never().is_none(), "his own next one waits");
        drop((of_ana, of_bo));
        assert!(turns.lines().is_empty());
    }
}
