//! What the generator is to do.

use std::ops::Range;
use std::time::Duration;

use serde::Serialize;
use tertulia_protocol::ConvoId;

/// A load: who is connected, who of them sends, how fast.
#[derive(Debug)]
pub(crate) struct Load {
    /// One for each connection.
    pub(crate) seats: Vec<Seat>,
    /// How fast those send who do.
    pub(crate) pace: Pace,
    /// The length of each body.
    pub(crate) body_bytes: usize,
    /// If all connections are in one conversation: how many of them each message goes to. It is then also measured
    /// when the last has it.
    pub(crate) audience_of_all: Option<u32>,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Seat {
    /// The access token to log in with.
    pub(crate) token: String,
    /// Seats with the same number are served by the same thread.
    pub(crate) place: usize,
    /// What it hears. If it is one conversation, it is checked that the entries are consecutive.
    pub(crate) hears: Option<ConvoId>,
    /// What it sends.
    pub(crate) sends: Option<Sends>,
}

/// What a connection sends, and to whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sends {
    /// Where to.
    pub(crate) convo: ConvoId,
    /// How many connections each of its messages must reach.
    pub(crate) audience: u64,
}

/// When messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Pace {
    /// A closed loop: each sender keeps so many messages unanswered, and sends the next one at an ack.
    Window(u32),
    /// An open loop: so many messages a second of all senders together, each at its time, however the server does.
    Rate(f64),
}

/// When it is done, in nanoseconds since the generator began.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    /// The first messages are sent.
    pub(super) begin: u64,
    /// What is due in here counts; nothing is sent after it.
    pub(super) counted: Range<u64>,
}

impl Schedule {
    /// Warms up from `now` on, and then measures.
    pub(super) fn new(now: Duration, warm_up: Duration, measured: Duration) -> Self {
        // Threads look for their orders a few times a second; all of them are to begin at once.
        const NOTICE: Duration = Duration::from_millis(200);
        let nanos = |duration: Duration| duration.as_nanos() as u64;
        let begin = now + NOTICE;
        let from = begin + warm_up;
        Self { begin: nanos(begin), counted: nanos(from)..nanos(from + measured) }
    }

    /// Whether messages may still be sent.
    pub(super) fn is_open(&self, now: u64) -> bool {
        now >= self.begin && now < self.counted.end
    }
}
