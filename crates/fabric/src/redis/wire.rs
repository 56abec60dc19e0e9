//! A connection: dialled, logged in, and cut in two halves that know what life signs are.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior};

use super::resp::{self, Malformed, Value};
use super::target::{Address, Target};
use super::{Command, Reply};

/// How long a connection may take until it is logged in.
const DIAL_MAX: Duration = Duration::from_millis(1_500);
/// How long a server may say nothing that owes us an answer. A paused server, or one whose network is gone, is noticed
/// within this and [`PING_AFTER`].
pub(crate) const SILENCE_MAX: Duration = Duration::from_millis(1_200);
/// A server that has said nothing for so long is asked whether it is there.
pub(crate) const PING_AFTER: Duration = Duration::from_millis(500);
/// How often life signs are looked at.
const WATCH_EVERY: Duration = Duration::from_millis(100);
/// What is read at once at least.
const READ_MIN: usize = 16 * 1024;
/// A read buffer that has grown beyond this is not kept.
const READ_KEPT: usize = 256 * 1024;

/// Why a connection ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the server closed the connection")]
    Ended,
    #[error("the server does not answer")]
    Silent,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the server says: {0}")]
    Refused(String),
    #[error("{0} is no name that a certificate can have")]
    Name(String),
    #[error("the server answered what was not asked")]
    Unexpected,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What the server says.
pub(crate) struct Incoming {
    half: ReadHalf<Box<dyn Stream>>,
    buffer: BytesMut,
    /// How much of the buffer was handed out.
    read: usize,
}

/// What it is told.
pub(crate) struct Outgoing(WriteHalf<Box<dyn Stream>>);

/// Connects and logs in.
pub(crate) async fn dial(target: &Target, address: &Address) -> Result<(Incoming, Outgoing), WireError> {
    match tokio::time::timeout(DIAL_MAX, dial_unhurried(target, address)).await {
        Ok(dialled) => dialled,
        Err(_) => Err(WireError::Silent),
    }
}

async fn dial_unhurried(target: &Target, address: &Address) -> Result<(Incoming, Outgoing), WireError> {
    let tcp = TcpStream::connect((&*address.host, address.port)).await?;
    tcp.set_nodelay(true)?;
    // What is given up unanswered is not delivered later, behind the back of the next connection.
    tcp.set_zero_linger()?;
    let stream: Box<dyn Stream> = match &target.tls {
        None => Box::new(tcp),
        Some(tls) => {
            let name = ServerName::try_from(address.host.to_string());
            let name = name.map_err(|_| WireError::Name(address.host.to_string()))?;
            Box::new(tls.connect(name, tcp).await?)
        }
    };
    let (read, write) = tokio::io::split(stream);
    let (mut incoming, mut outgoing) =
        (Incoming { half: read, buffer: BytesMut::new(), read: 0 }, Outgoing(write));
    let mut hello = Command::new("HELLO", if target.login.is_some() { 7 } else { 4 });
    hello.word(b"3");
    if let Some(login) = &target.login {
        hello.word(b"AUTH");
        hello.word(login.user.as_bytes());
        hello.word(login.password.as_bytes());
    }
    hello.word(b"SETNAME");
    hello.word(b"tertulia");
    outgoing.write(hello.as_bytes()).await?;
    loop {
        if let Some(value) = incoming.next()? {
            return match value.to_reply() {
                Reply::List(_) => Ok((incoming, outgoing)),
                Reply::Error(text) => Err(WireError::Refused(text)),
                _ => Err(WireError::Unexpected),
            };
        }
        incoming.fill().await?;
    }
}

impl Incoming {
    /// The next value, if all of it has been read.
    pub(crate) fn next(&mut self) -> Result<Option<Value<'_>>, Malformed> {
        let Self { buffer, read, .. } = self;
        let Some((value, length)) = resp::parse(&buffer[*read..])? else { return Ok(None) };
        *read += length;
        Ok(Some(value))
    }

    /// Reads more. Nothing is lost if this is dropped while it waits.
    pub(crate) async fn fill(&mut self) -> Result<(), WireError> {
        self.buffer.advance(std::mem::take(&mut self.read));
        if self.buffer.is_empty() && self.buffer.capacity() > READ_KEPT {
            self.buffer = BytesMut::new();
        }
        // What has come of a long value is not parsed again for every few bytes of it.
        self.buffer.reserve(READ_MIN.max(self.buffer.len()));
        match self.half.read_buf(&mut self.buffer).await? {
            0 => Err(WireError::Ended),
            _ => Ok(()),
        }
    }
}

impl Outgoing {
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.0.write_all(bytes).await?;
        Ok(self.0.flush().await?)
    }
}

/// When a server gave its last sign of life, and since when it owes us one.
///
/// Whoever keeps the list of what is owed says so under the lock of that list.
pub(crate) struct Life(Mutex<Signs>);

struct Signs {
    last: Instant,
    owed_since: Option<Instant>,
    /// Whether we are not reading, so that silence means nothing.
    not_reading: bool,
}

impl Life {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Signs { last: Instant::now(), owed_since: None, not_reading: false }))
    }

    fn signs(&self) -> MutexGuard<'_, Signs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something came.
    pub(crate) fn sign(&self) {
        self.signs().last = Instant::now();
    }

    /// Something was asked, and is owed.
    pub(crate) fn asked(&self) {
        let mut signs = self.signs();
        signs.owed_since = signs.owed_since.or_else(|| Some(Instant::now()));
    }

    /// Nothing is owed any more.
    pub(crate) fn answered(&self) {
        self.signs().owed_since = None;
    }

    /// Whether we read. From the moment on that we do again, silence is counted anew.
    pub(crate) fn set_reading(&self, reading: bool) {
        let mut signs = self.signs();
        signs.not_reading = !reading;
        signs.last = Instant::now();
    }

    /// Returns once the server has owed a sign of life for too long; `ping` is called when it has said nothing for a
    /// while.
    pub(crate) async fn watch(&self, ping: impl Fn()) {
        let mut every = tokio::time::interval(WATCH_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = Instant::now();
        loop {
            every.tick().await;
            let now = Instant::now();
            // We ourselves were stopped, or starved: what came meanwhile has to be read first.
            let was_away = now.duration_since(before) > 5 * WATCH_EVERY;
            before = now;
            match self.signs().look(now, was_away) {
                Look::Well => {}
                Look::Quiet => ping(),
                Look::Dead => return,
            }
        }
    }
}

/// What the signs say.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Well,
    Quiet,
    Dead,
}

impl Signs {
    fn look(&mut self, now: Instant, was_away: bool) -> Look {
        if was_away {
            self.last = now;
        }
        let silence = now.duration_since(self.last);
        match self.owed_since {
            Some(owed) if !self.not_reading && silence.min(now.duration_since(owed)) >= SILENCE_MAX => {
                Look::Dead
            }
            None if silence >= PING_AFTER => Look::Quiet,
            _ => Look::Well,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is seen so many milliseconds after the last sign, and so many after something was asked.
    #[track_caller]
    fn check(silence: u64, owed: Option<u64>, not_reading: bool, expected: &Look) {
        let now = Instant::now() + Duration::from_secs(3_600);
        let ago = |millis| now - Duration::from_millis(millis);
        let mut signs = Signs { last: ago(silence), owed_since: owed.map(ago), not_reading };
        assert_eq!(signs.look(now, false), *expected);
        assert_ne!(signs.look(now, true), Look::Dead, "we were away ourselves");
    }

    #[test]
    fn a_server_is_dead_that_owes_an_answer_and_says_nothing() {
        check(0, None, false, &Look::Well);
        check(499, None, false, &Look::Well);
        check(500, None, false, &Look::Quiet);
        check(60_000, None, false, &Look::Quiet);
        check(60_000, Some(0), false, &Look::Well);
        check(60_000, Some(1_199), false, &Look::Well);
        check(60_000, Some(1_200), false, &Look::Dead);
        check(1_200, Some(60_000), false, &Look::Dead);
        check(1_199, Some(60_000), false, &Look::Well);
    }

    #[test]
    fn nobody_is_dead_to_whom_we_do_not_listen() {
        check(60_000, Some(60_000), true, &Look::Well);
    }

    #[test]
    fn who_has_answered_owes_nothing() {
        let life = Life::new();
        life.asked();
        life.asked();
        life.answered();
        assert_eq!(life.signs().look(Instant::now() + Duration::from_secs(60), false), Look::Quiet);
    }
}
