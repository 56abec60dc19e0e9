//! How far a consumer has been told, as a text that is stored with what it has taken.

use serde::{Deserialize, Serialize};
use tertulia_protocol::{ConvoId, Seq};

/// How far a consumer has been told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// A place in the feed: everything from there on comes from it. `None`: the feed keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<String>,
    /// How often the logs were begun with. Whoever reads them for an earlier time does so no longer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) round: u64,
    /// How far the logs were read of what was before; `None`: to their end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) backfill: Option<Backfill>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How far the logs were read, in the order of the conversations' ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Backfill {
    /// All of this conversation, and of those before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) done: Option<ConvoId>,
    /// Of the one behind it the entries below this.
    pub(super) next: Seq,
}

impl Backfill {
    pub(super) const BEGIN: Self = Self { done: None, next: Seq::new(1) };
}

impl Cursor {
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    pub(super) fn write(&self) -> String {
        // Texts and numbers: there is nothing in it that JSON cannot say.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The logs anew, from their beginning.
    pub(super) fn anew(round: u64) -> Self {
        Self { since: None, round, backfill: Some(Backfill::BEGIN) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let done = Some(ConvoId::from_bytes([3; 16]));
        for backfill in [None, Some(Backfill::BEGIN), Some(Backfill { done, next: Seq::new(7) })] {
            for (since, round) in [(Some("abc.1f".to_owned()), 0), (None, 3)] {
                let cursor = Cursor { since, round, backfill };
                assert_eq!(Cursor::parse(&cursor.write()), Some(cursor));
            }
        }
        assert_eq!(Cursor::parse("batch 7"), None);
        // As they were written before nodes shared what a consumer has taken.
        let since = Some("abc.1f".to_owned());
        let cursor = Cursor { since, round: 0, backfill: Some(Backfill::BEGIN) };
        assert_eq!(Cursor::parse(r#"{"since":"abc.1f","backfill":{"next":1}}"#), Some(cursor.clone()));
        assert_eq!(cursor.write(), r#"{"since":"abc.1f","backfill":{"next":1}}"#);
    }
}
