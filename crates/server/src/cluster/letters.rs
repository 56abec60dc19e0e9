//! Letters: what a node tells the others of what it has appended, and what they do with it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tertulia_domain::hub::{Committed, Hub, Typing};
use tertulia_domain::log::{Commit, Outcome, Receipt};
use tertulia_fabric::live::Topic;
use tertulia_protocol::event::{Presence, SharedSettings};
use tertulia_protocol::rest::{MemberSettings, Privacy};
use tertulia_protocol::{ConvoId, DeviceId, Entry, EntryKind, Seq, Timestamp, UserId};

/// Of more users than this, a change of members is told to all nodes instead of to each of the users.
const USERS_MAX: usize = 64;

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Letter {
    /// An entry; for `renamed` and `settings_changed` with what all members share after it.
    Entry(Arc<Entry>, #[serde(default, skip_serializing_if = "Option::is_none")] Option<Arc<SharedSettings>>),
    /// Watermarks that moved.
    Receipt {
        /// Where.
        convo: ConvoId,
        /// Whose.
        user: UserId,
        /// Received up to here.
        delivered: Seq,
        /// Read up to here.
        read: Seq,
        /// When they moved.
        ts: Timestamp,
        /// Whether their owner shows what he has read.
        shows_read: bool,
        /// Whether `read` alone moved.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        only_read: bool,
    },
    /// A member's own settings.
    Own {
        /// Where.
        convo: ConvoId,
        /// Whose.
        user: UserId,
        /// All of them.
        settings: MemberSettings,
    },
    /// Somebody types, or no longer.
    Typing {
        /// Where.
        convo: ConvoId,
        /// Who.
        user: UserId,
        /// Whether he does.
        active: bool,
    },
    /// What the node sees of these users has changed.
    Seen {
        /// Whom to ask for, and what it sees.
        users: Vec<News>,
    },
    /// An account changed.
    Account(AccountLetter),
    /// Something was appended, and who did it cannot tell any more what.
    Hint {
        /// Where.
        convo: ConvoId,
        /// The newest entry; zero if there was none.
        last: Seq,
        /// In commits from this one on.
        since: u64,
    },
}

/// What a node sees of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// Whom.
    #[serde(rename = "u")]
    pub user: UserId,
    /// What he is there.
    #[serde(rename = "p")]
    pub presence: Presence,
    /// When he was last there, if he is gone and shows it.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
}

/// What nodes remember of accounts, and one of them has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountLetter {
    /// A device is gone.
    Revoked {
        /// Whose.
        user: UserId,
        /// Which.
        device: DeviceId,
    },
    /// What a user shows of himself.
    Privacy {
        /// Who.
        user: UserId,
        /// What he shows.
        privacy: Privacy,
    },
    /// Whether one blocks the other.
    Block {
        /// Who may.
        by: UserId,
        /// Whom.
        other: UserId,
    },
    /// Anything: there was too much to tell.
    Anything,
}

/// What there is to tell of an outcome, to each for whom it is; nothing of what changed nothing.
pub fn write(outcome: &Outcome, shows_read: bool, mut send: impl FnMut(Topic, &Letter)) {
    match outcome {
        Outcome::Appended { entry, shared } => {
            let letter = Letter::Entry(Arc::clone(entry), shared.clone());
            send(Topic::Conversation(entry.convo_id), &letter);
            // Who comes in has nobody who asks for the conversation yet; who goes out may have nobody any more.
            match &entry.kind {
                EntryKind::Created { user_ids, .. }
                | EntryKind::MemberAdded { user_ids }
                | EntryKind::MemberRemoved { user_ids } => {
                    if user_ids.len() > USERS_MAX {
                        send(Topic::Everyone, &letter);
                    } else {
                        user_ids.iter().for_each(|user| send(Topic::User(*user), &letter));
                    }
                }
                _ => {}
            }
        }
        Outcome::Marked(Receipt { convo, user, delivered, read, ts, delivered_at }) => {
            let (convo, user, delivered, read, ts) = (*convo, *user, *delivered, *read, *ts);
            let only_read = delivered_at.is_none();
            send(
                Topic::Conversation(convo),
                &Letter::Receipt { convo, user, delivered, read, ts, shows_read, only_read },
            );
        }
        Outcome::OwnChanged { convo, user, settings } => {
            let (convo, user, settings) = (*convo, *user, *settings);
            send(Topic::User(user), &Letter::Own { convo, user, settings });
        }
        Outcome::Duplicate(_) | Outcome::Unchanged | Outcome::Refused(_) => {}
    }
}

/// Tells the readers of this node what another wrote. Returns whether the hub now lacks something.
pub fn read(hub: &Hub, letter: Letter) -> bool {
    let (outcome, shows_read) = match letter {
        Letter::Entry(entry, shared) => (Outcome::Appended { entry, shared }, true),
        Letter::Receipt { convo, user, delivered, read, ts, shows_read, only_read } => {
            let delivered_at = (!only_read).then_some(ts);
            (Outcome::Marked(Receipt { convo, user, delivered, read, ts, delivered_at }), shows_read)
        }
        Letter::Own { convo, user, settings } => (Outcome::OwnChanged { convo, user, settings }, true),
        Letter::Typing { convo, user, active } => {
            hub.typing_elsewhere(Typing { convo, user, active });
            return false;
        }
        // Not the hub's.
        Letter::Account(_) | Letter::Seen { .. } => return false,
        Letter::Hint { convo, last, since } => {
            hub.has_come_to(convo, last);
            hub.lacks_news(convo, Some(Commit::new(since)));
            return true;
        }
    };
    hub.deliver([Committed { outcome: &outcome, origin: None, shows_read }])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: EntryKind) -> Outcome {
        let (convo_id, sender_id) = (ConvoId::from_bytes([1; 16]), UserId::from_bytes([2; 16]));
        let ts = Timestamp::from_millis(1_795_563_466_123);
        let entry = Entry { convo_id, seq: Seq::new(3), sender_id, client_seq: None, ts, kind };
        Outcome::Appended { entry: Arc::new(entry), shared: None }
    }

    fn told(outcome: &Outcome) -> Vec<Topic> {
        let mut told = Vec::new();
        write(outcome, true, |to, letter| {
            let bytes = serde_json::to_vec(letter).unwrap();
            assert_eq!(serde_json::from_slice::<Letter>(&bytes).unwrap(), *letter);
            told.push(to);
        });
        told
    }

    #[test]
    fn an_entry_goes_to_its_conversation_and_to_those_whom_it_lets_in_or_puts_out() {
        let convo = Topic::Conversation(ConvoId::from_bytes([1; 16]));
        let users: Vec<_> = (0..=USERS_MAX as u8).map(|number| UserId::from_bytes([number; 16])).collect();
        assert_eq!(told(&entry(EntryKind::Text { body: "hi".into(), reply_to: None })), [convo]);
        let added = entry(EntryKind::MemberAdded { user_ids: users[..2].to_vec() });
        assert_eq!(told(&added), [convo, Topic::User(users[0]), Topic::User(users[1])]);
        assert_eq!(told(&entry(EntryKind::MemberAdded { user_ids: users })), [convo, Topic::Everyone]);
    }
}
