//! A short torture: everything that clients do, and everything that is done to a server, in seconds; and to a cluster, in
//! a minute or two.

use std::process::Stdio;

use tertulia_torture::cluster::FaultKind;

use crate::process::tertulia;

/// The number at the beginning of the report's line that ends with `what`.
fn count(report: &str, what: &str) -> u64 {
    let line = report
        .lines()
        .map(str::trim)
        .find(|line| line.strip_suffix(what).is_some_and(|number| number.ends_with(' ')));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// How often a fault of this kind was there.
fn faults(report: &str, kind: &str) -> u64 {
    let fields = report.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields
        .filter(|fields| fields.first() == Some(&kind))
        .find_map(|fields| fields[1].parse().ok())
        .unwrap_or(0)
}

#[test]
fn a_server_that_is_killed_stopped_and_out_of_disk_keeps_every_guarantee() {
    let dir = tempfile::tempdir().unwrap();
    let child = tertulia()
        .args([
            "torture",
            "--seed",
            "4",
            "--minutes",
            "0.2",
            "--kills-every",
            "4",
            "--clients",
            "12",
            "--data",
        ])
        .arg(dir.path().join("torture"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(faults(&report, "kill") >= 2, "{report}");
    for kind in ["stop", "drain", "disk", "cut"] {
        assert!(faults(&report, kind) >= 1, "{kind}: {report}");
    }
    for what in [
        "acked",
        "connections",
        "entries by socket",
        "entries by the client library",
        "events by long-poll",
        "history pages read",
        "members added",
        "other contents refused",
        "resumes",
        "retries answered as the first time",
    ] {
        assert!(count(&report, what) > 0, "{what}: {report}");
    }
    // Not one of them went by unnoticed, and after each sends were taken again.
    let refused = count(&report, "full disks that refused sends");
    assert_eq!(refused, faults(&report, "disk"), "{report}");
    assert_eq!(count(&report, "disks with room again that took sends"), refused, "{report}");
    assert!(count(&report, "sends told to wait") > 0, "{report}");
}

#[test]
fn a_cluster_whose_nodes_and_servers_fail_in_turn_keeps_every_guarantee() {
    let child = tertulia()
        .args(["torture", "--nodes", "3", "--seed", "1", "--minutes", "0.5", "--clients", "12"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}\n{}", String::from_utf8_lossy(&output.stderr));
    for kind in FaultKind::ALL {
        assert!(faults(&report, kind.as_str()) >= 1, "{kind}: {report}");
    }
    let done = [
        "acked",
        "entries from node to node",
        "resumes",
        "connections sent away",
        "presences seen as they are",
    ];
    for what in done {
        assert!(count(&report, what) > 0, "{what}: {report}");
    }
}
