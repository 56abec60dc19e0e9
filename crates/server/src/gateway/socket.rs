//! One socket: a task that reads frames, writes what its outbox holds, and reads from the store what it lags.
//!
//! It holds no buffer while nothing is under way: what is read goes into a scratch buffer of the thread, and what is
//! written is the outbox as the hub has filled it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tertulia_domain::hub::{Close, Connection, Mode, Outbox, Step, encode};
use tertulia_protocol::event::{ClientEvent, CloseReason, ServerEvent};
use tertulia_protocol::rules::FRAME_BYTES_MAX;
use tertulia_protocol::{Code, Timestamp};
use tertulia_websocket::{CloseCode, Decoder, Event, Frame, ProtocolError};
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;

use super::incoming::{self, Heard, Pace};
use super::joining;
use crate::accounts::{AuthError, Identity};
use crate::app::App;
use crate::drain;
use crate::rest::problem::ApiError;

/// How much one read takes; one buffer of this size a thread.
const SCRATCH_BYTES: usize = 64 * 1_024;
/// How many pieces of an outbox one system call writes.
const SLICES_MAX: usize = 64;
/// How long a close waits for the other side.
const CLOSE_MAX: Duration = Duration::from_secs(2);
/// How long to wait before a failed catch-up read is tried again, at least.
const RETRY_MIN: Duration = Duration::from_millis(500);

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// Serves a socket until it ends. `first` is what the client sent right behind its handshake.
pub async fn serve(app: App, stream: TcpStream, first: Bytes) {
    let mut wire = Wire::new(stream);
    wire.hear(&mut first.to_vec());
    let (end, connection) = match begin(&app, &mut wire).await {
        Ok(connection) => {
            let end = run(&app, &mut wire, &connection).await;
            joining::unregister(&app, &connection);
            (end, Some(connection))
        }
        Err(end) => (end, None),
    };
    app.metrics.closed(end.reason());
    tracing::debug!(device = ?connection.map(|connection| connection.device), ?end, "a socket ended");
    wire.finish(end).await;
}

/// Why a socket ends.
#[derive(Debug)]
enum End {
    /// The client is gone, or the network.
    Gone,
    /// The client closed it; this answers.
    Answer(CloseCode),
    /// For a reason of the contract.
    Close(Close),
    /// The client broke the rules of RFC 6455.
    Broken(ProtocolError),
    /// The node cannot serve it now.
    TryLater,
}

impl End {
    fn close(reason: CloseReason, text: &str) -> Self {
        Self::Close(Close { reason, text: text.to_owned() })
    }

    const fn reason(&self) -> Option<CloseReason> {
        match self {
            Self::Close(close) => Some(close.reason),
            Self::Broken(_) => Some(CloseReason::Protocol),
            Self::Gone | Self::Answer(_) | Self::TryLater => None,
        }
    }

    fn frame(&self) -> Option<Frame> {
        Some(match self {
            Self::Gone => return None,
            Self::Answer(code) => Frame::close(*code, ""),
            Self::Close(close) => {
                Frame::close(CloseCode::new(close.reason.code()).unwrap_or(CloseCode::NORMAL), &close.text)
            }
            Self::Broken(error) => Frame::close(error.close_code(), &error.to_string()),
            Self::TryLater => Frame::close(CloseCode::TRY_LATER, "the server cannot do this now; try again"),
        })
    }
}

impl From<CloseReason> for End {
    fn from(reason: CloseReason) -> Self {
        Self::close(reason, reason.as_str())
    }
}

/// A failure before the socket is ready ends it: who cannot be known, or cannot be served.
impl From<ApiError> for End {
    fn from(error: ApiError) -> Self {
        match error.code() {
            Code::Unauthenticated => Self::close(CloseReason::Unauthenticated, error.detail()),
            _ => Self::TryLater,
        }
    }
}

/// Waits until the client says who it is, and makes a reader of it.
async fn begin(app: &App, wire: &mut Wire) -> Result<Arc<Connection>, End> {
    let first = tokio::select! {
        first = tokio::time::timeout(app.config.handshake, first_event(wire)) => match first {
            Ok(first) => first?,
            Err(_) => return Err(End::close(CloseReason::Unauthenticated, "say connect or resume sooner")),
        },
        () = app.draining.cancelled() => return Err(End::Close(drain::farewell(app))),
    };
    // Not cut short: who is registered must be unregistered.
    let joined = join(app, first).await;
    if !app.draining.is_cancelled() {
        return joined;
    }
    // Registered after those who are here were told to go, or refused because the node is nearly gone.
    let connection = joined.map_err(|_| End::Close(drain::farewell(app)))?;
    connection.close(drain::farewell(app));
    Ok(connection)
}

/// The first event that the client says.
async fn first_event(wire: &mut Wire) -> Result<ClientEvent, End> {
    loop {
        match wire.heard.pop_front() {
            Some(Heard::Event(event, _)) => return Ok(event),
            Some(Heard::Malformed(_)) => {
                return Err(End::close(CloseReason::Protocol, "the first frame must be connect or resume"));
            }
            Some(Heard::Ping(payload)) => wire.pending.push(&Frame::pong(&payload)),
            Some(Heard::Pong) => {}
            None => {
                if let Some(end) = wire.end.take() {
                    return Err(end);
                }
                wire.write().map_err(|_| End::Gone)?;
                if wire.pending.is_empty() {
                    std::future::poll_fn(|cx| wire.poll_read(cx)).await;
                } else {
                    // Whoever does not read his answers is not heard.
                    wire.stream.writable().await.map_err(|_| End::Gone)?;
                }
            }
        }
    }
}

/// Makes a reader of who says `connect` or `resume`.
async fn join(app: &App, first: ClientEvent) -> Result<Arc<Connection>, End> {
    let (identity, position) = match first {
        ClientEvent::Connect { token } => (app.accounts.authenticate(&token).await?, None),
        ClientEvent::Resume { resume_token, position } => {
            (app.accounts.authenticate_resume(&resume_token).await?, Some(position))
        }
        _ => return Err(End::close(CloseReason::Protocol, "the first frame must be connect or resume")),
    };
    let resumes = position.is_some();
    let known = position.and_then(|text| app.store.parse_position(&text).map(|since| (since, text)));
    let resumed = known.is_some();
    app.metrics.connected(match (resumes, resumed) {
        (false, _) => "connect",
        (true, true) => "resume",
        (true, false) => "resume_unknown",
    });
    // Taken before the reader is registered: what is committed from here on is read or delivered.
    let since = known.as_ref().map_or_else(|| app.hub.position(), |(since, _)| *since);
    let position = known.map_or_else(|| app.store.position(since), |(_, text)| text);
    let connection = joining::register(app, Mode::Socket, identity, since).await?;
    match welcome(app, &connection, identity, position, resumed, since).await {
        Ok(()) => Ok(connection),
        Err(end) => {
            joining::unregister(app, &connection);
            Err(end)
        }
    }
}

async fn welcome(
    app: &App,
    connection: &Arc<Connection>,
    identity: Identity,
    position: String,
    resumed: bool,
    since: tertulia_domain::log::Commit,
) -> Result<(), End> {
    // A device that was logged out while it was registered was not yet there to be closed.
    app.accounts.recheck(identity).await?;
    let resume_token = app.accounts.resume_token(identity);
    connection.push(encode(&ServerEvent::Ready {
        user_id: identity.user,
        device_id: identity.device,
        resume_token,
        position,
        heartbeat_seconds: app.config.heartbeat.as_secs().max(1),
        resumed,
    }));
    app.accounts.touch_device(identity.device);
    Ok(joining::catch_up_from(app, connection, since).await?)
}

impl From<AuthError> for End {
    fn from(error: AuthError) -> Self {
        ApiError::from(error).into()
    }
}

/// What a ready socket waits for.
enum Wake {
    Read,
    Writable,
    Outgoing(tertulia_domain::hub::Taken),
    CatchUp(Step),
    Closing(Close),
    Retry,
}

async fn run(app: &App, wire: &mut Wire, connection: &Arc<Connection>) -> End {
    let identity = Identity { user: connection.user, device: connection.device };
    let mut pace = Pace::new(app, identity);
    let mut retry: Option<Pin<Box<tokio::time::Sleep>>> = None;
    loop {
        if let ControlFlow::Break(end) = act_on_heard(app, wire, connection, &mut pace).await {
            return end;
        }
        let wake = std::future::poll_fn(|cx| poll_wake(app, wire, connection, &mut retry, cx)).await;
        match wake {
            Wake::Read => {}
            Wake::Writable => {
                if wire.write().is_err() {
                    return End::Gone;
                }
            }
            Wake::Outgoing(taken) => {
                wire.pending = taken.outbox;
                if wire.write().is_err() {
                    return End::Gone;
                }
                if let Some(close) = taken.close {
                    return End::Close(close);
                }
            }
            Wake::CatchUp(step) => {
                if let Err(error) = joining::catch_up_step(app, connection, step).await {
                    tracing::warn!(detail = error.detail(), "a reader could not catch up; trying again");
                    retry = Some(Box::pin(tokio::time::sleep(app.jitter(RETRY_MIN))));
                }
            }
            Wake::Closing(close) => return End::Close(close),
            Wake::Retry => retry = None,
        }
        // Whoever sends but never reads is bounded in memory, and not kept for ever.
        if wire.blocked_since.is_some_and(|since| app.steady_now().since(since) > 2 * app.config.heartbeat) {
            return End::close(CloseReason::HeartbeatMissed, "nothing could be written for too long");
        }
        if wire.pending.is_empty() {
            wire.blocked_since = None;
        } else if wire.blocked_since.is_none() {
            wire.blocked_since = Some(app.steady_now());
        }
    }
}

async fn act_on_heard(
    app: &App,
    wire: &mut Wire,
    connection: &Arc<Connection>,
    pace: &mut Pace,
) -> ControlFlow<End> {
    if std::mem::take(&mut wire.is_alive) {
        app.hub.alive(connection, app.steady_now());
    }
    // Whoever does not read his answers is not heard: what he sends waits in his own machine.
    while !connection.is_congested()
        && let Some(heard) = wire.heard.pop_front()
    {
        if let Err(reason) = incoming::handle(app, connection, pace, heard).await {
            return ControlFlow::Break(reason.into());
        }
    }
    if wire.heard.is_empty() && wire.heard.capacity() > 0 {
        // An idle socket holds no buffer.
        wire.heard = VecDeque::new();
    }
    wire.end.take().map_or(ControlFlow::Continue(()), ControlFlow::Break)
}

fn poll_wake(
    app: &App,
    wire: &mut Wire,
    connection: &Arc<Connection>,
    retry: &mut Option<Pin<Box<tokio::time::Sleep>>>,
    cx: &mut Context<'_>,
) -> Poll<Wake> {
    if wire.pending.is_empty() {
        if let Some(taken) = connection.poll_taken(cx.waker()) {
            return Poll::Ready(Wake::Outgoing(taken));
        }
        match retry {
            Some(sleep) => {
                if sleep.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Wake::Retry);
                }
            }
            None => {
                if let Some(step) = app.hub.next_step(connection) {
                    return Poll::Ready(Wake::CatchUp(step));
                }
            }
        }
    } else {
        if wire.stream.poll_write_ready(cx).is_ready() {
            return Poll::Ready(Wake::Writable);
        }
        if let Some(close) = connection.poll_close(cx.waker()) {
            return Poll::Ready(Wake::Closing(close));
        }
        if !wire.heard.is_empty() || connection.is_congested() {
            return Poll::Pending;
        }
    }
    wire.poll_read(cx).map(|()| Wake::Read)
}

/// The TCP stream with what is half read and half written.
struct Wire {
    stream: TcpStream,
    decoder: Decoder,
    /// Something was read, if only a part of a frame: over a slow network a long one takes its time.
    is_alive: bool,
    /// What was read and is to be dealt with.
    heard: VecDeque<Heard>,
    /// Why to end once that is done.
    end: Option<End>,
    /// What was taken out of the outbox and is to be written.
    pending: Outbox,
    /// Since when nothing could be written.
    blocked_since: Option<Timestamp>,
}

impl Wire {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            decoder: Decoder::new(FRAME_BYTES_MAX),
            is_alive: false,
            heard: VecDeque::new(),
            end: None,
            pending: Outbox::default(),
            blocked_since: None,
        }
    }

    /// Reads once into the thread's buffer, and takes out what is whole.
    ///
    /// Not by readiness and a read: a read that does not fill the buffer tells tokio that the socket is empty, and
    /// spares the second one that would find that out.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            let read = std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
            if read.is_ok() && !buffer.filled().is_empty() {
                self.is_alive = true;
                self.hear(buffer.filled_mut());
            } else {
                self.end = Some(End::Gone);
            }
            Poll::Ready(())
        })
    }

    fn hear(&mut self, mut input: &mut [u8]) {
        loop {
            match self.decoder.next(&mut input) {
                Ok(None) => return,
                Ok(Some(Event::Text(text))) => self.heard.push_back(incoming::parse(text)),
                Ok(Some(Event::Binary(_))) => {
                    self.end = Some(End::close(CloseReason::Protocol, "binary frames mean nothing here"));
                }
                Ok(Some(Event::Ping(payload))) => self.heard.push_back(Heard::Ping(payload.to_vec())),
                Ok(Some(Event::Pong(_))) => self.heard.push_back(Heard::Pong),
                Ok(Some(Event::Close(close))) => {
                    self.end = Some(End::Answer(close.map_or(CloseCode::NORMAL, |(code, _)| code)));
                }
                Err(error) => self.end = Some(End::Broken(error)),
            }
            if self.end.is_some() {
                return;
            }
        }
    }

    /// Writes what fits.
    fn write(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.pending.slices(&mut slices);
            let result = match &slices[..count] {
                [one] => self.stream.try_write(one),
                several => self.stream.try_write_vectored(several),
            };
            match result {
                Ok(written) => {
                    self.blocked_since = None;
                    self.pending.advance(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says why, and waits a moment for the other side, so that it reads the reason before the stream ends.
    async fn finish(mut self, end: End) {
        let Some(frame) = end.frame() else { return };
        self.pending.push(&frame);
        let farewell = async {
            while !self.pending.is_empty() {
                self.stream.writable().await?;
                self.write()?;
            }
            tokio::io::AsyncWriteExt::shutdown(&mut self.stream).await?;
            loop {
                self.stream.readable().await?;
                let read = SCRATCH.with_borrow_mut(|scratch| self.stream.try_read(scratch));
                match read {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        };
        // Whether or not the other side takes it in time, the socket is over.
        drop(tokio::time::timeout(CLOSE_MAX, farewell).await);
    }
}
