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
fn a_server_is_measured_against_a_floor_in_the_same_run() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let server = Server::start(port, &dir.path().join("data"));
    let url = format!("http://127.0.0.1:{port}");
    let output = tertulia()
        .args(["bench", "pairs", "--pairs", "2", "--against", "floor", "--server", &url])
        .args(["--warm-up", "0", "--seconds", "1", "--json"])
        .output()
        .unwrap();
    let comparison: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let round = &comparison["rounds"][0];
    let [server_load, floor_load] = ["server", "floor"].map(|side| count(&round[side], "delivered"));
    assert!(server_load > 0 && floor_load > 0, "{comparison}");
    let deliveries = &comparison["figures"]["deliveriesPerSecond"];
    let [ours, floors, ratio] = ["server", "floor", "ratio"].map(|name| deliveries[name].as_f64().unwrap());
    assert!((ratio - ours / floors).abs() < 1e-9, "{deliveries}");
    // The floor has synced beside the server's data folder, and has left nothing behind.
    if cfg!(target_os = "linux") {
        let command = round["floor"]["conditions"]["server"]["command"].as_str().unwrap();
        assert!(command.contains(dir.path().to_str().unwrap()), "{command}");
    }
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["data"]);
    drop(server);
}

#[test]
fn what_a_floor_cannot_play_is_wrong_usage_of_it() {
    let output = tertulia().args(["bench", "idle", "--against", "floor"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("idle cannot be measured against a floor"), "{stderr}");
}
