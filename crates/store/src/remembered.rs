//! What a writer remembers of conversations: a bounded amount, the longest unused are forgotten first.

use tertulia_protocol::{ConvoId, IdMap};

/// What share of the weight is forgotten at a time, so that looking for the oldest is worth its while.
const FORGOTTEN_SHARE: usize = 8;
/// For so many batches nobody looks again after too little could be forgotten, unless it weighs more by such a share.
const PATIENCE: u64 = 256;

/// Something of each of many conversations.
pub(crate) struct Remembered<T> {
    known: IdMap<ConvoId, Known<T>>,
    weight: usize,
    weight_max: usize,
    /// Counts batches: when something was last used.
    now: u64,
    /// What it weighed, and when, after too little could be forgotten.
    stuck: Option<(usize, u64)>,
}

struct Known<T> {
    value: T,
    used: u64,
    weight: usize,
}

impl<T> Remembered<T> {
    pub(crate) fn new(weight_max: usize) -> Self {
        Self { known: IdMap::default(), weight: 0, weight_max, now: 0, stuck: None }
    }

    /// What is known of a conversation. It counts as used.
    pub(crate) fn get(&mut self, convo: ConvoId) -> Option<&mut T> {
        let known = self.known.get_mut(&convo)?;
        known.used = self.now;
        Some(&mut known.value)
    }

    /// Whether something is known of it.
    pub(crate) fn has(&self, convo: ConvoId) -> bool {
        self.known.contains_key(&convo)
    }

    /// Learns something; it weighs nothing until the end of the batch.
    pub(crate) fn learn(&mut self, convo: ConvoId, value: T) {
        self.forget([convo]);
        self.known.insert(convo, Known { value, used: self.now, weight: 0 });
    }

    /// Forgets all that is known of these.
    pub(crate) fn forget(&mut self, convos: impl IntoIterator<Item = ConvoId>) {
        for convo in convos {
            if let Some(known) = self.known.remove(&convo) {
                self.weight -= known.weight;
            }
        }
    }

    /// Ends a batch that used these: weighs them (`None` is forgotten), and forgets the longest unused of those that
    /// may go, if all together weigh too much.
    pub(crate) fn end_batch(
        &mut self,
        used: impl IntoIterator<Item = ConvoId>,
        weigh: impl Fn(&T) -> Option<usize>,
        may_go: impl Fn(ConvoId) -> bool,
    ) {
        self.now += 1;
        for convo in used {
            let Some(known) = self.known.get_mut(&convo) else { continue };
            match weigh(&known.value) {
                Some(weight) => {
                    self.weight = self.weight - known.weight + weight;
                    known.weight = weight;
                }
                None => self.forget([convo]),
            }
        }
        let is_in_vain = |(weight, since): (usize, u64)| {
            self.weight < weight + self.share() && self.now < since + PATIENCE
        };
        if self.weight > self.weight_max && !self.stuck.is_some_and(is_in_vain) {
            self.shrink(may_go);
        }
    }

    const fn share(&self) -> usize {
        self.weight_max / FORGOTTEN_SHARE
    }

    fn shrink(&mut self, may_go: impl Fn(ConvoId) -> bool) {
        let target = self.weight_max - self.share();
        let mut oldest: Vec<_> = self.known.iter().map(|(&convo, known)| (known.used, convo)).collect();
        oldest.sort_unstable_by_key(|&(used, _)| used);
        for (_, convo) in oldest {
            if self.weight <= target {
                break;
            }
            if may_go(convo) {
                self.forget([convo]);
            }
        }
        self.stuck = (self.weight > target).then_some((self.weight, self.now));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn convo(number: u8) -> ConvoId {
        ConvoId::from_bytes([number; 16])
    }

    fn end(remembered: &mut Remembered<usize>, used: u8) {
        remembered.end_batch([convo(used)], |&weight| (weight > 0).then_some(weight), |id| id != convo(9));
    }

    #[test]
    fn the_longest_unused_go_first_and_only_those_that_may() {
        let mut remembered = Remembered::new(100);
        for number in [9, 1, 2, 3] {
            remembered.learn(convo(number), 25);
            end(&mut remembered, number);
        }
        remembered.get(convo(1));
        end(&mut remembered, 1);
        remembered.learn(convo(4), 25);
        end(&mut remembered, 4);
        let known: Vec<_> = (1..=9).filter(|&number| remembered.has(convo(number))).collect();
        assert_eq!(known, [1, 4, 9]);
    }

    /// Looking through all of them costs too much to be done with each batch.
    #[test]
    fn where_none_may_go_they_are_not_looked_through_with_each_batch_and_go_soon_after_they_may() {
        let (looks, may_go) = (Cell::new(0), Cell::new(false));
        let mut remembered = Remembered::new(80);
        let end = |remembered: &mut Remembered<usize>, number: u8, weight: usize| {
            remembered.learn(convo(number), weight);
            let look = |_| {
                looks.set(looks.get() + 1);
                may_go.get()
            };
            remembered.end_batch([convo(number)], |&weight| Some(weight), look);
            looks.take()
        };
        assert_eq!(end(&mut remembered, 1, 81), 1);
        assert_eq!(
            (end(&mut remembered, 2, 5), end(&mut remembered, 3, 4)),
            (0, 0),
            "it was in vain just now"
        );
        assert_eq!(end(&mut remembered, 4, 1), 4, "it weighs more by a share");
        may_go.set(true);
        let batches = (1..=PATIENCE).take_while(|_| end(&mut remembered, 4, 1) == 0).count();
        assert_eq!(batches as u64, PATIENCE - 1);
        assert!(!remembered.has(convo(1)) && remembered.has(convo(4)));
        assert_eq!(end(&mut remembered, 5, 81), 4, "the last time it was not in vain");
    }

    #[test]
    fn what_weighs_nothing_is_forgotten_with_its_batch() {
        let mut remembered = Remembered::new(100);
        remembered.learn(convo(1), 0);
        assert!(remembered.has(convo(1)));
        end(&mut remembered, 1);
        assert!(!remembered.has(convo(1)));
    }
}
