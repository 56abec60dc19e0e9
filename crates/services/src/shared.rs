//! The servers that all tests of a clone share: started once, found by environment or by a file under `target`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::process::Process;
use crate::server::{Kind, Life, Server};
use crate::{kafka, postgres};

/// In the folder of the services: a line a server, `kind process port folder`.
const STATE: &str = "state";

/// The environment variable with the URL of a server for tests.
pub const fn variable(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => "TERTULIA_TEST_POSTGRES",
        Kind::Redis => "TERTULIA_TEST_REDIS",
        Kind::Kafka => "TERTULIA_TEST_KAFKA",
    }
}

/// Where the shared server is that a test may use.
///
/// # Errors
/// There is none: neither `make test` has started this nor does `make services` run.
pub fn url(kind: Kind) -> Result<String> {
    if let Ok(url) = std::env::var(variable(kind)) {
        return Ok(url);
    }
    let root = root()?;
    let running = State::read(&folder(&root)).into_iter().find(|known| known.kind == kind && known.is_up());
    let running = running.with_context(|| format!("this test needs {kind}: run `make services` first"))?;
    Ok(kind.url(running.port))
}

/// Starts those of the shared servers that do not run, and leaves them running. Gives the URLs of all.
///
/// # Errors
/// Programs are not installed, or do not come up.
pub fn start(root: &Path) -> Result<Vec<(Kind, String)>> {
    let folder = folder(root);
    fs::create_dir_all(&folder)?;
    let mut known = State::read(&folder);
    known.retain(State::is_up);
    for kind in Kind::ALL {
        if known.iter().all(|known| known.kind != kind) {
            let home = home(&folder, kind);
            if kind == Kind::Kafka && kafka::is_displaced(&home) {
                // What it keeps is for tests, and made again by them.
                remove(&home)?;
            }
            let server = Server::start(kind, &home, Life::ByItself)?;
            let pid = server.process_id().context("it was started")?;
            known.push(State { kind, pid, port: server.address().port(), home });
            // After each: whatever fails next, it can be stopped.
            State::write(&folder, &known)?;
        }
    }
    Ok(known.iter().map(|known| (known.kind, known.kind.url(known.port))).collect())
}

/// Stops the shared servers; what they have stored stays. Says which ran.
///
/// # Errors
/// One does not end.
pub fn stop(root: &Path) -> Result<Vec<Kind>> {
    let folder = folder(root);
    let mut stopped = Vec::new();
    for known in State::read(&folder) {
        if let Some(process) = known.process() {
            let mut server = Server::found(known.kind, &known.home, known.port, process);
            server.stop()?;
            stopped.push(known.kind);
        }
    }
    State::write(&folder, &[])?;
    Ok(stopped)
}

/// Stops the shared servers and removes what they have stored.
///
/// # Errors
/// One does not end, or its folder cannot be removed.
pub fn reset(root: &Path) -> Result<()> {
    stop(root)?;
    let folder = folder(root);
    for kind in Kind::ALL {
        remove(&home(&folder, kind))?;
    }
    remove(&folder)
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// The servers of one run of all tests: empty when it begins, stopped when it ends, however that is.
#[derive(Debug)]
pub struct Run {
    servers: Vec<(Kind, Server)>,
    homes: Vec<PathBuf>,
}

impl Run {
    /// Starts all of them, beside those of [`start`].
    ///
    /// # Errors
    /// Programs are not installed, or do not come up.
    pub fn start(root: &Path) -> Result<Self> {
        let folder = folder(root).join("test");
        fs::create_dir_all(&folder)?;
        let mut run = Self { servers: Vec::new(), homes: Vec::new() };
        for kind in Kind::ALL {
            let home = home(&folder, kind);
            // Of a run that was killed.
            remove(&home)?;
            run.homes.push(home.clone());
            run.servers.push((kind, Server::start(kind, &home, Life::WithCaller)?));
        }
        Ok(run)
    }

    /// The environment in which tests find them.
    pub fn environment(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.servers.iter().map(|(kind, server)| (variable(*kind), server.url()))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.servers.clear();
        for home in &self.homes {
            // What stays, the next run removes.
            let _ = remove(home);
        }
    }
}

/// The folder of the workspace that the test belongs to which runs.
fn root() -> Result<PathBuf> {
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(std::env::current_dir, |dir| Ok(dir.into()))?;
    let root = package.ancestors().find(|folder| folder.join("Cargo.lock").is_file());
    root.map(Path::to_path_buf).context("run tests with cargo")
}

fn folder(root: &Path) -> PathBuf {
    root.join("target/services")
}

/// Where a server has its files: below the folder of the services, or where its user can come to.
fn home(folder: &Path, kind: Kind) -> PathBuf {
    if kind != Kind::Postgres || postgres::can_reach(folder) {
        return folder.join(kind.name());
    }
    // Of a clone in a home that is closed to others, when root starts it.
    let place: String =
        folder.display().to_string().chars().map(|c| if c == '/' { '-' } else { c }).collect();
    std::env::temp_dir().join(format!("tertulia{place}-{kind}"))
}

/// What is known of a server that runs by itself.
struct State {
    kind: Kind,
    pid: i32,
    port: u16,
    home: PathBuf,
}

impl State {
    fn read(folder: &Path) -> Vec<Self> {
        let text = fs::read_to_string(folder.join(STATE)).unwrap_or_default();
        text.lines().filter_map(Self::parse).collect()
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(4, ' ');
        let name = words.next()?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name)?;
        let (pid, port) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { kind, pid, port, home: PathBuf::from(words.next()?) })
    }

    fn write(folder: &Path, all: &[Self]) -> Result<()> {
        if !folder.is_dir() {
            return Ok(());
        }
        let line = |known: &Self| {
            let Self { kind, pid, port, home } = known;
            format!("{kind} {pid} {port} {}\n", home.display())
        };
        let lines: String = all.iter().map(line).collect();
        // In one step: tests may be reading it.
        let new = folder.join("state.new");
        fs::write(&new, lines)?;
        Ok(fs::rename(new, folder.join(STATE))?)
    }

    /// Its process, if that still runs; a number alone may be another's by now.
    fn process(&self) -> Option<Process> {
        let word = match self.kind {
            Kind::Postgres | Kind::Kafka => self.home.display().to_string(),
            // It shows what it listens on.
            Kind::Redis => format!("127.0.0.1:{}", self.port),
        };
        Process::find(self.pid, &word)
    }

    fn is_up(&self) -> bool {
        self.process().is_some()
    }
}
