//! The format: one JSON object a line, `{"t": …, "e": …, …}`, in the order of `t` within a file.
//!
//! `t` is a time in nanoseconds on [the clock of the machine](crate::clock), so that the files of several
//! processes of one machine are one history. It is taken *before* an attempt goes out and *after* an answer has
//! come: what the server did lies between the two. `e` says what happened; the first line of each file is the
//! [`Header`]. `docs/history.md` tells the same to people who write other programs.
//!
//! Whoever was told something on a socket names the connection, `c`; whoever asked something by a call names
//! the call, `op`. Both are numbers of the file, given out by the recorder. No message is written down, only
//! its length and a hash ([`Body`]).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use tertulia_protocol::entry::HistoryPolicy;
use tertulia_protocol::rest::Conversation;
use tertulia_protocol::{ClientSeq, Code, ConvoId, DeviceId, Entry, EntryKind, Seq, UserId};

/// The version of the format that this crate writes and reads.
pub const VERSION: u32 = 1;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "e", rename_all = "snake_case")]
pub enum Event {
    /// The first line of a file.
    #[serde(rename = "history")]
    Header(Header),
    /// How many nodes share what is tested.
    Nodes(Nodes),
    /// A device is one of this user; before anything else of it.
    Device(Device),
    /// Entries that were there before the history began.
    Before(Before),

    /// `ready` has come.
    Open(Open),
    /// A connection is over, whoever has ended it.
    Close(Close),
    /// An attempt to send a message goes out; another one of the same `clientSeq` is the same message.
    Send(Send),
    /// A message was acked, on a connection or by a call.
    Ack(Ack),
    /// A message was refused; no answer is no refusal.
    Refuse(Refuse),
    /// An entry was pushed.
    Push(Push),
    /// A `gap` was pushed.
    Gap(Gap),
    /// A `receipt` was pushed.
    Receipt(Receipt),
    /// A `pong` has come.
    Pong(Pong),
    /// A `conversation_update` said that the user is no longer in a conversation.
    Left(Left),

    /// A page of history is asked for.
    Read(Read),
    /// It has come.
    Page(Page),
    /// The inbox, or a page of it, is asked for.
    ReadInbox(ReadInbox),
    /// It has come.
    Inbox(Inbox),
    /// A mark goes out.
    Mark(Mark),
    /// A change of a conversation or of a message goes out.
    Change(Change),
    /// A mark or a change was answered: it is done.
    Done(Done),
    /// A call was refused, or has had no answer.
    Fail(Fail),

    /// Whoever drives the run did something to the server; shown with evidence, and nothing more.
    Note(Note),
    /// From here on nobody sends or changes anything: what is read from here on is what will remain.
    Final(Final),
    /// This connection has been waited for long enough: what was to be handed over on it has been.
    Settled(Settled),
}

/// See [`Event::Header`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`].
    pub version: u32,
    /// Who has written it.
    pub program: String,
    /// Which clock `t` is of: the machine's boot id. Absent where the system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<String>,
}

/// See [`Event::Nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nodes {
    /// So many. With more than one a position may say less than the entry that carries it.
    pub count: u32,
}

/// See [`Event::Device`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The device.
    pub device: DeviceId,
    /// Whose it is.
    pub user: UserId,
}

/// See [`Event::Before`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The conversation.
    pub convo: ConvoId,
    /// Entries up to here were there before.
    pub seq: Seq,
}

/// See [`Event::Open`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The connection's number in this file, never used twice.
    pub c: u64,
    /// Whose connection.
    pub device: DeviceId,
    /// Of a `resume`: from where. Absent after a `connect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What `ready` says.
    pub resumed: bool,
    /// What `ready` says.
    pub position: String,
}

/// See [`Event::Close`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// Which.
    pub c: u64,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// See [`Event::Send`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Send {
    /// The connection; absent for a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub c: Option<u64>,
    /// Who sends.
    pub device: DeviceId,
    /// To where.
    pub convo: ConvoId,
    /// `clientSeq`.
    pub n: ClientSeq,
    /// What.
    pub body: Body,
}

/// See [`Event::Ack`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The connection that the ack came on; absent for the answer of a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub c: Option<u64>,
    /// Who had sent.
    pub device: DeviceId,
    /// To where.
    pub convo: ConvoId,
    /// `clientSeq`.
    pub n: ClientSeq,
    /// Its place.
    pub seq: Seq,
}

/// See [`Event::Refuse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refuse {
    /// As in [`Ack`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub c: Option<u64>,
    /// Who had sent.
    pub device: DeviceId,
    /// To where.
    pub convo: ConvoId,
    /// `clientSeq`.
    pub n: ClientSeq,
    /// Why. After `unavailable` the message may be stored all the same.
    pub code: Code,
}

/// See [`Event::Push`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// On which connection.
    pub c: u64,
    /// Of which conversation.
    pub convo: ConvoId,
    /// What.
    pub entry: Seen,
    /// The position, if it told one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
}

/// An entry as a client saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its place.
    pub seq: Seq,
    /// What it is.
    pub kind: Kind,
    /// Who wrote or did it.
    pub by: UserId,
    /// `clientSeq`, if it was shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<ClientSeq>,
    /// A message's text; absent once it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
    /// Whom a `created`, `member_added` or `member_removed` is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserId>,
    /// Which entry an `edit`, `delete` or `reaction` is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Seq>,
    /// What a `created` or `settings_changed` says that later ones see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryPolicy>,
}

/// The kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A message.
    Text,
    /// The conversation began.
    Created,
    /// Members were added.
    MemberAdded,
    /// Members were removed, or have left.
    MemberRemoved,
    /// A member got another role.
    RoleChanged,
    /// Another title.
    Renamed,
    /// Other settings.
    SettingsChanged,
    /// A message got another text.
    Edit,
    /// A message was deleted.
    Delete,
    /// Somebody reacted to a message.
    Reaction,
    /// One that this version does not know.
    #[serde(other)]
    Other,
}

/// See [`Event::Gap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// On which connection.
    pub c: u64,
    /// Of which conversation.
    pub convo: ConvoId,
    /// The first entry that is not pushed.
    pub from: Seq,
    /// The last one.
    pub to: Seq,
}

/// See [`Event::Receipt`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// On which connection.
    pub c: u64,
    /// Of which conversation.
    pub convo: ConvoId,
    /// Whose watermarks.
    pub user: UserId,
    /// `deliveredSeq`.
    pub delivered: Seq,
    /// `readSeq`; absent where hidden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Seq>,
}

/// See [`Event::Pong`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// On which connection.
    pub c: u64,
    /// The position that it tells.
    pub position: String,
}

/// See [`Event::Left`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// On which connection.
    pub c: u64,
    /// Which conversation.
    pub convo: ConvoId,
}

/// See [`Event::Read`]. Without `after` and `before`: the newest page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The call's number in this file, never used twice.
    pub op: u64,
    /// Who asks.
    pub device: DeviceId,
    /// Of which conversation.
    pub convo: ConvoId,
    /// What follows this entry; 0 is the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Seq>,
    /// What precedes this entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Seq>,
    /// How many at most.
    pub limit: usize,
}

/// See [`Event::Page`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Which call.
    pub op: u64,
    /// `items`.
    pub entries: Vec<Seen>,
    /// `hasMore`.
    pub more: bool,
}

/// See [`Event::ReadInbox`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadInbox {
    /// As in [`Read`].
    pub op: u64,
    /// Who asks.
    pub device: DeviceId,
}

/// See [`Event::Inbox`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbox {
    /// Which call.
    pub op: u64,
    /// `items`.
    pub items: Vec<Item>,
}

/// A conversation in the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Which.
    pub convo: ConvoId,
    /// `lastSeq`.
    pub last: Seq,
    /// `deliveredSeq`.
    pub delivered: Seq,
    /// `readSeq`.
    pub read: Seq,
    /// `unreadCount`.
    pub unread: u64,
    /// The first entry that he may see, if it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visible: Option<Seq>,
}

/// See [`Event::Mark`]. On a socket nothing answers it but a `receipt`, and the call stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// As in [`Read`].
    pub op: u64,
    /// Who marks.
    pub device: DeviceId,
    /// Where.
    pub convo: ConvoId,
    /// `deliveredSeq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<Seq>,
    /// `readSeq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Seq>,
}

/// See [`Event::Change`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// As in [`Read`].
    pub op: u64,
    /// Who wants it.
    pub device: DeviceId,
    /// Where.
    pub convo: ConvoId,
    /// Which entry it will become: `member_added`, `member_removed` (leaving, too), `edit`, `delete`, …
    pub kind: Kind,
    /// Who is added or removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserId>,
    /// Which message is edited, deleted or reacted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Seq>,
    /// The new text of an edited one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
}

/// See [`Event::Done`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Which call.
    pub op: u64,
}

/// See [`Event::Fail`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fail {
    /// Which call.
    pub op: u64,
    /// Why it was refused; absent when there was no answer, and it may have been carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
}

/// See [`Event::Note`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What: `killed`, `stopped`, `started`, …
    pub text: String,
}

/// See [`Event::Final`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Final {}

/// See [`Event::Settled`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Which connection.
    pub c: u64,
}

/// What is kept of a text: its length in bytes and the first 8 bytes of its SHA-256; written `5:2cf24dba5fb0a30e`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Body {
    /// Bytes.
    pub len: u32,
    /// The hash.
    pub hash: u64,
}

/// A text that is not a [`Body`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the length and hash of a text, as in 5:2cf24dba5fb0a30e")]
pub struct InvalidBody;

impl Body {
    /// What is kept of `text`.
    pub fn of(text: &str) -> Self {
        let digest = Sha256::digest(text.as_bytes());
        let hash = digest.iter().take(8).fold(0, |sum: u64, &byte| sum << 8 | u64::from(byte));
        Self { len: u32::try_from(text.len()).unwrap_or(u32::MAX), hash }
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:016x}", self.len, self.hash)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({self})")
    }
}

impl FromStr for Body {
    type Err = InvalidBody;

    fn from_str(text: &str) -> Result<Self, InvalidBody> {
        let (len, hash) = text.split_once(':').ok_or(InvalidBody)?;
        if hash.len() != 16 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidBody);
        }
        let hash = u64::from_str_radix(hash, 16).map_err(|_| InvalidBody)?;
        Ok(Self { len: len.parse().map_err(|_| InvalidBody)?, hash })
    }
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Seen {
    /// What is kept of an entry that was pushed or read.
    pub fn of(entry: &Entry) -> Self {
        let mut seen = Self {
            seq: entry.seq,
            kind: Kind::Other,
            by: entry.sender_id,
            n: entry.client_seq,
            body: None,
            users: Vec::new(),
            target: None,
            history: None,
        };
        seen.kind = match &entry.kind {
            EntryKind::Text { body, .. } => {
                seen.body = Some(Body::of(body));
                Kind::Text
            }
            EntryKind::Created { user_ids, history, .. } => {
                seen.users.clone_from(user_ids);
                seen.history = Some(*history);
                Kind::Created
            }
            EntryKind::MemberAdded { user_ids } => {
                seen.users.clone_from(user_ids);
                Kind::MemberAdded
            }
            EntryKind::MemberRemoved { user_ids } => {
                seen.users.clone_from(user_ids);
                Kind::MemberRemoved
            }
            EntryKind::RoleChanged { .. } => Kind::RoleChanged,
            EntryKind::Renamed { .. } => Kind::Renamed,
            EntryKind::SettingsChanged { history, .. } => {
                seen.history = *history;
                Kind::SettingsChanged
            }
        };
        seen
    }
}

impl Item {
    /// What is kept of a conversation in the inbox.
    pub fn of(conversation: &Conversation) -> Self {
        Self {
            convo: conversation.id,
            last: conversation.last_seq,
            delivered: conversation.delivered_seq,
            read: conversation.read_seq,
            unread: conversation.unread_count,
            visible: Some(conversation.visible_from_seq),
        }
    }
}

/// A line of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// When.
    pub t: u64,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// A line that is none of a history.
#[derive(Debug, thiserror::Error)]
pub enum InvalidLine {
    /// It is not JSON, or a field is missing or wrong.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Of a later version, or of something else.
    #[error("there is no event {0:?} in version {VERSION} of the format")]
    Unknown(String),
}

macro_rules! events {
    ($($name:literal => $event:ident,)*) => {
        impl Line {
            /// Reads a line.
            ///
            /// # Errors
            /// If it is none.
            pub fn parse(text: &str) -> Result<Self, InvalidLine> {
                /// What says how to read the rest. Two readings without a copy are faster than one with it,
                /// which is what serde does for an enum that is tagged inside.
                #[derive(Deserialize)]
                struct Head<'a> {
                    t: u64,
                    #[serde(borrow)]
                    e: std::borrow::Cow<'a, str>,
                }
                let head: Head<'_> = serde_json::from_str(text)?;
                let event = match &*head.e {
                    $($name => Event::$event(serde_json::from_str(text)?),)*
                    unknown => return Err(InvalidLine::Unknown(unknown.to_owned())),
                };
                Ok(Self { t: head.t, event })
            }
        }

        $(impl From<$event> for Event {
            fn from(event: $event) -> Self {
                Self::$event(event)
            }
        })*
    };
}

events! {
    "history" => Header,
    "nodes" => Nodes,
    "device" => Device,
    "before" => Before,
    "open" => Open,
    "close" => Close,
    "send" => Send,
    "ack" => Ack,
    "refuse" => Refuse,
    "push" => Push,
    "gap" => Gap,
    "receipt" => Receipt,
    "pong" => Pong,
    "left" => Left,
    "read" => Read,
    "page" => Page,
    "read_inbox" => ReadInbox,
    "inbox" => Inbox,
    "mark" => Mark,
    "change" => Change,
    "done" => Done,
    "fail" => Fail,
    "note" => Note,
    "final" => Final,
    "settled" => Settled,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The fuzz target `history_lines` says the same of bytes.
        #[test]
        fn any_line_is_understood_and_stays_as_it_is_or_is_refused(
            kind in prop::sample::select(vec!["history", "open", "ack", "push", "page", "fail", "final", "dance"]),
            fields in prop::collection::vec(prop::sample::select(vec![
                r#""c":1"#, r#""op":18446744073709551615"#, r#""seq":0"#, r#""code":"not_found""#, r#""code":"x""#,
                r#""version":1"#, r#""program":"p""#, r#""clock":null"#, r#""entries":[]"#, r#""more":true"#, r#""n":1.5"#,
                r#""convo":"01010101-0101-0101-0101-010101010101""#, r#""device":"02020202-0202-0202-0202-020202020202""#,
                r#""position":"\ud800""#, r#""position":"p""#, r#""resumed":false"#,
                r#""entry":{"seq":1,"kind":"x","by":"03030303-0303-0303-0303-030303030303","body":"5:2cf24dba5fb0a30e"}"#,
            ]), 0..9),
        ) {
            let fields: String = fields.iter().map(|field| format!(",{field}")).collect();
            if let Ok(line) = Line::parse(&format!(r#"{{"t":7,"e":"{kind}"{fields}}}"#)) {
                let written = serde_json::to_string(&line).unwrap();
                prop_assert_eq!(Line::parse(&written).unwrap(), line);
            }
        }
    }

    fn convo() -> ConvoId {
        ConvoId::from_bytes([1; 16])
    }

    #[track_caller]
    fn check(event: impl Into<Event>, text: &str) {
        let line = Line { t: 7, event: event.into() };
        assert_eq!(serde_json::to_string(&line).unwrap(), text);
        assert_eq!(Line::parse(text).unwrap(), line);
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        let (device, user) = (DeviceId::from_bytes([2; 16]), UserId::from_bytes([3; 16]));
        let n = ClientSeq::new(5);
        check(
            Header { version: 1, program: "p".into(), clock: None },
            r#"{"t":7,"e":"history","version":1,"program":"p"}"#,
        );
        check(Nodes { count: 3 }, r#"{"t":7,"e":"nodes","count":3}"#);
        check(
            Send { c: Some(1), device, convo: convo(), n, body: Body::of("hello") },
            r#"{"t":7,"e":"send","c":1,"device":"02020202-0202-0202-0202-020202020202","convo":"01010101-0101-0101-0101-010101010101","n":5,"body":"5:2cf24dba5fb0a30e"}"#,
        );
        let entry = Seen {
            seq: Seq::new(2),
            kind: Kind::MemberAdded,
            by: user,
            n: None,
            body: None,
            users: vec![user],
            target: None,
            history: None,
        };
        check(
            Push { c: 1, convo: convo(), entry, position: Some("p9".into()) },
            r#"{"t":7,"e":"push","c":1,"convo":"01010101-0101-0101-0101-010101010101","entry":{"seq":2,"kind":"member_added","by":"03030303-0303-0303-0303-030303030303","users":["03030303-0303-0303-0303-030303030303"]},"position":"p9"}"#,
        );
        check(Done { op: 3 }, r#"{"t":7,"e":"done","op":3}"#);
        check(Final {}, r#"{"t":7,"e":"final"}"#);
        check(Fail { op: 3, code: Some(Code::NotFound) }, r#"{"t":7,"e":"fail","op":3,"code":"not_found"}"#);
    }

    #[test]
    fn what_is_no_line_is_told() {
        let told = |text| Line::parse(text).unwrap_err().to_string();
        assert!(told(r#"{"t":7,"e":"dance"}"#).contains("dance"));
        assert!(told(r#"{"t":7,"e":"done"}"#).contains("op"));
        assert!(told(r#"{"e":"final"}"#).contains("missing field `t`"));
        assert!(told("").contains("EOF"));
    }

    #[test]
    fn bodies_have_one_spelling() {
        assert_eq!("5:2cf24dba5fb0a30e".parse(), Ok(Body::of("hello")));
        for text in ["", "5", "5:2cf24dba5fb0a30", "x:2cf24dba5fb0a30e", "5:+cf24dba5fb0a30e"] {
            assert_eq!(text.parse::<Body>(), Err(InvalidBody), "{text}");
        }
    }
}
