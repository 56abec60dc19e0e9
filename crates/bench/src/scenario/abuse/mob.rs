//! All hostile peers, on one thread. Whoever is thrown out comes back a second later.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token};
use tertulia_protocol::ConvoId;

use super::Orders;
use super::kind::Kind;
use super::peer::Peer;
use crate::fleet::fill::now_micros;
use crate::fleet::line::{Line, in_short};
use crate::load::Letter;
use crate::service::Target;

const TURN: Duration = Duration::from_millis(2);
/// How long somebody stays away who was thrown out.
const AWAY: Duration = Duration::from_secs(1);
/// Messages of the group that nobody reads.
const UNREAD_BYTES: usize = 4 * 1024;

/// Who does what.
pub(super) struct Mob {
    pub(super) kind: Kind,
    /// Access tokens; the last one is that of the writer whom nobody reads.
    pub(super) tokens: Vec<String>,
    pub(super) group: ConvoId,
}

/// What they did, and what became of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Damage {
    pub(super) connects: u64,
    /// Frames, or bytes of requests.
    pub(super) sent: u64,
    pub(super) bytes: u64,
    pub(super) closed: BTreeMap<String, u64>,
    pub(super) open_in_the_end: usize,
}

struct Run<'a> {
    mob: &'a Mob,
    target: &'a Target,
    poll: Poll,
    peers: Vec<Option<Peer>>,
    /// Who comes back, and when.
    away: Vec<(Instant, usize)>,
    nonce: u64,
    damage: Damage,
}

impl Mob {
    /// Disturbs until it is stopped.
    ///
    /// # Errors
    /// Of this machine.
    pub(super) fn run(&self, target: &Target, orders: &Orders) -> io::Result<Damage> {
        let hostile = self.tokens.len() - 1;
        let now = Instant::now();
        let mut run = Run {
            mob: self,
            target,
            poll: Poll::new()?,
            peers: (0..hostile).map(|_| None).collect(),
            away: (0..hostile).map(|number| (now, number)).collect(),
            nonce: now_micros()?,
            damage: Damage::default(),
        };
        let mut writer = match self.kind {
            Kind::NeverReading => {
                let frame = format!(r#"{{"type":"connect","token":"{}"}}"#, self.tokens[hostile]);
                let line = Line::dial(target, run.poll.registry(), Token(hostile), run.nonce, frame)?;
                Some((line, Letter::new(self.group, UNREAD_BYTES)))
            }
            _ => None,
        };
        let first = run.nonce;
        let (mut events, mut buffer) = (Events::with_capacity(256), vec![0; 64 * 1024]);
        let (mut done, mut wire, mut text) = (0, Vec::new(), String::new());
        while !orders.stopped.load(Relaxed) {
            run.come_back();
            if let Err(error) = run.poll.poll(&mut events, Some(TURN))
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            for event in events.iter() {
                match &mut writer {
                    Some((line, _)) if event.token().0 == hostile => {
                        line.writable()?;
                        line.readable(&mut buffer, &mut |_| {})?;
                    }
                    _ => run.serve(event, &mut buffer),
                }
            }
            orders.closed.store(run.damage.closed.values().sum(), Relaxed);
            let due = (now.elapsed().as_secs_f64() * self.kind.per_second(hostile)) as u64;
            while done < due {
                done += 1;
                if let Some((line, letter)) = &mut writer {
                    if !line.is_live() {
                        continue;
                    }
                    wire.clear();
                    letter.put(&mut wire, &mut text, first + done, 0);
                    run.damage.sent += 1;
                    run.damage.bytes += wire.len() as u64;
                    line.send(&wire)?;
                } else {
                    run.act(done as usize % hostile, &mut wire);
                }
            }
        }
        Ok(run.end(&mut buffer))
    }
}

impl Run<'_> {
    fn come_back(&mut self) {
        let now = Instant::now();
        while let Some(&(due, number)) = self.away.first()
            && due <= now
        {
            self.away.remove(0);
            self.nonce += 1;
            match Peer::dial(self.mob, self.target, self.poll.registry(), number, self.nonce) {
                Ok(peer) => {
                    self.damage.connects += 1;
                    self.peers[number] = Some(peer);
                }
                Err(error) => self.closed(number, in_short(&error)),
            }
        }
    }

    fn serve(&mut self, event: &Event, buffer: &mut [u8]) {
        let (number, kind) = (event.token().0, self.mob.kind);
        let Some(Some(peer)) = self.peers.get_mut(number) else { return };
        let mut outcome = if event.is_writable() { peer.writable(kind) } else { Ok(()) };
        // Who does not read looks at what has come when the server has hung up.
        let is_over = event.is_read_closed() || event.is_error();
        if outcome.is_ok() && (event.is_readable() || is_over) {
            outcome = peer.readable(kind, is_over, buffer);
        }
        if let Err(what) = outcome {
            self.closed(number, what);
        }
    }

    fn act(&mut self, number: usize, wire: &mut Vec<u8>) {
        let Some(Some(peer)) = self.peers.get_mut(number) else { return };
        if !peer.is_ready() {
            return;
        }
        match peer.act(self.mob.kind, wire) {
            Ok(0) => {}
            Ok(bytes) => {
                self.damage.sent += 1;
                self.damage.bytes += bytes as u64;
            }
            Err(what) => self.closed(number, what),
        }
    }

    fn closed(&mut self, number: usize, what: String) {
        *self.damage.closed.entry(what).or_default() += 1;
        self.peers[number] = None;
        self.away.push((Instant::now() + AWAY, number));
    }

    /// Who is still there in the end; those who did not read may have been told something.
    fn end(mut self, buffer: &mut [u8]) -> Damage {
        for number in 0..self.peers.len() {
            if let Some(peer) = &mut self.peers[number]
                && let Err(what) = peer.readable(self.mob.kind, true, buffer)
            {
                *self.damage.closed.entry(what).or_default() += 1;
                self.peers[number] = None;
            }
        }
        self.damage.open_in_the_end = self.peers.iter().flatten().count();
        self.damage
    }
}
