//! Typing and presence: what may be dropped. Latest value wins, and none of it stands before a message.

use std::cell::LazyCell;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tertulia_protocol::event::{CloseReason, OwnPresence, Presence};
use tertulia_protocol::rest::Audience;
use tertulia_protocol::rules::PRESENCE_SUBSCRIPTIONS_MAX;
use tertulia_protocol::{ConvoId, Timestamp, UserId};
use tertulia_websocket::Frame;

use super::connection::{EphemeralKey, millis};
use super::routes::{Routes, unwatch};
use super::{CHATTER_MEMBERS_MAX, Close, Connection, Hub, Mode, count, frames};
use crate::presence::{Sign, merge};

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

/// Somebody is no longer here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departed {
    /// Who.
    pub user: UserId,
    /// His last sign of life.
    pub last_seen: Timestamp,
}

/// What is known from elsewhere of a user whom somebody wants to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Whom.
    pub user: UserId,
    /// Whether the one who watches may: they share a conversation.
    pub allowed: bool,
    /// When he was last there, if he shows it.
    pub last_seen: Option<Timestamp>,
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

    fn push_ephemeral(&self, connection: &Connection, key: EphemeralKey, frame: Frame) {
        let (merged, dropped, waker) = connection.state().push_ephemeral(&self.settings.outbox, key, frame);
        count(&self.stats.ephemeral_merged, merged);
        count(&self.stats.ephemeral_dropped, dropped);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// A connection's part in its user's presence.
    pub fn set_presence(&self, connection: &Arc<Connection>, status: OwnPresence, now: Timestamp) {
        connection.set_away(status == OwnPresence::Away);
        let mut routes = self.routes();
        self.refresh_presence(&mut routes, connection.user, now);
    }

    /// Watches users, and tells the present status of each. Returns `false`, and does nothing, if the connection
    /// would watch more than [`PRESENCE_SUBSCRIPTIONS_MAX`].
    pub fn watch(&self, connection: &Arc<Connection>, users: &[Status]) -> bool {
        let mut routes = self.routes();
        let fresh: Vec<UserId> = {
            let mut state = connection.state();
            let new = |status: &&Status| status.allowed && !state.watching.contains(&status.user);
            let fresh: Vec<UserId> = users.iter().filter(new).map(|status| status.user).collect();
            if state.gone || state.watching.len() + fresh.len() > PRESENCE_SUBSCRIPTIONS_MAX {
                return false;
            }
            state.watching = [&state.watching, fresh.as_slice()].concat().into();
            fresh
        };
        for user in fresh {
            routes.watchers.entry(user).or_default().push(Arc::clone(connection));
        }
        for status in users {
            let here = if status.allowed {
                routes.user(status.user).map_or(Presence::Offline, |user| user.presence)
            } else {
                Presence::Offline
            };
            let last_seen = status.last_seen.filter(|_| status.allowed && here == Presence::Offline);
            connection.push(frames::presence(status.user, here, last_seen));
        }
        true
    }

    /// Stops watching users.
    pub fn unwatch(&self, connection: &Arc<Connection>, users: &[UserId]) {
        let mut routes = self.routes();
        {
            let mut state = connection.state();
            let mut watching = std::mem::take(&mut state.watching).into_vec();
            watching.retain(|known| !users.contains(known));
            state.watching = watching.into();
        }
        for user in users {
            unwatch(&mut routes, connection, *user);
        }
    }

    /// Looks again what a user is, tells those who watch him if it changed, and forgets him when he is gone.
    pub(super) fn refresh_presence(
        &self,
        routes: &mut Routes,
        user: UserId,
        now: Timestamp,
    ) -> Option<Departed> {
        let ttl = self.settings.presence_ttl;
        let node = routes.user_mut(user)?;
        let polled = node.polled.map(|at| Sign { last_life: at, away: false });
        let signs = node.connections.iter().map(|connection| match connection.mode {
            Mode::Socket => Sign { last_life: connection.last_life(), away: connection.is_away() },
            // Whoever waits in a long-poll is there.
            Mode::Poll => Sign { last_life: now, away: false },
        });
        let present = merge(signs.chain(polled), now, ttl);
        let last_seen = node.last_seen();
        let changed = std::mem::replace(&mut node.presence, present) != present;
        let shows_last_seen = node.privacy.last_seen == Audience::Everyone;
        let is_gone = node.connections.is_empty() && present == Presence::Offline;
        if changed {
            let shown = last_seen.filter(|_| present == Presence::Offline && shows_last_seen);
            let frame = frames::presence(user, present, shown);
            for watcher in routes.watchers.get(&user).into_iter().flatten() {
                // Whether they still share a conversation is known here while both are here.
                if routes.share(watcher.user, user).unwrap_or(true) {
                    self.push_ephemeral(watcher, EphemeralKey::Presence(user), frame.clone());
                }
            }
        }
        if is_gone {
            routes.forget_user(user);
        }
        let departed = changed && present == Presence::Offline;
        departed.then(|| Departed { user, last_seen: last_seen.unwrap_or(now) })
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

    /// Notes a sign of life. A user who had silently become offline is back at once.
    pub fn alive(&self, connection: &Arc<Connection>, now: Timestamp) {
        let was_stale = now.since(connection.last_life()) >= self.settings.presence_ttl;
        connection.alive(now);
        if was_stale {
            let mut routes = self.routes();
            self.refresh_presence(&mut routes, connection.user, now);
        }
    }
}
