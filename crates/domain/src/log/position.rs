//! Commits, and how far somebody is in them.
//!
//! A store has one part, or several that know nothing of each other: each numbers its own commits. So what everybody has
//! is a number a part.

/// How many parts a store has at most.
pub const PARTS_MAX: usize = 8;

/// The upper byte of a [`Commit`] is its part.
const PART_SHIFT: u32 = 56;

/// The number of a committed batch in one part of the store: 1, 2, 3, … in the order of its commits.
///
/// Which of two came first can be said of those of one part; all of one conversation are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Commit(u64);

impl Commit {
    /// Wraps what [`get`](Self::get) gave: in the first part a number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, with the part.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// In which part it was committed.
    pub const fn part(self) -> usize {
        // Also of a number that nobody gave out it is one that there may be.
        (self.0 >> PART_SHIFT) as usize % PARTS_MAX
    }

    /// The same number, in another part.
    #[must_use]
    pub const fn in_part(self, part: usize) -> Self {
        Self(self.number() | (part as u64) << PART_SHIFT)
    }

    const fn number(self) -> u64 {
        self.0 & ((1 << PART_SHIFT) - 1)
    }

    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The one before; zero has none and stays.
    #[must_use]
    pub const fn previous(self) -> Self {
        if self.number() == 0 { self } else { Self(self.0 - 1) }
    }
}

/// How far somebody is: in each part of the store everything below a commit.
///
/// Of two positions none needs to be ahead of the other: one may be in one part, the other in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Position([u64; PARTS_MAX]);

impl Position {
    /// Everything below this commit, and in the other parts nothing.
    pub const fn before(commit: Commit) -> Self {
        let mut numbers = [0; PARTS_MAX];
        numbers[commit.part()] = commit.number();
        Self(numbers)
    }

    /// In each part everything below this number.
    pub const fn new(numbers: [u64; PARTS_MAX]) -> Self {
        Self(numbers)
    }

    /// The numbers, a part each.
    pub const fn numbers(&self) -> [u64; PARTS_MAX] {
        self.0
    }

    /// Everything below this commit of a part.
    pub const fn of_part(&self, part: usize) -> Commit {
        Commit(self.0[part]).in_part(part)
    }

    /// Whether this commit is below it.
    pub const fn has(&self, commit: Commit) -> bool {
        commit.number() < self.0[commit.part()]
    }

    /// Whether all that is below the other is below it, too.
    pub fn covers(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(own, other)| own >= other)
    }

    /// What is below it or the other.
    #[must_use]
    pub fn or(mut self, other: &Self) -> Self {
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own = (*own).max(*other);
        }
        self
    }

    /// What is below it and the other.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own = (*own).min(*other);
        }
        self
    }

    /// Moves it behind a commit: everything up to that has been passed.
    pub fn pass(&mut self, commit: Commit) {
        let own = &mut self.0[commit.part()];
        *own = (*own).max(commit.number() + 1);
    }

    /// Moves it in one part, forward or back, to everything below this commit.
    pub const fn set(&mut self, commit: Commit) {
        self.0[commit.part()] = commit.number();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn commit(part: usize, number: u64) -> Commit {
        Commit::new(number).in_part(part)
    }

    #[test]
    fn commits_of_a_part_follow_one_another() {
        for part in 0..PARTS_MAX {
            let first = commit(part, 1);
            assert_eq!(
                (first.part(), first.next(), first.previous()),
                (part, commit(part, 2), commit(part, 0))
            );
            assert!(first < first.next());
            assert_eq!(first.previous().previous(), first.previous());
            assert_eq!(first.in_part(0), Commit::new(1));
        }
    }

    #[test]
    fn a_position_has_what_is_below_it_in_each_part() {
        let mut position = Position::before(commit(1, 5));
        assert!(position.has(commit(1, 4)) && !position.has(commit(1, 5)) && !position.has(commit(0, 0)));
        position.pass(commit(0, 7));
        assert!(position.has(commit(0, 7)) && !position.has(commit(0, 8)) && position.has(commit(1, 4)));
        position.pass(commit(0, 3));
        assert_eq!((position.of_part(0), position.of_part(1)), (commit(0, 8), commit(1, 5)));
        position.set(commit(0, 3));
        assert_eq!(position.of_part(0), commit(0, 3));
    }

    #[test]
    fn of_two_positions_none_needs_to_be_ahead() {
        let [one, other] = [commit(0, 9), commit(1, 9)].map(Position::before);
        assert!(!one.covers(&other) && !other.covers(&one) && one.covers(&one));
        let both = one.or(&other);
        assert!(both.covers(&one) && both.covers(&other));
        assert_eq!(one.and(&other), Position::default());
        assert_eq!(both.and(&one), one);
    }
}
