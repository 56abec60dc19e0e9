//! Events as frames: encoded once, shared by all readers.

use std::io;
use std::sync::Arc;

use tertulia_protocol::event::{ConversationNews, Presence, ServerEvent};
use tertulia_protocol::rules::json_bytes_max;
use tertulia_protocol::{ClientSeq, ConvoId, Entry, EntryKind, Seq, Timestamp, UserId};
use tertulia_websocket::{Frame, TextFrameBuilder, put_text};

use super::outbox::Encoded;
use crate::log::Receipt;

/// Encodes an event.
pub fn encode(event: &ServerEvent) -> Frame {
    let mut frame = TextFrameBuilder::with_capacity(192);
    write_json(&mut frame, event);
    frame.finish()
}

/// Our own types have string keys and no failing `Serialize`, and what is written to takes every byte.
fn write_json(wire: impl io::Write, value: &impl serde::Serialize) {
    let written = serde_json::to_writer(wire, value);
    debug_assert!(written.is_ok(), "an event that cannot be written: {written:?}");
}

/// Ids and times as they were last written. What is told together mostly has the same ones, and writing them anew
/// was two fifths of what a frame took.
#[derive(Debug, Default)]
pub(super) struct Texts {
    convo: Last<ConvoId, 36>,
    sender: Last<UserId, 36>,
    ts: Last<Timestamp, 24>,
}

/// A value and its text.
#[derive(Debug)]
struct Last<T, const LEN: usize> {
    of: Option<T>,
    text: [u8; LEN],
}

impl<T, const LEN: usize> Default for Last<T, LEN> {
    fn default() -> Self {
        Self { of: None, text: [0; LEN] }
    }
}

impl<T: Copy + PartialEq, const LEN: usize> Last<T, LEN> {
    fn text(&mut self, of: T, write: impl FnOnce(&T) -> [u8; LEN]) -> &[u8; LEN] {
        if self.of != Some(of) {
            *self = Self { of: Some(of), text: write(&of) };
        }
        &self.text
    }
}

impl Texts {
    fn convo(&mut self, id: ConvoId) -> &[u8] {
        self.convo.text(id, ConvoId::to_hyphenated)
    }

    fn sender(&mut self, id: UserId) -> &[u8] {
        self.sender.text(id, UserId::to_hyphenated)
    }

    fn ts(&mut self, ts: Timestamp) -> &[u8] {
        self.ts.text(ts, |ts| ts.to_rfc3339())
    }
}

/// Entries that follow on each other as the frames that their readers get; each form is made when the first reader needs
/// it.
#[derive(Debug, Default)]
pub(super) struct EntryFrames {
    all: Encoded,
    each: Vec<OneEntry>,
}

#[derive(Debug, Default)]
struct OneEntry {
    positioned: Encoded,
    plain: Encoded,
}

impl EntryFrames {
    /// Forgets the entries, for the next ones, which are so many, and for one reader or for more.
    pub(super) fn clear(&mut self, next: usize, is_for_one: bool) {
        self.all.clear(is_for_one);
        self.each.resize_with(next, OneEntry::default);
        for one in &mut self.each {
            one.positioned.clear(is_for_one);
            one.plain.clear(is_for_one);
        }
    }

    /// The frames of all `entries`, for a reader who lacks nothing earlier.
    pub(super) fn all(&mut self, entries: &[&Arc<Entry>], position: &str, texts: &mut Texts) -> &mut Encoded {
        self.all.get_or_write(entries, |wire, entry| write_message(wire, entry, Some(position), texts))
    }

    /// The frame of `entry`, which is the one at `index`: with the position for a reader who lacks nothing earlier; without
    /// one for a reader who does, and keeps the position that he has.
    pub(super) fn one(
        &mut self,
        (index, entry): (usize, &Entry),
        position: Option<&str>,
        texts: &mut Texts,
    ) -> &mut Encoded {
        let one = &mut self.each[index];
        let form = if position.is_some() { &mut one.positioned } else { &mut one.plain };
        form.get_or_write([entry], |wire, entry| write_message(wire, entry, position, texts))
    }
}

/// Everything of a `message` event but the body and what else is as long as somebody likes.
const FIELDS_BYTES_MAX: usize = 400;

/// How many bytes the frame of a `message` event takes, about, and hardly more.
pub(super) fn message_bytes(entry: &Entry) -> usize {
    if let EntryKind::Text { body, .. } = &entry.kind {
        return FIELDS_BYTES_MAX + json_bytes_max(body);
    }
    let mut wire = Vec::new();
    write_message(&mut wire, entry, None, &mut Texts::default());
    wire.len()
}

/// Appends a `message` event: the JSON of [`ServerEvent::Message`]. A text is written field by field, because there
/// are so many of them.
pub(super) fn write_message(wire: &mut Vec<u8>, entry: &Entry, position: Option<&str>, texts: &mut Texts) {
    let EntryKind::Text { body, reply_to } = &entry.kind else {
        return put_text(wire, |wire| {
            let position = position.map(str::to_owned);
            write_json(wire, &ServerEvent::Message { entry: entry.clone(), position });
        });
    };
    wire.reserve(FIELDS_BYTES_MAX + body.len());
    put_text(wire, |wire| {
        wire.extend_from_slice(br#"{"type":"message","convoId":""#);
        wire.extend_from_slice(texts.convo(entry.convo_id));
        wire.extend_from_slice(br#"","seq":"#);
        put_number(wire, entry.seq.get());
        wire.extend_from_slice(br#","senderId":""#);
        wire.extend_from_slice(texts.sender(entry.sender_id));
        wire.push(b'"');
        if let Some(client_seq) = entry.client_seq {
            wire.extend_from_slice(br#","clientSeq":"#);
            put_number(wire, client_seq.get());
        }
        wire.extend_from_slice(br#","ts":""#);
        wire.extend_from_slice(texts.ts(entry.ts));
        wire.extend_from_slice(br#"","kind":"text","body":"#);
        put_string(wire, body);
        if let Some(seq) = reply_to {
            wire.extend_from_slice(br#","replyTo":"#);
            put_number(wire, seq.get());
        }
        if let Some(position) = position {
            wire.extend_from_slice(br#","position":"#);
            put_string(wire, position);
        }
        wire.push(b'}');
    });
}

/// Appends a `message_ack`, once for each message: written field by field, too.
pub(super) fn write_ack(wire: &mut Vec<u8>, client_seq: ClientSeq, entry: &Entry, texts: &mut Texts) {
    put_text(wire, |wire| {
        wire.extend_from_slice(br#"{"type":"message_ack","convoId":""#);
        wire.extend_from_slice(texts.convo(entry.convo_id));
        wire.extend_from_slice(br#"","clientSeq":"#);
        put_number(wire, client_seq.get());
        wire.extend_from_slice(br#","serverSeq":"#);
        put_number(wire, entry.seq.get());
        wire.extend_from_slice(br#","ts":""#);
        wire.extend_from_slice(texts.ts(entry.ts));
        wire.extend_from_slice(br#""}"#);
    });
}

fn put_number(wire: &mut Vec<u8>, number: u64) {
    wire.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends a string of JSON. Most texts hold nothing to escape, which is seen many bytes at a time.
fn put_string(wire: &mut Vec<u8>, text: &str) {
    let is_special = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
    if text.bytes().fold(false, |found, byte| found | is_special(byte)) {
        return write_json(wire, &text);
    }
    wire.push(b'"');
    wire.extend_from_slice(text.as_bytes());
    wire.push(b'"');
}

/// A `receipt` in the two forms that readers may see.
pub(super) struct ReceiptFrames {
    receipt: Receipt,
    whole: Option<Frame>,
    hidden: Option<Frame>,
}

impl ReceiptFrames {
    pub(super) const fn new(receipt: Receipt) -> Self {
        Self { receipt, whole: None, hidden: None }
    }

    /// The frame with `readSeq`, or the one without: `None` if nothing moved but that.
    pub(super) fn get(&mut self, shows_read: bool) -> Option<&Frame> {
        let slot = if shows_read { &mut self.whole } else { &mut self.hidden };
        if slot.is_none() {
            *slot = receipt(&self.receipt, shows_read).as_ref().map(encode);
        }
        slot.as_ref()
    }
}

/// A receipt as somebody sees it who may see what was read, or may not: then it is of what was received alone, and `None`
/// if nothing was. One in which nothing moved would say that something was read, and when.
pub fn receipt(receipt: &Receipt, shows_read: bool) -> Option<ServerEvent> {
    Some(ServerEvent::Receipt {
        convo_id: receipt.convo,
        user_id: receipt.user,
        delivered_seq: receipt.delivered,
        read_seq: shows_read.then_some(receipt.read),
        ts: if shows_read { receipt.ts } else { receipt.delivered_at? },
    })
}

pub(super) fn gap(convo_id: ConvoId, from_seq: Seq, to_seq: Seq) -> Frame {
    encode(&ServerEvent::Gap { convo_id, from_seq, to_seq })
}

pub(super) fn news(conversation: ConversationNews) -> Frame {
    encode(&ServerEvent::ConversationUpdate { conversation })
}

pub(super) fn left(id: ConvoId) -> Frame {
    news(ConversationNews::Left { id, left: true })
}

pub(super) fn typing(convo_id: ConvoId, user_id: UserId, active: bool) -> Frame {
    encode(&ServerEvent::Typing { convo_id, user_id, active })
}

pub(super) fn presence(user_id: UserId, status: Presence, last_seen: Option<Timestamp>) -> Frame {
    encode(&ServerEvent::PresenceUpdate { user_id, status, last_seen })
}

/// What all members share, as news.
pub(super) fn shared(settings: &Arc<tertulia_protocol::event::SharedSettings>) -> Frame {
    news(ConversationNews::Shared(settings.as_ref().clone()))
}

#[cfg(test)]
mod tests {
    use tertulia_websocket::payloads;

    use super::*;

    fn entry(body: &str, client_seq: Option<ClientSeq>, reply_to: Option<Seq>) -> Entry {
        Entry {
            convo_id: ConvoId::from_bytes([1; 16]),
            seq: Seq::MAX,
            sender_id: UserId::from_bytes([2; 16]),
            client_seq,
            ts: Timestamp::from_millis(1_795_563_466_123),
            kind: EntryKind::Text { body: body.into(), reply_to },
        }
    }

    #[test]
    fn a_message_is_the_json_of_its_event() {
        let bodies =
            ["hola", "", "\"\\/\u{8}\u{c}\n\r\t\u{1f}\u{7f}\u{2028}", "上海 👩‍👩‍👧", &"long ".repeat(20_000)];
        for body in bodies {
            for (client_seq, reply_to) in [(None, None), (Some(ClientSeq::MAX), Some(Seq::new(1)))] {
                for position in [None, Some("1a.2b")] {
                    let entry = entry(body, client_seq, reply_to);
                    let mut wire = b"before".to_vec();
                    write_message(&mut wire, &entry, position, &mut Texts::default());
                    let event = ServerEvent::Message { entry, position: position.map(str::to_owned) };
                    let expected = serde_json::to_string(&event).unwrap();
                    let found: Vec<_> =
                        payloads(&wire[6..]).map(|text| str::from_utf8(text).unwrap()).collect();
                    assert_eq!(found, [expected]);
                }
            }
        }
    }

    #[test]
    fn an_ack_is_the_json_of_its_event() {
        let entry = entry("hola", None, None);
        let mut wire = Vec::new();
        write_ack(&mut wire, ClientSeq::new(7), &entry, &mut Texts::default());
        let event = ServerEvent::MessageAck {
            convo_id: entry.convo_id,
            client_seq: ClientSeq::new(7),
            server_seq: entry.seq,
            ts: entry.ts,
        };
        assert_eq!(payloads(&wire).collect::<Vec<_>>(), [serde_json::to_vec(&event).unwrap()]);
    }
}
