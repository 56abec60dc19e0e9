//! The chat's state: a fold of what happens, with nothing else in it. No socket, screen, clock or task; `now`
//! comes in, and what is to be done comes out as [`Effect`]s.

mod convo;
mod keys;
mod results;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use crossterm::event::KeyEvent;
use tertulia_client::event::Event;
use tertulia_protocol::entry::{ConversationType, EntryKind};
use tertulia_protocol::event::{ConversationNews, Presence};
use tertulia_protocol::rest::{Conversation, FoundMessage, HistoryPage, Page, User};
use tertulia_protocol::{ClientSeq, ConvoId, Entry, Seq, Timestamp, UserId};

pub(super) use self::convo::{Convo, Pending, PendingState, Tick};
pub(super) use self::results::{Results, SHOWN as RESULTS_SHOWN};
use super::command::{self, Command};
use super::editor::Editor;

/// How long a notice stays.
const NOTICE_FOR: Duration = Duration::from_secs(8);
/// `typing` expires by itself.
const TYPING_FOR: Duration = Duration::from_secs(8);
/// The most users whose presence is watched.
const WATCHED_MAX: usize = 1_000;
/// Answers that came before the number they answer; older ones are forgotten.
const EARLY_MAX: usize = 64;

/// Something that happened.
pub(super) enum Input {
    Key(KeyEvent),
    Paste(String),
    Client(Event),
    Done(Done),
    /// Time has passed.
    Tick,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Send { local: u64, convo: ConvoId, body: String, reply_to: Option<Seq> },
    Mark { convo: ConvoId, delivered: Seq, read: Option<Seq> },
    Typing { convo: ConvoId, active: bool },
    Watch(Vec<UserId>),
    LoadInbox(Option<String>),
    LoadHistory { convo: ConvoId, before: Option<Seq> },
    LoadConversation(ConvoId),
    LoadUser(UserId),
    OpenDirect(String),
    OpenGroup { title: String, users: Vec<String> },
    Add { convo: ConvoId, users: Vec<String> },
    Remove { convo: ConvoId, user: String },
    Leave(ConvoId),
    Rename { convo: ConvoId, title: String },
    Search { q: String, cursor: Option<String> },
}

/// What came of an effect.
pub(super) enum Done {
    /// The client has taken a message and numbered it.
    Sent {
        local: u64,
        convo: ConvoId,
        client_seq: ClientSeq,
    },
    /// The client has no room for a message.
    NotSent {
        local: u64,
        convo: ConvoId,
    },
    Inbox(Page<Conversation>),
    History {
        convo: ConvoId,
        before: Option<Seq>,
        page: HistoryPage,
    },
    Conversation {
        conversation: Box<Conversation>,
        open: bool,
    },
    User(User),
    Found {
        q: String,
        page: Page<FoundMessage>,
    },
    Left(ConvoId),
    /// It did not work; what it was, and why.
    Failed {
        effect: Effect,
        why: String,
    },
    /// It worked, and there is nothing to show for it.
    Well,
}

/// Where the connection stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    Connecting,
    Up,
    /// Not before this a new attempt is made.
    Down {
        why: String,
        until: Instant,
    },
    /// For good.
    Lost(String),
}

/// What is known of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) name: String,
    pub(super) username: String,
    pub(super) presence: Option<(Presence, Option<Timestamp>)>,
}

/// What lies over the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overlay {
    Help,
    Who,
    Results,
}

/// The whole state.
pub(super) struct App {
    pub(super) me: UserId,
    pub(super) link: Link,
    pub(super) convos: HashMap<ConvoId, Convo>,
    pub(super) open: Option<ConvoId>,
    pub(super) editor: Editor,
    pub(super) overlay: Option<Overlay>,
    /// Of the last search.
    pub(super) results: Option<Results>,
    pub(super) notice: Option<String>,
    pub(super) inbox_known: bool,
    pub(super) over: bool,
    people: HashMap<UserId, Person>,
    asked: HashSet<UserId>,
    watched: HashSet<UserId>,
    notice_until: Option<Instant>,
    next_local: u64,
    quit_asked: bool,
    early: VecDeque<(ConvoId, ClientSeq, Option<String>)>,
    effects: Vec<Effect>,
}

impl App {
    /// The state before anything is known.
    pub(super) fn new(me: &User) -> Self {
        let mut app = Self {
            me: me.id,
            link: Link::Connecting,
            convos: HashMap::new(),
            open: None,
            editor: Editor::default(),
            overlay: None,
            results: None,
            notice: None,
            inbox_known: false,
            over: false,
            people: HashMap::new(),
            asked: HashSet::new(),
            watched: HashSet::new(),
            notice_until: None,
            next_local: 0,
            quit_asked: false,
            early: VecDeque::new(),
            effects: Vec::new(),
        };
        app.meet(me);
        app
    }

    /// Takes one input in and says what is to be done about it.
    pub(super) fn handle(&mut self, input: Input, now: Instant) -> Vec<Effect> {
        match input {
            Input::Key(key) => self.key(key, now),
            Input::Paste(text) => {
                self.editor.insert(&text.replace("\r\n", "\n").replace('\r', "\n"));
                self.typed();
            }
            Input::Client(event) => self.event(event, now),
            Input::Done(done) => self.done(done, now),
            Input::Tick => {}
        }
        if self.notice_until.is_some_and(|until| until <= now) {
            (self.notice, self.notice_until) = (None, None);
        }
        for convo in self.convos.values_mut() {
            convo.typing.retain(|_, until| *until > now);
        }
        std::mem::take(&mut self.effects)
    }

    /// Conversations, newest activity first.
    pub(super) fn inbox(&self) -> Vec<&Convo> {
        let mut convos: Vec<_> = self.convos.values().collect();
        convos.sort_unstable_by_key(|convo| (std::cmp::Reverse(convo.updated_at), convo.id));
        convos
    }

    /// The conversation that is open.
    pub(super) fn opened(&self) -> Option<&Convo> {
        self.convos.get(&self.open?)
    }

    /// The title of a conversation, for people.
    pub(super) fn title(&self, convo: &Convo) -> String {
        match (convo.kind, &convo.title) {
            (_, Some(title)) => title.clone(),
            (ConversationType::Direct, None) => {
                convo.peer(self.me).map_or_else(|| "Notes to myself".into(), |peer| self.name(peer))
            }
            (ConversationType::Group, None) => "A group without a title".into(),
        }
    }

    /// What a user is called; the beginning of his id while it is not known.
    pub(super) fn name(&self, id: UserId) -> String {
        self.people.get(&id).map_or_else(|| format!("{:.8}…", id.to_string()), |person| person.name.clone())
    }

    /// What is known of a user.
    pub(super) fn person(&self, id: UserId) -> Option<&Person> {
        self.people.get(&id)
    }

    /// Unread messages in all conversations.
    pub(super) fn unread(&self) -> u64 {
        self.convos.values().map(|convo| convo.unread).sum()
    }

    // What the client says.

    fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Connected { resumed, .. } => {
                self.link = Link::Up;
                if !resumed || !self.inbox_known {
                    self.effects.push(Effect::LoadInbox(None));
                }
            }
            Event::Disconnected { reason, retry_in } => {
                self.link = Link::Down { why: reason.to_string(), until: now + retry_in };
                for person in self.people.values_mut() {
                    person.presence = None;
                }
            }
            Event::SessionLost(lost) => self.link = Link::Lost(lost.to_string()),
            Event::Entry { entry, .. } => self.entry(entry),
            Event::Receipt { convo_id, user_id, delivered_seq, read_seq, .. } => {
                let own = user_id == self.me;
                if let Some(convo) = self.convos.get_mut(&convo_id) {
                    convo.receipt(user_id, delivered_seq, read_seq);
                    // Another device of ours has read it.
                    if own && read_seq.is_some_and(|read| read >= convo.last_seq) {
                        convo.unread = 0;
                    }
                }
            }
            Event::Typing { convo_id, user_id, active } => {
                if let Some(convo) = self.convos.get_mut(&convo_id) {
                    if active {
                        convo.typing.insert(user_id, now + TYPING_FOR);
                    } else {
                        convo.typing.remove(&user_id);
                    }
                }
                self.ask_for(user_id);
            }
            Event::Presence { user_id, status, last_seen } => {
                if let Some(person) = self.people.get_mut(&user_id) {
                    person.presence = Some((status, last_seen));
                }
                self.ask_for(user_id);
            }
            Event::Conversation(news) => self.news(news),
            Event::SendAcked { convo_id, client_seq, .. } => self.settle(convo_id, client_seq, None),
            Event::SendFailed { convo_id, client_seq, detail, .. } => {
                self.settle(convo_id, client_seq, Some(detail));
            }
            Event::SendDelayed { retry_in, code, .. } => {
                let why = if code == tertulia_protocol::Code::RateLimited {
                    "too fast"
                } else {
                    "the server is busy"
                };
                self.say(format!("{why}: your message goes out in {} s", retry_in.as_secs().max(1)), now);
            }
            Event::Refused { detail, .. } => self.say(detail, now),
        }
    }

    fn entry(&mut self, entry: Entry) {
        let (id, seq, sender) = (entry.convo_id, entry.seq, entry.sender_id);
        let Some(convo) = self.convos.get_mut(&id) else {
            // What it is called is not known yet; with the answer comes what it holds.
            return self.effects.push(Effect::LoadConversation(id));
        };
        let unread = entry.kind.is_message() && sender != self.me && seq > convo.read_seq.max(convo.last_seq);
        convo.typing.remove(&sender);
        if convo.take(entry, self.me) {
            convo.unread += u64::from(unread);
        }
        convo.trim();
        if self.open == Some(id) && self.convos.get(&id).is_some_and(|convo| convo.scroll == 0) {
            self.read(id);
        } else if sender != self.me {
            self.effects.push(Effect::Mark { convo: id, delivered: seq, read: None });
        }
        self.ask_for_people_of(id);
    }

    fn news(&mut self, news: ConversationNews) {
        match news {
            ConversationNews::Whole(conversation) => {
                let id = conversation.id;
                self.conversation(*conversation);
                if self.open.is_none() {
                    self.open(Some(id));
                }
            }
            ConversationNews::Left { id, .. } => self.left(id),
            ConversationNews::Shared(shared) => {
                if let Some(convo) = self.convos.get_mut(&shared.id) {
                    convo.title = shared.title;
                }
            }
            ConversationNews::Own { .. } => {}
        }
    }

    fn settle(&mut self, convo_id: ConvoId, client_seq: ClientSeq, failed: Option<String>) {
        let found =
            self.convos.get_mut(&convo_id).is_some_and(|convo| convo.settle(client_seq, failed.clone()));
        if !found {
            // The answer was faster than the number.
            self.early.push_back((convo_id, client_seq, failed));
            self.early.truncate(EARLY_MAX);
        }
    }

    // What came of effects.

    fn done(&mut self, done: Done, now: Instant) {
        match done {
            Done::Sent { local, convo, client_seq } => {
                let early = self.early.iter().position(|(id, seq, _)| (*id, *seq) == (convo, client_seq));
                if let Some(convo) = self.convos.get_mut(&convo) {
                    convo.number(local, client_seq);
                }
                if let Some((id, seq, failed)) = early.and_then(|place| self.early.remove(place)) {
                    self.settle(id, seq, failed);
                }
            }
            Done::NotSent { local, convo } => {
                if let Some(convo) = self.convos.get_mut(&convo) {
                    convo.fail(local, "too much is waiting to be sent already");
                }
            }
            Done::Inbox(page) => {
                for conversation in page.items {
                    self.conversation(conversation);
                }
                match page.next_cursor {
                    Some(cursor) => self.effects.push(Effect::LoadInbox(Some(cursor))),
                    None => self.inbox_known = true,
                }
                if self.open.is_none() {
                    let newest = self.inbox().first().map(|convo| convo.id);
                    self.open(newest);
                }
            }
            Done::History { convo: id, before, page } => {
                if let Some(convo) = self.convos.get_mut(&id) {
                    convo.history(before, page, self.me);
                    if self.open == Some(id) && convo.scroll == 0 {
                        self.read(id);
                    }
                    self.ask_for_people_of(id);
                    self.seek_further(id, now);
                }
            }
            Done::Conversation { conversation, open } => {
                let id = conversation.id;
                self.conversation(*conversation);
                if open {
                    self.open(Some(id));
                }
            }
            Done::User(user) => self.meet(&user),
            Done::Found { q, page } => self.found(&q, page),
            Done::Left(id) => self.left(id),
            Done::Failed { effect, why } => {
                match effect {
                    Effect::LoadHistory { convo, .. } => {
                        if let Some(convo) = self.convos.get_mut(&convo) {
                            convo.loading = false;
                        }
                    }
                    Effect::LoadUser(id) => {
                        self.asked.remove(&id);
                    }
                    Effect::Search { q, .. } => self.not_found(&q),
                    _ => {}
                }
                self.say(why, now);
            }
            Done::Well => {}
        }
    }

    fn conversation(&mut self, conversation: Conversation) {
        let id = conversation.id;
        match self.convos.get_mut(&id) {
            Some(convo) => convo.refresh(conversation),
            None => {
                self.convos.insert(id, Convo::new(conversation));
            }
        }
        self.ask_for_people_of(id);
        if let Some(convo) = self.convos.get(&id)
            && convo.kind == ConversationType::Direct
            && convo.members.is_empty()
        {
            // Who the other one is makes its title.
            self.effects.push(Effect::LoadConversation(id));
        }
        if let Some(convo) = self.convos.get(&id)
            && convo.kind == ConversationType::Direct
            && let Some(peer) = convo.peer(self.me)
            && self.watched.len() < WATCHED_MAX
            && self.watched.insert(peer)
        {
            self.effects.push(Effect::Watch(vec![peer]));
        }
    }

    fn left(&mut self, id: ConvoId) {
        self.convos.remove(&id);
        if self.open == Some(id) {
            self.open = None;
            let newest = self.inbox().first().map(|convo| convo.id);
            self.open(newest);
        }
    }

    // What the user does; keys are in `keys`.

    fn open(&mut self, id: Option<ConvoId>) {
        if self.open == id {
            return;
        }
        let draft = self.editor.take();
        if let Some(before) = self.open.and_then(|id| self.convos.get_mut(&id)) {
            before.draft = draft;
            before.scroll = 0;
            before.sought = None;
            before.shown = None;
            before.trim();
        }
        self.open = id;
        self.overlay = None;
        let Some(convo) = id.and_then(|id| self.convos.get_mut(&id)) else { return };
        self.editor.set(std::mem::take(&mut convo.draft));
        let id = convo.id;
        if !convo.loaded && !convo.loading {
            convo.loading = true;
            self.effects.push(Effect::LoadHistory { convo: id, before: None });
        }
        if convo.kind == ConversationType::Group && convo.members.is_empty() {
            self.effects.push(Effect::LoadConversation(id));
        }
        if convo.loaded {
            self.read(id);
        }
    }

    /// Everything of a conversation has been seen.
    fn read(&mut self, id: ConvoId) {
        let Some(convo) = self.convos.get_mut(&id) else { return };
        convo.unread = 0;
        if convo.read_seq < convo.last_seq {
            convo.read_seq = convo.last_seq;
            let seq = convo.last_seq;
            self.effects.push(Effect::Mark { convo: id, delivered: seq, read: Some(seq) });
        }
    }

    fn typed(&mut self) {
        if let Some(convo) = self.open {
            let text = self.editor.text();
            let active = !text.is_empty() && !text.starts_with('/');
            self.effects.push(Effect::Typing { convo, active });
        }
    }

    fn enter(&mut self, now: Instant) {
        let line = self.editor.take();
        if line.trim().is_empty() {
            return;
        }
        let command = match command::parse(&line) {
            Ok(command) => command,
            Err(why) => {
                self.editor.set(line);
                return self.say(why, now);
            }
        };
        let open = self.open;
        let in_group =
            |convo: Option<ConvoId>| convo.ok_or("no conversation is open; /direct USER opens one");
        let effect = match command {
            Command::Say(body) => return self.send(line, body, None, now),
            Command::Reply { seq, text } => return self.send(line, text, Some(Seq::new(seq)), now),
            Command::Help => {
                self.overlay = Some(Overlay::Help);
                return;
            }
            Command::Who => {
                self.overlay = Some(Overlay::Who);
                return;
            }
            Command::Search(q) => return self.search(q),
            Command::Quit => return self.quit(now),
            Command::Direct(user) => Ok(Effect::OpenDirect(user)),
            Command::Group { title, users } => Ok(Effect::OpenGroup { title, users }),
            Command::Add(users) => in_group(open).map(|convo| Effect::Add { convo, users }),
            Command::Remove(user) => in_group(open).map(|convo| Effect::Remove { convo, user }),
            Command::Rename(title) => in_group(open).map(|convo| Effect::Rename { convo, title }),
            Command::Leave => in_group(open).map(Effect::Leave),
        };
        match effect {
            Ok(effect) => self.effects.push(effect),
            Err(why) => {
                self.editor.set(line);
                self.say(why.into(), now);
            }
        }
    }

    /// Sends what `line` says; if it cannot be sent, the line stays to be mended.
    fn send(&mut self, line: String, body: String, reply_to: Option<Seq>, now: Instant) {
        let refused = match (self.open, tertulia_protocol::rules::body(&body)) {
            (None, _) => "no conversation is open; /direct USER opens one".into(),
            (_, Err(violation)) => violation.detail,
            (Some(id), Ok(())) => {
                let Some(convo) = self.convos.get_mut(&id) else { return };
                let local = self.next_local;
                self.next_local += 1;
                convo.scroll = 0;
                convo.pending.push_back(Pending {
                    local,
                    client_seq: None,
                    body: body.clone(),
                    reply_to,
                    state: PendingState::Sending,
                });
                self.effects.push(Effect::Send { local, convo: id, body, reply_to });
                return self.read(id);
            }
        };
        self.editor.set(line);
        self.say(refused, now);
    }

    /// Leaves, unless something would be lost; who asks again means it.
    fn quit(&mut self, now: Instant) {
        let unsent = self.convos.values().flat_map(|convo| &convo.pending);
        let unsent = unsent.filter(|pending| pending.state == PendingState::Sending).count();
        self.over = unsent == 0 || self.quit_asked;
        if !self.over {
            self.quit_asked = true;
            self.say(format!("{unsent} messages are not sent yet and would be lost; once more to quit"), now);
        }
    }

    fn say(&mut self, text: String, now: Instant) {
        self.notice = Some(text);
        self.notice_until = Some(now + NOTICE_FOR);
    }

    // People.

    fn meet(&mut self, user: &User) {
        let presence = self.people.remove(&user.id).and_then(|person| person.presence);
        let (name, username) = (user.display_name.clone(), user.username.clone());
        self.people.insert(user.id, Person { name, username, presence });
    }

    fn ask_for(&mut self, id: UserId) {
        if !self.people.contains_key(&id) && self.asked.insert(id) {
            self.effects.push(Effect::LoadUser(id));
        }
    }

    fn ask_for_people_of(&mut self, id: ConvoId) {
        let Some(convo) = self.convos.get(&id) else { return };
        let mut people: Vec<UserId> = convo.entries.values().map(|entry| entry.sender_id).collect();
        people.extend(convo.last_message.iter().map(|entry| entry.sender_id));
        people.extend(convo.members.keys());
        for entry in convo.entries.values() {
            match &entry.kind {
                EntryKind::MemberAdded { user_ids } | EntryKind::MemberRemoved { user_ids } => {
                    people.extend(user_ids.iter().take(5));
                }
                EntryKind::RoleChanged { user_id, .. } => people.push(*user_id),
                _ => {}
            }
        }
        people.sort_unstable();
        people.dedup();
        for person in people {
            self.ask_for(person);
        }
    }
}

#[cfg(test)]
pub(in crate::chat) mod tests;
