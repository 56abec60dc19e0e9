//! Messages on their way out: kept until they are acked or refused for good, in the order they were sent.
//!
//! Invariants: O1: of one conversation, messages go out in the order they came in. O2: a message that is
//! refused for now is sent again before those after it. O3: every attempt carries the same `clientSeq`, so
//! that however often it is sent it becomes one entry.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tertulia_protocol::event::ClientEvent;
use tertulia_protocol::rules::FRAME_BYTES_MAX;
use tertulia_protocol::{ClientSeq, ConvoId, DeviceId, Seq, Timestamp};

/// An ack that has not come after this long is asked for by sending the message again.
const ACK_PATIENCE: Duration = Duration::from_secs(20);

/// A message that is not acked yet.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) convo_id: ConvoId,
    pub(crate) client_seq: ClientSeq,
    pub(crate) body: Arc<str>,
    pub(crate) reply_to: Option<Seq>,
    /// When the application sent it.
    pub(crate) queued_at: Instant,
}

impl Outgoing {
    /// Whether it can be sent: escaped, a body of the largest size may be too large for a frame.
    pub(crate) fn fits_a_frame(&self) -> bool {
        // A byte takes six at most, and the other fields are short.
        let room = FRAME_BYTES_MAX - 1_024;
        self.body.len() <= room / 6 || serde_json::to_string(&self.body).is_ok_and(|json| json.len() <= room)
    }
}

#[derive(Debug)]
struct Item {
    message: Outgoing,
    /// The device that it was last sent from, acked or not.
    tried_from: Option<DeviceId>,
    /// When it was last sent on this connection.
    sent_at: Instant,
    /// Where it, or its like from another device, was seen in the log.
    seen: Option<(Seq, Timestamp)>,
}

/// The messages of one conversation; the first `in_flight` of them are sent and unanswered.
#[derive(Debug, Default)]
struct Lane {
    items: VecDeque<Item>,
    in_flight: usize,
}

/// All messages that are not acked yet.
#[derive(Debug)]
pub(crate) struct Outbox {
    lanes: BTreeMap<ConvoId, Lane>,
    len: usize,
    in_flight: usize,
    in_flight_max: usize,
    in_flight_per_convo_max: usize,
    paused_until: Option<Instant>,
    /// Where the next turn begins, so that no conversation starves the others.
    turn: Option<ConvoId>,
}

impl Outbox {
    pub(crate) fn new(in_flight_max: usize, in_flight_per_convo_max: usize) -> Self {
        Self {
            lanes: BTreeMap::new(),
            len: 0,
            in_flight: 0,
            in_flight_max: in_flight_max.max(1),
            in_flight_per_convo_max: in_flight_per_convo_max.max(1),
            paused_until: None,
            turn: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, message: Outgoing) {
        let item = Item { tried_from: None, sent_at: message.queued_at, seen: None, message };
        self.lanes.entry(item.message.convo_id).or_default().items.push_back(item);
        self.len += 1;
    }

    /// The next message to send from `device`, if one may go out now. `may_send` holds conversations back whose
    /// messages may be stored already; it is told whether the next one was tried from another device.
    pub(crate) fn poll(
        &mut self,
        device: DeviceId,
        now: Instant,
        may_send: impl Fn(ConvoId, bool) -> bool,
    ) -> Option<ClientEvent> {
        if self.in_flight >= self.in_flight_max || self.paused_until.is_some_and(|until| until > now) {
            return None;
        }
        let start = self.turn.unwrap_or(ConvoId::from_bytes([0; 16]));
        let order = self.lanes.range(start..).chain(self.lanes.range(..start));
        let convo_id = order
            .filter(|(_, lane)| lane.in_flight < self.in_flight_per_convo_max)
            .filter_map(|(id, lane)| Some((*id, lane.items.get(lane.in_flight)?)))
            .find(|(id, item)| may_send(*id, item.tried_from.is_some_and(|tried| tried != device)))
            .map(|(id, _)| id)?;
        self.turn = self
            .lanes
            .range((std::ops::Bound::Excluded(convo_id), std::ops::Bound::Unbounded))
            .next()
            .map(|(id, _)| *id);

        let lane = self.lanes.get_mut(&convo_id)?;
        let item = lane.items.get_mut(lane.in_flight)?;
        item.tried_from = Some(device);
        item.sent_at = now;
        lane.in_flight += 1;
        self.in_flight += 1;
        Some(ClientEvent::SendMessage {
            convo_id,
            client_seq: item.message.client_seq,
            body: item.message.body.as_ref().to_owned(),
            media_ids: Vec::new(),
            reply_to: item.message.reply_to,
        })
    }

    /// Takes a message out: it is acked, seen, or refused for good.
    pub(crate) fn settle(&mut self, convo_id: ConvoId, client_seq: ClientSeq) -> Option<Outgoing> {
        let lane = self.lanes.get_mut(&convo_id)?;
        let place = lane.items.iter().position(|item| item.message.client_seq == client_seq)?;
        let item = lane.items.remove(place)?;
        if place < lane.in_flight {
            lane.in_flight -= 1;
            self.in_flight -= 1;
        }
        if lane.items.is_empty() {
            self.lanes.remove(&convo_id);
        }
        self.len -= 1;
        Some(item.message)
    }

    /// One's own message is in the log; says whether it is one of these. That settles nothing yet: another device
    /// may have used the same number.
    pub(crate) fn see(
        &mut self,
        convo_id: ConvoId,
        client_seq: ClientSeq,
        body: &str,
        seq: Seq,
        ts: Timestamp,
    ) -> bool {
        let Some(lane) = self.lanes.get_mut(&convo_id) else { return false };
        let item = lane.items.iter_mut().find(|item| item.message.client_seq == client_seq);
        let Some(item) = item else { return false };
        let same = item.tried_from.is_some() && &*item.message.body == body;
        if same {
            item.seen.get_or_insert((seq, ts));
        }
        same
    }

    /// Messages that were tried from another device than `device` and have been seen in the log are settled by
    /// that: their acks went to a session that is no more.
    pub(crate) fn settle_seen(&mut self, device: DeviceId) -> Vec<(Outgoing, Seq, Timestamp)> {
        let seen: Vec<_> = self
            .lanes
            .values()
            .flat_map(|lane| &lane.items)
            .filter(|item| item.tried_from.is_some_and(|tried| tried != device))
            .filter_map(|item| Some((item.message.convo_id, item.message.client_seq, item.seen?)))
            .collect();
        seen.into_iter()
            .filter_map(|(id, number, (seq, ts))| Some((self.settle(id, number)?, seq, ts)))
            .collect()
    }

    /// A message is refused for now: nothing is sent before `until`, then it and those after it again.
    pub(crate) fn delay(&mut self, convo_id: ConvoId, client_seq: ClientSeq, until: Instant) {
        self.paused_until = Some(self.paused_until.map_or(until, |paused| paused.max(until)));
        let Some(lane) = self.lanes.get_mut(&convo_id) else { return };
        let Some(place) = lane.items.iter().position(|item| item.message.client_seq == client_seq) else {
            return;
        };
        if place < lane.in_flight {
            self.in_flight -= lane.in_flight - place;
            lane.in_flight = place;
        }
    }

    /// The connection is gone, and with it every answer that was on its way: all is sent again.
    pub(crate) fn disconnected(&mut self) {
        self.in_flight = 0;
        self.paused_until = None;
        for lane in self.lanes.values_mut() {
            lane.in_flight = 0;
        }
    }

    /// When [`poll`](Self::poll) or [`handle_timeout`](Self::handle_timeout) has something by the clock alone.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let acks = self
            .lanes
            .values()
            .filter(|lane| lane.in_flight > 0)
            .filter_map(|lane| lane.items.front())
            .map(|item| item.sent_at + ACK_PATIENCE)
            .min();
        let pause = self.paused_until.filter(|_| self.len > 0);
        pause.into_iter().chain(acks).min()
    }

    /// Ends a pause that is over; lanes whose first ack is overdue are sent again.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.paused_until = self.paused_until.filter(|until| *until > now);
        for lane in self.lanes.values_mut() {
            let overdue = lane.in_flight > 0
                && lane.items.front().is_some_and(|item| item.sent_at + ACK_PATIENCE <= now);
            if overdue {
                self.in_flight -= lane.in_flight;
                lane.in_flight = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: DeviceId = DeviceId::from_bytes([9; 16]);

    fn convo(n: u8) -> ConvoId {
        ConvoId::from_bytes([n; 16])
    }

    fn outbox(now: Instant, per_convo: usize, sends: &[(u8, u64)]) -> Outbox {
        let mut outbox = Outbox::new(8, per_convo);
        for &(to, number) in sends {
            outbox.push(Outgoing {
                convo_id: convo(to),
                client_seq: ClientSeq::new(number),
                body: "hi".into(),
                reply_to: None,
                queued_at: now,
            });
        }
        outbox
    }

    /// The numbers that go out now.
    fn sent(outbox: &mut Outbox, device: DeviceId, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| outbox.poll(device, now, |_, doubtful| !doubtful))
            .map(|event| match event {
                ClientEvent::SendMessage { client_seq, .. } => client_seq.get(),
                _ => 0,
            })
            .collect()
    }

    #[test]
    fn o1_one_message_of_a_conversation_is_in_flight_and_conversations_take_turns() {
        let now = Instant::now();
        let mut outbox = outbox(now, 1, &[(1, 1), (1, 2), (2, 3), (2, 4)]);
        assert_eq!(sent(&mut outbox, DEVICE, now), [1, 3]);
        assert!(outbox.settle(convo(1), ClientSeq::new(1)).is_some());
        assert_eq!(sent(&mut outbox, DEVICE, now), [2]);
    }

    #[test]
    fn o2_what_is_refused_for_now_goes_first_when_the_wait_is_over() {
        let now = Instant::now();
        let mut outbox = outbox(now, 3, &[(1, 1), (1, 2), (1, 3)]);
        assert_eq!(sent(&mut outbox, DEVICE, now), [1, 2, 3]);
        let until = now + Duration::from_secs(1);
        outbox.delay(convo(1), ClientSeq::new(2), until);
        outbox.settle(convo(1), ClientSeq::new(1));
        assert!(sent(&mut outbox, DEVICE, now).is_empty());
        assert_eq!(outbox.poll_timeout(), Some(until));
        assert_eq!(sent(&mut outbox, DEVICE, until), [2, 3]);
    }

    #[test]
    fn o3_a_new_connection_sends_the_unacked_again_with_the_same_numbers() {
        let now = Instant::now();
        let mut outbox = outbox(now, 2, &[(1, 1), (1, 2), (1, 3)]);
        assert_eq!(sent(&mut outbox, DEVICE, now), [1, 2]);
        outbox.settle(convo(1), ClientSeq::new(1));
        outbox.disconnected();
        assert_eq!(sent(&mut outbox, DEVICE, now), [2, 3]);
        assert_eq!(outbox.len(), 2);
    }

    #[test]
    fn an_overdue_ack_is_asked_for_again() {
        let now = Instant::now();
        let mut outbox = outbox(now, 1, &[(1, 1)]);
        assert_eq!(sent(&mut outbox, DEVICE, now), [1]);
        let overdue = now + ACK_PATIENCE;
        assert_eq!(outbox.poll_timeout(), Some(overdue));
        outbox.handle_timeout(overdue);
        assert_eq!(sent(&mut outbox, DEVICE, overdue), [1]);
    }

    #[test]
    fn from_another_device_a_message_is_not_repeated_before_the_log_was_looked_at() {
        let now = Instant::now();
        let other = DeviceId::from_bytes([8; 16]);
        let mut outbox = outbox(now, 2, &[(1, 1), (1, 2)]);
        assert_eq!(sent(&mut outbox, DEVICE, now), [1, 2]);
        outbox.disconnected();
        assert!(sent(&mut outbox, other, now).is_empty());
        let ts = Timestamp::from_millis(0);
        outbox.see(convo(1), ClientSeq::new(1), "hi", Seq::new(7), ts);
        outbox.see(convo(1), ClientSeq::new(2), "other text", Seq::new(8), ts);
        assert!(outbox.settle_seen(DEVICE).is_empty(), "the device that sent it is told by the ack");
        let settled: Vec<u64> = outbox.settle_seen(other).iter().map(|(_, seq, _)| seq.get()).collect();
        assert_eq!(settled, [7]);
        assert_eq!(outbox.len(), 1);
    }

    #[test]
    fn what_grows_over_a_frame_by_escaping_does_not_fit() {
        for (byte, fits) in [("x", true), ("\n", false), ("\u{1}", false)] {
            let message = Outgoing {
                convo_id: convo(1),
                client_seq: ClientSeq::new(1),
                body: byte.repeat(tertulia_protocol::rules::BODY_BYTES_MAX).into(),
                reply_to: None,
                queued_at: Instant::now(),
            };
            assert_eq!(message.fits_a_frame(), fits, "{byte:?}");
        }
    }
}
