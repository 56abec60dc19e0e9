//! What is committed, to whom: each entry in the order of commits to the readers who are live in its
//! conversation, encoded once; the ack to the connection that sent it.

use std::sync::Arc;
use std::task::Waker;

use tertulia_protocol::event::{ServerEvent, SharedSettings};
use tertulia_protocol::{ClientSeq, ConvoId, Entry, EntryKind};

use super::connection::{Lagging, State};
use super::frames::{self, EntryFrames, Texts};
use super::holes::Early;
use super::routes::Routes;
use super::{Connection, Hub, Mode, count};
use crate::log::{Outcome, Position, Refusal};

/// One outcome of a committed batch, and what is needed to tell it.
pub struct Committed<'a> {
    /// What became of the intent.
    pub outcome: &'a Outcome,
    /// The connection that sent it, if one did.
    pub origin: Option<Origin<'a>>,
    /// For a moved watermark: whether its owner shows what he has read.
    pub shows_read: bool,
}

/// The connection that sent an intent, and how it calls it.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    /// The connection.
    pub connection: &'a Arc<Connection>,
    /// The conversation that it named.
    pub convo: ConvoId,
    /// The number that it gave, if it was a message.
    pub client_seq: Option<ClientSeq>,
}

/// The most messages that are handed to a reader at once.
const RUN_MAX: usize = 64;

impl Committed<'_> {
    fn entry(&self) -> Option<&Arc<Entry>> {
        if let Outcome::Appended { entry, .. } = self.outcome { Some(entry) } else { None }
    }

    /// Whether both are messages, and `next` the one after this in its conversation, and from the same connection, or both
    /// from none.
    fn is_followed_by(&self, next: &Self) -> bool {
        let (Some(one), Some(two)) = (self.entry(), next.entry()) else { return false };
        let is_text = |entry: &Entry| matches!(entry.kind, EntryKind::Text { .. });
        let sender = |committed: &Self| committed.origin.map(|origin| Arc::as_ptr(origin.connection));
        two.convo_id == one.convo_id
            && two.seq == one.seq.next()
            && (is_text(one) && is_text(two))
            && sender(self) == sender(next)
    }
}

impl Hub {
    /// Hands what was committed to those who are here. To be called, for each conversation, in the order of its log.
    ///
    /// Frames carry the [`position`](Hub::position) of this moment: who knows the order of all commits says
    /// [`caught_up`](Hub::caught_up) first.
    ///
    /// Returns whether something waits behind a hole: then [`overdue`](Hub::overdue) is to be asked soon.
    pub fn deliver<'a>(&self, batch: impl IntoIterator<Item = Committed<'a>>) -> bool {
        let reached = self.position();
        let position = self.position_text(reached);
        let mut delivery = Delivery::new(self, reached, &position);
        let batch: Vec<_> = batch.into_iter().collect();
        for run in batch.chunk_by(Committed::is_followed_by) {
            match run {
                [one] => delivery.one(one),
                run => run.chunks(RUN_MAX).for_each(|run| delivery.messages(run)),
            }
        }
        let has_holes = delivery.wake();
        if self.settings.others_append {
            // What was missing may have come.
            self.come(Position::default());
        }
        has_holes
    }
}

pub(super) struct Delivery<'h> {
    pub(super) hub: &'h Hub,
    /// The position of the hub: no commit of the batch lies below it.
    pub(super) reached: Position,
    position: &'h str,
    pub(super) wakers: Vec<Waker>,
    /// Those of the entries in hand; their memory is used for the next ones.
    frames: EntryFrames,
    pub(super) texts: Texts,
    /// Whether something waits behind a hole, as far as was seen.
    pub(super) has_holes: bool,
}

impl<'h> Delivery<'h> {
    pub(super) fn new(hub: &'h Hub, reached: Position, position: &'h str) -> Self {
        Self {
            hub,
            reached,
            position,
            wakers: Vec::new(),
            frames: EntryFrames::default(),
            texts: Texts::default(),
            has_holes: false,
        }
    }

    /// Wakes all at the end: each connection then writes all of the batch at once. Says whether something waits behind
    /// a hole.
    pub(super) fn wake(self) -> bool {
        for waker in self.wakers {
            waker.wake();
        }
        self.has_holes
    }

    fn one(&mut self, committed: &Committed<'_>) {
        match committed.outcome {
            Outcome::Appended { entry, shared } => {
                let mut routes = self.hub.routes();
                if let Some(origin) = committed.origin {
                    self.ack(origin, entry);
                }
                let sender = committed.origin.map(|origin| origin.connection);
                self.appended(&mut routes, entry, shared.as_ref(), sender);
            }
            Outcome::Duplicate(entry) => {
                if let Some(origin) = committed.origin {
                    self.ack(origin, entry);
                }
            }
            Outcome::Marked(receipt) => self.receipt(*receipt, committed.shows_read),
            Outcome::OwnChanged { convo, user, settings } => self.own(*convo, *user, *settings),
            Outcome::Unchanged => {}
            Outcome::Refused(refusal) => {
                if let Some(origin) = committed.origin {
                    self.refuse(origin, refusal);
                }
            }
        }
    }

    /// Messages that follow on each other, from one connection or from none: each reader gets them at once, under one lock and
    /// as one piece.
    ///
    /// A client that sends much, or whose frames came together, makes such runs; so do other nodes. In a group, going
    /// around all readers for each of them finds what belongs to a reader out of the processor's cache each time.
    fn messages(&mut self, run: &[Committed<'_>]) {
        let entries: Vec<_> = run.iter().filter_map(Committed::entry).collect();
        let (Some(first), Some(last), Some(origin)) =
            (entries.first(), entries.last(), run.first().map(|committed| committed.origin))
        else {
            return;
        };
        let sender = origin.map(|origin| origin.connection);
        let mut routes = self.hub.routes();
        if let Some(sender) = sender {
            let mut state = sender.state();
            for (committed, entry) in run.iter().zip(&entries) {
                let client_seq = committed.origin.and_then(|origin| origin.client_seq);
                self.wakers.extend(acked(&mut state, client_seq, entry, &mut self.texts));
            }
        }
        let slot = routes.convo_slot(first.convo_id);
        let convo = slot.and_then(|slot| routes.convos.get_mut(slot as usize));
        let Some(convo) = convo.filter(|convo| convo.next == first.seq) else {
            // Some are repeats, or too early.
            for entry in entries {
                self.appended(&mut routes, entry, None, sender);
            }
            return;
        };
        convo.next = last.seq.next();
        self.push_to_readers(&routes, &entries, sender);
        entries.iter().for_each(|entry| self.told_by_saying(&mut routes, entry));
        self.early(&mut routes, last.convo_id);
    }

    /// An entry that was committed, and what waited for it.
    fn appended(
        &mut self,
        routes: &mut Routes,
        entry: &Arc<Entry>,
        shared: Option<&Arc<SharedSettings>>,
        sender: Option<&Arc<Connection>>,
    ) {
        if routes.hold_early(entry, shared, sender) {
            self.has_holes = true;
            return;
        }
        self.entry(routes, entry, shared, sender);
        self.early(routes, entry.convo_id);
    }

    fn early(&mut self, routes: &mut Routes, convo: ConvoId) {
        while let Some(Early { entry, shared, sender }) = routes.take_early(convo) {
            self.entry(routes, &entry, shared.as_ref(), sender.as_ref());
        }
    }

    /// Whoever says something has received and read what is before it, and others see that by it.
    fn told_by_saying(&self, routes: &mut Routes, entry: &Entry) {
        if self.hub.settings.others_append
            && let Some(slot) = routes.convo_slot(entry.convo_id)
        {
            routes.told.said(slot, entry.sender_id, entry.seq);
        }
    }

    /// Answers may exceed the outbox: there are no more of them than requests under way, which are bounded.
    fn ack(&mut self, origin: Origin<'_>, entry: &Entry) {
        let mut state = origin.connection.state();
        self.wakers.extend(acked(&mut state, origin.client_seq, entry, &mut self.texts));
    }

    fn refuse(&mut self, origin: Origin<'_>, refusal: &Refusal) {
        let event = ServerEvent::Error {
            code: refusal.code(),
            detail: refusal.to_string(),
            convo_id: Some(origin.convo),
            client_seq: origin.client_seq,
            retry_after_ms: refusal.retry_after().and_then(|wait| u64::try_from(wait.as_millis()).ok()),
        };
        self.wakers.extend(origin.connection.state().push(&frames::encode(&event)));
    }

    fn entry(
        &mut self,
        routes: &mut Routes,
        entry: &Arc<Entry>,
        shared: Option<&Arc<SharedSettings>>,
        sender: Option<&Arc<Connection>>,
    ) {
        let slot = routes.convo_slot(entry.convo_id);
        let convo = slot.and_then(|slot| routes.convos.get_mut(slot as usize));
        // Who comes here brings along how far the log is, which may be further than what was delivered: what is
        // between is no news to the readers. Whom it lets in or puts out is not among them, and learns it here.
        let is_repeat = convo.as_ref().is_some_and(|convo| entry.seq < convo.next);
        if let Some(convo) = convo.filter(|_| !is_repeat) {
            convo.next = entry.seq.next();
            match &entry.kind {
                EntryKind::MemberAdded { user_ids } => convo.member_count += user_ids.len() as u64,
                EntryKind::MemberRemoved { user_ids } => {
                    convo.member_count = convo.member_count.saturating_sub(user_ids.len() as u64);
                }
                _ => {}
            }
            self.push_to_readers(routes, &[entry], sender);
        }
        if let EntryKind::Text { .. } = &entry.kind {
            self.told_by_saying(routes, entry);
        }
        if let EntryKind::MemberRemoved { user_ids } = &entry.kind
            && self.hub.settings.others_append
        {
            user_ids.iter().for_each(|user| routes.doubt_watching(*user));
        }
        match &entry.kind {
            // Of one's own there are no letters that come late or twice; of others' some do, and are past by now.
            EntryKind::Created { user_ids, .. } | EntryKind::MemberAdded { user_ids }
                if is_repeat && self.hub.settings.others_append =>
            {
                self.doubt(routes, entry, user_ids, false);
            }
            EntryKind::MemberRemoved { user_ids } if is_repeat && self.hub.settings.others_append => {
                self.doubt(routes, entry, user_ids, true);
            }
            EntryKind::Created { user_ids, .. } => {
                self.welcome(routes, entry, user_ids, user_ids.len() as u64, is_repeat);
            }
            EntryKind::MemberAdded { user_ids } => {
                let member_count = routes.convo(entry.convo_id).map_or(0, |convo| convo.member_count);
                self.welcome(routes, entry, user_ids, member_count, is_repeat);
            }
            EntryKind::MemberRemoved { user_ids } => self.bid_farewell(routes, entry, user_ids),
            _ => {}
        }
        if let Some(shared) = shared {
            self.shared(routes, entry.convo_id, shared);
        }
    }

    /// Pushes entries that follow on each other in one conversation to those who are live there.
    fn push_to_readers(
        &mut self,
        routes: &Routes,
        entries: &[&Arc<Entry>],
        sender: Option<&Arc<Connection>>,
    ) {
        let Some(convo) = entries.first().and_then(|entry| routes.convo(entry.convo_id)) else { return };
        // Of two, one has mostly said it.
        let is_for_one = routes.readers(convo).nth(2).is_none();
        self.frames.clear(entries.len(), is_for_one);
        let mut pushed = 0;
        for (_, connection) in routes.readers(convo) {
            let is_sender = sender.is_some_and(|sender| Arc::ptr_eq(sender, connection));
            let mut state = connection.state();
            if connection.mode == Mode::Socket && !is_sender && state.lag.is_none() {
                let all = self.frames.all(entries, self.position, &mut self.texts);
                if state.has_room_for(&self.hub.settings.outbox, all.frames(), all.len()) {
                    self.wakers.extend(state.push_encoded(all));
                    pushed += entries.len() as u64;
                    continue;
                }
            }
            for (index, entry) in entries.iter().enumerate() {
                pushed += u64::from(self.offer(&mut state, connection, (index, entry), is_sender));
            }
        }
        count(&self.hub.stats.deliveries, pushed);
    }

    /// Pushes an entry to one reader if he is live here. Returns whether it was pushed. `index` is its place among those in
    /// hand.
    fn offer(
        &mut self,
        state: &mut State,
        connection: &Connection,
        (index, entry): (usize, &Entry),
        is_sender: bool,
    ) -> bool {
        if connection.mode == Mode::Poll {
            self.wakers.extend(state.hint());
            return false;
        }
        if state.passes_over(entry) {
            return false;
        }
        if let Some(lag) = &mut state.lag {
            if lag.resuming {
                lag.convos.entry(entry.convo_id).or_insert_with(|| Lagging::from(entry.seq));
            }
            if let Some(lagging) = lag.convos.get_mut(&entry.convo_id) {
                if lagging.is_barred() {
                    return false;
                }
                lagging.ahead = None;
                if is_sender {
                    lagging.own.push(entry.seq);
                }
                self.wakers.extend(state.wake_to_catch_up());
                return false;
            }
        }
        if is_sender {
            return false; // The ack stands for it.
        }
        let position = state.lag.is_none().then_some(self.position);
        let frame = self.frames.one((index, entry), position, &mut self.texts);
        if !state.has_room(&self.hub.settings.outbox, frame.len()) {
            count(&self.hub.stats.lagged, 1);
            state.lag_at((self.reached, &self.hub.lagging), entry.convo_id, entry.seq);
            self.wakers.extend(state.wake_to_catch_up());
            return false;
        }
        self.wakers.extend(state.push_encoded(frame));
        true
    }
}

/// Tells the connection that sent a message what became of it.
#[must_use = "the task sleeps until it is woken"]
fn acked(
    state: &mut State,
    client_seq: Option<ClientSeq>,
    entry: &Entry,
    texts: &mut Texts,
) -> Option<Waker> {
    let client_seq = client_seq.or(entry.client_seq).unwrap_or_default();
    state.push_written(|wire| frames::write_ack(wire, client_seq, entry, texts))
}
