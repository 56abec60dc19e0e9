//! What each barrier that was asked for stands for.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tertulia_domain::log::Position;

/// How many barriers are remembered; of more the oldest are let go: a later one stands for them.
const ASKED_MAX: usize = 64;

/// Barriers that are under way, and how far everybody was when each was asked for.
#[derive(Default)]
pub(super) struct Barriers(Mutex<Asked>);

#[derive(Default)]
struct Asked {
    newest: u64,
    under_way: VecDeque<(u64, Position)>,
}

impl Barriers {
    /// A token for a barrier behind which is everything below a position.
    pub(super) fn ask(&self, position: Position) -> u64 {
        let mut asked = self.lock();
        asked.newest += 1;
        let token = asked.newest;
        if asked.under_way.len() == ASKED_MAX {
            asked.under_way.pop_front();
        }
        asked.under_way.push_back((token, position));
        token
    }

    /// What lies behind a barrier that has come; those before it never will.
    pub(super) fn heard(&self, token: u64) -> Option<Position> {
        let mut asked = self.lock();
        let at = asked.under_way.iter().position(|(known, _)| *known == token)?;
        asked.under_way.drain(..=at).next_back().map(|(_, position)| position)
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        // Nothing under this lock leaves it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tertulia_domain::log::Commit;

    use super::*;

    #[test]
    fn a_barrier_that_comes_stands_for_what_was_there_when_it_was_asked_for() {
        let barriers = Barriers::default();
        let at = |number| Position::before(Commit::new(number));
        let tokens: Vec<_> = (0..ASKED_MAX as u64 + 2).map(|number| barriers.ask(at(number))).collect();
        assert_eq!(barriers.heard(tokens[1]), None, "too many came after it");
        assert_eq!(barriers.heard(tokens[5]), Some(at(5)));
        assert_eq!((barriers.heard(tokens[4]), barriers.heard(tokens[5])), (None, None));
        assert_eq!(barriers.heard(tokens[6]), Some(at(6)));
        assert_eq!(barriers.heard(77), None);
    }
}
