//! The client's logic, without I/O: it owns no socket, task, clock or randomness.
//!
//! Questions: `is_over`, `takes_commands`, `poll_timeout`. Inputs: the `handle_*` methods and the commands;
//! each takes `now`, which never runs back. Outputs: [`Machine::poll`]. The order of calls: any input, then
//! `poll` until it gives nothing, then wait for the next input or for `poll_timeout`.
//!
//! Invariants: M1: on a connection the first frame is `connect` or `resume`, and nothing follows before
//! `ready`. M2: a position is kept only after what it covers was taken in. M3: where a position is not known
//! to the server, the inbox is read and every conversation filled up before anything is sent again.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use tertulia_protocol::entry::EntryKind;
use tertulia_protocol::event::{ClientEvent, CloseReason, ConversationNews, OwnPresence, ServerEvent};
use tertulia_protocol::rest::{Conversation, HistoryPage, Page};
use tertulia_protocol::rules::{FRAME_BYTES_MAX, PRESENCE_SUBSCRIPTIONS_MAX};
use tertulia_protocol::{ClientSeq, Code, ConvoId, DeviceId, Entry, Seq, Timestamp, UserId};

use crate::backoff::{Backoff, TOLD_MAX};
use crate::error::SessionLost;
use crate::event::{Disconnect, Event, Via};
use crate::marks::Marks;
use crate::outbox::{Outbox, Outgoing};
use crate::timeline::{Read, Timeline};

/// How long the server may take from the first frame to `ready`.
const READY_PATIENCE: Duration = Duration::from_secs(15);
/// A connection that lived this long counts as good: the next retry is a quick one.
const GOOD_CONNECTION: Duration = Duration::from_secs(1);
/// A `typing` that goes on is said again this often.
const TYPING_EVERY: Duration = Duration::from_secs(5);
/// The most pages of history that are read at once.
const READS_MAX: usize = 2;
/// The waits of reads that failed without a number from the server.
const READ_BACKOFF: Backoff = Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(15) };
/// After one refused token a refreshed one is tried, then a new login; then it is over.
const REFUSALS_MAX: u32 = 2;
/// The wait after a refusal that names none.
const REFUSED_WAIT: Duration = Duration::from_millis(500);

/// What entries an application wants of conversations that were there before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Only what is written from now on.
    Head,
    /// Everything that the user may see, from the first entry.
    Beginning,
}

/// What the machine is told at its birth.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) start: Start,
    pub(crate) in_flight_max: usize,
    pub(crate) in_flight_per_convo_max: usize,
    pub(crate) outbox_max: usize,
}

/// What the driver does for the machine.
pub(crate) enum Action {
    /// Open a socket and say hello; drops the one there was.
    Open(Hello),
    /// Send a frame.
    Send(ClientEvent),
    /// Drop the socket.
    Close,
    /// Read a page of history.
    ReadHistory(ConvoId, Read),
    /// Read a page of the inbox.
    ReadInbox(InboxRead),
    /// Tell the application.
    Emit(Event),
}

/// A page of the inbox to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InboxRead {
    /// Which reading it is part of; the answer names it again.
    pub(crate) round: u64,
    pub(crate) cursor: Option<String>,
}

/// The first frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hello {
    /// `connect` with the session's access token, of which the server has refused so many in a row.
    Connect { refusals: u32 },
    /// `resume`.
    Resume { resume_token: String, position: String },
}

impl Hello {
    /// Where it resumes from, if it does.
    pub(crate) fn position(&self) -> Option<&str> {
        match self {
            Self::Connect { .. } => None,
            Self::Resume { position, .. } => Some(position),
        }
    }
}

/// Why the socket is gone.
#[derive(Debug, Clone)]
pub(crate) struct Closed {
    pub(crate) reason: Disconnect,
    pub(crate) retry_after: Option<Duration>,
}

/// What came of a read.
#[derive(Debug)]
pub(crate) enum ReadFailure {
    /// It may work later; the server's number, if it gave one.
    Temporary(Option<Duration>),
    /// It will not.
    Final,
}

impl ReadFailure {
    /// The server's number.
    fn told(&self) -> Option<Duration> {
        match self {
            Self::Temporary(told) => told.map(|told| told.min(TOLD_MAX)),
            Self::Final => None,
        }
    }
}

/// Who tells of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// If a position was lost, what it has and we have not will not be pushed.
    ByInbox,
    /// What is new in it is pushed too.
    ByEvent,
}

#[derive(Debug)]
enum Phase {
    Waiting { until: Instant },
    Opening,
    Greeting { until: Instant },
    Ready(Ready),
    Over,
}

#[derive(Debug)]
struct Ready {
    device: DeviceId,
    heartbeat: Duration,
    since: Instant,
    heard: Instant,
    spoke: Instant,
}

/// Where the reading of the inbox stands.
#[derive(Debug, PartialEq, Eq)]
enum Inbox {
    /// Nothing to read.
    Known,
    Reading,
    /// The page that begins here is read at this time.
    Due(Option<String>, Instant),
}

#[derive(Debug)]
struct Resume {
    token: String,
    position: String,
}

/// The state of one client.
pub(crate) struct Machine {
    settings: Settings,
    phase: Phase,
    /// Waits of our own choice since the last good connection.
    attempt: u32,
    resume: Option<Resume>,
    /// How often in a row the server has refused who we are.
    refusals: u32,
    /// The session is another device's by now than the connection.
    moved: bool,
    user: Option<UserId>,
    device: Option<DeviceId>,
    inbox: Inbox,
    inbox_round: u64,
    inbox_failures: u32,
    /// The inbox was read to its end once: a conversation that is not known has begun since.
    inbox_known: bool,
    /// Since the inbox was read, a position was not known: entries were missed that nobody names.
    missed: bool,
    timelines: HashMap<ConvoId, Timeline>,
    /// Conversations of which something is missing.
    incomplete: BTreeSet<ConvoId>,
    reads: usize,
    outbox: Outbox,
    marks: Marks,
    typing: BTreeMap<ConvoId, Instant>,
    presence: Option<OwnPresence>,
    watched: BTreeSet<UserId>,
    actions: VecDeque<Action>,
}

impl Machine {
    /// A client that connects at once.
    pub(crate) fn new(settings: Settings, now: Instant) -> Self {
        Self {
            outbox: Outbox::new(settings.in_flight_max, settings.in_flight_per_convo_max),
            settings,
            phase: Phase::Waiting { until: now },
            attempt: 0,
            resume: None,
            refusals: 0,
            moved: false,
            user: None,
            device: None,
            inbox: Inbox::Known,
            inbox_round: 0,
            inbox_failures: 0,
            inbox_known: false,
            missed: false,
            timelines: HashMap::new(),
            incomplete: BTreeSet::new(),
            reads: 0,
            marks: Marks::default(),
            typing: BTreeMap::new(),
            presence: None,
            watched: BTreeSet::new(),
            actions: VecDeque::new(),
        }
    }

    /// Whether nothing will ever happen again.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Whether a socket is open and the server has not said yet that it serves it.
    pub(crate) fn is_greeting(&self) -> bool {
        matches!(self.phase, Phase::Greeting { .. })
    }

    /// Whether there is room for what a command may add.
    pub(crate) fn takes_commands(&self) -> bool {
        self.outbox.len() < self.settings.outbox_max
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let ready = match &self.phase {
            Phase::Waiting { until } | Phase::Greeting { until } => return Some(*until),
            Phase::Opening | Phase::Over => return None,
            Phase::Ready(ready) => ready,
        };
        let inbox = match &self.inbox {
            Inbox::Due(_, at) => Some(*at),
            _ => None,
        };
        let reads = if self.reads < READS_MAX {
            self.incomplete.iter().filter_map(|id| self.timelines.get(id)?.read_due(now)).min()
        } else {
            None
        };
        [
            Some(ready.silent_at()),
            Some(ready.ping_at()),
            inbox,
            reads,
            self.outbox.poll_timeout(),
            self.marks.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The next thing to do.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Action> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        if let Phase::Waiting { until } = self.phase
            && until <= now
        {
            self.phase = Phase::Opening;
            return Some(Action::Open(match &self.resume {
                Some(Resume { token, position }) => {
                    Hello::Resume { resume_token: token.clone(), position: position.clone() }
                }
                None => Hello::Connect { refusals: self.refusals },
            }));
        }
        if !matches!(self.phase, Phase::Ready(_)) {
            return None;
        }
        if let Inbox::Due(cursor, at) = &self.inbox
            && *at <= now
        {
            let cursor = cursor.clone();
            self.inbox = Inbox::Reading;
            return Some(Action::ReadInbox(InboxRead { round: self.inbox_round, cursor }));
        }
        if self.reads < READS_MAX {
            for id in &self.incomplete {
                if let Some(read) = self.timelines.get_mut(id).and_then(|timeline| timeline.poll_read(now)) {
                    self.reads += 1;
                    return Some(Action::ReadHistory(*id, read));
                }
            }
        }
        let frame = self.next_frame(now)?;
        if let Phase::Ready(ready) = &mut self.phase {
            ready.spoke = now;
        }
        Some(Action::Send(frame))
    }

    fn next_frame(&mut self, now: Instant) -> Option<ClientEvent> {
        let Phase::Ready(ready) = &self.phase else { return None };
        // M3: what may be stored already is not sent again before the log has been looked at.
        if self.inbox == Inbox::Known {
            let behind = |id| self.timelines.get(&id).is_some_and(Timeline::is_behind);
            let may_send = |id, doubtful: bool| !(doubtful && behind(id));
            if let Some(frame) = self.outbox.poll(ready.device, now, may_send) {
                return Some(frame);
            }
        }
        if let Some(frame) = self.marks.poll(now) {
            return Some(frame);
        }
        if ready.ping_at() <= now {
            self.marks.pinged();
            return Some(ClientEvent::Ping {});
        }
        None
    }

    // Commands.

    pub(crate) fn send(&mut self, message: Outgoing) {
        let Outgoing { convo_id, client_seq, .. } = message;
        self.typing.remove(&convo_id);
        if message.fits_a_frame() {
            return self.outbox.push(message);
        }
        // The server would close the connection over it, and over its repetition on the next one.
        let detail = format!("as JSON the message is over {FRAME_BYTES_MAX} bytes: split it into several");
        self.emit(Event::SendFailed { convo_id, client_seq, code: Code::TooLarge, detail });
    }

    pub(crate) fn mark(&mut self, convo_id: ConvoId, delivered: Option<Seq>, read: Option<Seq>) {
        self.marks.set(convo_id, delivered, read);
    }

    /// Without a connection it is dropped: it would be out of date.
    pub(crate) fn typing(&mut self, convo_id: ConvoId, active: bool, now: Instant) {
        if !matches!(self.phase, Phase::Ready(_)) {
            return;
        }
        let said = self.typing.get(&convo_id).copied();
        let news = if active { said.is_none_or(|at| at + TYPING_EVERY <= now) } else { said.is_some() };
        if news {
            if active {
                self.typing.insert(convo_id, now);
            } else {
                self.typing.remove(&convo_id);
            }
            self.say(ClientEvent::Typing { convo_id, active }, now);
        }
    }

    pub(crate) fn set_presence(&mut self, status: OwnPresence, now: Instant) {
        self.presence = Some(status);
        self.say(ClientEvent::PresenceSet { status }, now);
    }

    /// Watches as many as the server takes; the others are refused as it would refuse them.
    pub(crate) fn watch(&mut self, mut user_ids: Vec<UserId>, now: Instant) {
        let asked = user_ids.len();
        user_ids.retain(|id| {
            let room = self.watched.len() < PRESENCE_SUBSCRIPTIONS_MAX;
            self.watched.contains(id) || (room && self.watched.insert(*id))
        });
        if user_ids.len() < asked {
            let detail = format!("at most {PRESENCE_SUBSCRIPTIONS_MAX} users can be watched");
            self.emit(Event::Refused { code: Code::Invalid, detail, convo_id: None });
        }
        if !user_ids.is_empty() {
            self.say(ClientEvent::PresenceSubscribe { user_ids }, now);
        }
    }

    pub(crate) fn unwatch(&mut self, user_ids: Vec<UserId>, now: Instant) {
        for id in &user_ids {
            self.watched.remove(id);
        }
        self.say(ClientEvent::PresenceUnsubscribe { user_ids }, now);
    }

    /// Everything of a conversation after `seq` is to be handed over; without effect on one that is known.
    pub(crate) fn follow(&mut self, convo_id: ConvoId, after: Seq) {
        self.timelines.entry(convo_id).or_insert_with(|| {
            let mut timeline = Timeline::after(after);
            timeline.expect_more();
            timeline
        });
        self.incomplete.insert(convo_id);
    }

    // Inputs.

    /// The socket is open and hello is on its way.
    pub(crate) fn handle_opened(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Opening) {
            self.phase = Phase::Greeting { until: now + READY_PATIENCE };
        }
    }

    /// The socket could not be opened, or is gone. `roll` is drawn evenly from 0 to 1.
    pub(crate) fn handle_closed(&mut self, closed: Closed, now: Instant, roll: f64) {
        if self.is_over() {
            return;
        }
        match &closed.reason {
            // A revoked device that the session has left behind is no loss.
            Disconnect::Closed { code, .. } if *code == CloseReason::Revoked.code() && !self.moved => {
                return self.end(SessionLost::Revoked);
            }
            Disconnect::Closed { code, .. } if *code == CloseReason::Unauthenticated.code() => {
                self.refusals += 1;
                if self.refusals > REFUSALS_MAX {
                    return self.end(SessionLost::Expired);
                }
                // The token of a resume may have been too old; with a fresh one the inbox tells the rest.
                self.resume = None;
            }
            _ => {}
        }
        self.lose(closed.reason, closed.retry_after, now, roll);
    }

    /// A node has let the socket in and has turned it away, and there is another one to try at once.
    pub(crate) fn handle_turned_away(&mut self, reason: Disconnect, now: Instant) {
        if !self.is_over() {
            self.give_up(reason, Duration::ZERO, now);
        }
    }

    /// The session is `device`'s now: after a new login the next connection is that one's.
    pub(crate) fn handle_device(&mut self, device: DeviceId) {
        if self.device.is_some_and(|connected| connected != device) {
            self.moved = true;
            self.resume = None;
        }
    }

    /// There is no session any more.
    pub(crate) fn handle_session_lost(&mut self, lost: SessionLost) {
        self.end(lost);
    }

    /// Something that is no event arrived: a sign of life.
    pub(crate) fn handle_sign_of_life(&mut self, now: Instant) {
        if let Phase::Ready(ready) = &mut self.phase {
            ready.heard = now;
        }
    }

    /// A moment that [`poll_timeout`](Self::poll_timeout) named has come. `roll` is drawn evenly from 0 to 1.
    pub(crate) fn handle_timeout(&mut self, now: Instant, roll: f64) {
        self.outbox.handle_timeout(now);
        let silent = match &self.phase {
            Phase::Greeting { until } => *until <= now,
            Phase::Ready(ready) => ready.silent_at() <= now,
            _ => false,
        };
        if silent {
            self.lose(Disconnect::Silent, None, now, roll);
        }
    }

    /// An event of the server.
    pub(crate) fn handle_event(&mut self, event: ServerEvent, now: Instant, roll: f64) {
        self.handle_sign_of_life(now);
        match event {
            ServerEvent::Ready { user_id, device_id, resume_token, position, heartbeat_seconds, resumed } => {
                let heartbeat = Duration::from_secs(heartbeat_seconds.clamp(1, 3_600));
                self.resume = Some(Resume { token: resume_token, position });
                self.ready(user_id, device_id, heartbeat, resumed, now);
            }
            ServerEvent::MessageAck { convo_id, client_seq, server_seq, ts } => {
                self.acked(convo_id, client_seq, server_seq, ts, now);
            }
            ServerEvent::Message { entry, position } => {
                self.take(entry, Via::Push, now);
                self.moved_to(position);
            }
            ServerEvent::Gap { convo_id, from_seq, to_seq } => {
                self.timelines
                    .entry(convo_id)
                    .or_insert_with(|| match self.settings.start {
                        Start::Head => Timeline::after(from_seq.previous()),
                        Start::Beginning => Timeline::after(Seq::new(0)),
                    })
                    .gap(from_seq, to_seq);
                self.incomplete.insert(convo_id);
            }
            ServerEvent::Receipt { convo_id, user_id, delivered_seq, read_seq, ts } => {
                self.emit(Event::Receipt { convo_id, user_id, delivered_seq, read_seq, ts });
            }
            ServerEvent::Typing { convo_id, user_id, active } => {
                self.emit(Event::Typing { convo_id, user_id, active });
            }
            ServerEvent::PresenceUpdate { user_id, status, last_seen } => {
                self.emit(Event::Presence { user_id, status, last_seen });
            }
            ServerEvent::ConversationUpdate { conversation } => {
                if let ConversationNews::Whole(conversation) = &conversation {
                    self.meet(conversation, Told::ByEvent, now);
                }
                self.emit(Event::Conversation(conversation));
            }
            ServerEvent::Pong { position } => {
                self.marks.ponged();
                self.moved_to(Some(position));
            }
            ServerEvent::Error { code, detail, convo_id, client_seq, retry_after_ms } => {
                let told = retry_after_ms.map(|told| Duration::from_millis(told).min(TOLD_MAX));
                let wait = told.unwrap_or_else(|| REFUSED_WAIT.mul_f64(0.5 + roll));
                self.refused(code, detail, convo_id, client_seq, wait, now);
            }
        }
    }

    /// A page of the inbox has been read.
    pub(crate) fn handle_inbox(&mut self, round: u64, page: Page<Conversation>, now: Instant) {
        if round != self.inbox_round {
            return;
        }
        self.inbox_failures = 0;
        for conversation in &page.items {
            self.meet(conversation, Told::ByInbox, now);
        }
        self.inbox = match page.next_cursor {
            Some(cursor) => Inbox::Due(Some(cursor), now),
            None => {
                self.inbox_known = true;
                self.missed = false;
                Inbox::Known
            }
        };
    }

    /// A page of the inbox could not be read: it begins anew.
    pub(crate) fn handle_inbox_failed(&mut self, round: u64, failure: &ReadFailure, now: Instant, roll: f64) {
        if round != self.inbox_round {
            return;
        }
        let wait = failure.told().unwrap_or_else(|| READ_BACKOFF.delay(self.inbox_failures, roll));
        self.inbox_failures = self.inbox_failures.saturating_add(1);
        self.inbox = Inbox::Due(None, now + wait);
    }

    /// A page of history has been read.
    pub(crate) fn handle_history(&mut self, convo_id: ConvoId, page: HistoryPage, now: Instant) {
        self.reads -= 1;
        if let Some(timeline) = self.timelines.get_mut(&convo_id) {
            timeline.page(page, now);
            self.hand_over(convo_id, now);
        }
    }

    /// A page of history could not be read.
    pub(crate) fn handle_history_failed(
        &mut self,
        convo_id: ConvoId,
        failure: &ReadFailure,
        now: Instant,
        roll: f64,
    ) {
        self.reads -= 1;
        let Some(timeline) = self.timelines.get_mut(&convo_id) else { return };
        match failure {
            ReadFailure::Temporary(_) => {
                let wait = failure.told().unwrap_or_else(|| READ_BACKOFF.delay(timeline.failures(), roll));
                timeline.failed(now + wait);
            }
            ReadFailure::Final => {
                timeline.unreadable();
                self.hand_over(convo_id, now);
            }
        }
    }

    // Inner steps.

    fn ready(
        &mut self,
        user_id: UserId,
        device_id: DeviceId,
        heartbeat: Duration,
        resumed: bool,
        now: Instant,
    ) {
        self.phase = Phase::Ready(Ready { device: device_id, heartbeat, since: now, heard: now, spoke: now });
        self.refusals = 0;
        self.moved = false;
        let again = self.user.replace(user_id).is_some();
        self.device = Some(device_id);
        for timeline in self.timelines.values_mut() {
            timeline.connected(now);
        }
        self.missed |= again && !resumed;
        if !resumed || self.inbox != Inbox::Known {
            self.inbox_round += 1;
            self.inbox = Inbox::Due(None, now);
        }
        if let Some(status) = self.presence {
            self.say(ClientEvent::PresenceSet { status }, now);
        }
        if !self.watched.is_empty() {
            let user_ids = self.watched.iter().copied().collect();
            self.say(ClientEvent::PresenceSubscribe { user_ids }, now);
        }
        self.emit(Event::Connected { user_id, device_id, resumed });
        self.settle_seen(now);
    }

    fn acked(&mut self, convo_id: ConvoId, client_seq: ClientSeq, seq: Seq, ts: Timestamp, now: Instant) {
        let Some(message) = self.outbox.settle(convo_id, client_seq) else { return };
        let latency = now.saturating_duration_since(message.queued_at);
        self.emit(Event::SendAcked { convo_id, client_seq, seq, ts, latency });
        if let Some(user) = self.user {
            let kind = EntryKind::Text { body: message.body.as_ref().to_owned(), reply_to: message.reply_to };
            let entry = Entry { convo_id, seq, sender_id: user, client_seq: Some(client_seq), ts, kind };
            self.take(entry, Via::Ack, now);
        }
    }

    fn refused(
        &mut self,
        code: Code,
        detail: String,
        convo_id: Option<ConvoId>,
        client_seq: Option<ClientSeq>,
        wait: Duration,
        now: Instant,
    ) {
        let passes = matches!(code, Code::RateLimited | Code::Unavailable);
        match (convo_id, client_seq) {
            // The connection ends over this; the message is sent again on the next one.
            (Some(_), Some(_)) if code == Code::Unauthenticated => {}
            (Some(convo_id), Some(client_seq)) if passes => {
                self.outbox.delay(convo_id, client_seq, now + wait);
                self.emit(Event::SendDelayed { convo_id, client_seq, code, retry_in: wait });
            }
            (Some(convo_id), Some(client_seq)) => {
                if self.outbox.settle(convo_id, client_seq).is_some() {
                    self.emit(Event::SendFailed { convo_id, client_seq, code, detail });
                }
            }
            (Some(convo_id), None) if passes => self.marks.delay(convo_id, now + wait),
            (convo_id, _) => {
                if let Some(convo_id) = convo_id {
                    self.marks.refused(convo_id);
                }
                self.emit(Event::Refused { code, detail, convo_id });
            }
        }
    }

    /// Takes an entry in and hands over what is next.
    fn take(&mut self, entry: Entry, via: Via, now: Instant) {
        let (convo_id, seq) = (entry.convo_id, entry.seq);
        let start = self.settings.start;
        let timeline = self.timelines.entry(convo_id).or_insert_with(|| match (start, via) {
            // It has begun since the inbox was read, and what came before the ack may be on its way.
            (Start::Head, Via::Ack) => Timeline::after(Seq::default()),
            (Start::Head, Via::Push | Via::History) => Timeline::after(seq.previous()),
            (Start::Beginning, _) => {
                let mut timeline = Timeline::after(Seq::default());
                timeline.expect_up_to(seq.previous());
                timeline
            }
        });
        timeline.offer(entry, via, now);
        self.hand_over(convo_id, now);
    }

    /// Learns of a conversation.
    fn meet(&mut self, conversation: &Conversation, told: Told, now: Instant) {
        let Conversation { id, last_seq, visible_from_seq, .. } = conversation;
        if let Some(timeline) = self.timelines.get_mut(id) {
            timeline.visible_from(*visible_from_seq);
            // From the head on, all that a first inbox shows of a known conversation has come or comes by itself.
            if told == Told::ByInbox && (self.missed || self.settings.start == Start::Beginning) {
                timeline.expect_up_to(*last_seq);
            }
        } else if self.settings.start == Start::Head && (told == Told::ByEvent || !self.inbox_known) {
            self.timelines.insert(*id, Timeline::from_head(*last_seq));
        } else {
            let mut timeline = Timeline::after(visible_from_seq.previous());
            if told == Told::ByInbox {
                timeline.expect_up_to(*last_seq);
            }
            self.timelines.insert(*id, timeline);
        }
        self.hand_over(*id, now);
    }

    fn hand_over(&mut self, convo_id: ConvoId, now: Instant) {
        let Some(timeline) = self.timelines.get_mut(&convo_id) else { return };
        let mut seen = false;
        while let Some((entry, via)) = timeline.pop(now) {
            if via != Via::Ack
                && Some(entry.sender_id) == self.user
                && let (Some(client_seq), EntryKind::Text { body, .. }) = (entry.client_seq, &entry.kind)
            {
                seen |= self.outbox.see(convo_id, client_seq, body, entry.seq, entry.ts);
            }
            self.actions.push_back(Action::Emit(Event::Entry { entry, via }));
        }
        if timeline.is_complete() {
            self.incomplete.remove(&convo_id);
        } else {
            self.incomplete.insert(convo_id);
        }
        if seen {
            self.settle_seen(now);
        }
    }

    /// What an earlier login has sent and the log has shown is acked by that.
    fn settle_seen(&mut self, now: Instant) {
        let Some(device) = self.device else { return };
        for (message, seq, ts) in self.outbox.settle_seen(device) {
            let Outgoing { convo_id, client_seq, queued_at, .. } = message;
            let latency = now.saturating_duration_since(queued_at);
            self.emit(Event::SendAcked { convo_id, client_seq, seq, ts, latency });
        }
    }

    fn moved_to(&mut self, position: Option<String>) {
        if let (Some(resume), Some(position)) = (&mut self.resume, position) {
            resume.position = position;
        }
    }

    fn say(&mut self, frame: ClientEvent, now: Instant) {
        if let Phase::Ready(ready) = &mut self.phase {
            ready.spoke = now;
            self.actions.push_back(Action::Send(frame));
        }
    }

    fn emit(&mut self, event: Event) {
        self.actions.push_back(Action::Emit(event));
    }

    /// Gives the connection up and waits: see [`backoff`](crate::backoff).
    fn lose(&mut self, reason: Disconnect, retry_after: Option<Duration>, now: Instant, roll: f64) {
        if let Phase::Ready(ready) = &self.phase
            && now.saturating_duration_since(ready.since) >= GOOD_CONNECTION
        {
            self.attempt = 0;
        }
        // Zero would be no wait at all, whatever was meant by it.
        let told = retry_after.filter(|told| !told.is_zero()).map(|told| told.min(TOLD_MAX));
        let retry_in = match told {
            // A refusal's number is the same for everybody; that of a close has jitter in it.
            Some(told) if matches!(reason, Disconnect::Refused(_)) => told.mul_f64(1.0 + 0.1 * roll),
            Some(told) => told,
            None => {
                let wait = Backoff::CONNECT.delay(self.attempt, roll);
                self.attempt = self.attempt.saturating_add(1);
                wait
            }
        };
        self.give_up(reason, retry_in, now);
    }

    fn give_up(&mut self, reason: Disconnect, retry_in: Duration, now: Instant) {
        self.phase = Phase::Waiting { until: now + retry_in };
        self.outbox.disconnected();
        self.marks.disconnected();
        self.typing.clear();
        for timeline in self.timelines.values_mut() {
            timeline.disconnected();
        }
        // Frames that were not handed to the socket are said again, or not needed, on the next one.
        self.actions.retain(|action| !matches!(action, Action::Send(_)));
        self.actions.push_back(Action::Close);
        self.emit(Event::Disconnected { reason, retry_in });
    }

    fn end(&mut self, lost: SessionLost) {
        if !self.is_over() {
            self.phase = Phase::Over;
            self.actions.push_back(Action::Close);
            self.emit(Event::SessionLost(lost));
        }
    }
}

impl Ready {
    /// Two and a half heartbeats without a frame: the server pings every one.
    fn silent_at(&self) -> Instant {
        self.heard + self.heartbeat * 5 / 2
    }

    fn ping_at(&self) -> Instant {
        self.spoke + self.heartbeat
    }
}

#[cfg(test)]
mod tests;
