//! What the commands do: steps that run one after the other, and a summary.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use tertulia_services::shared;

use crate::tidy;

/// How long all fuzz targets run together.
const FUZZ_SECONDS: u64 = 600;

/// How a step ended.
enum End {
    Passed,
    /// It could not be done here; the text says why.
    Skipped(&'static str),
}

/// A step: what it is called, and what it does.
type Step = (&'static str, fn(&Path) -> Result<End>);

/// Every check and every test, the quickest first.
pub(crate) fn test(root: &Path) -> Result<ExitCode> {
    // Clippy and rustdoc share one compilation of the dependencies (metadata only), the tests have the other.
    run(root, &[FORMAT, TIDY, CLIPPY, RUSTDOC, DEPENDENCIES, ADVISORIES, TESTS])
}

/// The quick checks.
pub(crate) fn check(root: &Path) -> Result<ExitCode> {
    run(root, &[FORMAT, TIDY, CLIPPY])
}

/// Our own lints.
pub(crate) fn tidy(root: &Path) -> Result<ExitCode> {
    run(root, &[TIDY])
}

const FORMAT: Step = ("format", |root| cargo(root, &["fmt", "--all", "--check"]));

const TIDY: Step = ("tidy", |root| {
    let report = tidy::run(root)?;
    for line in report.errors.iter().chain(&report.remarks) {
        println!("{line}");
    }
    ensure!(report.errors.is_empty(), "{} to mend in {} files", report.errors.len(), report.files);
    Ok(End::Passed)
});

const CLIPPY: Step = ("clippy", |root| {
    cargo(root, &["clippy", "--locked", "--workspace", "--all-targets", "--", "--deny", "warnings"])
});

const RUSTDOC: Step = ("rustdoc", |root| {
    let mut command = Command::new("cargo");
    command.args(["doc", "--locked", "--workspace", "--no-deps", "--document-private-items"]);
    succeed(command.env("RUSTDOCFLAGS", "--deny warnings").current_dir(root))
});

const DEPENDENCIES: Step =
    ("dependencies", |root| cargo(root, &["deny", "--locked", "check", "bans", "licenses", "sources"]));

/// The only step that needs the network: known vulnerabilities are not in the repository.
const ADVISORIES: Step = ("advisories", |root| {
    let fetched = Command::new("cargo").args(["deny", "fetch", "db"]).current_dir(root).output()?;
    if !fetched.status.success() {
        return Ok(End::Skipped("the advisory database cannot be reached from here"));
    }
    cargo(root, &["deny", "--locked", "check", "--disable-fetch", "advisories"])
});

const TESTS: Step = ("tests", |root| {
    let services = shared::Run::start(root)?;
    let mut command = Command::new("cargo");
    command.args(["test", "--locked", "--workspace", "--no-fail-fast"]).envs(services.environment());
    let mut child = command.current_dir(root).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut counts = Counts::default();
    for line in BufReader::new(child.stdout.take().context("the output of cargo test")?).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        counts.add(&line);
    }
    let status = child.wait()?;
    println!("\ntests: {} passed, {} failed", counts.passed, counts.failed);
    ensure!(status.success(), "cargo test: {status}");
    ensure!(counts.passed > 0, "not one test ran");
    Ok(End::Passed)
});

/// The sum of what the test programs say of themselves.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
}

impl Counts {
    /// Reads `test result: ok. 12 passed; 0 failed; …`; any other line counts nothing.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let count = |what: &str| -> u64 {
            let words = result.split([' ', ';']).collect::<Vec<_>>();
            words.windows(2).find(|pair| pair[1] == what).and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
        };
        self.passed += count("passed");
        self.failed += count("failed");
    }
}

/// Fuzzes each target for its share of the time; the first finding ends it.
pub(crate) fn fuzz(root: &Path) -> Result<ExitCode> {
    let list = Command::new("cargo").args(["+nightly", "fuzz", "list"]).current_dir(root).output()?;
    ensure!(list.status.success(), "cargo fuzz list: {}", String::from_utf8_lossy(&list.stderr));
    let targets = String::from_utf8(list.stdout)?;
    let targets: Vec<&str> = targets.lines().collect();
    ensure!(!targets.is_empty(), "there are no fuzz targets");
    let share = FUZZ_SECONDS / targets.len() as u64;
    for target in targets {
        announce(&format!("fuzz {target} for {share} s"));
        cargo(root, &["+nightly", "fuzz", "run", target, "--", &format!("-max_total_time={share}")])?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs all steps, also after one that failed: who mends one thing wants to know of the others.
fn run(root: &Path, steps: &[Step]) -> Result<ExitCode> {
    let mut summary = String::new();
    let mut failed = false;
    for (number, (name, step)) in (1..).zip(steps) {
        announce(&format!("{number}/{} {name}", steps.len()));
        let begin = Instant::now();
        let end = match step(root) {
            Ok(End::Passed) => "ok".to_owned(),
            Ok(End::Skipped(why)) => format!("skipped: {why}"),
            Err(error) => {
                failed = true;
                format!("FAILED: {error:#}")
            }
        };
        let line = format!("{name:<13} {:>6.1} s  {end}", begin.elapsed().as_secs_f64());
        println!("{line}");
        summary += &format!("  {line}\n");
    }
    announce("summary");
    print!("{summary}");
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A heading that stands out in a long log, in its place among what the steps print themselves.
fn announce(what: &str) {
    println!("\n━━ {what}");
    std::io::stdout().flush().ok();
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<End> {
    succeed(Command::new("cargo").args(arguments).current_dir(root))
}

fn succeed(command: &mut Command) -> Result<End> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("start {command:?}"))?;
    if !status.success() {
        bail!("{status}");
    }
    Ok(End::Passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_test_programs_are_summed() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s",
        ] {
            counts.add(line);
        }
        assert_eq!(counts, Counts { passed: 13, failed: 2 });
    }
}
