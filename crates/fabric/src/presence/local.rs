//! Presence and nodes within one process: what a node alone has, and what tests join several nodes by.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tertulia_protocol::UserId;
use tertulia_protocol::event::Presence as Status;
use tertulia_protocol::id::IdMap;

use super::Presence;
use crate::nodes::{Description, NodeInfo, Nodes};
use crate::{ClusterError, NodeId};

/// Where the nodes of a process see each other.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<BTreeMap<NodeId, Seat>>>);

struct Seat {
    description: Description,
    users: IdMap<UserId, Status>,
    /// Whether its lease lives.
    lives: bool,
}

/// Presence and nodes as one node of a process sees them.
pub struct LocalPresence {
    board: Board,
    id: NodeId,
}

impl Board {
    /// A board without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// A node comes in.
    pub fn join(&self, id: NodeId, description: Description) -> LocalPresence {
        self.lock().insert(id, Seat { description, users: IdMap::default(), lives: true });
        LocalPresence { board: self.clone(), id }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Seat>> {
        // A panic under the lock is a bug that was logged; what the map holds is still worth more than nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tests do to a node.
impl LocalPresence {
    /// Its lease runs out, as if it were dead.
    pub fn end_lease(&self) {
        drop(self.with_seat(|seat| seat.lives = false));
    }

    /// It was only away.
    pub fn come_back(&self) {
        drop(self.with_seat(|seat| seat.lives = true));
    }

    /// What users are on the nodes that count.
    fn seen_by(
        &self,
        users: &[UserId],
        counts: impl Fn(NodeId, &Seat) -> bool,
    ) -> Result<Vec<Status>, ClusterError> {
        let board = self.board.lock();
        if !board.contains_key(&self.id) {
            return Err(ClusterError::Closed);
        }
        let seats = || board.iter().filter(|(id, seat)| counts(**id, seat));
        let seen = |user| seats().filter_map(move |(_, seat)| seat.users.get(user));
        Ok(users.iter().map(|user| seen(user).copied().fold(Status::Offline, Status::most)).collect())
    }

    fn with_seat<T>(&self, what: impl FnOnce(&mut Seat) -> T) -> Result<T, ClusterError> {
        self.board.lock().get_mut(&self.id).map(what).ok_or(ClusterError::Closed)
    }
}

#[async_trait]
impl Presence for LocalPresence {
    fn announce(&self, changes: &[(UserId, Status)]) {
        // After the end nobody hears it.
        drop(self.with_seat(|seat| {
            for (user, status) in changes {
                match status {
                    Status::Offline => seat.users.remove(user),
                    status => seat.users.insert(*user, *status),
                };
            }
        }));
    }

    async fn told(&self) -> Result<(), ClusterError> {
        self.with_seat(|_| ())
    }

    async fn elsewhere(&self, users: &[UserId]) -> Result<Vec<Status>, ClusterError> {
        self.seen_by(users, |id, seat| seat.lives && id != self.id)
    }

    async fn ask(&self, users: &[UserId]) -> Result<Vec<Status>, ClusterError> {
        self.seen_by(users, |id, seat| seat.lives || id == self.id)
    }

    fn figures(&self) -> Vec<(&'static str, f64)> {
        let users = self.with_seat(|seat| seat.users.len()).unwrap_or(0);
        vec![("presence_users", users as f64)]
    }

    async fn close(&self) {
        self.board.lock().remove(&self.id);
    }
}

#[async_trait]
impl Nodes for LocalPresence {
    fn id(&self) -> NodeId {
        self.id
    }

    fn describe(&self, description: Description) {
        // After the end nobody hears it.
        drop(self.with_seat(|seat| seat.description = description));
    }

    async fn nodes(&self) -> Result<Vec<NodeInfo>, ClusterError> {
        self.told().await?;
        let board = self.board.lock();
        let living = board.iter().filter(|(id, seat)| seat.lives || **id == self.id);
        Ok(living.map(|(id, seat)| NodeInfo { id: *id, description: seat.description.clone() }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::testsuite::PresenceUnderTest;

    impl PresenceUnderTest for Board {
        type Node = LocalPresence;

        async fn open() -> Self {
            Self::new()
        }

        async fn join(&self, id: NodeId, description: Description) -> LocalPresence {
            Self::join(self, id, description)
        }

        async fn kill(&self, node: LocalPresence) {
            node.end_lease();
        }

        async fn stop(&mut self, node: &LocalPresence) {
            node.end_lease();
        }

        async fn go_on(&mut self, node: &LocalPresence) {
            node.come_back();
        }
    }

    crate::presence_suite!(Board);
}
