//! What scripts count on.

use std::process::Output;

use crate::process::{Server, free_port, tertulia};

fn run(args: &[&str]) -> Output {
    tertulia().args(args).output().unwrap()
}

#[track_caller]
fn check_failure(args: &[&str], status: i32, line: &str) {
    let output = run(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    assert!(stderr.contains(line), "{stderr:?}");
    assert_eq!(stderr.lines().count(), 1, "one clear line: {stderr:?}");
    assert!(output.stdout.is_empty());
}

#[test]
fn version_and_help_are_answers() {
    let version = run(&["--version"]);
    assert!(version.status.success());
    assert_eq!(
        String::from_utf8(version.stdout).unwrap(),
        concat!("tertulia ", env!("CARGO_PKG_VERSION"), "\n")
    );
    for args in [
        &["--help"][..],
        &["serve", "--help"],
        &["replay", "--help"],
        &["bench", "idle", "--help"],
        &["check", "--help"],
    ] {
        let help = run(args);
        assert!(help.status.success() && help.stdout.len() > 200, "{args:?}");
    }
}

#[test]
fn wrong_usage_is_told_in_one_line_with_status_2() {
    check_failure(&["serve", "--no-such-option"], 2, "--no-such-option");
    check_failure(&["serve", "--listen", "nowhere"], 2, "nowhere");
    check_failure(&["replay"], 2, "FILE");
}

#[test]
fn a_failure_is_told_in_one_line_with_status_1() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a file");
    std::fs::write(&file, "not a folder").unwrap();
    check_failure(&["serve", "--log", "off", "--data", file.to_str().unwrap()], 1, "a file");
    check_failure(&["serve", "--config", "/no/such/file.toml"], 1, "/no/such/file.toml");
}

#[test]
fn sigterm_drains_and_exits_with_0() {
    let dir = tempfile::tempdir().unwrap();
    let status = Server::start(free_port(), dir.path()).terminate();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_second_process_on_the_same_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Server::start(free_port(), dir.path());
    let listen = format!("127.0.0.1:{}", free_port());
    let args = ["serve", "--log", "off", "--listen", &listen, "--data", dir.path().to_str().unwrap()];
    check_failure(&args, 1, "another process");
}
