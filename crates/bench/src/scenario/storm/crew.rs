//! A thread of those who are cut.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use mio::{Events, Poll, Token};

use super::Shared;
use super::member::{Back, Counts, Member};
use crate::fleet::fill::now_micros;
use crate::fleet::line::{Line, Signal, in_short};
use crate::seeded::Seeded;
use crate::service::Targets;

/// Connections that are dialled before the others are served again.
const DIALLED_AT_ONCE: usize = 64;
/// Of the first time: so many of a thread are under way, as nothing is measured yet.
const UNDER_WAY_MAX: usize = 256;
/// The first wait after a failure, which doubles, and the longest; drawn between zero and that.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(15);
const TURN_MAX: Duration = Duration::from_millis(50);
const INPUT_BYTES: usize = 256 * 1024;

/// What a thread has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of each connection.
    pub(super) backs: Vec<Back>,
    pub(super) counts: Counts,
    /// What went wrong after the cut, and how often.
    pub(super) errors: BTreeMap<String, u64>,
}

/// How those who are cut come back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Return {
    pub(super) away: Duration,
    pub(super) spread: Duration,
}

struct Crew {
    shared: Arc<Shared>,
    targets: Targets,
    poll: Poll,
    members: Vec<Member>,
    /// Who is to dial, and when; the last one first.
    to_dial: Vec<(u64, usize)>,
    seeded: Seeded,
    nonce: u64,
    seen: Seen,
    /// Its number among the threads.
    number: usize,
    standing: usize,
    cut: bool,
}

/// Connects everybody, cuts them when `shared` says so, and lets them come back.
///
/// # Errors
/// If somebody is lost before the cut.
pub(super) fn sail(
    members: Vec<Member>,
    how: Return,
    targets: &Targets,
    shared: Arc<Shared>,
    number: usize,
) -> io::Result<Seen> {
    let mut crew = Crew {
        poll: Poll::new()?,
        targets: targets.clone(),
        to_dial: (0..members.len()).rev().map(|number| (0, number)).collect(),
        members,
        seeded: Seeded::new(number as u64),
        nonce: now_micros()?.wrapping_add((number as u64 + 1) << 52),
        seen: Seen::default(),
        number,
        standing: 0,
        cut: false,
        shared,
    };
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; INPUT_BYTES];
    while !crew.shared.is_stopped() {
        let wait = crew.dial_due()?;
        if let Err(error) = crew.poll.poll(&mut events, Some(wait))
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        for event in events.iter() {
            crew.serve(event, &mut buffer)?;
        }
        let cut_at = crew.shared.cut_at.load(Relaxed);
        if !crew.cut && cut_at > 0 && crew.shared.now() >= cut_at {
            crew.cut(how);
        }
        crew.publish();
    }
    let settled = crew.shared.settled.load(Relaxed);
    for tape in crew.members.iter_mut().filter_map(|member| member.tape.as_mut()) {
        if settled {
            tape.settled();
        }
        tape.closed(None);
    }
    crew.seen.backs = crew.members.iter().map(|member| member.back).collect();
    Ok(crew.seen)
}

impl Crew {
    /// Dials those who are due, a batch; gives how long there is nothing to do.
    fn dial_due(&mut self) -> io::Result<Duration> {
        for _ in 0..DIALLED_AT_ONCE {
            let now = self.shared.now();
            match self.to_dial.last() {
                None => return Ok(TURN_MAX),
                Some(&(due, _)) if due > now => return Ok(Duration::from_nanos(due - now).min(TURN_MAX)),
                Some(_) if !self.cut && self.under_way() >= UNDER_WAY_MAX => return Ok(TURN_MAX),
                Some(_) => {}
            }
            let Some((_, number)) = self.to_dial.pop() else { return Ok(TURN_MAX) };
            self.nonce += 1;
            let member = &mut self.members[number];
            let frame = member.first_frame()?;
            // Whoever comes back does so on any node.
            let target = self.targets.of(self.nonce as usize);
            match Line::dial(target, self.poll.registry(), Token(number), self.nonce, frame) {
                Ok(line) => member.line = Some(line),
                Err(error) => self.failed(number, &error)?,
            }
        }
        Ok(Duration::ZERO)
    }

    /// Those who were dialled and do not stand yet.
    fn under_way(&self) -> usize {
        self.members.len() - self.to_dial.len() - self.standing
    }

    fn serve(&mut self, event: &mio::event::Event, buffer: &mut [u8]) -> io::Result<()> {
        let number = event.token().0;
        let Self { members, shared, seen, standing, cut, .. } = self;
        let Some(member) = members.get_mut(number) else { return Ok(()) };
        // Events of a socket that was cut in this turn.
        let Some(mut line) = member.line.take() else { return Ok(()) };
        let before = member.back;
        let mut outcome = if event.is_writable() { line.writable() } else { Ok(()) };
        if outcome.is_ok() && event.is_readable() {
            let mut heard = Ok(());
            let mut hear = |signal: Signal<'_>| {
                let now = shared.now();
                let one = match signal {
                    Signal::Ready(text) => {
                        let head = |convo: usize| shared.heads[convo].load(Relaxed);
                        let ready = member.ready(text, now, &mut seen.counts, head);
                        if let (Some(chronicle), Some(tape)) = (&shared.chronicle, &member.tape) {
                            chronicle.entered(&member.token, tape);
                        }
                        ready
                    }
                    Signal::Text(text) => member.hear(text, now, &mut seen.counts),
                    Signal::Pong => Ok(()),
                };
                if heard.is_ok() {
                    heard = one;
                }
            };
            let read = line.readable(buffer, &mut hear);
            seen.counts.bytes += if *cut { read.as_ref().map_or(0, |&read| read as u64) } else { 0 };
            outcome = heard.and(read.map(drop));
        }
        let after = if outcome.is_ok() { member.back } else { Back::default() };
        if after.ready.is_some() != before.ready.is_some() {
            *standing = if after.ready.is_some() { *standing + 1 } else { *standing - 1 };
            count(&shared.standing, after.ready.is_some());
        }
        if after.caught_up.is_some() != before.caught_up.is_some() {
            count(&shared.caught_up, after.caught_up.is_some());
        }
        match outcome {
            Ok(()) => {
                member.line = Some(line);
                Ok(())
            }
            Err(error) => self.failed(number, &error),
        }
    }

    /// Somebody has failed: before the cut that ends the run, after it he tries again.
    fn failed(&mut self, number: usize, error: &io::Error) -> io::Result<()> {
        let what = in_short(error);
        if !self.cut {
            return Err(io::Error::other(format!("a connection before the cut: {what}")));
        }
        *self.seen.errors.entry(what.clone()).or_default() += 1;
        self.shared.errors.fetch_add(1, Relaxed);
        let member = &mut self.members[number];
        member.lost(Some(&what));
        let full = RETRY_MIN.saturating_mul(1 << member.attempts.min(16)).min(RETRY_MAX);
        member.attempts += 1;
        let due = self.shared.now() + (full.as_nanos() as f64 * self.seeded.roll()) as u64;
        self.wait(due, number);
        Ok(())
    }

    fn wait(&mut self, due: u64, number: usize) {
        let place = self.to_dial.partition_point(|&(other, _)| other > due);
        self.to_dial.insert(place, (due, number));
    }

    /// Drops all sockets at once.
    fn cut(&mut self, how: Return) {
        let from = self.shared.now() + how.away.as_nanos() as u64;
        for member in &mut self.members {
            member.lost(None);
        }
        let spread = how.spread.as_nanos() as f64;
        self.to_dial = (0..self.members.len())
            .map(|number| (from + (spread * self.seeded.roll()) as u64, number))
            .collect();
        self.to_dial.sort_unstable_by_key(|&(due, number)| std::cmp::Reverse((due, number)));
        self.shared.standing.fetch_sub(self.standing, Relaxed);
        self.shared.caught_up.fetch_sub(self.standing, Relaxed);
        (self.cut, self.standing) = (true, 0);
        self.seen.counts = Counts::default();
        self.shared.cut.fetch_add(1, Relaxed);
    }

    /// When nobody writes any more: how many have all that was written.
    fn publish(&self) {
        if self.shared.is_quiet() {
            let is_level = |member: &&Member| {
                member.seen.iter().all(|seen| seen.last >= self.shared.heads[seen.convo].load(Relaxed))
            };
            self.shared.level[self.number].store(self.members.iter().filter(is_level).count(), Relaxed);
        }
    }
}

fn count(counter: &AtomicUsize, more: bool) {
    if more {
        counter.fetch_add(1, Relaxed);
    } else {
        counter.fetch_sub(1, Relaxed);
    }
}
