//! The table of the socket's events, and why the server closes one.

use super::schemas::one_word;
use crate::event::CloseReason;

/// An event of the socket; its fields, and a line about each, are in the types of [`crate::event`].
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// Who says it.
    pub from: Side,
    /// Its `type`.
    pub name: &'static str,
    /// What one has to know to use it.
    pub text: &'static str,
    /// What may answer it: names of the server's events.
    pub answers: &'static [&'static str],
}

/// An end of the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Whoever connected.
    Client,
    /// This service.
    Server,
}

impl Event {
    /// The name of its schema and of its message in the documents: both sides have a `typing`.
    pub(crate) fn schema_name(&self) -> String {
        let side = match self.from {
            Side::Client => "Client",
            Side::Server => "Server",
        };
        format!("{side}{}", one_word(self.name))
    }
}

const fn client(name: &'static str, answers: &'static [&'static str], text: &'static str) -> Event {
    Event { from: Side::Client, name, text, answers }
}

const fn server(name: &'static str, text: &'static str) -> Event {
    Event { from: Side::Server, name, text, answers: &[] }
}

/// What a client may say.
pub const CLIENT: &[Event] = &[
    client(
        "connect",
        &["ready", "error"],
        "The first frame of a client that keeps no history, within 10 s. A token that is not good closes the \
         socket with 4001.",
    ),
    client(
        "resume",
        &["ready", "error"],
        "The first frame of a client that was here before, on this node or another. What has become durable since \
         `position` follows, or is named by a `gap`: entries, receipts, settings. An entry may come a second time, \
         with the same `seq`.",
    ),
    client(
        "send_message",
        &["message_ack", "error"],
        "The same as `POST /api/conversations/{id}/messages`. Send it again with the same `clientSeq` until it is \
         answered, on this connection or the next: it stays one message.",
    ),
    client(
        "mark",
        &["error"],
        "Watermarks only move forward: a lower one is accepted without effect, one beyond the newest entry is \
         `invalid`. `readSeq` carries `deliveredSeq` along.",
    ),
    client("typing", &["error"], "Say it again every 5 s while it lasts; it expires by itself after 8 s."),
    client(
        "presence_set",
        &["error"],
        "A user is `online` if one of his connections is, else `away` if one of them is.",
    ),
    client(
        "presence_subscribe",
        &["presence_update", "error"],
        "Answered by one `presence_update` for each user, then by one at each change. Users with whom one shares no \
         conversation are `offline`, without `lastSeen`. At most 1,000 on one connection.",
    ),
    client("presence_unsubscribe", &["error"], "Whom one does not watch is passed over."),
    client("ping", &["pong"], "Any frame is a sign of life; this one is answered with a fresh position."),
];

/// What the server says.
pub const SERVER: &[Event] = &[
    server(
        "ready",
        "Answers `connect` and `resume`. `resumed` is `false` after a `resume` whose position is not known here \
         (another data folder, or one restored from a backup): read the inbox anew.",
    ),
    server(
        "message_ack",
        "Only once the entry is durable. It may come before entries of lower `seq`, and stands for the entry itself, \
         which this connection does not get.",
    ),
    server(
        "message",
        "To every connection of every participant but the one that sent it. In each conversation they come in the \
         order of `seq`, none twice; what is missing was named by a `gap`, or acked to this very connection.",
    ),
    server("gap", "Too many were missed while away, or the reader is too slow; history has them."),
    server(
        "receipt",
        "One's own watermarks come too, when another of one's devices moved them. Of a conversation with more than 256 \
         members, only one's own come.",
    ),
    server(
        "typing",
        "May be dropped or merged under load. None in a conversation with more than 256 members.",
    ),
    server(
        "presence_update",
        "True within the presence TTL (60 s if not set otherwise). May be merged under load.",
    ),
    server(
        "conversation_update",
        "All of it when it was created or joined; `{id, left: true}` when one is no longer in it; else one's own \
         settings, or those that all members share.",
    ),
    server("pong", "Answers `ping`."),
    server(
        "error",
        "Names `convoId` and `clientSeq` whenever the frame had them. `retryAfterMs` is there where waiting helps.",
    ),
];

/// Why a socket is closed, and what a client does then.
pub const CLOSES: &[(u16, &str)] = &[
    (CloseReason::Unauthenticated.code(), "not authenticated: get a fresh access token, then connect"),
    (CloseReason::Revoked.code(), "the session was revoked: log in again"),
    (
        CloseReason::Protocol.code(),
        "protocol error: a binary frame, a first frame that is neither `connect` nor `resume`, or a second one of \
         these; mend the client",
    ),
    (
        CloseReason::RateLimited.code(),
        "rate limited: sent on although told to wait, or of too many sockets of one device the one that was silent the longest; come back later, slower",
    ),
    (CloseReason::HeartbeatMissed.code(), "no sign of life for two heartbeats: resume"),
    (
        CloseReason::Draining.code(),
        "the server goes: the reason is JSON, `{\"retryAfterMs\": …}`; resume then, on whichever node answers",
    ),
    (1009, "a frame over 131,072 bytes"),
    (
        1013,
        "this node cannot serve now: the reason is JSON, `{\"retryAfterMs\": …}`; try the other nodes at once, and this \
         one then",
    ),
];
