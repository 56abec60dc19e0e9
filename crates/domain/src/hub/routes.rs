//! Who is here, and in which conversations.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use slab::Slab;
use tertulia_protocol::event::{CloseReason, Presence};
use tertulia_protocol::rest::{Audience, Privacy};
use tertulia_protocol::{ConvoId, DeviceId, IdMap, Seq, Timestamp, UserId};

use super::connection::Mode;
use super::holes::Beyond;
use super::presence::Departed;
use super::receipts::Told;
use super::slots::Slots;
use super::{Close, Connection, Hub, Present};
use crate::log::{Head, Position};

/// Conversations and users refer to each other by slots of four bytes: an idle user in 50 conversations costs
/// 400 bytes here.
#[derive(Default)]
pub(super) struct Routes {
    pub(super) convos: Slab<Convo>,
    pub(super) users: Slab<User>,
    /// How many are here.
    readers: Readers,
    convo_slots: IdMap<ConvoId, u32>,
    user_slots: IdMap<UserId, u32>,
    /// Who watches whom.
    pub(super) watchers: HashMap<UserId, Vec<Arc<Connection>>>,
    /// Those of the watched whom other nodes see, and as what.
    pub(super) elsewhere: HashMap<UserId, Presence>,
    /// Who watches somebody with whom he may share no conversation any more, by address.
    pub(super) unsure: HashMap<usize, Arc<Connection>>,
    /// The conversations with a hole, by their slots; nearly always there is none.
    pub(super) holes: BTreeMap<u32, Beyond>,
    /// The watermarks that were told, where others append.
    pub(super) told: Told,
    /// Of whom nobody knows here whether he is in a conversation.
    pub(super) doubts: BTreeSet<(UserId, ConvoId)>,
    /// Everything below it has come here, if it is not missing.
    pub(super) come: Position,
    /// Conversations that came here with an entry, whose later ones nobody has asked for yet.
    pub(super) unheard: Vec<ConvoId>,
}

/// Connections, and users with at least one of them.
#[derive(Default)]
struct Readers {
    sockets: usize,
    polls: usize,
    users: usize,
}

impl Readers {
    const fn of(&mut self, mode: Mode) -> &mut usize {
        match mode {
            Mode::Socket => &mut self.sockets,
            Mode::Poll => &mut self.polls,
        }
    }
}

/// A conversation with somebody here.
pub(super) struct Convo {
    pub(super) id: ConvoId,
    /// The entry that the hub delivers next: a lower one is a repeat, a higher one shows a hole.
    pub(super) next: Seq,
    pub(super) member_count: u64,
    /// The members who are here.
    pub(super) here: Vec<u32>,
}

/// A user with a connection here, or one who was here a moment ago.
pub(super) struct User {
    pub(super) id: UserId,
    pub(super) privacy: Privacy,
    pub(super) connections: Vec<Arc<Connection>>,
    /// The conversations that he is in.
    convos: Slots,
    /// Whether `convos` is complete; from then on membership entries keep it so.
    attached: bool,
    /// Removals delivered while `convos` is being read from the store: what was read may be older than they.
    removed: Vec<(ConvoId, Seq)>,
    /// What he is as far as this node sees.
    pub(super) presence: Presence,
    /// When his last long-poll ended; until the presence TTL has passed he counts as present.
    pub(super) polled: Option<Timestamp>,
    /// The last sign of life of connections that are gone.
    last_life: Option<Timestamp>,
}

impl Routes {
    pub(super) fn convo_slot(&self, convo: ConvoId) -> Option<u32> {
        self.convo_slots.get(&convo).copied()
    }

    pub(super) fn convo(&self, convo: ConvoId) -> Option<&Convo> {
        self.convo_slot(convo).and_then(|slot| self.convos.get(slot as usize))
    }

    pub(super) fn user_slot(&self, user: UserId) -> Option<u32> {
        self.user_slots.get(&user).copied()
    }

    pub(super) fn user(&self, user: UserId) -> Option<&User> {
        self.user_slot(user).and_then(|slot| self.users.get(slot as usize))
    }

    pub(super) fn user_mut(&mut self, user: UserId) -> Option<&mut User> {
        self.user_slot(user).and_then(|slot| self.users.get_mut(slot as usize))
    }

    /// The connections of members of `convo` that are here.
    pub(super) fn readers(&self, convo: &Convo) -> impl Iterator<Item = (&User, &Arc<Connection>)> {
        let users = convo.here.iter().filter_map(|slot| self.users.get(*slot as usize));
        users.flat_map(|user| user.connections.iter().map(move |connection| (user, connection)))
    }

    /// Whether a user who is here is in the conversation.
    pub(super) fn is_member(&self, user: UserId, convo: ConvoId) -> bool {
        match (self.user(user), self.convo_slot(convo)) {
            (Some(user), Some(slot)) => user.convos.contains(slot),
            _ => false,
        }
    }

    /// Whether two users who are both here share a conversation.
    pub(super) fn share(&self, one: UserId, other: UserId) -> Option<bool> {
        let (one, other) = (self.user(one)?, self.user(other)?);
        (one.attached && other.attached).then(|| one.convos.meet(&other.convos))
    }

    /// All before `next` was delivered here: perhaps before anybody was here to whom it mattered, so that the
    /// conversation was not known yet.
    pub(super) fn passed(&mut self, convo: ConvoId, next: Seq) {
        // What lies in a hole is still to be delivered.
        if let Some(slot) = self.convo_slot(convo)
            && !self.holes.contains_key(&slot)
            && let Some(convo) = self.convos.get_mut(slot as usize)
        {
            convo.next = convo.next.max(next);
        }
    }

    /// Puts a user who is here into a conversation. Returns whether he was not in it.
    pub(super) fn join(&mut self, user: UserId, convo: ConvoId, next: Seq, member_count: u64) -> bool {
        let Some(user_slot) = self.user_slot(user) else { return false };
        let slot = self.ensure_convo(convo, next, member_count);
        let (Some(convo), Some(user)) =
            (self.convos.get_mut(slot as usize), self.users.get_mut(user_slot as usize))
        else {
            return false;
        };
        let is_new = user.convos.insert(slot);
        if is_new {
            convo.here.push(user_slot);
        }
        is_new
    }

    /// Puts a user who is here into all his conversations at once.
    fn join_all<'h>(&mut self, user: UserId, heads: impl Iterator<Item = &'h Head>) {
        let Some(user_slot) = self.user_slot(user) else { return };
        let slots = heads
            .map(|head| self.ensure_convo(head.convo, head.last_seq.next(), head.member_count))
            .collect();
        let Some(user) = self.users.get_mut(user_slot as usize) else { return };
        for slot in user.convos.insert_all(slots) {
            self.convos[slot as usize].here.push(user_slot);
        }
    }

    fn ensure_convo(&mut self, convo: ConvoId, next: Seq, member_count: u64) -> u32 {
        self.convo_slot(convo).unwrap_or_else(|| {
            let slot = self.convos.insert(Convo { id: convo, next, member_count, here: Vec::new() }) as u32;
            self.convo_slots.insert(convo, slot);
            slot
        })
    }

    /// Takes a user out of a conversation; `seq` is that of his removal.
    pub(super) fn part(&mut self, user: UserId, convo: ConvoId, seq: Seq) {
        let Some(user_slot) = self.user_slot(user) else { return };
        if let Some(user) = self.users.get_mut(user_slot as usize)
            && !user.attached
        {
            user.removed.push((convo, seq));
        }
        let Some(slot) = self.convo_slot(convo) else { return };
        if let Some(user) = self.users.get_mut(user_slot as usize) {
            user.convos.remove(slot);
        }
        self.leave(slot, user_slot);
    }

    /// Takes a user out of the list of a conversation, and the conversation out of the map after the last one.
    fn leave(&mut self, slot: u32, user_slot: u32) {
        let Some(convo) = self.convos.get_mut(slot as usize) else { return };
        convo.here.retain(|known| *known != user_slot);
        self.drop_empty(slot);
    }

    /// Forgets a conversation that nobody is in; not before what came too early has been looked at: it may let
    /// somebody in again.
    pub(super) fn drop_empty(&mut self, slot: u32) {
        if let Some(convo) = self.convos.get(slot as usize)
            && convo.here.is_empty()
            && !self.holes.contains_key(&slot)
        {
            self.convo_slots.remove(&convo.id);
            self.convos.remove(slot as usize);
            self.told.forget(slot);
        }
    }

    /// Forgets a user who has no connection here.
    pub(super) fn forget_user(&mut self, id: UserId) {
        let Some(user_slot) = self.user_slots.remove(&id) else { return };
        if let Some(user) = self.users.try_remove(user_slot as usize) {
            for slot in user.convos {
                self.leave(slot, user_slot);
            }
        }
        if self.users.is_empty() {
            // Nobody watches, and no conversation has anybody here. As large as it once was it need not stay.
            *self = Self::default();
        }
    }

    fn ensure_user(&mut self, id: UserId, privacy: Privacy) -> &mut User {
        let slot = match self.user_slot(id) {
            Some(slot) => slot,
            None => {
                let slot = self.users.insert(User {
                    id,
                    privacy,
                    // Most have one.
                    connections: Vec::with_capacity(1),
                    convos: Slots::default(),
                    attached: false,
                    removed: Vec::new(),
                    presence: Presence::Offline,
                    polled: None,
                    last_life: None,
                }) as u32;
                self.user_slots.insert(id, slot);
                slot
            }
        };
        &mut self.users[slot as usize]
    }
}

impl Hub {
    /// Takes a new connection in. It gets no entry before [`finish_resume`](Hub::finish_resume) has said what
    /// it missed since `since` (for a `connect`: [`position`](Hub::position), taken before).
    ///
    /// Where its device has as many sockets as it may, the one that was silent the longest gives way: most likely its client
    /// has lost it, and comes back with this one.
    ///
    /// `ready` is its first frame. Returns whether [`attach`](Hub::attach) is needed: whether the hub does not
    /// know yet in which conversations the user is.
    pub fn register(
        &self,
        mode: Mode,
        (user, device): (UserId, DeviceId),
        privacy: Privacy,
        since: Position,
        now: Timestamp,
    ) -> (Arc<Connection>, bool) {
        let connection = Arc::new(Connection::new(mode, (user, device), since, &self.lagging, now));
        let mut routes = self.routes();
        let node = routes.ensure_user(user, privacy);
        node.privacy = privacy;
        if mode == Mode::Socket {
            node.make_room(device, self.settings.sockets_per_device);
        }
        node.connections.push(Arc::clone(&connection));
        let (attach, is_first) = (!node.attached, node.connections.len() == 1);
        routes.readers.users += usize::from(is_first);
        *routes.readers.of(mode) += 1;
        if !attach {
            self.refresh_presence(&mut routes, user, now);
        }
        (connection, attach)
    }

    /// Says in which conversations a user is, as the store told after [`register`](Hub::register).
    pub fn attach(&self, user: UserId, heads: &[Head]) {
        let mut routes = self.routes();
        let Some(node) = routes.user_mut(user) else { return };
        if node.attached {
            return;
        }
        node.attached = true;
        let mut removed: HashMap<ConvoId, Seq> = HashMap::new();
        for (convo, seq) in std::mem::take(&mut node.removed) {
            let last = removed.entry(convo).or_insert(seq);
            *last = seq.max(*last);
        }
        let is_in = |head: &&Head| removed.get(&head.convo).is_none_or(|seq| *seq <= head.last_seq);
        routes.join_all(user, heads.iter().filter(is_in));
        let Some(node) = routes.user_mut(user) else { return };
        node.convos.shrink_to_fit();
        // Told only now: with whom he shares a conversation was not known before.
        if let Some(now) = node.last_seen() {
            self.refresh_presence(&mut routes, user, now);
        }
    }

    /// Lets a connection go. Returns the user if he is no longer here and when he was last.
    pub fn unregister(&self, connection: &Arc<Connection>, now: Timestamp) -> Option<Departed> {
        let (watching, typing) = {
            let mut state = connection.state();
            state.gone = true;
            state.lag = None;
            (std::mem::take(&mut state.watching), state.typing.take())
        };
        let mut routes = self.routes();
        if let Some(typing) = typing {
            self.tell_typing(&routes, connection.user, typing.0, false);
        }
        for user in watching {
            unwatch(&mut routes, connection, user);
        }
        let node = routes.user_mut(connection.user)?;
        let place = node.connections.iter().position(|known| Arc::ptr_eq(known, connection))?;
        node.connections.remove(place);
        let is_last = node.connections.is_empty();
        node.last_life = node.last_life.max(Some(connection.last_life()));
        if connection.mode == Mode::Poll {
            node.polled = Some(now);
        }
        routes.readers.users -= usize::from(is_last);
        *routes.readers.of(connection.mode) -= 1;
        self.refresh_presence(&mut routes, connection.user, now)
    }

    /// Of the long-polls of a device that wait, the newest `max` go on; the others are told to answer.
    pub fn end_oldest_polls(&self, user: UserId, device: DeviceId, max: usize) {
        let routes = self.routes();
        let Some(node) = routes.user(user) else { return };
        let is_poll = |connection: &&Arc<Connection>| {
            connection.mode == Mode::Poll && connection.device == device && !connection.state().gone
        };
        // In the order in which they came.
        let polls: Vec<_> = node.connections.iter().filter(is_poll).collect();
        let oldest = polls.len().saturating_sub(max);
        for connection in &polls[..oldest] {
            let waker = connection.state().hint();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Closes the sockets of a device that was logged out.
    pub fn revoke(&self, user: UserId, device: DeviceId) {
        let routes = self.routes();
        let Some(node) = routes.user(user) else { return };
        for connection in node.connections.iter().filter(|connection| connection.device == device) {
            connection
                .close(Close { reason: CloseReason::Revoked, text: "this device was logged out".into() });
        }
    }

    /// Takes over what a user now shows of himself.
    pub fn set_privacy(&self, user: UserId, privacy: Privacy) {
        if let Some(node) = self.routes().user_mut(user) {
            node.privacy = privacy;
        }
    }

    /// All connections, for draining.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        let routes = self.routes();
        routes.users.iter().flat_map(|(_, user)| user.connections.iter().cloned()).collect()
    }

    /// What is on this node now.
    pub fn present(&self) -> Present {
        let routes = self.routes();
        let Readers { sockets, polls, users } = routes.readers;
        Present { sockets, polls, users, conversations: routes.convos.len(), lagging: self.lagging.get() }
    }
}

impl User {
    /// Closes as many sockets of a device as are too many with one more, those first that were silent the longest.
    fn make_room(&self, device: DeviceId, sockets_max: usize) {
        // Of all devices together, which is seldom more than a few.
        if self.connections.len() < sockets_max {
            return;
        }
        let is_open = |connection: &&Arc<Connection>| {
            connection.device == device && connection.mode == Mode::Socket && !connection.is_closing()
        };
        let mut open: Vec<_> = self.connections.iter().filter(is_open).collect();
        let too_many = (open.len() + 1).saturating_sub(sockets_max);
        // Of two that were heard at one moment the older one.
        open.sort_by_key(|connection| connection.last_life());
        for connection in open.into_iter().take(too_many) {
            let text = format!("a device has at most {sockets_max} sockets; close those that are not used");
            connection.close(Close { reason: CloseReason::RateLimited, text });
        }
    }

    /// His last sign of life on any connection.
    pub(super) fn last_seen(&self) -> Option<Timestamp> {
        let connected = self.connections.iter().map(|connection| connection.last_life()).max();
        connected.max(self.last_life).max(self.polled)
    }

    /// Whether he shows others what he has read, and so sees what they have.
    pub(super) fn shows_read(&self) -> bool {
        self.privacy.read_receipts == Audience::Everyone
    }
}

pub(super) fn unwatch(routes: &mut Routes, connection: &Arc<Connection>, user: UserId) {
    if let Some(watchers) = routes.watchers.get_mut(&user) {
        watchers.retain(|known| !Arc::ptr_eq(known, connection));
        if watchers.is_empty() {
            routes.watchers.remove(&user);
            routes.elsewhere.remove(&user);
        }
    }
}
