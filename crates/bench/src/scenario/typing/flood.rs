//! Those who type: each tells the others, and counts what he hears of them.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use tertulia_protocol::ConvoId;
use tertulia_protocol::event::ClientEvent;
use tertulia_websocket::client;

use crate::fleet::fill::now_micros;
use crate::fleet::frames::Frame;
use crate::fleet::line::{Line, Signal, in_short};
use crate::load::KEY;
use crate::service::Targets;

/// Events are sent this often, as many as are due.
const TURN: Duration = Duration::from_millis(2);

/// What is to be done.
pub(super) struct Flood {
    pub(super) tokens: Vec<String>,
    pub(super) convo: ConvoId,
    pub(super) per_second: f64,
}

/// Orders, and how it goes.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pub(super) begun: AtomicBool,
    pub(super) quiet: AtomicBool,
    pub(super) stopped: AtomicBool,
    pub(super) over: AtomicBool,
    pub(super) ready: AtomicUsize,
    /// Typing events that were heard.
    pub(super) heard: AtomicU64,
}

/// What those who type have done and heard.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Typed {
    pub(super) sent: u64,
    pub(super) heard: u64,
    /// Messages that they heard, each as often as it was.
    pub(super) messages: u64,
    /// Messages that they did not.
    pub(super) holes: u64,
    pub(super) seconds: f64,
}

impl Flood {
    /// Connects, types from `begun` until `quiet`, and listens until `stopped`.
    ///
    /// # Errors
    /// If somebody is lost.
    pub(super) fn run(&self, targets: &Targets, orders: &Orders) -> io::Result<Typed> {
        let mut poll = Poll::new()?;
        let first = now_micros()?;
        let mut lines = Vec::new();
        for (number, token) in self.tokens.iter().enumerate() {
            let frame = format!(r#"{{"type":"connect","token":"{token}"}}"#);
            let (target, token, nonce) = (targets.of(number), Token(number), first + number as u64);
            lines.push((Line::dial(target, poll.registry(), token, nonce, frame)?, 0_u64));
        }
        let frames = [true, false].map(|active| {
            let mut wire = Vec::new();
            let event = ClientEvent::Typing { convo_id: self.convo, active };
            serde_json::to_string(&event).map(|text| {
                client::put_text(&mut wire, KEY, &text);
                wire
            })
        });
        let [begins, ends] = frames;
        let frames = [begins?, ends?];

        let mut typed = Typed::default();
        let mut events = Events::with_capacity(256);
        let mut buffer = vec![0; 256 * 1024];
        let mut began = None;
        while !orders.stopped.load(Relaxed) {
            if let Err(error) = poll.poll(&mut events, Some(TURN))
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            for event in events.iter() {
                let Some((line, last)) = lines.get_mut(event.token().0) else { continue };
                let mut outcome = if event.is_writable() { line.writable() } else { Ok(()) };
                if outcome.is_ok() && event.is_readable() {
                    let mut hear = |signal: Signal<'_>| hear(signal, last, &mut typed, orders);
                    outcome = line.readable(&mut buffer, &mut hear).map(drop);
                }
                outcome.map_err(|error| io::Error::other(in_short(&error)))?;
            }
            orders.heard.store(typed.heard, Relaxed);
            if orders.begun.load(Relaxed) && !orders.quiet.load(Relaxed) {
                let since = *began.get_or_insert_with(Instant::now);
                let due = (since.elapsed().as_secs_f64() * self.per_second) as u64;
                while typed.sent < due {
                    let (line, _) = &mut lines[typed.sent as usize % self.tokens.len()];
                    // Each begins, and at his next turn ends.
                    let turn = typed.sent as usize / self.tokens.len() % 2;
                    line.send(&frames[turn])?;
                    typed.sent += 1;
                }
                typed.seconds = since.elapsed().as_secs_f64();
            }
        }
        Ok(typed)
    }
}

fn hear(signal: Signal<'_>, last: &mut u64, typed: &mut Typed, orders: &Orders) {
    match signal {
        Signal::Ready(_) => drop(orders.ready.fetch_add(1, Relaxed)),
        Signal::Text(text) => match Frame::read(text) {
            Frame::Typing => typed.heard += 1,
            Frame::Entry { seq, .. } => {
                typed.messages += 1;
                typed.holes += if *last > 0 { seq.saturating_sub(*last + 1) } else { 0 };
                *last = seq;
            }
            // A gap names what it leaves out; here nothing may be left out.
            Frame::Gap { from_seq, to_seq, .. } => {
                typed.holes += (to_seq + 1).saturating_sub(from_seq);
                *last = to_seq;
            }
            _ => {}
        },
        Signal::Pong => {}
    }
}
