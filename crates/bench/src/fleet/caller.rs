//! One connection that does one thing after the other, and waits for each.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use tertulia_protocol::event::{ClientEvent, ServerEvent};
use tertulia_websocket::{CloseCode, Decoder, Event, client};

use super::line::closed;
use crate::load::KEY;
use crate::load::handshake;
use crate::service::Target;

/// What is read at once.
const INPUT_BYTES: usize = 64 * 1024;

/// Where a connection ended, and what lets another go on there.
#[derive(Debug, Clone)]
pub(crate) struct Bookmark {
    pub(crate) resume_token: String,
    pub(crate) position: String,
    /// Whether the one before it was known.
    pub(crate) resumed: bool,
}

/// A connection that blocks.
pub(crate) struct Caller {
    stream: TcpStream,
    decoder: Decoder,
    input: Box<[u8]>,
    output: Vec<u8>,
    /// All that was read since it logged in.
    pub(crate) bytes_read: u64,
}

impl Caller {
    /// Opens a socket, up to where one logs in.
    ///
    /// # Errors
    /// Of the network.
    pub(crate) fn dial(target: &Target, nonce: u64) -> io::Result<Self> {
        let stream = handshake::upgrade(target.address, &target.host, nonce)?;
        let input = vec![0; INPUT_BYTES].into();
        Ok(Self { stream, decoder: handshake::decoder(), input, output: Vec::new(), bytes_read: 0 })
    }

    /// Says these events.
    ///
    /// # Errors
    /// Of the network.
    pub(crate) fn say(&mut self, event: &ClientEvent) -> io::Result<()> {
        let text = serde_json::to_string(event)?;
        self.put(|output| client::put_text(output, KEY, &text))
    }

    /// Writes the frames that `put` makes.
    ///
    /// # Errors
    /// Of the network.
    pub(crate) fn put(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        put(&mut self.output);
        self.stream.write_all(&self.output)?;
        self.output.clear();
        Ok(())
    }

    /// Waits for something, and tells all that has come.
    ///
    /// # Errors
    /// If the connection is lost.
    pub(crate) fn hear(&mut self, mut hear: impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
        let len = self.stream.read(&mut self.input)?;
        if len == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server has hung up"));
        }
        self.bytes_read += len as u64;
        let mut input = &mut self.input[..len];
        while let Some(event) = self.decoder.next(&mut input).map_err(io::Error::other)? {
            match event {
                Event::Text(text) => hear(text)?,
                Event::Ping(payload) => client::put_pong(&mut self.output, KEY, payload),
                Event::Pong(_) | Event::Binary(_) => {}
                Event::Close(reason) => return Err(closed(reason)),
            }
        }
        if !self.output.is_empty() {
            self.put(|_| {})?;
        }
        Ok(())
    }

    /// Logs in with an access token.
    ///
    /// # Errors
    /// If the server does not let us in.
    pub(crate) fn connect(target: &Target, nonce: u64, token: &str) -> io::Result<(Self, Bookmark)> {
        let mut caller = Self::dial(target, nonce)?;
        caller.say(&ClientEvent::Connect { token: token.to_owned() })?;
        let mut ready = None;
        while ready.is_none() {
            caller.hear(|text| {
                ready = ready.take().or(bookmark(text)?);
                Ok(())
            })?;
        }
        let ready = ready.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok((caller, ready))
    }

    /// Says goodbye, and waits until the server has said so, too: it has forgotten the connection then.
    pub(crate) fn leave(mut self) {
        let gone = self.put(|output| client::put_close(output, KEY, CloseCode::NORMAL, ""));
        if gone.is_ok() {
            while self.hear(|_| Ok(())).is_ok() {}
        }
    }
}

/// What `ready` says; nothing if the frame is another.
///
/// # Errors
/// If the server refuses.
pub(crate) fn bookmark(text: &str) -> io::Result<Option<Bookmark>> {
    match serde_json::from_str(text)? {
        ServerEvent::Ready { resume_token, position, resumed, .. } => {
            Ok(Some(Bookmark { resume_token, position, resumed }))
        }
        ServerEvent::Error { detail, .. } => Err(io::Error::new(io::ErrorKind::InvalidData, detail)),
        _ => Ok(None),
    }
}
