//! One hostile peer.

use std::io::{self, Read as _, Write as _};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;
use tertulia_protocol::rules::{FRAME_BYTES_MAX, PAGE_MAX};
use tertulia_websocket::client;

use super::kind::Kind;
use super::mob::Mob;
use crate::fleet::line::{Line, Signal, in_short};
use crate::load::{KEY, upgrade_request};
use crate::service::Target;

/// What a peer has not got rid of at most; a flood does not fill our own memory.
const UNWRITTEN_MAX: usize = 256 * 1024;
/// What the kernel keeps for who does not read: what it has no room for is the server's.
const KEPT_UNREAD_BYTES: usize = 8 * 1024;
/// One message in so many fragments.
const FRAGMENTS: usize = 1_000;

/// A connection with bad intentions.
#[derive(Debug)]
pub(super) enum Peer {
    /// One that stays before the upgrade: what is left of its request, from the end, and what it asks then.
    Outside { stream: TcpStream, request: Vec<u8>, again: Vec<u8>, heard: Vec<u8> },
    /// One that gets further.
    Inside { line: Line, is_ready: bool, fragment: usize },
}

impl Peer {
    /// Comes.
    ///
    /// # Errors
    /// Of the network.
    pub(super) fn dial(
        mob: &Mob,
        target: &Target,
        registry: &Registry,
        number: usize,
        nonce: u64,
    ) -> io::Result<Self> {
        let Mob { kind, tokens, group } = mob;
        let (kind, token, access_token) = (*kind, Token(number), &tokens[number]);
        if let Kind::SlowLoris | Kind::HalfHead | Kind::UnreadAnswers = kind {
            let mut stream = TcpStream::connect(target.address)?;
            registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            if kind == Kind::UnreadAnswers {
                SockRef::from(&stream).set_recv_buffer_size(KEPT_UNREAD_BYTES)?;
                let host = &target.host;
                let again = format!(
                    "GET /api/conversations/{group}/messages?limit={PAGE_MAX} HTTP/1.1\r\nHost: {host}\r\n\
                     Authorization: Bearer {access_token}\r\n\r\n"
                );
                let again = again.into_bytes().into_iter().rev().collect();
                return Ok(Self::Outside { stream, request: Vec::new(), again, heard: Vec::new() });
            }
            let key = client::handshake_key(u128::from(nonce).to_le_bytes());
            let mut request = upgrade_request(&target.host, &key).into_bytes();
            if kind == Kind::HalfHead {
                request.truncate(request.len() / 2);
            }
            request.reverse();
            return Ok(Self::Outside { stream, request, again: Vec::new(), heard: Vec::new() });
        }
        let first_frame = match kind.enters() {
            true => format!(r#"{{"type":"connect","token":"{access_token}"}}"#),
            false => String::new(),
        };
        let line = Line::dial(target, registry, token, nonce, first_frame)?;
        if kind == Kind::NeverReading {
            line.hold_little(KEPT_UNREAD_BYTES)?;
        }
        Ok(Self::Inside { line, is_ready: false, fragment: 0 })
    }

    /// Whether it is where it wanted to be.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Self::Outside { .. } => true,
            Self::Inside { is_ready, .. } => *is_ready,
        }
    }

    /// The socket takes more.
    ///
    /// # Errors
    /// If the server has had enough: in few words, with what.
    pub(super) fn writable(&mut self, kind: Kind) -> Result<(), String> {
        match self {
            Self::Outside { .. } if kind == Kind::HalfHead => self.dribble(usize::MAX).map(drop),
            Self::Outside { .. } => Ok(()),
            Self::Inside { line, .. } => line.writable().map_err(|error| in_short(&error)),
        }
    }

    /// Something has come. Who does not read hears nothing but that the connection stands.
    ///
    /// # Errors
    /// If the server has had enough: in few words, with what.
    pub(super) fn readable(&mut self, kind: Kind, is_over: bool, buffer: &mut [u8]) -> Result<(), String> {
        match self {
            Self::Outside { .. } if kind == Kind::UnreadAnswers && !is_over => Ok(()),
            Self::Outside { stream, heard, .. } => match stream.read(buffer) {
                Ok(0) => Err(outcome(heard)),
                Ok(read) => {
                    heard.extend_from_slice(&buffer[..read]);
                    self.readable(kind, is_over, buffer)
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                Err(_) if !heard.is_empty() => Err(outcome(heard)),
                Err(error) => Err(in_short(&error)),
            },
            Self::Inside { is_ready: true, .. } if kind == Kind::NeverReading && !is_over => Ok(()),
            Self::Inside { line, is_ready, .. } => {
                let mut hear = |signal: Signal<'_>| *is_ready |= matches!(signal, Signal::Ready(_));
                line.readable(buffer, &mut hear).map(drop).map_err(|error| in_short(&error))
            }
        }
    }

    /// Does once what it came for; gives the bytes.
    ///
    /// # Errors
    /// If the server has had enough: in few words, with what.
    pub(super) fn act(&mut self, kind: Kind, wire: &mut Vec<u8>) -> Result<usize, String> {
        let (line, fragment) = match self {
            Self::Inside { line, fragment, .. } => (line, fragment),
            Self::Outside { request, again, .. } if kind == Kind::UnreadAnswers => {
                if request.is_empty() {
                    request.clone_from(again);
                }
                return self.dribble(usize::MAX);
            }
            Self::Outside { .. } => return self.dribble(1),
        };
        if line.unwritten() > UNWRITTEN_MAX {
            return Ok(0);
        }
        wire.clear();
        match kind {
            Kind::PingFlood => client::put_ping(wire, KEY, b"are you there?"),
            Kind::Garbage => {
                let garbage = "[{\"type\":".repeat(FRAME_BYTES_MAX / 9);
                client::put_text(wire, KEY, &garbage);
            }
            Kind::OneByteFragments => {
                put_fragment(wire, *fragment, FRAGMENTS);
                *fragment = (*fragment + 1) % FRAGMENTS;
            }
            Kind::SlowLoris | Kind::HalfHead | Kind::Silent | Kind::NeverReading | Kind::UnreadAnswers => {}
        }
        line.send(wire).map_err(|error| in_short(&error))?;
        Ok(wire.len())
    }

    /// Writes at most so many bytes of the request; gives how many.
    fn dribble(&mut self, count: usize) -> Result<usize, String> {
        let Self::Outside { stream, request, .. } = self else { return Ok(0) };
        let before = request.len();
        for _ in 0..count {
            let Some(&byte) = request.last() else { break };
            match stream.write(&[byte]) {
                Ok(_) => drop(request.pop()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => break,
                Err(error) => return Err(in_short(&error)),
            }
        }
        Ok(before - request.len())
    }
}

/// One fragment of a text message, of one byte: the first, one between, or the last.
fn put_fragment(wire: &mut Vec<u8>, number: usize, of: usize) {
    const TEXT: u8 = 0x1;
    const FIN: u8 = 0x80;
    const MASKED: u8 = 0x80;
    let opcode = if number == 0 { TEXT } else { 0 };
    let fin = if number + 1 == of { FIN } else { 0 };
    wire.extend_from_slice(&[fin | opcode, MASKED | 1, KEY[0], KEY[1], KEY[2], KEY[3], b'x' ^ KEY[0]]);
}

/// What a request was answered with.
fn outcome(heard: &[u8]) -> String {
    let text = String::from_utf8_lossy(heard);
    let line = text.lines().next().unwrap_or_default().trim_start_matches("HTTP/1.1 ");
    match line {
        "" => "hung up".to_owned(),
        // An answer that was asked for; what refuses is another.
        "200 OK" => "cut off in an answer".to_owned(),
        line => format!("answered {line}"),
    }
}

#[cfg(test)]
mod tests {
    use tertulia_websocket::{Decoder, Event};

    use super::*;

    #[test]
    fn fragments_are_one_message() {
        let mut wire = Vec::new();
        (0..4).for_each(|number| put_fragment(&mut wire, number, 4));
        let mut decoder = Decoder::default();
        let mut input = wire.as_mut_slice();
        assert_eq!(decoder.next(&mut input).unwrap(), Some(Event::Text("xxxx")));
        assert_eq!(decoder.next(&mut input).unwrap(), None);
    }

    #[test]
    fn an_answer_is_told_by_its_first_line() {
        assert_eq!(outcome(b"HTTP/1.1 408 Request Timeout\r\n\r\n"), "answered 408 Request Timeout");
        assert_eq!(outcome(b"HTTP/1.1 200 OK\r\n\r\n{"), "cut off in an answer");
        assert_eq!(outcome(b""), "hung up");
    }
}
