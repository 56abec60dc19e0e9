//! What is left behind when a run ends the hard way, by a second Ctrl-C or a kill, is taken away all the same: by a shell
//! that waits for the end of its input, which comes with the end of this process.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Pid;

/// Each line names the process that is to be killed in the end, or none. A Ctrl-C is for all processes of a terminal,
/// and this one has still something to do then.
const SCRIPT: &str = r#"trap '' INT TERM HUP
server=none
while read -r line; do server=$line; done
if [ "$server" != none ]; then kill -KILL "$server"; fi
if [ -n "$1" ]; then umount -l "$1"; fi"#;

/// Kills a server and unmounts a folder when this process is no more. Without one only a hard end leaves them behind.
#[derive(Debug)]
pub(crate) struct Guard {
    shell: Option<Child>,
}

impl Guard {
    pub(crate) fn new(mounted: Option<&Path>) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "sh"]).arg(mounted.unwrap_or(Path::new("")));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { shell: command.spawn().ok() }
    }

    /// There is another server, or none.
    pub(crate) fn watch(&mut self, server: Option<Pid>) {
        if let Some(stdin) = self.shell.as_mut().and_then(|shell| shell.stdin.as_mut()) {
            let line = server.map_or("none\n".to_owned(), |pid| format!("{}\n", pid.as_raw_nonzero()));
            // If it is no more, nothing is lost but the guard.
            let _ = stdin.write_all(line.as_bytes());
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(shell) = &mut self.shell {
            drop(shell.stdin.take());
            let _ = shell.wait();
        }
    }
}
