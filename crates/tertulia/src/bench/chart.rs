//! `--plot` and `tertulia bench plot`: charts of reports.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;
use tertulia_bench::plot::{Run, plot};

#[derive(Debug, Args)]
pub(super) struct PlotArgs {
    /// Reports as `--json` prints them, all of one scenario; each is named after its file
    #[arg(value_name = "REPORT", required = true)]
    reports: Vec<PathBuf>,
    /// Where the chart goes
    #[arg(long, value_name = "FILE.svg")]
    out: PathBuf,
}

/// Draws reports of earlier runs beside each other.
///
/// # Errors
/// If they cannot be read, do not fit together, or the chart cannot be written.
pub(super) fn draw_all(args: &PlotArgs) -> anyhow::Result<()> {
    let runs: Vec<Run> = args.reports.iter().map(|path| read(path)).collect::<anyhow::Result<_>>()?;
    write(&args.out, &runs)
}

/// Draws one report.
///
/// # Errors
/// If the chart cannot be written.
pub(super) fn draw(out: &Path, report: Value) -> anyhow::Result<()> {
    write(out, &[Run { name: String::new(), report }])
}

fn read(path: &Path) -> anyhow::Result<Run> {
    let what = || format!("read {}", path.display());
    let report = serde_json::from_slice(&fs::read(path).with_context(what)?).with_context(what)?;
    let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok(Run { name, report })
}

fn write(out: &Path, runs: &[Run]) -> anyhow::Result<()> {
    fs::write(out, plot(runs)?).with_context(|| format!("write {}", out.display()))
}
