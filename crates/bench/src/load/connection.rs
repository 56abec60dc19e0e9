//! One connection: what it does when something comes, and when something is due.

use std::io::{self, Read as _, Write as _};
use std::mem;

use mio::net::TcpStream;
use tertulia_history::Tape;
use tertulia_protocol::{ClientSeq, ConvoId};
use tertulia_websocket::{CloseCode, Decoder, Event, client};

use super::fanout::FanoutPart;
use super::plan::{Schedule, Sends};
use super::tally::Tally;
use super::wire::{Heard, KEY, Letter, Scanner};
use crate::chronicle::record;

/// How many messages of one connection may be unanswered: in an open loop, a server that is further behind has lost.
const UNANSWERED_MAX: usize = 4096;

/// What all connections of a thread share.
pub(super) struct Desk {
    pub(super) scanner: Scanner,
    /// What is read, before it is handed on; of all connections, one after the other.
    pub(super) input: Box<[u8]>,
    /// What is to be written after what was read.
    pub(super) output: Vec<u8>,
    /// A frame that is being made.
    pub(super) text: String,
    pub(super) schedule: Option<Schedule>,
    pub(super) fanout: Option<FanoutPart>,
    pub(super) tally: Tally,
    pub(super) totals: Totals,
}

/// What a thread has done since it began.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) sent: u64,
    pub(super) acked: u64,
    pub(super) delivered: u64,
    /// What must have been delivered when all that was sent has been.
    pub(super) expected: u64,
}

/// A socket that is logged in.
pub(super) struct Connection {
    stream: TcpStream,
    decoder: Decoder,
    /// What the socket has not taken; it says when it can.
    unwritten: Vec<u8>,
    hears: Option<Hears>,
    pub(super) sender: Option<Sender>,
    /// What it says and hears is written here, if a history is.
    tape: Option<Box<Tape>>,
}

/// The one conversation that a connection hears.
struct Hears {
    convo: String,
    last_seq: u64,
}

/// What a connection sends.
pub(super) struct Sender {
    convo: ConvoId,
    letter: Letter,
    audience: u64,
    /// The number of the first message of this run; later than those of any run before.
    first: u64,
    sent: u64,
    /// How many it may have unanswered.
    window: usize,
    unanswered: usize,
    /// When each of the unanswered was due, at its number modulo the length.
    due: Box<[u64]>,
}

impl Sender {
    /// A sender who keeps `window` messages unanswered, or in an open loop as many as it takes.
    pub(super) fn new(sends: Sends, body_bytes: usize, first: u64, window: Option<u32>) -> Self {
        let window = window.map_or(UNANSWERED_MAX, |window| window as usize);
        Self {
            convo: sends.convo,
            letter: Letter::new(sends.convo, body_bytes),
            audience: sends.audience,
            first,
            sent: 0,
            window,
            unanswered: 0,
            due: vec![0; window].into(),
        }
    }

    /// Makes the next message, which is due at `due`.
    fn put(&mut self, desk: &mut Desk, tape: Option<&Tape>, due: u64) -> io::Result<()> {
        if self.unanswered == self.window {
            return Err(trouble(&format!(
                "{UNANSWERED_MAX} messages of one connection are unanswered: it is too much for this server"
            )));
        }
        let client_seq = self.first + self.sent;
        self.letter.put(&mut desk.output, &mut desk.text, client_seq, due);
        if let Some(tape) = tape {
            tape.sends(self.convo, ClientSeq::new(client_seq), self.letter.body(&desk.text));
        }
        self.due[self.sent as usize % self.window] = due;
        self.sent += 1;
        self.unanswered += 1;
        desk.totals.sent += 1;
        desk.totals.expected += self.audience;
        Ok(())
    }

    /// Fills the window of a closed loop.
    fn refill(&mut self, desk: &mut Desk, tape: Option<&Tape>, now: u64) -> io::Result<()> {
        while self.unanswered < self.window {
            self.put(desk, tape, now)?;
        }
        Ok(())
    }

    /// When the message was due that `client_seq` names.
    fn acked(&mut self, client_seq: u64) -> io::Result<u64> {
        match client_seq.checked_sub(self.first) {
            Some(number) if number < self.sent && self.unanswered > 0 => {
                self.unanswered -= 1;
                Ok(self.due[number as usize % self.window])
            }
            _ => Err(trouble(&format!("clientSeq {client_seq} was acked, and never sent"))),
        }
    }
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        decoder: Decoder,
        hears: Option<ConvoId>,
        sender: Option<Sender>,
        tape: Option<Box<Tape>>,
    ) -> Self {
        let hears = hears.map(|convo| Hears { convo: convo.to_string(), last_seq: 0 });
        Self { stream, decoder, unwritten: Vec::new(), hears, sender, tape }
    }

    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Reads what has come and answers it; `refills` if acks make room for new messages.
    ///
    /// # Errors
    /// If the connection is lost, or the server says what it should not.
    pub(super) fn read(
        &mut self,
        desk: &mut Desk,
        clock: impl Fn() -> u64,
        refills: bool,
        closing: bool,
    ) -> io::Result<()> {
        // Away while it is read from: the desk is needed for what is in there.
        let mut buffer = mem::take(&mut desk.input);
        let result = self.read_into(&mut buffer, desk, clock, refills, closing);
        desk.input = buffer;
        result
    }

    fn read_into(
        &mut self,
        buffer: &mut [u8],
        desk: &mut Desk,
        clock: impl Fn() -> u64,
        refills: bool,
        closing: bool,
    ) -> io::Result<()> {
        loop {
            let len = match self.stream.read(buffer) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server has hung up")),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let now = clock();
            self.hear(&mut buffer[..len], desk, now)?;
            if let Some(sender) = &mut self.sender
                && refills
                && desk.schedule.as_ref().is_some_and(|schedule| schedule.is_open(now))
            {
                sender.refill(desk, self.tape.as_deref(), now)?;
            }
            self.write(desk)?;
            // A read that does not fill the buffer has emptied the socket: what comes later is told anew.
            if len < buffer.len() && !closing {
                return Ok(());
            }
        }
    }

    fn hear(&mut self, mut input: &mut [u8], desk: &mut Desk, now: u64) -> io::Result<()> {
        let Self { decoder, hears, sender, tape, .. } = self;
        while let Some(event) = decoder.next(&mut input).map_err(io::Error::other)? {
            let text = match event {
                Event::Text(text) => text,
                Event::Ping(payload) => {
                    client::put_pong(&mut desk.output, KEY, payload);
                    continue;
                }
                Event::Pong(_) => continue,
                Event::Binary(_) => return Err(trouble("a binary frame")),
                Event::Close(reason) => return Err(closed(reason)),
            };
            if let Some(tape) = tape {
                record(tape, text)?;
            }
            match (desk.scanner.read(text), sender.as_mut()) {
                (Heard::Ack { client_seq }, Some(sender)) => {
                    let due = sender.acked(client_seq)?;
                    desk.totals.acked += 1;
                    if let Some(schedule) = &desk.schedule {
                        desk.tally.ack(schedule, due, now);
                    }
                }
                (Heard::Entry { convo, seq, stamp }, _) => {
                    if let Some(hears) = hears {
                        hears.check(convo, seq, sender.is_some())?;
                    }
                    let (Some(stamp), Some(schedule)) = (stamp, &desk.schedule) else { continue };
                    desk.totals.delivered += 1;
                    desk.tally.delivery(schedule, stamp, now);
                    if let Some(fanout) = &mut desk.fanout {
                        fanout.arrived(seq, stamp);
                    }
                }
                (Heard::Trouble(frame), _) if frame.contains(r#""code":"rate_limited""#) => {
                    return Err(trouble(&format!("it limits rates; start it with --limits off: {frame}")));
                }
                (Heard::Trouble(frame), _) => return Err(trouble(frame)),
                (Heard::Ack { .. }, None) => return Err(trouble("an ack, and nothing was sent")),
                (Heard::Other, _) => {}
            }
        }
        Ok(())
    }

    /// Sends the one message that is due at `due`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(super) fn send(&mut self, desk: &mut Desk, due: u64) -> io::Result<()> {
        if let Some(sender) = &mut self.sender {
            sender.put(desk, self.tape.as_deref(), due)?;
        }
        self.write(desk)
    }

    /// Begins a closed loop.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(super) fn begin(&mut self, desk: &mut Desk, now: u64) -> io::Result<()> {
        if let Some(sender) = &mut self.sender {
            sender.refill(desk, self.tape.as_deref(), now)?;
        }
        self.write(desk)
    }

    /// Says goodbye; whether it is heard does not matter. `settled`: all that it was to be told has come.
    pub(super) fn close(mut self, settled: bool) {
        if let Some(tape) = &mut self.tape {
            if settled {
                tape.settled();
            }
            tape.closed(None);
        }
        let mut wire = Vec::new();
        client::put_close(&mut wire, KEY, CloseCode::NORMAL, "");
        drop(self.stream.write(&wire));
    }

    /// Writes what is in `output`, and keeps what the socket does not take.
    pub(super) fn write(&mut self, desk: &mut Desk) -> io::Result<()> {
        let output = &mut desk.output;
        if !self.unwritten.is_empty() {
            self.unwritten.append(output);
            let written = write_some(&mut self.stream, &self.unwritten)?;
            self.unwritten.drain(..written);
            if self.unwritten.is_empty() {
                self.unwritten = Vec::new();
            }
        } else if !output.is_empty() {
            let written = write_some(&mut self.stream, output)?;
            self.unwritten.extend_from_slice(&output[written..]);
            output.clear();
        }
        Ok(())
    }
}

impl Hears {
    /// Entries come in order and none is left out, but those that the connection itself has sent.
    fn check(&mut self, convo: &str, seq: u64, sends: bool) -> io::Result<()> {
        let last = self.last_seq;
        if convo != self.convo {
            return Err(trouble(&format!("an entry of conversation {convo}, which nobody writes to")));
        }
        if last > 0 && (seq <= last || (seq > last + 1 && !sends)) {
            return Err(trouble(&format!("entry {seq} after entry {last}")));
        }
        self.last_seq = seq;
        Ok(())
    }
}

/// Writes until all is written or the socket takes no more.
fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(some) => written += some,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

fn trouble(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server says: {what}"))
}

fn closed(reason: Option<(CloseCode, &str)>) -> io::Error {
    let why = reason.map_or_else(|| "no reason".to_owned(), |(code, reason)| format!("{code} {reason}"));
    io::Error::new(io::ErrorKind::ConnectionAborted, format!("the server has closed a connection: {why}"))
}
