//! What the tasks of a replay share: the groups, and the tally of what happens in them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tertulia_bench::histogram::{Histogram, Latency};
use tertulia_protocol::Seq;
use tokio::sync::watch;

use super::plan::Person;
use super::view::{Difference, Expected};
use super::watch::Watch;

/// How many differences are described; the others are counted.
const DESCRIBED_MAX: usize = 10;

/// All groups, all people, and what is counted.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) watch: Arc<Watch>,
    pub(super) people: Vec<Person>,
    pub(super) groups: Vec<Group>,
    pub(super) tally: Tally,
}

/// A group, and how far it is.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) expected: Expected,
    lines: Vec<LineState>,
    /// How many of the lines are acked.
    acked: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct LineState {
    sent_at: OnceLock<Instant>,
    acked: AtomicBool,
}

/// What is counted while lines are sent.
#[derive(Debug)]
pub(super) struct Tally {
    /// Lines handed to a client for sending.
    pub(super) sent: AtomicU64,
    /// Lines that were acked.
    pub(super) acked: AtomicU64,
    /// Lines of others that were pushed to a member.
    pub(super) live: AtomicU64,
    /// Lines of others that a member has read from history.
    pub(super) caught_up: AtomicU64,
    /// One's own lines, handed over at their place.
    pub(super) own: AtomicU64,
    /// Entries and acks that came more than once.
    pub(super) doubled: AtomicU64,
    /// Connections after the first of each member.
    pub(super) reconnects: AtomicU64,
    /// Those of them that were resumed.
    pub(super) resumed: AtomicU64,
    /// Members who are connected for the first time.
    pub(super) connected: watch::Sender<usize>,
    /// Views that have all entries before the first line.
    pub(super) opened: watch::Sender<usize>,
    /// Views that have all entries.
    pub(super) complete: watch::Sender<usize>,
    /// From sending a line to its ack.
    pub(super) send_to_ack: Latencies,
    /// From sending a line to each other member's having it.
    pub(super) send_to_receive: Latencies,
    differences: Mutex<Differences>,
}

/// Durations that many tasks measure.
#[derive(Debug, Default)]
pub(super) struct Latencies(Mutex<Histogram>);

/// What differs from what was sent.
#[derive(Debug, Default, Clone)]
pub(super) struct Differences {
    /// How many there are.
    pub(super) count: u64,
    /// The first of them, in words.
    pub(super) first: Vec<String>,
}

impl Stage {
    pub(super) fn new(watch: Arc<Watch>, people: Vec<Person>, groups: Vec<Group>) -> Self {
        Self { watch, people, groups, tally: Tally::new() }
    }

    /// Notes what a person saw differently, or what is wrong with what is counted for him.
    pub(super) fn differs(&self, person: usize, group: Option<&Group>, difference: &Difference) {
        if matches!(difference, Difference::Again { .. }) {
            self.tally.doubled.fetch_add(1, Relaxed);
        }
        let username = &self.people[person].username;
        let text = match group {
            Some(group) => format!("{username} in {}: {difference}", group.expected.script.title),
            None => format!("{username}: {difference}"),
        };
        let mut differences = self.tally.differences.lock().unwrap_or_else(PoisonError::into_inner);
        differences.count += 1;
        if differences.first.len() < DESCRIBED_MAX {
            self.watch.say(&text);
            differences.first.push(text);
        }
    }
}

impl Group {
    pub(super) fn new(expected: Expected) -> Self {
        let lines = expected.script.cues.iter().map(|_| LineState::default()).collect();
        Self { expected, lines, acked: watch::Sender::new(0) }
    }

    /// A line is sent now.
    pub(super) fn sends(&self, line: usize) {
        // A line is sent once; were it not, the first time would count.
        let _ = self.lines[line].sent_at.set(Instant::now());
    }

    /// When the line at `seq` was sent, if it is a line and was.
    pub(super) fn sent_at(&self, seq: Seq) -> Option<Instant> {
        self.lines[self.expected.line_at(seq)?].sent_at.get().copied()
    }

    /// Takes an ack of a line of `person`.
    pub(super) fn take_ack(&self, person: usize, seq: Seq) -> Result<(), Difference> {
        let mine = |line: &usize| self.expected.script.cues[*line].speaker == person;
        let Some(line) = self.expected.line_at(seq).filter(mine) else {
            return Err(Difference::Unknown { seq });
        };
        if self.lines[line].acked.swap(true, Relaxed) {
            return Err(Difference::Again { seq, due: seq.next() });
        }
        self.acked.send_modify(|acked| *acked += 1);
        Ok(())
    }

    /// Waits until so many lines are acked.
    pub(super) async fn wait_for_acks(&self, count: usize) {
        // It cannot fail: the sender is right here.
        let _ = self.acked.subscribe().wait_for(|acked| *acked >= count).await;
    }
}

impl Latencies {
    /// Counts one.
    pub(super) fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).record(nanos);
    }

    /// What was counted so far; nothing if nothing was.
    pub(super) fn summary(&self) -> Option<Latency> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).summary()
    }
}

impl Tally {
    fn new() -> Self {
        Self {
            sent: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            live: AtomicU64::new(0),
            caught_up: AtomicU64::new(0),
            own: AtomicU64::new(0),
            doubled: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            connected: watch::Sender::new(0),
            opened: watch::Sender::new(0),
            complete: watch::Sender::new(0),
            send_to_ack: Latencies::default(),
            send_to_receive: Latencies::default(),
            differences: Mutex::default(),
        }
    }

    /// What differs so far.
    pub(super) fn differences(&self) -> Differences {
        self.differences.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
