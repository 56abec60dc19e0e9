//! `tertulia admin`: what an administrator of a data folder does beside the server.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use tertulia_store::dead_letters::{DeadLetter, DeadLetters, FolderDeadLetters};
use tertulia_store::postgres::{PostgresDeadLetters, PostgresOptions};

/// Looks after what a server keeps, in its data folder or its database.
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
/// They are in the file dead_letters.db of the data folder, or, where nodes share a feed (serve --feed), in the PostgreSQL
/// database that --store names. It works on that and on nothing else, and is safe while servers run: each does one short
/// transaction at a time. A server that runs tries again what was asked for within seconds; else the next one does, when
/// it is started. What is taken then goes from the list, and what is not stays, with one more try.
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

/// Where they are.
#[derive(Debug, Args)]
struct WhereArgs {
    /// The data folder
    #[arg(long, env = "TERTULIA_DATA", value_name = "DIR", default_value = "data")]
    data: PathBuf,

    /// The database of nodes that share a feed: the --store that they are given, of several the first [default: the data folder]
    #[arg(long, env = "TERTULIA_STORE", value_name = "URL", hide_env_values = true, value_parser = first_of)]
    store: Option<String>,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    place: WhereArgs,

    /// Prints a line of JSON for each
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ReplayArgs {
    #[command(flatten)]
    place: WhereArgs,

    /// The numbers of those to try again
    #[arg(value_name = "NUMBER", required_unless_present = "all", conflicts_with = "all")]
    numbers: Vec<i64>,

    /// Tries all of them again
    #[arg(long)]
    all: bool,
}

/// The first of what stands in TERTULIA_STORE, as servers take it: several by spaces.
fn first_of(stores: &str) -> Result<String, &'static str> {
    stores.split_whitespace().next().map(str::to_owned).ok_or("names no database")
}

/// How many are read at once.
const PAGE: usize = 1_000;

/// Does it.
///
/// # Errors
/// If the data folder cannot be read, or there is no such letter.
pub(crate) async fn run(args: &AdminArgs) -> anyhow::Result<()> {
    let AdminCommand::DeadLetters(LettersArgs { command }) = &args.command;
    match command {
        LettersCommand::List(args) => list(args).await,
        LettersCommand::Replay(args) => replay(args).await,
    }
}

async fn open(place: &WhereArgs) -> anyhow::Result<Option<Box<dyn DeadLetters>>> {
    if let Some(url) = &place.store {
        // One call at a time.
        let options = PostgresOptions { readers: 1, ..PostgresOptions::default() };
        let letters = PostgresDeadLetters::open_existing(url, &options).await;
        return Ok(letters
            .context("cannot read the dead letters of the database")?
            .map(|it| Box::new(it) as _));
    }
    let data = &place.data;
    ensure!(data.is_dir(), "there is no data folder {}; name it with --data", data.display());
    let letters = FolderDeadLetters::open_existing(data);
    let letters = letters.with_context(|| format!("cannot read the dead letters of {}", data.display()))?;
    Ok(letters.map(|it| Box::new(it) as _))
}

#[expect(clippy::print_stdout, reason = "the list is what was asked for")]
async fn list(args: &ListArgs) -> anyhow::Result<()> {
    let Some(letters) = open(&args.place).await? else { return Ok(()) };
    let mut after = 0;
    loop {
        let page = letters.list(after, PAGE).await?;
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
async fn replay(args: &ReplayArgs) -> anyhow::Result<()> {
    let letters = open(&args.place).await?;
    let mut asked = 0;
    match &letters {
        Some(letters) if args.all => asked = letters.ask_again(None).await?,
        Some(letters) => {
            for &number in &args.numbers {
                let found = letters.ask_again(Some(number)).await?;
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
