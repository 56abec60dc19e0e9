//! A server of one of the three kinds, and what can be done to it.

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::Process;
use crate::{kafka, ports, postgres, redis};

/// How often a start is tried again because somebody else took the port first.
const STARTS_MAX: usize = 3;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL 15 or later; every commit is synced.
    Postgres,
    /// Redis 7; it keeps nothing over a restart.
    Redis,
    /// Apache Kafka 4, one broker that is its own controller.
    Kafka,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Postgres, Self::Redis, Self::Kafka];

    /// In lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Kafka => "kafka",
        }
    }

    /// Where it is reached.
    pub fn url(self, port: u16) -> String {
        match self {
            Self::Postgres => format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            Self::Redis => format!("redis://127.0.0.1:{port}"),
            Self::Kafka => format!("kafka://127.0.0.1:{port}"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How long a server lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Until its [`Server`] is dropped or the program that started it ends, however that ends.
    WithCaller,
    /// Until somebody stops it.
    ByItself,
}

/// A server that runs, or did and can be started again.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    folder: PathBuf,
    port: u16,
    life: Life,
    /// Further ones of its command line; of Kafka further ports, `PORT=ADDRESS`, and where they are reached.
    options: Vec<String>,
    process: Option<Process>,
    /// Goes with it.
    _temporary: Option<TempDir>,
}

impl Server {
    /// Starts a server in a folder of its own, which is gone when this is dropped.
    ///
    /// # Errors
    /// Its programs are not installed, or it does not come up.
    pub fn temporary(kind: Kind) -> Result<Self> {
        Self::temporary_with(kind, &[])
    }

    /// Starts a Redis as [`temporary`](Self::temporary) does, with further options, such as `["--cluster-enabled", "yes"]`.
    ///
    /// # Errors
    /// Its program is not installed, or it does not come up.
    pub fn temporary_redis(options: &[&str]) -> Result<Self> {
        Self::temporary_with(Kind::Redis, options)
    }

    /// Starts a Kafka as [`temporary`](Self::temporary) does, that listens on further ports, and says of each that it is
    /// reached elsewhere: whoever comes in by one goes on by the way that is named there, and by no other.
    ///
    /// # Errors
    /// Its programs are not installed, or it does not come up.
    pub fn temporary_kafka(ways: &[(u16, SocketAddr)]) -> Result<Self> {
        let ways: Vec<String> = ways.iter().map(|(port, at)| format!("{port}={at}")).collect();
        Self::temporary_with(Kind::Kafka, &ways.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn temporary_with(kind: Kind, options: &[&str]) -> Result<Self> {
        let temporary = tempfile::Builder::new().prefix("tertulia-").tempdir()?;
        let mut server = Self::start_with(kind, temporary.path(), Life::WithCaller, options)?;
        server._temporary = Some(temporary);
        Ok(server)
    }

    /// Starts a standby of this PostgreSQL, in a folder of its own. From then on commits here are acknowledged when the
    /// standby has them synced, too.
    ///
    /// # Errors
    /// This is no PostgreSQL, or the standby does not come up.
    pub fn standby(&self) -> Result<Self> {
        ensure!(self.kind == Kind::Postgres, "{} has no standby here", self.kind);
        let temporary = tempfile::Builder::new().prefix("tertulia-").tempdir()?;
        postgres::copy(self.port, temporary.path())?;
        // It waits for no standby itself, whatever was copied.
        let options = ["-c", "synchronous_standby_names="];
        let mut standby = Self::start_with(Kind::Postgres, temporary.path(), Life::WithCaller, &options)?;
        standby._temporary = Some(temporary);
        let wait_for_it = ["ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"];
        postgres::tell(self.port, &wait_for_it)?;
        Ok(standby)
    }

    /// Makes a standby the primary; gives back control when it takes writes.
    ///
    /// # Errors
    /// It is none.
    pub fn promote(&self) -> Result<()> {
        postgres::tell(self.port, &["SELECT pg_promote()"])
    }

    /// Starts a server on a free port in `folder`, which is made if need be and goes on being used if it was before.
    ///
    /// # Errors
    /// Its programs are not installed, or it does not come up.
    pub fn start(kind: Kind, folder: &Path, life: Life) -> Result<Self> {
        Self::start_with(kind, folder, life, &[])
    }

    fn start_with(kind: Kind, folder: &Path, life: Life, options: &[&str]) -> Result<Self> {
        let options: Vec<_> = options.iter().map(ToString::to_string).collect();
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        let mut tries = 0;
        loop {
            let port = ports::free()?;
            let (folder, options) = (folder.clone(), options.clone());
            let mut server = Self { kind, folder, port, life, options, process: None, _temporary: None };
            match server.begin() {
                Ok(()) => return Ok(server),
                Err(_) if tries + 1 < STARTS_MAX => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// One that somebody else has started, to live by itself.
    pub(crate) fn found(kind: Kind, folder: &Path, port: u16, process: Process) -> Self {
        let (folder, life) = (folder.to_path_buf(), Life::ByItself);
        Self { kind, folder, port, life, options: Vec::new(), process: Some(process), _temporary: None }
    }

    fn begin(&mut self) -> Result<()> {
        let process = match self.kind {
            Kind::Postgres => postgres::start(&self.folder, self.port, self.life, &self.options),
            Kind::Redis => redis::start(&self.folder, self.port, self.life, &self.options),
            Kind::Kafka => kafka::start(&self.folder, self.port, self.life, &self.options),
        };
        self.process = Some(process.with_context(|| format!("start {}", self.kind))?);
        Ok(())
    }

    /// Where it is reached; the same over restarts.
    pub fn url(&self) -> String {
        self.kind.url(self.port)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), self.port)
    }

    /// Its files; `log` is what it says.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn process_id(&self) -> Option<i32> {
        self.process.as_ref().map(Process::id)
    }

    /// Stops it where it is: connections stay, nothing answers.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn pause(&self) -> Result<()> {
        self.process.as_ref().map_or(Ok(()), |process| process.signal_all(Signal::STOP))
    }

    /// Lets it go on after [`pause`](Self::pause).
    ///
    /// # Errors
    /// The system refuses it.
    pub fn resume(&self) -> Result<()> {
        self.process.as_ref().map_or(Ok(()), |process| process.signal_all(Signal::CONT))
    }

    /// Kills it and all of its processes with `SIGKILL`.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), Process::kill)
    }

    /// Ends it in order, but without waiting for its clients.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.signal_all(Signal::CONT)?;
        process.signal(match self.kind {
            Kind::Postgres => Signal::INT,
            Kind::Redis | Kind::Kafka => Signal::TERM,
        })?;
        process.wait_for_end()
    }

    /// Starts it again on its port and folder after it was stopped or killed; one that runs is stopped first.
    ///
    /// # Errors
    /// It does not end, or does not come up.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.begin()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take().filter(|_| self.life == Life::WithCaller) else { return };
        // PostgreSQL leaves shared memory behind when it is killed; this is its quickest orderly end.
        let farewell = if self.kind == Kind::Postgres { Signal::QUIT } else { Signal::KILL };
        let ended = process
            .signal_all(Signal::CONT)
            .and_then(|()| process.signal(farewell))
            .and_then(|()| process.wait_for_end());
        if ended.is_err() {
            // A test is over: there is nobody to tell.
            let _ = process.kill();
        }
    }
}
