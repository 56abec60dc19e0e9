//! What came of a replay, for people and for programs.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use indicatif::HumanCount;
use serde::Serialize;
use tertulia_bench::histogram::Latency;

use super::log::Counts;
use super::stage::Stage;

/// All figures.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// What tells this run from others on the same server.
    pub(super) tag: String,
    /// Logs that were read.
    pub(super) files: usize,
    /// Groups that were made of them.
    pub(super) groups: usize,
    /// Users.
    pub(super) users: usize,
    /// Members of all groups.
    pub(super) memberships: usize,
    /// The lines by their kind.
    pub(super) lines: Counts,
    /// Lines that were sent.
    pub(super) sent: u64,
    /// Lines that were acked.
    pub(super) acked: u64,
    /// How often a line has to reach another member.
    pub(super) deliveries: u64,
    /// How often one was pushed.
    pub(super) live: u64,
    /// How often one was read from history instead.
    pub(super) caught_up: u64,
    /// One's own lines at their places.
    pub(super) own: u64,
    /// Entries and acks that came more than once.
    pub(super) doubled: u64,
    /// Connections after the first.
    pub(super) reconnects: u64,
    /// Those of them that went on where the one before had ended.
    pub(super) resumed: u64,
    /// How often the server has asked to wait.
    pub(super) waits: u64,
    /// Entries that were read back over REST.
    pub(super) read_back: u64,
    /// How long it took.
    pub(super) seconds: Seconds,
    /// Lines sent, for each second of sending.
    pub(super) lines_per_second: f64,
    /// Lines received by another member, for each second of sending.
    pub(super) deliveries_per_second: f64,
    /// From sending a line to its ack.
    pub(super) send_to_ack: Option<Latency>,
    /// From sending a line to each other member's having it.
    pub(super) send_to_receive: Option<Latency>,
    /// Why it ended before its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) broken_off: Option<String>,
    /// How much differs from what was sent.
    pub(super) differences: u64,
    /// The first differences.
    pub(super) first_differences: Vec<String>,
}

/// How long each step took.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Seconds {
    /// Accounts and groups.
    pub(super) registering: f64,
    /// Connections.
    pub(super) connecting: f64,
    /// From the first line to the last member's having the last one.
    pub(super) sending: f64,
    /// Reading every view back.
    pub(super) reading_back: f64,
}

/// What a report knows before the first line is sent.
#[derive(Debug, Clone)]
pub(super) struct Cast {
    pub(super) tag: String,
    pub(super) files: usize,
    pub(super) lines: Counts,
    pub(super) memberships: usize,
    pub(super) deliveries: usize,
}

impl Report {
    /// The report of what was counted.
    pub(super) fn new(
        cast: Cast,
        stage: &Stage,
        seconds: Seconds,
        read_back: u64,
        broken_off: Option<String>,
    ) -> Self {
        let tally = &stage.tally;
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        let (live, caught_up, acked) = (count(&tally.live), count(&tally.caught_up), count(&tally.acked));
        let each_second =
            |number: u64| if seconds.sending > 0.0 { number as f64 / seconds.sending } else { 0.0 };
        let differences = tally.differences();
        Self {
            tag: cast.tag,
            files: cast.files,
            groups: stage.groups.len(),
            users: stage.people.len(),
            memberships: cast.memberships,
            lines: cast.lines,
            sent: count(&tally.sent),
            acked,
            deliveries: cast.deliveries as u64,
            live,
            caught_up,
            own: count(&tally.own),
            doubled: count(&tally.doubled),
            reconnects: count(&tally.reconnects),
            resumed: count(&tally.resumed),
            waits: stage.watch.waits(),
            read_back,
            seconds,
            lines_per_second: each_second(acked),
            deliveries_per_second: each_second(live + caught_up),
            send_to_ack: tally.send_to_ack.summary(),
            send_to_receive: tally.send_to_receive.summary(),
            broken_off,
            differences: differences.count,
            first_differences: differences.first,
        }
    }

    /// Whether everybody saw everything, once and in order.
    pub(super) fn is_right(&self) -> bool {
        self.differences == 0 && self.broken_off.is_none()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = HumanCount;
        let Counts {
            speech,
            actions,
            notices,
            status,
            blank,
            nameless,
            refused,
            repaired_lines,
            repaired_bytes,
        } = self.lines;
        let Seconds { registering, connecting, sending, reading_back } = self.seconds;
        writeln!(
            f,
            "replayed {} logs: {} users, {} groups with {} members (tag {})",
            self.files,
            n(self.users as u64),
            self.groups,
            n(self.memberships as u64),
            self.tag
        )?;
        writeln!(
            f,
            "  lines         {} speech, {} actions, {} notices, {} status",
            n(speech),
            n(actions),
            n(notices),
            n(status)
        )?;
        writeln!(
            f,
            "  not sent      {blank} blank, {nameless} that name nobody, {refused} that the contract refuses"
        )?;
        writeln!(f, "  not UTF-8     {repaired_bytes} bytes in {repaired_lines} lines, replaced by U+FFFD")?;
        writeln!(
            f,
            "  sent          {} of {}, acked {}, doubled {}",
            n(self.sent),
            n(self.lines.sent()),
            n(self.acked),
            n(self.doubled)
        )?;
        writeln!(
            f,
            "  delivered     {} of {}: {} live, {} caught up from history; own lines {}",
            n(self.live + self.caught_up),
            n(self.deliveries),
            n(self.live),
            n(self.caught_up),
            n(self.own)
        )?;
        writeln!(
            f,
            "  connections   {} reconnects ({} resumed), {} waits as told",
            n(self.reconnects),
            n(self.resumed),
            n(self.waits)
        )?;
        writeln!(
            f,
            "  seconds       {registering:.1} registering, {connecting:.1} connecting, {sending:.1} sending, {reading_back:.1} reading back"
        )?;
        writeln!(
            f,
            "  rate          {} lines/s, {} deliveries/s",
            n(self.lines_per_second as u64),
            n(self.deliveries_per_second as u64)
        )?;
        for (name, latency) in [("send→ack     ", self.send_to_ack), ("send→receive ", self.send_to_receive)]
        {
            if let Some(latency) = latency {
                writeln!(f, "  {name} {latency}")?;
            }
        }
        writeln!(f, "  read back     {} entries over REST", n(self.read_back))?;
        if let Some(why) = &self.broken_off {
            writeln!(f, "  broken off    {why}")?;
        }
        if self.is_right() {
            return write!(f, "  differences   none: everybody has every line once, in order, byte for byte");
        }
        write!(f, "  differences   {}", n(self.differences))?;
        self.first_differences.iter().try_for_each(|difference| write!(f, "\n    {difference}"))?;
        if self.differences > self.first_differences.len() as u64 {
            write!(f, "\n    …")?;
        }
        Ok(())
    }
}
