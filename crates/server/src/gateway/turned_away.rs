//! When those come back whom a node turns away because it cannot serve them now.
//!
//! Few of them come again soon, so that they are here as soon as the node can serve them. Of many each waits until it is his
//! turn: the node gives out places, one after the other, so many a second, whether it can serve then or not. So the longer
//! the queue the longer the waits, and when the store is back after an hour thousands do not come at once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Random;

/// The least wait: by chance up to twice as much.
const LEAST: Duration = Duration::from_millis(500);
/// From one place to the next.
const EACH: Duration = Duration::from_millis(1);
/// Nobody waits for longer than about this: a queue that is longer comes more often.
const LONGEST: Duration = Duration::from_secs(15);

/// The queue of those who were turned away.
#[derive(Debug, Default)]
pub struct TurnedAway {
    /// When the next place is free, on the clock that does not jump.
    free_at: Mutex<Duration>,
}

impl TurnedAway {
    /// For how long somebody is to stay away who is turned away `now`; `least` if it is known that nothing will have changed
    /// sooner.
    pub fn wait(&self, now: Duration, least: Duration, random: &Random) -> Duration {
        // Nothing under this lock leaves it half done.
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (*free_at).clamp(now, now + LONGEST);
        *free_at = place + EACH;
        least + random.jitter(LEAST) + place.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn few_come_back_within_a_second() {
        let (queue, random) = (TurnedAway::default(), Random::system());
        for second in 0..100 {
            for _ in 0..10 {
                let wait = queue.wait(HOUR + Duration::from_secs(second), Duration::ZERO, &random);
                assert!(wait >= LEAST && wait <= 2 * LEAST + 10 * EACH, "{wait:?}");
            }
        }
        let known = Duration::from_secs(3);
        assert!(queue.wait(2 * HOUR, known, &random) >= known + LEAST);
    }

    #[test]
    fn however_many_wait_no_more_come_in_a_second_than_there_are_places() {
        let (queue, random) = (TurnedAway::default(), Random::system());
        // All at once, and then each whenever his wait is over.
        let mut due: std::collections::BinaryHeap<_> = (0..10_000).map(|_| std::cmp::Reverse(HOUR)).collect();
        let mut came = vec![0; 60];
        while let Some(std::cmp::Reverse(now)) = due.pop() {
            let second = (now - HOUR).as_secs() as usize;
            let Some(count) = came.get_mut(second) else { break };
            *count += 1;
            due.push(std::cmp::Reverse(now + queue.wait(now, Duration::ZERO, &random)));
        }
        assert!(came[1..].iter().all(|count| *count <= 1_300), "{came:?}");
    }

    #[test]
    fn nobody_waits_for_longer_than_the_longest_queue() {
        let (queue, random) = (TurnedAway::default(), Random::system());
        for _ in 0..100_000 {
            assert!(queue.wait(HOUR, Duration::ZERO, &random) <= LONGEST + 2 * LEAST);
        }
        assert!(queue.wait(HOUR + LONGEST + EACH, Duration::ZERO, &random) <= 2 * LEAST);
    }
}
