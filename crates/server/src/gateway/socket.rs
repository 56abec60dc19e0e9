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
use tertulia_domain::hub::{Close, Connection, Mode, Outbox, encode};
use tertulia_protocol::event::{ClientEvent, CloseReason, ServerEvent};
use tertulia_protocol::rules::FRAME_BYTES_MAX;
use tertulia_protocol::{Code, Timestamp};
use tertulia_websocket::{CloseCode, Decoder, Event, Frame, ProtocolError};
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;

use super::catching_up::CatchingUp;
use super::incoming::{self, Heard, Hearing, Pace};
use super::joining;
use crate::accounts::{AuthError, Identity};
use crate::app::App;
use crate::drain;
use crate::rest::problem::{ApiError, Refused};

/// How much one read takes; one buffer of this size a thread.
const SCRATCH_BYTES: usize = 64 * 1_024;
/// How many pieces of an outbox one system call writes.
const SLICES_MAX: usize = 64;
/// How much of what a client says is dealt with before it is looked whether he reads his answers.
const HEARD_TOGETHER_MAX: usize = 64;
/// A send with a short text is about as long: so much room is made for what was heard.
const SHORT_SEND_BYTES: usize = 192;
/// How long a close waits for the other side.
const CLOSE_MAX: Duration = Duration::from_secs(2);

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// Begins with a socket; `first` is what the client sent right behind its handshake.
///
/// Once it is known who the client is, a task of its own serves the socket: what it took to begin is much, and goes
/// with the caller's task; what stays is little.
pub async fn serve(app: App, stream: TcpStream, first: Bytes) {
    let mut wire = Wire::new(stream);
    wire.hear(&mut first.to_vec());
    match begin(&app, &mut wire).await {
        Ok(connection) => {
            let tasks = app.tasks.clone();
            let catching_up = CatchingUp::default();
            tasks.spawn(Ready { app, wire, connection, pace: None, catching_up }.serve());
        }
        Err(End::TryLater(least, refused)) => {
            let wait = app.turned_away.wait(app.clock.monotonic(), least, &app.random);
            turn_away(app, wire, Box::new(End::TryLater(wait, refused))).await;
        }
        Err(end) => turn_away(app, wire, Box::new(end)).await,
    }
}

async fn turn_away(app: App, mut wire: Wire, end: Box<End>) {
    wire.say(&end);
    finish(app, wire, end).await;
}

async fn finish(app: App, wire: Wire, end: Box<End>) {
    app.metrics.closed(end.reason());
    tracing::debug!(?end, "a socket ended");
    if !matches!(*end, End::Gone) {
        wire.finish().await;
    }
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
    /// The node cannot serve it now; how soon it may be able to, and then how soon the client is to come back; and why, where
    /// it is the store that is away.
    TryLater(Duration, Option<Refused>),
}

impl End {
    fn close(reason: CloseReason, text: &str) -> Self {
        Self::Close(Close { reason, text: text.to_owned() })
    }

    const fn reason(&self) -> Option<CloseReason> {
        match self {
            Self::Close(close) => Some(close.reason),
            Self::Broken(_) => Some(CloseReason::Protocol),
            Self::Gone | Self::Answer(_) | Self::TryLater(..) => None,
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
            Self::TryLater(wait, _) => Frame::close(CloseCode::TRY_LATER, &drain::retry_after(*wait)),
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
            _ => Self::TryLater(error.retry_after().unwrap_or_default(), error.refused().cloned()),
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
    let joined = joining::in_turn(&app.joins, join(app, first)).await;
    if let Err(End::TryLater(_, Some(Refused(why)))) = &joined {
        app.store_outage.refused(1, why);
    }
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
            None => {
                if let Some(end) = wire.end.take() {
                    return Err(*end);
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
    let known = match position {
        Some(text) => {
            let known = app.store.parse_position(&text).await.map_err(ApiError::from)?;
            known.map(|since| (since, text))
        }
        None => None,
    };
    let resumed = known.is_some();
    app.metrics.connected(match (resumes, resumed) {
        (false, _) => "connect",
        (true, true) => "resume",
        (true, false) => "resume_unknown",
    });
    // Taken before the reader is registered: what is committed from here on is read or delivered.
    let since = known.as_ref().map_or_else(|| app.hub.position(), |(since, _)| *since);
    let position = known.map_or_else(|| app.store.position(since), |(_, text)| text);
    let registered = joining::register(app, Mode::Socket, identity, since).await?;
    welcome(app, &registered.connection, identity, position, resumed).await?;
    Ok(registered.keep())
}

/// Says `ready`, at once: what the reader missed is the first that his task reads.
async fn welcome(
    app: &App,
    connection: &Connection,
    identity: Identity,
    position: String,
    resumed: bool,
) -> Result<(), AuthError> {
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
    Ok(())
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
    Closing(Box<Close>),
}

/// A socket whose client is known: all that its task holds while nothing happens.
struct Ready {
    app: App,
    wire: Wire,
    connection: Arc<Connection>,
    /// How fast the client may be; since it first said something.
    pace: Option<Box<Pace>>,
    catching_up: CatchingUp,
}

impl Ready {
    /// Serves until it ends.
    ///
    /// A task has room, all the time, for the largest future that it ever awaits. So whatever an idle socket does
    /// not do is boxed while it is done.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` has room for its arguments twice")]
    fn serve(mut self) -> impl Future<Output = ()> + Send {
        async move {
            let end = loop {
                if std::mem::take(&mut self.wire.is_alive) {
                    self.app.hub.alive(&self.connection, self.app.steady_now());
                }
                if self.wire.has_heard()
                    && let ControlFlow::Break(end) = Box::pin(self.act_on_heard()).await
                {
                    break end;
                }
                let wake = std::future::poll_fn(|cx| self.poll_wake(cx)).await;
                if let Err(end) = self.act_on(wake) {
                    break end;
                }
            };
            Box::pin(self.end(end)).await;
        }
    }

    async fn end(mut self, end: Box<End>) {
        // What was being read is for nobody.
        self.catching_up = CatchingUp::default();
        // Whoever is sent away hears it now: in a storm a turn may take a while.
        self.wire.say(&end);
        let turn = joining::turn(&self.app).await;
        joining::unregister(&self.app, &self.connection);
        drop(turn);
        tracing::debug!(device = ?self.connection.device, "a reader is gone");
        finish(self.app, self.wire, end).await;
    }

    fn act_on(&mut self, wake: Wake) -> Result<(), Box<End>> {
        let Self { app, wire, .. } = self;
        match wake {
            Wake::Read => {}
            Wake::Writable => wire.write().map_err(|_| Box::new(End::Gone))?,
            Wake::Outgoing(taken) => {
                wire.pending = taken.outbox;
                wire.write().map_err(|_| Box::new(End::Gone))?;
                if let Some(close) = taken.close {
                    return Err(Box::new(End::Close(*close)));
                }
            }
            Wake::Closing(close) => return Err(Box::new(End::Close(*close))),
        }
        // Whoever sends but never reads is bounded in memory, and not kept for ever.
        if wire.blocked_since.is_some_and(|since| app.steady_now().since(since) > 2 * app.config.heartbeat) {
            let text = "nothing could be written for too long";
            return Err(Box::new(End::close(CloseReason::HeartbeatMissed, text)));
        }
        if wire.pending.is_empty() {
            wire.blocked_since = None;
        } else if wire.blocked_since.is_none() {
            wire.blocked_since = Some(app.steady_now());
        }
        Ok(())
    }

    async fn act_on_heard(&mut self) -> ControlFlow<Box<End>> {
        let Self { app, wire, connection, pace, .. } = self;
        let now = app.clock.monotonic();
        // Whoever does not read his answers is not heard: what he sends waits in his own machine. What came before an end is
        // heard: it was read already, and nobody will ask for it later.
        while !wire.heard.is_empty() && (wire.end.is_some() || !app.hub.is_congested(connection)) {
            let together = wire.heard.len().min(HEARD_TOGETHER_MAX);
            let mut hearing = Hearing::new(app, connection, pace, now, together);
            let mut is_over = Ok(());
            for heard in wire.heard.drain(..together) {
                is_over = hearing.hear(heard).await;
                if is_over.is_err() {
                    break;
                }
            }
            hearing.submit().await;
            if let Err(reason) = is_over {
                return ControlFlow::Break(Box::new(reason.into()));
            }
        }
        if wire.heard.is_empty() && wire.heard.capacity() > 0 {
            // An idle socket holds no buffer.
            wire.heard = VecDeque::new();
        }
        wire.end.take().map_or(ControlFlow::Continue(()), ControlFlow::Break)
    }

    fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        let Self { app, wire, connection, catching_up, .. } = self;
        loop {
            let is_written = wire.pending.is_empty();
            if is_written {
                if let Some(taken) = connection.poll_taken(cx.waker()) {
                    return Poll::Ready(Wake::Outgoing(taken));
                }
            } else {
                if wire.stream.poll_write_ready(cx).is_ready() {
                    return Poll::Ready(Wake::Writable);
                }
                if let Some(close) = connection.poll_close(cx.waker()) {
                    return Poll::Ready(Wake::Closing(close));
                }
            }
            // A piece that has come is written before the next one is read.
            if catching_up.poll(app, connection, is_written, cx).is_pending() {
                break;
            }
        }
        if !wire.pending.is_empty() && (!wire.heard.is_empty() || app.hub.is_congested(connection)) {
            return Poll::Pending;
        }
        std::task::ready!(catching_up.poll_heard(cx));
        wire.poll_read(cx).map(|()| Wake::Read)
    }
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
    end: Option<Box<End>>,
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

    /// Whether there is something to do about what was read, or room to give back after it.
    fn has_heard(&self) -> bool {
        self.end.is_some() || self.heard.capacity() > 0
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
                self.end = Some(Box::new(End::Gone));
            }
            Poll::Ready(())
        })
    }

    fn hear(&mut self, mut input: &mut [u8]) {
        self.heard.reserve(input.len() / SHORT_SEND_BYTES);
        loop {
            match self.decoder.next(&mut input) {
                Ok(None) => return,
                Ok(Some(Event::Text(text))) => self.heard.push_back(incoming::parse(text)),
                Ok(Some(Event::Binary(_))) => {
                    let text = "binary frames mean nothing here";
                    self.end = Some(Box::new(End::close(CloseReason::Protocol, text)));
                }
                Ok(Some(Event::Ping(payload))) => self.heard.push_back(Heard::Ping(payload.to_vec())),
                // A sign of life, as any read, and nothing else.
                Ok(Some(Event::Pong(_))) => {}
                Ok(Some(Event::Close(close))) => {
                    let code = close.map_or(CloseCode::NORMAL, |(code, _)| code);
                    self.end = Some(Box::new(End::Answer(code)));
                }
                Err(error) => self.end = Some(Box::new(End::Broken(error))),
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

    /// Says why it ends, as far as it can be written at once; [`finish`](Self::finish) writes the rest.
    fn say(&mut self, end: &End) {
        if let Some(frame) = end.frame() {
            self.pending.push(&frame);
            // Who is gone is found out by whoever writes the rest.
            drop(self.write());
        }
    }

    /// Waits a moment for the other side to take what was said, so that it reads the reason before the stream ends.
    async fn finish(mut self) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const fn bytes_of_future<A, F: Future>(_: &impl Fn(A) -> F) -> usize {
        size_of::<F>()
    }

    /// With the 112 bytes of a task it is 384, which the allocator hands out as it is.
    #[test]
    fn the_task_of_an_idle_socket_takes_384_bytes() {
        let bytes = bytes_of_future(&Ready::serve);
        assert!(bytes <= 272, "{bytes}: what became larger can be boxed while it is done");
    }
}
