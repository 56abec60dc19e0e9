//! A run from its first user to its report.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tertulia_history::Recorder;
use tertulia_history::event::{Final, Note};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::actors;
use crate::board::{Board, Phase};
use crate::cast::Cast;
use crate::cutter::{Cutter, Target};
use crate::disk::Disk;
use crate::error::Error;
use crate::folder::Folder;
use crate::harm::{self, Harm};
use crate::plan::{FaultKind, Wanted, plan};
use crate::progress::{Progress, say};
use crate::report::{Ground, Recovery, Report};
use crate::server::{Launch, NotReady, SHORT_JOURNAL, Server};
use crate::verdict;
use crate::world::{Route, Routes, World};

/// By when everybody has brought his last sends to their end.
const QUIET_MAX: Duration = Duration::from_secs(180);
/// By when everybody has read everything, besides a tenth of the load.
const READ_MAX: Duration = Duration::from_secs(180);
/// How much longer a load may run, for what is still to be done to the server.
const LATE_MAX: Duration = Duration::from_secs(60);
/// For those who have not finished, to see that it is over.
const OVER_MAX: Duration = Duration::from_secs(40);

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program whose `serve` is tortured.
    pub binary: PathBuf,
    /// Where it listens; `None`: wherever there is room.
    pub port: Option<u16>,
    /// Where its data, its log and the history go; `None`: a folder for temporary files.
    pub folder: Option<PathBuf>,
    /// How long the load runs.
    pub how_long: Duration,
    /// From one kill to the next, on the average.
    pub kills_every: Duration,
    /// Determines all choices.
    pub seed: u64,
    /// Devices.
    pub clients: usize,
    /// What may be done to the server.
    pub faults: BTreeSet<FaultKind>,
    /// Keeps the folder also after a run without a fault.
    pub keep: bool,
}

/// Tortures a server, and reports; `shutdown` ends the load early.
///
/// # Errors
/// If the run could not be made. What it finds wrong with the server is in the report.
pub async fn run(options: &Options, shutdown: CancellationToken) -> Result<Report, Error> {
    let folder = Folder::new(options.folder.as_deref(), options.seed)?;
    let data = folder.path().join("data");
    let history = folder.path().join("history.ndjson");
    let log = folder.path().join("server.log");
    if data.join("tertulia.db").exists() {
        return Err(Error::NoFault(format!("{} has data already: name another folder", data.display())));
    }
    // Told first, so that whoever ends this the hard way knows, too.
    say(&format!("seed {}, in {}", options.seed, folder.path().display()));

    let (disk, remark) = if options.faults.contains(&FaultKind::Disk) {
        Disk::fillable(&data, disk_bytes(options.how_long))?
    } else {
        (Disk::Plain, None)
    };
    if let Some(remark) = &remark {
        say(remark);
    }
    let port = match options.port {
        Some(port) => port,
        None => free_port().map_err(Error::io("find a port on", Path::new("127.0.0.1")))?,
    };
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let (by_shell, mounted) = (matches!(disk, Disk::Limit), matches!(disk, Disk::Small { .. }));
    let config = folder.path().join("serve.toml");
    let launch = Launch {
        binary: options.binary.clone(),
        port,
        data,
        log: log.clone(),
        by_shell,
        mounted,
        config,
        settings: SHORT_JOURNAL,
        more: Vec::new(),
    };
    let mut server = Server::new(launch)?;
    server.spawn()?;
    if let Err(NotReady::Ended(status)) = server.ready(None).await? {
        return Err(Error::NoServer { status: status.to_string(), log });
    }

    let cutter = if options.faults.contains(&FaultKind::Cut) {
        Some(
            Cutter::new(Target::One(address))
                .await
                .map_err(Error::io("listen on", Path::new("127.0.0.1")))?,
        )
    } else {
        None
    };
    let cast = Cast::new(options.seed, options.clients, cutter.is_some());
    let (devices, users, disk_text) = (cast.devices.len(), cast.users, disk.as_str());
    let board = Arc::new(Board::new(devices, 1));
    let recorder = Recorder::create(&history, "tertulia torture")?;
    recorder.record(Note { text: format!("seed {}", options.seed) });
    let route = Route::new(address)?;
    let cut_route = cutter.as_ref().map(|cutter| Route::new(cutter.address)).transpose()?;
    let set_up = World::set_up(
        options.seed,
        cast,
        Arc::clone(&board),
        recorder.clone(),
        Routes::Alone { direct: route, by_cutter: cut_route },
    );
    let world = tokio::select! {
        world = set_up => Arc::new(world?),
        () = shutdown.cancelled() => return Err(Error::Interrupted),
    };

    let mut harm = Harm::new(server, disk, cutter, Arc::clone(&board), recorder.clone(), options.seed);
    let mut actors = JoinSet::new();
    for number in 0..devices {
        actors.spawn(actors::run(Arc::clone(&world), number));
    }
    let mut progress = Progress::new(options.how_long);
    let begun = Instant::now();
    let loaded = load(options, &mut harm, &board, &mut progress, &shutdown).await;
    let load = begun.elapsed();
    let outcome = match loaded {
        Ok(()) => match harm.heal().await {
            Ok(()) => {
                settle(&board, &recorder, &mut actors, load, &progress).await;
                harm.look_after().await
            }
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    board.enter(Phase::Over);
    actors.abort_all();
    drop(world);
    let recoveries =
        harm.recoveries().iter().map(|(kind, recoveries)| Recovery::of(kind.as_str(), recoveries)).collect();
    if let Err(error) = outcome {
        // The server could not be had any more: that is what was found out.
        board.find(error.to_string());
    } else {
        match harm.server.terminate().await? {
            Some(status) if status.success() => {}
            status => board.find(format!("asked to end at last, the server did not do so well: {status:?}")),
        }
    }
    look_for_panics(&log, &board)?;
    progress.begin("checking");
    recorder.flush()?;
    let verdict = verdict::of(&history, load)?;
    drop(progress);

    let operations = board.counts();
    let mut unproven = Vec::new();
    if operations.contains_key(harm::UNNOTICED) && !operations.contains_key(harm::NOTICED) {
        unproven.push("no send met a full disk".to_owned());
    }
    let mut report = Report {
        seed: options.seed,
        load,
        population: (devices, users),
        ground: Ground::Disk(disk_text),
        remark,
        operations,
        recoveries,
        findings: board.findings(),
        verdict,
        unproven,
        kept: None,
    };
    if !report.holds() || options.keep {
        harm.server.kill().await?;
        harm.disk.keep(&folder.path().join("data-kept"))?;
        drop(harm);
        report.kept = Some(folder.keep());
    } else {
        drop(harm);
    }
    Ok(report)
}

/// The load, with all that is done to the server, until it is over or the user has had enough.
async fn load(
    options: &Options,
    harm: &mut Harm,
    board: &Board,
    progress: &mut Progress,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    let wanted = Wanted {
        seed: options.seed,
        how_long: options.how_long,
        kills_every: options.kills_every,
        faults: options.faults.clone(),
    };
    let begun = Instant::now();
    let end = begun + options.how_long;
    let mut peace = begun;
    let mut plan = plan(&wanted).into_iter().peekable();
    // What is planned is done, also where the server took longer than was thought.
    let is_under_way = |is_left: bool| Instant::now() < if is_left { end + LATE_MAX } else { end };
    while is_under_way(plan.peek().is_some()) && !shutdown.is_cancelled() {
        // A fault that took long does not leave the next ones without anything between them.
        let next = plan.peek().map_or(end, |planned| (begun + planned.at).max(peace));
        // In small steps, for the bar's sake.
        let step = next.min(Instant::now() + Duration::from_secs(1));
        tokio::select! {
            waited = harm.wait_until(step) => waited?,
            () = shutdown.cancelled() => {}
        }
        if next <= Instant::now()
            && let Some(planned) = plan.next()
        {
            harm.inflict(planned.fault).await?;
            // Mostly everybody comes back first, however long his backoff is; else the next fault finds him on the way.
            if planned.fault.cuts_all_off() && harm.chance.percent(75) {
                harm.wait_for_all(options.kills_every).await?;
            }
            let some = u64::try_from(options.kills_every.as_millis() / 3).unwrap_or(u64::MAX);
            peace = Instant::now() + harm.chance.millis(0..=some);
        }
        let faults: Vec<String> =
            harm.recoveries().iter().map(|(kind, done)| format!("{} {kind}", done.faults)).collect();
        progress.show(board, &faults.join(", "));
    }
    Ok(())
}

/// Everything is healed; everybody comes to an end, and reads what there is.
pub(crate) async fn settle(
    board: &Board,
    recorder: &Recorder,
    actors: &mut JoinSet<()>,
    load: Duration,
    progress: &Progress,
) {
    board.enter(Phase::Settle);
    progress.begin("last sends");
    let devices = actors.len();
    let mut quiet = board.all_quiet();
    let all = quiet.wait_for(|quiet| quiet.len() >= devices);
    if tokio::time::timeout(QUIET_MAX, all).await.is_err() {
        board.find("not everything that was sent came to an end, long after all was well again".into());
    }
    recorder.record(Final {});
    board.enter(Phase::Read);
    progress.begin("last reads");
    let all = async { while actors.join_next().await.is_some() {} };
    if tokio::time::timeout(READ_MAX + load / 10, all).await.is_err() {
        board.find("not everybody could read everything, long after all was well again".into());
        board.enter(Phase::Over);
        let rest = async { while actors.join_next().await.is_some() {} };
        drop(tokio::time::timeout(OVER_MAX, rest).await);
    }
}

/// A server that panics and goes on is not well either.
pub(crate) fn look_for_panics(log: &Path, board: &Board) -> Result<(), Error> {
    let text = std::fs::read(log).map_err(Error::io("read", log))?;
    let text = String::from_utf8_lossy(&text);
    if let Some(line) = text.lines().find(|line| line.contains("panicked at")) {
        board.find(format!("the server's log has a panic: {line}"));
    }
    Ok(())
}

/// Enough for what a run writes; only what is used takes memory.
fn disk_bytes(how_long: Duration) -> u64 {
    (256 << 20) + how_long.as_secs() * (2 << 20)
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
