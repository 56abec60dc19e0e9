//! Chance from a seed: the same seed draws the same on every machine.

use std::ops::RangeInclusive;
use std::time::Duration;

/// `SplitMix64`: small, and good enough to choose by.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    /// A stream of its own for each name and number: what one actor draws does not depend on what others do.
    pub(crate) fn stream(seed: u64, name: &str, number: usize) -> Self {
        let mut chance = Self(seed);
        for byte in name.bytes().map(u64::from).chain([number as u64]) {
            chance.0 = chance.next() ^ byte;
        }
        chance
    }

    /// Any number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// A number in a range.
    pub(crate) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = range.into_inner();
        low + self.next() % high.saturating_sub(low).saturating_add(1).max(1)
    }

    /// True in `percent` of 100 cases.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    /// A wait in a range of milliseconds.
    pub(crate) fn millis(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }

    /// One of them; `None` if there are none.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        if items.is_empty() { None } else { items.get(self.below(items.len())) }
    }

    /// One of them, each as likely as its weight says; the weights are not all 0.
    pub(crate) fn weighted<T: Copy>(&mut self, table: &[(u32, T)]) -> Option<T> {
        let total: u64 = table.iter().map(|(weight, _)| u64::from(*weight)).sum();
        let mut at = self.next() % total.max(1);
        for (weight, item) in table {
            match at.checked_sub(u64::from(*weight)) {
                Some(rest) => at = rest,
                None => return Some(*item),
            }
        }
        None
    }

    /// Puts them in any order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_same_again_and_another_one_for_each_seed_name_and_number() {
        let first = |seed, name, number| Chance::stream(seed, name, number).next();
        assert_eq!(first(1, "device", 2), first(1, "device", 2));
        let others =
            [first(1, "device", 2), first(2, "device", 2), first(1, "faults", 2), first(1, "device", 3)];
        let distinct: std::collections::BTreeSet<_> = others.iter().collect();
        assert_eq!(distinct.len(), others.len());
    }

    #[test]
    fn weights_are_kept_and_what_weighs_nothing_is_never_drawn() {
        let mut chance = Chance::stream(7, "weights", 0);
        let mut drawn = [0_u32; 3];
        for _ in 0..10_000 {
            drawn[chance.weighted(&[(1, 0), (3, 1), (0, 2)]).unwrap()] += 1;
        }
        assert!((2_200..2_800).contains(&drawn[0]), "{drawn:?}");
        assert_eq!(drawn[2], 0);
        assert_eq!(chance.weighted::<u8>(&[]), None);
    }

    #[test]
    fn a_range_is_drawn_from_end_to_end() {
        let mut chance = Chance::stream(7, "range", 0);
        let drawn: std::collections::BTreeSet<_> = (0..200).map(|_| chance.within(3..=6)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [3, 4, 5, 6]);
    }
}
