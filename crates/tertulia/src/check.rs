//! `tertulia check`: whether a run kept the guarantees, by what its clients wrote down.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tertulia_history::check::{Options, Verdict, check};

/// Proves or refutes the guarantees of the service by histories: what clients did and saw.
///
/// A history is written by `tertulia replay` and `tertulia bench` with `--history FILE`, and by programs that use the
/// Rust client or write the format themselves (docs/history.md). Several files are several clients of one run, on one
/// machine: give all of them, or their folder, which stands for all files in it that end with `.ndjson`.
///
/// It judges: no acked message is lost, none is there that nobody sent, none is there twice; all see the same entries
/// at the same places, without holes, in an order that respects real time and that of each sender; whoever was acked
/// reads his own, and what was seen is seen again; what is pushed ascends, and gaps are named; a resume brings all that
/// was missed; watermarks never fall; a removed one gets nothing more; unread counts are what one counts.
///
/// For each violation it prints the lines that show it, the shortest first. The exit status is 0 if every guarantee
/// held, and 1 if one was broken, or if the run says too little: too few messages, or acked ones that were not read back
/// in the end. Time is linear in the size of the files, which are read twice; memory is about 300 bytes a message.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct CheckArgs {
    /// Files of one run, or folders of them
    #[arg(required = true, value_name = "FILE|DIR")]
    files: Vec<PathBuf>,

    /// A run with fewer acked messages is invalid: it says nothing
    #[arg(long, value_name = "N", default_value_t = 100)]
    min_operations: u64,

    /// Prints the result as JSON
    #[arg(long)]
    json: bool,
}

/// Checks, and prints what came out.
///
/// # Errors
/// If a file cannot be read, or is no history.
#[expect(clippy::print_stdout, reason = "the result is what was asked for")]
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let report = check(&args.files, Options { min_operations: args.min_operations })?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(match report.verdict {
        Verdict::Holds => ExitCode::SUCCESS,
        Verdict::Violated | Verdict::Invalid => ExitCode::FAILURE,
    })
}
