//! What can be asked of a conversation's log ([`Intent`]), and what comes of it ([`Outcome`]).
//!
//! Everything durable that happens in a conversation is an intent of one `append`: entries, and also
//! watermarks and a member's own settings, which are no entries but share the order of commits.

mod position;

use std::sync::Arc;
use std::time::Duration;

use tertulia_protocol::entry::{ConversationType, HistoryPolicy, Posting, Role};
use tertulia_protocol::event::SharedSettings;
use tertulia_protocol::rest::{MemberSettings, MemberSettingsPatch};
use tertulia_protocol::{ClientSeq, Code, ConvoId, DeviceId, Entry, Seq, Timestamp, UserId};

pub use position::{Commit, PARTS_MAX, Position};

/// Something that somebody wants to happen in a conversation.
///
/// Sizes and characters have been checked at the edge ([`tertulia_protocol::rules`]); who may do what
/// is decided by [`crate::conversation`], at the intent's place in the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// Begins a conversation. A direct one has the id [`ConvoId::direct`] and is created once.
    Create {
        /// The new id.
        convo: ConvoId,
        /// Who asks; becomes the owner of a group.
        by: UserId,
        /// Direct or group.
        kind: ConversationType,
        /// The first title.
        title: Option<String>,
        /// All members without repeats, `by` first.
        members: Vec<UserId>,
        /// What those see who come later.
        history: HistoryPolicy,
    },
    /// Sends a message.
    Send {
        /// To where.
        convo: ConvoId,
        /// Who.
        sender: UserId,
        /// From which device.
        device: DeviceId,
        /// The device's own number of it: the same again is the same message.
        client_seq: ClientSeq,
        /// The text.
        body: String,
        /// The entry that it answers.
        reply_to: Option<Seq>,
    },
    /// Adds members.
    AddMembers {
        /// To where.
        convo: ConvoId,
        /// Who asks.
        by: UserId,
        /// Whom, without repeats; those who are members already are passed over.
        users: Vec<UserId>,
    },
    /// Removes a member; oneself: leaves.
    RemoveMember {
        /// From where.
        convo: ConvoId,
        /// Who asks.
        by: UserId,
        /// Whom.
        user: UserId,
    },
    /// Gives a role.
    SetRole {
        /// Where.
        convo: ConvoId,
        /// Who asks.
        by: UserId,
        /// To whom.
        user: UserId,
        /// Which.
        role: Role,
    },
    /// Renames a group.
    Rename {
        /// Which.
        convo: ConvoId,
        /// Who asks.
        by: UserId,
        /// The new title.
        title: String,
    },
    /// Changes settings that all members share.
    ChangeSettings {
        /// Where.
        convo: ConvoId,
        /// Who asks.
        by: UserId,
        /// The description.
        about: Option<String>,
        /// Who may send.
        posting: Option<Posting>,
        /// What those see who come later.
        history: Option<HistoryPolicy>,
    },
    /// Moves a member's watermarks forward. Not an entry.
    Mark {
        /// Where.
        convo: ConvoId,
        /// Whose.
        user: UserId,
        /// Received up to here.
        delivered: Option<Seq>,
        /// Read up to here; carries `delivered` along.
        read: Option<Seq>,
    },
    /// Changes a member's own settings. Not an entry.
    SetOwn {
        /// Where.
        convo: ConvoId,
        /// Whose.
        user: UserId,
        /// What changes.
        patch: MemberSettingsPatch,
    },
    /// Closes (or opens again) a direct conversation for sends, because one of the two blocks the other. Not an entry.
    SetBlock {
        /// The direct conversation; nothing happens if there is none yet.
        convo: ConvoId,
        /// Who blocks.
        by: UserId,
        /// Whether he does.
        blocked: bool,
    },
}

impl Intent {
    /// The conversation that this is about.
    pub const fn convo(&self) -> ConvoId {
        match *self {
            Self::Create { convo, .. }
            | Self::Send { convo, .. }
            | Self::AddMembers { convo, .. }
            | Self::RemoveMember { convo, .. }
            | Self::SetRole { convo, .. }
            | Self::Rename { convo, .. }
            | Self::ChangeSettings { convo, .. }
            | Self::Mark { convo, .. }
            | Self::SetOwn { convo, .. }
            | Self::SetBlock { convo, .. } => convo,
        }
    }
}

/// What became of an intent. Everything but a refusal is durable when it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is a new entry.
    Appended {
        /// The entry.
        entry: Arc<Entry>,
        /// For `renamed` and `settings_changed`: what all members share, after it.
        shared: Option<Arc<SharedSettings>>,
    },
    /// It was here before: the entry in its present state.
    Duplicate(Arc<Entry>),
    /// A member's watermarks moved.
    Marked(Receipt),
    /// A member's own settings changed.
    OwnChanged {
        /// Where.
        convo: ConvoId,
        /// Whose.
        user: UserId,
        /// All of them, after it.
        settings: MemberSettings,
    },
    /// Nothing to do: a lower mark, a member who is one already, a direct conversation that exists, settings as they were.
    Unchanged,
    /// Not allowed, or not possible.
    Refused(Refusal),
}

/// A member's watermarks after they moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Where.
    pub convo: ConvoId,
    /// Whose.
    pub user: UserId,
    /// Received up to here.
    pub delivered: Seq,
    /// Read up to here.
    pub read: Seq,
    /// When they last moved.
    pub ts: Timestamp,
    /// When `delivered` moved, if it did: with this mark; of what was read from a store, since the commit that was asked
    /// for. For those to whom `read` is hidden a receipt in which it did not is none.
    pub delivered_at: Option<Timestamp>,
}

/// A stretch of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistorySlice {
    /// The entries, ascending, with their commit numbers.
    pub entries: Vec<(Arc<Entry>, Commit)>,
    /// Whether there are more in the direction that was asked for (for `Newest`: older ones).
    pub has_more: bool,
}

/// The newest entry of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The conversation.
    pub convo: ConvoId,
    /// Its newest seq.
    pub last_seq: Seq,
    /// How many members it has.
    pub member_count: u64,
}

/// What changed in a conversation for a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// He is no longer in it.
    Left(ConvoId),
    /// He is in it.
    In {
        /// The conversation.
        convo: ConvoId,
        /// Whether he came into it (created with him, or added): he needs to be told all of it.
        joined: bool,
        /// The first visible entry that he missed; `None` if there is none.
        first_missed: Option<Seq>,
        /// The newest entry.
        last_seq: Seq,
        /// The shared settings, if title or policies changed.
        shared: Option<Arc<SharedSettings>>,
        /// His own settings, if they changed.
        own: Option<MemberSettings>,
        /// Watermarks that moved. In conversations of more than
        /// [`RECEIPTS_MEMBERS_MAX`](crate::conversation::RECEIPTS_MEMBERS_MAX) members only his own.
        receipts: Vec<Receipt>,
    },
}

/// What a user missed while he was away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missed {
    /// What changed, a conversation each.
    pub changes: Vec<Change>,
    /// Of some of them all entries that he missed, read at the same moment; never where he came in.
    pub pages: Vec<(ConvoId, HistorySlice)>,
}

/// Why an intent was not let in; the texts say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such conversation, or the one who asks is not in it: the two cannot be told apart.
    #[error("this conversation does not exist or you are not in it")]
    NotFound,
    /// The user to remove or promote is no member.
    #[error("this user is not a member of the conversation")]
    NoSuchMember,
    /// His role does not allow it.
    #[error("only {0} may do this here; ask one of them")]
    Role(&'static str),
    /// A direct conversation is never left, renamed or joined.
    #[error(
        "a direct conversation keeps its two members, and has no title, roles or policies; create a group for that"
    )]
    Direct,
    /// One of the two blocks the other.
    #[error("one of you has blocked the other; this conversation can only be read")]
    Blocked,
    /// The number carries another message already.
    #[error("clientSeq {0} already carries another message of this device; take a new number")]
    ClientSeqTaken(ClientSeq),
    /// The last owner cannot step down.
    #[error("a group keeps at least one owner; give another member this role first")]
    LastOwner,
    /// The id is in use.
    #[error("a conversation with this id exists already")]
    Exists,
    /// A watermark beyond the newest entry.
    #[error("there is no entry {0} yet; the newest is {1}")]
    BeyondHead(Seq, Seq),
    /// A reply to what is not there, or not visible to the sender.
    #[error("there is no entry {0} to reply to")]
    NoSuchTarget(Seq),
    /// Over the number of members.
    #[error("a group has at most {0} members")]
    TooManyMembers(usize),
    /// What is needed to decide cannot be read at present. Nothing was done.
    #[error("this cannot be done now; try again, a message with the same clientSeq")]
    Unavailable,
}

impl Refusal {
    /// The code that clients see.
    pub const fn code(&self) -> Code {
        match self {
            Self::NotFound | Self::NoSuchMember => Code::NotFound,
            Self::Role(_) | Self::Direct | Self::Blocked => Code::Forbidden,
            Self::ClientSeqTaken(_) | Self::LastOwner | Self::Exists => Code::Conflict,
            Self::BeyondHead(..) | Self::NoSuchTarget(_) | Self::TooManyMembers(_) => Code::Invalid,
            Self::Unavailable => Code::Unavailable,
        }
    }

    /// When trying again may help.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable => Some(Duration::from_secs(2)),
            _ => None,
        }
    }
}
