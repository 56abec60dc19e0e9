//! What a conversation is made of: a log of entries.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ClientSeq, ConvoId, Seq, Timestamp, UserId};

/// One entry of a conversation's log; one of kind `text` is a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The conversation.
    pub convo_id: ConvoId,
    /// The entry's place in it.
    pub seq: Seq,
    /// Who wrote the message, or did what the entry records.
    pub sender_id: UserId,
    /// The sender's own number; messages only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_seq: Option<ClientSeq>,
    /// When the server took it.
    pub ts: Timestamp,
    /// What it says or records.
    #[serde(flatten)]
    pub kind: EntryKind,
}

/// What an entry says or records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum EntryKind {
    /// A message.
    Text {
        /// The text, byte for byte as it was sent: 1 to 65,536 bytes of UTF-8.
        body: String,
        /// The entry of the same conversation that it answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<Seq>,
    },
    /// The conversation began; always seq 1.
    Created {
        /// Direct or group.
        conversation_type: ConversationType,
        /// The first title of a group.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        title: Option<String>,
        /// Its first members, the creator among them.
        user_ids: Vec<UserId>,
        /// What those see who come later.
        history: HistoryPolicy,
    },
    /// Members were added.
    MemberAdded {
        /// Who.
        user_ids: Vec<UserId>,
    },
    /// Members were removed; who removes himself has left.
    MemberRemoved {
        /// Who.
        user_ids: Vec<UserId>,
    },
    /// A member got another role.
    RoleChanged {
        /// Who.
        user_id: UserId,
        /// The new role.
        role: Role,
    },
    /// The group got another title.
    Renamed {
        /// The new title.
        title: String,
    },
    /// Settings of the group changed; only what changed is there.
    SettingsChanged {
        /// The new description; empty when it was taken away.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        about: Option<String>,
        /// Who may send.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        posting: Option<Posting>,
        /// What those see who come later.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        history: Option<HistoryPolicy>,
    },
}

impl EntryKind {
    /// Whether this is a message: what unread counts are made of.
    pub const fn is_message(&self) -> bool {
        matches!(self, Self::Text { .. })
    }
}

/// Direct (two users, or one alone with his notes) or group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConversationType {
    /// Two users, for ever; one alone keeps notes in it.
    Direct,
    /// Any number of members, who come and go.
    Group,
}

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads, sends, leaves.
    Member,
    /// Adds and removes members, renames, sets policies.
    Admin,
    /// All of that, and gives roles.
    Owner,
}

/// What a member who comes later sees of what was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HistoryPolicy {
    /// Nothing: from his own `member_added` on.
    #[default]
    SinceJoined,
    /// Everything, from seq 1.
    All,
}

/// Who may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Posting {
    /// Every member.
    #[default]
    All,
    /// Owners and admins.
    Admins,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_fields_of_the_contract() -> Result<(), serde_json::Error> {
        let entry = Entry {
            convo_id: ConvoId::from_bytes([1; 16]),
            seq: Seq::new(2),
            sender_id: UserId::from_bytes([2; 16]),
            client_seq: Some(ClientSeq::new(7)),
            ts: Timestamp::from_millis(0),
            kind: EntryKind::Text { body: "hi".into(), reply_to: Some(Seq::new(1)) },
        };
        let json = serde_json::to_string(&entry)?;
        assert_eq!(
            json,
            r#"{"convoId":"01010101-0101-0101-0101-010101010101","seq":2,"senderId":"02020202-0202-0202-0202-020202020202","clientSeq":7,"ts":"1970-01-01T00:00:00.000Z","kind":"text","body":"hi","replyTo":1}"#
        );
        assert_eq!(serde_json::from_str::<Entry>(&json)?, entry);
        Ok(())
    }
}
