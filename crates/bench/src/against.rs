//! The same scenario on a server and on something else in turn, and how they compare: on the [floor](crate::floor), on
//! another server, or as bare appends into a database.

mod child;
mod text;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::appends::Appends;
use crate::bench::{self, Options};
use crate::error::Error;
use crate::process::Process;
use crate::report::{Cpu, Latency, LoadFigures, Report};
use crate::scenario::Scenario;
use child::Child;

/// What a server keeps open in its data folder.
const DATA_FILE: &str = "tertulia.db";
/// What a floor can play: it relays messages, and has neither rules nor a memory of what was said.
const PLAYED: [&str; 3] = ["pairs", "group", "rooms"];

/// What a server is compared with.
#[derive(Debug, Clone)]
pub enum Rival {
    /// A relay without store and rules.
    Floor {
        /// The program that is a floor if it is told `bench floor`: this one.
        program: PathBuf,
        /// Whether it syncs what it relays.
        synced: bool,
    },
    /// Another service, by the addresses of its nodes.
    Service(Vec<String>),
    /// The same messages, appended into the PostgreSQL database with this address.
    Appends(String),
}

/// How a server is compared.
#[derive(Debug, Clone)]
pub struct Against {
    /// With what.
    pub rival: Rival,
    /// How often both are measured.
    pub rounds: usize,
}

/// Both, side by side.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// Which scenario.
    pub scenario: &'static str,
    /// What the server was compared with: `floor`, `floor-memory`, `service` or `appends`.
    pub against: &'static str,
    /// The figures that matter, by the names that they have in a report.
    pub figures: BTreeMap<&'static str, Figure>,
    /// One after the other; in each, the server came first.
    pub rounds: Vec<Round>,
    /// Whether the figures can be relied on: those of all rounds can, and the server had rested before the other's.
    pub valid: bool,
    /// Whether the server was at rest, as far as is known, each time before the other was measured.
    pub rested: bool,
}

/// One figure of both.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figure {
    /// The server's; the median of all rounds.
    pub server: f64,
    /// The other's; the median of all rounds.
    pub other: f64,
    /// The server's by the other's, in the same round; the median of all rounds.
    pub ratio: f64,
}

/// Both, measured one after the other.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// The server.
    pub server: Report,
    /// What it is compared with.
    pub other: Report,
}

/// Takes a figure of a report.
type Take = fn(&LoadFigures) -> Option<f64>;

/// The figures that are compared: their names in JSON and in words.
const COMPARED: [(&str, &str, Take); 11] = [
    ("ackedPerSecond", "acked/s", |load| Some(load.acked_per_second)),
    ("deliveriesPerSecond", "deliveries/s", |load| Some(load.deliveries_per_second)),
    ("sendToAckP50Micros", "send→ack p50, µs", |load| p50(load.send_to_ack)),
    ("sendToAckP99Micros", "send→ack p99, µs", |load| p99(load.send_to_ack)),
    ("sendToReceiveP50Micros", "send→receive p50, µs", |load| p50(load.send_to_receive)),
    ("sendToReceiveP99Micros", "send→receive p99, µs", |load| p99(load.send_to_receive)),
    ("sendToLastP50Micros", "send→last p50, µs", |load| p50(load.send_to_last)),
    ("sendToLastP99Micros", "send→last p99, µs", |load| p99(load.send_to_last)),
    ("serverCpuMicrosPerMessage", "server CPU a message, µs", |load| {
        Some(load.server_cpu?.micros_per_message)
    }),
    ("serverCpuMicrosPerDelivery", "server CPU a delivery, µs", |load| cpu(load, load.server_cpu)),
    ("generatorCpuMicrosPerDelivery", "generator CPU a delivery, µs", |load| cpu(load, load.generator_cpu)),
];

fn p50(latency: Option<Latency>) -> Option<f64> {
    latency.map(|latency| latency.p50_micros)
}

fn p99(latency: Option<Latency>) -> Option<f64> {
    latency.map(|latency| latency.p99_micros)
}

/// Where nobody hears anything there is no cost of it.
fn cpu(load: &LoadFigures, cpu: Option<Cpu>) -> Option<f64> {
    cpu.filter(|_| load.delivered > 0).map(|cpu| cpu.micros_per_delivery)
}

impl Against {
    /// Measures both in turn.
    ///
    /// # Errors
    /// As of a [run](crate::run); also if there is no floor to be had, or if it cannot play this scenario.
    pub async fn run(
        &self,
        scenario: &Scenario,
        options: &Options,
        shutdown: CancellationToken,
    ) -> Result<Comparison, Error> {
        self.rival.check(scenario)?;
        let mut rounds = Vec::new();
        for _ in 0..self.rounds.max(1) {
            let server = bench::run(scenario, options, shutdown.clone()).await?;
            let other = self.rival.run(scenario, options, &server, shutdown.clone()).await?;
            rounds.push(Round { server, other });
        }
        Ok(Comparison::new(scenario.name(), self.rival.name(), rounds))
    }
}

impl Rival {
    fn name(&self) -> &'static str {
        match self {
            Self::Floor { synced: true, .. } => "floor",
            Self::Floor { synced: false, .. } => "floor-memory",
            Self::Service(_) => "service",
            Self::Appends(_) => "appends",
        }
    }

    fn check(&self, scenario: &Scenario) -> Result<(), Error> {
        let name = scenario.name();
        match self {
            Self::Floor { .. } if !PLAYED.contains(&name) => {
                let played = PLAYED.join(", ");
                Err(Error::Arguments(format!(
                    "{name} cannot be measured against a floor, which only relays messages: {played} can"
                )))
            }
            Self::Appends(_) => self.appends(scenario).map(drop),
            Self::Floor { .. } | Self::Service(_) => Ok(()),
        }
    }

    fn appends(&self, scenario: &Scenario) -> Result<Appends, Error> {
        match scenario {
            Scenario::Pairs(pairs) => Appends::beside(pairs),
            _ => Err(Error::Arguments("bare appends stand beside pairs alone".into())),
        }
    }

    /// Measures it, after the server.
    async fn run(
        &self,
        scenario: &Scenario,
        options: &Options,
        server: &Report,
        shutdown: CancellationToken,
    ) -> Result<Report, Error> {
        match self {
            Self::Floor { program, synced } => {
                let pid = server.conditions.server.pid;
                let data = pid.and_then(|pid| Process { pid }.folder_of(DATA_FILE));
                let floor = Child::start(program, *synced, data.as_deref()).await?;
                let options = Options {
                    servers: vec![floor.url.clone()],
                    server_pid: Some(floor.pid()),
                    // Users of a floor end with it.
                    users_file: None,
                    beside: Vec::new(),
                    ..options.clone()
                };
                bench::run(scenario, &options, shutdown).await
            }
            Self::Service(servers) => {
                // Users belong to a service.
                let users_file = options.users_file.as_ref().map(|file| file.with_extension("other.json"));
                let servers = servers.clone();
                let options = Options { servers, server_pid: None, users_file, ..options.clone() };
                bench::run(scenario, &options, shutdown).await
            }
            Self::Appends(address) => self.appends(scenario)?.run(address, options, shutdown).await,
        }
    }
}

impl Comparison {
    fn new(scenario: &'static str, against: &'static str, rounds: Vec<Round>) -> Self {
        let rested = rounds.iter().all(|round| has_rested(round.server.findings.load.as_ref()));
        Self {
            scenario,
            against,
            figures: figures(rounds.iter().map(|round| (&round.server, &round.other)).filter_map(
                |(server, other)| Some((server.findings.load.as_ref()?, other.findings.load.as_ref()?)),
            )),
            valid: rested && rounds.iter().all(|round| round.server.valid && round.other.valid),
            rested,
            rounds,
        }
    }
}

/// Whether it was at rest after its load, as far as is known.
fn has_rested(load: Option<&LoadFigures>) -> bool {
    load.and_then(|load| load.afterwards).is_none_or(|afterwards| afterwards.is_at_rest)
}

/// Compares the figures that both sides have.
fn figures<'a>(
    rounds: impl IntoIterator<Item = (&'a LoadFigures, &'a LoadFigures)>,
) -> BTreeMap<&'static str, Figure> {
    let rounds: Vec<_> = rounds.into_iter().collect();
    let figure = |take: Take| {
        let both: Vec<(f64, f64)> =
            rounds.iter().filter_map(|(server, other)| Some((take(server)?, take(other)?))).collect();
        Some(Figure {
            server: median(both.iter().map(|(server, _)| *server))?,
            other: median(both.iter().map(|(_, other)| *other))?,
            ratio: median(
                both.iter().filter(|(_, other)| *other > 0.0).map(|(server, other)| server / other),
            )?,
        })
    };
    COMPARED.iter().filter_map(|&(name, _, take)| Some((name, figure(take)?))).collect()
}

/// The middle one, or the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Afterwards;

    fn load(deliveries_per_second: f64, p99_micros: Option<f64>) -> LoadFigures {
        let latency =
            |p99| Latency { count: 1, p50_micros: 1.0, p95_micros: p99, p99_micros: p99, max_micros: p99 };
        LoadFigures {
            send_to_ack_curve: Vec::new(),
            send_to_receive_curve: Vec::new(),
            samples: Vec::new(),
            seconds: 1.0,
            acked: 1,
            delivered: 1,
            acked_per_second: 1.0,
            deliveries_per_second,
            acked_by_second: Vec::new(),
            deliveries_by_second: Vec::new(),
            send_to_ack: p99_micros.map(latency),
            send_to_receive: None,
            send_to_last: None,
            generator_late: None,
            server_cpu: None,
            beside: Vec::new(),
            costs: Vec::new(),
            generator_cpu: None,
            afterwards: None,
        }
    }

    #[test]
    fn a_ratio_is_of_what_was_measured_in_one_round_and_the_median_of_all() {
        // In the second round the machine was slow, for both of them.
        let rounds = [(600.0, 1_000.0), (60.0, 80.0), (500.0, 1_000.0)];
        let rounds = rounds.map(|(server, other)| (load(server, Some(3.0)), load(other, Some(2.0))));
        let figures = figures(rounds.iter().map(|(server, other)| (server, other)));
        let deliveries = figures["deliveriesPerSecond"];
        assert_eq!(deliveries, Figure { server: 500.0, other: 1_000.0, ratio: 0.6 });
        assert_eq!(figures["sendToAckP99Micros"].ratio, 1.5);
    }

    #[test]
    fn what_one_of_both_does_not_know_is_not_compared() {
        let (with, without, idle) = (load(1.0, Some(2.0)), load(1.0, None), load(0.0, None));
        let figures_of = |server, other| figures([(server, other)]);
        assert!(!figures_of(&with, &without).contains_key("sendToAckP99Micros"));
        assert!(
            !figures_of(&with, &idle).contains_key("deliveriesPerSecond"),
            "there is no ratio to nothing"
        );
        assert!(figures([]).is_empty());
    }

    #[test]
    fn what_is_still_at_work_beside_the_next_one_is_noticed() {
        let after = |is_at_rest| Some(Afterwards { seconds: 60.0, cpu_seconds: 9.0, is_at_rest });
        let with = |afterwards| LoadFigures { afterwards, ..load(1.0, None) };
        assert!(has_rested(Some(&with(after(true)))) && has_rested(Some(&with(None))) && has_rested(None));
        assert!(!has_rested(Some(&with(after(false)))));
    }

    #[test]
    fn of_an_even_number_the_median_is_between_the_two_in_the_middle() {
        assert_eq!(median([4.0, 1.0, 2.0, 100.0].into_iter()), Some(3.0));
        assert_eq!(median([].into_iter()), None);
    }
}
