//! What a client says and hears, as bytes: scanned and put together, without JSON in between.

use memchr::memchr2;
use tertulia_protocol::event::ClientEvent;
use tertulia_protocol::{ConvoId, UserId};
use tertulia_websocket::put_text;

/// The length of an id in its only spelling.
const ID_BYTES: usize = 36;

/// A `send_message`, each part as it stood in the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Letter<'a> {
    pub(super) convo: &'a str,
    pub(super) client_seq: &'a str,
    /// A string of JSON, with its quotes.
    pub(super) body: &'a str,
    /// The number of the entry that it answers.
    pub(super) reply_to: Option<&'a str>,
}

/// Reads a `send_message` in the one form that most clients write: its fields in the order of the contract and
/// nothing that is optional. Any other form is for [`said`].
pub(super) fn letter(text: &str) -> Option<Letter<'_>> {
    let rest = text.strip_prefix(r#"{"type":"send_message","convoId":""#)?;
    let (convo, rest) = rest.split_at_checked(ID_BYTES)?;
    let rest = rest.strip_prefix(r#"","clientSeq":"#)?;
    let digits = rest.bytes().position(|byte| !byte.is_ascii_digit())?;
    let (client_seq, rest) = rest.split_at_checked(digits)?;
    let body = rest.strip_prefix(r#","body":"#)?;
    // The first quote after the opening one ends the body, unless an escape comes before it.
    let content = body.strip_prefix('"')?;
    let end = memchr2(b'"', b'\\', content.as_bytes())?;
    (&content.as_bytes()[end..] == br#""}"#).then(|| Letter {
        convo,
        client_seq,
        body: &body[..body.len() - 1],
        reply_to: None,
    })
}

/// Reads any event.
pub(super) fn said(text: &str) -> Option<ClientEvent> {
    serde_json::from_str(text).ok()
}

/// What all messages of a conversation have in common.
#[derive(Debug)]
pub(super) struct ConvoText {
    entry: String,
    ack: String,
}

impl ConvoText {
    pub(super) fn new(convo: ConvoId) -> Self {
        Self {
            entry: format!(r#"{{"type":"message","convoId":"{convo}","seq":"#),
            ack: format!(r#"{{"type":"message_ack","convoId":"{convo}","clientSeq":"#),
        }
    }
}

/// What all messages of a sender have in common.
pub(super) fn sender_text(sender: UserId) -> String {
    format!(r#","senderId":"{sender}","clientSeq":"#)
}

/// What all messages of a turn have in common: their time, and the position that they bring.
#[derive(Debug, Default)]
pub(super) struct TurnText {
    entry_time: String,
    entry_end: String,
    ack_end: String,
}

impl TurnText {
    /// Of a turn at `ts`, the `turn`th.
    pub(super) fn set(&mut self, ts: &str, turn: u64) {
        self.entry_time.clear();
        self.entry_end.clear();
        self.ack_end.clear();
        self.entry_time.extend([r#","ts":""#, ts, r#"","kind":"text","body":"#]);
        // As long as that of a server: the tag of its epoch, and the number of its commit.
        self.entry_end.push_str(r#","position":"floor0."#);
        push_hex(&mut self.entry_end, turn);
        self.entry_end.push_str(r#""}"#);
        self.ack_end.extend([r#","ts":""#, ts, r#""}"#]);
    }
}

fn push_hex(text: &mut String, number: u64) {
    use std::fmt::Write as _;
    // Writing to a string does not fail.
    let _ = write!(text, "{number:x}");
}

/// Appends the frame of a `message`.
pub(super) fn put_entry(
    wire: &mut Vec<u8>,
    convo: &ConvoText,
    sender: &str,
    turn: &TurnText,
    seq: &Decimal,
    letter: &Letter<'_>,
) {
    let (reply_name, reply_to) = letter.reply_to.map_or(("", ""), |reply_to| (r#","replyTo":"#, reply_to));
    put(
        wire,
        [
            &convo.entry,
            seq.as_str(),
            sender,
            letter.client_seq,
            &turn.entry_time,
            letter.body,
            reply_name,
            reply_to,
            &turn.entry_end,
        ],
    );
}

/// Appends the frame of a `message_ack`.
pub(super) fn put_ack(
    wire: &mut Vec<u8>,
    convo: &ConvoText,
    turn: &TurnText,
    seq: &Decimal,
    letter: &Letter<'_>,
) {
    put(wire, [&convo.ack, letter.client_seq, r#","serverSeq":"#, seq.as_str(), &turn.ack_end]);
}

/// Appends a text frame.
pub(super) fn put<const N: usize>(wire: &mut Vec<u8>, parts: [&str; N]) {
    put_text(wire, |wire| parts.iter().for_each(|part| wire.extend_from_slice(part.as_bytes())));
}

/// A number in digits, on the stack.
#[derive(Debug)]
pub(super) struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    pub(super) fn new(mut number: u64) -> Self {
        let mut this = Self { digits: [b'0'; 20], start: 20 };
        loop {
            this.start -= 1;
            this.digits[this.start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return this;
            }
        }
    }

    pub(super) fn as_str(&self) -> &str {
        // Digits are ASCII.
        str::from_utf8(&self.digits[self.start..]).unwrap_or_default()
    }
}
