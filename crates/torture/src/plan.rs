//! What is done to the server, and when: a plan that the seed determines.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::chance::Chance;

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// `kill -9`, and a new start on the same data.
    Kill,
    /// Stopped for seconds (SIGSTOP), then let go on.
    Stop,
    /// Asked to end (SIGTERM), and started again.
    Drain,
    /// The disk is full for seconds.
    Disk,
    /// The network cuts connections in the middle of whatever they carry.
    Cut,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Kill, Self::Stop, Self::Drain, Self::Disk, Self::Cut];

    /// Its name on the command line and in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Drain => "drain",
            Self::Disk => "disk",
            Self::Cut => "cut",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One fault, with all that was drawn for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill {
        /// It is stopped for a moment first, so that clients have sent what it will never read.
        stopped: Option<Duration>,
        /// How long there is no server.
        down: Duration,
        /// It is killed once more, so soon after its start that it may still be settling what the first one left.
        again: Option<Duration>,
    },
    Stop {
        how_long: Duration,
    },
    Drain {
        down: Duration,
    },
    Disk {
        /// Counted from the first send that was refused.
        how_long: Duration,
        /// It is killed while the disk is full, and must start on the full one or as soon as there is room.
        killed: bool,
    },
    Cut {
        /// How many of 100 connections.
        percent: u64,
    },
}

impl Fault {
    pub(crate) const fn kind(self) -> FaultKind {
        match self {
            Self::Kill { .. } => FaultKind::Kill,
            Self::Stop { .. } => FaultKind::Stop,
            Self::Drain { .. } => FaultKind::Drain,
            Self::Disk { .. } => FaultKind::Disk,
            Self::Cut { .. } => FaultKind::Cut,
        }
    }

    /// Whether nobody has a connection after it.
    pub(crate) const fn cuts_all_off(self) -> bool {
        matches!(self, Self::Kill { .. } | Self::Drain { .. } | Self::Disk { killed: true, .. })
    }

    fn draw(kind: FaultKind, chance: &mut Chance) -> Self {
        match kind {
            FaultKind::Kill => Self::Kill {
                stopped: chance.percent(15).then(|| chance.millis(50..=500)),
                down: chance.millis(50..=1_000),
                again: chance.percent(20).then(|| chance.millis(0..=400)),
            },
            FaultKind::Stop => Self::Stop { how_long: chance.millis(1_000..=5_000) },
            FaultKind::Drain => Self::Drain { down: chance.millis(50..=1_000) },
            FaultKind::Disk => {
                Self::Disk { how_long: chance.millis(1_000..=4_000), killed: chance.percent(30) }
            }
            FaultKind::Cut => Self::Cut { percent: chance.within(10..=100) },
        }
    }
}

/// A fault and when it is due, from the beginning of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
}

/// What a plan is made of.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) seed: u64,
    pub(crate) how_long: Duration,
    /// From one kill to the next, on the average.
    pub(crate) kills_every: Duration,
    pub(crate) faults: BTreeSet<FaultKind>,
}

/// How often other faults come, for a hundred kills.
const OTHERS: [(u32, FaultKind); 4] =
    [(25, FaultKind::Stop), (10, FaultKind::Drain), (10, FaultKind::Disk), (40, FaultKind::Cut)];

/// The faults of a run, by time. Each wanted kind comes at least once, however short the run.
pub(crate) fn plan(wanted: &Wanted) -> Vec<Planned> {
    let mut chance = Chance::stream(wanted.seed, "faults", 0);
    let others: Vec<(u32, FaultKind)> =
        OTHERS.into_iter().filter(|(_, kind)| wanted.faults.contains(kind)).collect();
    let every = u64::try_from(wanted.kills_every.as_millis()).unwrap_or(u64::MAX).max(100);
    let length = u64::try_from(wanted.how_long.as_millis()).unwrap_or(u64::MAX);
    let (mut plan, mut at) = (Vec::new(), 0);
    loop {
        let gap = chance.within(every * 4 / 10..=every * 16 / 10);
        for (weight, kind) in &others {
            if chance.percent(u64::from(*weight)) {
                let at = Duration::from_millis(at + chance.within(0..=gap));
                plan.push(Planned { at, fault: Fault::draw(*kind, &mut chance) });
            }
        }
        at += gap;
        if at >= length {
            break;
        }
        if wanted.faults.contains(&FaultKind::Kill) {
            plan.push(Planned {
                at: Duration::from_millis(at),
                fault: Fault::draw(FaultKind::Kill, &mut chance),
            });
        }
    }
    plan.retain(|planned| planned.at < wanted.how_long);
    for (number, kind) in wanted.faults.iter().enumerate() {
        if !plan.iter().any(|planned| planned.fault.kind() == *kind) {
            // In the first half, so that there is load after it.
            let at = wanted.how_long / 2 * (number as u32 + 1) / (wanted.faults.len() as u32 + 1);
            plan.push(Planned { at, fault: Fault::draw(*kind, &mut chance) });
        }
    }
    plan.sort_by_key(|planned| planned.at);
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(seed: u64, seconds: u64, faults: &[FaultKind]) -> Wanted {
        Wanted {
            seed,
            how_long: Duration::from_secs(seconds),
            kills_every: Duration::from_secs(6),
            faults: faults.iter().copied().collect(),
        }
    }

    fn count(plan: &[Planned], kind: FaultKind) -> usize {
        plan.iter().filter(|planned| planned.fault.kind() == kind).count()
    }

    #[test]
    fn a_seed_determines_the_plan_and_another_seed_makes_another() {
        let of = |seed| plan(&wanted(seed, 600, &FaultKind::ALL));
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
    }

    #[test]
    fn half_an_hour_has_two_hundred_kills_and_some_of_everything() {
        for seed in 0..50 {
            let plan = plan(&wanted(seed, 1_800, &FaultKind::ALL));
            assert!(count(&plan, FaultKind::Kill) >= 200, "seed {seed}");
            for kind in FaultKind::ALL {
                assert!(count(&plan, kind) >= 5, "{kind} with seed {seed}");
            }
            assert!(plan.is_sorted_by_key(|planned| planned.at));
            assert!(plan.iter().all(|planned| planned.at < Duration::from_secs(1_800)));
        }
    }

    #[test]
    fn however_short_each_wanted_kind_comes_once_and_no_other() {
        for seed in 0..50 {
            let plan = plan(&wanted(seed, 5, &[FaultKind::Stop, FaultKind::Disk]));
            assert!(count(&plan, FaultKind::Stop) >= 1 && count(&plan, FaultKind::Disk) >= 1);
            assert_eq!(count(&plan, FaultKind::Stop) + count(&plan, FaultKind::Disk), plan.len());
        }
    }

    #[test]
    fn no_faults_are_a_plan_too() {
        assert_eq!(plan(&wanted(1, 60, &[])), []);
    }
}
