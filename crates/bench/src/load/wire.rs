//! Frames as the generator writes and reads them: without JSON, by the few numbers that matter.

use std::fmt::Write as _;

use memchr::memmem::Finder;
use tertulia_protocol::ConvoId;
use tertulia_websocket::client;

/// Every body begins with the moment at which its message was due, in so many digits.
pub(crate) const STAMP_BYTES: usize = 16;
/// A load generator may mask all frames with the same key; one of zeros would spare the server a part of its work.
pub(crate) const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// The messages of one conversation, but for their numbers.
pub(crate) struct Letter {
    head: String,
    tail: String,
}

impl Letter {
    /// Messages to `convo`, with bodies of `body_bytes`, at least [`STAMP_BYTES`].
    pub(crate) fn new(convo: ConvoId, body_bytes: usize) -> Self {
        let padding = "abcdefghijklmnopqrstuvwxyz 0123456789 ".chars().cycle();
        let padding: String = padding.take(body_bytes.saturating_sub(STAMP_BYTES)).collect();
        Self {
            head: format!(r#"{{"type":"send_message","convoId":"{convo}","clientSeq":"#),
            tail: format!(r#"{padding}"}}"#),
        }
    }

    /// Appends one of them to `wire`; `text` is a buffer to use.
    pub(crate) fn put(&self, wire: &mut Vec<u8>, text: &mut String, client_seq: u64, stamp: u64) {
        text.clear();
        text.push_str(&self.head);
        // Writing to a string does not fail.
        let _ = write!(text, r#"{client_seq},"body":"{stamp:0width$}"#, width = STAMP_BYTES);
        text.push_str(&self.tail);
        client::put_text(wire, KEY, text);
    }

    /// The body in a `text` that [`put`](Self::put) has made.
    pub(crate) fn body<'a>(&self, text: &'a str) -> &'a str {
        const END: &str = r#""}"#;
        let body = text.strip_suffix(END).unwrap_or_default();
        let padding = self.tail.len() - END.len();
        body.get(body.len().saturating_sub(STAMP_BYTES + padding)..).unwrap_or_default()
    }
}

/// What a server's frame says, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    /// A message is durable.
    Ack { client_seq: u64 },
    /// An entry has come; `stamp` is what one of our bodies begins with.
    Entry { convo: &'a str, seq: u64, stamp: Option<u64> },
    /// The server did not do something, or left something out; the frame says what.
    Trouble(&'a str),
    /// Anything else.
    Other,
}

/// Looks for names, each with the quotes that cannot stand in a string of JSON unescaped.
pub(super) struct Scanner {
    kind: Finder<'static>,
    convo: Finder<'static>,
    client_seq: Finder<'static>,
    seq: Finder<'static>,
    body: Finder<'static>,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self {
            kind: Finder::new(r#""type":""#),
            convo: Finder::new(r#""convoId":""#),
            client_seq: Finder::new(r#""clientSeq":"#),
            seq: Finder::new(r#""seq":"#),
            body: Finder::new(r#""body":""#),
        }
    }

    /// Reads a frame. One that lacks what it must have is trouble.
    pub(super) fn read<'a>(&self, frame: &'a str) -> Heard<'a> {
        let kind = after(&self.kind, frame).and_then(|rest| rest.split('"').next());
        let heard = match kind {
            Some("message") => self.entry(frame),
            Some("message_ack") => {
                after(&self.client_seq, frame).and_then(number).map(|client_seq| Heard::Ack { client_seq })
            }
            Some("error" | "gap") | None => None,
            Some(_) => Some(Heard::Other),
        };
        heard.unwrap_or(Heard::Trouble(frame))
    }

    fn entry<'a>(&self, frame: &'a str) -> Option<Heard<'a>> {
        const ID_BYTES: usize = 36;
        let convo = after(&self.convo, frame)?.get(..ID_BYTES)?;
        let seq = after(&self.seq, frame).and_then(number)?;
        let stamp = after(&self.body, frame)
            .and_then(|body| body.get(..STAMP_BYTES))
            .filter(|stamp| stamp.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(number);
        Some(Heard::Entry { convo, seq, stamp })
    }
}

fn after<'a>(name: &Finder<'_>, frame: &'a str) -> Option<&'a str> {
    let at = name.find(frame.as_bytes())?;
    frame.get(at + name.needle().len()..)
}

/// The number that `text` begins with.
fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit);
    let mut digits = digits.map(|digit| u64::from(digit - b'0')).peekable();
    digits.peek()?;
    digits.try_fold(0_u64, |number, digit| number.checked_mul(10)?.checked_add(digit))
}

#[cfg(test)]
mod tests {
    use tertulia_protocol::event::{ClientEvent, ServerEvent};
    use tertulia_protocol::{ClientSeq, Code, Entry, EntryKind, Seq, Timestamp, UserId};
    use tertulia_websocket::{Decoder, Event};

    use super::*;

    const CONVO: &str = "0198f3a2-7c4e-7b1a-9d3e-5f6a7b8c9d0e";

    fn convo() -> ConvoId {
        CONVO.parse().unwrap()
    }

    fn entry(body: &str) -> String {
        let entry = Entry {
            convo_id: convo(),
            seq: Seq::new(42),
            sender_id: UserId::from_bytes([1; 16]),
            client_seq: Some(ClientSeq::new(7)),
            ts: Timestamp::from_millis(1_700_000_000_000),
            kind: EntryKind::Text { body: body.to_owned(), reply_to: None },
        };
        serde_json::to_string(&ServerEvent::Message { entry, position: None }).unwrap()
    }

    #[test]
    fn a_letter_is_a_send_message_of_the_contract() {
        for body_bytes in [16, 17, 100, 65_536] {
            let (mut wire, mut made) = (Vec::new(), String::new());
            let letter = Letter::new(convo(), body_bytes);
            letter.put(&mut wire, &mut made, 1_700_000_000_000_001, 12_345);
            let mut decoder = Decoder::default();
            let mut input = wire.as_mut_slice();
            let Some(Event::Text(text)) = decoder.next(&mut input).unwrap() else { panic!("no text") };
            let ClientEvent::SendMessage { convo_id, client_seq, body, .. } =
                serde_json::from_str(text).unwrap()
            else {
                panic!("{text}")
            };
            assert_eq!((convo_id, client_seq), (convo(), ClientSeq::new(1_700_000_000_000_001)));
            assert_eq!(body.len(), body_bytes);
            assert!(body.starts_with("0000000000012345"), "{body}");
            assert_eq!(letter.body(&made), body);
        }
    }

    #[test]
    fn entries_and_acks_are_read_as_the_server_writes_them() {
        let scanner = Scanner::new();
        let read = |stamp| Heard::Entry { convo: CONVO, seq: 42, stamp };
        assert_eq!(scanner.read(&entry("0000000000012345abc")), read(Some(12_345)));
        assert_eq!(scanner.read(&entry("hello")), read(None));
        // What a body says is not what the frame says.
        assert_eq!(scanner.read(&entry(r#"","seq":1,"type":"gap","convoId":"x"#)), read(None));

        let ack = serde_json::to_string(&ServerEvent::MessageAck {
            convo_id: convo(),
            client_seq: ClientSeq::new(1_700_000_000_000_001),
            server_seq: Seq::new(43),
            ts: Timestamp::from_millis(1),
        })
        .unwrap();
        assert_eq!(scanner.read(&ack), Heard::Ack { client_seq: 1_700_000_000_000_001 });
    }

    #[test]
    fn refusals_gaps_and_nonsense_are_trouble_and_the_rest_is_not() {
        let scanner = Scanner::new();
        let refusal = serde_json::to_string(&ServerEvent::Error {
            code: Code::RateLimited,
            detail: "later".into(),
            convo_id: None,
            client_seq: None,
            retry_after_ms: None,
        })
        .unwrap();
        for frame in [&refusal, r#"{"type":"gap","fromSeq":1}"#, "{}", r#"{"type":"message"}"#] {
            assert_eq!(scanner.read(frame), Heard::Trouble(frame));
        }
        assert_eq!(scanner.read(r#"{"type":"pong","position":"x"}"#), Heard::Other);
    }
}
