//! The one thread: sockets in, a turn, sockets out.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use tertulia_protocol::Timestamp;
use tertulia_websocket::{Decoder, Event as Said, Frame, MESSAGE_BYTES_MAX};

use super::log::{Log, Nowhere, Ring};
use super::relay::Relay;
use super::{http, rest};
use crate::error::Error;

/// Connections that are served in one turn.
const EVENTS_MAX: usize = 4096;
/// What is read at once.
const INPUT_BYTES: usize = 256 * 1024;
/// What may wait for a reader. Who is further behind is disconnected: the floor is no place to be slow at.
const UNWRITTEN_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Connections have the tokens from 0 on.
const LISTENER: Token = Token(usize::MAX - 1);
const STOP: Token = Token(usize::MAX - 2);

/// A floor that listens; [`run`](Self::run) serves.
pub struct Floor {
    poll: Poll,
    listener: TcpListener,
    address: SocketAddr,
    stop: Arc<Waker>,
    log: Box<dyn Log + Send>,
}

/// Ends a floor, from another thread.
#[derive(Debug, Clone)]
pub struct Stop(Arc<Waker>);

impl Stop {
    /// The floor ends with the turn that it is in.
    ///
    /// # Errors
    /// If the system does not wake it.
    pub fn stop(&self) -> io::Result<()> {
        self.0.wake()
    }
}

impl Floor {
    /// Listens, and makes the file, if there is to be one.
    ///
    /// # Errors
    /// If either is not possible.
    pub fn bind(listen: SocketAddr, file: Option<&Path>) -> Result<Self, Error> {
        let bind = || {
            let poll = Poll::new()?;
            let mut listener = TcpListener::bind(listen)?;
            let address = listener.local_addr()?;
            poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
            let stop = Arc::new(Waker::new(poll.registry(), STOP)?);
            Ok((poll, listener, address, stop))
        };
        let (poll, listener, address, stop) = bind().map_err(Error::io(format!("listen on {listen}")))?;
        let log: Box<dyn Log + Send> = match file {
            None => Box::new(Nowhere),
            Some(path) => {
                let ring = Ring::create(path);
                Box::new(ring.map_err(Error::io(format!("make the file {}", path.display())))?)
            }
        };
        Ok(Self { poll, listener, address, stop, log })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What ends it.
    pub fn stop(&self) -> Stop {
        Stop(Arc::clone(&self.stop))
    }

    /// Serves until it is stopped.
    ///
    /// # Errors
    /// If the disk fails, or the system.
    pub fn run(mut self) -> Result<(), Error> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut hall =
            Hall { lines: Slab::new(), relay: Relay::default(), input: vec![0; INPUT_BYTES].into() };
        loop {
            match self.turn(&mut hall, &mut events) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => return Err(Error::io("serve the floor")(error)),
            }
        }
    }

    /// A turn; `false` if it is the last.
    fn turn(&mut self, hall: &mut Hall, events: &mut Events) -> io::Result<bool> {
        match self.poll.poll(events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            other => other?,
        }
        hall.relay.begin(now(), self.log.keeps());
        for event in events.iter() {
            match event.token() {
                LISTENER => self.accept(hall)?,
                STOP => return Ok(false),
                Token(line) => hall.serve(line, event),
            }
        }
        hall.settle(&mut *self.log)?;
        Ok(true)
    }

    fn accept(&self, hall: &mut Hall) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((mut stream, _)) => {
                    stream.set_nodelay(true)?;
                    let entry = hall.lines.vacant_entry();
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    self.poll.registry().register(&mut stream, Token(entry.key()), interest)?;
                    entry.insert(Line { stream, stage: Stage::Http(Vec::new()), unwritten: Vec::new() });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // It was gone before we came to it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// All connections, and what is said on them.
struct Hall {
    lines: Slab<Line>,
    relay: Relay,
    /// What is read, of one connection after the other.
    input: Box<[u8]>,
}

/// A connection.
struct Line {
    stream: TcpStream,
    stage: Stage,
    /// What the socket has not taken; it says when it can.
    unwritten: Vec<u8>,
}

enum Stage {
    /// Requests; what has come of the next one.
    Http(Vec<u8>),
    Socket(Decoder),
}

/// Why a connection ends: whatever it is, nobody asks.
struct Over;

impl Hall {
    fn serve(&mut self, number: usize, event: &Event) {
        let Some(line) = self.lines.get_mut(number) else { return };
        let mut outcome = Ok(());
        if event.is_writable() && !line.unwritten.is_empty() {
            outcome = line.write(&[]);
        }
        if outcome.is_ok() && event.is_readable() {
            outcome = line.read(number, &mut self.relay, &mut self.input, event.is_read_closed());
        }
        if outcome.is_err() {
            self.hang_up(number);
        }
    }

    fn settle(&mut self, log: &mut dyn Log) -> io::Result<()> {
        let Self { lines, relay, .. } = self;
        let mut over = Vec::new();
        relay.settle(log, |number, bytes| {
            if let Some(line) = lines.get_mut(number)
                && line.write(bytes).is_err()
            {
                over.push(number);
            }
        })?;
        over.into_iter().for_each(|number| self.hang_up(number));
        Ok(())
    }

    fn hang_up(&mut self, number: usize) {
        self.relay.leave(number);
        drop(self.lines.try_remove(number));
    }
}

impl Line {
    fn read(
        &mut self,
        number: usize,
        relay: &mut Relay,
        buffer: &mut [u8],
        closing: bool,
    ) -> Result<(), Over> {
        loop {
            let len = match self.stream.read(buffer) {
                Ok(0) => return Err(Over),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(Over),
            };
            self.hear(number, relay, &mut buffer[..len])?;
            relay.hand_out(number);
            // A read that does not fill the buffer has emptied the socket: what comes later is told anew.
            if len < buffer.len() && !closing {
                return Ok(());
            }
        }
    }

    fn hear(&mut self, number: usize, relay: &mut Relay, mut input: &mut [u8]) -> Result<(), Over> {
        let decoder = match &mut self.stage {
            Stage::Socket(decoder) => decoder,
            Stage::Http(come) => {
                come.extend_from_slice(input);
                return self.answer(relay);
            }
        };
        let mut pongs = Vec::new();
        loop {
            match decoder.next(&mut input) {
                Ok(Some(Said::Text(text))) => relay.hear(number, text),
                Ok(Some(Said::Ping(payload))) => pongs.extend_from_slice(Frame::pong(payload).bytes()),
                Ok(Some(Said::Pong(_))) => {}
                Ok(Some(Said::Binary(_) | Said::Close(_))) | Err(_) => return Err(Over),
                Ok(None) => break,
            }
        }
        if pongs.is_empty() { Ok(()) } else { self.write(&pongs) }
    }

    /// Answers all requests that have come.
    fn answer(&mut self, relay: &mut Relay) -> Result<(), Over> {
        let Stage::Http(come) = &mut self.stage else { return Ok(()) };
        let (mut done, mut wire, mut upgraded) = (0, Vec::new(), false);
        while let Some(request) = http::request(&come[done..]).map_err(|_| Over)? {
            done += request.len;
            if request.path == "/api/ws" {
                match http::upgrade(&request.upgrade) {
                    // A client waits for the answer before it says anything.
                    Ok(answer) => {
                        wire.extend_from_slice(answer.as_bytes());
                        upgraded = true;
                        break;
                    }
                    Err(refusal) => refusal.put(&mut wire),
                }
            } else {
                let now = relay.now();
                rest::call(&mut relay.registry, &request, now).put(&mut wire);
            }
        }
        come.drain(..done);
        if upgraded {
            self.stage = Stage::Socket(Decoder::new(MESSAGE_BYTES_MAX));
        }
        self.write(&wire)
    }

    /// Writes all of it with one system call; what the socket does not take waits.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Over> {
        if !self.unwritten.is_empty() {
            self.unwritten.extend_from_slice(bytes);
            let written = write_some(&mut self.stream, &self.unwritten)?;
            self.unwritten.drain(..written);
            if self.unwritten.is_empty() {
                self.unwritten = Vec::new();
            }
        } else if !bytes.is_empty() {
            let written = write_some(&mut self.stream, bytes)?;
            self.unwritten.extend_from_slice(&bytes[written..]);
        }
        if self.unwritten.len() > UNWRITTEN_BYTES_MAX { Err(Over) } else { Ok(()) }
    }
}

/// Writes until all is written or the socket takes no more.
fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize, Over> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(some) => written += some,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Over),
        }
    }
    Ok(written)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(since.as_millis() as i64)
}
