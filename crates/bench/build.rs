//! Says which commit a release build was made of: figures without it are worth little.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Nobody keeps figures of other builds, and each commit would cost those who work on it a link.
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
            println!("cargo::rerun-if-changed={log}");
        }
        if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
            println!("cargo::rustc-env=TERTULIA_COMMIT={commit}");
        }
    }
}

/// What git answers, if there is a git and a repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
