//! A server's process and its children: started, watched, stopped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::keeper;
use crate::server::Life;

/// How long a server may take to come up or to go.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often one looks whether it is so.
const TICK: Duration = Duration::from_millis(10);

/// A process that runs, or did.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    /// Of a process that another one has started there is only the number.
    child: Option<Child>,
}

/// Whom the process belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// How a process is started.
pub(crate) struct Start<'a> {
    pub(crate) program: &'a Path,
    pub(crate) arguments: Vec<String>,
    pub(crate) folder: &'a Path,
    /// Everything that it says is added to this file.
    pub(crate) log: &'a Path,
    pub(crate) user: Option<User>,
    pub(crate) life: Life,
    /// What it gets when it outlives whoever started it.
    pub(crate) farewell: &'static str,
}

impl Process {
    pub(crate) fn start(start: &Start<'_>) -> Result<Self> {
        let log = fs::File::options().create(true).append(true).open(start.log)?;
        // From util-linux, which every Debian has: it becomes the program, so the process keeps its number.
        let mut command = Command::new("setpriv");
        if let Some(User { uid, gid }) = start.user {
            command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into()]);
        }
        if start.life == Life::WithCaller {
            command.args(["--pdeathsig", start.farewell]);
        }
        command.arg("--").arg(start.program).args(&start.arguments).current_dir(start.folder);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).env("LC_ALL", "C.UTF-8");
        // A Ctrl-C at the terminal is for whoever started it.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = keeper::spawn(command).context("setpriv, of util-linux")?;
        Ok(Self { pid: Pid::from_child(&child), child: Some(child) })
    }

    /// A process that is known by its number, if it runs and has `word` in its command line.
    pub(crate) fn find(pid: i32, word: &str) -> Option<Self> {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let is_ours = String::from_utf8_lossy(&line).contains(word);
        Some(Self { pid: Pid::from_raw(pid).filter(|_| is_ours)?, child: None })
    }

    pub(crate) fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Waits until `is_up`; fails when the process ends before that.
    pub(crate) fn wait_until(&mut self, log: &Path, mut is_up: impl FnMut() -> bool) -> Result<()> {
        let begin = Instant::now();
        while !is_up() {
            if self.has_ended()? {
                let said = fs::read_to_string(log).unwrap_or_default();
                let last: Vec<_> = said.lines().rev().take(5).collect();
                bail!("it ended: {}", last.into_iter().rev().collect::<Vec<_>>().join(" / "));
            }
            ensure!(begin.elapsed() < PATIENCE, "it does not come up; see {}", log.display());
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    fn has_ended(&mut self) -> Result<bool> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?.is_some()),
            None => Ok(test_kill_process(self.pid).is_err()),
        }
    }

    /// Sends a signal to the process alone.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        send(self.pid, signal)
    }

    /// Sends a signal to the process and all below it: first to the process, so that it begins no more of them.
    pub(crate) fn signal_all(&self, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        for child in children(self.pid) {
            send(child, signal)?;
        }
        Ok(())
    }

    /// Ends the process and all below it without a word, as a power cut would.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.signal_all(Signal::STOP)?;
        let below = children(self.pid);
        for &pid in below.iter().chain([&self.pid]) {
            send(pid, Signal::KILL)?;
        }
        self.wait_for_end()?;
        // Whoever starts the server again must not meet them.
        let begin = Instant::now();
        while below.iter().any(|&pid| is_alive(pid)) {
            ensure!(begin.elapsed() < PATIENCE, "processes of a killed server stay");
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    /// Waits until the process has ended.
    pub(crate) fn wait_for_end(&mut self) -> Result<()> {
        let begin = Instant::now();
        while !self.has_ended()? {
            ensure!(begin.elapsed() < PATIENCE, "process {} does not end", self.id());
            std::thread::sleep(TICK);
        }
        Ok(())
    }
}

fn send(pid: Pid, signal: Signal) -> Result<()> {
    match kill_process(pid, signal) {
        // It has ended by itself.
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("signal process {}", pid.as_raw_nonzero())),
    }
}

/// Whether it is there and has not ended; one that has is listed until its parent asks for it.
fn is_alive(pid: Pid) -> bool {
    stat(pid.as_raw_nonzero().get()).is_some_and(|(state, _)| state != 'Z')
}

/// The processes that `parent` has started and that run.
fn children(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().get();
    let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
    all.filter_map(|item| item.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| stat(pid).is_some_and(|(_, of)| of == parent))
        .filter_map(Pid::from_raw)
        .collect()
}

/// The state of a process, and its parent.
fn stat(pid: i32) -> Option<(char, i32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which stands in brackets and may have anything in it.
    let mut fields = text.get(text.rfind(')')? + 2..)?.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// A program in the search path.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
