//! What did not come through here: an entry that was lost on its way, or has not come yet.
//!
//! Entries that come too early wait for those before them. What does not come soon is read from the store, once for
//! all readers ([`Hub::overdue`]), and delivered as if it had come. Who came in or went out by an entry that is past
//! already is in [doubt](Hub::doubts).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tertulia_protocol::event::SharedSettings;
use tertulia_protocol::{ConvoId, Entry, Seq, UserId};

use super::routes::Routes;
use super::{Connection, Hub, Mode, count, frames};
use crate::log::{Commit, Position};

/// How many entries of a conversation wait behind a hole; what comes beyond them is read from the store later.
const EARLY_MAX: usize = 256;

/// Among more holes than this nobody looks in which part of the store they are.
const LOOKED_AT_MAX: usize = 64;

/// What lies beyond a hole.
#[derive(Default)]
pub(super) struct Beyond {
    /// What came too early.
    early: BTreeMap<Seq, Early>,
    /// The newest entry that is known to be there.
    last: Seq,
    /// It has been looked at once, or what is missing will not come by itself.
    overdue: bool,
}

/// An entry that came too early.
pub(super) struct Early {
    pub(super) entry: Arc<Entry>,
    pub(super) shared: Option<Arc<SharedSettings>>,
    pub(super) sender: Option<Arc<Connection>>,
}

/// Entries that did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// Where.
    pub convo: ConvoId,
    /// The first of them.
    pub from: Seq,
    /// The newest entry of the conversation that is known here.
    pub last: Seq,
}

impl Routes {
    /// Whether something is missing in a conversation.
    pub(super) fn has_hole(&self, convo: ConvoId) -> bool {
        !self.holes.is_empty() && self.convo_slot(convo).is_some_and(|slot| self.holes.contains_key(&slot))
    }

    /// Keeps an entry for later if there is a hole before it. Returns whether there is.
    pub(super) fn hold_early(
        &mut self,
        entry: &Arc<Entry>,
        shared: Option<&Arc<SharedSettings>>,
        sender: Option<&Arc<Connection>>,
    ) -> bool {
        let Some(slot) = self.convo_slot(entry.convo_id) else { return false };
        if self.convos.get(slot as usize).is_none_or(|convo| entry.seq <= convo.next) {
            return false;
        }
        let beyond = self.holes.entry(slot).or_default();
        beyond.last = beyond.last.max(entry.seq);
        if beyond.early.len() < EARLY_MAX {
            let early = Early { entry: Arc::clone(entry), shared: shared.cloned(), sender: sender.cloned() };
            beyond.early.insert(entry.seq, early);
        }
        true
    }

    /// The entry that is to be delivered next, if it came too early.
    pub(super) fn take_early(&mut self, convo: ConvoId) -> Option<Early> {
        if self.holes.is_empty() {
            return None;
        }
        let slot = self.convo_slot(convo)?;
        let next = self.convos.get(slot as usize)?.next;
        let beyond = self.holes.get_mut(&slot)?;
        // What was read from the store meanwhile needs not wait any more.
        beyond.early = beyond.early.split_off(&next);
        let found = beyond.early.remove(&next);
        if found.is_none() && beyond.last < next {
            self.holes.remove(&slot);
            self.drop_empty(slot);
        }
        found
    }
}

impl Hub {
    /// Where others append: what came early has not been handed to anybody. (Whoever is in doubt lags.)
    pub(super) fn come(&self, horizon: Position) {
        let mut routes = self.routes();
        routes.come = routes.come.or(&horizon);
        if routes.holes.len() > LOOKED_AT_MAX {
            return;
        }
        // What is missing in one part of the store holds up that part alone.
        let mut come = routes.come;
        for convo in routes.holes.keys().filter_map(|slot| routes.convos.get(*slot as usize)) {
            come.set(Commit::default().in_part((self.settings.part_of)(convo.id)));
        }
        let has_moved = self.move_to(&come);
        drop(routes);
        if has_moved && self.is_awaited.swap(false, Ordering::AcqRel) {
            self.wake_lagging();
        }
    }

    /// Whether there is a hole, a doubt, or a conversation that nobody has asked to hear of.
    pub fn needs_repair(&self) -> bool {
        let routes = self.routes();
        !routes.holes.is_empty() || !routes.doubts.is_empty() || !routes.unheard.is_empty()
    }

    /// Of whom nobody knows here whether he is in a conversation: the store is to be asked, and
    /// [`resolve`](Hub::resolve) told.
    pub fn doubts(&self) -> Vec<(UserId, ConvoId)> {
        self.routes().doubts.iter().copied().collect()
    }

    /// Says whether a user is in a conversation, as the store told after [`doubts`](Hub::doubts). That he is not may only
    /// be said once he left before the [`position`](Hub::position): else his removal is on its way here.
    pub fn resolve(&self, user: UserId, convo: ConvoId, is_member: bool) {
        let mut routes = self.routes();
        if !routes.doubts.remove(&(user, convo)) {
            return; // What came here meanwhile has told it.
        }
        let mut wakers = Vec::new();
        for connection in routes.user(user).map_or(&[][..], |node| node.connections.as_slice()) {
            let mut state = connection.state();
            if connection.mode == Mode::Poll {
                wakers.extend(state.hint());
                continue;
            }
            if is_member {
                // From where he was on; that he has come in he may not know.
                if let Some(lagging) = state.lag.as_mut().and_then(|lag| lag.convos.get_mut(&convo)) {
                    lagging.whole |= lagging.is_barred();
                    (lagging.parting, lagging.barred) = (false, false);
                }
                wakers.extend(state.wake_to_catch_up());
            } else {
                if let Some(lag) = &mut state.lag {
                    lag.convos.remove(&convo);
                }
                state.end_lag_if_over();
                wakers.extend(state.push(&frames::left(convo)));
            }
        }
        if !is_member {
            routes.part(user, convo, Seq::default());
        }
        drop(routes);
        for waker in wakers {
            waker.wake();
        }
    }

    /// Says that a conversation has come to the entry `last`, whose way here nobody knows of.
    pub fn has_come_to(&self, convo: ConvoId, last: Seq) {
        let mut routes = self.routes();
        let Some(slot) = routes.convo_slot(convo) else { return };
        if routes.convos.get(slot as usize).is_some_and(|convo| convo.next <= last) {
            let beyond = routes.holes.entry(slot).or_default();
            beyond.last = beyond.last.max(last);
            beyond.overdue = true;
        }
    }

    /// Says that watermarks or settings of a conversation changed in commits from `since` on (`None`: from the
    /// [`position`](Hub::position) on), and were not told here: its readers read them.
    pub fn lacks_news(&self, convo: ConvoId, since: Option<Commit>) {
        let position = self.position();
        let here = self.position_in(&position, convo);
        let since = since.map_or(here, |since| since.min(here));
        let routes = self.routes();
        let Some(convo) = routes.convo(convo) else { return };
        let mut wakers = Vec::new();
        for (_, connection) in routes.readers(convo) {
            let mut state = connection.state();
            wakers.extend(if connection.mode == Mode::Poll {
                state.hint()
            } else {
                state.lag_at((position, &self.lagging), convo.id, convo.next).lack_news(since);
                state.wake_to_catch_up()
            });
        }
        drop(routes);
        for waker in wakers {
            waker.wake();
        }
    }

    /// The holes that have been there for longer than from one call to the next (where nobody else appends: all), to
    /// be read from the store and [delivered](Hub::deliver).
    pub fn overdue(&self) -> Vec<Hole> {
        let mut routes = self.routes();
        let Routes { convos, holes, .. } = &mut *routes;
        let (mut overdue, mut filled) = (Vec::new(), Vec::new());
        holes.retain(|slot, beyond| {
            let Some(convo) = convos.get(*slot as usize).filter(|convo| convo.next <= beyond.last) else {
                filled.push(*slot);
                return false;
            };
            // Where nobody else appends nothing is on its way: who came in has brought along an older head.
            if std::mem::replace(&mut beyond.overdue, true) || !self.settings.others_append {
                overdue.push(Hole { convo: convo.id, from: convo.next, last: beyond.last });
            }
            true
        });
        filled.into_iter().for_each(|slot| routes.drop_empty(slot));
        count(&self.stats.holes, overdue.len() as u64);
        overdue
    }

    /// Conversations that somebody here has come into, and whose entries nobody on this node has asked to hear of yet.
    /// Whoever does says [`has_come_to`](Hub::has_come_to) then.
    pub fn take_unheard(&self) -> Vec<ConvoId> {
        std::mem::take(&mut self.routes().unheard)
    }

    /// Nobody could ask to hear of these yet.
    pub fn put_unheard(&self, convos: impl IntoIterator<Item = ConvoId>) {
        self.routes().unheard.extend(convos);
    }

    /// The entry that is delivered next in a conversation that somebody here is in.
    pub fn next(&self, convo: ConvoId) -> Option<Seq> {
        self.routes().convo(convo).map(|convo| convo.next)
    }

    /// Whether a user is here, or was a moment ago.
    pub fn is_user_here(&self, user: UserId) -> bool {
        self.routes().user_slot(user).is_some()
    }

    /// Whether somebody here is in the conversation.
    pub fn is_here(&self, convo: ConvoId) -> bool {
        self.routes().convo_slot(convo).is_some()
    }
}
