//! What is done to a cluster, one thing after the other: a deck of cards that the seed shuffles anew whenever it is used up.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::chance::Chance;

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// A node gets `kill -9`, and is started again.
    Kill,
    /// A node is stopped (SIGSTOP) for a moment.
    Pause,
    /// A node is stopped for longer than its heartbeats and its lease: the others take it for dead.
    Stop,
    /// All nodes are asked to end (SIGTERM) and started again, one after the other; no client may notice.
    Rolling,
    /// A node's connections to Redis break, and no new ones come about.
    RedisReset,
    /// What a node and Redis tell each other does not arrive; the connections stay.
    RedisHole,
    /// As [`RedisReset`](Self::RedisReset), to PostgreSQL.
    PostgresReset,
    /// As [`RedisHole`](Self::RedisHole), to PostgreSQL.
    PostgresHole,
    /// PostgreSQL is killed or stopped for a while.
    Postgres,
    /// Redis is killed, stopped for a while, or emptied.
    Redis,
    /// As [`RedisReset`](Self::RedisReset), to Kafka.
    KafkaReset,
    /// As [`RedisHole`](Self::RedisHole), to Kafka.
    KafkaHole,
    /// Kafka is killed or stopped for a while.
    Kafka,
    /// The network cuts connections of clients in the middle of whatever they carry.
    Cut,
    /// A node is started with a clock that is an hour off, and some time later with the right one.
    Clock,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Kill,
        Self::Pause,
        Self::Stop,
        Self::Rolling,
        Self::RedisReset,
        Self::RedisHole,
        Self::PostgresReset,
        Self::PostgresHole,
        Self::Postgres,
        Self::Redis,
        Self::KafkaReset,
        Self::KafkaHole,
        Self::Kafka,
        Self::Cut,
        Self::Clock,
    ];

    /// Those that need a Kafka.
    pub const fn needs_kafka(self) -> bool {
        matches!(self, Self::KafkaReset | Self::KafkaHole | Self::Kafka)
    }

    /// Its name on the command line and in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Stop => "stop",
            Self::Rolling => "rolling",
            Self::RedisReset => "redis-reset",
            Self::RedisHole => "redis-hole",
            Self::PostgresReset => "pg-reset",
            Self::PostgresHole => "pg-hole",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::KafkaReset => "kafka-reset",
            Self::KafkaHole => "kafka-hole",
            Self::Kafka => "kafka",
            Self::Cut => "cut",
            Self::Clock => "clock",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A server that all nodes use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Postgres,
    Redis,
    Kafka,
}

/// How a way between a node and a server is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    /// Connections break, new ones are refused.
    Reset,
    /// Nothing arrives, and nobody is told.
    Hole,
}

/// What happens to a server that all nodes use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outage {
    /// Killed, and started again after this time.
    Killed(Duration),
    /// Stopped where it is for this time.
    Paused(Duration),
    /// It forgets everything; Redis alone.
    Emptied,
}

/// One fault, with all that was drawn for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill { node: usize, down: Duration },
    Stop { node: usize, how_long: Duration, is_long: bool },
    Rolling { first: usize, down: Duration },
    Partition { node: usize, from: Backend, how: Break, how_long: Duration, killed: Option<usize> },
    Backend { of: Backend, outage: Outage },
    Cut { percent: u64 },
    Clock { node: usize, ahead: bool, how_long: Duration },
}

impl Fault {
    pub(crate) const fn kind(self) -> FaultKind {
        match self {
            Self::Kill { .. } => FaultKind::Kill,
            Self::Stop { is_long: false, .. } => FaultKind::Pause,
            Self::Stop { is_long: true, .. } => FaultKind::Stop,
            Self::Rolling { .. } => FaultKind::Rolling,
            Self::Partition { from: Backend::Redis, how: Break::Reset, .. } => FaultKind::RedisReset,
            Self::Partition { from: Backend::Redis, how: Break::Hole, .. } => FaultKind::RedisHole,
            Self::Partition { from: Backend::Postgres, how: Break::Reset, .. } => FaultKind::PostgresReset,
            Self::Partition { from: Backend::Postgres, how: Break::Hole, .. } => FaultKind::PostgresHole,
            Self::Partition { from: Backend::Kafka, how: Break::Reset, .. } => FaultKind::KafkaReset,
            Self::Partition { from: Backend::Kafka, how: Break::Hole, .. } => FaultKind::KafkaHole,
            Self::Backend { of: Backend::Kafka, .. } => FaultKind::Kafka,
            Self::Backend { of: Backend::Postgres, .. } => FaultKind::Postgres,
            Self::Backend { of: Backend::Redis, .. } => FaultKind::Redis,
            Self::Cut { .. } => FaultKind::Cut,
            Self::Clock { .. } => FaultKind::Clock,
        }
    }
}

/// Deals faults, without end: each round has every kind once, in an order of its own.
#[derive(Debug)]
pub(crate) struct Deck {
    nodes: usize,
    kinds: Vec<FaultKind>,
    left: Vec<FaultKind>,
    rounds: u64,
    /// For times: from 1, for runs of seconds, up to whole times.
    patience: u32,
    chance: Chance,
}

/// The longest times are for runs that have some; a short one has each kind once in a minute.
const PATIENCE_MAX: u32 = 4;

impl Deck {
    pub(crate) fn new(seed: u64, nodes: usize, how_long: Duration, kinds: &BTreeSet<FaultKind>) -> Self {
        let minutes = u32::try_from(how_long.as_secs() / 60).unwrap_or(u32::MAX);
        Self {
            nodes,
            kinds: kinds.iter().copied().collect(),
            left: Vec::new(),
            rounds: 0,
            patience: minutes.clamp(1, PATIENCE_MAX),
            chance: Chance::stream(seed, "faults", nodes),
        }
    }

    /// The next fault; `None` if none is wanted at all.
    pub(crate) fn next(&mut self) -> Option<Fault> {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
            self.chance.shuffle(&mut self.left);
            self.rounds += 1;
        }
        self.left.pop().map(|kind| self.draw(kind))
    }

    /// Whether each kind has been dealt at least once.
    pub(crate) fn is_through(&self) -> bool {
        self.kinds.is_empty() || self.rounds > 1 || (self.rounds == 1 && self.left.is_empty())
    }

    fn draw(&mut self, kind: FaultKind) -> Fault {
        let node = self.chance.below(self.nodes);
        let some = |deck: &mut Self, least: u64, most: u64| {
            deck.chance.millis(least..=least.max(most * u64::from(deck.patience) / u64::from(PATIENCE_MAX)))
        };
        match kind {
            FaultKind::Kill => Fault::Kill { node, down: some(self, 50, 8_000) },
            FaultKind::Pause => Fault::Stop { node, how_long: some(self, 200, 4_000), is_long: false },
            // Two heartbeats are 6 s, a lease 10 s.
            FaultKind::Stop => Fault::Stop { node, how_long: some(self, 7_000, 16_000), is_long: true },
            FaultKind::Rolling => Fault::Rolling { first: node, down: some(self, 0, 2_000) },
            FaultKind::RedisReset => self.partition(node, Backend::Redis, Break::Reset),
            FaultKind::RedisHole => self.partition(node, Backend::Redis, Break::Hole),
            FaultKind::PostgresReset => self.partition(node, Backend::Postgres, Break::Reset),
            FaultKind::PostgresHole => self.partition(node, Backend::Postgres, Break::Hole),
            FaultKind::KafkaReset => self.partition(node, Backend::Kafka, Break::Reset),
            FaultKind::KafkaHole => self.partition(node, Backend::Kafka, Break::Hole),
            FaultKind::Postgres | FaultKind::Kafka => {
                let how_long = some(self, 500, 12_000);
                let is_killed = self.chance.percent(65);
                let outage = if is_killed { Outage::Killed(how_long) } else { Outage::Paused(how_long) };
                let of = if kind == FaultKind::Kafka { Backend::Kafka } else { Backend::Postgres };
                Fault::Backend { of, outage }
            }
            FaultKind::Redis => {
                let how_long = some(self, 500, 12_000);
                let outage = match self.chance.below(100) {
                    0..=49 => Outage::Killed(how_long),
                    50..=79 => Outage::Paused(how_long),
                    _ => Outage::Emptied,
                };
                Fault::Backend { of: Backend::Redis, outage }
            }
            FaultKind::Cut => Fault::Cut { percent: self.chance.within(10..=100) },
            FaultKind::Clock => {
                Fault::Clock { node, ahead: self.chance.percent(50), how_long: some(self, 3_000, 12_000) }
            }
        }
    }

    fn partition(&mut self, node: usize, from: Backend, how: Break) -> Fault {
        // Longer than whatever waits for an answer, now and then.
        let most = 3_000 * u64::from(self.patience) + if self.chance.percent(20) { 6_000 } else { 0 };
        let how_long = self.chance.millis(1_500..=most);
        let other = (node + self.chance.within(1..=(self.nodes as u64 - 1).max(1)) as usize) % self.nodes;
        let killed = (self.chance.percent(25) && other != node).then_some(other);
        Fault::Partition { node, from, how, how_long, killed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deck(seed: u64, minutes: u64, kinds: &[FaultKind]) -> Deck {
        Deck::new(seed, 3, Duration::from_secs(minutes * 60), &kinds.iter().copied().collect())
    }

    #[test]
    fn a_seed_determines_the_faults_and_another_seed_deals_others() {
        let dealt = |seed| {
            let mut deck = deck(seed, 30, &FaultKind::ALL);
            (0..100).filter_map(|_| deck.next()).collect::<Vec<_>>()
        };
        assert_eq!(dealt(3), dealt(3));
        assert_ne!(dealt(3), dealt(4));
    }

    #[test]
    fn each_round_has_every_kind_once_and_no_other() {
        for (seed, kinds) in [(1, &FaultKind::ALL[..]), (2, &FaultKind::ALL[3..5])] {
            let mut deck = deck(seed, 1, kinds);
            for _ in 0..20 {
                let round: BTreeSet<_> = kinds.iter().filter_map(|_| deck.next()).map(Fault::kind).collect();
                assert_eq!(round, kinds.iter().copied().collect());
                assert!(deck.is_through());
            }
        }
        assert_eq!(deck(1, 1, &[]).next(), None);
    }

    #[test]
    fn whoever_is_killed_beside_a_partition_is_another_node() {
        let mut deck = deck(5, 10, &FaultKind::ALL);
        let mut both = 0;
        for fault in (0..2_000).filter_map(|_| deck.next()) {
            if let Fault::Partition { node, killed: Some(killed), .. } = fault {
                assert!(killed != node && killed < 3);
                both += 1;
            }
        }
        assert!(both > 50);
    }
}
