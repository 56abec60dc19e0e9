//! `kill -9` in the middle of a conversation: nothing that was acked is lost, nothing comes twice.

use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use crate::process::{Server, free_port, tertulia, wait};

const LINES: usize = 600;
const SPEAKERS: usize = 6;
const KILLS: usize = 4;

/// A log as the replay reads it, with what makes trouble: odd nicks, odd bytes, spaces that matter.
fn log() -> String {
    let bodies =
        ["hola", "  two spaces before", "日本語 and emoji 🫖", "a\ttab", "/me is not a command here"];
    let mut log = String::new();
    for line in 0..LINES {
        let (minute, speaker) = (line / 20, (line / 3) % SPEAKERS);
        writeln!(log, "[{:02}:{:02}] <sp[{speaker}]`> {} {line}", minute / 60, minute % 60, bodies[line % 5])
            .unwrap();
    }
    log
}

#[test]
fn a_server_that_is_killed_again_and_again_loses_nothing_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("#tertulia.raw.txt");
    std::fs::write(&file, log()).unwrap();
    let data = dir.path().join("data");
    let port = free_port();
    let mut server = Server::start(port, &data);
    let mut replay = tertulia()
        .args(["replay", "--server", &format!("http://127.0.0.1:{port}")])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut kills = 0;
    while replay.try_wait().unwrap().is_none() && kills < KILLS {
        // At whatever moment this comes; an unlucky one is what is looked for.
        std::thread::park_timeout(Duration::from_millis(400));
        server.kill();
        server = Server::start(port, &data);
        kills += 1;
    }
    let status = wait(&mut replay);
    let output = replay.wait_with_output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(status.success(), "after {kills} kills: {report}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(report.contains("differences   none"), "{report}");
    assert!(kills > 0, "the replay was over before the server was killed once");
    assert_eq!(server.terminate().code(), Some(0));
}
