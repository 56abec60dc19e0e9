//! Writes down what a client's calls ask and are answered, for `tertulia check`; without a recorder it does nothing. What
//! its sockets say and hear is written by [`Tape`](tertulia_history::Tape).

use std::sync::{Arc, Mutex, PoisonError};

use tertulia_history::event::{
    Ack, Body, Change, Device, Done, Fail, Inbox, Item, Kind, Mark, Page, Read, ReadInbox, Refuse, Seen, Send,
};
use tertulia_history::{Event, Recorder};
use tertulia_protocol::rest::{Conversation, HistoryPage, Page as ListPage, SendMessage};
use tertulia_protocol::{ConvoId, DeviceId, Entry, Seq, UserId};

use crate::api::From;
use crate::error::Error;
use crate::session::Session;

/// What the calls of a session write.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    recorder: Recorder,
    /// The device that was written last: a login makes another one.
    device: Arc<Mutex<Option<DeviceId>>>,
}

/// A call that has been written, and waits for its answer.
#[derive(Debug)]
pub(crate) struct Call(Option<(Recorder, u64)>);

impl Calls {
    pub(crate) fn new(recorder: Recorder) -> Self {
        Self { recorder, device: Arc::default() }
    }

    fn device(&self, session: &Session) -> DeviceId {
        let device = session.device_id();
        let mut last = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != Some(device) {
            self.recorder.record(Device { device, user: session.user_id() });
            *last = Some(device);
        }
        device
    }

    /// A call begins.
    pub(crate) fn begin(
        calls: Option<&Self>,
        session: &Session,
        event: impl FnOnce(u64, DeviceId) -> Event,
    ) -> Call {
        Call(calls.map(|calls| {
            let (op, device) = (calls.recorder.op(), calls.device(session));
            calls.recorder.record(event(op, device));
            (calls.recorder.clone(), op)
        }))
    }

    /// A message goes out by a call.
    pub(crate) fn send(&self, session: &Session, convo: ConvoId, message: &SendMessage) {
        let (device, n, body) = (self.device(session), message.client_seq, Body::of(&message.body));
        self.recorder.record(Send { c: None, device, convo, n, body });
    }

    /// What became of it.
    pub(crate) fn sent(
        &self,
        session: &Session,
        convo: ConvoId,
        message: &SendMessage,
        outcome: &Result<Entry, Error>,
    ) {
        let (device, n) = (self.device(session), message.client_seq);
        match outcome {
            Ok(entry) => self.recorder.record(Ack { c: None, device, convo, n, seq: entry.seq }),
            Err(error) => {
                if let Some(code) = error.code() {
                    self.recorder.record(Refuse { c: None, device, convo, n, code });
                }
            }
        }
    }
}

impl Call {
    /// Writes the answer.
    pub(crate) fn end<T>(self, outcome: &Result<T, Error>, answer: impl FnOnce(u64, &T) -> Event) {
        let Some((recorder, op)) = self.0 else { return };
        recorder.record(match outcome {
            Ok(value) => answer(op, value),
            Err(error) => Fail { op, code: error.code() }.into(),
        });
    }

    /// Writes that it is done, or why not.
    pub(crate) fn done<T>(self, outcome: &Result<T, Error>) {
        self.end(outcome, |op, _| Done { op }.into());
    }
}

pub(crate) fn read(op: u64, device: DeviceId, convo: ConvoId, from: From, limit: usize) -> Event {
    let (after, before) = match from {
        From::Newest => (None, None),
        From::After(seq) => (Some(seq), None),
        From::Before(seq) => (None, Some(seq)),
    };
    Read { op, device, convo, after, before, limit }.into()
}

pub(crate) fn page(op: u64, page: &HistoryPage) -> Event {
    Page { op, entries: page.items.iter().map(Seen::of).collect(), more: page.has_more }.into()
}

pub(crate) fn read_inbox(op: u64, device: DeviceId) -> Event {
    ReadInbox { op, device }.into()
}

pub(crate) fn inbox(op: u64, page: &ListPage<Conversation>) -> Event {
    Inbox { op, items: page.items.iter().map(Item::of).collect() }.into()
}

pub(crate) fn mark(
    op: u64,
    device: DeviceId,
    convo: ConvoId,
    delivered: Option<Seq>,
    read: Option<Seq>,
) -> Event {
    Mark { op, device, convo, delivered, read }.into()
}

pub(crate) fn members(op: u64, device: DeviceId, convo: ConvoId, kind: Kind, users: Vec<UserId>) -> Event {
    Change { op, device, convo, kind, users, target: None, body: None }.into()
}
