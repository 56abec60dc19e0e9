//! The chat as lines, for pipes: what is said comes out on stdout, what is to be said goes in on stdin.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead as _, Write as _};

use anyhow::{Context as _, bail};
use tertulia_client::api::{Api, From};
use tertulia_client::backoff::{Backoff, retry};
use tertulia_client::client::{Client, Events};
use tertulia_client::event::Event;
use tertulia_protocol::entry::{ConversationType, EntryKind};
use tertulia_protocol::event::ConversationNews;
use tertulia_protocol::rest::{Conversation, FoundMessage, Mark, SearchOrder};
use tertulia_protocol::rules::PAGE_MAX;
use tertulia_protocol::{ClientSeq, ConvoId, Entry, Seq, UserId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::app::{Done, Effect};
use super::command::{self, Command};
use super::{safe, work};

/// Lines that were read from stdin and wait; the pipe waits with them.
const LINES_MAX: usize = 16;

/// Before the first entry: all that the client hands over is new.
const NOTHING: Seq = Seq::new(0);

/// Talks until stdin ends and everything is stored; with `follow` until it is interrupted.
///
/// # Errors
/// If the session is lost, or a message or a command was refused.
pub(super) async fn run(
    api: Api,
    client: Client,
    events: Events,
    follow: bool,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut plain = Plain::new(api, client.clone(), follow);
    let outcome = tokio::select! {
        outcome = plain.talk(events) => outcome,
        () = shutdown.cancelled() => Ok(()),
    };
    client.close().await;
    plain.mark_read().await;
    outcome?;
    match plain.refused {
        0 => Ok(()),
        count => bail!("{count} lines were refused"),
    }
}

/// A conversation, as far as lines need it.
struct Convo {
    title: String,
    shown: Seq,
}

struct Plain {
    api: Api,
    client: Client,
    me: UserId,
    follow: bool,
    convos: HashMap<ConvoId, Convo>,
    names: HashMap<UserId, String>,
    /// Where a line without a name goes.
    open: Option<ConvoId>,
    unsettled: HashSet<(ConvoId, ClientSeq)>,
    /// What was printed; at the end it is marked once more, for a mark of the client may be on its way still.
    read: HashMap<ConvoId, Seq>,
    refused: usize,
}

impl Plain {
    fn new(api: Api, client: Client, follow: bool) -> Self {
        let me = api.session().user_id();
        Self {
            api,
            client,
            me,
            follow,
            convos: HashMap::new(),
            names: HashMap::new(),
            open: None,
            unsettled: HashSet::new(),
            read: HashMap::new(),
            refused: 0,
        }
    }

    async fn talk(&mut self, mut events: Events) -> anyhow::Result<()> {
        // Live from here on; what was said before and not read comes first.
        loop {
            match events.next().await.context("the client has stopped")? {
                Event::Connected { .. } => break,
                event => self.event(event).await?,
            }
        }
        note("connected");
        self.read_unread().await?;
        let mut lines = stdin_lines();
        let mut open = true;
        loop {
            if !open && !self.follow && self.unsettled.is_empty() {
                return Ok(());
            }
            tokio::select! {
                event = events.next() => self.event(event.context("the client has stopped")?).await?,
                line = lines.recv(), if open => match line {
                    Some(line) => {
                        if !self.line(&line).await? {
                            open = false;
                            self.follow = false;
                        }
                    }
                    None => open = false,
                },
            }
        }
    }

    async fn event(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Connected { .. } => note("connected"),
            Event::Disconnected { reason, retry_in } => {
                note(&format!("not connected, again in {:.1} s ({reason})", retry_in.as_secs_f64()));
            }
            Event::SessionLost(lost) => return Err(lost.into()),
            Event::Entry { entry, .. } => self.show(entry).await?,
            Event::Conversation(ConversationNews::Whole(conversation)) => {
                self.meet(*conversation, NOTHING).await;
            }
            Event::Conversation(ConversationNews::Left { id, .. }) => {
                self.convos.remove(&id);
            }
            // Its entry settles it: that may wait for one before it.
            Event::SendAcked { .. } => {}
            Event::SendFailed { convo_id, client_seq, detail, .. } => {
                self.unsettled.remove(&(convo_id, client_seq));
                self.refuse(&detail);
            }
            Event::SendDelayed { retry_in, .. } => {
                note(&format!("the server asks to wait {:.1} s", retry_in.as_secs_f64()));
            }
            Event::Refused { detail, .. } => note(&detail),
            Event::Conversation(_)
            | Event::Receipt { .. }
            | Event::Typing { .. }
            | Event::Presence { .. } => {}
        }
        Ok(())
    }

    /// Shows what others have said since this user last read.
    async fn read_unread(&mut self) -> anyhow::Result<()> {
        let mut cursor: Option<String> = None;
        loop {
            let api = &self.api;
            let read = || api.inbox(cursor.as_deref(), PAGE_MAX);
            let page = retry(Backoff::CONNECT, |error, _| note(&error.to_string()), read).await?;
            for conversation in page.items {
                let (id, unread) = (conversation.id, conversation.unread_count);
                let (read, last) = (conversation.read_seq, conversation.last_seq);
                self.meet(conversation, last).await;
                if unread > 0 {
                    self.catch_up(id, read, last).await?;
                }
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    async fn catch_up(&mut self, id: ConvoId, read: Seq, last: Seq) -> anyhow::Result<()> {
        let mut after = read;
        if let Some(convo) = self.convos.get_mut(&id) {
            convo.shown = read;
        }
        while after < last {
            let api = &self.api;
            let read = || api.history(id, From::After(after), PAGE_MAX);
            let page = retry(Backoff::CONNECT, |error, _| note(&error.to_string()), read).await?;
            let Some(newest) = page.items.last() else { break };
            after = newest.seq;
            for entry in page.items {
                self.show(entry).await?;
            }
        }
        Ok(())
    }

    /// Prints an entry, once, and marks it as read.
    async fn show(&mut self, entry: Entry) -> anyhow::Result<()> {
        let (id, seq) = (entry.convo_id, entry.seq);
        if let Some(client_seq) = entry.client_seq.filter(|_| entry.sender_id == self.me) {
            self.unsettled.remove(&(id, client_seq));
        }
        if !self.convos.contains_key(&id) {
            match self.api.conversation(id).await {
                Ok(conversation) => self.meet(conversation, seq.previous()).await,
                Err(error) => {
                    note(&error.to_string());
                    return Ok(());
                }
            }
        }
        let name = self.name(entry.sender_id).await;
        let Some(convo) = self.convos.get_mut(&id) else { return Ok(()) };
        if seq <= convo.shown {
            return Ok(());
        }
        convo.shown = seq;
        if let EntryKind::Renamed { title } = &entry.kind {
            convo.title.clone_from(title);
        }
        let title = safe::line(&convo.title).into_owned();
        match &entry.kind {
            EntryKind::Text { body, .. } => print(&format!("{title} #{seq} {name}: {}", safe::line(body)))?,
            other => note(&format!("{title} #{seq} {name}: {}", kind(other))),
        }
        if entry.sender_id != self.me {
            self.read.insert(id, seq);
            self.client.mark(id, Some(seq), Some(seq)).await?;
        }
        Ok(())
    }

    /// Learns of a conversation; of a new one nothing up to `shown` is printed.
    async fn meet(&mut self, conversation: Conversation, shown: Seq) {
        let Conversation { id, kind, title, mut members, .. } = conversation;
        if kind == ConversationType::Direct && members.is_none() {
            // Who the other one is makes its title.
            members = self.api.conversation(id).await.ok().and_then(|conversation| conversation.members);
        }
        let peer = members.iter().flatten().map(|member| member.user_id).find(|user| *user != self.me);
        let title = match (title, kind, peer) {
            (Some(title), ..) => title,
            (None, ConversationType::Direct, Some(peer)) => self.name(peer).await,
            (None, ConversationType::Direct, None) => "notes".into(),
            (None, ConversationType::Group, _) => id.to_string(),
        };
        self.convos
            .entry(id)
            .and_modify(|convo| convo.title.clone_from(&title))
            .or_insert(Convo { title, shown });
    }

    async fn mark_read(&self) {
        for (id, seq) in &self.read {
            let mark = Mark { delivered_seq: None, read_seq: Some(*seq) };
            match self.api.mark(*id, &mark).await {
                // One is no longer in it.
                Err(error) if error.is_not_found() => {}
                Err(error) => note(&format!("what was printed may come again: {error}")),
                Ok(()) => {}
            }
        }
    }

    /// Takes a line of stdin; says whether to go on.
    async fn line(&mut self, line: &str) -> anyhow::Result<bool> {
        if line.trim().is_empty() {
            return Ok(true);
        }
        if !line.starts_with('/')
            && let Some((name, text)) = line.split_once(':')
            && !name.trim().is_empty()
        {
            match self.find(name.trim()).await {
                Some(id) => {
                    self.open = Some(id);
                    self.send(text.strip_prefix(' ').unwrap_or(text), None).await?;
                }
                None => self.refuse(&format!("there is no user and no group {}", name.trim())),
            }
            return Ok(true);
        }
        let effect = match (command::parse(line), self.open) {
            (Err(why), _) => {
                self.refuse(&why);
                return Ok(true);
            }
            (Ok(Command::Quit), _) => return Ok(false),
            (Ok(Command::Help), _) => {
                for (form, what) in command::HELP {
                    note(&format!("{form:<22} {what}"));
                }
                return Ok(true);
            }
            (Ok(Command::Search(q)), _) => {
                self.search(&q).await?;
                return Ok(true);
            }
            (Ok(Command::Direct(user)), _) => Effect::OpenDirect(user),
            (Ok(Command::Group { title, users }), _) => Effect::OpenGroup { title, users },
            (Ok(_), None) => {
                self.refuse("to whom? write NAME: text");
                return Ok(true);
            }
            (Ok(Command::Say(text)), Some(_)) => {
                self.send(&text, None).await?;
                return Ok(true);
            }
            (Ok(Command::Reply { seq, text }), Some(_)) => {
                self.send(&text, Some(Seq::new(seq))).await?;
                return Ok(true);
            }
            (Ok(Command::Add(users)), Some(convo)) => Effect::Add { convo, users },
            (Ok(Command::Remove(user)), Some(convo)) => Effect::Remove { convo, user },
            (Ok(Command::Rename(title)), Some(convo)) => Effect::Rename { convo, title },
            (Ok(Command::Leave), Some(convo)) => Effect::Leave(convo),
            (Ok(Command::Who), Some(convo)) => {
                let conversation = self.api.conversation(convo).await?;
                for member in conversation.members.iter().flatten() {
                    let name = self.name(member.user_id).await;
                    note(&format!("{name} ({:?})", member.role).to_lowercase());
                }
                return Ok(true);
            }
        };
        self.call(effect).await?;
        Ok(true)
    }

    /// Prints what is found, the newest last, as all that is printed.
    async fn search(&mut self, q: &str) -> anyhow::Result<()> {
        let found = match self.api.search(q, SearchOrder::Newest, None, work::RESULTS_PAGE).await {
            Ok(found) => found,
            Err(error) => {
                self.refuse(&error.to_string());
                return Ok(());
            }
        };
        let more = if found.next_cursor.is_some() { " and more" } else { "" };
        note(&format!("{q}: {}{more}", found.items.len()));
        for FoundMessage { message, snippet } in found.items.iter().rev() {
            let name = self.name(message.sender_id).await;
            let title = self.convos.get(&message.convo_id).map_or("?", |convo| &convo.title);
            print(&format!("{} #{} {name}: {}", safe::line(title), message.seq, safe::line(&snippet.text)))?;
        }
        Ok(())
    }

    async fn call(&mut self, effect: Effect) -> anyhow::Result<()> {
        match work::call(&self.api, effect).await {
            Done::Conversation { conversation, open } => {
                let id = conversation.id;
                self.meet(*conversation, NOTHING).await;
                if open {
                    self.open = Some(id);
                }
            }
            Done::Left(id) => {
                self.convos.remove(&id);
                self.open = None;
            }
            Done::Failed { why, .. } => self.refuse(&why),
            _ => {}
        }
        Ok(())
    }

    /// The conversation of that title, else the direct one with the user of that name.
    async fn find(&mut self, name: &str) -> Option<ConvoId> {
        let titled = self.convos.iter().find(|(_, convo)| convo.title.eq_ignore_ascii_case(name));
        if let Some((id, _)) = titled {
            return Some(*id);
        }
        let user = name.trim_start_matches('@').to_ascii_lowercase();
        let conversation = work::direct(&self.api, &user).await.ok()?;
        let id = conversation.id;
        self.meet(conversation, NOTHING).await;
        Some(id)
    }

    async fn send(&mut self, text: &str, reply_to: Option<Seq>) -> anyhow::Result<()> {
        let Some(id) = self.open else { return Ok(()) };
        if let Err(violation) = tertulia_protocol::rules::body(text) {
            self.refuse(&violation.detail);
            return Ok(());
        }
        let client_seq = self.client.send(id, text, reply_to).await?;
        self.unsettled.insert((id, client_seq));
        Ok(())
    }

    /// A user's name; the beginning of his id if it cannot be had.
    async fn name(&mut self, id: UserId) -> String {
        if let Some(name) = self.names.get(&id) {
            return name.clone();
        }
        match self.api.user(id).await {
            Ok(user) => {
                let name = safe::line(&user.username).into_owned();
                self.names.insert(id, name.clone());
                name
            }
            Err(_) => format!("{:.8}…", id.to_string()),
        }
    }

    fn refuse(&mut self, why: &str) {
        self.refused += 1;
        note(why);
    }
}

/// A change entry in a word, as the contract calls it.
fn kind(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::Text { .. } => "text",
        EntryKind::Created { .. } => "created",
        EntryKind::MemberAdded { .. } => "member_added",
        EntryKind::MemberRemoved { .. } => "member_removed",
        EntryKind::RoleChanged { .. } => "role_changed",
        EntryKind::Renamed { .. } => "renamed",
        EntryKind::SettingsChanged { .. } => "settings_changed",
    }
}

/// The lines of stdin, read on a thread of their own because that cannot be interrupted.
fn stdin_lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(LINES_MAX);
    std::thread::spawn(move || {
        for line in io::stdin().lock().split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into_owned();
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// What was said, on stdout.
fn print(line: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot write what was said")
}

/// What goes on, on stderr.
#[expect(clippy::print_stderr, reason = "beside what was said, for people")]
fn note(text: &str) {
    eprintln!("* {}", safe::line(text));
}
