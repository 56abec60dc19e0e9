//! What a storm has shown.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use super::Storm;
use super::crew::Seen;
use super::member::Counts;
use super::stayers::Sent;
use crate::report::Percentiles;
use crate::sampling::Sample;

/// Points of a curve in the report.
const POINTS_MAX: usize = 200;
/// The width of a slice of time in which the latencies of those who stay are summed up.
const SLICE_NANOS: u64 = 250_000_000;

/// How a storm went. All times are from the moment at which the first may come back.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StormFigures {
    /// How many were cut.
    pub connections: usize,
    /// Of how many users.
    pub users: usize,
    /// Until each had its `ready`.
    pub ready: Option<Percentiles>,
    /// Until each had every message that was there when it was ready.
    pub caught_up: Option<Percentiles>,
    /// Entries that they got on the way.
    pub missed: u64,
    /// Entries that came again after a resume.
    pub again: u64,
    /// Gaps that were named.
    pub gaps: u64,
    /// Entries that were neither pushed nor named.
    pub holes: u64,
    /// Resumes whose position was not known.
    pub not_resumed: u64,
    /// Bytes that were read after the cut.
    pub bytes: u64,
    /// What went wrong on the way, and how often.
    pub errors: BTreeMap<String, u64>,
    /// Those who stayed: send→ack before.
    pub before: Phase,
    /// Those who stayed: send→ack from the cut until the last had caught up.
    pub during: Phase,
    /// CPU of the server in that time, in seconds.
    pub server_cpu_seconds: Option<f64>,
    /// CPU of the generator in that time, in seconds.
    pub generator_cpu_seconds: Option<f64>,
    /// The most memory of the server from the cut on (resident).
    pub server_peak_bytes: Option<u64>,
    /// Milliseconds, and how many were ready.
    pub ready_curve: Vec<(f64, usize)>,
    /// Milliseconds, and how many had caught up.
    pub caught_up_curve: Vec<(f64, usize)>,
    /// Milliseconds, and the longest send→ack of those who stayed in the slice that begins there.
    pub stayers_max_curve: Vec<(f64, f64)>,
    /// What the server cost from the cut on.
    pub samples: Vec<Sample>,
}

/// Latencies of messages that were due in a stretch of time.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Phase {
    /// How long it was.
    pub seconds: f64,
    /// Of the acks.
    pub send_to_ack: Option<Percentiles>,
    /// Messages that were never acked.
    pub unacked: usize,
}

/// When what happened, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeline {
    pub(super) counted_from: u64,
    pub(super) cut_at: u64,
    /// The last had caught up.
    pub(super) ended: u64,
    pub(super) server_cpu: Option<f64>,
    pub(super) generator_cpu: Option<f64>,
}

impl StormFigures {
    pub(super) fn new(
        storm: &Storm,
        users: usize,
        timeline: &Timeline,
        sent: &[Sent],
        seen: &[Seen],
        samples: &[Sample],
    ) -> Self {
        let from = timeline.cut_at + storm.away.as_nanos() as u64;
        let backs = || seen.iter().flat_map(|seen| &seen.backs);
        let millis = |at: u64| at.saturating_sub(from) as f64 / 1e6;
        let ready: Vec<f64> = backs().filter_map(|back| back.ready.map(millis)).collect();
        let caught_up: Vec<f64> = backs().filter_map(|back| back.caught_up.map(millis)).collect();
        let sum = |field: fn(&Counts) -> u64| seen.iter().map(|seen| field(&seen.counts)).sum();
        let mut errors = BTreeMap::new();
        for (what, count) in seen.iter().flat_map(|seen| &seen.errors) {
            *errors.entry(what.clone()).or_default() += count;
        }
        Self {
            connections: storm.users() * storm.connections_per_user,
            users,
            ready_curve: cumulated(&ready),
            caught_up_curve: cumulated(&caught_up),
            ready: Percentiles::of_millis(ready),
            caught_up: Percentiles::of_millis(caught_up),
            missed: sum(|counts| counts.missed),
            again: sum(|counts| counts.again),
            gaps: sum(|counts| counts.gaps),
            holes: sum(|counts| counts.holes),
            not_resumed: sum(|counts| counts.not_resumed),
            bytes: sum(|counts| counts.bytes),
            errors,
            before: Phase::new(sent, timeline.counted_from, timeline.cut_at),
            during: Phase::new(sent, timeline.cut_at, timeline.ended),
            server_cpu_seconds: timeline.server_cpu,
            generator_cpu_seconds: timeline.generator_cpu,
            server_peak_bytes: crate::sampling::peak(samples),
            stayers_max_curve: slices(sent, from),
            samples: samples.to_vec(),
        }
    }

    /// What must not happen, even in a storm.
    pub(super) fn problems(&self, problems: &mut Vec<String>) {
        for (count, what) in [
            (self.holes, "entries were neither pushed nor named by a gap"),
            (self.not_resumed, "resumes were told that their position is not known"),
            (self.during.unacked as u64, "messages of those who stayed were not acked"),
        ] {
            if count > 0 {
                problems.push(format!("{count} {what}"));
            }
        }
    }
}

impl Phase {
    fn new(sent: &[Sent], from: u64, until: u64) -> Self {
        let due = || sent.iter().filter(|sent| (from..until).contains(&sent.due));
        Self {
            seconds: until.saturating_sub(from) as f64 / 1e9,
            send_to_ack: Percentiles::of_millis(
                due().filter_map(|sent| sent.took).map(|took| took as f64 / 1e6).collect(),
            ),
            unacked: due().filter(|sent| sent.took.is_none()).count(),
        }
    }
}

/// How many had come by when; thinned out.
fn cumulated(millis: &[f64]) -> Vec<(f64, usize)> {
    let mut millis = millis.to_vec();
    millis.sort_by(f64::total_cmp);
    let step = millis.len().div_ceil(POINTS_MAX).max(1);
    let last = millis.len();
    let points = millis.iter().enumerate().map(|(place, &at)| (at, place + 1));
    points.filter(|&(_, count)| count == 1 || count == last || count % step == 0).collect()
}

fn slices(sent: &[Sent], from: u64) -> Vec<(f64, f64)> {
    let mut slices: BTreeMap<i64, u64> = BTreeMap::new();
    for sent in sent {
        let slice = (sent.due as i64 - from as i64).div_euclid(SLICE_NANOS as i64);
        let longest = slices.entry(slice).or_default();
        *longest = (*longest).max(sent.took.unwrap_or_default());
    }
    let millis = |slice: i64| slice as f64 * SLICE_NANOS as f64 / 1e6;
    slices.into_iter().map(|(slice, longest)| (millis(slice), longest as f64 / 1e6)).collect()
}

impl Display for StormFigures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "  cut            {} connections of {} users", self.connections, self.users)?;
        for (name, times) in [("ready    ", &self.ready), ("caught up", &self.caught_up)] {
            if let Some(times) = times {
                writeln!(f, "  {name}      first {:.0} ms, {times}", times.min_millis)?;
            }
        }
        writeln!(
            f,
            "  missed         {} entries on the way, {} again, {} gaps named, {} holes, {} not resumed, {:.1} MB",
            self.missed,
            self.again,
            self.gaps,
            self.holes,
            self.not_resumed,
            self.bytes as f64 / 1e6
        )?;
        if self.errors.is_empty() {
            writeln!(f, "  errors         none")?;
        }
        for (what, count) in &self.errors {
            writeln!(f, "  errors         {count} × {what}")?;
        }
        for (name, phase) in [("before", &self.before), ("during", &self.during)] {
            if let Some(latency) = &phase.send_to_ack {
                writeln!(f, "  acks {name}    {latency} ({} in {:.1} s)", latency.count, phase.seconds)?;
            }
        }
        let cpu =
            [("server CPU    ", self.server_cpu_seconds), ("generator CPU ", self.generator_cpu_seconds)];
        for (name, cpu) in cpu {
            if let Some(cpu) = cpu {
                let a_connection = cpu * 1e6 / self.connections as f64;
                writeln!(f, "  {name} {cpu:.2} s in the storm, {a_connection:.0} µs a connection")?;
            }
        }
        if let Some(peak) = self.server_peak_bytes {
            writeln!(f, "  memory         at most: server {}", indicatif::BinaryBytes(peak))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_begins_with_the_first_and_ends_with_the_last() {
        let curve = cumulated(&(0..1_000).rev().map(f64::from).collect::<Vec<_>>());
        assert_eq!((curve.first(), curve.last()), (Some(&(0.0, 1)), Some(&(999.0, 1_000))));
        assert!(curve.len() <= POINTS_MAX + 2, "{}", curve.len());
        assert!(cumulated(&[]).is_empty());
    }

    #[test]
    fn a_slice_is_as_slow_as_its_slowest_and_may_lie_before_the_cut() {
        let sent = |due: u64, took: u64| Sent { due: due * 1_000_000, took: Some(took * 1_000_000) };
        let slices = slices(&[sent(900, 2), sent(990, 5), sent(1_010, 80)], 1_000_000_000);
        assert_eq!(slices, [(-250.0, 5.0), (0.0, 80.0)]);
    }
}
