//! The client's logic, without I/O: it owns no socket, task, clock or randomness.
//!
//! Questions: `is_over`, `takes_commands`, `poll_timeout`. Inputs: the `handle_*` methods and the commands;
//! each takes `now`, which never runs back. Outputs: [`Machine::poll`]. The order of calls: any input, then
//! `poll` until it gives nothing, then wait for the next input or for `poll_timeout`.
//!
//! Invariants: M1: on a connection the first frame is `connect` or `resume`, and nothing follows before
//! `ready`. M2: a position is kept only after what it covers was taken in. M3: where a position is not known
//! to the server, the inbox is read and every conversation filled up before anything is sent again.

mod commands;
mod connection;
mod events;
mod reads;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use tertulia_protocol::event::{ClientEvent, OwnPresence};
use tertulia_protocol::{ConvoId, DeviceId, UserId};

use crate::backoff::{Backoff, TOLD_MAX};
use crate::event::{Disconnect, Event};
use crate::marks::Marks;
use crate::outbox::Outbox;
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
