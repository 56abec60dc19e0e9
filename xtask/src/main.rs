//! The project's own commands: `cargo xtask COMMAND`.
//!
//! - `test`: every check and every test, in the order of their cost.
//! - `check`: the quick ones of them.
//! - `tidy`: our own lints alone.
//! - `fuzz`: all fuzz targets, ten minutes together.
//! - `services`: PostgreSQL, Redis and Kafka for tests and development; `services stop`, `services reset`.

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a program for people at a terminal")]

mod services;
mod steps;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

const USAGE: &str = "usage: cargo xtask test | check | tidy | fuzz | services [stop | reset]";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (command, what, rest) = (arguments.next(), arguments.next(), arguments.next());
    let done = root().and_then(|root| match (command.as_deref(), what.as_deref()) {
        _ if rest.is_some() => usage(),
        (Some("test"), None) => steps::test(&root),
        (Some("check"), None) => steps::check(&root),
        (Some("tidy"), None) => steps::tidy(&root),
        (Some("fuzz"), None) => steps::fuzz(&root),
        (Some("services"), None) => services::start(&root),
        (Some("services"), Some("stop")) => services::stop(&root),
        (Some("services"), Some("reset")) => services::reset(&root),
        _ => usage(),
    });
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

fn usage() -> Result<ExitCode> {
    eprintln!("{USAGE}");
    Ok(ExitCode::from(2))
}

/// The folder of the workspace, wherever in it the command was given.
///
/// Asked for when it runs: a target folder that two clones share holds one `xtask` for both.
fn root() -> Result<PathBuf> {
    let xtask = std::env::var_os("CARGO_MANIFEST_DIR").context("start it with `cargo xtask`")?;
    Ok(Path::new(&xtask).parent().context("xtask lies in the workspace")?.to_path_buf())
}
