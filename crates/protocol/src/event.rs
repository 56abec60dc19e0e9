//! The events of the socket, `/api/ws`: one text frame is one event.

use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::entry::{HistoryPolicy, Posting};
use crate::rest::{Conversation, MemberSettings};
use crate::{ClientSeq, Code, ConvoId, DeviceId, Entry, Seq, Timestamp, UserId};

/// What a client says.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum ClientEvent {
    /// The first frame of a client that keeps no history, within 10 s.
    Connect {
        /// An access token.
        token: String,
    },
    /// The first frame of a client that was here before.
    Resume {
        /// From `ready`.
        resume_token: String,
        /// The last one that was seen.
        position: String,
    },
    /// Sends a message; answered by `message_ack` or `error`.
    SendMessage {
        /// To where.
        convo_id: ConvoId,
        /// The client's own number of it.
        client_seq: ClientSeq,
        /// The text.
        body: String,
        /// Files; none can be sent yet.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        media_ids: Vec<String>,
        /// The entry that it answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<Seq>,
    },
    /// Moves one's own watermarks forward.
    Mark {
        /// Where.
        convo_id: ConvoId,
        /// Received up to here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delivered_seq: Option<Seq>,
        /// Read up to here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        read_seq: Option<Seq>,
    },
    /// Says that one is typing, or no longer; say it again every 5 s, it expires by itself after 8.
    Typing {
        /// Where.
        convo_id: ConvoId,
        /// Begun or ended.
        active: bool,
    },
    /// This connection's part in one's presence.
    PresenceSet {
        /// `online` or `away`.
        status: OwnPresence,
    },
    /// Watches users; answered by the present status of each.
    PresenceSubscribe {
        /// Whom.
        user_ids: Vec<UserId>,
    },
    /// Stops watching.
    PresenceUnsubscribe {
        /// Whom.
        user_ids: Vec<UserId>,
    },
    /// Asks for a `pong`.
    Ping {},
}

impl ClientEvent {
    /// Reads the text of a frame.
    ///
    /// The most frequent event, written as most clients write it, is read in one pass, without a look at what comes
    /// next; and what begins with its `type` so that fields need not wait in memory until that is known.
    ///
    /// # Errors
    /// If it is no event.
    pub fn parse(text: &str) -> serde_json::Result<Self> {
        // Whoever says more than we know goes the long way: it looks into what it does not know, as into brackets in
        // brackets without end, and this one would not.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Send {
            // Read, so that a second one is refused.
            r#type: IgnoredAny,
            convo_id: ConvoId,
            client_seq: ClientSeq,
            body: String,
            #[serde(default)]
            media_ids: Vec<String>,
            #[serde(default)]
            reply_to: Option<Seq>,
        }
        if let Some(event) = plain_send(text) {
            return Ok(event);
        }
        if text.starts_with(r#"{"type":"send_message","#)
            && let Ok(send) = serde_json::from_str(text)
        {
            let Send { r#type: IgnoredAny, convo_id, client_seq, body, media_ids, reply_to } = send;
            return Ok(Self::SendMessage { convo_id, client_seq, body, media_ids, reply_to });
        }
        serde_json::from_str(text)
    }
}

/// Reads a `send_message` that has its fields in this order, nothing else, and nothing to unescape in its body.
fn plain_send(text: &str) -> Option<ClientEvent> {
    const ID_BYTES: usize = 36;
    let rest = text.strip_prefix(r#"{"type":"send_message","convoId":""#)?;
    let (convo, rest) = rest.split_at_checked(ID_BYTES)?;
    let rest = rest.strip_prefix(r#"","clientSeq":"#)?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = rest.split_at(digits);
    let body = rest.strip_prefix(r#","body":""#)?.strip_suffix(r#""}"#)?;
    // All of it at once: most bodies have none of these.
    let is_special = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
    if number.starts_with('0') || body.bytes().fold(false, |found, byte| found | is_special(byte)) {
        return None;
    }
    Some(ClientEvent::SendMessage {
        convo_id: convo.parse().ok()?,
        client_seq: ClientSeq::new(number.parse().ok()?),
        body: body.to_owned(),
        media_ids: Vec::new(),
        reply_to: None,
    })
}

/// What the server says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum ServerEvent {
    /// The connection stands.
    Ready {
        /// Who one is.
        user_id: UserId,
        /// On which device.
        device_id: DeviceId,
        /// For `resume`.
        resume_token: String,
        /// Where this connection begins.
        position: String,
        /// The server pings this often; two silent ones end the connection.
        heartbeat_seconds: u64,
        /// `false` after a `resume`: the position is not known here; read the inbox anew.
        resumed: bool,
    },
    /// The message is durable.
    MessageAck {
        /// Where.
        convo_id: ConvoId,
        /// The client's number.
        client_seq: ClientSeq,
        /// Its place in the conversation.
        server_seq: Seq,
        /// When the server took it.
        ts: Timestamp,
    },
    /// An entry of a conversation.
    Message {
        /// The entry.
        #[serde(flatten)]
        entry: Entry,
        /// Absent while something earlier is still on its way here: keep the last one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        position: Option<String>,
    },
    /// These entries are not pushed here; history has them. Live delivery goes on after `toSeq`.
    Gap {
        /// Where.
        convo_id: ConvoId,
        /// The first of them.
        from_seq: Seq,
        /// The last of them.
        to_seq: Seq,
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
        #[serde(default, skip_serializing_if = "Option::is_none")]
        read_seq: Option<Seq>,
        /// When.
        ts: Timestamp,
    },
    /// Somebody is typing, or no longer.
    Typing {
        /// Where.
        convo_id: ConvoId,
        /// Who.
        user_id: UserId,
        /// Begun or ended.
        active: bool,
    },
    /// A watched user's presence.
    PresenceUpdate {
        /// Who.
        user_id: UserId,
        /// What he is now.
        status: Presence,
        /// When he was last there, if he is not and shows it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_seen: Option<Timestamp>,
    },
    /// A conversation was created, joined, left or renamed, or settings of it changed.
    ConversationUpdate {
        /// What there is to know of it.
        conversation: ConversationNews,
    },
    /// Answers `ping`.
    Pong {
        /// Everything before it has been handed over.
        position: String,
    },
    /// Something was wrong with what the client sent; the connection stays.
    Error {
        /// For programs.
        code: Code,
        /// For people.
        detail: String,
        /// If the frame named one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        convo_id: Option<ConvoId>,
        /// If the frame named one; as it was, also where that is what was wrong.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<u64>")]
        client_seq: Option<ClientSeq>,
        /// Milliseconds to wait before trying again, where waiting helps.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
}

/// What a `conversation_update` carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ConversationNews {
    /// Created or joined: all of it.
    Whole(Box<Conversation>),
    /// One is no longer in it.
    Left {
        /// Which.
        id: ConvoId,
        /// Always `true`.
        #[schemars(extend("const" = true))]
        left: bool,
    },
    /// One's own settings of it changed; they are all here.
    Own {
        /// Which.
        id: ConvoId,
        /// The settings.
        #[serde(flatten)]
        settings: MemberSettings,
    },
    /// What all members share of it changed; that is all here.
    Shared(SharedSettings),
}

/// What all members of a conversation share: its title and policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SharedSettings {
    /// Which conversation.
    pub id: ConvoId,
    /// Its title, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Its description.
    pub about: String,
    /// Who may send.
    pub posting: Posting,
    /// What those see who come later.
    pub history: HistoryPolicy,
}

/// What a connection can say of its user's presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OwnPresence {
    /// He is there.
    Online,
    /// He is connected, but not looking.
    Away,
}

/// What a user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// On at least one connection.
    Online,
    /// Away on all of them.
    Away,
    /// On none.
    Offline,
}

impl Presence {
    /// What somebody is whom one sees so and another one otherwise.
    pub const fn most(self, other: Self) -> Self {
        match (self, other) {
            (Self::Online, _) | (_, Self::Online) => Self::Online,
            (Self::Away, _) | (_, Self::Away) => Self::Away,
            (Self::Offline, Self::Offline) => Self::Offline,
        }
    }
}

/// Why the server closes a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// 4001: no valid token, or none in time.
    Unauthenticated,
    /// 4002: the device was logged out.
    Revoked,
    /// 4003: binary frames, or frames out of order.
    Protocol,
    /// 4008: the client goes on sending although it was told to wait, or its device has too many sockets.
    RateLimited,
    /// 4009: two heartbeats without a sign of life.
    HeartbeatMissed,
    /// 4010: the server goes; the reason says when to come back.
    Draining,
}

impl CloseReason {
    /// The close code on the wire.
    pub const fn code(self) -> u16 {
        match self {
            Self::Unauthenticated => 4001,
            Self::Revoked => 4002,
            Self::Protocol => 4003,
            Self::RateLimited => 4008,
            Self::HeartbeatMissed => 4009,
            Self::Draining => 4010,
        }
    }

    /// The label in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Revoked => "revoked",
            Self::Protocol => "protocol",
            Self::RateLimited => "rate_limited",
            Self::HeartbeatMissed => "heartbeat_missed",
            Self::Draining => "draining",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_way_of_reading_an_event_reads_and_refuses_the_same_as_the_long_one() {
        const CONVO: &str = r#""convoId":"0198f3a2-7c4e-7b1a-9d3e-5f6a7b8c9d0e""#;
        let fields = [
            r#""clientSeq":7,"body":"hola""#,
            r#""clientSeq":18446744073709551615,"body":"上海 👩‍👩‍👧""#,
            r#""clientSeq":18446744073709551616,"body":"hola""#,
            r#""clientSeq":07,"body":"hola""#,
            r#""clientSeq":0,"body":"""#,
            r#""clientSeq":,"body":"hola""#,
            r#""clientSeq":7,"body":"a\n","#,
            "\"clientSeq\":7,\"body\":\"a\u{1}\"",
            r#""clientSeq":7,"body":"hola","replyTo":"3"#,
            r#""clientSeq":7,"body":"hola","body2":"3""#,
            r#""clientSeq":7,"body":"\"#,
            r#""clientSeq":7,"body":"a \"b\" \u4e0a","replyTo":3,"mediaIds":["m"]"#,
            r#""clientSeq":7,"body":"hola","replyTo":null,"unknown":{"type":"ping"},"token":5"#,
            r#""clientSeq":7"#,
            r#""clientSeq":"7","body":"hola""#,
            r#""clientSeq":7,"body":"hola","body":"again""#,
            r#""clientSeq":7,"body":"hola","type":"ping""#,
            r#""clientSeq":7,"body":"hola","unknown":1e999"#,
            r#""clientSeq":7,"body":"hola","unknown":"\ud800""#,
            &format!(r#""clientSeq":7,"body":"hola","unknown":{}{}"#, "[".repeat(200), "]".repeat(200)),
            r#""clientSeq":7,"body":"hola"} "#,
            r#""clientSeq":7,"body":"hola"#,
        ];
        for fields in fields {
            let text = format!(r#"{{"type":"send_message",{CONVO},{fields}}}"#);
            let as_json = |event: ClientEvent| serde_json::to_string(&event).unwrap();
            let short = ClientEvent::parse(&text).map(as_json).map_err(|error| error.to_string());
            let long = serde_json::from_str(&text).map(as_json).map_err(|error| error.to_string());
            assert_eq!(short, long, "{text}");
        }
    }
}
