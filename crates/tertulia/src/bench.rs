//! `tertulia bench`: what a server does under load, measured.

mod args;
mod chart;

use std::fmt::Display;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{Args, Subcommand};
use serde::Serialize;
use tertulia_bench::against::{Against, Rival};
use tertulia_bench::floor::Floor;
use tertulia_bench::scenario::{Group, Idle, Pace, Pairs, Traffic};
use tertulia_bench::{Beside, Options, Scenario};
use tertulia_protocol::rules::BODY_BYTES_MAX;
use tokio_util::sync::CancellationToken;

/// How long the server is waited for to do what it put off in a load.
const REST_MAX: Duration = Duration::from_secs(60);
/// How long, where something else is measured next, which it would slow down.
const REST_MAX_BEFORE_OTHERS: Duration = Duration::from_secs(600);

/// Measures a server under load: rates, latencies, CPU and memory of both sides.
///
/// Start the server with `tertulia serve --limits off`, on a data folder of its own: the users and conversations of a
/// bench stay. Keep them in a file with --users-file, or each run begins with registrations, which cost the server
/// 20 ms of hashing each.
///
/// In a closed loop (--window) each sender keeps so many messages unanswered, and sends the next one at an ack: it
/// finds out how much a server can do. In an open loop (--rate) messages are sent at their time, however the
/// server does, and latencies count from that time: it finds out how long users wait at that rate.
///
/// The generator shares the machine with the server; what each of the two costs is in the report. A run that was too
/// short, lost a connection or had a message refused says so, and ends with status 1.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    scenario: ScenarioArgs,
}

#[derive(Debug, Subcommand)]
enum ScenarioArgs {
    /// Pairs of users, each in a direct conversation: one writes, the other reads
    ///
    /// It measures the path of a message, and how many of them fit.
    Pairs {
        /// Pairs of users
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = many(1))]
        pairs: usize,
        #[command(flatten)]
        traffic: TrafficArgs,
        #[command(flatten)]
        record: RecordArgs,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// One group, all members connected: some write, and everybody reads
    ///
    /// Besides each delivery it measures when the last member has a message.
    Group {
        /// Members, the writers among them
        #[arg(long, value_name = "N", default_value_t = 200, value_parser = many(2))]
        members: usize,
        /// Members who write
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = many(1))]
        writers: usize,
        #[command(flatten)]
        traffic: TrafficArgs,
        #[command(flatten)]
        record: RecordArgs,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Many connections that say nothing: what each costs the server in memory
    ///
    /// The server's memory (PSS) is taken before they come, when they have been idle for --seconds, after a light load
    /// of --seconds in which all of them have heard something, and when they have left. The server must run on this
    /// machine. Each process may have as many connections as it may open files: see `ulimit -n`.
    Idle {
        /// Connections
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = many(2))]
        connections: usize,
        /// Connections of each user: with more than one, fewer users are to be registered
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = many(1))]
        connections_per_user: usize,
        /// Conversations that each user is in: a tenth of them direct ones, the others groups of 100
        #[arg(long, value_name = "K", default_value_t = 50, value_parser = many(1))]
        conversations: usize,
        /// Messages a second in the load after the idling, each to a group
        #[arg(long, value_name = "R", default_value_t = 100.0)]
        rate: f64,
        /// The length of each message
        #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = body())]
        body: usize,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Many connections are cut at once and come back at once, while messages arrive
    ///
    /// All resume where they were. It measures how long it takes until each is ready and until each has every message
    /// that it missed, what goes wrong on the way, and what those notice who stay connected and write. What is
    /// measured for --seconds is the time before the cut.
    Storm(args::StormArgs),
    /// Pages read over REST: the newest, deep ones in a long history, and the inbox
    ///
    /// Each kind is read for --seconds.
    History(args::HistoryArgs),
    /// Many groups of mixed sizes and direct conversations, as in a workspace
    ///
    /// Everybody is connected and writes in one place, drawn by how active it is; half of them in a direct one.
    Rooms(args::RoomsArgs),
    /// Somebody was away: what it costs to come back
    ///
    /// By how much was missed, in one conversation and in many, after a short and after a long history, all beside each
    /// other in one run. --seconds does not matter here.
    Catchup(args::CatchupArgs),
    /// A group in which many type all the time, while messages are written
    ///
    /// Messages are written for --seconds without typing, and again with it.
    Typing(args::TypingArgs),
    /// Pairs that talk, beside peers with bad intentions
    ///
    /// The pairs are measured for --seconds alone, and again beside each kind of hostility. Whoever is thrown out comes
    /// back a second later. As limits are off, what the limits would close stays open.
    Abuse(args::AbuseArgs),
    /// Draws a chart of reports that were saved with --json, beside each other if they are several
    Plot(chart::PlotArgs),
    /// Serves what a server can be measured against: a relay without a store, rules or limits
    ///
    /// It keeps conversations in memory, and of what is said nothing; with --file all of it is synced to a file before it is
    /// acked. The scenarios start one by themselves with --against. It prints one line when it is ready, and ends on
    /// SIGTERM or Ctrl-C.
    Floor {
        /// Where to listen
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8081")]
        listen: SocketAddr,
        /// Syncs to this file, which is made anew and as long as 64 MiB
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct TrafficArgs {
    /// A closed loop: messages that each sender keeps unanswered
    #[arg(long, value_name = "W", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    window: u32,
    /// An open loop: messages a second of all senders together
    #[arg(long, value_name = "R", conflicts_with = "window")]
    rate: Option<f64>,
    /// The length of each message
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = body())]
    body: usize,
}

impl TrafficArgs {
    fn traffic(&self) -> Traffic {
        let pace = self.rate.map_or(Pace::Window(self.window), Pace::Rate);
        Traffic { pace, body_bytes: self.body }
    }
}

#[derive(Debug, Args)]
struct CommonArgs {
    /// The server; of a cluster all nodes, over which connections are spread
    #[arg(
        long,
        env = "TERTULIA_SERVER",
        value_name = "URL,…",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:8080"
    )]
    server: Vec<String>,
    /// The server's process [default: the one of this machine that listens on the port]
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Servers of this machine that work for the nodes, by the ports on which they listen: their CPU is shown, too
    #[arg(long, value_name = "NAME=PORT,…", value_delimiter = ',')]
    beside: Vec<Beside>,
    /// Keeps users and conversations for later runs; it holds their secrets, and belongs to one data folder of a server
    #[arg(long, value_name = "FILE")]
    users_file: Option<PathBuf>,
    /// How long is measured
    #[arg(long, value_name = "S", default_value_t = 10)]
    seconds: u64,
    /// How long the load runs before it counts
    #[arg(long, value_name = "S", default_value_t = 2)]
    warm_up: u64,
    /// Threads of the generator [default: one for every two cores, as the server beside it needs the others]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Measures something else in turn, and prints the ratio
    ///
    /// floor is what a server of no store, no rules and no limits does at best, with one file that it syncs beside the
    /// server's data folder; floor-memory the same without the file. http://… is another service, its nodes separated by
    /// commas, with users of its own. postgres://… is a database into which the same messages are appended with nothing in
    /// front of it (of pairs with --window). On a machine with neighbours the ratio says more than each figure.
    #[arg(long, value_name = "floor|floor-memory|URL", value_parser = rival)]
    against: Option<Rival>,
    /// How often both are measured in turn; the ratio is the median
    #[arg(long, value_name = "N", default_value_t = 1, requires = "against", value_parser = many(1))]
    rounds: usize,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
    /// Draws a chart
    #[arg(long, value_name = "FILE.svg", conflicts_with = "against")]
    plot: Option<PathBuf>,
}

/// Of the scenarios whose clients can write one.
#[derive(Debug, Args)]
struct RecordArgs {
    /// Writes down what all connections say and hear, for `tertulia check FILE`; no message is in it
    ///
    /// In the end all that was written is read back, and everybody's inbox. It costs the generator time, so rates are
    /// lower, and about 600 bytes for each message and 300 for each delivery. A run whose history could not be written to
    /// its end is not valid. A floor makes no promises that could be checked: not with --against.
    #[arg(long, value_name = "FILE", conflicts_with = "against")]
    history: Option<PathBuf>,
}

/// What a server is compared with, by its name or address.
fn rival(text: &str) -> Result<Rival, String> {
    let floor = |synced| {
        let program = std::env::current_exe().map_err(|error| format!("cannot start a floor: {error}"))?;
        Ok(Rival::Floor { program, synced })
    };
    match text {
        "floor" => floor(true),
        "floor-memory" => floor(false),
        _ if text.starts_with("postgres://") || text.starts_with("postgresql://") => {
            Ok(Rival::Appends(text.to_owned()))
        }
        _ if text.starts_with("http://") => Ok(Rival::Service(text.split(',').map(str::to_owned).collect())),
        _ => Err("it is floor, floor-memory, http://HOST:PORT or postgres://…".into()),
    }
}

/// A number from `least` to 100,000.
fn many(least: u64) -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u64).range(least..=100_000).map(|number| number as usize)
}

/// The length of a message: it has room for the time at which it was due, and the server takes it.
fn body() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u64).range(16..=BODY_BYTES_MAX as u64).map(|number| number as usize)
}

/// Measures, and prints the report; or is a floor.
///
/// # Errors
/// If there is nothing to report: wrong arguments, a server that cannot be reached or refuses the set-up.
pub(crate) async fn run(args: BenchArgs, shutdown: CancellationToken) -> anyhow::Result<ExitCode> {
    let Asked { scenario, common, history } = match args.scenario {
        ScenarioArgs::Floor { listen, file } => return floor(listen, file, shutdown).await,
        ScenarioArgs::Plot(args) => {
            chart::draw_all(&args)?;
            return Ok(ExitCode::SUCCESS);
        }
        other => split(other)?,
    };
    let options = Options {
        servers: common.server,
        beside: common.beside,
        server_pid: common.server_pid,
        users_file: common.users_file,
        threads: common.threads,
        warm_up: Duration::from_secs(common.warm_up),
        measured: Duration::from_secs(common.seconds),
        rest_max: if common.against.is_some() { REST_MAX_BEFORE_OTHERS } else { REST_MAX },
        history,
    };
    match common.against {
        None => {
            let report = tertulia_bench::run(&scenario, &options, shutdown).await?;
            if let Some(out) = &common.plot {
                chart::draw(out, serde_json::to_value(&report)?)?;
            }
            print(&report, report.valid, common.json)
        }
        Some(rival) => {
            let against = Against { rival, rounds: common.rounds };
            let comparison = against.run(&scenario, &options, shutdown).await?;
            print(&comparison, comparison.valid, common.json)
        }
    }
}

#[expect(clippy::print_stdout, reason = "the report is what was asked for")]
fn print(report: &(impl Serialize + Display), valid: bool, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        println!("{report}");
    }
    Ok(if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Serves a floor until `shutdown`.
#[expect(clippy::print_stdout, reason = "the ready line is what whoever starts it waits for")]
async fn floor(
    listen: SocketAddr,
    file: Option<PathBuf>,
    shutdown: CancellationToken,
) -> anyhow::Result<ExitCode> {
    let floor = Floor::bind(listen, file.as_deref())?;
    let stop = floor.stop();
    let kept = file.map_or_else(|| "in memory".to_owned(), |file| format!("syncing to {}", file.display()));
    println!("a floor is ready on http://{}, {kept}", floor.address());
    let served = tokio::task::spawn_blocking(move || floor.run());
    tokio::select! {
        served = served => served??,
        () = shutdown.cancelled() => stop.stop()?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What is to be measured, and how.
struct Asked {
    scenario: Scenario,
    common: CommonArgs,
    history: Option<PathBuf>,
}

impl From<(Scenario, CommonArgs)> for Asked {
    fn from((scenario, common): (Scenario, CommonArgs)) -> Self {
        Self { scenario, common, history: None }
    }
}

fn split(scenario: ScenarioArgs) -> anyhow::Result<Asked> {
    Ok(match scenario {
        ScenarioArgs::Pairs { pairs, traffic, record: RecordArgs { history }, common } => {
            let scenario = Scenario::Pairs(Pairs { pairs, traffic: traffic.traffic() });
            Asked { scenario, common, history }
        }
        ScenarioArgs::Group { members, writers, traffic, record: RecordArgs { history }, common } => {
            let scenario = Scenario::Group(Group { members, writers, traffic: traffic.traffic() });
            Asked { scenario, common, history }
        }
        ScenarioArgs::Idle { connections, connections_per_user, conversations, rate, body, common } => {
            let traffic = Traffic { pace: Pace::Rate(rate), body_bytes: body };
            let idle = Idle { connections, connections_per_user, conversations, traffic };
            (Scenario::Idle(idle), common).into()
        }
        ScenarioArgs::Storm(args) => args.split(),
        ScenarioArgs::History(args) => args.split().into(),
        ScenarioArgs::Rooms(args) => args.split(),
        ScenarioArgs::Catchup(args) => args.split().into(),
        ScenarioArgs::Typing(args) => args.split().into(),
        ScenarioArgs::Abuse(args) => args.split().into(),
        ScenarioArgs::Plot(_) => anyhow::bail!("a chart is no scenario"),
        ScenarioArgs::Floor { .. } => anyhow::bail!("a floor is no scenario"),
    })
}
