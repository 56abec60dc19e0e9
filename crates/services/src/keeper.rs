//! The thread that starts the servers of tests.
//!
//! They end with their parent, also when that is killed; the system takes the *thread* that started a process for its
//! parent. Threads of tests come and go, this one stays as long as the process.

use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use anyhow::{Context as _, Result};

type Job = (Command, Sender<std::io::Result<Child>>);

/// Starts a process from the thread that stays.
pub(crate) fn spawn(command: Command) -> Result<Child> {
    static KEEPER: OnceLock<Sender<Job>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (jobs, inbox) = channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                // Whoever asked waits for it.
                let _ = answer.send(command.spawn());
            }
        });
        jobs
    });
    let (answer, answered) = channel();
    keeper.send((command, answer)).ok().context("the thread that starts servers is gone")?;
    Ok(answered.recv().context("the thread that starts servers is gone")??)
}
