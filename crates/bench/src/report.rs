//! What came out of a run, for people and as JSON.

mod percentiles;
mod text;

use std::time::Duration;

use serde::Serialize;

use crate::bench::Options;
pub use crate::conditions::{Conditions, ServerConditions};
use crate::error::Error;
pub use crate::histogram::Latency;
use crate::load::generator::Played;
use crate::load::tally::Tally;
pub use crate::process::Memory;
pub use crate::sampling::Sample;
use crate::scenario::{AbuseFigures, CatchupFigures, HistoryFigures, StormFigures, TypingFigures};
pub use percentiles::Percentiles;

/// A shorter run says nothing.
const SECONDS_MIN: u64 = 3;
/// Neither does one of fewer messages: its p99 would be one of a handful.
const MESSAGES_MIN: u64 = 500;

/// A run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Which scenario.
    pub scenario: &'static str,
    /// Its arguments.
    pub arguments: serde_json::Value,
    /// Seconds that did not count.
    pub warm_up_seconds: f64,
    /// Machine and programs.
    pub conditions: Conditions,
    /// What had to be made first.
    pub set_up: SetUp,
    /// What was found.
    #[serde(flatten)]
    pub findings: Findings,
    /// Whether the figures can be relied on: there are no problems.
    pub valid: bool,
}

/// What had to be made before.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SetUp {
    /// Users that were not there.
    pub users_registered: usize,
    /// Conversations that were not there.
    pub conversations_made: usize,
    /// How long it took, before the first connection.
    pub seconds: f64,
}

/// What a scenario has found.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// What a load did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<LoadFigures>,
    /// What connections cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<IdleFigures>,
    /// How those who were cut came back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storm: Option<StormFigures>,
    /// What reading pages costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryFigures>,
    /// What it costs to come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catchup: Option<CatchupFigures>,
    /// What typing costs, and whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typing: Option<TypingFigures>,
    /// What the hostile have achieved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abuse: Option<AbuseFigures>,
    /// The memory of both processes, at some moments.
    pub memory: Vec<MemoryPoint>,
    /// What is to be known of the figures.
    pub notes: Vec<String>,
    /// Why they cannot be relied on.
    pub problems: Vec<String>,
}

/// What a load did, and what it cost.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadFigures {
    /// How long it was measured.
    pub seconds: f64,
    /// Messages that became durable.
    pub acked: u64,
    /// Messages that have reached somebody, each as often as it did.
    pub delivered: u64,
    /// Acks, a second.
    pub acked_per_second: f64,
    /// Deliveries, a second.
    pub deliveries_per_second: f64,
    /// In each second, one after the other: whether it holds.
    pub acked_by_second: Vec<u64>,
    /// The same of deliveries.
    pub deliveries_by_second: Vec<u64>,
    /// From when a message was due until it was known to be durable.
    pub send_to_ack: Option<Latency>,
    /// From when a message was due until a member had it.
    pub send_to_receive: Option<Latency>,
    /// From when a message was due until the last member had it; of groups.
    pub send_to_last: Option<Latency>,
    /// All percentiles of `send_to_ack`: percent, and microseconds.
    pub send_to_ack_curve: Vec<(f64, f64)>,
    /// All percentiles of `send_to_receive`: percent, and microseconds.
    pub send_to_receive_curve: Vec<(f64, f64)>,
    /// What the server cost from moment to moment.
    pub samples: Vec<Sample>,
    /// How late the generator itself was, in an open loop; part of all latencies.
    pub generator_late: Option<Latency>,
    /// The server's CPU; of several nodes all together.
    pub server_cpu: Option<Cpu>,
    /// That of each server beside them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<(String, Cpu)>,
    /// What the nodes did elsewhere for the messages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub costs: Vec<Cost>,
    /// The generator's.
    pub generator_cpu: Option<Cpu>,
    /// What the server did when the load was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub afterwards: Option<Afterwards>,
}

/// What a server did when the load was over, until it rested.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Afterwards {
    /// How long it took.
    pub seconds: f64,
    /// The CPU that it used.
    pub cpu_seconds: f64,
    /// Whether it rested at all, or was no longer waited for.
    pub is_at_rest: bool,
}

/// CPU time, in user and kernel mode together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// All of it.
    pub seconds: f64,
    /// Cores that were busy on average.
    pub cores: f64,
    /// Divided by the acks.
    pub micros_per_message: f64,
    /// Divided by the deliveries.
    pub micros_per_delivery: f64,
}

/// What the nodes did elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// What is counted.
    pub what: &'static str,
    /// How much of it.
    pub count: f64,
}

/// What connections cost the server.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IdleFigures {
    /// How many connections.
    pub connections: usize,
    /// Of how many users.
    pub users: usize,
    /// In how many conversations each user is on average, those of earlier runs included.
    pub conversations_per_user: f64,
    /// The server's PSS, idle, less before, for each.
    pub bytes_per_connection: Option<f64>,
    /// The server's PSS, after a load, less before, for each.
    pub bytes_per_connection_after_load: Option<f64>,
    /// The server's PSS, when they have left, less before; all together.
    pub bytes_left: Option<f64>,
}

/// Memory at a moment.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryPoint {
    /// Which moment.
    pub when: &'static str,
    /// The server's.
    pub server: Option<Memory>,
    /// The generator's.
    pub generator: Option<Memory>,
}

impl Report {
    pub(crate) fn new(
        scenario: &'static str,
        arguments: &impl Serialize,
        options: &Options,
        conditions: Conditions,
        set_up: SetUp,
        mut findings: Findings,
    ) -> Result<Self, Error> {
        let arguments = serde_json::to_value(arguments).map_err(|error| Error::io("report")(error.into()))?;
        // What is measured by `catchup` is each return.
        let is_timed = findings.catchup.is_none();
        if is_timed && options.measured < Duration::from_secs(SECONDS_MIN) {
            findings.problems.push(format!("too short: {SECONDS_MIN} s are the least that says something"));
        }
        // What is measured by `idle` is memory.
        if findings.idle.is_none() && findings.load.as_ref().is_some_and(|load| load.acked < MESSAGES_MIN) {
            findings.problems.push(format!("too few messages: {MESSAGES_MIN} are the least for a p99"));
        }
        if conditions.build == "debug" {
            findings.notes.push("the generator is a debug build: it costs several times as much".into());
        }
        Ok(Self {
            scenario,
            arguments,
            warm_up_seconds: options.warm_up.as_secs_f64(),
            conditions,
            set_up,
            valid: findings.problems.is_empty(),
            findings,
        })
    }
}

impl LoadFigures {
    pub(crate) fn new(tally: &Tally, played: &Played, measured: Duration) -> Self {
        let (acked, delivered): (u64, u64) = (tally.acked.iter().sum(), tally.delivered.iter().sum());
        let seconds = measured.as_secs_f64();
        let cpu = |used: Duration| {
            let used = used.as_secs_f64();
            Cpu {
                seconds: used,
                cores: used / seconds,
                micros_per_message: used * 1e6 / acked.max(1) as f64,
                micros_per_delivery: used * 1e6 / delivered.max(1) as f64,
            }
        };
        let beside = played.used.beside.iter().map(|(name, used)| (name.clone(), cpu(*used)));
        Self {
            seconds,
            acked,
            delivered,
            acked_per_second: acked as f64 / seconds,
            deliveries_per_second: delivered as f64 / seconds,
            acked_by_second: tally.acked.clone(),
            deliveries_by_second: tally.delivered.clone(),
            send_to_ack: tally.send_to_ack.summary(),
            send_to_receive: tally.send_to_receive.summary(),
            send_to_last: tally.send_to_last.summary(),
            send_to_ack_curve: tally.send_to_ack.curve(),
            send_to_receive_curve: tally.send_to_receive.curve(),
            samples: played.samples.clone(),
            generator_late: tally.lateness.summary(),
            server_cpu: played.used.nodes.map(cpu),
            beside: beside.collect(),
            costs: played.used.costs.clone(),
            generator_cpu: played.own_cpu.map(cpu),
            afterwards: None,
        }
    }
}
