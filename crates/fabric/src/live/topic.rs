//! What messages are published to.

use std::fmt;

use tertulia_protocol::{ConvoId, UserId};

use crate::NodeId;

/// What a message is about, and so who hears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// What is committed in a conversation: for the nodes that have one of its members.
    Conversation(ConvoId),
    /// What concerns a user's own connections: for the nodes that have one of them.
    User(UserId),
    /// The presence of a user: for the nodes where somebody watches him.
    Watched(UserId),
    /// What is said to one node.
    Node(NodeId),
    /// What is said to all nodes.
    Everyone,
}

impl Topic {
    /// The length of every [`key`](Self::key).
    pub(crate) const KEY_LEN: usize = 17;

    /// What it is called between nodes. Part of the protocol between them: a change of it splits a cluster in two
    /// while it is being upgraded.
    pub(crate) fn key(&self) -> [u8; Self::KEY_LEN] {
        let (kind, id) = match self {
            Self::Conversation(convo) => (b'c', *convo.as_bytes()),
            Self::User(user) => (b'u', *user.as_bytes()),
            Self::Watched(user) => (b'w', *user.as_bytes()),
            Self::Node(node) => (b'n', *node.as_bytes()),
            Self::Everyone => (b'e', [0; 16]),
        };
        let mut key = [kind; Self::KEY_LEN];
        key[1..].copy_from_slice(&id);
        key
    }

    /// The topic with this key.
    pub(crate) fn from_key(key: &[u8]) -> Option<Self> {
        let (kind, id) = key.split_first()?;
        let id: [u8; 16] = id.try_into().ok()?;
        match kind {
            b'c' => Some(Self::Conversation(ConvoId::from_bytes(id))),
            b'u' => Some(Self::User(UserId::from_bytes(id))),
            b'w' => Some(Self::Watched(UserId::from_bytes(id))),
            b'n' => Some(Self::Node(NodeId::from_bytes(id))),
            b'e' if id == [0; 16] => Some(Self::Everyone),
            _ => None,
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conversation(convo) => write!(f, "conversation {convo}"),
            Self::User(user) => write!(f, "user {user}"),
            Self::Watched(user) => write!(f, "presence of {user}"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::Everyone => f.write_str("everyone"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topic_has_a_key_of_its_own_and_is_found_by_it() {
        let id = *b"\x01\x98{\xf3}89abcdefghi";
        let topics = [
            Topic::Conversation(ConvoId::from_bytes(id)),
            Topic::User(UserId::from_bytes(id)),
            Topic::Watched(UserId::from_bytes(id)),
            Topic::Node(NodeId::from_bytes(id)),
            Topic::Everyone,
        ];
        for (at, topic) in topics.iter().enumerate() {
            assert_eq!(Topic::from_key(&topic.key()), Some(*topic));
            assert!(topics[..at].iter().all(|other| other.key() != topic.key()));
        }
    }

    #[test]
    fn what_is_no_key_names_no_topic() {
        let mut long = Topic::Everyone.key().to_vec();
        long.push(0);
        for wrong in [&b""[..], b"e", b"x0123456789abcdef", b"e0123456789abcdef", &long] {
            assert_eq!(Topic::from_key(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_topic_takes_no_more_memory_than_its_key() {
        assert_eq!(size_of::<Topic>(), Topic::KEY_LEN);
    }
}
