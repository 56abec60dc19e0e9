//! What a client tells its application.

use std::time::Duration;

use tertulia_protocol::event::{ConversationNews, Presence};
use tertulia_protocol::{ClientSeq, Code, ConvoId, DeviceId, Entry, Seq, Timestamp, UserId};

use crate::error::SessionLost;

/// Something that happened. Of one conversation, [`Entry`](Self::Entry) events come in `seq` order, none twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The connection stands.
    Connected {
        /// Who one is.
        user_id: UserId,
        /// On which device.
        device_id: DeviceId,
        /// Whether everything since the last connection arrives by itself. If not, entries are still complete
        /// (they are read from history), but receipts, settings and titles are to be read anew.
        resumed: bool,
    },
    /// There is no connection; the client is working on it.
    Disconnected {
        /// Why.
        reason: Disconnect,
        /// When it tries again.
        retry_in: Duration,
    },
    /// The next entry of a conversation; one's own too.
    Entry {
        /// The entry. One that was read from history shows its present state.
        entry: Entry,
        /// How it came.
        via: Via,
    },
    /// A member's watermarks moved.
    Receipt {
        /// Where.
        convo_id: ConvoId,
        /// Whose.
        user_id: UserId,
        /// How far he has received.
        delivered_seq: Seq,
        /// How far he has read; absent where hidden.
        read_seq: Option<Seq>,
        /// When.
        ts: Timestamp,
    },
    /// Somebody is typing, or no longer; it expires after 8 s.
    Typing {
        /// Where.
        convo_id: ConvoId,
        /// Who.
        user_id: UserId,
        /// Begun or ended.
        active: bool,
    },
    /// A watched user's presence.
    Presence {
        /// Who.
        user_id: UserId,
        /// What he is now.
        status: Presence,
        /// When he was last there, if he is not and shows it.
        last_seen: Option<Timestamp>,
    },
    /// A conversation was created, joined, left or renamed, or settings of it changed.
    Conversation(ConversationNews),
    /// A message is durable.
    SendAcked {
        /// Where.
        convo_id: ConvoId,
        /// The number that [`send`](crate::client::Client::send) gave.
        client_seq: ClientSeq,
        /// Its place in the conversation.
        seq: Seq,
        /// When the server took it.
        ts: Timestamp,
        /// From `send` to now; times without a connection count.
        latency: Duration,
    },
    /// The server asks to wait; the message, and those after it, are sent again then.
    SendDelayed {
        /// Where.
        convo_id: ConvoId,
        /// The number that `send` gave.
        client_seq: ClientSeq,
        /// `rate_limited` or `unavailable`.
        code: Code,
        /// How long.
        retry_in: Duration,
    },
    /// A message is refused for good.
    SendFailed {
        /// Where.
        convo_id: ConvoId,
        /// The number that `send` gave.
        client_seq: ClientSeq,
        /// For programs.
        code: Code,
        /// For people.
        detail: String,
    },
    /// Something else that was sent is refused: a mark, a presence subscription.
    Refused {
        /// For programs.
        code: Code,
        /// For people.
        detail: String,
        /// Where, if it concerned a conversation.
        convo_id: Option<ConvoId>,
    },
    /// The session has ended; this is the last event.
    SessionLost(SessionLost),
}

/// How an entry came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// Pushed on the socket, live or as part of a resume.
    Push,
    /// One's own, known by its ack.
    Ack,
    /// Read from history, because it was before the beginning, in a gap, or a position was not known.
    History,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disconnect {
    /// The server closed it.
    #[error("closed by the server ({code}{})", reason_text(reason))]
    Closed {
        /// The close code.
        code: u16,
        /// Its reason.
        reason: String,
    },
    /// The server did not take the connection.
    #[error("refused by the server: {0}")]
    Refused(String),
    /// The network or the server failed.
    #[error("{0}")]
    Broken(String),
    /// Nothing came for two and a half heartbeats.
    #[error("nothing was heard from the server for too long")]
    Silent,
}

fn reason_text(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}
