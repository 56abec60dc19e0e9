//! A cluster under torture: nodes with a PostgreSQL, a Redis and a Kafka, to all of which things are done in turn.
//!
//! Devices reach the nodes through fronts (`crate::cutter`), each through one of its own, as through a load balancer that
//! sends every connection to any node that is ready: the socket of a device and its calls are mostly at different ones.
//! Beside the crowd somebody speaks and listens at each node, so that it is known when all of them hear each other again:
//! his socket alone is bound to that node, his calls go to any as everybody's do.

pub(crate) mod doors;
mod harm;
mod nodes;
mod plan;
mod sights;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tertulia_history::Recorder;
use tertulia_history::event::{Nodes, Note};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::doors::Doors;
use self::harm::Harm;
use self::nodes::{Backends, Node};
use self::plan::Deck;
pub use self::plan::FaultKind;
use self::sights::Who;
use crate::actors;
use crate::board::{Board, Phase};
use crate::cast::{Cast, Driver};
use crate::chance::Chance;
use crate::cutter::{Cutter, Target};
use crate::error::Error;
use crate::folder::Folder;
use crate::progress::{Progress, say};
use crate::recovery::AbortOnDrop;
use crate::report::{Ground, Recovery, Report};
use crate::server::NotReady;
use crate::torture::{look_for_panics, settle};
use crate::verdict;
use crate::world::{Route, Routes, Way, World};

/// How much longer a load may run, for what is still to be done.
const LATE_MAX: Duration = Duration::from_secs(120);
/// How often it is shown how far a run is.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// What is to be done.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// The program whose `serve` is tortured.
    pub binary: PathBuf,
    /// How many of it; two or more.
    pub nodes: usize,
    /// Where logs and the history go; `None`: a folder for temporary files.
    pub folder: Option<PathBuf>,
    /// How long the load runs.
    pub how_long: Duration,
    /// Determines all choices.
    pub seed: u64,
    /// Devices.
    pub clients: usize,
    /// What may be done.
    pub faults: BTreeSet<FaultKind>,
    /// Keeps the folder also after a run without a fault.
    pub keep: bool,
}

/// Tortures a cluster, and reports; `shutdown` ends the load early.
///
/// # Errors
/// If the run could not be made. What it finds wrong is in the report.
pub async fn run_cluster(options: &ClusterOptions, shutdown: CancellationToken) -> Result<Report, Error> {
    let folder = Folder::new(options.folder.as_deref(), options.seed)?;
    let history = folder.path().join("history.ndjson");
    // Told first, so that whoever ends this the hard way knows, too.
    say(&format!("seed {}, in {}", options.seed, folder.path().display()));

    let with_kafka = options.faults.iter().any(|kind| kind.needs_kafka());
    let (backends, ways) = Backends::start(options.nodes, with_kafka).await?;
    let mut nodes = Vec::new();
    for (number, ways) in ways.into_iter().enumerate() {
        let mut node = Node::new(number, &options.binary, folder.path(), ways)?;
        node.server.spawn()?;
        if let Err(NotReady::Ended(status)) = node.server.ready(None).await? {
            return Err(Error::NoServer { status: status.to_string(), log: node.log.clone() });
        }
        nodes.push(node);
    }
    let doors = Arc::new(Doors::new(nodes.iter().map(|node| node.address)));
    let watching: Vec<AbortOnDrop> =
        (0..options.nodes).map(|node| AbortOnDrop(tokio::spawn(Arc::clone(&doors).watch(node)))).collect();
    let cast = Cast::new(options.seed, options.clients, true).with_speakers(options.nodes).with_a_ghost();
    let (routes, fronts) = routes(options.seed, &cast, &doors).await?;

    let (devices, users) = (cast.devices.len(), cast.users);
    let board = Arc::new(Board::new(devices, options.nodes));
    let recorder = Recorder::create(&history, "tertulia torture")?;
    recorder.record(Nodes { count: options.nodes as u32 });
    recorder.record(Note { text: format!("seed {}", options.seed) });
    let set_up = World::set_up(options.seed, cast, Arc::clone(&board), recorder.clone(), routes);
    let world = tokio::select! {
        world = set_up => Arc::new(world?),
        () = shutdown.cancelled() => return Err(Error::Interrupted),
    };

    let logs: Vec<PathBuf> = nodes.iter().map(|node| node.log.clone()).collect();
    let mut harm = Harm::new(nodes, backends, Arc::clone(&doors), fronts, &world);
    let mut actors = JoinSet::new();
    for number in 0..devices {
        actors.spawn(actors::run(Arc::clone(&world), number));
    }
    let mut progress = Progress::new(options.how_long);
    let begun = Instant::now();
    let loaded = load(options, &mut harm, &board, &mut progress, &shutdown).await;
    let load = begun.elapsed();
    let outcome = match loaded {
        Ok(()) => {
            progress.begin("who is here");
            sights::judge(&world, &doors, options.nodes, Who::Connected).await;
            settle(&board, &recorder, &mut actors, load, &progress).await;
            harm.look_after().await
        }
        Err(error) => Err(error),
    };
    board.enter(Phase::Over);
    actors.shutdown().await;
    if outcome.is_ok() {
        sights::judge(&world, &doors, options.nodes, Who::Nobody).await;
    }
    drop((world, watching));
    let recoveries =
        harm.recoveries().iter().map(|(kind, recoveries)| Recovery::of(kind.as_str(), recoveries)).collect();
    if let Err(error) = outcome {
        // There was no cluster any more: that is what was found out.
        board.find(error.to_string());
    } else {
        for node in 0..options.nodes {
            harm.end(node).await?;
        }
    }
    for log in &logs {
        look_for_panics(log, &board)?;
    }
    progress.begin("checking");
    recorder.flush()?;
    let verdict = verdict::of(&history, load)?;
    drop(progress);

    let mut report = Report {
        seed: options.seed,
        load,
        population: (devices, users),
        ground: Ground::Nodes { nodes: options.nodes, with_kafka },
        remark: None,
        operations: board.counts(),
        recoveries,
        findings: board.findings(),
        verdict,
        unproven: Vec::new(),
        kept: None,
    };
    if !report.holds() || options.keep {
        harm.backends.keep_logs(folder.path());
        report.kept = Some(folder.keep());
    }
    Ok(report)
}

/// A front before the nodes for each device, and for whoever sets everything up; the sockets of those who listen at one
/// node go to that one. Beside them the fronts whose connections may be cut.
async fn routes(seed: u64, cast: &Cast, doors: &Arc<Doors>) -> Result<(Routes, Vec<Arc<Cutter>>), Error> {
    let front = |number| async move {
        let chance = Chance::stream(seed, "front", number);
        let front = Cutter::new(Target::Any(Arc::clone(doors), chance)).await;
        front.map_err(Error::io("listen on", std::path::Path::new("127.0.0.1")))
    };
    let (mut ways, mut to_be_cut) = (Vec::new(), Vec::new());
    for (number, plan) in cast.devices.iter().enumerate() {
        let front = Arc::new(front(number).await?);
        if plan.by_cutter {
            to_be_cut.push(Arc::clone(&front));
        }
        let socket = match plan.driver {
            Driver::Speaker { node } => doors.address(node),
            _ => None,
        };
        let route = Route::to_both(front.address, socket.unwrap_or(front.address))?;
        ways.push(Way { route, front });
    }
    let for_set_up = Arc::new(front(cast.devices.len()).await?);
    let set_up = Route::new(for_set_up.address)?;
    Ok((Routes::Nodes { ways, set_up, _front: for_set_up }, to_be_cut))
}

/// The load, with all that is done meanwhile, until it is over or the user has had enough.
async fn load(
    options: &ClusterOptions,
    harm: &mut Harm,
    board: &Board,
    progress: &mut Progress,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    let mut deck = Deck::new(options.seed, options.nodes, options.how_long, &options.faults);
    let end = Instant::now() + options.how_long;
    let (mut done, mut ticks) = (0_u64, tokio::time::interval(SHOW_EVERY));
    loop {
        // In a short run, too, each kind comes once.
        let until = if deck.is_through() { end } else { end + LATE_MAX };
        if Instant::now() >= until || shutdown.is_cancelled() {
            break;
        }
        let fault = deck.next();
        let text = fault.map_or_else(
            || "nothing is done".to_owned(),
            |fault| format!("{done} faults, now {}", fault.kind()),
        );
        done += u64::from(fault.is_some());
        let under_way = async {
            match fault {
                Some(fault) => {
                    harm.inflict(fault).await?;
                    // Mostly all is well first; else the next fault finds them on the way.
                    if harm.chance.percent(75) {
                        harm.wait_until_well().await?;
                    }
                    let peace = harm.chance.millis(0..=1_500);
                    harm.wait(peace).await
                }
                None => harm.wait(SHOW_EVERY).await,
            }
        };
        tokio::pin!(under_way);
        loop {
            tokio::select! {
                done = &mut under_way => break done?,
                _ = ticks.tick() => progress.show(board, &text),
            }
        }
    }
    harm.wait_until_well().await
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn who_listens_at_a_node_that_is_away_still_makes_his_calls_at_another() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let away = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let doors = Arc::new(Doors::new([away, listener.local_addr().unwrap()]));
        let cast = Cast::new(1, 4, true).with_speakers(2);
        let (routes, _) = routes(1, &cast, &doors).await.unwrap();
        let Routes::Nodes { ways, .. } = routes else { panic!("there are nodes") };
        let speaker = |plan: &crate::cast::DevicePlan| plan.driver == Driver::Speaker { node: 0 };
        let number = cast.devices.iter().position(speaker).unwrap();
        let route = &ways[number].route;
        assert_eq!(route.socket, format!("ws://{away}/api/ws"));
        let login = route.server.login("ana", "secret", Default::default());
        tokio::select! {
            accepted = listener.accept() => drop(accepted.unwrap()),
            outcome = login => panic!("the call came nowhere: {:?}", outcome.err()),
        }
    }
}
