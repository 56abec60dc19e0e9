//! Those who stay connected and write, whatever happens to the others.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use mio::{Events, Poll, Token};
use tertulia_history::Tape;
use tertulia_protocol::{ClientSeq, ConvoId};

use super::Shared;
use crate::chronicle::record;
use crate::fleet::fill::now_micros;
use crate::fleet::frames::Frame;
use crate::fleet::line::{Line, Signal, in_short};
use crate::load::{Alarm, Letter};
use crate::service::Targets;

const ALARM: Token = Token(usize::MAX);
/// How long a thread waits at most before it looks for orders.
const TURN_MAX: Duration = Duration::from_millis(50);

/// Who writes, where, and how fast.
pub(super) struct Plan {
    /// The access tokens of the writers.
    pub(super) tokens: Vec<String>,
    /// The conversations, in turn; the writer of each has its number, modulo the writers.
    pub(super) convos: Vec<ConvoId>,
    pub(super) per_second: f64,
    pub(super) body_bytes: usize,
}

/// A message: when it was due and how long its ack took, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) due: u64,
    pub(super) took: Option<u64>,
}

struct Stayers {
    shared: Arc<Shared>,
    lines: Vec<Line>,
    /// What each of them says and hears is written here; none, if no history is.
    tapes: Vec<Tape>,
    tokens: Vec<String>,
    convos: Vec<ConvoId>,
    letters: Vec<Letter>,
    /// The number of the first message.
    first: u64,
    sent: Vec<Sent>,
    acked: usize,
    ready: usize,
    wire: Vec<u8>,
    text: String,
}

/// Connects, writes from the moment that `shared` tells until it says stop, and waits for the last ack.
///
/// # Errors
/// If a connection is lost, or a message refused.
pub(super) fn write(plan: &Plan, targets: &Targets, shared: Arc<Shared>) -> io::Result<Vec<Sent>> {
    let mut poll = Poll::new()?;
    let alarm = Alarm::new(poll.registry(), ALARM)?;
    let first = now_micros()?;
    let mut lines = Vec::with_capacity(plan.tokens.len());
    for (number, token) in plan.tokens.iter().enumerate() {
        let frame = format!(r#"{{"type":"connect","token":"{token}"}}"#);
        lines.push(Line::dial(
            targets.of(number),
            poll.registry(),
            Token(number),
            first + number as u64,
            frame,
        )?);
    }
    let letters = plan.convos.iter().map(|&convo| Letter::new(convo, plan.body_bytes)).collect();
    let tapes =
        shared.chronicle.as_ref().map(|chronicle| plan.tokens.iter().map(|_| chronicle.tape()).collect());
    let mut stayers = Stayers {
        shared,
        lines,
        tapes: tapes.unwrap_or_default(),
        tokens: plan.tokens.clone(),
        convos: plan.convos.clone(),
        letters,
        first,
        sent: Vec::new(),
        acked: 0,
        ready: 0,
        wire: Vec::new(),
        text: String::new(),
    };
    let mut events = Events::with_capacity(256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        if let Err(error) = poll.poll(&mut events, Some(TURN_MAX))
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        for event in events.iter() {
            if event.token() != ALARM {
                stayers.serve(event, &mut buffer)?;
            }
        }
        let shared = Arc::clone(&stayers.shared);
        if shared.is_stopped() || (shared.is_quiet() && stayers.acked == stayers.sent.len()) {
            stayers.tapes.iter_mut().for_each(|tape| tape.closed(None));
            return Ok(stayers.sent);
        }
        let begin = shared.writing_from.load(Relaxed);
        if begin > 0 && !shared.is_quiet() {
            let now = shared.now();
            let next = stayers.write_due(begin, plan.per_second, now)?;
            alarm.set(Duration::from_nanos(next.saturating_sub(shared.now())))?;
        }
    }
}

impl Stayers {
    fn serve(&mut self, event: &mio::event::Event, buffer: &mut [u8]) -> io::Result<()> {
        let Self { shared, lines, tapes, tokens, first, sent, acked, ready, letters, .. } = self;
        let writer = event.token().0;
        let Some(line) = lines.get_mut(writer) else { return Ok(()) };
        let mut tape = tapes.get_mut(writer);
        let lost = |error: io::Error| io::Error::other(format!("a writer: {}", in_short(&error)));
        if event.is_writable() {
            line.writable().map_err(lost)?;
        }
        if !event.is_readable() {
            return Ok(());
        }
        let mut refused = None;
        let mut unwritten = Ok(());
        let mut hear = |signal: Signal<'_>| {
            if let (Some(tape), Signal::Ready(text) | Signal::Text(text)) = (&mut tape, signal)
                && let Err(error) = record(tape, text)
            {
                unwritten = Err(error);
            }
            match signal {
                Signal::Ready(_) => {
                    if let (Some(chronicle), Some(tape)) = (&shared.chronicle, &tape) {
                        chronicle.entered(&tokens[writer], tape);
                    }
                    *ready += 1;
                    shared.writers_ready.store(*ready, Relaxed);
                }
                Signal::Text(text) => match Frame::read(text) {
                    Frame::Ack { client_seq, server_seq } => {
                        let number = client_seq.wrapping_sub(*first) as usize;
                        let Some(sent) = sent.get_mut(number) else { return };
                        sent.took = Some(shared.now().saturating_sub(sent.due));
                        *acked += 1;
                        shared.acked.fetch_add(1, Relaxed);
                        shared.heads[number % letters.len()].fetch_max(server_seq, Relaxed);
                    }
                    Frame::Trouble(frame) => refused = Some(frame.to_owned()),
                    _ => {}
                },
                Signal::Pong => {}
            }
        };
        line.readable(buffer, &mut hear).map_err(lost)?;
        unwritten?;
        refused.map_or(Ok(()), |frame| Err(io::Error::other(format!("the server says: {frame}"))))
    }

    /// Writes all that is due by now; gives when the next one is.
    fn write_due(&mut self, begin: u64, per_second: f64, now: u64) -> io::Result<u64> {
        loop {
            let number = self.sent.len();
            let due = begin + (number as f64 / per_second * 1e9) as u64;
            if due > now {
                return Ok(due);
            }
            let convo = number % self.letters.len();
            let writer = convo % self.lines.len();
            let (letter, client_seq) = (&self.letters[convo], self.first + number as u64);
            letter.put(&mut self.wire, &mut self.text, client_seq, due);
            if let Some(tape) = self.tapes.get(writer) {
                tape.sends(self.convos[convo], ClientSeq::new(client_seq), letter.body(&self.text));
            }
            self.sent.push(Sent { due, took: None });
            self.lines[writer].send(&self.wire)?;
            self.wire.clear();
        }
    }
}
