//! A bench measures, keeps its users, and says when its figures say nothing; what its clients saw can be checked.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::process::{Server, free_port, tertulia};

/// A server for a bench, and the folder that it lives in.
struct Bench {
    url: String,
    server: Server,
    dir: tempfile::TempDir,
}

impl Bench {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let server = Server::start(port, &dir.path().join("data"));
        Self { url: format!("http://127.0.0.1:{port}"), server, dir }
    }

    /// Its report; it draws a chart, too.
    fn run(&self, args: &[&str]) -> Value {
        let chart = self.dir.path().join("chart.svg");
        let report = bench(&[args, &["--server", &self.url, "--plot", chart.to_str().unwrap()]].concat());
        let chart = fs::read_to_string(chart).unwrap();
        assert!(chart.starts_with("<svg ") && chart.contains("NOT VALID"), "{chart}");
        report
    }

    /// A comparison with something else, of a second each.
    fn compare(&self, args: &[&str], against: &str) -> Value {
        let output = tertulia()
            .arg("bench")
            .args(args)
            .args(["--against", against, "--server", &self.url, "--warm-up", "0", "--seconds", "1", "--json"])
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    fn end(self) {
        drop(self.server);
    }
}

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
    let server = Bench::start();
    let users = server.dir.path().join("users.json");
    let common = ["--users-file", users.to_str().unwrap()];

    let pairs = server.run(&[&["pairs", "--pairs", "2", "--window", "2"], &common[..]].concat());
    assert_eq!(pairs["setUp"]["usersRegistered"], 4);
    assert!(count(&pairs, "acked") > 0);
    assert!(pairs["load"]["sendToReceive"]["p99Micros"].as_f64().unwrap() > 0.0);
    if cfg!(target_os = "linux") {
        assert!(pairs["load"]["serverCpu"]["seconds"].as_f64().unwrap() > 0.0);
    }

    let group = server.run(&[&["group", "--members", "4", "--rate", "100"], &common[..]].concat());
    assert_eq!(group["setUp"]["usersRegistered"], 0, "they are those of the file");
    let (last, all) = (&group["load"]["sendToLast"]["count"], &group["load"]["sendToReceive"]["count"]);
    assert_eq!(last.as_u64().unwrap() * 3, all.as_u64().unwrap());
    server.end();
}

#[test]
fn everybody_who_is_cut_comes_back_and_has_everything() {
    let bench = Bench::start();
    let args = ["storm", "--connections", "12", "--connections-per-user", "3", "--rate", "100"];
    let storm = &bench.run(&args)["storm"];
    for count in [&storm["ready"]["count"], &storm["caughtUp"]["count"], &storm["connections"]] {
        assert_eq!(count, 12, "{storm}");
    }
    for nothing in ["holes", "gaps", "notResumed"] {
        assert_eq!(storm[nothing], 0, "{storm}");
    }
    assert!(storm["before"]["sendToAck"]["count"].as_u64().unwrap() > 0);
    bench.end();
}

#[test]
fn pages_of_all_kinds_are_read() {
    let bench = Bench::start();
    let args = ["history", "--readers", "2", "--entries", "300", "--conversations", "3"];
    let history = &bench.run(&args)["history"];
    assert_eq!(history["entries"], 301);
    let pages = history["pages"].as_array().unwrap();
    assert_eq!(pages.len(), 4);
    for page in pages {
        assert_eq!(page["refused"], 0, "{page}");
        assert!(page["latency"]["count"].as_u64().unwrap() > 0, "{page}");
    }
    bench.end();
}

#[test]
fn a_workspace_of_rooms_gets_every_message() {
    let bench = Bench::start();
    let args = ["rooms", "--users", "6", "--rooms", "3", "--directs", "2", "--rate", "100"];
    let report = bench.run(&args);
    assert!(count(&report, "acked") > 0 && count(&report, "delivered") >= count(&report, "acked"));
    bench.end();
}

#[test]
fn who_was_away_gets_what_he_missed_and_gaps_name_the_rest() {
    let bench = Bench::start();
    let rounds = ["--conversations", "3", "--history", "60", "--times", "2"];
    let report = bench.run(&[&["catchup", "--missed", "7,1500"], &rounds[..]].concat());
    let cases = report["catchup"]["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 8, "both numbers, in one and in three conversations, after both histories");
    for case in cases {
        let all = case["pushed"].as_f64().unwrap() + case["namedByGaps"].as_f64().unwrap();
        assert_eq!(all, case["missed"].as_f64().unwrap(), "{case}");
        let is_long_absence = case["missed"] == 1500 && case["conversations"] == 1;
        assert_eq!(case["pushed"] == 200.0, is_long_absence, "{case}");
    }
    bench.end();
}

#[test]
fn typing_costs_no_message() {
    let bench = Bench::start();
    let args = ["typing", "--members", "3", "--typists", "3", "--typing-rate", "200", "--rate", "50"];
    let typing = &bench.run(&args)["typing"];
    assert!(typing["sent"].as_u64().unwrap() > 0, "{typing}");
    assert!(typing["messages"].as_u64().unwrap() > 0, "{typing}");
    assert_eq!(typing["messagesLost"], 0, "{typing}");
    bench.end();
}

#[test]
fn those_who_talk_are_heard_beside_every_kind_of_abuse() {
    let bench = Bench::start();
    let report = bench.run(&["abuse", "--hostile", "3", "--pairs", "2", "--rate", "50"]);
    let kinds = report["abuse"]["kinds"].as_array().unwrap();
    assert_eq!(kinds.len(), 8);
    for kind in kinds {
        assert!(kind["connects"].as_u64().unwrap() >= 3, "{kind}");
        assert!(kind["sendToReceive"]["count"].as_u64().unwrap() > 0, "{kind}");
    }
    bench.end();
}

#[test]
fn a_server_is_measured_against_a_floor_in_the_same_run() {
    let bench = Bench::start();
    let comparison = bench.compare(&["pairs", "--pairs", "2"], "floor");
    let round = &comparison["rounds"][0];
    let [server_load, floor_load] = ["server", "other"].map(|side| count(&round[side], "delivered"));
    assert!(server_load > 0 && floor_load > 0, "{comparison}");
    let deliveries = &comparison["figures"]["deliveriesPerSecond"];
    let [ours, floors, ratio] = ["server", "other", "ratio"].map(|name| deliveries[name].as_f64().unwrap());
    assert!((ratio - ours / floors).abs() < 1e-9, "{deliveries}");
    // The floor has synced beside the server's data folder, and has left nothing behind.
    if cfg!(target_os = "linux") {
        let command = round["other"]["conditions"]["server"]["command"].as_str().unwrap();
        assert!(command.contains(bench.dir.path().to_str().unwrap()), "{command}");
    }
    let left: Vec<_> =
        fs::read_dir(bench.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["data"]);
    bench.end();
}

#[test]
fn two_services_are_measured_in_turn_and_so_is_who_works_for_them() {
    let (one, other) = (Bench::start(), Bench::start());
    let beside = format!("other={}", other.url.rsplit(':').next().unwrap());
    let comparison = one.compare(&["pairs", "--pairs", "2", "--beside", &beside], &other.url);
    assert_eq!(comparison["against"], "service");
    let round = &comparison["rounds"][0];
    assert!(count(&round["server"], "delivered") > 0 && count(&round["other"], "delivered") > 0);
    assert_eq!(round["other"]["conditions"]["server"]["url"], other.url);
    if cfg!(target_os = "linux") {
        assert_eq!(round["server"]["load"]["beside"][0][0], "other", "{round}");
    }
    one.end();
    other.end();
}

#[test]
fn a_server_is_measured_against_bare_appends() {
    let postgres = tertulia_services::Server::temporary(tertulia_services::Kind::Postgres).unwrap();
    let bench = Bench::start();
    let comparison = bench.compare(&["pairs", "--pairs", "2", "--window", "4"], &postgres.url());
    let appends = &comparison["rounds"][0]["other"];
    assert!(count(appends, "acked") > 0, "{appends}");
    let costs = appends["load"]["costs"].as_array().unwrap();
    let of = |what: &str| costs.iter().find(|cost| cost["what"] == what).unwrap()["count"].as_f64().unwrap();
    let (appends, round_trips) = (of("appends to the store"), of("round trips to the store"));
    // Those that are under way at the beginning or at the end are counted in part.
    let under_way = 8.0;
    assert!((appends - round_trips).abs() <= under_way, "an append is one round trip: {costs:?}");
    bench.end();

    let refused =
        tertulia().args(["bench", "group", "--against", "postgres://x@127.0.0.1/x"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert!(stderr.contains("bare appends stand beside pairs alone"), "{stderr}");
}

#[test]
fn what_a_floor_cannot_play_is_refused() {
    let output = tertulia().args(["bench", "idle", "--against", "floor"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("idle cannot be measured against a floor"), "{stderr}");
}

/// What a check of a history says, and its exit status.
fn check(history: &Path) -> (Value, Option<i32>) {
    let output = tertulia().args(["check", "--json", "--min-operations", "1"]).arg(history).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let result = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    (result, output.status.code())
}

/// A check that refutes the history, by these rules among others.
#[track_caller]
fn check_is_broken(history: &Path, rules: &[&str]) {
    let (result, status) = check(history);
    assert_eq!((result["verdict"].as_str(), status), (Some("violated"), Some(1)));
    for rule in rules {
        let is_broken =
            |other: &Value| other["rule"] == *rule && other["broken"].as_u64().is_some_and(|n| n > 0);
        assert!(result["rules"].as_array().unwrap().iter().any(is_broken), "{rule}: {}", result["rules"]);
    }
}

#[test]
fn what_a_bench_saw_is_proved_by_its_history_and_what_is_changed_in_it_is_found() {
    let bench = Bench::start();
    let (users, history) = (bench.dir.path().join("users.json"), bench.dir.path().join("pairs.ndjson"));
    let args = ["pairs", "--pairs", "2", "--window", "2", "--users-file", users.to_str().unwrap()];
    // What an earlier run has written is there before.
    bench.run(&args);
    let report = bench.run(&[&args[..], &["--history", history.to_str().unwrap()]].concat());
    assert_eq!(report["conditions"]["history"], history.to_str().unwrap());

    let (proved, status) = check(&history);
    assert_eq!((proved["verdict"].as_str(), status), (Some("holds"), Some(0)), "{proved}");
    let counts = &proved["counts"];
    assert!(counts["acked"].as_u64().unwrap() >= count(&report, "acked"), "{counts}");
    // Each message reaches the other one of its pair.
    assert!(counts["sends"] == counts["acked"] && counts["pushes"] == counts["acked"], "{counts}");
    assert_eq!((&counts["connections"], &counts["inboxes"]), (&4.into(), &4.into()), "{counts}");

    let text = fs::read_to_string(&history).unwrap();
    assert!(!text.contains("abcdefghij"), "no message is in it");
    let tamper = |changed: String| fs::write(&history, changed).unwrap();
    let last = |event: &str| text.lines().rfind(|line| line.contains(event)).unwrap();
    // Nothing follows it on its connection: that it is missing is known by what was waited for.
    let push = last(r#""e":"push""#);
    tamper(text.replace(&format!("{push}\n"), ""));
    check_is_broken(&history, &["live_order"]);
    let ack = last(r#""e":"ack""#);
    tamper(text.replace(ack, &ack.replace(r#""seq":"#, r#""seq":9"#)));
    check_is_broken(&history, &["duplicate", "acked_loss"]);
    bench.end();
}

#[test]
fn those_who_are_cut_prove_that_their_resumes_are_complete() {
    let bench = Bench::start();
    let history = bench.dir.path().join("storm.ndjson");
    let args = ["storm", "--connections", "12", "--connections-per-user", "3", "--rate", "100"];
    let report = bench.run(&[&args[..], &["--history", history.to_str().unwrap()]].concat());
    let (proved, status) = check(&history);
    assert_eq!((proved["verdict"].as_str(), status), (Some("holds"), Some(0)), "{proved}");
    assert_eq!(proved["counts"]["resumes"], 12, "{}", report["storm"]);
    let rules = proved["rules"].as_array().unwrap();
    let resume = rules.iter().find(|rule| rule["rule"] == "resume").unwrap();
    assert!(resume["judged"].as_u64().unwrap() > 0, "{rules:?}");
    bench.end();
}

#[test]
fn a_history_that_cannot_be_written_is_told_before_anything_is_measured() {
    let refused = |args: &[&str]| {
        let output = tertulia().arg("bench").args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, stderr) = refused(&["idle", "--history", "idle.ndjson"]);
    assert!(status == Some(2) && stderr.contains("--history"), "{stderr}");
    let (status, stderr) = refused(&["pairs", "--against", "floor", "--history", "pairs.ndjson"]);
    assert!(status == Some(2) && stderr.contains("cannot be used with '--history <FILE>'"), "{stderr}");

    let bench = Bench::start();
    let nowhere = bench.dir.path().join("nowhere").join("pairs.ndjson");
    let (status, stderr) =
        refused(&["pairs", "--server", &bench.url, "--history", nowhere.to_str().unwrap()]);
    assert!(status == Some(1) && stderr.contains("write the history"), "{stderr}");
    if cfg!(target_os = "linux") {
        let (status, stderr) = refused(&["pairs", "--server", &bench.url, "--history", "/dev/full"]);
        assert!(status == Some(1) && stderr.contains("No space left"), "{stderr}");
    }
    bench.end();
}
