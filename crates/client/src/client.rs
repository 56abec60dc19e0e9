//! The client: a handle, a stream of events, and one task between them and the server.
//!
//! The task is a closed loop: one enum of all inputs, one place that waits, one that acts. What to do is
//! decided in `machine`. Dropping the last handle ends the task.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tertulia_history::{Recorder, Tape};
use tertulia_protocol::event::{ClientEvent, CloseReason, OwnPresence};
use tertulia_protocol::rest::{Conversation, HistoryPage, Page};
use tertulia_protocol::{ClientSeq, ConvoId, Seq, Timestamp, UserId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api::{Api, From};
use crate::backoff::roll;
use crate::error::Error;
use crate::event::{Disconnect, Event};
pub use crate::machine::Start;
use crate::machine::{Action, Closed, Hello, InboxRead, Machine, ReadFailure, Settings};
use crate::outbox::Outgoing;
use crate::session::Session;
use crate::socket::{Socket, Turn, is_of_node};

/// Commands on their way to the task; a full queue makes the caller wait.
const COMMANDS_MAX: usize = 64;
/// Conversations in a page of the inbox.
const INBOX_PAGE: usize = 200;

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// What is handed over of conversations that were there before.
    pub start: Start,
    /// The `clientSeq` of the first message; the next ones count up. It must be above all that this device has
    /// used: see [`first_client_seq`].
    pub first_client_seq: ClientSeq,
    /// Events that wait for the application. When it does not take them, the client stops reading its socket,
    /// and the server pushes no more: memory is bounded, and what was missed comes from history.
    pub events_max: usize,
    /// Messages that are kept until they are acked; with so many, [`Client::send`] waits.
    pub outbox_max: usize,
    /// Messages that are sent and not acked yet, over all conversations.
    pub in_flight_max: usize,
    /// The same of one conversation. With 1 its order is exact. With more, a message that the server refuses
    /// for a moment can be overtaken by those sent right behind it.
    pub in_flight_per_convo_max: usize,
    /// Where what the client says and hears is written down for `tertulia check`.
    pub history: Option<Recorder>,
}

impl Config {
    /// The usual: 256 events, 1,024 messages kept, 32 in flight, one of each conversation.
    pub fn new(start: Start, first_client_seq: ClientSeq) -> Self {
        Self {
            start,
            first_client_seq,
            events_max: 256,
            outbox_max: 1_024,
            in_flight_max: 32,
            in_flight_per_convo_max: 1,
            history: None,
        }
    }
}

/// A `clientSeq` above all that a device has used in earlier runs: 1,024 for each millisecond since 1970, so
/// that it is enough that the clock does not run back between two runs. Good until the year 2248.
pub fn first_client_seq(now: Timestamp) -> ClientSeq {
    ClientSeq::new(
        u64::try_from(now.as_millis()).unwrap_or(0).saturating_mul(1_024).clamp(1, ClientSeq::MAX.get()),
    )
}

/// The client has ended: the session is lost, or it was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client has stopped")]
pub struct Stopped;

/// A connected client; clones are the same one. It goes on, over any number of connections, until the last
/// clone is dropped, [`close`](Self::close) is called, the [`Events`] are dropped or the session is lost.
///
/// All commands wait while the task has more than it can keep ([`Config::outbox_max`]), and fail only with
/// [`Stopped`].
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    commands: mpsc::Sender<Command>,
    next_client_seq: Mutex<ClientSeq>,
    task: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// The events of a client, in order.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<Event>,
}

impl Events {
    /// The next event; `None` after the last. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }

    /// The next event, if it is there already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.receiver.try_recv().ok()
    }
}

enum Command {
    Send(Outgoing),
    Mark { convo_id: ConvoId, delivered: Option<Seq>, read: Option<Seq> },
    Typing { convo_id: ConvoId, active: bool },
    Presence(OwnPresence),
    Watch(Vec<UserId>),
    Unwatch(Vec<UserId>),
    Follow { convo_id: ConvoId, after: Seq },
}

#[expect(clippy::missing_errors_doc, reason = "said once, at the type")]
impl Client {
    /// Starts a client; it connects by itself, now and whenever the connection is lost. Must be called within
    /// a Tokio runtime.
    pub fn connect(session: Session, config: &Config) -> (Self, Events) {
        let (commands, command_queue) = mpsc::channel(COMMANDS_MAX);
        let (events, receiver) = mpsc::channel(config.events_max.max(1));
        let stop = CancellationToken::new();
        let settings = Settings {
            start: config.start,
            in_flight_max: config.in_flight_max,
            in_flight_per_convo_max: config.in_flight_per_convo_max,
            outbox_max: config.outbox_max.max(1),
        };
        let driver = Driver {
            machine: Machine::new(settings, now()),
            api: match config.history.clone() {
                Some(recorder) => Api::recorded(session, recorder),
                None => Api::new(session),
            },
            tape: config.history.clone().map(Tape::new),
            commands: command_queue,
            events,
            backlog: VecDeque::new(),
            stop: stop.clone(),
            socket: None,
            opening: None,
            reads: FuturesUnordered::new(),
            token: Arc::default(),
            asks_for_node: true,
            turned_away: 0,
        };
        let inner = Inner {
            commands,
            next_client_seq: Mutex::new(config.first_client_seq),
            task: Mutex::new(Some(tokio::spawn(driver.run()))),
            stop: stop.clone(),
            _stop_on_drop: stop.drop_guard(),
        };
        (Self { inner: Arc::new(inner) }, Events { receiver })
    }

    /// Sends a message: it is kept and sent until it is acked or refused for good, over any number of
    /// connections. The number names it in [`Event::SendAcked`] and [`Event::SendFailed`], one of which comes.
    /// Messages of one conversation are stored in the order of these calls.
    pub async fn send(
        &self,
        convo_id: ConvoId,
        body: impl Into<Arc<str>>,
        reply_to: Option<Seq>,
    ) -> Result<ClientSeq, Stopped> {
        let body = body.into();
        let permit = self.inner.commands.reserve().await.map_err(|_| Stopped)?;
        // Numbers and places in the queue are given out together, so that both have the same order.
        let mut next = self.inner.next_client_seq.lock().unwrap_or_else(PoisonError::into_inner);
        let client_seq = *next;
        *next = next.next();
        permit.send(Command::Send(Outgoing { convo_id, client_seq, body, reply_to, queued_at: now() }));
        Ok(client_seq)
    }

    /// Moves one's own watermarks forward; marks are merged and go out at most every 200 ms.
    pub async fn mark(
        &self,
        convo_id: ConvoId,
        delivered: Option<Seq>,
        read: Option<Seq>,
    ) -> Result<(), Stopped> {
        self.command(Command::Mark { convo_id, delivered, read }).await
    }

    /// Says that one is typing, or no longer. Call it with every key: it is said at most every 5 s, and not at
    /// all without a connection.
    pub async fn typing(&self, convo_id: ConvoId, active: bool) -> Result<(), Stopped> {
        self.command(Command::Typing { convo_id, active }).await
    }

    /// Says whether the user is looking; said again on every new connection.
    pub async fn set_presence(&self, status: OwnPresence) -> Result<(), Stopped> {
        self.command(Command::Presence(status)).await
    }

    /// Watches the presence of users, at most 1,000 in all; on every new connection again.
    pub async fn watch(&self, users: Vec<UserId>) -> Result<(), Stopped> {
        self.command(Command::Watch(users)).await
    }

    /// Stops watching users.
    pub async fn unwatch(&self, users: Vec<UserId>) -> Result<(), Stopped> {
        self.command(Command::Unwatch(users)).await
    }

    /// Wants everything of a conversation after `after` (`Seq` 0: from the beginning), whatever
    /// [`Config::start`] says. Without effect once an entry of it was handed over.
    pub async fn follow(&self, convo_id: ConvoId, after: Seq) -> Result<(), Stopped> {
        self.command(Command::Follow { convo_id, after }).await
    }

    /// Ends the client and waits until the server has been told, at most a second. What is not acked by then
    /// may or may not be stored.
    pub async fn close(self) {
        self.inner.stop.cancel();
        let task = self.inner.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the client's task has failed");
        }
    }

    async fn command(&self, command: Command) -> Result<(), Stopped> {
        self.inner.commands.send(command).await.map_err(|_| Stopped)
    }
}

/// All that can happen to the task.
enum Input {
    Stop,
    /// The application has taken events.
    Room,
    Command(Option<Command>),
    Opened(Result<Box<Socket>, OpenFailure>),
    Socket(Turn),
    Read(ReadOutcome),
    Timeout,
}

enum OpenFailure {
    Closed(Closed),
    Session(Error),
}

enum ReadOutcome {
    History(ConvoId, Result<HistoryPage, Error>),
    Inbox(u64, Result<Page<Conversation>, Error>),
}

type Opening = Pin<Box<dyn Future<Output = Result<Box<Socket>, OpenFailure>> + Send>>;
type Reading = Pin<Box<dyn Future<Output = ReadOutcome> + Send>>;

struct Driver {
    machine: Machine,
    api: Api,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    /// Events for which there was no room; while there are any, neither socket nor pages are read, so that it
    /// never holds more than one input gives: a page and what waited for it.
    backlog: VecDeque<Event>,
    stop: CancellationToken,
    socket: Option<Box<Socket>>,
    opening: Option<Opening>,
    /// Bounded by the machine.
    reads: FuturesUnordered<Reading>,
    /// The access token of the last `connect`.
    token: Arc<Mutex<Option<String>>>,
    /// Whether it is not known, or may not be true any more, to which node to go.
    asks_for_node: bool,
    /// How many nodes, one after the other, have let the socket in and turned it away.
    turned_away: usize,
    /// What the socket says and hears is written here.
    tape: Option<Tape>,
}

impl Driver {
    async fn run(mut self) {
        loop {
            while let Some(action) = self.machine.poll(now()) {
                self.act(action);
            }
            if self.machine.is_over() && self.backlog.is_empty() {
                break;
            }
            match self.wait().await {
                Input::Stop => break,
                input => self.handle(input),
            }
        }
        if let Some(socket) = self.socket.take() {
            socket.close().await;
        }
        self.closed(|| None);
    }

    /// Writes down that the socket is gone.
    fn closed(&mut self, why: impl FnOnce() -> Option<String>) {
        if let Some(tape) = &mut self.tape {
            tape.closed(why());
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Open(hello) => {
                self.socket = None;
                if let Some(tape) = &mut self.tape {
                    tape.opens(hello.position().map(str::to_owned));
                }
                self.opening = Some(self.open(hello));
            }
            Action::Send(frame) => {
                if let Some(socket) = &mut self.socket {
                    if let Some(tape) = &self.tape {
                        tape.says(&frame);
                    }
                    socket.push(&frame);
                }
            }
            Action::Close => {
                self.socket = None;
                self.opening = None;
                self.closed(|| None);
            }
            Action::ReadHistory(convo_id, read) => {
                let api = self.api.clone();
                self.reads.push(Box::pin(async move {
                    let page = api.history(convo_id, From::After(read.after), read.limit).await;
                    ReadOutcome::History(convo_id, page)
                }));
            }
            Action::ReadInbox(InboxRead { round, cursor }) => {
                let api = self.api.clone();
                self.reads.push(Box::pin(async move {
                    ReadOutcome::Inbox(round, api.inbox(cursor.as_deref(), INBOX_PAGE).await)
                }));
            }
            Action::Emit(event) => {
                self.backlog.push_back(event);
                self.hand_over();
            }
        }
    }

    async fn wait(&mut self) -> Input {
        let timeout = self.machine.poll_timeout(now());
        let (busy, over) = (!self.backlog.is_empty(), self.machine.is_over());
        let congested = self.socket.as_ref().is_some_and(|socket| socket.is_congested());
        let takes_commands = self.machine.takes_commands() && !over && !congested;
        let Self { commands, events, stop, socket, opening, reads, .. } = self;
        tokio::select! {
            () = stop.cancelled() => Input::Stop,
            permit = events.reserve(), if busy => if permit.is_ok() { Input::Room } else { Input::Stop },
            () = events.closed(), if !busy => Input::Stop,
            command = commands.recv(), if takes_commands => Input::Command(command),
            opened = when(opening.as_mut()) => Input::Opened(opened),
            turn = turn(socket.as_deref_mut(), !busy) => Input::Socket(turn),
            Some(outcome) = reads.next(), if !busy => Input::Read(outcome),
            () = at(timeout) => Input::Timeout,
        }
    }

    fn handle(&mut self, input: Input) {
        let now = now();
        if !self.backlog.is_empty() {
            // Nobody looked at the socket: its silence says nothing about the server.
            self.machine.handle_sign_of_life(now);
        }
        match input {
            Input::Stop => {}
            Input::Room => self.hand_over(),
            Input::Command(Some(command)) => self.command(command, now),
            Input::Command(None) => self.stop.cancel(),
            Input::Opened(opened) => {
                self.opening = None;
                match opened {
                    Ok(socket) => {
                        self.asks_for_node = false;
                        self.socket = Some(socket);
                        self.machine.handle_opened(now);
                    }
                    Err(OpenFailure::Closed(closed)) => {
                        (self.asks_for_node, self.turned_away) = (true, 0);
                        self.machine.handle_closed(closed, now, roll());
                    }
                    Err(OpenFailure::Session(Error::SessionLost(lost))) => {
                        self.machine.handle_session_lost(lost);
                    }
                    Err(OpenFailure::Session(error)) => {
                        let retry_after = error.retry_after();
                        let closed = Closed { reason: Disconnect::Refused(error.to_string()), retry_after };
                        self.machine.handle_closed(closed, now, roll());
                    }
                }
            }
            Input::Socket(Turn::Event(event)) => {
                if let Some(tape) = &mut self.tape {
                    tape.hears(&event);
                }
                self.machine.handle_event(*event, now, roll());
            }
            Input::Socket(Turn::SignOfLife) => self.machine.handle_sign_of_life(now),
            Input::Socket(Turn::Closed(closed)) => {
                let is_another_tried = self.machine.is_greeting() && is_of_node(&closed) && self.pass_over();
                self.socket = None;
                self.closed(|| Some(closed.reason.to_string()));
                self.asks_for_node |= is_draining(&closed);
                self.machine.handle_device(self.api.session().device_id());
                if is_another_tried {
                    self.machine.handle_turned_away(closed.reason, now);
                } else {
                    self.turned_away = 0;
                    self.machine.handle_closed(closed, now, roll());
                }
            }
            Input::Read(outcome) => self.read(outcome, now),
            Input::Timeout => {
                let was_greeting = self.machine.is_greeting();
                self.machine.handle_timeout(now, roll());
                if was_greeting && !self.machine.is_greeting() {
                    // It has never said ready; the next one may.
                    self.pass_over();
                }
            }
        }
    }

    /// The session goes on from the node that does not serve its socket to the next one. Returns whether that one has not
    /// been tried yet.
    fn pass_over(&mut self) -> bool {
        let session = self.api.session();
        if let Some(socket) = &self.socket {
            session.server_after(&socket.server);
        }
        self.turned_away += 1;
        let is_untried = self.turned_away < session.nodes();
        // After all of them it is asked anew where to go.
        self.asks_for_node |= !is_untried;
        is_untried
    }

    fn command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Send(message) => self.machine.send(message),
            Command::Mark { convo_id, delivered, read } => self.machine.mark(convo_id, delivered, read),
            Command::Typing { convo_id, active } => self.machine.typing(convo_id, active, now),
            Command::Presence(status) => self.machine.set_presence(status, now),
            Command::Watch(users) => self.machine.watch(users, now),
            Command::Unwatch(users) => self.machine.unwatch(users, now),
            Command::Follow { convo_id, after } => self.machine.follow(convo_id, after),
        }
    }

    fn read(&mut self, outcome: ReadOutcome, now: Instant) {
        match outcome {
            ReadOutcome::History(id, Ok(page)) => self.machine.handle_history(id, page, now),
            ReadOutcome::History(id, Err(error)) => {
                self.machine.handle_history_failed(id, &failure(&error), now, roll());
            }
            ReadOutcome::Inbox(round, Ok(page)) => self.machine.handle_inbox(round, page, now),
            ReadOutcome::Inbox(round, Err(error)) => {
                self.machine.handle_inbox_failed(round, &failure(&error), now, roll());
            }
        }
    }

    /// Gives the application what it has room for.
    fn hand_over(&mut self) {
        while let Some(event) = self.backlog.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(event)) => return self.backlog.push_front(event),
                // `wait` sees it, too.
                Err(mpsc::error::TrySendError::Closed(_)) => return self.stop.cancel(),
            }
        }
    }

    fn open(&self, hello: Hello) -> Opening {
        let session = self.api.session().clone();
        let (used, asks_for_node) = (Arc::clone(&self.token), self.asks_for_node);
        Box::pin(async move {
            let hello = match hello {
                Hello::Resume { resume_token, position } => ClientEvent::Resume { resume_token, position },
                Hello::Connect { refusals } => {
                    let last = used.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let token = match (refusals, last) {
                        (1, Some(refused)) => session.renew(&refused).await,
                        (2.., Some(refused)) => session.log_in_again(&refused).await,
                        _ => session.access_token().await,
                    };
                    let token = token.map_err(OpenFailure::Session)?;
                    *used.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
                    ClientEvent::Connect { token }
                }
            };
            if asks_for_node {
                session.find_node().await;
            }
            let opened = Socket::open_on_some_node(&session, &hello).await;
            opened.map(Box::new).map_err(OpenFailure::Closed)
        })
    }
}

/// Whether the node sends its sessions away.
fn is_draining(closed: &Closed) -> bool {
    matches!(&closed.reason, Disconnect::Closed { code, .. } if *code == CloseReason::Draining.code())
}

fn failure(error: &Error) -> ReadFailure {
    let temporary = error.is_temporary() || matches!(error, Error::Unexpected { .. } | Error::SessionLost(_));
    if temporary { ReadFailure::Temporary(error.retry_after()) } else { ReadFailure::Final }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn when<T>(future: Option<&mut Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn turn(socket: Option<&mut Socket>, read: bool) -> Turn {
    match socket {
        Some(socket) => socket.turn(read).await,
        None => std::future::pending().await,
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
