//! A conversation as it is: the fold over its log.

use std::sync::Arc;

use tertulia_protocol::entry::{ConversationType, HistoryPolicy, Posting, Role};
use tertulia_protocol::event::SharedSettings;
use tertulia_protocol::rest::MemberSettings;
use tertulia_protocol::{ClientSeq, ConvoId, DeviceId, Entry, EntryKind, IdMap, Seq, Timestamp, UserId};

use super::decide::Proposal;
use super::record::{Effect, Passed, Record};
use crate::log::Outcome;

/// A conversation as it is after the last entry of its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    pub(super) summary: Summary,
    pub(super) members: IdMap<UserId, Membership>,
    /// The highest number that each device has sent here; a device is in it once somebody has looked it up.
    /// A filter: above it is new, at or below it must be looked up.
    pub(super) highest_sent: IdMap<DeviceId, ClientSeq>,
}

/// What there is to know of a conversation but its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its id.
    pub id: ConvoId,
    /// Direct or group.
    pub kind: ConversationType,
    /// Its title, if it has one.
    pub title: Option<String>,
    /// Its description.
    pub about: String,
    /// Who may send.
    pub posting: Posting,
    /// What those see who come later.
    pub history: HistoryPolicy,
    /// When it began.
    pub created_at: Timestamp,
    /// The newest entry.
    pub last_seq: Seq,
    /// When the newest entry was taken; no later one is earlier.
    pub last_ts: Timestamp,
    /// How many messages there are.
    pub last_message_no: u64,
    /// The newest entry that is no message. All after it are, so their numbers need no look-up.
    pub last_change_seq: Seq,
    /// How many times somebody joined: the number in the order of joining of who came last.
    pub last_joined_no: u64,
}

/// What there is to know of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// What he may do.
    pub role: Role,
    /// His place in the order of joining.
    pub joined_no: u64,
    /// The entry that made him a member.
    pub joined_seq: Seq,
    /// The first entry that he may see.
    pub visible_from: Seq,
    /// Received up to here; at least `read`.
    pub delivered: Seq,
    /// Read up to here.
    pub read: Seq,
    /// How many messages there are up to `read`.
    pub read_no: u64,
    /// His own settings.
    pub settings: MemberSettings,
    /// Whether he keeps a direct conversation closed for sends.
    pub blocks: bool,
}

impl Conversation {
    /// A conversation from what was stored of it.
    pub fn restored(summary: Summary, members: IdMap<UserId, Membership>) -> Self {
        Self { summary, members, highest_sent: IdMap::default() }
    }

    /// What the entry `created` makes; `None` of any other.
    pub fn begun(entry: &Entry) -> Option<Self> {
        let EntryKind::Created { conversation_type, title, history, .. } = &entry.kind else { return None };
        let summary = Summary {
            id: entry.convo_id,
            kind: *conversation_type,
            title: title.clone(),
            about: String::new(),
            posting: Posting::All,
            history: *history,
            created_at: entry.ts,
            last_seq: Seq::default(),
            last_ts: entry.ts,
            last_message_no: 0,
            last_change_seq: Seq::default(),
            last_joined_no: 0,
        };
        let mut begun = Self { summary, members: IdMap::default(), highest_sent: IdMap::default() };
        begun.fold(entry);
        Some(begun)
    }

    /// All but the members.
    pub const fn summary(&self) -> &Summary {
        &self.summary
    }

    /// What all members share.
    pub fn shared(&self) -> SharedSettings {
        let Summary { id, title, about, posting, history, .. } = &self.summary;
        SharedSettings {
            id: *id,
            title: title.clone(),
            about: about.clone(),
            posting: *posting,
            history: *history,
        }
    }

    /// A member.
    pub fn member(&self, user: UserId) -> Option<&Membership> {
        self.members.get(&user)
    }

    /// All members, in no order.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (UserId, &Membership)> {
        self.members.iter().map(|(&user, member)| (user, member))
    }

    /// How much memory it takes, in members and devices.
    pub fn weight(&self) -> usize {
        1 + self.members.len() + self.highest_sent.len()
    }

    /// How many messages there are up to `seq`, if that can be told without a look at the log.
    pub fn message_no(&self, seq: Seq) -> Option<u64> {
        let Summary { last_seq, last_change_seq, last_message_no, .. } = self.summary;
        // All entries after the last change are messages.
        (last_change_seq..=last_seq).contains(&seq).then(|| last_message_no - (last_seq.get() - seq.get()))
    }

    /// Takes the answer to [`Question::HighestSent`](super::Question::HighestSent); `None`: it has sent nothing here.
    pub fn learn_highest_sent(&mut self, device: DeviceId, highest: Option<ClientSeq>) {
        self.highest_sent.insert(device, highest.unwrap_or_default());
    }

    /// Takes the next entry of the log, which another writer has let in; `device` is where a message came from.
    pub fn follow(&mut self, entry: &Entry, device: Option<DeviceId>) {
        self.fold(entry);
        let Some(device) = device else { return };
        // Of a device that nobody has looked up, this number need not be the highest.
        let is_known = self.highest_sent.contains_key(&device);
        self.sent(entry, device);
        if !is_known {
            self.highest_sent.remove(&device);
        }
    }

    /// Takes a member's own settings, as another writer may have left them.
    pub fn learn_settings(&mut self, user: UserId, settings: MemberSettings) {
        if let Some(member) = self.members.get_mut(&user) {
            member.settings = settings;
        }
    }

    /// Takes the next entry of the log, and says what follows from it.
    ///
    /// Entries come in the order of `seq`, from 2 on (the first one is for [`Conversation::begun`]).
    pub fn fold(&mut self, entry: &Entry) -> Effect {
        let seq = entry.seq;
        debug_assert_eq!(seq, self.summary.last_seq.next(), "an entry was left out or taken twice");
        self.summary.last_seq = seq;
        self.summary.last_ts = entry.ts;
        if entry.kind.is_message() {
            self.summary.last_message_no += 1;
        } else {
            self.summary.last_change_seq = seq;
        }
        match &entry.kind {
            EntryKind::Text { .. } => Effect::None,
            EntryKind::Created { user_ids, .. } => {
                let effect = self.join(user_ids, seq, seq);
                if self.summary.kind == ConversationType::Group
                    && let Some(creator) = self.members.get_mut(&entry.sender_id)
                {
                    creator.role = Role::Owner;
                }
                effect
            }
            EntryKind::MemberAdded { user_ids } => {
                let visible_from = match self.summary.history {
                    HistoryPolicy::SinceJoined => seq,
                    HistoryPolicy::All => Seq::new(1),
                };
                self.join(user_ids, seq, visible_from)
            }
            EntryKind::MemberRemoved { user_ids } => {
                for user in user_ids {
                    self.members.remove(user);
                }
                Effect::Left { successor: self.promote_successor() }
            }
            EntryKind::RoleChanged { user_id, role } => {
                if let Some(member) = self.members.get_mut(user_id) {
                    member.role = *role;
                }
                Effect::None
            }
            EntryKind::Renamed { title } => {
                self.summary.title = Some(title.clone());
                Effect::None
            }
            EntryKind::SettingsChanged { about, posting, history } => {
                if let Some(about) = about {
                    self.summary.about.clone_from(about);
                }
                self.summary.posting = posting.unwrap_or(self.summary.posting);
                self.summary.history = history.unwrap_or(self.summary.history);
                Effect::None
            }
        }
    }

    fn join(&mut self, users: &[UserId], seq: Seq, visible_from: Seq) -> Effect {
        let first_joined_no = self.summary.last_joined_no + 1;
        for &user in users {
            self.summary.last_joined_no += 1;
            let member = Membership {
                role: Role::Member,
                joined_no: self.summary.last_joined_no,
                joined_seq: seq,
                visible_from,
                delivered: seq,
                read: seq,
                read_no: self.summary.last_message_no,
                settings: MemberSettings::default(),
                blocks: false,
            };
            self.members.insert(user, member);
        }
        Effect::Joined { first_joined_no, visible_from }
    }

    /// A group whose last owner has gone belongs to the longest-standing admin, else member.
    fn promote_successor(&mut self) -> Option<UserId> {
        if self.owners() > 0 {
            return None;
        }
        let (&user, heir) = self
            .members
            .iter_mut()
            .min_by_key(|(_, member)| (std::cmp::Reverse(member.role), member.joined_no))?;
        heir.role = Role::Owner;
        Some(user)
    }

    /// Whether one of the two of a direct conversation keeps it closed for sends.
    pub(super) fn is_blocked(&self) -> bool {
        self.summary.kind == ConversationType::Direct && self.members.values().any(|member| member.blocks)
    }

    pub(super) fn owners(&self) -> usize {
        self.members.values().filter(|member| member.role == Role::Owner).count()
    }

    /// Moves the sender's own watermarks to what he sent: who writes has read.
    fn sent(&mut self, entry: &Entry, device: DeviceId) -> Effect {
        if let Some(number) = entry.client_seq {
            let highest = self.highest_sent.entry(device).or_default();
            *highest = (*highest).max(number);
        }
        let Some(sender) = self.members.get_mut(&entry.sender_id) else { return Effect::None };
        let before = entry.seq.previous();
        let passed = Passed { delivered: sender.delivered < before, read: sender.read < before };
        sender.delivered = entry.seq;
        sender.read = entry.seq;
        sender.read_no = self.summary.last_message_no;
        Effect::Sent { device, passed }
    }
}

/// Folds what was let in into the conversation, which `created` begins.
///
/// Gives what to keep and what to tell; it may be told only when it is kept.
pub fn apply(convo: &mut Option<Conversation>, proposal: Proposal) -> (Record, Outcome) {
    match proposal {
        Proposal::Entry { entry, device } => apply_entry(convo, entry, device),
        Proposal::Mark { receipt, read_no } => {
            let mut passed = Passed::default();
            if let Some(member) = convo.as_mut().and_then(|convo| convo.members.get_mut(&receipt.user)) {
                passed = Passed {
                    delivered: receipt.delivered > member.delivered,
                    read: receipt.read > member.read,
                };
                member.delivered = receipt.delivered;
                member.read = receipt.read;
                member.read_no = read_no;
            }
            (Record::Mark { receipt, read_no, passed }, Outcome::Marked(receipt))
        }
        Proposal::Own { convo: id, user, settings } => {
            if let Some(member) = convo.as_mut().and_then(|convo| convo.members.get_mut(&user)) {
                member.settings = settings;
            }
            (Record::Own { convo: id, user, settings }, Outcome::OwnChanged { convo: id, user, settings })
        }
        Proposal::Block { convo: id, user, blocked } => {
            if let Some(member) = convo.as_mut().and_then(|convo| convo.members.get_mut(&user)) {
                member.blocks = blocked;
            }
            // Nobody is told of a block: who is blocked finds out when he sends.
            (Record::Block { convo: id, user, blocked }, Outcome::Unchanged)
        }
    }
}

fn apply_entry(slot: &mut Option<Conversation>, entry: Entry, device: Option<DeviceId>) -> (Record, Outcome) {
    let effect = match slot {
        Some(convo) => {
            let effect = convo.fold(&entry);
            device.map_or(effect, |device| convo.sent(&entry, device))
        }
        None => {
            *slot = Conversation::begun(&entry);
            Effect::Joined { first_joined_no: 1, visible_from: entry.seq }
        }
    };
    let entry = Arc::new(entry);
    let convo = slot.as_ref();
    let shared = match entry.kind {
        EntryKind::Renamed { .. } | EntryKind::SettingsChanged { .. } => {
            convo.map(|convo| Arc::new(convo.shared()))
        }
        _ => None,
    };
    let message_no = convo.map_or(0, |convo| convo.summary.last_message_no);
    let outcome = Outcome::Appended { entry: entry.clone(), shared };
    (Record::Entry { entry, message_no, effect }, outcome)
}
