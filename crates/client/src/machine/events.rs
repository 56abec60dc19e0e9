//! What the server says, and what comes of it.

use std::time::{Duration, Instant};

use tertulia_protocol::entry::EntryKind;
use tertulia_protocol::event::{ClientEvent, ConversationNews, ServerEvent};
use tertulia_protocol::{ClientSeq, Code, ConvoId, DeviceId, Entry, Seq, Timestamp, UserId};

use super::{Action, Inbox, Machine, Phase, REFUSED_WAIT, Ready, Resume, Start, Told};
use crate::backoff::TOLD_MAX;
use crate::event::{Event, Via};
use crate::outbox::Outgoing;
use crate::timeline::Timeline;

impl Machine {
    /// An event of the server.
    pub(crate) fn handle_event(&mut self, event: ServerEvent, now: Instant, roll: f64) {
        self.handle_sign_of_life(now);
        match event {
            ServerEvent::Ready { user_id, device_id, resume_token, position, heartbeat_seconds, resumed } => {
                let heartbeat = Duration::from_secs(heartbeat_seconds.clamp(1, 3_600));
                self.resume = Some(Resume { token: resume_token, position });
                self.ready(user_id, device_id, heartbeat, resumed, now);
            }
            ServerEvent::MessageAck { convo_id, client_seq, server_seq, ts } => {
                self.acked(convo_id, client_seq, server_seq, ts, now);
            }
            ServerEvent::Message { entry, position } => {
                self.take(entry, Via::Push, now);
                self.moved_to(position);
            }
            ServerEvent::Gap { convo_id, from_seq, to_seq } => {
                self.timelines
                    .entry(convo_id)
                    .or_insert_with(|| match self.settings.start {
                        Start::Head => Timeline::after(from_seq.previous()),
                        Start::Beginning => Timeline::after(Seq::new(0)),
                    })
                    .gap(from_seq, to_seq);
                self.incomplete.insert(convo_id);
            }
            ServerEvent::Receipt { convo_id, user_id, delivered_seq, read_seq, ts } => {
                self.emit(Event::Receipt { convo_id, user_id, delivered_seq, read_seq, ts });
            }
            ServerEvent::Typing { convo_id, user_id, active } => {
                self.emit(Event::Typing { convo_id, user_id, active });
            }
            ServerEvent::PresenceUpdate { user_id, status, last_seen } => {
                self.emit(Event::Presence { user_id, status, last_seen });
            }
            ServerEvent::ConversationUpdate { conversation } => {
                if let ConversationNews::Whole(conversation) = &conversation {
                    self.meet(conversation, Told::ByEvent, now);
                }
                self.emit(Event::Conversation(conversation));
            }
            ServerEvent::Pong { position } => {
                self.marks.ponged();
                self.moved_to(Some(position));
            }
            ServerEvent::Error { code, detail, convo_id, client_seq, retry_after_ms } => {
                let told = retry_after_ms.map(|told| Duration::from_millis(told).min(TOLD_MAX));
                let wait = told.unwrap_or_else(|| REFUSED_WAIT.mul_f64(0.5 + roll));
                self.refused(code, detail, convo_id, client_seq, wait, now);
            }
        }
    }

    pub(super) fn ready(
        &mut self,
        user_id: UserId,
        device_id: DeviceId,
        heartbeat: Duration,
        resumed: bool,
        now: Instant,
    ) {
        self.phase = Phase::Ready(Ready { device: device_id, heartbeat, since: now, heard: now, spoke: now });
        self.refusals = 0;
        self.moved = false;
        let again = self.user.replace(user_id).is_some();
        self.device = Some(device_id);
        for timeline in self.timelines.values_mut() {
            timeline.connected(now);
        }
        self.missed |= again && !resumed;
        if !resumed || self.inbox != Inbox::Known {
            self.inbox_round += 1;
            self.inbox = Inbox::Due(None, now);
        }
        if let Some(status) = self.presence {
            self.say(ClientEvent::PresenceSet { status }, now);
        }
        if !self.watched.is_empty() {
            let user_ids = self.watched.iter().copied().collect();
            self.say(ClientEvent::PresenceSubscribe { user_ids }, now);
        }
        self.emit(Event::Connected { user_id, device_id, resumed });
        self.settle_seen(now);
    }

    pub(super) fn acked(
        &mut self,
        convo_id: ConvoId,
        client_seq: ClientSeq,
        seq: Seq,
        ts: Timestamp,
        now: Instant,
    ) {
        let Some(message) = self.outbox.settle(convo_id, client_seq) else { return };
        let latency = now.saturating_duration_since(message.queued_at);
        self.emit(Event::SendAcked { convo_id, client_seq, seq, ts, latency });
        if let Some(user) = self.user {
            let kind = EntryKind::Text { body: message.body.as_ref().to_owned(), reply_to: message.reply_to };
            let entry = Entry { convo_id, seq, sender_id: user, client_seq: Some(client_seq), ts, kind };
            self.take(entry, Via::Ack, now);
        }
    }

    pub(super) fn refused(
        &mut self,
        code: Code,
        detail: String,
        convo_id: Option<ConvoId>,
        client_seq: Option<ClientSeq>,
        wait: Duration,
        now: Instant,
    ) {
        let passes = matches!(code, Code::RateLimited | Code::Unavailable);
        match (convo_id, client_seq) {
            // The connection ends over this; the message is sent again on the next one.
            (Some(_), Some(_)) if code == Code::Unauthenticated => {}
            (Some(convo_id), Some(client_seq)) if passes => {
                self.outbox.delay(convo_id, client_seq, now + wait);
                self.emit(Event::SendDelayed { convo_id, client_seq, code, retry_in: wait });
            }
            (Some(convo_id), Some(client_seq)) => {
                if self.outbox.settle(convo_id, client_seq).is_some() {
                    self.emit(Event::SendFailed { convo_id, client_seq, code, detail });
                }
            }
            (Some(convo_id), None) if passes => self.marks.delay(convo_id, now + wait),
            (convo_id, _) => {
                if let Some(convo_id) = convo_id {
                    self.marks.refused(convo_id);
                }
                self.emit(Event::Refused { code, detail, convo_id });
            }
        }
    }

    /// Takes an entry in and hands over what is next.
    pub(super) fn take(&mut self, entry: Entry, via: Via, now: Instant) {
        let (convo_id, seq) = (entry.convo_id, entry.seq);
        let start = self.settings.start;
        let timeline = self.timelines.entry(convo_id).or_insert_with(|| match (start, via) {
            // It has begun since the inbox was read, and what came before the ack may be on its way.
            (Start::Head, Via::Ack) => Timeline::after(Seq::default()),
            (Start::Head, Via::Push | Via::History) => Timeline::after(seq.previous()),
            (Start::Beginning, _) => {
                let mut timeline = Timeline::after(Seq::default());
                timeline.expect_up_to(seq.previous());
                timeline
            }
        });
        timeline.offer(entry, via, now);
        self.hand_over(convo_id, now);
    }

    pub(super) fn hand_over(&mut self, convo_id: ConvoId, now: Instant) {
        let Some(timeline) = self.timelines.get_mut(&convo_id) else { return };
        let mut seen = false;
        while let Some((entry, via)) = timeline.pop(now) {
            if via != Via::Ack
                && Some(entry.sender_id) == self.user
                && let (Some(client_seq), EntryKind::Text { body, .. }) = (entry.client_seq, &entry.kind)
            {
                seen |= self.outbox.see(convo_id, client_seq, body, entry.seq, entry.ts);
            }
            self.actions.push_back(Action::Emit(Event::Entry { entry, via }));
        }
        if timeline.is_complete() {
            self.incomplete.remove(&convo_id);
        } else {
            self.incomplete.insert(convo_id);
        }
        if seen {
            self.settle_seen(now);
        }
    }

    /// What an earlier login has sent and the log has shown is acked by that.
    pub(super) fn settle_seen(&mut self, now: Instant) {
        let Some(device) = self.device else { return };
        for (message, seq, ts) in self.outbox.settle_seen(device) {
            let Outgoing { convo_id, client_seq, queued_at, .. } = message;
            let latency = now.saturating_duration_since(queued_at);
            self.emit(Event::SendAcked { convo_id, client_seq, seq, ts, latency });
        }
    }
}
