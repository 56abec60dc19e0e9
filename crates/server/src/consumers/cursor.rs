//! Up to where a consumer has been told, as a text that it stores.

use serde::{Deserialize, Serialize};
use tertulia_protocol::{ConvoId, Seq};

/// Up to where a consumer has been told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// A position of the store: everything from there on comes from the journal.
    pub(super) since: String,
    /// How far the logs were read of what was before; `None`: to their end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) backfill: Option<Backfill>,
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let done = Some(ConvoId::from_bytes([3; 16]));
        for backfill in [None, Some(Backfill::BEGIN), Some(Backfill { done, next: Seq::new(7) })] {
            let cursor = Cursor { since: "abc.1f".into(), backfill };
            assert_eq!(Cursor::parse(&cursor.write()), Some(cursor));
        }
        assert_eq!(Cursor::parse("batch 7"), None);
    }
}
