//! What came out of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::recovery::Recoveries;

/// What came out of a run; its `Display` is for people.
#[derive(Debug, Clone)]
pub struct Report {
    /// What determines all choices.
    pub seed: u64,
    /// How long the load ran.
    pub load: Duration,
    /// Devices and users.
    pub population: (usize, usize),
    /// What it stood on.
    pub ground: Ground,
    /// Why it was not the better kind, if so.
    pub remark: Option<String>,
    /// How often what was done.
    pub operations: BTreeMap<&'static str, u64>,
    /// What was done to the server, and how long it was ill.
    pub recoveries: Vec<Recovery>,
    /// What was seen on the spot and must not be.
    pub findings: Vec<String>,
    /// What the checker says.
    pub verdict: Verdict,
    /// What was to be shown by the run and was not, for it never came to that.
    pub unproven: Vec<String>,
    /// Where the history, the server's log and, after a failure, its data are; `None`: nothing was kept.
    pub kept: Option<PathBuf>,
}

/// What was tortured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// One server, and what stood in for its disk that fills.
    Disk(&'static str),
    /// So many nodes.
    Nodes {
        /// That many.
        nodes: usize,
        /// Whether they follow the logs by Kafka.
        with_kafka: bool,
    },
}

/// What the checker says of the history.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Every guarantee held, and enough was seen to say so.
    pub holds: bool,
    /// Its report, for people.
    pub text: String,
}

/// One kind of fault.
#[derive(Debug, Clone)]
pub struct Recovery {
    /// Which.
    pub kind: &'static str,
    /// How often.
    pub faults: u64,
    /// From its end to the first message acked.
    pub first_ack: Option<Times>,
    /// From its end until everybody was connected who wanted to be.
    pub all_back: Option<Times>,
    /// From its end until every node had heard of every other what was sent there after it; only of several nodes.
    pub all_hear: Option<Times>,
}

/// Percentiles; where another fault came first there is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// How many.
    pub count: usize,
    /// Half took at most this long.
    pub p50: Duration,
    /// 99 of 100 took at most this long.
    pub p99: Duration,
    /// None took longer.
    pub max: Duration,
}

impl Report {
    /// Whether nothing is wrong and enough was done to say so.
    pub fn holds(&self) -> bool {
        self.findings.is_empty() && self.verdict.holds && self.unproven.is_empty()
    }
}

impl Recovery {
    pub(crate) fn of(kind: &'static str, recoveries: &Recoveries) -> Self {
        let Recoveries { faults, first_ack, all_back, all_hear } = recoveries;
        Self {
            kind,
            faults: *faults,
            first_ack: Times::of(first_ack),
            all_back: Times::of(all_back),
            all_hear: Times::of(all_hear),
        }
    }
}

impl Times {
    fn of(times: &[Duration]) -> Option<Self> {
        let mut sorted = times.to_vec();
        sorted.sort();
        // The smallest that at least so many percent do not exceed.
        let at =
            |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self { count: sorted.len(), p50: at(50)?, p99: at(99)?, max: *sorted.last()? })
    }
}

impl Report {
    fn write_recoveries(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_nodes = matches!(self.ground, Ground::Nodes { .. });
        let mut columns = vec!["first message acked (ms)", "all connected again (ms)"];
        if of_nodes {
            columns.push("all nodes hear all (ms)");
        }
        write!(f, "{:<18}", "")?;
        for column in &columns {
            write!(f, "{column:^34}")?;
        }
        write!(f, "\n{:<12} {:>5}", "fault", "times")?;
        for _ in &columns {
            write!(f, " {:>6} {:>6} {:>7} {:>7}    ", "times", "p50", "p99", "max")?;
        }
        writeln!(f)?;
        for recovery in &self.recoveries {
            write!(f, "{:<12} {:>5}", recovery.kind, recovery.faults)?;
            let times = [recovery.first_ack, recovery.all_back, recovery.all_hear];
            for times in &times[..columns.len()] {
                match times {
                    Some(Times { count, p50, p99, max }) => {
                        let [p50, p99, max] = [p50, p99, max].map(|time| time.as_millis());
                        write!(f, " {count:>6} {p50:>6} {p99:>7} {max:>7}    ")?;
                    }
                    None => write!(f, " {:>6} {:>6} {:>7} {:>7}    ", 0, "-", "-", "-")?,
                }
            }
            writeln!(f)?;
        }
        if of_nodes {
            writeln!(
                f,
                "The times of what takes a node away count from its beginning, those of the others from its end;"
            )?;
            writeln!(
                f,
                "that all hear all, always from its end: with a message sent at each node after that."
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (devices, users) = self.population;
        writeln!(f, "seed         {}", self.seed)?;
        writeln!(f, "load         {:.0?} by {devices} devices of {users} users", self.load)?;
        match self.ground {
            Ground::Disk(disk) => writeln!(f, "disk         {disk}")?,
            Ground::Nodes { nodes, with_kafka } => {
                let kafka = if with_kafka { ", Kafka" } else { "" };
                writeln!(f, "nodes        {nodes}, with PostgreSQL, Redis{kafka}")?;
            }
        }
        if let Some(remark) = &self.remark {
            writeln!(f, "             {remark}")?;
        }
        writeln!(f)?;
        self.write_recoveries(f)?;
        writeln!(f, "\noperations")?;
        for (what, count) in &self.operations {
            writeln!(f, "{count:>12} {what}")?;
        }
        writeln!(f, "\n{}", self.verdict.text.trim_end())?;
        match self.findings.len() {
            0 => writeln!(f, "on the spot  nothing wrong was seen")?,
            count => {
                writeln!(f, "on the spot  {count} things were seen that must not be:")?;
                for finding in &self.findings {
                    writeln!(f, "  {finding}")?;
                }
            }
        }
        for what in &self.unproven {
            writeln!(f, "invalid      {what}")?;
        }
        if let Some(kept) = &self.kept {
            writeln!(f, "kept         {}", kept.display())?;
        }
        if self.holds() {
            write!(f, "result       nothing acked was lost, and every guarantee held")
        } else {
            write!(f, "result       FAILED; the same choices again: --seed {}", self.seed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        let of = Times::of(&times).unwrap();
        assert_eq!(
            (of.count, of.p50.as_millis(), of.p99.as_millis(), of.max.as_millis()),
            (200, 100, 198, 200)
        );
        let one = Times::of(&[Duration::from_secs(1)]).unwrap();
        assert_eq!((one.p50, one.p99, one.max), (one.max, one.max, Duration::from_secs(1)));
        assert_eq!(Times::of(&[]), None);
    }
}
