//! Who there is, and which conversations: what must be known before anything is said.

use std::collections::HashMap;

use tertulia_protocol::entry::ConversationType;
use tertulia_protocol::{ConvoId, Timestamp, UserId};

use super::frames::{ConvoText, sender_text};

/// All users and conversations, each at a number of its own.
#[derive(Default)]
pub(super) struct Registry {
    pub(super) users: Vec<User>,
    by_name: HashMap<String, usize>,
    by_id: HashMap<UserId, usize>,
    pub(super) convos: Vec<Convo>,
    by_convo: HashMap<ConvoId, usize>,
}

/// A user. He has no password.
pub(super) struct User {
    pub(super) id: UserId,
    pub(super) name: String,
    pub(super) since: Timestamp,
    convos: Vec<usize>,
    /// His connections.
    peers: Vec<usize>,
    /// His part of his messages.
    pub(super) text: String,
}

/// A conversation.
pub(super) struct Convo {
    pub(super) id: ConvoId,
    pub(super) kind: ConversationType,
    pub(super) title: Option<String>,
    pub(super) since: Timestamp,
    pub(super) members: Vec<usize>,
    /// The connections of all members.
    pub(super) peers: Vec<usize>,
    /// The number of its next entry.
    pub(super) next: u64,
    /// Its part of its messages.
    pub(super) text: ConvoText,
}

impl Registry {
    /// A user of this name: the one there is, or a new one; the second value says which.
    pub(super) fn user(&mut self, name: &str, now: Timestamp) -> (usize, bool) {
        if let Some(&user) = self.by_name.get(name) {
            return (user, false);
        }
        let user = self.users.len();
        let id = UserId::new(now, tail(user));
        let text = sender_text(id);
        let (convos, peers) = (Vec::new(), Vec::new());
        self.users.push(User { id, name: name.to_owned(), since: now, convos, peers, text });
        self.by_name.insert(name.to_owned(), user);
        self.by_id.insert(id, user);
        (user, true)
    }

    /// The number of a user by his id.
    pub(super) fn user_of(&self, id: UserId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    /// A conversation of these members: a new one, or the direct one that these two have.
    pub(super) fn converse(
        &mut self,
        kind: ConversationType,
        title: Option<String>,
        members: &[usize],
        now: Timestamp,
    ) -> (usize, bool) {
        let id = match (kind, members) {
            (ConversationType::Direct, &[one, .., other]) => {
                ConvoId::direct(self.users[one].id, self.users[other].id)
            }
            _ => ConvoId::new(now, tail(self.convos.len())),
        };
        if let Some(&convo) = self.by_convo.get(&id) {
            return (convo, false);
        }
        let convo = self.convos.len();
        let (empty, text) = (Vec::new(), ConvoText::new(id));
        let new = Convo { id, kind, title, since: now, members: Vec::new(), peers: empty, next: 1, text };
        self.convos.push(new);
        self.by_convo.insert(id, convo);
        self.join(convo, members);
        (convo, true)
    }

    /// The number of a conversation by its id.
    pub(super) fn convo_of(&self, id: ConvoId) -> Option<usize> {
        self.by_convo.get(&id).copied()
    }

    /// Adds members. It is an entry, as its beginning was: one that nobody is told of, but has a number.
    pub(super) fn join(&mut self, convo: usize, members: &[usize]) {
        self.convos[convo].next += 1;
        for &member in members {
            if self.convos[convo].members.contains(&member) {
                continue;
            }
            self.convos[convo].members.push(member);
            self.users[member].convos.push(convo);
            self.convos[convo].peers.extend_from_slice(&self.users[member].peers);
        }
    }

    /// A connection of a user stands.
    pub(super) fn come(&mut self, user: usize, peer: usize) {
        self.users[user].peers.push(peer);
        for &convo in &self.users[user].convos {
            self.convos[convo].peers.push(peer);
        }
    }

    /// A connection of a user has ended.
    pub(super) fn go(&mut self, user: usize, peer: usize) {
        self.users[user].peers.retain(|&other| other != peer);
        for &convo in &self.users[user].convos {
            self.convos[convo].peers.retain(|&other| other != peer);
        }
    }
}

/// What makes an id unique here; an id's other half is its time.
fn tail(number: usize) -> [u8; 10] {
    let mut tail = [0; 10];
    tail[2..].copy_from_slice(&(number as u64).to_be_bytes());
    tail
}
