//! One run: from arguments to a report.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, HumanCount};
use tertulia_protocol::ConvoId;
use tokio_util::sync::CancellationToken;

use crate::chronicle::{Chronicle, Readers};
use crate::conditions::Conditions;
use crate::crowd::Crowd;
use crate::error::Error;
use crate::load::generator::Generator;
use crate::load::plan::Load;
use crate::process::Process;
use crate::progress::Progress;
use crate::report::{Afterwards, Findings, LoadFigures, MemoryPoint, Report, SetUp};
use crate::scenario::Scenario;
use crate::service::{Beside, Service};

/// What all scenarios have in common.
#[derive(Debug, Clone)]
pub struct Options {
    /// The addresses of all nodes, such as `http://127.0.0.1:8080`; one at least.
    pub servers: Vec<String>,
    /// The server's process, if there is one node; if absent, the one of this machine that listens on the port.
    pub server_pid: Option<u32>,
    /// Servers of this machine that work for the nodes, and whose CPU belongs to what a message costs.
    pub beside: Vec<Beside>,
    /// Where users and conversations are kept from run to run.
    pub users_file: Option<PathBuf>,
    /// Threads of the generator; one for every two cores if absent: the server beside it needs the others.
    pub threads: Option<NonZeroUsize>,
    /// How long the load runs before it counts.
    pub warm_up: Duration,
    /// How long it counts.
    pub measured: Duration,
    /// How long the server is waited for afterwards, while it does what it put off; it may never rest.
    pub rest_max: Duration,
    /// Where to write down what all connections say and hear, for `tertulia check`; the run is slower by it.
    pub history: Option<PathBuf>,
}

/// A server rests that uses less than this share of a core, looked at so often, and so many times in a row: its search index
/// stands still for up to five seconds, after work for which it had to wait.
const REST_SHARE: f64 = 0.05;
const REST_INTERVAL: Duration = Duration::from_millis(500);
const REST_INTERVALS: usize = 12;

/// Makes the run.
///
/// Problems of the load itself, such as a refused message or a lost connection, are in the report.
///
/// # Errors
/// If there is nothing to report: the arguments are wrong, the server cannot be reached or refuses the set-up, or
/// `shutdown` ends it.
pub async fn run(
    scenario: &Scenario,
    options: &Options,
    shutdown: CancellationToken,
) -> Result<Report, Error> {
    scenario.check()?;
    if options.history.is_some() {
        scenario.check_history()?;
    }
    let service = Service::find(&options.servers, options.server_pid, &options.beside)?;
    let metrics = service.api().text("/metrics").await?;
    let half = || (available_parallelism().map_or(1, usize::from) / 2).max(1);
    let threads = options.threads.map_or_else(half, usize::from);
    let mut conditions = Conditions::new(threads, &options.servers.join(","), &metrics, service.process());
    conditions.history.clone_from(&options.history);
    let chronicle = options.history.as_deref().map(Chronicle::create).transpose()?;
    let mut bench = Bench {
        crowd: Crowd::open(service.api().clone(), options.users_file.clone())?,
        progress: Progress::new(shutdown),
        warm_up: options.warm_up,
        measured: options.measured,
        began: Instant::now(),
        set_up_took: Duration::ZERO,
        service,
        threads,
        chronicle: chronicle.map(Arc::new),
    };
    let mut findings = scenario.run(&mut bench).await?;
    if let Some(load) = &mut findings.load {
        load.afterwards = bench.until_at_rest(options.rest_max).await?;
    }
    if bench.service.process().is_none() {
        findings
            .notes
            .push("the server's process is not known here, nor what it costs: see --server-pid".into());
    }
    let set_up = SetUp {
        users_registered: bench.crowd.registered,
        conversations_made: bench.crowd.conversations_made,
        seconds: bench.set_up_took.as_secs_f64(),
    };
    Report::new(scenario.name(), scenario, options, conditions, set_up, findings)
}

/// What a scenario works with.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) crowd: Crowd,
    pub(crate) progress: Progress,
    pub(crate) service: Service,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    began: Instant,
    set_up_took: Duration,
    pub(crate) threads: usize,
    pub(crate) chronicle: Option<Arc<Chronicle>>,
}

impl Bench {
    /// Connects everybody; the set-up is over.
    ///
    /// # Errors
    /// If somebody cannot be connected.
    pub(crate) async fn connect(&mut self, load: Load) -> Result<Generator, Error> {
        self.set_up_is_done();
        let chronicle = self.chronicle.clone();
        Generator::connect(load, &self.service.targets, self.threads, chronicle, &self.progress).await
    }

    /// Users and conversations are there.
    pub(crate) fn set_up_is_done(&mut self) {
        if self.set_up_took.is_zero() {
            self.set_up_took = self.began.elapsed();
        }
    }

    /// Connects everybody, plays a load and takes its figures.
    ///
    /// # Errors
    /// If somebody cannot be connected, or on the user's wish.
    pub(crate) async fn measure(&mut self, load: Load) -> Result<Findings, Error> {
        let members = load.seats.iter().map(|seat| &*seat.token);
        let convos = load.seats.iter().filter_map(|seat| seat.sends).map(|sends| sends.convo);
        let readers = self.begin_history(members, convos).await?;
        let generator = self.connect(load).await?;
        let mut memory = vec![self.memory("before")];
        let played = generator.play(self.warm_up, self.measured, &self.service, &self.progress).await?;
        memory.push(self.memory("after"));
        let tally = generator.leave().await?;
        let mut findings = Findings {
            load: Some(LoadFigures::new(&tally, &played, self.measured)),
            memory,
            problems: played.problems,
            ..Findings::default()
        };
        self.end_history(readers, &mut findings).await?;
        Ok(findings)
    }

    /// Waits until the server has done what it has put off: it is part of the price, and would slow down what is measured
    /// next.
    async fn until_at_rest(&self, patience: Duration) -> Result<Option<Afterwards>, Error> {
        let Some(before) = self.service.cpu() else { return Ok(None) };
        self.progress.begin("waiting until the server rests", patience.as_secs() as usize);
        let begun = Instant::now();
        let (mut last, mut quiet) = (before, 0);
        loop {
            self.progress.unless_interrupted(tokio::time::sleep(REST_INTERVAL)).await?;
            let Some(now) = self.service.cpu() else { return Ok(None) };
            let took = begun.elapsed();
            let is_quiet = now.saturating_sub(last) < REST_INTERVAL.mul_f64(REST_SHARE);
            quiet = if is_quiet { quiet + 1 } else { 0 };
            let is_at_rest = quiet >= REST_INTERVALS;
            if is_at_rest || took >= patience {
                let cpu_seconds = now.saturating_sub(before).as_secs_f64();
                return Ok(Some(Afterwards { seconds: took.as_secs_f64(), cpu_seconds, is_at_rest }));
            }
            self.progress.show(took.as_secs() as usize, "");
            last = now;
        }
    }

    /// Begins the history, if one is written: of what these users write in these conversations.
    ///
    /// # Errors
    /// If it cannot be read how far the conversations are.
    pub(crate) async fn begin_history<'a>(
        &self,
        members: impl Iterator<Item = &'a str>,
        convos: impl Iterator<Item = ConvoId>,
    ) -> Result<Readers, Error> {
        let Some(chronicle) = &self.chronicle else { return Ok(Readers::default()) };
        let members = members.map(str::to_owned).collect();
        chronicle.begin(self.crowd.api(), members, &convos.collect(), &self.progress).await
    }

    /// Everybody has left: reads back what is there, and ends the history. One that is not complete is a problem of
    /// the run.
    ///
    /// # Errors
    /// The user's wish to end.
    pub(crate) async fn end_history(
        &mut self,
        readers: Readers,
        findings: &mut Findings,
    ) -> Result<(), Error> {
        let Some(chronicle) = self.chronicle.clone() else { return Ok(()) };
        match chronicle.end(&mut self.crowd, readers, &self.progress).await {
            Ok(written) => findings.notes.push(format!(
                "the history has {} lines, {}: prove it with tertulia check",
                HumanCount(written.lines),
                BinaryBytes(written.bytes)
            )),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            // It may be what has ended the run.
            Err(error) if findings.problems.contains(&error.to_string()) => {}
            Err(error) => findings.problems.push(format!("the history is not complete: {error}")),
        }
        Ok(())
    }

    /// What both processes hold now.
    pub(crate) fn memory(&self, when: &'static str) -> MemoryPoint {
        MemoryPoint { when, server: self.service.memory(), generator: Process::own().memory() }
    }
}
