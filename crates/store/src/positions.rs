//! Commit numbers as positions that clients hold.
//!
//! A number alone would lie after a restore: the same number would then name another moment. So every opening
//! of the folder, or every start of the database server, begins an epoch with a random tag, and a position is a tag and a
//! number. A copy that went on by itself, or a backup that was put back, does not know the tags that came after it was
//! made.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tertulia_domain::log::Commit;

/// All epochs of a data folder or database, the present one last.
#[derive(Debug)]
pub(crate) struct Epochs(Vec<Epoch>);

/// From one opening, or start, to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch {
    pub(crate) tag: u32,
    pub(crate) first: Commit,
}

impl Epochs {
    /// In the order in which they began: `first` never falls.
    pub(crate) const fn new(epochs: Vec<Epoch>) -> Self {
        Self(epochs)
    }

    /// The position of a commit number, with the tag of the epoch that it belongs to.
    pub(crate) fn position(&self, commit: Commit) -> String {
        let after = self.0.partition_point(|epoch| epoch.first <= commit);
        // Before the first epoch there are no commits; its tag is as true as any.
        let tag = self.0.get(after.saturating_sub(1)).map_or(0, |epoch| epoch.tag);
        format!("{}.{:x}", URL_SAFE_NO_PAD.encode(tag.to_be_bytes()), commit.get())
    }

    /// Whether this may be a position, of this data or another.
    pub(crate) fn is_well_formed(position: &str) -> bool {
        Self::split(position).is_some()
    }

    fn split(position: &str) -> Option<(u32, Commit)> {
        let (tag, number) = position.split_once('.')?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        let tag = u32::from_be_bytes(tag.try_into().ok()?);
        if !number.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None; // `from_str_radix` takes a sign.
        }
        Some((tag, Commit::new(u64::from_str_radix(number, 16).ok()?)))
    }

    /// The commit number of a position that was given out in one of these epochs.
    pub(crate) fn parse(&self, position: &str, horizon: Commit) -> Option<Commit> {
        let (tag, commit) = Self::split(position)?;
        let at = self.0.iter().rposition(|epoch| epoch.tag == tag)?;
        // The horizon at which an epoch ended is the first commit of the next.
        let end = self.0.get(at + 1).map_or(horizon, |next| next.first);
        (self.0[at].first..=end).contains(&commit).then_some(commit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(list: &[(u32, u64)]) -> Epochs {
        Epochs::new(list.iter().map(|&(tag, first)| Epoch { tag, first: Commit::new(first) }).collect())
    }

    #[test]
    fn a_position_is_short_and_read_back_in_every_epoch() {
        let epochs = epochs(&[(7, 1), (8, 5), (9, 5), (10, 9)]);
        let horizon = Commit::new(12);
        for number in 1..=12 {
            let commit = Commit::new(number);
            let position = epochs.position(commit);
            assert!(position.len() < 24, "{position}");
            assert_eq!(epochs.parse(&position, horizon), Some(commit));
        }
    }

    #[test]
    fn the_end_of_an_epoch_is_a_position_of_it() {
        let before = epochs(&[(7, 1)]);
        let position = before.position(Commit::new(5));
        assert_eq!(epochs(&[(7, 1), (8, 5)]).parse(&position, Commit::new(5)), Some(Commit::new(5)));
    }

    #[test]
    fn what_was_given_out_after_a_backup_is_unknown_to_it() {
        let went_on = epochs(&[(7, 1), (8, 5)]);
        let restored = epochs(&[(7, 1), (99, 3)]);
        let horizon = Commit::new(20);
        assert_eq!(restored.parse(&went_on.position(Commit::new(4)), horizon), None, "beyond the backup");
        assert_eq!(restored.parse(&went_on.position(Commit::new(6)), horizon), None, "an unknown epoch");
        assert_eq!(restored.parse(&went_on.position(Commit::new(2)), horizon), Some(Commit::new(2)));
    }

    #[test]
    fn garbage_is_no_position() {
        let epochs = epochs(&[(7, 1)]);
        let good = epochs.position(Commit::new(1));
        let plus = good.replace('.', ".+");
        for garbage in ["", ".", "1", "x.1", "AAAABw.", "AAAABw.g", "AAAABw.11111111111111111", &plus] {
            assert_eq!(epochs.parse(garbage, Commit::new(9)), None, "{garbage:?}");
        }
    }
}
