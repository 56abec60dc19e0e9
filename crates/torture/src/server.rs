//! The server as a process of its own: started, killed, stopped, asked to end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::error::Error;
use crate::guard::Guard;

/// How long a start may take: the journal of a run settles in seconds, but the machine may be busy.
const START_MAX: Duration = Duration::from_secs(120);
/// How long a drain may take; the server gives itself 30 s.
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// How it is started.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) binary: PathBuf,
    pub(crate) port: u16,
    pub(crate) data: PathBuf,
    /// Its stderr, of all its lives.
    pub(crate) log: PathBuf,
    /// It gets an error, not a signal, for writing beyond the largest size of a file.
    pub(crate) by_shell: bool,
    /// Its data is on a file system of its own.
    pub(crate) mounted: bool,
    /// Its file of configuration, and what stands there.
    pub(crate) config: PathBuf,
    pub(crate) settings: &'static str,
    /// Further options of `serve`.
    pub(crate) more: Vec<String>,
}

/// Files of the journal are so short that it begins new ones all the time: at each the server may be killed, and what
/// a full disk still has room for in the present one is soon used up.
pub(crate) const SHORT_JOURNAL: &str = "[store]\njournal_segment_bytes = 32768\n";

/// A server that can be made to suffer; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    launch: Launch,
    child: Option<Child>,
    guard: Guard,
}

/// Why there is none after a start.
#[derive(Debug)]
pub(crate) enum NotReady {
    /// It ended.
    Ended(ExitStatus),
    /// It was killed before it was ready, as was wanted.
    Killed,
}

impl Server {
    pub(crate) fn new(launch: Launch) -> Result<Self, Error> {
        std::fs::write(&launch.config, launch.settings).map_err(Error::io("write", &launch.config))?;
        let guard = Guard::new(launch.mounted.then_some(launch.data.as_path()));
        Ok(Self { launch, child: None, guard })
    }

    /// From its next start on with these further options.
    pub(crate) fn set_options(&mut self, more: Vec<String>) {
        self.launch.more = more;
    }

    /// Makes the process; [`ready`](Self::ready) waits for it.
    pub(crate) fn spawn(&mut self) -> Result<(), Error> {
        let Launch { binary, port, data, log, by_shell, config, more, .. } = &self.launch;
        let log = File::options().create(true).append(true).open(log).map_err(Error::io("open", log))?;
        let mut command = if *by_shell {
            let mut shell = Command::new("sh");
            shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(binary);
            shell
        } else {
            Command::new(binary)
        };
        command
            .args(["serve", "--limits", "off", "--log", "warn", "--listen"])
            .arg(format!("127.0.0.1:{port}"))
            .arg("--data")
            .arg(data)
            .arg("--config")
            .arg(config)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        // Ctrl-C is for this process, which then ends the server.
        command.process_group(0);
        self.child = Some(command.spawn().map_err(Error::io("start", binary))?);
        self.guard.watch(self.pid());
        Ok(())
    }

    /// Waits for its ready line, and kills it if `kill_after` comes first.
    pub(crate) async fn ready(
        &mut self,
        kill_after: Option<Duration>,
    ) -> Result<Result<(), NotReady>, Error> {
        let Some(child) = &mut self.child else { return Ok(Err(NotReady::Killed)) };
        let stdout = child.stdout.take();
        let line = async {
            let mut line = String::new();
            if let Some(stdout) = stdout {
                // What cannot be read is no ready line either.
                drop(BufReader::new(stdout).read_line(&mut line).await);
            }
            line
        };
        let line = tokio::select! {
            line = line => line,
            () = tokio::time::sleep(kill_after.unwrap_or(START_MAX)) => {
                self.kill().await?;
                return if kill_after.is_some() { Ok(Err(NotReady::Killed)) } else { Err(Error::NeverReady) };
            }
        };
        if line.contains(" is ready on ") {
            return Ok(Ok(()));
        }
        let status = child.wait().await.map_err(Error::io("wait for", Path::new("the server")))?;
        self.child = None;
        self.guard.watch(None);
        Ok(Err(NotReady::Ended(status)))
    }

    /// As a power cut would, but for the disk's cache.
    pub(crate) async fn kill(&mut self) -> Result<(), Error> {
        if let Some(mut child) = self.child.take() {
            child.kill().await.map_err(Error::io("kill", &self.launch.binary))?;
            self.guard.watch(None);
        }
        Ok(())
    }

    /// Asks it to end, and waits until it has; `None` if it never did and was killed.
    pub(crate) async fn terminate(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.signal(Signal::TERM)?;
        let Some(mut child) = self.child.take() else { return Ok(None) };
        let ended = match tokio::time::timeout(DRAIN_MAX, child.wait()).await {
            Ok(status) => Some(status.map_err(Error::io("wait for", &self.launch.binary))?),
            Err(_) => {
                child.kill().await.map_err(Error::io("kill", &self.launch.binary))?;
                None
            }
        };
        self.guard.watch(None);
        Ok(ended)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Error> {
        match self.pid() {
            Some(pid) => kill_process(pid, signal)
                .map_err(|error| Error::io("signal", &self.launch.binary)(error.into())),
            None => Ok(()),
        }
    }

    pub(crate) fn pid(&self) -> Option<Pid> {
        let id = self.child.as_ref()?.id()?;
        i32::try_from(id).ok().and_then(Pid::from_raw)
    }

    /// How it has ended, if it has done so by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }
}
