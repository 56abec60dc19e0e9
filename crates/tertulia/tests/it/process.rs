//! A server as a process of its own.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything here may take, on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(120);

pub fn tertulia() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tertulia"));
    command.stdin(Stdio::null());
    command
}

/// A port that was free a moment ago; the server must come back on the same one after it was killed.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running `tertulia serve`; killed when dropped.
pub struct Server(Child);

impl Server {
    /// Starts it, and waits for its ready line.
    pub fn start(port: u16, data: &Path) -> Self {
        Self::start_with(port, data, &[])
    }

    /// Starts it with more options, and waits for its ready line.
    pub fn start_with(port: u16, data: &Path, options: &[&str]) -> Self {
        let mut child = tertulia()
            .args(["serve", "--limits", "off", "--log", "error", "--listen"])
            .arg(format!("127.0.0.1:{port}"))
            .arg("--data")
            .arg(data)
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains(&format!("is ready on http://127.0.0.1:{port}")), "{line:?}");
        Self(child)
    }

    /// As a power cut would, but for the disk's cache.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        wait(&mut self.0)
    }

    /// Sends it a signal by its name.
    pub fn signal(&self, name: &str) {
        let signal = format!("-{name}");
        let sent = Command::new("kill").args([&signal, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be over already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Waits for a process, at most as long as anything may take.
pub fn wait(child: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(begun.elapsed() < DEADLINE, "the process did not end in time");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
