//! One thread of the generator: it waits in one place for all of its connections.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mio::{Events, Interest, Poll, Token};

use super::alarm::Alarm;
use super::connection::{Connection, Desk, Sender, Totals};
use super::fanout::{Fanout, FanoutPart};
use super::generator::Control;
use super::handshake;
use super::plan::{Pace, Schedule, Seat};
use super::tally::Tally;
use super::wire::Scanner;
use crate::chronicle::record;
use crate::service::Targets;

/// How long a thread waits at most before it looks for orders.
const TURN_MAX: Duration = Duration::from_millis(50);
/// Connections that are served in one turn.
const EVENTS_MAX: usize = 1024;
/// What is read at once.
const INPUT_BYTES: usize = 256 * 1024;
/// The token of the alarm; connections have those from 0 on.
const ALARM: Token = Token(usize::MAX);

/// What a thread has to know of the load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    pub(super) thread: usize,
    pub(super) pace: Pace,
    pub(super) body_bytes: usize,
    /// How many senders there are, in all threads.
    pub(super) senders: usize,
}

/// A thread with its connections.
pub(super) struct Worker {
    work: Work,
    control: Arc<Control>,
    poll: Poll,
    alarm: Alarm,
    connections: Vec<Connection>,
    desk: Desk,
    begun: bool,
    /// Those who send in an open loop: the connection, and the sender's number among all.
    turns: Vec<(usize, usize)>,
    /// The next of them, counted over all rounds.
    next_turn: usize,
}

impl Worker {
    /// Connects the seats of this thread, each with its number among all seats and among the senders.
    ///
    /// # Errors
    /// If one cannot be connected.
    pub(super) fn connect(
        work: Work,
        targets: &Targets,
        seats: Vec<(Seat, usize, usize)>,
        fanout: Option<Arc<Fanout>>,
        control: Arc<Control>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        let desk = Desk {
            scanner: Scanner::new(),
            input: vec![0; INPUT_BYTES].into(),
            output: Vec::new(),
            text: String::new(),
            schedule: None,
            fanout: fanout.map(FanoutPart::new),
            tally: Tally::new(),
            totals: Totals::default(),
        };
        let connections = Vec::with_capacity(seats.len());
        let mut worker = Self {
            work,
            control,
            poll,
            alarm,
            connections,
            desk,
            begun: false,
            turns: Vec::new(),
            next_turn: 0,
        };
        // Numbers of messages are microseconds: those of a later run are higher, whoever it was that ran.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
        let first = now.as_micros() as u64;
        let window = match work.pace {
            Pace::Window(window) => Some(window),
            Pace::Rate(_) => None,
        };
        for (number, (seat, seat_number, sender_number)) in seats.into_iter().enumerate() {
            if worker.control.is_stopped() {
                break;
            }
            let mut tape = worker.control.chronicle.as_ref().map(|chronicle| Box::new(chronicle.tape()));
            let nonce = first + number as u64;
            let target = targets.of(seat_number);
            let (stream, decoder) = handshake::connect(
                target.address,
                &target.host,
                &seat.token,
                nonce,
                |frame| match &mut tape {
                    Some(tape) => record(tape, frame),
                    None => Ok(()),
                },
            )?;
            if let (Some(chronicle), Some(tape)) = (&worker.control.chronicle, &tape) {
                chronicle.entered(&seat.token, tape);
            }
            stream.set_nonblocking(true)?;
            let sender = seat.sends.map(|sends| {
                worker.turns.push((number, sender_number));
                Sender::new(sends, work.body_bytes, first, window)
            });
            let stream = mio::net::TcpStream::from_std(stream);
            let mut connection = Connection::new(stream, decoder, seat.hears, sender, tape);
            let interest = Interest::READABLE | Interest::WRITABLE;
            worker.poll.registry().register(connection.stream(), Token(number), interest)?;
            worker.connections.push(connection);
            worker.control.connected.fetch_add(1, Relaxed);
            // Heartbeats of those who wait for the others.
            if number % 512 == 511 {
                worker.turn(&mut Events::with_capacity(EVENTS_MAX), Duration::ZERO)?;
            }
        }
        Ok(worker)
    }

    /// Works until it is told to stop, and says goodbye.
    ///
    /// # Errors
    /// If a connection is lost, or the server says what it should not.
    pub(super) fn run(mut self) -> io::Result<Tally> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !self.control.is_stopped() {
            self.turn(&mut events, TURN_MAX)?;
        }
        let settled = self.control.settled.load(Relaxed);
        self.connections.into_iter().for_each(|connection| connection.close(settled));
        Ok(self.desk.tally)
    }

    fn turn(&mut self, events: &mut Events, wait: Duration) -> io::Result<()> {
        match self.poll.poll(events, Some(wait)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        if self.desk.schedule.is_none() {
            self.desk.schedule = self.control.schedule.get().cloned();
        }
        let refills = matches!(self.work.pace, Pace::Window(_)) && self.begun;
        let control = &*self.control;
        for event in events.iter() {
            let Some(connection) = self.connections.get_mut(event.token().0) else { continue };
            if event.is_writable() {
                connection.write(&mut self.desk)?;
            }
            if event.is_readable() {
                connection.read(&mut self.desk, || control.now(), refills, event.is_read_closed())?;
            }
        }
        let now = self.control.now();
        if let (Some(fanout), Some(schedule)) = (&mut self.desk.fanout, &self.desk.schedule) {
            fanout.settle(now, |due| schedule.counted.contains(&due), &mut self.desk.tally.send_to_last);
        }
        self.act(now)?;
        self.control.publish(self.work.thread, self.desk.totals);
        Ok(())
    }

    /// Does what is due by the clock.
    fn act(&mut self, now: u64) -> io::Result<()> {
        let Some(schedule) = self.desk.schedule.clone() else { return Ok(()) };
        match self.work.pace {
            Pace::Window(_) if !self.begun && now >= schedule.begin => {
                self.begun = true;
                self.connections.iter_mut().try_for_each(|connection| connection.begin(&mut self.desk, now))
            }
            Pace::Window(_) => Ok(()),
            Pace::Rate(per_second) => self.send_due(&schedule, per_second),
        }
    }

    /// Sends what is due by now, and sets the alarm for what is next.
    fn send_due(&mut self, schedule: &Schedule, per_second: f64) -> io::Result<()> {
        if self.turns.is_empty() {
            return Ok(());
        }
        let mut now = self.control.now();
        loop {
            let (round, turn) = (self.next_turn / self.turns.len(), self.next_turn % self.turns.len());
            let (connection, number) = self.turns[turn];
            // Senders take turns: with so many of them, this is the message of that number among all.
            let message = (round * self.work.senders + number) as f64;
            let due = schedule.begin + (message / per_second * 1e9) as u64;
            if due >= schedule.counted.end {
                return Ok(());
            }
            if due > now {
                now = self.control.now();
            }
            if due > now {
                return self.alarm.set(Duration::from_nanos(due - now));
            }
            self.connections[connection].send(&mut self.desk, due)?;
            if schedule.counted.contains(&due) {
                self.desk.tally.lateness.record(now - due);
            }
            self.next_turn += 1;
        }
    }
}
