//! What is kept of an intent that was let in.

use std::sync::Arc;

use tertulia_protocol::rest::MemberSettings;
use tertulia_protocol::{ConvoId, DeviceId, Entry, Seq, UserId};

use crate::log::Receipt;

/// What is kept of an intent that was let in.
///
/// A record says all that follows from it (who follows the last owner, from where a new member sees, how many
/// messages there are), so that whoever stores or replays records needs no conversation in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A new entry.
    Entry {
        /// The entry.
        entry: Arc<Entry>,
        /// How many of the entries up to it, itself included, are messages.
        message_no: u64,
        /// What follows from it beyond what it says.
        effect: Effect,
    },
    /// A member's watermarks after a mark moved them.
    Mark {
        /// The watermarks.
        receipt: Receipt,
        /// How many messages there are up to `receipt.read`.
        read_no: u64,
        /// Which of them moved.
        passed: Passed,
    },
    /// All of a member's own settings after a change.
    Own {
        /// Where.
        convo: ConvoId,
        /// Whose.
        user: UserId,
        /// The settings.
        settings: MemberSettings,
    },
    /// Whether a member of a direct conversation keeps it closed for sends.
    Block {
        /// Where.
        convo: ConvoId,
        /// Who blocks the other, or no longer.
        user: UserId,
        /// Whether he does.
        blocked: bool,
    },
}

/// What follows from an entry beyond what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Of a message: the sender's watermarks stand at it.
    Sent {
        /// The device that it came from.
        device: DeviceId,
        /// Which watermarks jumped over entries in between.
        passed: Passed,
    },
    /// Of `created` and `member_added`: its users are members, with their watermarks at this entry.
    Joined {
        /// The number of the first of them in the order of joining; the others follow in the entry's order.
        first_joined_no: u64,
        /// The first entry that they may see.
        visible_from: Seq,
    },
    /// Of `member_removed`: its users are no members.
    Left {
        /// Who became an owner because the last one went.
        successor: Option<UserId>,
    },
}

/// Which of a member's watermarks went over entries that were not behind them yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Passed {
    /// `deliveredSeq` did.
    pub delivered: bool,
    /// `readSeq` did.
    pub read: bool,
}

impl Record {
    /// The conversation that it belongs to.
    pub fn convo(&self) -> ConvoId {
        match self {
            Self::Entry { entry, .. } => entry.convo_id,
            Self::Mark { receipt, .. } => receipt.convo,
            Self::Own { convo, .. } | Self::Block { convo, .. } => *convo,
        }
    }

    /// Whether it changes who is a member, or from where one sees.
    pub const fn changes_members(&self) -> bool {
        matches!(self, Self::Entry { effect: Effect::Joined { .. } | Effect::Left { .. }, .. })
    }
}
