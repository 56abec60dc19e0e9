//! What is committed, to whom: each entry in the order of commits to the readers who are live in its
//! conversation, encoded once; the ack to the connection that sent it.

use std::cell::LazyCell;
use std::sync::Arc;
use std::task::Waker;

use tertulia_protocol::event::{ConversationNews, ServerEvent, SharedSettings};
use tertulia_protocol::rest::MemberSettings;
use tertulia_protocol::{ClientSeq, ConvoId, Entry, EntryKind, Seq, UserId};
use tertulia_websocket::Frame;

use super::connection::{Lag, Lagging, State};
use super::frames::{self, EntryFrames, ReceiptFrames};
use super::holes::Early;
use super::routes::Routes;
use super::{CHATTER_MEMBERS_MAX, Connection, Hub, Mode, count};
use crate::log::{Outcome, Position, Receipt, Refusal};

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
        for committed in batch {
            delivery.one(&committed);
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
    hub: &'h Hub,
    /// The position of the hub: no commit of the batch lies below it.
    reached: Position,
    position: &'h str,
    wakers: Vec<Waker>,
    /// Those of the entry in hand; their memory is used for one entry after the other.
    frames: EntryFrames,
    /// Whether something waits behind a hole, as far as was seen.
    has_holes: bool,
}

impl<'h> Delivery<'h> {
    pub(super) fn new(hub: &'h Hub, reached: Position, position: &'h str) -> Self {
        Self { hub, reached, position, wakers: Vec::new(), frames: EntryFrames::default(), has_holes: false }
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
                if routes.hold_early(entry, shared.as_ref(), sender) {
                    self.has_holes = true;
                    return;
                }
                self.entry(&mut routes, entry, shared.as_ref(), sender);
                while let Some(Early { entry, shared, sender }) = routes.take_early(entry.convo_id) {
                    self.entry(&mut routes, &entry, shared.as_ref(), sender.as_ref());
                }
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

    /// Answers may exceed the outbox: there are no more of them than requests under way, which are bounded.
    fn ack(&mut self, origin: Origin<'_>, entry: &Entry) {
        let client_seq = origin.client_seq.or(entry.client_seq).unwrap_or_default();
        let mut state = origin.connection.state();
        self.wakers.extend(state.push_written(|wire| frames::write_ack(wire, client_seq, entry)));
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
            self.push_to_readers(routes, entry, sender);
        }
        if let (EntryKind::Text { .. }, Some(slot)) = (&entry.kind, slot)
            && self.hub.settings.others_append
        {
            routes.told.said(slot, entry.sender_id, entry.seq);
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

    fn push_to_readers(&mut self, routes: &Routes, entry: &Arc<Entry>, sender: Option<&Arc<Connection>>) {
        let Some(convo) = routes.convo(entry.convo_id) else { return };
        self.frames.clear();
        let mut pushed = 0;
        for (_, connection) in routes.readers(convo) {
            let is_sender = sender.is_some_and(|sender| Arc::ptr_eq(sender, connection));
            let mut state = connection.state();
            pushed += u64::from(self.offer(&mut state, connection, entry, is_sender));
        }
        count(&self.hub.stats.deliveries, pushed);
    }

    /// Pushes an entry to one reader if he is live here. Returns whether it was pushed.
    fn offer(&mut self, state: &mut State, connection: &Connection, entry: &Entry, is_sender: bool) -> bool {
        if connection.mode == Mode::Poll {
            self.wakers.extend(state.hint());
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
                if lagging.ahead.is_some() && entry.seq < lagging.next {
                    // He has read this one already; once the hub has come to where he is, he is live.
                    if entry.seq.next() == lagging.next {
                        lag.convos.remove(&entry.convo_id);
                        state.end_lag_if_over();
                    }
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
        let frame = self.frames.get(entry, position);
        if !state.has_room(&self.hub.settings.outbox, frame.len()) {
            count(&self.hub.stats.lagged, 1);
            state.lag_at(self.reached, entry.convo_id, entry.seq);
            self.wakers.extend(state.wake_to_catch_up());
            return false;
        }
        self.wakers.extend(state.push_encoded(frame));
        true
    }

    /// Those who have just come in: they are told the conversation, and read it from this entry on.
    fn welcome(
        &mut self,
        routes: &mut Routes,
        entry: &Entry,
        users: &[UserId],
        member_count: u64,
        is_repeat: bool,
    ) {
        for user in users {
            let is_unheard = self.hub.settings.others_append && routes.convo_slot(entry.convo_id).is_none();
            // Then he came with the heads in which he is, or nobody knows.
            let was_in = !routes.join(*user, entry.convo_id, entry.seq.next(), member_count);
            if was_in && is_repeat {
                continue;
            }
            routes.doubts.remove(&(*user, entry.convo_id));
            if is_unheard && routes.convo_slot(entry.convo_id).is_some() {
                routes.unheard.push(entry.convo_id);
                self.has_holes = true;
            }
            let Some(node) = routes.user(*user) else { continue };
            for connection in &node.connections {
                let mut state = connection.state();
                if connection.mode == Mode::Poll {
                    self.wakers.extend(state.hint());
                    continue;
                }
                if was_in && state.reads_for_himself(entry.convo_id) {
                    continue;
                }
                let lagging = state.lag_at(self.reached, entry.convo_id, entry.seq);
                lagging.whole = true;
                (lagging.parting, lagging.barred) = (false, false);
                // He starts anew: what he lacked of an earlier membership is not his any more.
                lagging.next = lagging.next.max(entry.seq);
                self.wakers.extend(state.wake_to_catch_up());
            }
        }
    }

    /// An entry says of users that they are members, or no longer, which is news here although the entry is past.
    /// Nobody knows which of them is true now: the store is asked, and until then they are given nothing.
    fn doubt(&mut self, routes: &mut Routes, entry: &Entry, users: &[UserId], is_member: bool) {
        for user in users {
            if routes.is_member(*user, entry.convo_id) != is_member {
                continue;
            }
            let (next, member_count) =
                routes.convo(entry.convo_id).map_or((entry.seq, 0), |convo| (convo.next, convo.member_count));
            routes.join(*user, entry.convo_id, next, member_count);
            let Some(node) = routes.user(*user) else { continue };
            for connection in &node.connections {
                let mut state = connection.state();
                if connection.mode == Mode::Poll {
                    self.wakers.extend(state.hint());
                } else {
                    let next = if is_member { next } else { entry.seq };
                    state.lag_at(self.reached, entry.convo_id, next).barred = true;
                }
            }
            routes.doubts.insert((*user, entry.convo_id));
            self.has_holes = true;
        }
    }

    /// Those who are no longer in: the entry that says so was the last one for them.
    fn bid_farewell(&mut self, routes: &mut Routes, entry: &Arc<Entry>, users: &[UserId]) {
        for user in users {
            if let Some(node) = routes.user(*user) {
                for connection in &node.connections {
                    let mut state = connection.state();
                    if connection.mode == Mode::Poll {
                        self.wakers.extend(state.hint());
                        continue;
                    }
                    self.say_farewell(&mut state, entry);
                }
            }
            routes.part(*user, entry.convo_id, entry.seq);
            routes.doubts.remove(&(*user, entry.convo_id));
        }
    }

    fn say_farewell(&mut self, state: &mut State, entry: &Arc<Entry>) {
        let (mut resuming, mut lagging) = (false, None);
        if let Some(lag) = &mut state.lag {
            (resuming, lagging) = (lag.resuming, lag.convos.remove(&entry.convo_id));
        }
        state.end_lag_if_over();
        // What he missed before he came is not known yet, and of no use any more: it is as if he had left before.
        if let Some(lagging) = lagging.filter(|lagging| !resuming && !lagging.parting) {
            // What he lacks he may no longer read: it is named, and the last entry is given.
            if lagging.next < entry.seq {
                count(&self.hub.stats.gaps, 1);
                let gap = frames::gap(entry.convo_id, lagging.next, entry.seq.previous());
                self.wakers.extend(state.push(&gap));
            }
            if lagging.next <= entry.seq {
                self.wakers.extend(state.push_written(|wire| frames::write_message(wire, entry, None)));
            }
        }
        self.wakers.extend(state.push(&frames::left(entry.convo_id)));
    }

    fn receipt(&mut self, receipt: Receipt, owner_shows_read: bool) {
        let mut routes = self.hub.routes();
        if let Some(receipt) = self.hub.as_told(&mut routes, receipt) {
            self.tell_receipt(&routes, receipt, owner_shows_read, None);
        }
    }

    pub(super) fn tell_receipt(
        &mut self,
        routes: &Routes,
        receipt: Receipt,
        owner_shows_read: bool,
        but: Option<&Arc<Connection>>,
    ) {
        let mut frames = ReceiptFrames::new(receipt);
        let Some(convo) = routes.convo(receipt.convo) else { return };
        let to_all = convo.member_count <= CHATTER_MEMBERS_MAX;
        for (reader, connection) in routes.readers(convo) {
            let is_own = reader.id == receipt.user;
            if (is_own || to_all) && !but.is_some_and(|but| Arc::ptr_eq(but, connection)) {
                let shows_read = is_own || (owner_shows_read && reader.shows_read());
                let frame = frames.get(shows_read);
                if !self.push_watermark(connection, convo.id, frame) {
                    self.push_news(connection, convo.id, convo.next, frame);
                }
            }
        }
    }

    /// Pushes a watermark to a reader who lags here, if he may be told now: it stands by itself, and where others append
    /// none below it is told later, whoever has read it and whenever. If he read the store for each, those who come back in
    /// a storm would do so again and again: whoever does is ahead of the hub, and tells the others.
    fn push_watermark(&mut self, connection: &Connection, convo: ConvoId, frame: &Frame) -> bool {
        let mut state = connection.state();
        let may_be_told = |lag: &Lag| {
            let knows = |lagging: &Lagging| !lagging.whole && !lagging.is_barred();
            !lag.resuming && lag.convos.get(&convo).is_none_or(knows)
        };
        let is_told = self.hub.settings.others_append
            && connection.mode != Mode::Poll
            && state.lag.as_deref().is_some_and(may_be_told)
            && state.has_room(&self.hub.settings.outbox, frame.len());
        if is_told {
            self.wakers.extend(state.push(frame));
        }
        is_told
    }

    fn own(&mut self, convo: ConvoId, user: UserId, settings: MemberSettings) {
        let routes = self.hub.routes();
        let (Some(node), Some(route)) = (routes.user(user), routes.convo(convo)) else { return };
        let frame = frames::news(ConversationNews::Own { id: convo, settings });
        for connection in &node.connections {
            self.push_news(connection, convo, route.next, &frame);
        }
    }

    fn shared(&mut self, routes: &Routes, convo: ConvoId, shared: &Arc<SharedSettings>) {
        let Some(route) = routes.convo(convo) else { return };
        let frame = LazyCell::new(|| frames::shared(shared));
        for (_, connection) in routes.readers(route) {
            self.push_news(connection, convo, route.next, &frame);
        }
    }

    /// Pushes what is no entry but must arrive: where the reader lags, or has no room, he reads it later.
    fn push_news(&mut self, connection: &Connection, convo: ConvoId, next: Seq, frame: &Frame) {
        let mut state = connection.state();
        if connection.mode == Mode::Poll {
            self.wakers.extend(state.hint());
            return;
        }
        let lags_here = state.lag.as_ref().is_some_and(|lag| lag.resuming || lag.convos.contains_key(&convo));
        if !lags_here && state.has_room(&self.hub.settings.outbox, frame.len()) {
            self.wakers.extend(state.push(frame));
            return;
        }
        let since = self.hub.position_in(&self.reached, convo);
        state.lag_at(self.reached, convo, next).lack_news(since);
        self.wakers.extend(state.wake_to_catch_up());
    }
}

impl State {
    /// The reader lags in `convo` from `next` on, if he does not already; `reached` is the position of the hub.
    pub(super) fn lag_at(&mut self, reached: Position, convo: ConvoId, next: Seq) -> &mut Lagging {
        let lag = self.lag.get_or_insert_with(|| Box::new(Lag::from(reached, false)));
        lag.convos.entry(convo).or_insert_with(|| Lagging::from(next))
    }

    /// Who is known to be in a conversation, and is not held back there, reads from where he came in, or has done so.
    fn reads_for_himself(&self, convo: ConvoId) -> bool {
        self.lag.as_ref().is_none_or(|lag| {
            !lag.resuming && lag.convos.get(&convo).is_none_or(|lagging| !lagging.is_barred())
        })
    }

    /// The reader is live everywhere as soon as he lags nowhere.
    pub(super) fn end_lag_if_over(&mut self) {
        if self.lag.as_ref().is_some_and(|lag| !lag.resuming && lag.convos.is_empty()) {
            self.lag = None;
        }
    }
}
