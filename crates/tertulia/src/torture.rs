//! `tertulia torture`: a server that is killed and hurt while clients use it, and a check that it kept its word.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tertulia_torture::cluster::FaultKind as OfNodes;
use tertulia_torture::{ClusterOptions, FaultKind, Options, Report};
use tokio_util::sync::CancellationToken;

/// Tortures a server of its own, and checks that every guarantee held.
///
/// It starts `tertulia serve` on a free port with a data folder of its own. A
/// crowd of devices registers there and does everything that clients do: sends
/// with retries on other connections and over REST, reconnects, resumes from old
/// positions, long-polls, marks, reads, group changes, slow readers, devices that
/// are logged out. Meanwhile the server suffers:
///
///   kill   killed with SIGKILL and started on the same data, sometimes again
///          before it is ready
///   stop   stopped for 1 to 5 s (SIGSTOP), then let go on
///   drain  asked to end (SIGTERM), and started again
///   disk   its disk is full until sends are refused, and for seconds more;
///          sometimes it is killed meanwhile. As root its data is on a small file
///          system in memory, which is made as small as what it holds; else the
///          size of its files is limited, which gives another error (EFBIG) for
///          the same trouble
///   cut    the network cuts connections in the middle of whatever they carry
///
/// With --nodes from 2 on it starts so many nodes, and a PostgreSQL and a Redis for them,
/// whose programs must be installed; and a Kafka if something is to be done to
/// it. Devices reach any of the nodes, and go on at another when one is gone.
/// What is done then, in turn:
///
///   kill         a node is killed with SIGKILL, and started again
///   pause, stop  a node is stopped (SIGSTOP) for a moment, or for longer than
///                heartbeats and leases
///   rolling      all nodes are asked to end and started again, one by one: no
///                client may notice
///   redis-reset, redis-hole, pg-reset, pg-hole, kafka-reset, kafka-hole
///                a node is cut off from Redis, PostgreSQL or Kafka: connections
///                break, or nothing arrives on them; sometimes another node is
///                killed meanwhile
///   postgres, redis, kafka
///                the server is killed or stopped for a while, or Redis is
///                emptied
///   cut          connections of clients are cut
///   clock        a node has a clock that is an hour off for a while
///
/// In the end all is healed, everybody brings his sends to an end and reads
/// everything, and the history of the run is checked as by `tertulia check`:
/// nothing acked may be lost, nothing may be there twice, everybody must have
/// seen the same order without holes, and more.
///
/// The report shows how often what was done, and how long it took after each
/// fault until the first message was acked and until everybody was connected
/// again. If anything was wrong it names the seed and the folder with the
/// history, the server's log and its data, and the exit status is 1.
///
/// A seed determines all choices: who takes part, what each device draws, what is
/// done to the server and when. Time is not in its hands, so the same seed gives
/// the same mix again, not the same run.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct TortureArgs {
    /// How long the load runs; settling and checking come on top
    #[arg(long, value_name = "M", default_value_t = 1.0, value_parser = positive)]
    minutes: f64,
    /// Seconds from one kill to the next, on the average; of one node
    #[arg(long, value_name = "S", default_value_t = 6.0, value_parser = positive)]
    kills_every: f64,
    /// Determines all choices [default: drawn]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where data, log and history go; kept [default: a temporary folder, kept if anything is wrong]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Devices; two of each user
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u64).range(4..=10_000))]
    clients: u64,
    /// How many nodes; more than one need PostgreSQL and Redis, which are started for them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: u64,
    /// What is done, of the above; none for nothing [default: all of it]
    #[arg(long, value_name = "FAULTS", value_delimiter = ',')]
    faults: Vec<String>,
    /// The port of the server [default: a free one]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Keeps the temporary folder also if nothing is wrong
    #[arg(long)]
    keep: bool,
}

/// The faults that were asked for, by their names.
fn wanted<K: Copy + Ord>(
    asked: &[String],
    all: &[K],
    name: impl Fn(K) -> &'static str,
) -> anyhow::Result<BTreeSet<K>> {
    if asked.is_empty() {
        return Ok(all.iter().copied().collect());
    }
    let names = || all.iter().map(|kind| name(*kind)).collect::<Vec<_>>().join(", ");
    let known = asked.iter().filter(|asked| *asked != "none").map(|asked| {
        let kind = all.iter().copied().find(|kind| name(*kind) == asked);
        kind.with_context(|| format!("{asked:?} cannot be done here; there are {}, and none", names()))
    });
    known.collect()
}

/// A time that is more than nothing.
fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number <= 100_000.0 => Ok(number),
        _ => Err("a number above 0 and up to 100,000 is wanted".into()),
    }
}

/// Tortures, and prints the report.
///
/// # Errors
/// If there is nothing to report: no server could be started, or no users made.
pub(crate) async fn run(args: TortureArgs, shutdown: CancellationToken) -> anyhow::Result<ExitCode> {
    let seed = match args.seed {
        Some(seed) => seed,
        // Short enough to be typed.
        None => u64::from(uuid::Uuid::now_v7().as_u128() as u32),
    };
    let binary = std::env::current_exe().context("this program does not know where it is")?;
    let how_long = Duration::from_secs_f64(args.minutes * 60.0);
    if args.nodes > 1 {
        anyhow::ensure!(args.port.is_none(), "--port is for one server: nodes take what is free");
        let options = ClusterOptions {
            binary,
            nodes: args.nodes as usize,
            keep: args.keep || args.data.is_some(),
            folder: args.data,
            how_long,
            seed,
            clients: args.clients as usize,
            faults: wanted(&args.faults, &OfNodes::ALL, OfNodes::as_str)?,
        };
        return Ok(told(&tertulia_torture::run_cluster(&options, shutdown).await?));
    }
    let options = Options {
        binary,
        port: args.port,
        keep: args.keep || args.data.is_some(),
        folder: args.data,
        how_long,
        kills_every: Duration::from_secs_f64(args.kills_every),
        seed,
        clients: args.clients as usize,
        faults: wanted(&args.faults, &FaultKind::ALL, FaultKind::as_str)?,
    };
    Ok(told(&tertulia_torture::run(&options, shutdown).await?))
}

#[expect(clippy::print_stdout, reason = "the report is what was asked for")]
fn told(report: &Report) -> ExitCode {
    println!("{report}");
    if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named_as_they_are_in_the_report() {
        let ask = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            wanted(&names, &OfNodes::ALL, OfNodes::as_str)
        };
        assert_eq!(ask(&[]).unwrap().len(), OfNodes::ALL.len());
        assert_eq!(ask(&["none"]).unwrap(), BTreeSet::new());
        assert_eq!(ask(&["pg-hole", "kill"]).unwrap(), [OfNodes::Kill, OfNodes::PostgresHole].into());
        let refused = ask(&["kill", "disk"]).unwrap_err().to_string();
        assert!(refused.starts_with("\"disk\" cannot be done here; there are kill, "), "{refused}");
    }
}
