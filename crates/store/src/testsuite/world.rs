//! The words that the statements are written in: a store, a clock, four people.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use tertulia_domain::log::{Change, Commit, Intent, Missed, Outcome, Position, Refusal};
use tertulia_protocol::entry::{ConversationType, HistoryPolicy, Posting, Role};
use tertulia_protocol::rest::{Conversation, MemberSettingsPatch};
use tertulia_protocol::{ClientSeq, ConvoId, DeviceId, Entry, EntryKind, Seq, Timestamp, UserId};

use super::StoreUnderTest;
use crate::{Batch, Slice, Store};

pub const ANA: UserId = user(1);
pub const BO: UserId = user(2);
pub const CY: UserId = user(3);
pub const DI: UserId = user(4);

/// A user by number.
pub const fn user(number: u16) -> UserId {
    let [a, b] = number.to_be_bytes();
    UserId::from_bytes([0xaa, a, b, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, a, b])
}

/// The one device of a user.
pub const fn device(user: UserId) -> DeviceId {
    let mut bytes = *user.as_bytes();
    bytes[0] = 0xdd;
    DeviceId::from_bytes(bytes)
}

/// A conversation by number.
pub const fn convo(number: u16) -> ConvoId {
    let [a, b] = number.to_be_bytes();
    ConvoId::from_bytes([0xcc, a, b, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, a, b])
}

pub const fn seq(number: u64) -> Seq {
    Seq::new(number)
}

/// How long the horizon may take to pass what was appended.
const HORIZON_MAX: Duration = Duration::from_secs(30);

/// A store with a clock that goes a second a call.
pub struct World<S> {
    under_test: Option<S>,
    pub now: i64,
    groups: u16,
    numbers: HashMap<(ConvoId, DeviceId), u64>,
}

impl<S: StoreUnderTest> World<S> {
    pub async fn new() -> Self {
        Self { under_test: Some(S::open().await), now: 1_795_563_466_000, groups: 0, numbers: HashMap::new() }
    }

    pub fn store(&self) -> &dyn Store {
        self.under_test.as_ref().unwrap().store()
    }

    pub async fn reopen(&mut self) {
        let under_test = self.under_test.take().unwrap();
        self.under_test = Some(under_test.reopen().await);
    }

    pub async fn crash(&mut self) {
        let under_test = self.under_test.take().unwrap();
        self.under_test = Some(under_test.crash().await);
    }

    /// The time of the next call.
    pub fn tick(&mut self) -> Timestamp {
        self.now += 1_000;
        Timestamp::from_millis(self.now)
    }

    pub async fn append(&mut self, intents: Vec<Intent>) -> Batch {
        let now = self.tick();
        self.store().append(intents, now).await.unwrap()
    }

    /// Appends intents that change something; gives the number of the commit.
    pub async fn commit(&mut self, intents: Vec<Intent>) -> Commit {
        self.append(intents).await.commit.unwrap()
    }

    /// The position before a commit, of one who has all that was told until now in the other parts.
    pub async fn before(&self, commit: Commit) -> Position {
        let mut position = self.store().ceiling().await.unwrap();
        position.set(commit);
        position
    }

    /// The horizon, once all that was appended is below it: others may have to end first.
    pub async fn horizon(&self) -> Position {
        let ceiling = self.store().ceiling().await.unwrap();
        let passed = async {
            loop {
                let horizon = self.store().horizon().await.unwrap();
                if horizon.covers(&ceiling) {
                    return horizon;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(HORIZON_MAX, passed).await.unwrap()
    }

    /// Appends one intent.
    pub async fn one(&mut self, intent: Intent) -> Outcome {
        let mut batch = self.append(vec![intent]).await;
        assert_eq!(batch.outcomes.len(), 1);
        batch.outcomes.remove(0)
    }

    /// Appends one intent that becomes an entry.
    pub async fn entry(&mut self, intent: Intent) -> Entry {
        match self.one(intent).await {
            Outcome::Appended { entry, .. } => Entry::clone(&entry),
            other => panic!("{other:?}"),
        }
    }

    /// Appends one intent that is refused.
    pub async fn refused(&mut self, intent: Intent) -> Refusal {
        match self.one(intent).await {
            Outcome::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    /// A new group of the first one, with the others in it.
    pub async fn group(&mut self, members: &[UserId]) -> ConvoId {
        self.group_with(members, HistoryPolicy::SinceJoined).await
    }

    pub async fn group_with(&mut self, members: &[UserId], history: HistoryPolicy) -> ConvoId {
        self.groups += 1;
        let id = convo(self.groups);
        self.entry(create_group(id, members, history)).await;
        id
    }

    pub async fn direct(&mut self, one: UserId, other: UserId) -> ConvoId {
        let intent = create_direct(one, other);
        let id = intent.convo();
        self.one(intent).await;
        id
    }

    /// The next message of a user's device, as an intent.
    pub fn saying(&mut self, convo: ConvoId, sender: UserId, body: &str) -> Intent {
        let number = self.numbers.entry((convo, device(sender))).or_default();
        *number += 1;
        send(convo, sender, *number, body)
    }

    /// Sends the next message of a user's device.
    pub async fn say(&mut self, convo: ConvoId, sender: UserId, body: &str) -> Seq {
        let intent = self.saying(convo, sender, body);
        self.entry(intent).await.seq
    }

    pub async fn add(&mut self, convo: ConvoId, by: UserId, users: &[UserId]) -> Outcome {
        self.one(Intent::AddMembers { convo, by, users: users.to_vec() }).await
    }

    pub async fn remove(&mut self, convo: ConvoId, by: UserId, user: UserId) -> Outcome {
        self.one(Intent::RemoveMember { convo, by, user }).await
    }

    pub async fn mark(&mut self, convo: ConvoId, user: UserId, delivered: u64, read: u64) -> Outcome {
        self.one(mark(convo, user, delivered, read)).await
    }

    /// All that a user sees of a conversation, in short; `-` if he is not in it.
    pub async fn log(&self, user: UserId, convo: ConvoId) -> String {
        self.slice(user, convo, Slice::Newest, 1_000).await
    }

    /// A stretch of it; ` …` at its end if there is more.
    pub async fn slice(&self, user: UserId, convo: ConvoId, slice: Slice, limit: usize) -> String {
        let Some(found) = self.store().history(user, convo, slice, limit).await.unwrap() else {
            return "-".into();
        };
        let mut text = String::new();
        for (entry, _) in &found.entries {
            assert_eq!(entry.convo_id, convo);
            let comma = if text.is_empty() { "" } else { ", " };
            write!(text, "{comma}{}", show(entry)).unwrap();
        }
        if found.has_more {
            text.push_str(" …");
        }
        text
    }

    /// A conversation that the user is in.
    pub async fn see(&self, user: UserId, convo: ConvoId) -> Conversation {
        self.store().conversation(user, convo).await.unwrap().unwrap()
    }

    /// Who is in it: names with roles, by the time they joined.
    pub async fn members(&self, user: UserId, convo: ConvoId) -> String {
        let Some(page) = self.store().members(user, convo, None, 200).await.unwrap() else {
            return "-".into();
        };
        let members: Vec<_> = page
            .items
            .iter()
            .map(|member| format!("{}{}", name(member.user_id), sign(member.role)))
            .collect();
        members.join(" ")
    }

    /// (unread, delivered, read) of a member.
    pub async fn unread(&self, user: UserId, convo: ConvoId) -> (u64, u64, u64) {
        let seen = self.see(user, convo).await;
        (seen.unread_count, seen.delivered_seq.get(), seen.read_seq.get())
    }

    /// The conversations of a user by id, each with the first entry that he may see.
    pub async fn see_from(&self, user: UserId) -> Vec<(ConvoId, Seq)> {
        let mut seen = self.store().visible_from(user, None).await.unwrap();
        seen.sort_unstable();
        seen
    }

    /// What changed; the same, whichever way it is asked.
    pub async fn changes(&self, user: UserId, since: Position) -> Vec<Change> {
        let changes = self.store().changes(user, since, None).await.unwrap();
        for entries_max in [0, 3, 1_000] {
            assert_eq!(self.missed(user, since, entries_max).await.changes, changes);
        }
        changes
    }

    pub async fn missed(&self, user: UserId, since: Position, entries_max: usize) -> Missed {
        self.store().missed(user, since, entries_max).await.unwrap()
    }
}

pub fn create_group(convo: ConvoId, members: &[UserId], history: HistoryPolicy) -> Intent {
    let (by, kind, title) = (members[0], ConversationType::Group, None);
    Intent::Create { convo, by, kind, title, members: members.to_vec(), history }
}

pub fn create_direct(one: UserId, other: UserId) -> Intent {
    let members = if one == other { vec![one] } else { vec![one, other] };
    let (convo, kind) = (ConvoId::direct(one, other), ConversationType::Direct);
    Intent::Create { convo, by: one, kind, title: None, members, history: HistoryPolicy::SinceJoined }
}

pub fn send(convo: ConvoId, sender: UserId, number: u64, body: &str) -> Intent {
    reply(convo, sender, number, body, None)
}

pub fn reply(convo: ConvoId, sender: UserId, number: u64, body: &str, reply_to: Option<Seq>) -> Intent {
    let (device, client_seq) = (device(sender), ClientSeq::new(number));
    Intent::Send { convo, sender, device, client_seq, body: body.into(), reply_to }
}

/// 0: this watermark is not named.
pub fn mark(convo: ConvoId, user: UserId, delivered: u64, read: u64) -> Intent {
    let seq = |number| (number > 0).then_some(Seq::new(number));
    Intent::Mark { convo, user, delivered: seq(delivered), read: seq(read) }
}

pub fn set_role(convo: ConvoId, by: UserId, user: UserId, role: Role) -> Intent {
    Intent::SetRole { convo, by, user, role }
}

pub fn rename(convo: ConvoId, by: UserId, title: &str) -> Intent {
    Intent::Rename { convo, by, title: title.into() }
}

pub fn set_posting(convo: ConvoId, by: UserId, posting: Posting) -> Intent {
    Intent::ChangeSettings { convo, by, about: None, posting: Some(posting), history: None }
}

pub fn set_history(convo: ConvoId, by: UserId, history: HistoryPolicy) -> Intent {
    Intent::ChangeSettings { convo, by, about: None, posting: None, history: Some(history) }
}

pub fn set_own(convo: ConvoId, user: UserId, patch: MemberSettingsPatch) -> Intent {
    Intent::SetOwn { convo, user, patch }
}

fn name(user: UserId) -> String {
    match user {
        ANA => "ana".into(),
        BO => "bo".into(),
        CY => "cy".into(),
        DI => "di".into(),
        other => format!("{:?}", &other.as_bytes()[1..3]),
    }
}

const fn sign(role: Role) -> &'static str {
    match role {
        Role::Member => "",
        Role::Admin => "+",
        Role::Owner => "*",
    }
}

/// An entry in short: `1 new ana bo`, `2 ana: hi`, `3 +cy`, `4 -cy`, `5 bo=admin`, `6 "tea"`, `7 settings`.
pub fn show(entry: &Entry) -> String {
    let names = |users: &[UserId]| users.iter().copied().map(name).collect::<Vec<_>>().join(" ");
    let what = match &entry.kind {
        EntryKind::Text { body, .. } => format!("{}: {body}", name(entry.sender_id)),
        EntryKind::Created { user_ids, .. } => format!("new {}", names(user_ids)),
        EntryKind::MemberAdded { user_ids } => format!("+{}", names(user_ids)),
        EntryKind::MemberRemoved { user_ids } => format!("-{}", names(user_ids)),
        EntryKind::RoleChanged { user_id, role } => format!("{}={role:?}", name(*user_id)).to_lowercase(),
        EntryKind::Renamed { title } => format!("\"{title}\""),
        EntryKind::SettingsChanged { .. } => "settings".into(),
    };
    format!("{} {what}", entry.seq)
}
