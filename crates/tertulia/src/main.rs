//! The `tertulia` binary: arguments, the log, signals; what it does is in the library crates.

mod admin;
mod bench;
mod chat;
mod check;
mod replay;
mod serve;
mod torture;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

// Gives memory back after a storm of connections; how it is set up stands in .cargo/config.toml.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A real-time chat service.
///
/// Start a server with `tertulia serve`, talk on it with `tertulia chat`, and see it carry real conversations
/// with `tertulia replay`. How much it can do says `tertulia bench`, and how much it can bear `tertulia torture`;
/// whether it kept its promises says `tertulia check`. `tertulia admin` looks after a data folder.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Chat(chat::ChatArgs),
    Replay(replay::ReplayArgs),
    Bench(bench::BenchArgs),
    Check(check::CheckArgs),
    Torture(torture::TortureArgs),
    Admin(admin::AdminArgs),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Command::Serve(args) = &cli.command {
        runtime.worker_threads(args.threads());
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::anyhow!("no threads can be started: {error}")),
    };
    let result = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        shut_down_on_signal(&shutdown)?;
        match cli.command {
            Command::Serve(args) => serve::run(args, shutdown).await.map(|()| ExitCode::SUCCESS),
            Command::Chat(args) => chat::run(args, shutdown).await.map(|()| ExitCode::SUCCESS),
            Command::Replay(args) => replay::run(args, shutdown).await.map(|outcome| match outcome {
                replay::Outcome::Right => ExitCode::SUCCESS,
                replay::Outcome::Different => ExitCode::FAILURE,
            }),
            Command::Bench(args) => bench::run(args, shutdown).await,
            Command::Check(args) => check::run(&args),
            Command::Torture(args) => torture::run(args, shutdown).await,
            Command::Admin(args) => admin::run(&args).await.map(|()| ExitCode::SUCCESS),
        }
    });
    result.unwrap_or_else(|error| fail(&error))
}

/// Help and version are answers; wrong usage is told in one line, with status 2.
#[expect(clippy::print_stderr, reason = "the one line that says why")]
fn explain(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Where even that cannot be written, there is nobody to tell.
        drop(error.print());
        return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
    }
    let text = error.to_string();
    let what: Vec<&str> = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
    let what = what.join(" ");
    eprintln!("tertulia: {}; see tertulia --help", what.strip_prefix("error: ").unwrap_or(&what));
    ExitCode::from(2)
}

/// SIGTERM and Ctrl-C begin the end; a second one does not wait for it.
fn shut_down_on_signal(shutdown: &CancellationToken) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = shutdown.clone();
    #[expect(clippy::exit, reason = "whoever asks twice wants out at once; what was acked is synced")]
    tokio::spawn(async move {
        for again in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if again {
                std::process::exit(1);
            }
            shutdown.cancel();
        }
    });
    Ok(())
}

#[expect(clippy::print_stderr, reason = "the one line that says why")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("tertulia: {error:#}");
    ExitCode::FAILURE
}
