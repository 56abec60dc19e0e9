//! Watermarks on their way out: the latest of each conversation, merged, repeated until they surely arrived.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tertulia_protocol::event::ClientEvent;
use tertulia_protocol::{ConvoId, Seq};

/// Marks go out at most this often; what is marked in between is merged.
const EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Watermarks {
    delivered: Option<Seq>,
    read: Option<Seq>,
}

impl Watermarks {
    fn merge(&mut self, other: Self) {
        self.delivered = self.delivered.max(other.delivered);
        self.read = self.read.max(other.read);
    }
}

/// The marks of one client; at most one a conversation is kept.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    to_send: BTreeMap<ConvoId, Watermarks>,
    /// Sent on this connection; a `pong` to a later `ping` confirms them, a lost connection sends them again.
    unconfirmed: BTreeMap<ConvoId, Watermarks>,
    /// What of `unconfirmed` was sent before the last `ping`.
    before_ping: BTreeMap<ConvoId, Watermarks>,
    not_before: Option<Instant>,
}

impl Marks {
    pub(crate) fn set(&mut self, convo_id: ConvoId, delivered: Option<Seq>, read: Option<Seq>) {
        self.to_send.entry(convo_id).or_default().merge(Watermarks { delivered, read });
    }

    /// The next mark to send, if it is time.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<ClientEvent> {
        if self.not_before.is_some_and(|until| until > now) {
            return None;
        }
        let (convo_id, mark) = self.to_send.pop_first()?;
        if self.to_send.is_empty() {
            self.not_before = Some(now + EVERY);
        }
        self.unconfirmed.entry(convo_id).or_default().merge(mark);
        Some(ClientEvent::Mark { convo_id, delivered_seq: mark.delivered, read_seq: mark.read })
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.not_before.filter(|_| !self.to_send.is_empty())
    }

    /// A mark is refused for now.
    pub(crate) fn delay(&mut self, convo_id: ConvoId, until: Instant) {
        if let Some(mark) = self.unconfirmed.remove(&convo_id) {
            self.to_send.entry(convo_id).or_default().merge(mark);
            self.not_before = Some(until);
        }
    }

    /// A mark is refused for good.
    pub(crate) fn refused(&mut self, convo_id: ConvoId) {
        self.unconfirmed.remove(&convo_id);
    }

    /// A `ping` goes out after what was sent so far.
    pub(crate) fn pinged(&mut self) {
        self.before_ping = self.unconfirmed.clone();
    }

    /// The answer to it: the server has taken what came before.
    pub(crate) fn ponged(&mut self) {
        for (convo_id, mark) in std::mem::take(&mut self.before_ping) {
            if self.unconfirmed.get(&convo_id) == Some(&mark) {
                self.unconfirmed.remove(&convo_id);
            }
        }
    }

    /// The connection is gone.
    pub(crate) fn disconnected(&mut self) {
        self.not_before = None;
        self.before_ping.clear();
        for (convo_id, mark) in std::mem::take(&mut self.unconfirmed) {
            self.to_send.entry(convo_id).or_default().merge(mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(marks: &mut Marks, now: Instant) -> Vec<(Option<u64>, Option<u64>)> {
        std::iter::from_fn(|| marks.poll(now))
            .map(|event| match event {
                ClientEvent::Mark { delivered_seq, read_seq, .. } => {
                    (delivered_seq.map(Seq::get), read_seq.map(Seq::get))
                }
                _ => (None, None),
            })
            .collect()
    }

    const CONVO: ConvoId = ConvoId::from_bytes([1; 16]);

    #[test]
    fn marks_of_one_conversation_are_merged_to_the_highest() {
        let (now, mut marks) = (Instant::now(), Marks::default());
        marks.set(CONVO, Some(Seq::new(3)), None);
        marks.set(CONVO, Some(Seq::new(2)), Some(Seq::new(1)));
        assert_eq!(sent(&mut marks, now), [(Some(3), Some(1))]);
        marks.set(CONVO, Some(Seq::new(4)), None);
        assert_eq!(sent(&mut marks, now), []);
        assert_eq!(sent(&mut marks, now + EVERY), [(Some(4), None)]);
    }

    #[test]
    fn what_no_pong_has_confirmed_is_sent_again_on_the_next_connection() {
        let (now, mut marks) = (Instant::now(), Marks::default());
        marks.set(CONVO, None, Some(Seq::new(5)));
        assert_eq!(sent(&mut marks, now).len(), 1);
        marks.disconnected();
        assert_eq!(sent(&mut marks, now), [(None, Some(5))]);
        marks.pinged();
        marks.ponged();
        marks.disconnected();
        assert_eq!(sent(&mut marks, now), []);
    }
}
