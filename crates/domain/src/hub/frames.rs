//! Events as frames: encoded once, shared by all readers.

use std::io::Write as _;
use std::sync::Arc;

use tertulia_protocol::Entry;
use tertulia_protocol::event::{ConversationNews, Presence, ServerEvent};
use tertulia_protocol::{ClientSeq, ConvoId, Seq, Timestamp, UserId};
use tertulia_websocket::{Frame, TextFrameBuilder};

use crate::log::Receipt;

/// Encodes an event.
pub fn encode(event: &ServerEvent) -> Frame {
    let mut frame = TextFrameBuilder::with_capacity(192);
    write_json(&mut frame, event);
    frame.finish()
}

/// Our own types have string keys and no failing `Serialize`, and the builder takes every byte.
fn write_json(frame: &mut TextFrameBuilder, value: &impl serde::Serialize) {
    let written = serde_json::to_writer(frame, value);
    debug_assert!(written.is_ok(), "an event that cannot be written: {written:?}");
}

/// One entry as the frames that its readers get; each form is made when the first reader needs it.
pub(super) struct EntryFrames<'a> {
    entry: &'a Entry,
    position: &'a str,
    positioned: Option<Frame>,
    plain: Option<Frame>,
}

impl<'a> EntryFrames<'a> {
    pub(super) const fn new(entry: &'a Entry, position: &'a str) -> Self {
        Self { entry, position, positioned: None, plain: None }
    }

    /// The frame for a reader who lacks nothing earlier.
    pub(super) fn positioned(&mut self) -> &Frame {
        self.positioned.get_or_insert_with(|| message(self.entry, Some(self.position)))
    }

    /// The frame for a reader who lacks something earlier: he keeps the position that he has.
    pub(super) fn plain(&mut self) -> &Frame {
        self.plain.get_or_insert_with(|| message(self.entry, None))
    }
}

/// A `message` event; the same JSON as [`ServerEvent::Message`], without its detour over a map of fields.
pub(super) fn message(entry: &Entry, position: Option<&str>) -> Frame {
    #[derive(serde::Serialize)]
    struct Message<'a> {
        r#type: &'static str,
        #[serde(flatten)]
        entry: &'a Entry,
        #[serde(skip_serializing_if = "Option::is_none")]
        position: Option<&'a str>,
    }
    let body = match &entry.kind {
        tertulia_protocol::EntryKind::Text { body, .. } => body.len(),
        _ => 128,
    };
    let mut frame = TextFrameBuilder::with_capacity(320 + body);
    write_json(&mut frame, &Message { r#type: "message", entry, position });
    frame.finish()
}

/// A `message_ack`, once for each message: written field by field.
pub(super) fn ack(convo: ConvoId, client_seq: ClientSeq, seq: Seq, ts: Timestamp) -> Frame {
    let mut frame = TextFrameBuilder::with_capacity(160);
    let written = write!(
        frame,
        r#"{{"type":"message_ack","convoId":"{convo}","clientSeq":{client_seq},"serverSeq":{seq},"ts":"{ts}"}}"#
    );
    debug_assert!(written.is_ok(), "an ack that cannot be written");
    frame.finish()
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

    /// The frame with `readSeq`, or the one without.
    pub(super) fn get(&mut self, shows_read: bool) -> &Frame {
        let slot = if shows_read { &mut self.whole } else { &mut self.hidden };
        let receipt = self.receipt;
        slot.get_or_insert_with(|| {
            encode(&ServerEvent::Receipt {
                convo_id: receipt.convo,
                user_id: receipt.user,
                delivered_seq: receipt.delivered,
                read_seq: shows_read.then_some(receipt.read),
                ts: receipt.ts,
            })
        })
    }
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
