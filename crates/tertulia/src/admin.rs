//! `tertulia admin`: what an administrator of a data folder does beside the server.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use tertulia_store::dead_letters::{DeadLetter, DeadLetters};

/// Looks after a data folder.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct AdminArgs {
    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    DeadLetters(LettersArgs),
}

/// Shows the entries that something which follows the logs (the search index) can never take, or has them tried again.
///
/// It works on the file dead_letters.db of the data folder and on nothing else, and is safe while a server runs on the
/// same folder: each of the two does one short transaction at a time. A server that runs tries again what was asked for
/// within seconds; else the next one does, when it is started. What is taken then goes from the list, and what is not
/// stays, with one more try.
///
/// A dead letter names an entry, and says nothing of what is in it.
#[derive(Debug, Args)]
struct LettersArgs {
    #[command(subcommand)]
    command: LettersCommand,
}

#[derive(Debug, Subcommand)]
enum LettersCommand {
    /// Shows them: number, consumer, conversation, entry, tries, since when, and why
    List(ListArgs),
    /// Asks for one or all of them to be tried again
    Replay(ReplayArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// The data folder
    #[arg(long, env = "TERTULIA_DATA", value_name = "DIR", default_value = "data")]
    data: PathBuf,

    /// Prints a line of JSON for each
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ReplayArgs {
    /// The data folder
    #[arg(long, env = "TERTULIA_DATA", value_name = "DIR", default_value = "data")]
    data: PathBuf,

    /// The numbers of those to try again
    #[arg(value_name = "NUMBER", required_unless_present = "all", conflicts_with = "all")]
    numbers: Vec<i64>,

    /// Tries all of them again
    #[arg(long)]
    all: bool,
}

/// How many are read at once.
const PAGE: usize = 1_000;

/// Does it.
///
/// # Errors
/// If the data folder cannot be read, or there is no such letter.
pub(crate) fn run(args: &AdminArgs) -> anyhow::Result<()> {
    let AdminCommand::DeadLetters(LettersArgs { command }) = &args.command;
    match command {
        LettersCommand::List(args) => list(args),
        LettersCommand::Replay(args) => replay(args),
    }
}

fn open(data: &Path) -> anyhow::Result<Option<DeadLetters>> {
    ensure!(data.is_dir(), "there is no data folder {}; name it with --data", data.display());
    DeadLetters::open_existing(data)
        .with_context(|| format!("cannot read the dead letters of {}", data.display()))
}

#[expect(clippy::print_stdout, reason = "the list is what was asked for")]
fn list(args: &ListArgs) -> anyhow::Result<()> {
    let Some(letters) = open(&args.data)? else { return Ok(()) };
    let mut after = 0;
    loop {
        let page = letters.list(after, PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.id;
        for letter in &page {
            println!("{}", if args.json { as_json(letter) } else { as_line(letter) });
        }
    }
}

fn as_line(letter: &DeadLetter) -> String {
    let DeadLetter { id, consumer, convo, seq, why, tries, first_at, again, .. } = letter;
    let again = if *again { ", is tried again" } else { "" };
    format!("{id}  {consumer}  {convo} #{seq}  {tries} tries since {first_at}{again}: {why}")
}

fn as_json(letter: &DeadLetter) -> String {
    let DeadLetter { id, consumer, convo, seq, why, tries, first_at, last_at, again } = letter;
    serde_json::json!({
        "number": id,
        "consumer": consumer,
        "convoId": convo,
        "seq": seq,
        "tries": tries,
        "firstAt": first_at,
        "lastAt": last_at,
        "again": again,
        "why": why,
    })
    .to_string()
}

#[expect(clippy::print_stdout, reason = "how many is the answer")]
fn replay(args: &ReplayArgs) -> anyhow::Result<()> {
    let letters = open(&args.data)?;
    let mut asked = 0;
    match &letters {
        Some(letters) if args.all => asked = letters.ask_again(None)?,
        Some(letters) => {
            for &number in &args.numbers {
                let found = letters.ask_again(Some(number))?;
                ensure!(
                    found == 1,
                    "there is no dead letter {number}; `tertulia admin dead-letters list` shows them"
                );
                asked += found;
            }
        }
        None => ensure!(args.all, "there are no dead letters"),
    }
    println!("{asked} will be tried again");
    Ok(())
}
