//! Several files are one history, and what is none is told with its place.

use std::fs;
use std::path::PathBuf;

use crate::check::{Error, Options, Report, check};

/// Writes these files, and checks their folder.
fn check_files(files: &[(&str, &str)]) -> Result<Report, Error> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    check(&[dir.path().to_path_buf()], Options { min_operations: 0 })
}

#[track_caller]
fn refuses(files: &[(&str, &str)], why: &str) {
    let told = check_files(files).unwrap_err().to_string();
    assert!(told.contains(why), "{told}");
}

const HEADER: &str = "{\"t\":1,\"e\":\"history\",\"version\":1,\"program\":\"p\",\"clock\":\"one\"}\n";

/// A device, and what follows.
fn file(rest: &str) -> String {
    let (device, user) = ("0d000000-0000-7000-8000-000000000001", "0a000000-0000-7000-8000-000000000001");
    format!("{HEADER}{{\"t\":2,\"e\":\"device\",\"device\":\"{device}\",\"user\":\"{user}\"}}\n{rest}")
}

#[test]
fn files_of_one_run_are_one_history_in_the_order_of_time() {
    let ids =
        r#""device":"0d000000-0000-7000-8000-000000000001","convo":"0c000000-0000-7000-8000-000000000001""#;
    let sent = file(&format!("{{\"t\":10,\"e\":\"send\",{ids},\"n\":1,\"body\":\"1:0000000000000000\"}}\n"));
    let acked = file(&format!("{{\"t\":20,\"e\":\"ack\",{ids},\"n\":1,\"seq\":2}}\n"));
    let report = check_files(&[("z.ndjson", &sent), ("a.ndjson", &acked), ("a.txt", "no history")]).unwrap();
    assert_eq!((report.counts.sends, report.counts.acked, report.violations.len()), (1, 1, 0), "{report}");
    let too_early = acked.replace("\"t\":20", "\"t\":5");
    let report = check_files(&[("z.ndjson", &sent), ("a.ndjson", &too_early)]).unwrap();
    assert_eq!(report.violations.len(), 1, "it was acked before it was sent: {report}");
    assert!(report.violations[0].evidence[0].place.ends_with("a.ndjson:3"), "{report}");
}

#[test]
fn a_file_that_ends_in_the_middle_of_a_line_is_read_up_to_there() {
    let report = check_files(&[("a.ndjson", &file("{\"t\":3,\"e\":\"fin"))]).unwrap();
    assert_eq!(report.counts.lines, 2);
    assert!(report.remarks[0].contains("a.ndjson:3: the file ends in the middle of a line"), "{report}");
}

#[test]
fn what_is_no_history_is_refused() {
    let other_clock = HEADER.replace("one", "another");
    refuses(
        &[("a.ndjson", HEADER), ("b.ndjson", &other_clock)],
        "b.ndjson:1: its times are of another clock",
    );
    refuses(&[("a.ndjson", &HEADER.replace(":1,\"program", ":2,\"program"))], "version 2 of the format");
    refuses(&[("a.ndjson", &file("{\"t\":1,\"e\":\"final\"}\n"))], "a.ndjson:3: its time is before");
    refuses(&[("a.ndjson", &file("{\"t\":3,\"e\":\"close\",\"c\":7}\n"))], "connection 7 was not opened");
    refuses(&[("a.ndjson", &file("{\"t\":3,\"e\":\"dance\"}\n"))], "no event \"dance\"");
    refuses(&[("a.ndjson", "")], "begins with a line of");
    refuses(&[], "no file of a history is there");
    assert!(check(&[PathBuf::from("/no/such/file")], Options { min_operations: 0 }).is_err());
}
