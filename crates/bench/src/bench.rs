//! One run: from arguments to a report.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, HumanCount};
use reqwest::Url;
use tertulia_protocol::ConvoId;
use tokio_util::sync::CancellationToken;

use crate::chronicle::{Chronicle, Readers};
use crate::conditions::Conditions;
use crate::crowd::{Api, Crowd};
use crate::error::Error;
use crate::load::generator::{Generator, Target};
use crate::load::plan::Load;
use crate::process::Process;
use crate::progress::Progress;
use crate::report::{Findings, LoadFigures, MemoryPoint, Report, SetUp};
use crate::scenario::Scenario;

/// What all scenarios have in common.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server's address, such as `http://127.0.0.1:8080`.
    pub server: String,
    /// The server's process; if absent, the one of this machine that listens on the port.
    pub server_pid: Option<u32>,
    /// Where users and conversations are kept from run to run.
    pub users_file: Option<PathBuf>,
    /// Threads of the generator; one for every two cores if absent: the server beside it needs the others.
    pub threads: Option<NonZeroUsize>,
    /// How long the load runs before it counts.
    pub warm_up: Duration,
    /// How long it counts.
    pub measured: Duration,
    /// Where to write down what all connections say and hear, for `tertulia check`; the run is slower by it.
    pub history: Option<PathBuf>,
}

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
    let (target, port) = target(&options.server)?;
    let api = Api::new(&options.server)?;
    let metrics = api.text("/metrics").await?;
    let is_here = target.address.ip().is_loopback();
    let server = match options.server_pid {
        Some(pid) => Some(Process { pid }),
        None => is_here.then(|| Process::listening_on(port)).flatten(),
    };
    let half = || (available_parallelism().map_or(1, usize::from) / 2).max(1);
    let threads = options.threads.map_or_else(half, usize::from);
    let mut conditions = Conditions::new(threads, &options.server, &metrics, server);
    conditions.history.clone_from(&options.history);
    let chronicle = options.history.as_deref().map(Chronicle::create).transpose()?;
    let mut bench = Bench {
        crowd: Crowd::open(api, options.users_file.clone())?,
        progress: Progress::new(shutdown),
        warm_up: options.warm_up,
        measured: options.measured,
        began: Instant::now(),
        set_up_took: Duration::ZERO,
        target,
        threads,
        server,
        chronicle: chronicle.map(Arc::new),
    };
    let mut findings = scenario.run(&mut bench).await?;
    if server.is_none() {
        findings
            .notes
            .push("the server's process is not known here, nor what it costs: see --server-pid".into());
    }
    let set_up = SetUp {
        users_registered: bench.crowd.registered,
        conversations_made: bench.crowd.conversations_made,
        seconds: bench.set_up_took.as_secs_f64(),
    };
    Report::new(scenario, options, conditions, set_up, findings)
}

/// What a scenario works with.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) crowd: Crowd,
    pub(crate) progress: Progress,
    pub(crate) server: Option<Process>,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    began: Instant,
    set_up_took: Duration,
    pub(crate) target: Target,
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
        Generator::connect(load, &self.target, self.threads, chronicle, &self.progress).await
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
        let played = generator.play(self.warm_up, self.measured, self.server, &self.progress).await?;
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
        MemoryPoint {
            when,
            server: self.server.and_then(Process::memory),
            generator: Process::own().memory(),
        }
    }
}

/// Where the sockets connect to, and the port.
fn target(server: &str) -> Result<(Target, u16), Error> {
    let wrong = |why: &str| Error::Arguments(format!("{server:?} {why}: write http://HOST:PORT"));
    let url: Url = server.parse().map_err(|_| wrong("is no address"))?;
    if url.scheme() != "http" {
        return Err(wrong("is not measured: what TLS costs is not the server's"));
    }
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err(wrong("has no host"));
    };
    let what = format!("look up {host}");
    let addresses = (host.trim_matches(['[', ']']), port).to_socket_addrs().map_err(Error::io(what))?;
    // A server listens on IPv4 more often than on IPv6.
    let addresses: Vec<SocketAddr> = addresses.collect();
    let address = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    let &address = address.ok_or_else(|| wrong("has no address"))?;
    Ok((Target { address, host: format!("{host}:{port}") }, port))
}

#[cfg(test)]
mod tests {
    use super::target;

    #[test]
    fn a_server_is_a_plain_http_address() {
        let (found, port) = target("http://127.0.0.1:8080").unwrap();
        assert_eq!(
            (found.address.to_string().as_str(), found.host.as_str()),
            ("127.0.0.1:8080", "127.0.0.1:8080")
        );
        assert_eq!(port, 8080);
        assert_eq!(target("http://[::1]:81/").unwrap().0.address.to_string(), "[::1]:81");
        for wrong in ["localhost", "https://localhost", "127.0.0.1:8080", "http://"] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }
}
