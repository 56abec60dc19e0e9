//! Typing, and the lane that it shares with presence: what may be dropped. Latest value wins, and none of it stands before
//! a message.

use std::cell::LazyCell;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tertulia_protocol::event::{CloseReason, Presence};
use tertulia_protocol::{ConvoId, Timestamp, UserId};
use tertulia_websocket::Frame;

use super::connection::{EphemeralKey, millis};
use super::presence::Departed;
use super::routes::Routes;
use super::{CHATTER_MEMBERS_MAX, Close, Connection, Hub, Mode, count, frames};

/// How long somebody counts as typing after he last said so.
const TYPING_TTL: Duration = Duration::from_secs(8);

/// How many wait for the other nodes to be told; of more nothing is told.
const TYPING_MAX: usize = 4_096;

/// Somebody types, or no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Typing {
    /// Where.
    pub convo: ConvoId,
    /// Who.
    pub user: UserId,
    /// Whether he does.
    pub active: bool,
}

impl Hub {
    /// Tells the others in a conversation that somebody is typing, or no longer. Returns whether he is in it.
    pub fn typing(&self, connection: &Arc<Connection>, convo: ConvoId, active: bool, now: Timestamp) -> bool {
        let routes = self.routes();
        if !routes.is_member(connection.user, convo) {
            return false;
        }
        let before = {
            let mut state = connection.state();
            let until = active.then(|| Box::new((convo, now.plus(TYPING_TTL))));
            std::mem::replace(&mut state.typing, until)
        };
        // One person types in one place: beginning elsewhere ends it here.
        if let Some(before) = before.filter(|before| before.0 != convo) {
            self.tell_typing(&routes, connection.user, before.0, false);
        }
        self.tell_typing(&routes, connection.user, convo, active);
        true
    }

    /// Takes who began or ended typing since the last call, for the other nodes: where several did it again, the last.
    pub fn take_typing(&self) -> Vec<Typing> {
        let mut typing = self.typing.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = std::mem::take(&mut *typing);
        taken.into_iter().map(|((convo, user), active)| Typing { convo, user, active }).collect()
    }

    /// Somebody types on another node, or no longer.
    pub fn typing_elsewhere(&self, Typing { convo, user, active }: Typing) {
        self.show_typing(&self.routes(), user, convo, active);
    }

    pub(super) fn tell_typing(&self, routes: &Routes, user: UserId, convo: ConvoId, active: bool) {
        if self.show_typing(routes, user, convo, active) && self.settings.others_append {
            let mut typing = self.typing.lock().unwrap_or_else(PoisonError::into_inner);
            if typing.len() < TYPING_MAX {
                typing.insert((convo, user), active);
            }
        }
    }

    /// Tells those who are here. Returns whether it is told at all.
    fn show_typing(&self, routes: &Routes, user: UserId, convo: ConvoId, active: bool) -> bool {
        let Some(convo) = routes.convo(convo).filter(|convo| convo.member_count <= CHATTER_MEMBERS_MAX)
        else {
            return false;
        };
        let frame = LazyCell::new(|| frames::typing(convo.id, user, active));
        for (reader, connection) in routes.readers(convo) {
            if reader.id != user {
                self.push_ephemeral(connection, EphemeralKey::Typing(convo.id, user), Frame::clone(&frame));
            }
        }
        true
    }

    pub(super) fn push_ephemeral(&self, connection: &Connection, key: EphemeralKey, frame: Frame) {
        let (merged, dropped, waker) = connection.state().push_ephemeral(&self.settings.outbox, key, frame);
        count(&self.stats.ephemeral_merged, merged);
        count(&self.stats.ephemeral_dropped, dropped);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// To be called about every second: pings silent connections and closes dead ones, ends typing that was not
    /// said again, and lets presence expire. Returns those who are no longer there.
    pub fn sweep(&self, now: Timestamp) -> Vec<Departed> {
        let mut routes = self.routes();
        let ping = Frame::ping(b"");
        let mut ended = Vec::new();
        let mut stale = Vec::new();
        for (_, user) in &routes.users {
            for connection in user.connections.iter().filter(|known| known.mode == Mode::Socket) {
                self.check_heartbeat(connection, &ping, now);
                let mut state = connection.state();
                if let Some(typing) = state.typing.take_if(|typing| typing.1 <= now) {
                    ended.push((user.id, typing.0));
                }
            }
            // Presence only changes by itself where it runs out.
            if user.presence != Presence::Offline || user.connections.is_empty() {
                stale.push(user.id);
            }
        }
        for (user, convo) in ended {
            self.tell_typing(&routes, user, convo, false);
        }
        stale.into_iter().filter_map(|user| self.refresh_presence(&mut routes, user, now)).collect()
    }

    fn check_heartbeat(&self, connection: &Connection, ping: &Frame, now: Timestamp) {
        let heartbeat = self.settings.heartbeat;
        let silent = now.since(connection.last_life());
        if silent >= 2 * heartbeat {
            let text = format!("no sign of life for {} s", silent.as_secs());
            connection.close(Close { reason: CloseReason::HeartbeatMissed, text });
        } else if silent >= heartbeat && millis(now) >= connection.pinged() + heartbeat.as_millis() as u64 {
            connection.set_pinged(now);
            connection.push(ping.clone());
        }
    }
}
