//! Writes down what the sockets of one client say and hear, one after the other.

use tertulia_protocol::event::{ClientEvent, ConversationNews, ServerEvent};
use tertulia_protocol::{ClientSeq, ConvoId, DeviceId};

use crate::event::{
    Ack, Body, Close, Device, Gap, Left, Mark, Open, Pong, Push, Receipt, Refuse, Seen, Send, Settled,
};
use crate::record::Recorder;

/// The sockets of one client.
#[derive(Debug)]
pub struct Tape {
    recorder: Recorder,
    /// The connection that stands: its number, and the device.
    open: Option<(u64, DeviceId)>,
    /// The position that the next one resumes from.
    from: Option<String>,
}

impl Tape {
    /// One that has heard nothing.
    pub fn new(recorder: Recorder) -> Self {
        Self { recorder, open: None, from: None }
    }

    /// The device of the connection that stands.
    pub fn device(&self) -> Option<DeviceId> {
        self.open.map(|(_, device)| device)
    }

    /// A socket is about to be opened; if it resumes, `from` is the position.
    pub fn opens(&mut self, from: Option<String>) {
        self.closed(None);
        self.from = from;
    }

    /// It is gone.
    pub fn closed(&mut self, why: Option<String>) {
        if let Some((c, _)) = self.open.take() {
            self.recorder.record(Close { c, why });
        }
    }

    /// It was waited for long enough: what was to be handed over on it has been.
    pub fn settled(&self) {
        if let Some((c, _)) = self.open {
            self.recorder.record(Settled { c });
        }
    }

    /// A frame is about to be sent.
    pub fn says(&self, frame: &ClientEvent) {
        match frame {
            ClientEvent::SendMessage { convo_id, client_seq, body, .. } => {
                self.sends(*convo_id, *client_seq, body);
            }
            ClientEvent::Mark { convo_id: convo, delivered_seq: delivered, read_seq: read } => {
                let Some((_, device)) = self.open else { return };
                let (op, convo, delivered, read) = (self.recorder.op(), *convo, *delivered, *read);
                self.recorder.record(Mark { op, device, convo, delivered, read });
            }
            _ => {}
        }
    }

    /// A message is about to be sent.
    pub fn sends(&self, convo: ConvoId, n: ClientSeq, body: &str) {
        if let Some((c, device)) = self.open {
            self.recorder.record(Send { c: Some(c), device, convo, n, body: Body::of(body) });
        }
    }

    /// A frame has come.
    pub fn hears(&mut self, event: &ServerEvent) {
        if let ServerEvent::Ready { user_id, device_id, position, resumed, .. } = event {
            let (c, device) = (self.recorder.connection(), *device_id);
            self.recorder.record(Device { device, user: *user_id });
            let (from, position) = (self.from.take(), position.clone());
            self.recorder.record(Open { c, device, from, resumed: *resumed, position });
            self.open = Some((c, device));
            return;
        }
        let Some((c, device)) = self.open else { return };
        match event {
            ServerEvent::MessageAck { convo_id, client_seq, server_seq, .. } => {
                let (convo, n, seq) = (*convo_id, *client_seq, *server_seq);
                self.recorder.record(Ack { c: Some(c), device, convo, n, seq });
            }
            ServerEvent::Message { entry, position } => {
                let (convo, entry, position) = (entry.convo_id, Seen::of(entry), position.clone());
                self.recorder.record(Push { c, convo, entry, position });
            }
            ServerEvent::Gap { convo_id, from_seq, to_seq } => {
                self.recorder.record(Gap { c, convo: *convo_id, from: *from_seq, to: *to_seq });
            }
            ServerEvent::Receipt { convo_id, user_id, delivered_seq, read_seq, .. } => {
                let (convo, user) = (*convo_id, *user_id);
                self.recorder.record(Receipt { c, convo, user, delivered: *delivered_seq, read: *read_seq });
            }
            ServerEvent::Pong { position } => self.recorder.record(Pong { c, position: position.clone() }),
            ServerEvent::ConversationUpdate { conversation: ConversationNews::Left { id, .. } } => {
                self.recorder.record(Left { c, convo: *id });
            }
            ServerEvent::Error { code, convo_id: Some(convo), client_seq: Some(n), .. } => {
                let (convo, n, code) = (*convo, *n, *code);
                self.recorder.record(Refuse { c: Some(c), device, convo, n, code });
            }
            _ => {}
        }
    }
}
