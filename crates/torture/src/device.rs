//! A device: its login, what it has sent and knows, and the calls that all kinds of devices make.
//!
//! Everything it does and is told goes into the history. What can be judged on the spot is judged here: a retry
//! that is answered with another place, another content that is taken for the same message, a session that is
//! lost although nobody has revoked it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tertulia_client::api::{Api, From};
use tertulia_client::error::{Error as ClientError, SessionLost};
use tertulia_history::event::{
    Ack, Body, Done, Fail, Inbox, Item, Mark, Page, Read, ReadInbox, Refuse, Send,
};
use tertulia_history::{Recorder, Seen};
use tertulia_protocol::entry::{ConversationType, Role};
use tertulia_protocol::event::ClientEvent;
use tertulia_protocol::rest::{self, Conversation, SendMessage};
use tertulia_protocol::{ClientSeq, Code, ConvoId, Seq};
use tokio::time::Instant;

use crate::board::{Board, Life, Phase};
use crate::chance::Chance;
use crate::world::{Login, World};

/// Messages that were acked and are remembered, to be sent again.
const SETTLED_MAX: usize = 64;
/// Who has not looked for longer was busy, and tells now what was long ago.
const LISTENS_EVERY: Duration = Duration::from_secs(2);
/// How long a connection suffers after it was left unread.
const SLOW_MORE: Duration = Duration::from_secs(10);
/// The wait after a refusal that names none.
const REFUSED_WAIT: Duration = Duration::from_millis(300);

/// A message that this device has sent, or is about to.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) convo: ConvoId,
    pub(crate) n: ClientSeq,
    pub(crate) body: Arc<str>,
    /// Not before.
    pub(crate) due: Instant,
}

impl Message {
    pub(crate) fn to_call(&self) -> SendMessage {
        SendMessage {
            client_seq: self.n,
            body: self.body.as_ref().to_owned(),
            reply_to: None,
            media_ids: Vec::new(),
        }
    }

    pub(crate) fn to_event(&self) -> ClientEvent {
        ClientEvent::SendMessage {
            convo_id: self.convo,
            client_seq: self.n,
            body: self.body.as_ref().to_owned(),
            media_ids: Vec::new(),
            reply_to: None,
        }
    }
}

/// What a device knows of a conversation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) kind: ConversationType,
    pub(crate) role: Role,
    /// The newest entry that it has heard of.
    pub(crate) head: Seq,
}

/// The login is of no use any more: another is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LoggedOut;

/// A device, whoever drives it.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) world: Arc<World>,
    pub(crate) number: usize,
    pub(crate) chance: Chance,
    pub(crate) login: Arc<Login>,
    pub(crate) api: Api,
    next: u64,
    /// Sent, and nobody knows yet what has become of them.
    pub(crate) pending: BTreeMap<ClientSeq, Message>,
    pub(crate) settled: VecDeque<(Message, Seq)>,
    pub(crate) convos: BTreeMap<ConvoId, Known>,
    /// Until then it may lose connections because it has left them unread.
    pub(crate) slow_until: Instant,
    /// When it looked at its connections last.
    pub(crate) listened: Instant,
}

impl Device {
    /// Logs in and looks into the inbox.
    pub(crate) async fn new(world: Arc<World>, number: usize) -> Result<Self, ClientError> {
        let login = world.log_in(number).await?;
        let api = Api::new(login.session.clone());
        let mut device = Self {
            chance: Chance::stream(world.seed, "device", number),
            world,
            number,
            login,
            api,
            next: 1,
            pending: BTreeMap::new(),
            settled: VecDeque::new(),
            convos: BTreeMap::new(),
            slow_until: Instant::now(),
            listened: Instant::now(),
        };
        drop(device.read_inbox().await);
        Ok(device)
    }

    /// After its login was ended: a new one, which is another device and knows nothing of the old one's messages.
    pub(crate) async fn log_in_again(&mut self) -> Result<(), ClientError> {
        self.count("logins anew");
        self.count_many("sends whose outcome was never told", self.pending.len());
        self.pending.clear();
        self.settled.clear();
        self.login = self.world.log_in(self.number).await?;
        self.api = Api::new(self.login.session.clone());
        drop(self.read_inbox().await);
        Ok(())
    }

    pub(crate) fn board(&self) -> &Board {
        &self.world.board
    }

    /// Its socket stands; to which life of which server.
    pub(crate) fn connected(&self) -> Life {
        let life = self.board().life(self.world.socket_at(self.number));
        self.board().connected(self.number, life);
        life
    }

    /// It leaves connections unread until then: what a server says last may be lost, and it may be taken for gone.
    pub(crate) fn reads_slowly(&mut self, until: Instant) {
        self.slow_until = self.slow_until.max(until + SLOW_MORE);
    }

    /// A connection has ended without a word of the server.
    pub(crate) fn lost_connection(&self, how: impl std::fmt::Display) {
        if Instant::now() < self.slow_until || self.listened.elapsed() > LISTENS_EVERY {
            self.count("connections lost by slow readers");
        } else {
            self.complain("connections lost", how);
        }
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.world.recorder
    }

    pub(crate) fn count(&self, what: &'static str) {
        self.board().count(what);
    }

    pub(crate) fn count_many(&self, what: &'static str, how_many: usize) {
        self.board().count_many(what, how_many as u64);
    }

    /// Something that may be while something is done to the server, with how it was told.
    pub(crate) fn complain(&self, what: &'static str, how: impl std::fmt::Display) {
        self.board().complain(what, format_args!("device {}: {how}", self.number));
    }

    pub(crate) fn find(&self, what: &str) {
        self.board().find(format!("device {} ({}): {what}", self.number, self.login.device_id));
    }

    pub(crate) fn is_settling(&self) -> bool {
        *self.board().phase().borrow() != Phase::Load
    }

    /// A conversation to do something in.
    pub(crate) fn some_convo(&mut self) -> Option<(ConvoId, Known)> {
        let place = self.chance.below(self.convos.len());
        self.convos.iter().nth(place).map(|(id, known)| (*id, *known))
    }

    /// A new message, of any length.
    pub(crate) fn compose(&mut self, convo: ConvoId) -> Message {
        let n = ClientSeq::new(self.next);
        self.next += 1;
        let length = match self.chance.below(100) {
            0 => self.chance.within(4_000..=50_000),
            1..=20 => self.chance.within(200..=2_000),
            _ => self.chance.within(0..=120),
        };
        let mut body = format!("{} of {} ", n, self.login.device_id);
        let letters = ["x", "ñ", "茶", "🫖", " ", "\"", "\\", "\n"];
        while (body.len() as u64) < length {
            body.push_str(letters[self.chance.below(letters.len())]);
        }
        Message { convo, n, body: body.into(), due: Instant::now() }
    }

    /// The next number for a client that counts for itself, which may use `count` of them.
    pub(crate) fn reserve_numbers(&mut self, count: u64) -> ClientSeq {
        let first = ClientSeq::new(self.next);
        self.next += count;
        first
    }

    // What a send has come to.

    /// Writes down that an attempt goes out, on a connection or by a call.
    pub(crate) fn attempted(&self, message: &Message, c: Option<u64>) {
        let Message { convo, n, body, .. } = message;
        self.recorder().record(Send {
            c,
            device: self.login.device_id,
            convo: *convo,
            n: *n,
            body: Body::of(body),
        });
    }

    /// An ack has come, and is written down.
    pub(crate) fn acked(&mut self, convo: ConvoId, n: ClientSeq, seq: Seq) {
        if let Some(message) = self.pending.remove(&n) {
            if message.convo != convo {
                self.find(&format!("clientSeq {n} was sent to {} and acked in {convo}", message.convo));
            }
            self.board().acked();
            self.count("acked");
            if self.settled.len() >= SETTLED_MAX {
                self.settled.pop_front();
            }
            self.settled.push_back((message, seq));
        } else if let Some((_, first)) =
            self.settled.iter().find(|(message, _)| message.n == n && message.convo == convo)
        {
            self.count("retries answered as the first time");
            if *first != seq {
                self.find(&format!("clientSeq {n} in {convo} was acked as {first} and then as {seq}"));
            }
        }
    }

    /// A refusal has come, and is written down.
    pub(crate) fn refused(&mut self, convo: ConvoId, n: ClientSeq, code: Code, wait: Option<Duration>) {
        match code {
            Code::Unavailable | Code::RateLimited => {
                if code == Code::Unavailable {
                    self.board().unavailable();
                    self.complain("sends told to wait", convo);
                }
                if let Some(message) = self.pending.get_mut(&n) {
                    message.due = Instant::now() + wait.unwrap_or(REFUSED_WAIT).min(Duration::from_secs(3));
                }
            }
            // The login is over; the next one does not know this message.
            Code::Unauthenticated => {}
            Code::Forbidden | Code::NotFound => {
                self.count("sends refused for good");
                self.pending.remove(&n);
                if code == Code::NotFound {
                    self.convos.remove(&convo);
                }
            }
            Code::Conflict | Code::Invalid | Code::TooLarge => {
                self.pending.remove(&n);
                self.find(&format!("clientSeq {n} in {convo} was refused with {}", code.as_str()));
            }
        }
    }

    /// Sends by a call; the same message may have been sent before, in whatever way.
    pub(crate) async fn send_by_call(&mut self, message: Message) -> Result<(), LoggedOut> {
        let (convo, n) = (message.convo, message.n);
        let call = message.to_call();
        self.attempted(&message, None);
        if !self.settled.iter().any(|(settled, _)| settled.n == n) {
            self.pending.insert(n, message);
        }
        self.count("sends by REST");
        match self.api.send(convo, &call).await {
            Ok(entry) => {
                let device = self.login.device_id;
                self.recorder().record(Ack { c: None, device, convo, n, seq: entry.seq });
                self.acked(convo, n, entry.seq);
            }
            Err(ClientError::Refused { code, retry_after, .. }) => {
                self.recorder().record(Refuse { c: None, device: self.login.device_id, convo, n, code });
                self.refused(convo, n, code, retry_after);
                if code == Code::Unauthenticated {
                    self.lost("a send by REST was refused", false);
                    return Err(LoggedOut);
                }
            }
            Err(error) => {
                if let Some(message) = self.pending.get_mut(&n) {
                    message.due = Instant::now() + REFUSED_WAIT;
                }
                self.look_at(&error)?;
            }
        }
        Ok(())
    }

    /// The number of an acked message with another content: never taken for it, never a second message.
    pub(crate) async fn send_other_content(&mut self) -> Result<(), LoggedOut> {
        let place = self.chance.below(self.settled.len());
        let Some((message, seq)) = self.settled.get(place).cloned() else { return Ok(()) };
        let other = SendMessage { body: format!("other than {}", message.body.len()), ..message.to_call() };
        match self.api.send(message.convo, &other).await {
            Ok(entry) => self.find(&format!(
                "clientSeq {} in {}, acked as {seq}, was accepted with another content, as {}",
                message.n, message.convo, entry.seq
            )),
            Err(error) if error.is_conflict() => self.count("other contents refused"),
            Err(error) => self.look_at(&error)?,
        }
        Ok(())
    }

    /// Sends an acked message again by a call.
    pub(crate) async fn send_again(&mut self) -> Result<(), LoggedOut> {
        let place = self.chance.below(self.settled.len());
        match self.settled.get(place).cloned() {
            Some((message, _)) => self.send_by_call(message).await,
            None => Ok(()),
        }
    }

    /// Sends by calls what is due and not known to be stored, until it is known or the call fails.
    pub(crate) async fn retry_by_calls(&mut self) -> Result<(), LoggedOut> {
        let now = Instant::now();
        let due: Vec<Message> = self.pending.values().filter(|message| message.due <= now).cloned().collect();
        for message in due {
            let n = message.n;
            self.count("retries of uncertain sends");
            self.send_by_call(message).await?;
            if self.pending.contains_key(&n) {
                // There is no server now, or it cannot store: the others can wait, too.
                break;
            }
        }
        Ok(())
    }

    // Reads.

    /// Reads the whole inbox, and knows from then on what there is.
    pub(crate) async fn read_inbox(&mut self) -> Result<Vec<Conversation>, LoggedOut> {
        let mut cursor = None;
        let mut all = Vec::new();
        loop {
            let op = self.recorder().op();
            self.recorder().record(ReadInbox { op, device: self.login.device_id });
            match self.api.inbox(cursor.as_deref(), rest_page(&mut self.chance)).await {
                Ok(page) => {
                    self.count("inbox pages read");
                    let items = page.items.iter().map(Item::of).collect();
                    self.recorder().record(Inbox { op, items });
                    all.extend(page.items);
                    cursor = page.next_cursor;
                    if cursor.is_none() {
                        break;
                    }
                }
                Err(error) => {
                    self.failed(op, &error)?;
                    return Ok(Vec::new());
                }
            }
        }
        for convo in &all {
            let known = self.convos.entry(convo.id).or_insert(Known {
                kind: convo.kind,
                role: convo.role,
                head: convo.last_seq,
            });
            *known = Known { kind: convo.kind, role: convo.role, head: known.head.max(convo.last_seq) };
        }
        Ok(all)
    }

    /// Reads a page of history; `None` if there was no answer.
    pub(crate) async fn read_history(
        &mut self,
        convo: ConvoId,
        from: From,
        limit: usize,
    ) -> Result<Option<rest::HistoryPage>, LoggedOut> {
        let op = self.recorder().op();
        let (after, before) = match from {
            From::Newest => (None, None),
            From::After(seq) => (Some(seq), None),
            From::Before(seq) => (None, Some(seq)),
        };
        self.recorder().record(Read { op, device: self.login.device_id, convo, after, before, limit });
        match self.api.history(convo, from, limit).await {
            Ok(page) => {
                self.count("history pages read");
                let entries = page.items.iter().map(Seen::of).collect();
                self.recorder().record(Page { op, entries, more: page.has_more });
                Ok(Some(page))
            }
            Err(error) => {
                if error.is_not_found() {
                    self.convos.remove(&convo);
                }
                self.failed(op, &error)?;
                Ok(None)
            }
        }
    }

    /// Reads some page of some conversation.
    pub(crate) async fn read_somewhere(&mut self) -> Result<(), LoggedOut> {
        let Some((convo, known)) = self.some_convo() else { return Ok(()) };
        let seq = Seq::new(self.chance.within(0..=known.head.get()));
        let from = match self.chance.below(3) {
            0 => From::Newest,
            1 => From::After(seq),
            _ => From::Before(seq.next()),
        };
        let limit = rest_page(&mut self.chance);
        self.read_history(convo, from, limit).await.map(drop)
    }

    /// What a mark may say: something up to what this device has heard of.
    pub(crate) fn some_mark(&mut self) -> Option<(ConvoId, rest::Mark)> {
        let (convo, known) = self.some_convo()?;
        let head = known.head.get();
        let low = head.saturating_sub(20);
        let seq = Some(Seq::new(self.chance.within(low..=head)));
        let read = self.chance.percent(60);
        Some((
            convo,
            rest::Mark {
                delivered_seq: seq.filter(|_| !read || self.chance.percent(20)),
                read_seq: seq.filter(|_| read),
            },
        ))
    }

    /// Marks by a call.
    pub(crate) async fn mark_by_call(&mut self) -> Result<(), LoggedOut> {
        let Some((convo, mark)) = self.some_mark() else { return Ok(()) };
        let op = self.marking(convo, mark);
        self.count("marks by REST");
        match self.api.mark(convo, &mark).await {
            Ok(()) => self.recorder().record(Done { op }),
            Err(error) => self.failed(op, &error)?,
        }
        Ok(())
    }

    /// Writes down that a mark goes out.
    pub(crate) fn marking(&self, convo: ConvoId, mark: rest::Mark) -> u64 {
        let op = self.recorder().op();
        self.recorder().record(Mark {
            op,
            device: self.login.device_id,
            convo,
            delivered: mark.delivered_seq,
            read: mark.read_seq,
        });
        op
    }

    // Failures.

    /// Writes down that a call has failed.
    pub(crate) fn failed(&mut self, op: u64, error: &ClientError) -> Result<(), LoggedOut> {
        let code = match error {
            ClientError::Refused { code, .. } => Some(*code),
            _ => None,
        };
        self.recorder().record(Fail { op, code });
        self.look_at(error)
    }

    /// Looks at an error that is no part of what was wanted.
    pub(crate) fn look_at(&self, error: &ClientError) -> Result<(), LoggedOut> {
        match error {
            ClientError::Refused { code: Code::Unauthenticated, .. } | ClientError::SessionLost(_) => {
                self.lost(
                    error.to_string(),
                    matches!(error, ClientError::SessionLost(SessionLost::RefreshUncertain)),
                );
                Err(LoggedOut)
            }
            ClientError::Refused { code: Code::Unavailable, .. } => {
                self.complain("calls told to wait", error);
                Ok(())
            }
            ClientError::Refused { code: Code::Invalid, detail, .. } => {
                self.find(&format!("a call was refused as invalid: {detail}"));
                Ok(())
            }
            ClientError::Refused { .. } => {
                self.count("calls refused");
                Ok(())
            }
            ClientError::Unreachable(_) | ClientError::NotConnected(_) => {
                self.complain("calls without an answer", error);
                Ok(())
            }
            ClientError::Unexpected { status, detail } => {
                // A connection that ends in the middle of an answer gives this, too.
                self.complain("answers that cannot be understood", error);
                if *status == 500 {
                    self.find(&format!("a call was answered with 500: {detail}"));
                }
                Ok(())
            }
        }
    }

    /// The login has ended.
    pub(crate) fn lost(&self, how: impl AsRef<str>, uncertain: bool) {
        if !self.login.is_revoking() && !uncertain {
            self.find(&format!("the login was lost although nobody has revoked it: {}", how.as_ref()));
        }
        self.login.revoking.store(true, Ordering::SeqCst);
    }
}

/// The size of a page, small ones too.
pub(crate) fn rest_page(chance: &mut Chance) -> usize {
    if chance.percent(20) { chance.within(1..=10) as usize } else { 200 }
}
