//! The slots of a user's conversations: four bytes each, in order.
//!
//! Everybody who is here has a set of them, and nearly all are small: a hash set would cost more than what it holds. In
//! order a search is short, and what two have in common is found without going through all of the larger one.

/// A set of slots.
#[derive(Debug, Default)]
pub(super) struct Slots(Vec<u32>);

impl Slots {
    pub(super) fn contains(&self, slot: u32) -> bool {
        self.0.binary_search(&slot).is_ok()
    }

    /// Returns whether it was not there.
    pub(super) fn insert(&mut self, slot: u32) -> bool {
        let Err(place) = self.0.binary_search(&slot) else { return false };
        self.0.insert(place, slot);
        true
    }

    pub(super) fn remove(&mut self, slot: u32) {
        if let Ok(place) = self.0.binary_search(&slot) {
            self.0.remove(place);
        }
    }

    /// Takes many in at once, and gives back those that were not there, in order.
    pub(super) fn insert_all(&mut self, mut slots: Vec<u32>) -> Vec<u32> {
        slots.sort_unstable();
        slots.dedup();
        slots.retain(|slot| !self.contains(*slot));
        self.0.reserve_exact(slots.len());
        self.0.extend(&slots);
        // Two runs in order: the sort merges them.
        self.0.sort();
        slots
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.0.shrink_to_fit();
    }

    /// Whether some slot is in both.
    pub(super) fn meet(&self, other: &Self) -> bool {
        meet(&self.0, &other.0)
    }
}

impl IntoIterator for Slots {
    type Item = u32;
    type IntoIter = std::vec::IntoIter<u32>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Whether two lists in order have something in common: a few steps for each of the shorter one.
fn meet<T: Ord>(one: &[T], other: &[T]) -> bool {
    let (few, mut many) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    for wanted in few {
        many = from(many, wanted);
        match many.first() {
            None => return false,
            Some(found) if found == wanted => return true,
            Some(_) => {}
        }
    }
    false
}

/// The rest of a list in order that begins at `wanted`, or at what comes after it. The further it is the longer are the
/// strides, so what is near is found at once, and what is far as by halving.
fn from<'a, T: Ord>(list: &'a [T], wanted: &T) -> &'a [T] {
    let (mut before, mut stride) = (0, 1);
    while list.get(before + stride - 1).is_some_and(|known| known < wanted) {
        before += stride;
        stride *= 2;
    }
    let end = list.len().min(before + stride);
    let within = list[before..end].partition_point(|known| known < wanted);
    &list[before + within..]
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::cmp::Ordering;
    use std::collections::BTreeSet;

    use super::*;

    /// A slot that counts how often it is looked at.
    struct Counted<'c>(u32, &'c Cell<usize>);

    impl Ord for Counted<'_> {
        fn cmp(&self, other: &Self) -> Ordering {
            self.1.set(self.1.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    impl PartialOrd for Counted<'_> {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    impl PartialEq for Counted<'_> {
        fn eq(&self, other: &Self) -> bool {
            self.cmp(other).is_eq()
        }
    }

    impl Eq for Counted<'_> {}

    fn steps(one: impl Iterator<Item = u32>, other: impl Iterator<Item = u32>) -> (bool, usize) {
        let count = Cell::new(0);
        let one: Vec<_> = one.map(|slot| Counted(slot, &count)).collect();
        let other: Vec<_> = other.map(|slot| Counted(slot, &count)).collect();
        (meet(&one, &other), count.get())
    }

    #[test]
    fn what_two_have_in_common_is_found_in_a_few_steps_for_each_of_the_shorter_list() {
        const MANY: u32 = 20_000;
        let every_other = |from| (0..MANY).map(move |slot| 2 * slot + from);
        let (meet, count) = steps(every_other(0), every_other(1));
        assert!(!meet && count <= 5 * MANY as usize, "{count} steps");
        // All of one before the other.
        assert!(!steps(0..MANY, MANY..2 * MANY).0);
        let (meet, count) = steps([3, 20_001, 39_999].into_iter(), every_other(0));
        assert!(!meet && count <= 3 * 40, "{count} steps");
        assert!(steps([MANY - 1].into_iter(), 0..MANY).0);
    }

    #[test]
    fn slots_are_the_set_that_was_put_in() {
        let mut state = 1_u64;
        let mut chance = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % below) as u32
        };
        let (mut slots, mut truth) =
            ([Slots::default(), Slots::default()], [BTreeSet::new(), BTreeSet::new()]);
        for _ in 0..5_000 {
            let which = chance(2) as usize;
            let (slots_of, truth_of) = (&mut slots[which], &mut truth[which]);
            let slot = chance(200);
            match chance(20) {
                0 => {
                    let many: Vec<u32> = (0..chance(6)).map(|_| chance(200)).collect();
                    let fresh: BTreeSet<u32> =
                        many.iter().copied().filter(|slot| !truth_of.contains(slot)).collect();
                    assert_eq!(slots_of.insert_all(many), fresh.iter().copied().collect::<Vec<_>>());
                    truth_of.extend(fresh);
                }
                1..9 => assert_eq!(slots_of.insert(slot), truth_of.insert(slot)),
                _ => {
                    slots_of.remove(slot);
                    truth_of.remove(&slot);
                }
            }
            assert_eq!(slots_of.contains(slot), truth_of.contains(&slot));
            assert!(slots_of.0.iter().eq(truth_of.iter()));
            assert_eq!(slots[0].meet(&slots[1]), !truth[0].is_disjoint(&truth[1]));
        }
    }
}
