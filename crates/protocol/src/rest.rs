//! The bodies of the REST calls under `/api`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::entry::{ConversationType, HistoryPolicy, Posting, Role};
use crate::{ClientSeq, ConvoId, DeviceId, Entry, Seq, Timestamp, UserId};

/// `POST /users`: an account, and a first session on it.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Register {
    /// 3 to 32 characters of `a-z 0-9 . _ -`, folded to lower case; unique.
    pub username: String,
    /// 8 to 256 characters.
    pub password: String,
    /// 1 to 64 characters; the username when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// What logs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceInfo>,
}

/// `POST /sessions`: logs a device in.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Login {
    /// The username, in any case.
    pub username: String,
    /// The password.
    pub password: String,
    /// What logs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceInfo>,
}

/// What a device says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceInfo {
    /// At most 64 characters, for people: "Ana's phone".
    pub name: String,
    /// At most 64 characters: "android", "web", …
    pub platform: String,
}

/// `POST /sessions/refresh`: the next pair of tokens; a refresh token works once.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refresh {
    /// The newest one.
    pub refresh_token: String,
}

/// A session: what a device holds to act for its user.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Whose.
    pub user: User,
    /// For `Authorization: Bearer`, and for `connect`.
    pub access_token: String,
    /// For `POST /sessions/refresh`; 90 days, once.
    pub refresh_token: String,
    /// When the access token ends.
    pub expires_at: Timestamp,
    /// The device that this login is.
    pub device_id: DeviceId,
}

/// A user, as others (or, with `privacy`, he himself) see him.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// His id.
    pub id: UserId,
    /// Unique, lower case.
    pub username: String,
    /// For people.
    pub display_name: String,
    /// A description; empty at first.
    pub about: String,
    /// When he registered.
    pub created_at: Timestamp,
    /// His settings; only he himself sees them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Privacy>,
}

/// `{user}`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserAnswer {
    /// The user.
    pub user: User,
}

/// Who may see something of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// Everyone who shares a conversation with him.
    #[default]
    Everyone,
    /// Nobody.
    Nobody,
}

/// What a user shows of himself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Privacy {
    /// Who sees when he was last there.
    pub last_seen: Audience,
    /// Who sees what he has read; who shows nobody sees nobody's.
    pub read_receipts: Audience,
}

/// `PATCH /users/me`: what is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserPatch {
    /// 1 to 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// At most 1,024 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// What is absent in it stays, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<PrivacyPatch>,
}

/// The part of [`Privacy`] that changes.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrivacyPatch {
    /// Who sees when he was last there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Audience>,
    /// Who sees what he has read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_receipts: Option<Audience>,
}

/// A device of the user who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Its id.
    pub device_id: DeviceId,
    /// What it calls itself.
    pub name: String,
    /// What it runs on.
    pub platform: String,
    /// When it logged in.
    pub created_at: Timestamp,
    /// When it last refreshed its session or was connected; to the minute.
    pub last_seen_at: Timestamp,
    /// Whether it is the one that asks.
    pub current: bool,
}

/// A list, a page at a time.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "{T}Page")]
pub struct Page<T> {
    /// This page.
    pub items: Vec<T>,
    /// For the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `POST /conversations`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewConversation {
    /// Direct or group.
    #[serde(rename = "type")]
    pub kind: ConversationType,
    /// The others (oneself may be named too): for a direct one exactly one user, or only oneself for notes.
    pub members: Vec<UserId>,
    /// 1 to 128 characters; groups only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Groups only; `since_joined` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryPolicy>,
}

/// A conversation, as the one who asks sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Conversation {
    /// Its id.
    pub id: ConvoId,
    /// Direct or group.
    #[serde(rename = "type")]
    pub kind: ConversationType,
    /// A group's title, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// A group's description; empty at first.
    pub about: String,
    /// Who may send.
    pub posting: Posting,
    /// What those see who come later.
    pub history: HistoryPolicy,
    /// When it began.
    pub created_at: Timestamp,
    /// When its newest entry was written.
    pub updated_at: Timestamp,
    /// The newest entry.
    pub last_seq: Seq,
    /// The newest message that he may see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message: Option<Entry>,
    /// The first entry that he may see.
    pub visible_from_seq: Seq,
    /// His own watermark.
    pub delivered_seq: Seq,
    /// His own watermark.
    pub read_seq: Seq,
    /// Messages of others after `readSeq`.
    pub unread_count: u64,
    /// His role.
    pub role: Role,
    /// How many members there are.
    pub member_count: u64,
    /// His own settings.
    #[serde(flatten)]
    pub settings: MemberSettings,
    /// Members, by the time they joined: all two of a direct conversation; of a group the first page, and only where one conversation was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<Member>>,
    /// For `?membersCursor=`; absent on the last page of members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members_next_cursor: Option<String>,
}

/// `{conversation}`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConversationAnswer {
    /// The conversation.
    pub conversation: Conversation,
}

/// A member of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Who.
    pub user_id: UserId,
    /// What he may do.
    pub role: Role,
    /// How far he has received.
    pub delivered_seq: Seq,
    /// How far he has read; absent where he, or the one who asks, hides read receipts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_seq: Option<Seq>,
}

/// `PATCH /conversations/:id`: what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConversationPatch {
    /// 1 to 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// At most 1,024 characters; empty takes it away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Who may send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posting: Option<Posting>,
    /// What those see who come later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryPolicy>,
}

/// `POST /conversations/:id/members`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddMembers {
    /// 1 to 1,000 users.
    pub user_ids: Vec<UserId>,
}

/// `PATCH /conversations/:id/members/:userId`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolePatch {
    /// The new role.
    pub role: Role,
}

/// A member's own settings of a conversation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberSettings {
    /// No notifications.
    pub muted: bool,
    /// Until when; absent: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted_until: Option<Timestamp>,
    /// Kept on top.
    pub pinned: bool,
    /// Put away.
    pub archived: bool,
}

/// `PATCH /conversations/:id/settings`: what is absent stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberSettingsPatch {
    /// No notifications; `false` also ends `mutedUntil`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted: Option<bool>,
    /// Until when; mutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted_until: Option<Timestamp>,
    /// Kept on top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<bool>,
    /// Put away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
}

/// `POST /conversations/:id/messages`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SendMessage {
    /// The sender's own number: the same again is the same message, however often.
    pub client_seq: ClientSeq,
    /// 1 to 65,536 bytes of UTF-8, not blank, without NUL; kept byte for byte.
    pub body: String,
    /// The entry of this conversation that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Seq>,
    /// Files; none can be sent yet, so a list that is not empty is `invalid`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media_ids: Vec<String>,
}

/// `{message}`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageAnswer {
    /// The message in its present state.
    pub message: Entry,
}

/// `GET /conversations/:id/messages`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryPage {
    /// Entries, ascending.
    pub items: Vec<Entry>,
    /// Whether there are more in the direction that was asked for.
    pub has_more: bool,
}

/// `PUT /conversations/:id/receipts`: watermarks only move forward.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// Everything up to here has reached this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_seq: Option<Seq>,
    /// Everything up to here has been read; carries `deliveredSeq` along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_seq: Option<Seq>,
}

/// How one member stands to one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageReceipt {
    /// Who; the sender is not listed.
    pub user_id: UserId,
    /// When his `deliveredSeq` passed it; absent: not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Timestamp>,
    /// When his `readSeq` passed it; absent: not yet, or one of the two hides read receipts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<Timestamp>,
}

/// `GET /events`: the events of the socket.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventsPage {
    /// As on the socket.
    pub events: Vec<crate::event::ServerEvent>,
    /// For the next call; using it says that these events have arrived.
    pub cursor: String,
}

/// `GET /gateway`: where the session belongs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// The address of the node to go to, as in `https://chat1.example.org`.
    pub url: String,
    /// Those of the others, in the order in which to go to them when it is gone.
    pub others: Vec<String>,
}

/// `GET /search`: a message that was found, in its present state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundMessage {
    /// The message.
    #[serde(flatten)]
    pub message: Entry,
    /// The piece of it with what was sought.
    pub snippet: Snippet,
}

/// A piece of a message's body with what was sought in it marked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Snippet {
    /// The piece; `…` stands for what was left out before or behind it. Plain text.
    pub text: String,
    /// What was sought, as `[start, end]` in `text`, in order and without overlaps: UTF-16 code units, as strings of
    /// browsers count (`text.slice(start, end)`).
    pub marks: Vec<[u32; 2]>,
}

impl Snippet {
    /// The text in parts, each with whether it is marked; none is empty. Marks that are none are passed over.
    pub fn parts(&self) -> Vec<(&str, bool)> {
        let (mut parts, mut at) = (Vec::new(), 0);
        for &[from, to] in &self.marks {
            if let (Some(from), Some(to)) = (self.byte(from), self.byte(to))
                && at <= from
                && from < to
            {
                parts.extend([(&self.text[at..from], false), (&self.text[from..to], true)]);
                at = to;
            }
        }
        parts.push((&self.text[at..], false));
        parts.retain(|(part, _)| !part.is_empty());
        parts
    }

    /// The byte at which a unit of UTF-16 begins, if a character does there.
    fn byte(&self, unit: u32) -> Option<usize> {
        let mut units = 0;
        for (byte, c) in self.text.char_indices() {
            if units >= unit {
                return (units == unit).then_some(byte);
            }
            units += if c.len_utf16() == 1 { 1 } else { 2 };
        }
        (units == unit).then_some(self.text.len())
    }
}

/// `GET /search`: what comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SearchOrder {
    /// The newest messages.
    #[default]
    Newest,
    /// Short and new ones before long and old ones.
    Rank,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snippet_is_parted_where_it_is_marked() {
        let parts = |text: &str, marks: &[[u32; 2]]| {
            let snippet = Snippet { text: text.into(), marks: marks.to_vec() };
            snippet.parts().into_iter().map(|(part, marked)| (part.to_owned(), marked)).collect::<Vec<_>>()
        };
        let part = |text: &str, marked| (text.to_owned(), marked);
        assert_eq!(
            parts("🫖 té for two", &[[3, 5], [10, 13]]),
            [part("🫖 ", false), part("té", true), part(" for ", false), part("two", true)]
        );
        assert_eq!(parts("tea", &[]), [part("tea", false)]);
        // Of a server that counts otherwise.
        for nonsense in [[1, 2], [2, 99], [3, 3], [5, 4]] {
            assert_eq!(parts("🫖 tea", &[nonsense]), [part("🫖 tea", false)]);
        }
        assert_eq!(parts("tea", &[[1, 2], [0, 1]]), [part("t", false), part("e", true), part("a", false)]);
    }
}
