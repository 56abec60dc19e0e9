//! What the threads of the generator count.

use super::plan::Schedule;
use crate::histogram::Histogram;

const SECOND: u64 = 1_000_000_000;

/// Latencies count by when the message was due, so that slow ones are not cut off at the end; rates count by when
/// something came.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub(crate) send_to_ack: Histogram,
    pub(crate) send_to_receive: Histogram,
    /// Until the last member of the group had it.
    pub(crate) send_to_last: Histogram,
    /// How late the generator itself was, in an open loop.
    pub(crate) lateness: Histogram,
    /// Acks in each second that counts.
    pub(crate) acked: Vec<u64>,
    /// Deliveries in each second that counts.
    pub(crate) delivered: Vec<u64>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            send_to_ack: Histogram::new(),
            send_to_receive: Histogram::new(),
            send_to_last: Histogram::new(),
            lateness: Histogram::new(),
            acked: Vec::new(),
            delivered: Vec::new(),
        }
    }

    /// Takes over what another thread has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.send_to_ack.add(&other.send_to_ack);
        self.send_to_receive.add(&other.send_to_receive);
        self.send_to_last.add(&other.send_to_last);
        self.lateness.add(&other.lateness);
        for (mine, more) in [(&mut self.acked, &other.acked), (&mut self.delivered, &other.delivered)] {
            mine.resize(mine.len().max(more.len()), 0);
            mine.iter_mut().zip(more).for_each(|(count, more)| *count += more);
        }
    }

    /// An ack has come of a message that was due at `due`.
    pub(super) fn ack(&mut self, schedule: &Schedule, due: u64, now: u64) {
        count(&mut self.acked, schedule, now);
        if schedule.counted.contains(&due) {
            self.send_to_ack.record(now.saturating_sub(due));
        }
    }

    /// A message has come that was due at `due`.
    pub(super) fn delivery(&mut self, schedule: &Schedule, due: u64, now: u64) {
        count(&mut self.delivered, schedule, now);
        if schedule.counted.contains(&due) {
            self.send_to_receive.record(now.saturating_sub(due));
        }
    }
}

fn count(seconds: &mut Vec<u64>, schedule: &Schedule, now: u64) {
    if schedule.counted.contains(&now) {
        let second = ((now - schedule.counted.start) / SECOND) as usize;
        if seconds.len() <= second {
            seconds.resize(second + 1, 0);
        }
        seconds[second] += 1;
    }
}
