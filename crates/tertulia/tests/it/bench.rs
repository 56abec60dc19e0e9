//! A bench measures, keeps its users, and says when its figures say nothing.

use serde_json::Value;

use crate::process::{Server, free_port, tertulia};

/// Runs a scenario for a second, which is too short to be valid; gives its report.
fn bench(args: &[&str]) -> Value {
    let short = ["--warm-up", "0", "--seconds", "1", "--json"];
    let output = tertulia().arg("bench").args(args).args(short).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    let problems = report["problems"].as_array().unwrap();
    let is_short = |problem: &Value| problem.as_str().unwrap().starts_with("too ");
    assert!(!problems.is_empty() && problems.iter().all(is_short), "{problems:?}");
    assert_eq!(report["valid"], false);
    report
}

fn count(report: &Value, name: &str) -> u64 {
    report["load"][name].as_u64().unwrap()
}

#[test]
fn every_message_is_counted_at_each_who_gets_it() {
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users.json");
    let port = free_port();
    let server = Server::start(port, &dir.path().join("data"));
    let url = format!("http://127.0.0.1:{port}");
    let common = ["--server", &url, "--users-file", users.to_str().unwrap()];

    let pairs = bench(&[&["pairs", "--pairs", "2", "--window", "2"], &common[..]].concat());
    assert_eq!(pairs["setUp"]["usersRegistered"], 4);
    assert!(count(&pairs, "acked") > 0);
    assert!(pairs["load"]["sendToReceive"]["p99Micros"].as_f64().unwrap() > 0.0);
    if cfg!(target_os = "linux") {
        assert!(pairs["load"]["serverCpu"]["seconds"].as_f64().unwrap() > 0.0);
    }

    let group = bench(&[&["group", "--members", "4", "--rate", "100"], &common[..]].concat());
    assert_eq!(group["setUp"]["usersRegistered"], 0, "they are those of the file");
    let (last, all) = (&group["load"]["sendToLast"]["count"], &group["load"]["sendToReceive"]["count"]);
    assert_eq!(last.as_u64().unwrap() * 3, all.as_u64().unwrap());
    drop(server);
}

#[test]
fn everybody_who_is_cut_comes_back_and_has_everything() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let server = Server::start(port, &dir.path().join("data"));
    let url = format!("http://127.0.0.1:{port}");
    let args =
        ["storm", "--connections", "12", "--connections-per-user", "3", "--rate", "100", "--server", &url];
    let storm = &bench(&args)["storm"];
    for count in [&storm["ready"]["count"], &storm["caughtUp"]["count"], &storm["connections"]] {
        assert_eq!(count, 12, "{storm}");
    }
    for nothing in ["holes", "gaps", "notResumed"] {
        assert_eq!(storm[nothing], 0, "{storm}");
    }
    assert!(storm["before"]["sendToAck"]["count"].as_u64().unwrap() > 0);
    drop(server);
}

#[test]
fn pages_of_all_kinds_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let server = Server::start(port, &dir.path().join("data"));
    let url = format!("http://127.0.0.1:{port}");
    let args = ["history", "--readers", "2", "--entries", "300", "--conversations", "3", "--server", &url];
    let history = &bench(&args)["history"];
    assert_eq!(history["entries"], 301);
    let pages = history["pages"].as_array().unwrap();
    assert_eq!(pages.len(), 4);
    for page in pages {
        assert_eq!(page["refused"], 0, "{page}");
        assert!(page["latency"]["count"].as_u64().unwrap() > 0, "{page}");
    }
    drop(server);
}
