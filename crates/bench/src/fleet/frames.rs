//! What matters in the frames of a server, found without parsing JSON.

use std::sync::LazyLock;

use memchr::memmem::{Finder, FinderRev};

/// The length of an id in a frame.
const ID_BYTES: usize = 36;

/// Looks for names, each with the quotes that cannot stand in a string of JSON unescaped.
static KIND: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""type":""#));
static CONVO: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""convoId":""#));
static SEQ: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""seq":"#));
static CLIENT_SEQ: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""clientSeq":"#));
static SERVER_SEQ: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""serverSeq":"#));
static FROM_SEQ: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""fromSeq":"#));
static TO_SEQ: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""toSeq":"#));
/// A position stands at the end, after a body that may be long.
static POSITION: LazyLock<FinderRev<'static>> = LazyLock::new(|| FinderRev::new(r#""position":""#));

/// A frame of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// An entry; with a position unless something earlier is still on its way.
    Entry { convo: &'a str, seq: u64, position: Option<&'a str> },
    /// These entries are left out.
    Gap { convo: &'a str, from_seq: u64, to_seq: u64 },
    /// A message is durable.
    Ack { client_seq: u64, server_seq: u64 },
    /// Somebody types.
    Typing,
    /// The server did not do something, or says what it should not.
    Trouble(&'a str),
    /// Anything else.
    Other,
}

impl<'a> Frame<'a> {
    /// Reads a frame. One that lacks what it must have is trouble.
    pub(crate) fn read(text: &'a str) -> Self {
        let frame = match string(&KIND, text) {
            Some("message") => Self::entry(text),
            Some("message_ack") => Self::ack(text),
            Some("gap") => Self::gap(text),
            Some("typing") => Some(Self::Typing),
            Some("error") | None => None,
            Some(_) => Some(Self::Other),
        };
        frame.unwrap_or(Self::Trouble(text))
    }

    fn entry(text: &'a str) -> Option<Self> {
        Some(Self::Entry { convo: convo(text)?, seq: number(&SEQ, text)?, position: position(text) })
    }

    fn ack(text: &str) -> Option<Self> {
        Some(Self::Ack { client_seq: number(&CLIENT_SEQ, text)?, server_seq: number(&SERVER_SEQ, text)? })
    }

    fn gap(text: &'a str) -> Option<Self> {
        let (from_seq, to_seq) = (number(&FROM_SEQ, text)?, number(&TO_SEQ, text)?);
        Some(Self::Gap { convo: convo(text)?, from_seq, to_seq })
    }
}

fn convo(text: &str) -> Option<&str> {
    after(&CONVO, text)?.get(..ID_BYTES)
}

/// The position that a frame tells.
pub(crate) fn position(text: &str) -> Option<&str> {
    let at = POSITION.rfind(text.as_bytes())? + POSITION.needle().len();
    text.get(at..)?.split('"').next()
}

fn string<'a>(name: &Finder<'_>, text: &'a str) -> Option<&'a str> {
    after(name, text)?.split('"').next()
}

fn number(name: &Finder<'_>, text: &str) -> Option<u64> {
    let rest = after(name, text)?;
    let end = rest.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

fn after<'a>(name: &Finder<'_>, text: &'a str) -> Option<&'a str> {
    let at = name.find(text.as_bytes())?;
    text.get(at + name.needle().len()..)
}

#[cfg(test)]
mod tests {
    use tertulia_protocol::event::ServerEvent;
    use tertulia_protocol::{ClientSeq, ConvoId, Entry, EntryKind, Seq, Timestamp, UserId};

    use super::*;

    const CONVO: &str = "0198f3a2-7c4e-7b1a-9d3e-5f6a7b8c9d0e";

    fn convo_id() -> ConvoId {
        CONVO.parse().unwrap()
    }

    fn entry(body: &str, position: Option<&str>) -> String {
        let entry = Entry {
            convo_id: convo_id(),
            seq: Seq::new(42),
            sender_id: UserId::from_bytes([1; 16]),
            client_seq: Some(ClientSeq::new(7)),
            ts: Timestamp::from_millis(1_700_000_000_000),
            kind: EntryKind::Text { body: body.to_owned(), reply_to: None },
        };
        let position = position.map(str::to_owned);
        serde_json::to_string(&ServerEvent::Message { entry, position }).unwrap()
    }

    #[test]
    fn frames_are_read_as_the_server_writes_them() {
        let expected = |position| Frame::Entry { convo: CONVO, seq: 42, position };
        assert_eq!(Frame::read(&entry("hello", Some("e1.77"))), expected(Some("e1.77")));
        assert_eq!(Frame::read(&entry(r#"","position":"no"#, None)), expected(None));

        let json = |event: &ServerEvent| serde_json::to_string(event).unwrap();
        let (convo_id, ts) = (convo_id(), Timestamp::from_millis(1));
        let ack =
            ServerEvent::MessageAck { convo_id, client_seq: ClientSeq::new(9), server_seq: Seq::new(43), ts };
        assert_eq!(Frame::read(&json(&ack)), Frame::Ack { client_seq: 9, server_seq: 43 });
        let gap = ServerEvent::Gap { convo_id, from_seq: Seq::new(3), to_seq: Seq::new(800) };
        assert_eq!(Frame::read(&json(&gap)), Frame::Gap { convo: CONVO, from_seq: 3, to_seq: 800 });
        let typing = ServerEvent::Typing { convo_id, user_id: UserId::from_bytes([1; 16]), active: true };
        assert_eq!(Frame::read(&json(&typing)), Frame::Typing);
    }

    #[test]
    fn errors_and_nonsense_are_trouble_and_the_rest_is_not() {
        for text in [r#"{"type":"error","code":"invalid"}"#, "{}", r#"{"type":"message"}"#] {
            assert_eq!(Frame::read(text), Frame::Trouble(text));
        }
        assert_eq!(Frame::read(r#"{"type":"receipt"}"#), Frame::Other);
    }
}
