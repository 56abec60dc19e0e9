//! Presence: what those who watch a user see of him, on this node and on the others. It may be dropped, as typing may.
//!
//! A user is what his connections here say, and what the other nodes see of him, as far as they were asked. Whoever owns
//! the hub tells the others what is seen here ([`Hub::take_sightings`]), and brings what they see
//! ([`Hub::seen_elsewhere`]) of those whom somebody here watches.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use tertulia_protocol::event::{OwnPresence, Presence};
use tertulia_protocol::rest::Audience;
use tertulia_protocol::rules::PRESENCE_SUBSCRIPTIONS_MAX;
use tertulia_protocol::{Timestamp, UserId};

use super::connection::EphemeralKey;
use super::routes::{Routes, unwatch};
use super::{Connection, Hub, Mode, frames};
use crate::presence::{Sign, merge};

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

/// What one node, or all others, see of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// Whom.
    pub user: UserId,
    /// What he is there.
    pub presence: Presence,
    /// When he was last there, if he is gone and shows it.
    pub last_seen: Option<Timestamp>,
}

impl Hub {
    /// A connection's part in its user's presence.
    pub fn set_presence(&self, connection: &Arc<Connection>, status: OwnPresence, now: Timestamp) {
        connection.set_away(status == OwnPresence::Away);
        let mut routes = self.routes();
        self.refresh_presence(&mut routes, connection.user, now);
    }

    /// Watches users, whose present status [`tell_statuses`](Hub::tell_statuses) tells. Returns `false`, and does nothing,
    /// if the connection would watch more than [`PRESENCE_SUBSCRIPTIONS_MAX`].
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
        true
    }

    /// Tells what users are whom a connection watches, or may not watch.
    pub fn tell_statuses(&self, connection: &Connection, users: &[Status]) {
        let routes = self.routes();
        for status in users {
            let present = if status.allowed { routes.presence(status.user) } else { Presence::Offline };
            let last_seen = status.last_seen.filter(|_| status.allowed && present == Presence::Offline);
            // He may have changed since he is watched.
            connection.state().drop_ephemeral(EphemeralKey::Presence(status.user));
            connection.push(frames::presence(status.user, present, last_seen));
        }
    }

    /// Stops watching users.
    pub fn unwatch(&self, connection: &Arc<Connection>, users: &[UserId]) {
        let users: HashSet<&UserId> = users.iter().collect();
        let mut routes = self.routes();
        let watched: Vec<UserId> = {
            let mut state = connection.state();
            let watching = std::mem::take(&mut state.watching).into_vec();
            let (watched, watching) = watching.into_iter().partition(|known| users.contains(known));
            state.watching = Vec::into_boxed_slice(watching);
            watched
        };
        // Of others than those whom it watched there is nothing to look for, however many watch them.
        for user in watched {
            unwatch(&mut routes, connection, user);
        }
    }

    /// Takes what this node sees of its users, of those where it has changed since the last call: for the other nodes.
    ///
    /// What waits for it is bounded by those who come and go in between, so it is to be called often, whether or not the
    /// others can be told.
    pub fn take_sightings(&self) -> Vec<Sighting> {
        let mut sightings = self.sightings.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *sightings).into_values().collect()
    }

    /// Those of `users` whom somebody here watches, and what they are known to be elsewhere.
    pub fn watched(&self, users: impl IntoIterator<Item = UserId>) -> Vec<(UserId, Presence)> {
        let routes = self.routes();
        let watched = users.into_iter().filter(|user| routes.watchers.contains_key(user));
        watched.map(|user| (user, routes.elsewhere(user))).collect()
    }

    /// All whom somebody here watches.
    pub fn all_watched(&self) -> Vec<UserId> {
        self.routes().watchers.keys().copied().collect()
    }

    /// Says what the other nodes together see of users, to those who watch them here.
    pub fn seen_elsewhere(&self, sightings: impl IntoIterator<Item = Sighting>) {
        let mut routes = self.routes();
        for Sighting { user, presence, last_seen } in sightings {
            if !routes.watchers.contains_key(&user) {
                continue;
            }
            let before = routes.presence(user);
            match presence {
                Presence::Offline => routes.elsewhere.remove(&user),
                presence => routes.elsewhere.insert(user, presence),
            };
            self.tell_change(&mut routes, user, before, last_seen);
        }
    }

    /// Nobody knows what the other nodes see, and has not for so long that it may be true no longer.
    pub fn forget_elsewhere(&self) {
        let mut routes = self.routes();
        for (user, presence) in std::mem::take(&mut routes.elsewhere) {
            let here = routes.user(user).map_or(Presence::Offline, |user| user.presence);
            self.tell_change(&mut routes, user, here.most(presence), None);
        }
    }

    /// Takes those of whom it is not sure whether they share a conversation with all whom they watch: somebody was removed
    /// from one, or changed and they were not told of it. The store knows, and what it denies is to be
    /// [unwatched](Hub::unwatch).
    pub fn take_unsure(&self) -> Vec<Arc<Connection>> {
        std::mem::take(&mut self.routes().unsure).into_values().collect()
    }

    /// Looks again what a user is here, tells those who watch him if it changed, and forgets him when he is gone.
    pub(super) fn refresh_presence(
        &self,
        routes: &mut Routes,
        user: UserId,
        now: Timestamp,
    ) -> Option<Departed> {
        let ttl = self.settings.presence_ttl;
        let before = routes.presence(user);
        let node = routes.user_mut(user)?;
        let polled = node.polled.map(|at| Sign { last_life: at, away: false });
        let signs = node.connections.iter().map(|connection| match connection.mode {
            Mode::Socket => Sign { last_life: connection.last_life(), away: connection.is_away() },
            // Whoever waits in a long-poll is there.
            Mode::Poll => Sign { last_life: now, away: false },
        });
        let here = merge(signs.chain(polled), now, ttl);
        let last_seen = node.last_seen();
        let changed = std::mem::replace(&mut node.presence, here) != here;
        let shows_last_seen = node.privacy.last_seen == Audience::Everyone;
        let is_gone = node.connections.is_empty() && here == Presence::Offline;
        if changed {
            let shown = last_seen.filter(|_| here == Presence::Offline && shows_last_seen);
            self.tell_change(routes, user, before, shown);
            if self.settings.others_append {
                let mut sightings = self.sightings.lock().unwrap_or_else(PoisonError::into_inner);
                sightings.insert(user, Sighting { user, presence: here, last_seen: shown });
            }
        }
        if is_gone {
            routes.forget_user(user);
        }
        let departed = changed && here == Presence::Offline;
        departed.then(|| Departed { user, last_seen: last_seen.unwrap_or(now) })
    }

    /// Tells those who watch a user what he now is, if he was something else before.
    fn tell_change(&self, routes: &mut Routes, user: UserId, before: Presence, last_seen: Option<Timestamp>) {
        let present = routes.presence(user);
        if present == before {
            return;
        }
        let frame = frames::presence(user, present, last_seen.filter(|_| present == Presence::Offline));
        let mut unsure = Vec::new();
        for watcher in routes.watchers.get(&user).into_iter().flatten() {
            // Whether they still share a conversation is known here while both are here.
            if routes.share(watcher.user, user).unwrap_or(true) {
                self.push_ephemeral(watcher, EphemeralKey::Presence(user), frame.clone());
            } else {
                // They may share one of which the hub has still to hear.
                unsure.push(Arc::clone(watcher));
            }
        }
        routes.be_unsure(unsure);
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

impl Routes {
    /// What a user is, here and elsewhere.
    fn presence(&self, user: UserId) -> Presence {
        self.user(user).map_or(Presence::Offline, |user| user.presence).most(self.elsewhere(user))
    }

    fn elsewhere(&self, user: UserId) -> Presence {
        self.elsewhere.get(&user).copied().unwrap_or(Presence::Offline)
    }

    /// A user was removed from a conversation: whether he and those who watch him, or whom he watches, share another one is
    /// for the store to say.
    pub(super) fn doubt_watching(&mut self, removed: UserId) {
        let watchers = self.watchers.get(&removed).into_iter().flatten();
        let own = self.user(removed).into_iter().flat_map(|user| &user.connections);
        let unsure = watchers.chain(own.filter(|connection| !connection.state().watching.is_empty()));
        self.be_unsure(unsure.cloned().collect());
    }

    fn be_unsure(&mut self, watchers: Vec<Arc<Connection>>) {
        self.unsure.extend(watchers.into_iter().map(|watcher| (Arc::as_ptr(&watcher).addr(), watcher)));
    }
}
