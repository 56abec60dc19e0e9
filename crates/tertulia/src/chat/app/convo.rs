//! One conversation, as far as it is known here.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use tertulia_protocol::entry::{ConversationType, EntryKind, Role};
use tertulia_protocol::rest::{Conversation, HistoryPage, Member};
use tertulia_protocol::{ClientSeq, ConvoId, Entry, Seq, Timestamp, UserId};

/// Entries that are kept of a conversation whose end is in view; older ones are read again.
const KEPT_MAX: usize = 500;

/// One conversation.
pub(in crate::chat) struct Convo {
    pub(in crate::chat) id: ConvoId,
    pub(in crate::chat) kind: ConversationType,
    pub(in crate::chat) title: Option<String>,
    pub(in crate::chat) updated_at: Timestamp,
    pub(in crate::chat) last_seq: Seq,
    pub(in crate::chat) last_message: Option<Entry>,
    pub(in crate::chat) read_seq: Seq,
    pub(in crate::chat) unread: u64,
    pub(in crate::chat) member_count: u64,
    /// Members that are known: of a direct conversation all, of a large group some.
    pub(in crate::chat) members: BTreeMap<UserId, Standing>,
    pub(in crate::chat) entries: BTreeMap<Seq, Entry>,
    pub(in crate::chat) pending: VecDeque<Pending>,
    /// Who is typing, and until when that is believed.
    pub(in crate::chat) typing: HashMap<UserId, Instant>,
    /// The newest page has been read.
    pub(in crate::chat) loaded: bool,
    /// A page is being read.
    pub(in crate::chat) loading: bool,
    /// There is nothing before the first entry here.
    pub(in crate::chat) complete: bool,
    /// Lines that the view is above the end.
    pub(in crate::chat) scroll: usize,
    pub(in crate::chat) draft: String,
    /// A message to go to once it is here, and how many pages are read for it at most.
    pub(in crate::chat) sought: Option<(Seq, u8)>,
    /// The message that was gone to.
    pub(in crate::chat) shown: Option<Seq>,
}

/// How far a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::chat) struct Standing {
    pub(in crate::chat) role: Role,
    pub(in crate::chat) delivered: Seq,
    /// `None` where it is hidden.
    pub(in crate::chat) read: Option<Seq>,
}

/// A message of one's own that is not in the log yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::chat) struct Pending {
    pub(in crate::chat) local: u64,
    pub(in crate::chat) client_seq: Option<ClientSeq>,
    pub(in crate::chat) body: String,
    pub(in crate::chat) reply_to: Option<Seq>,
    pub(in crate::chat) state: PendingState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::chat) enum PendingState {
    Sending,
    Failed(String),
}

/// What has become of a message of one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::chat) enum Tick {
    /// It is stored.
    Sent,
    /// It has reached everybody.
    Delivered,
    /// Everybody has read it.
    Read,
}

impl Convo {
    pub(super) fn new(conversation: Conversation) -> Self {
        let mut convo = Self {
            id: conversation.id,
            kind: conversation.kind,
            title: None,
            updated_at: conversation.updated_at,
            last_seq: Seq::new(0),
            last_message: None,
            read_seq: conversation.read_seq,
            unread: 0,
            member_count: 0,
            members: BTreeMap::new(),
            entries: BTreeMap::new(),
            pending: VecDeque::new(),
            typing: HashMap::new(),
            loaded: false,
            loading: false,
            complete: false,
            scroll: 0,
            draft: String::new(),
            sought: None,
            shown: None,
        };
        convo.refresh(conversation);
        convo
    }

    /// Takes over what the server says of it.
    pub(super) fn refresh(&mut self, conversation: Conversation) {
        self.title = conversation.title;
        self.updated_at = self.updated_at.max(conversation.updated_at);
        self.member_count = conversation.member_count;
        if conversation.last_seq >= self.last_seq {
            self.last_seq = conversation.last_seq;
            self.last_message = conversation.last_message.or(self.last_message.take());
            self.read_seq = self.read_seq.max(conversation.read_seq);
            self.unread = if self.read_seq > conversation.read_seq { 0 } else { conversation.unread_count };
        }
        for Member { user_id, role, delivered_seq, read_seq } in conversation.members.into_iter().flatten() {
            let standing = Standing { role, delivered: delivered_seq, read: read_seq };
            self.members.insert(user_id, standing);
        }
    }

    /// The other one of a direct conversation.
    pub(in crate::chat) fn peer(&self, me: UserId) -> Option<UserId> {
        self.members.keys().copied().find(|id| *id != me)
    }

    /// Takes an entry in; says whether it is new here.
    pub(super) fn take(&mut self, entry: Entry, me: UserId) -> bool {
        if entry.seq <= self.last_seq && self.entries.contains_key(&entry.seq) {
            return false;
        }
        let newer = entry.seq > self.last_seq;
        if newer {
            self.last_seq = entry.seq;
            self.updated_at = self.updated_at.max(entry.ts);
            if entry.kind.is_message() {
                self.last_message = Some(entry.clone());
            }
            if entry.sender_id == me {
                self.read_seq = self.read_seq.max(entry.seq);
            }
            self.apply(&entry);
        }
        if entry.sender_id == me && entry.client_seq.is_some() {
            self.pending.retain(|pending| pending.client_seq != entry.client_seq);
        }
        self.entries.insert(entry.seq, entry);
        newer
    }

    /// What a newest entry changes.
    fn apply(&mut self, entry: &Entry) {
        match &entry.kind {
            EntryKind::MemberAdded { user_ids } => {
                self.member_count += user_ids.len() as u64;
                for id in user_ids {
                    let standing = Standing { role: Role::Member, delivered: Seq::new(0), read: None };
                    self.members.entry(*id).or_insert(standing);
                }
            }
            EntryKind::MemberRemoved { user_ids } => {
                self.member_count = self.member_count.saturating_sub(user_ids.len() as u64);
                self.members.retain(|id, _| !user_ids.contains(id));
            }
            EntryKind::Renamed { title } => self.title = Some(title.clone()),
            EntryKind::RoleChanged { user_id, role } => {
                if let Some(member) = self.members.get_mut(user_id) {
                    member.role = *role;
                }
            }
            EntryKind::Text { .. } => {
                // Who says something has received what was before.
                if let Some(member) = self.members.get_mut(&entry.sender_id) {
                    member.delivered = member.delivered.max(entry.seq);
                    member.read = member.read.map(|read| read.max(entry.seq));
                }
            }
            EntryKind::Created { .. } | EntryKind::SettingsChanged { .. } => {}
        }
    }

    /// Takes a page of history in.
    pub(super) fn history(&mut self, before: Option<Seq>, page: HistoryPage, me: UserId) {
        self.loading = false;
        if before.is_none() {
            self.loaded = true;
        }
        // A page that does not meet what is here leaves no hole: what is older than the hole goes.
        if let (None, Some(first)) = (before, page.items.first())
            && self.entries.last_key_value().is_some_and(|(last, _)| last.next() < first.seq)
        {
            self.entries.clear();
        }
        self.complete = !page.has_more;
        for entry in page.items {
            self.take(entry, me);
        }
    }

    /// The oldest entry here: what is read next is before it.
    pub(in crate::chat) fn first_seq(&self) -> Option<Seq> {
        self.entries.first_key_value().map(|(seq, _)| *seq)
    }

    /// Goes to a message, as soon as it is here.
    pub(super) const fn seek(&mut self, seq: Seq, pages_max: u8) {
        self.sought = Some((seq, pages_max));
        self.shown = Some(seq);
    }

    pub(super) fn receipt(&mut self, user: UserId, delivered: Seq, read: Option<Seq>) {
        let member = self.members.entry(user).or_insert(Standing { role: Role::Member, delivered, read });
        member.delivered = member.delivered.max(delivered);
        member.read = read.max(member.read);
    }

    /// What has become of one's own message `seq`.
    pub(in crate::chat) fn tick(&self, seq: Seq, me: UserId) -> Tick {
        let others = || self.members.iter().filter(|(id, _)| **id != me).map(|(_, member)| member);
        // Of a large group not all members are known, so nothing is known of all.
        if others().next().is_none() || (self.members.len() as u64) < self.member_count {
            return Tick::Sent;
        }
        if others().all(|member| member.read.is_some_and(|read| read >= seq)) {
            Tick::Read
        } else if others().all(|member| member.delivered >= seq) {
            Tick::Delivered
        } else {
            Tick::Sent
        }
    }

    pub(super) fn number(&mut self, local: u64, client_seq: ClientSeq) {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.local == local) {
            pending.client_seq = Some(client_seq);
        }
    }

    /// A message is answered: it leaves, or stays with the reason. Says whether it was here.
    pub(super) fn settle(&mut self, client_seq: ClientSeq, failed: Option<String>) -> bool {
        let place = self.pending.iter().position(|pending| pending.client_seq == Some(client_seq));
        let Some(place) = place else { return false };
        match failed {
            Some(why) => self.pending[place].state = PendingState::Failed(why),
            None => drop(self.pending.remove(place)),
        }
        true
    }

    pub(super) fn fail(&mut self, local: u64, why: &str) {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.local == local) {
            pending.state = PendingState::Failed(why.into());
        }
    }

    /// Forgets what is old, where nobody looks; it is read again when it is wanted.
    pub(super) fn trim(&mut self) {
        if self.scroll == 0
            && let Some((&first, _)) = self.entries.iter().nth_back(KEPT_MAX)
        {
            self.entries = self.entries.split_off(&first.next());
            self.complete = false;
        }
    }
}
