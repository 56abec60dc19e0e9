//! What the program says.

use std::time::Instant;

use tertulia_protocol::event::{ClientEvent, OwnPresence};
use tertulia_protocol::rules::{FRAME_BYTES_MAX, PRESENCE_SUBSCRIPTIONS_MAX};
use tertulia_protocol::{Code, ConvoId, Seq, UserId};

use super::{Machine, Phase, TYPING_EVERY};
use crate::event::Event;
use crate::outbox::Outgoing;
use crate::timeline::Timeline;

impl Machine {
    pub(crate) fn send(&mut self, message: Outgoing) {
        let Outgoing { convo_id, client_seq, .. } = message;
        self.typing.remove(&convo_id);
        if message.fits_a_frame() {
            return self.outbox.push(message);
        }
        // The server would close the connection over it, and over its repetition on the next one.
        let detail = format!("as JSON the message is over {FRAME_BYTES_MAX} bytes: split it into several");
        self.emit(Event::SendFailed { convo_id, client_seq, code: Code::TooLarge, detail });
    }

    pub(crate) fn mark(&mut self, convo_id: ConvoId, delivered: Option<Seq>, read: Option<Seq>) {
        self.marks.set(convo_id, delivered, read);
    }

    /// Without a connection it is dropped: it would be out of date.
    pub(crate) fn typing(&mut self, convo_id: ConvoId, active: bool, now: Instant) {
        if !matches!(self.phase, Phase::Ready(_)) {
            return;
        }
        let said = self.typing.get(&convo_id).copied();
        let news = if active { said.is_none_or(|at| at + TYPING_EVERY <= now) } else { said.is_some() };
        if news {
            if active {
                self.typing.insert(convo_id, now);
            } else {
                self.typing.remove(&convo_id);
            }
            self.say(ClientEvent::Typing { convo_id, active }, now);
        }
    }

    pub(crate) fn set_presence(&mut self, status: OwnPresence, now: Instant) {
        self.presence = Some(status);
        self.say(ClientEvent::PresenceSet { status }, now);
    }

    /// Watches as many as the server takes; the others are refused as it would refuse them.
    pub(crate) fn watch(&mut self, mut user_ids: Vec<UserId>, now: Instant) {
        let asked = user_ids.len();
        user_ids.retain(|id| {
            let room = self.watched.len() < PRESENCE_SUBSCRIPTIONS_MAX;
            self.watched.contains(id) || (room && self.watched.insert(*id))
        });
        if user_ids.len() < asked {
            let detail = format!("at most {PRESENCE_SUBSCRIPTIONS_MAX} users can be watched");
            self.emit(Event::Refused { code: Code::Invalid, detail, convo_id: None });
        }
        if !user_ids.is_empty() {
            self.say(ClientEvent::PresenceSubscribe { user_ids }, now);
        }
    }

    pub(crate) fn unwatch(&mut self, user_ids: Vec<UserId>, now: Instant) {
        for id in &user_ids {
            self.watched.remove(id);
        }
        self.say(ClientEvent::PresenceUnsubscribe { user_ids }, now);
    }

    /// Everything of a conversation after `seq` is to be handed over; without effect on one that is known.
    pub(crate) fn follow(&mut self, convo_id: ConvoId, after: Seq) {
        self.timelines.entry(convo_id).or_insert_with(|| {
            let mut timeline = Timeline::after(after);
            timeline.expect_more();
            timeline
        });
        self.incomplete.insert(convo_id);
    }
}
