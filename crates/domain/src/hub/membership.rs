//! Who comes into a conversation and who goes: what changes for them, and what they are told.

use std::sync::Arc;

use tertulia_protocol::{ConvoId, Entry, UserId};

use super::connection::State;
use super::delivery::Delivery;
use super::routes::Routes;
use super::{Mode, count, frames};

impl Delivery<'_> {
    /// Those who have just come in: they are told the conversation, and read it from this entry on.
    pub(super) fn welcome(
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
                if state.passes_over(entry) {
                    continue;
                }
                let lagging = state.lag_at((self.reached, &self.hub.lagging), entry.convo_id, entry.seq);
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
    pub(super) fn doubt(&mut self, routes: &mut Routes, entry: &Entry, users: &[UserId], is_member: bool) {
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
                    state.lag_at((self.reached, &self.hub.lagging), entry.convo_id, next).barred = true;
                }
            }
            routes.doubts.insert((*user, entry.convo_id));
            self.has_holes = true;
        }
    }

    /// Those who are no longer in: the entry that says so was the last one for them.
    pub(super) fn bid_farewell(&mut self, routes: &mut Routes, entry: &Arc<Entry>, users: &[UserId]) {
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
                self.wakers.extend(state.push_written(|wire| {
                    frames::write_message(wire, entry, None, &mut self.texts);
                }));
            }
        }
        self.wakers.extend(state.push(&frames::left(entry.convo_id)));
    }
}

impl State {
    /// Passes over an entry that a reader who is ahead of the hub has read already; once the hub has come to where he is, he
    /// is live. Says whether it is one.
    pub(super) fn passes_over(&mut self, entry: &Entry) -> bool {
        let Some(lag) = &mut self.lag else { return false };
        let Some(lagging) = lag.convos.get(&entry.convo_id) else { return false };
        let has_read = lagging.ahead.is_some() && entry.seq < lagging.next && !lagging.is_barred();
        if has_read && entry.seq.next() == lagging.next {
            lag.convos.remove(&entry.convo_id);
            self.end_lag_if_over();
        }
        has_read
    }

    /// Who is known to be in a conversation, and is not held back there, reads from where he came in, or has done so.
    fn reads_for_himself(&self, convo: ConvoId) -> bool {
        self.lag.as_ref().is_none_or(|lag| {
            !lag.resuming && lag.convos.get(&convo).is_none_or(|lagging| !lagging.is_barred())
        })
    }
}
