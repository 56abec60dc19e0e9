//! A socket that does not block, from dialling to hearing: thousands of them can be under way at once.

use std::io::{self, Read as _, Write as _};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use tertulia_websocket::{CloseCode, Decoder, Event, MESSAGE_BYTES_MAX, accept_key, client};

use crate::load::{KEY, upgrade_request};
use crate::service::Target;

/// The longest answer to an upgrade.
const ANSWER_BYTES_MAX: usize = 8 * 1024;

/// A connection, standing or on its way.
#[derive(Debug)]
pub(crate) struct Line {
    stream: TcpStream,
    stage: Stage,
    decoder: Decoder,
    /// What the socket has not taken.
    unwritten: Vec<u8>,
}

#[derive(Debug)]
enum Stage {
    /// The network has not answered.
    Dialling(Box<Greeting>),
    /// The server has not answered the upgrade.
    Upgrading(Box<Greeting>),
    /// The server has not said `ready`.
    Entering,
    /// It stands.
    Live,
}

/// What is said on the way.
#[derive(Debug)]
struct Greeting {
    request: String,
    accept: String,
    /// The answer, as far as it has come.
    answer: Vec<u8>,
    first_frame: String,
}

/// What a line hears.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signal<'a> {
    /// The connection stands; the frame says `ready`.
    Ready(&'a str),
    /// Something else.
    Text(&'a str),
    /// An answer to a ping.
    Pong,
}

impl Line {
    /// Begins to connect; `first_frame` is what it logs in with.
    ///
    /// # Errors
    /// Of the network.
    pub(crate) fn dial(
        target: &Target,
        registry: &Registry,
        token: Token,
        nonce: u64,
        first_frame: String,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(target.address)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let key = client::handshake_key(u128::from(nonce).to_le_bytes());
        let accept = accept_key(&key).map_err(io::Error::other)?;
        let request = upgrade_request(&target.host, &key);
        let greeting = Greeting { request, accept, answer: Vec::new(), first_frame };
        Ok(Self {
            stream,
            stage: Stage::Dialling(Box::new(greeting)),
            decoder: Decoder::for_client(MESSAGE_BYTES_MAX * 2),
            unwritten: Vec::new(),
        })
    }

    /// The socket takes more: goes on dialling or writes what waits.
    ///
    /// # Errors
    /// Of the network.
    pub(crate) fn writable(&mut self) -> io::Result<()> {
        if let Stage::Dialling(_) = self.stage {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            match self.stream.peer_addr() {
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
                other => drop(other?),
            }
            self.stream.set_nodelay(true)?;
            if let Stage::Dialling(mut greeting) = std::mem::replace(&mut self.stage, Stage::Entering) {
                self.unwritten = std::mem::take(&mut greeting.request).into_bytes();
                self.stage = Stage::Upgrading(greeting);
            }
        }
        self.flush()
    }

    /// Sends these frames.
    ///
    /// # Errors
    /// Of the network.
    pub(crate) fn send(&mut self, wire: &[u8]) -> io::Result<()> {
        self.unwritten.extend_from_slice(wire);
        self.flush()
    }

    /// Whether the server has said `ready`: what is sent earlier would come before the login.
    pub(crate) const fn is_live(&self) -> bool {
        matches!(self.stage, Stage::Live)
    }

    /// How much waits for the socket.
    pub(crate) fn unwritten(&self) -> usize {
        self.unwritten.len()
    }

    /// Lets the kernel keep only so much of what is not read.
    ///
    /// # Errors
    /// Of the kernel.
    pub(crate) fn hold_little(&self, bytes: usize) -> io::Result<()> {
        socket2::SockRef::from(&self.stream).set_recv_buffer_size(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut written = 0;
        while written < self.unwritten.len() {
            match self.stream.write(&self.unwritten[written..]) {
                Ok(some) => written += some,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.unwritten.drain(..written);
        if self.unwritten.is_empty() {
            self.unwritten = Vec::new();
        }
        Ok(())
    }

    /// Reads what has come, and tells it; gives the number of bytes.
    ///
    /// # Errors
    /// If the connection is lost, or the server refuses it.
    pub(crate) fn readable(
        &mut self,
        buffer: &mut [u8],
        hear: &mut impl FnMut(Signal<'_>),
    ) -> io::Result<usize> {
        let mut bytes = 0;
        loop {
            let len = match self.stream.read(buffer) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "hung up")),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            bytes += len;
            if let Stage::Upgrading(_) | Stage::Dialling(_) = self.stage {
                self.answered(&buffer[..len])?;
            } else {
                self.frames(&mut buffer[..len], hear)?;
            }
        }
        self.flush()?;
        Ok(bytes)
    }

    fn answered(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Stage::Upgrading(greeting) = &mut self.stage else { return Ok(()) };
        greeting.answer.extend_from_slice(bytes);
        let answer = String::from_utf8_lossy(&greeting.answer);
        if !answer.contains("\r\n\r\n") && answer.len() <= ANSWER_BYTES_MAX {
            return Ok(());
        }
        if !answer.starts_with("HTTP/1.1 101 ") || !answer.contains(&greeting.accept) {
            return Err(refused(answer.lines().next().unwrap_or_default()));
        }
        // Who has nothing to say stays here.
        if !greeting.first_frame.is_empty() {
            client::put_text(&mut self.unwritten, KEY, &greeting.first_frame);
        }
        self.stage = Stage::Entering;
        Ok(())
    }

    fn frames(&mut self, mut input: &mut [u8], hear: &mut impl FnMut(Signal<'_>)) -> io::Result<()> {
        let is_ready = |text: &str| text.starts_with(r#"{"type":"ready""#);
        while let Some(event) = self.decoder.next(&mut input).map_err(io::Error::other)? {
            match event {
                Event::Text(text) if matches!(self.stage, Stage::Entering) && is_ready(text) => {
                    self.stage = Stage::Live;
                    hear(Signal::Ready(text));
                }
                Event::Text(text) => hear(Signal::Text(text)),
                Event::Ping(payload) => client::put_pong(&mut self.unwritten, KEY, payload),
                Event::Pong(_) => hear(Signal::Pong),
                Event::Binary(_) => return Err(refused("a binary frame")),
                Event::Close(reason) => return Err(closed(reason)),
            }
        }
        Ok(())
    }
}

fn refused(how: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, how.to_owned())
}

/// What a server has closed a connection with.
pub(crate) fn closed(reason: Option<(CloseCode, &str)>) -> io::Error {
    let why = reason.map_or_else(|| "closed".to_owned(), |(code, _)| format!("closed with {code}"));
    io::Error::new(io::ErrorKind::ConnectionAborted, why)
}

/// What went wrong, in few words: the same for all whom it happens to.
pub(crate) fn in_short(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::ConnectionAborted | io::ErrorKind::UnexpectedEof => {
            error.to_string()
        }
        kind => kind.to_string(),
    }
}
