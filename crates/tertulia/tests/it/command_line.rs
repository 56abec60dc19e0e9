//! What scripts count on.

use std::process::Output;

use tertulia_store::dead_letters::DeadLetters as _;

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
        &["admin", "dead-letters", "--help"],
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
    check_failure(&["admin", "dead-letters", "replay"], 2, "NUMBER");
}

#[test]
fn a_failure_is_told_in_one_line_with_status_1() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a file");
    std::fs::write(&file, "not a folder").unwrap();
    check_failure(&["serve", "--log", "off", "--data", file.to_str().unwrap()], 1, "a file");
    check_failure(&["serve", "--config", "/no/such/file.toml"], 1, "/no/such/file.toml");
    check_failure(&["admin", "dead-letters", "list", "--data", "/no/such/folder"], 1, "/no/such/folder");
}

#[test]
fn a_mistake_in_the_configuration_is_told_by_its_line_without_what_stands_there() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tertulia.toml");
    for (mistake, told) in [
        ("stor = \"postgres://u:secret@h/db\"", "line 2: unknown field `stor`"),
        ("live = \"redis://:secret@h:1", "line 2"),
        ("capacity = \"redis://:secret@h:1\"", "line 2"),
        ("trusted_proxies = [\"redis://:secret@h:1\"]", "line 2"),
        ("store = { \"postgres://u:secret@h/db\" = 1 }", "line 2: store is"),
        ("limits = \"secret\"", "line 2: limits is"),
        ("[limits]\nsends = { count = 1, per = \"secret\" }", "limits is"),
        ("[limits]\n\"secret\" = 1", "limits is"),
        ("secret", "line 2"),
    ] {
        std::fs::write(&file, format!("# Mine.\n{mistake}\n")).unwrap();
        let args = ["serve", "--log", "off", "--config", file.to_str().unwrap()];
        check_failure(&args, 1, told);
        let stderr = String::from_utf8(run(&args).stderr).unwrap();
        assert!(!stderr.contains("secret") && stderr.contains(": line "), "{stderr}");
        assert!(stderr.contains("tertulia.toml"), "{stderr}");
    }
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

#[test]
fn dead_letters_are_shown_and_asked_for_while_a_server_has_them_open() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let letters = |args: &[&str]| {
        let output = run(&[&["admin", "dead-letters"], args, &["--data", data]].concat());
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(letters(&["list"]), (Some(0), String::new()));
    assert_eq!(letters(&["replay", "--all"]), (Some(0), "0 will be tried again\n".to_owned()));
    // As a server that runs has them.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let open = tertulia_store::dead_letters::FolderDeadLetters::open(dir.path()).unwrap();
    let convo = tertulia_protocol::ConvoId::from_bytes([7; 16]);
    let now = tertulia_protocol::Timestamp::from_millis(0);
    for seq in [3, 5] {
        let put = open.put("search", convo, tertulia_protocol::Seq::new(seq), "too odd", now);
        runtime.block_on(put).unwrap();
    }
    let (_, list) = letters(&["list"]);
    assert_eq!(
        list.lines().next(),
        Some(
            "1  search  07070707-0707-0707-0707-070707070707 #3  1 tries since 1970-01-01T00:00:00.000Z: too odd"
        )
    );
    assert_eq!(list.lines().count(), 2);
    assert_eq!(letters(&["replay", "2"]), (Some(0), "1 will be tried again\n".to_owned()));
    let asked = runtime.block_on(open.asked("search", 10)).unwrap();
    assert_eq!(asked.iter().map(|letter| letter.id).collect::<Vec<_>>(), [2]);
    assert_eq!(letters(&["replay", "9"]).0, Some(1));
    let (_, json) = letters(&["list", "--json"]);
    assert!(
        json.lines().all(|line| line.starts_with('{') && line.contains("\"consumer\":\"search\"")),
        "{json}"
    );
}
