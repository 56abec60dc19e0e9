//! A replay writes down what everybody saw; a check proves it, and finds what is then changed.

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::process::{Server, free_port, tertulia};

const LOG: &str = "\
[10:00] <ana> hello
[10:00] <bo> hello ana
[10:01] <ana> how are you
[10:01] <ana> all well?
[10:02] <cy> yes
[10:02] <bo> fine, thanks
";

fn check(history: &Path, min_operations: &str) -> Output {
    let args = ["check", "--min-operations", min_operations];
    tertulia().args(args).arg(history).output().unwrap()
}

#[test]
fn a_replay_is_proved_by_its_history() {
    let dir = tempfile::tempdir().unwrap();
    let (log, history) = (dir.path().join("talk.log"), dir.path().join("replay.ndjson"));
    fs::write(&log, LOG).unwrap();
    let port = free_port();
    let server = Server::start(port, &dir.path().join("data"));
    let url = format!("http://127.0.0.1:{port}");
    let replay = ["replay", "--server", &url, "--history"];
    let replay = tertulia().args(replay).arg(&history).arg(&log).output().unwrap();
    assert!(replay.status.success(), "{}", String::from_utf8_lossy(&replay.stderr));
    drop(server);

    let held = check(&history, "6");
    let text = String::from_utf8(held.stdout).unwrap();
    assert_eq!(held.status.code(), Some(0), "{text}");
    assert!(text.contains("6 acked") && text.contains("Every guarantee held."), "{text}");
    let few = check(&history, "7");
    assert_eq!(few.status.code(), Some(1));
    assert!(String::from_utf8(few.stdout).unwrap().contains("invalid: only 6 acked messages"));

    let lines = fs::read_to_string(&history).unwrap();
    assert!(!lines.contains("hello"), "no message is in it");
    let is_page_of_all = |line: &&str| line.contains(r#""e":"page""#) && line.contains(r#""seq":7"#);
    let last = lines.lines().rfind(is_page_of_all).unwrap();
    let lost = lines.replace(last, &last.replacen(r#"{"seq":4,"#, r#"{"seq":9,"#, 1));
    fs::write(&history, lost).unwrap();
    let broken = check(&history, "6");
    let text = String::from_utf8(broken.stdout).unwrap();
    assert_eq!(broken.status.code(), Some(1));
    assert!(text.contains("A guarantee was broken.") && text.contains("replay.ndjson:"), "{text}");
}

#[test]
fn what_is_no_history_is_told_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.ndjson");
    fs::write(&file, "{\"t\":1,\"e\":\"final\"}\n").unwrap();
    let output = check(&file, "1");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("a.ndjson:1: a history begins with"));
    assert_eq!(tertulia().args(["check"]).output().unwrap().status.code(), Some(2));
}
