//! How fast the embedded store appends, and what a message costs.
//!
//! ```text
//! cargo run --release -p tertulia-store --example append_bench -- [key=value …]
//!   stored=1000000      messages in the folder before the measured part
//!   conversations=100   over which everything is spread evenly at random
//!   batch=100           intents in one call
//!   callers=1           calls at a time
//!   seconds=12          of the measured part
//!   members=10          of each conversation
//!   dir=PATH            a folder to keep and use again; a temporary one when absent
//! ```
//!
//! CPU is user and system time of the whole process, with its threads that settle; disk is what the process has
//! caused to be written. Both are read from `/proc` and missing elsewhere. What is still unsettled at the end is
//! said, for its cost is not in the figures.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement for people at a terminal")]

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tertulia_domain::log::{Intent, Outcome};
use tertulia_protocol::entry::{ConversationType, HistoryPolicy};
use tertulia_protocol::{ClientSeq, ConvoId, DeviceId, Timestamp, UserId};
use tertulia_store::Store;
use tertulia_store::embedded::{Embedded, OpenOptions};

#[tokio::main]
async fn main() {
    let settings = Settings::from_args();
    let temporary = tempfile::tempdir().unwrap();
    let dir = settings.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let opened = Instant::now();
    let store = Embedded::open(&dir, OpenOptions::default()).unwrap();
    println!(
        "{} cores, SQLite {}, opened in {:?}; {settings:?}",
        std::thread::available_parallelism().map_or(0, usize::from),
        rusqlite::version(),
        opened.elapsed(),
    );
    let mut load = Load::new(&settings, store.horizon().await.unwrap().of_part(0).get());
    load.create_conversations(&store).await;
    load.fill(&store, settings.stored).await;

    let (cpu, written) = (cpu_time(), bytes_written());
    let begun = Instant::now();
    let deadline = begun + Duration::from_secs(settings.seconds);
    let mut callers = Vec::new();
    for caller in 0..settings.callers {
        let (store, mut load) = (store.clone(), load.of_caller(caller));
        callers.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            while Instant::now() < deadline {
                let batch = load.batch(load.batch);
                let called = Instant::now();
                append(&store, batch).await;
                latencies.push(called.elapsed());
            }
            (latencies, load.batch)
        }));
    }
    let (mut latencies, mut messages) = (Vec::new(), 0);
    for caller in callers {
        let (of_one, batch) = caller.await.unwrap();
        messages += of_one.len() * batch;
        latencies.extend(of_one);
    }
    let took = begun.elapsed();
    let figures: HashMap<_, _> = store.figures().into_iter().collect();
    let (cpu, written) = (cpu_time() - cpu, bytes_written() - written);
    latencies.sort();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    let each = |total: f64| total / messages as f64;
    println!("messages/s        {:.0}", messages as f64 / took.as_secs_f64());
    println!("append p50/p99/max {:?} / {:?} / {:?}", at(0.5), at(0.99), at(1.0));
    println!("CPU µs/message    {:.1}", each(cpu.as_secs_f64() * 1e6));
    println!("disk KB/message   {:.2}", each(written as f64 / 1e3));
    println!("unsettled         {:.1} %", each(figures["store_unsettled_entries"]) * 100.0);
    println!(
        "files             journal {:.0} MB, settled {:.0} MB; {:.0} commits",
        figures["store_journal_bytes"] / 1e6,
        figures["store_settled_bytes"] / 1e6,
        figures["store_batches"]
    );
    let closing = Instant::now();
    store.close().await;
    println!("closed in         {:?}", closing.elapsed());
}

async fn append(store: &Arc<Embedded>, batch: Vec<Intent>) {
    let batch = store.append(batch, now()).await.unwrap();
    let is_taken = |outcome: &Outcome| matches!(outcome, Outcome::Appended { .. } | Outcome::Unchanged);
    assert!(batch.outcomes.iter().all(is_taken), "{:?}", batch.outcomes.iter().find(|o| !is_taken(o)));
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap())
}

#[derive(Debug, Clone)]
struct Settings {
    stored: usize,
    conversations: u32,
    batch: usize,
    callers: u32,
    seconds: u64,
    members: u32,
    dir: Option<PathBuf>,
}

impl Settings {
    fn from_args() -> Self {
        let mut settings = Self {
            stored: 1_000_000,
            conversations: 100,
            batch: 100,
            callers: 1,
            seconds: 12,
            members: 10,
            dir: None,
        };
        for arg in std::env::args().skip(1) {
            match arg.split_once('=') {
                Some(("stored", value)) => settings.stored = value.parse().unwrap(),
                Some(("conversations", value)) => settings.conversations = value.parse().unwrap(),
                Some(("batch", value)) => settings.batch = value.parse().unwrap(),
                Some(("callers", value)) => settings.callers = value.parse().unwrap(),
                Some(("seconds", value)) => settings.seconds = value.parse().unwrap(),
                Some(("members", value)) => settings.members = value.parse().unwrap(),
                Some(("dir", value)) => settings.dir = Some(value.into()),
                _ => panic!("{arg}: not one of the settings at the top of this file"),
            }
        }
        settings
    }
}

/// Random messages; every caller has devices of its own, so that their numbers only rise.
struct Load {
    random: u64,
    caller: u32,
    conversations: u32,
    members: u32,
    batch: usize,
    /// Unique in the folder: runs on one folder begin at the number of its commits times a thousand.
    number: u64,
}

impl Load {
    fn new(settings: &Settings, horizon: u64) -> Self {
        let Settings { conversations, members, batch, .. } = *settings;
        Self {
            random: 0x9e37_79b9 + horizon,
            caller: 0,
            conversations,
            members,
            batch,
            number: horizon << 20,
        }
    }

    fn of_caller(&self, caller: u32) -> Self {
        Self { random: self.random + u64::from(caller) * 7_919, caller: caller + 1, ..*self }
    }

    fn next(&mut self, below: u32) -> u32 {
        // Knuth's MMIX generator: fast, and good enough to choose conversations.
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.random >> 33) % u64::from(below)) as u32
    }

    async fn create_conversations(&self, store: &Arc<Embedded>) {
        let all: Vec<_> = (0..self.conversations).collect();
        for some in all.chunks(1_000) {
            let create = |&number: &u32| {
                let members: Vec<_> = (0..self.members).map(|place| user(number, place)).collect();
                Intent::Create {
                    convo: convo(number),
                    by: members[0],
                    kind: ConversationType::Group,
                    title: None,
                    members,
                    history: HistoryPolicy::SinceJoined,
                }
            };
            append(store, some.iter().map(create).collect()).await;
        }
    }

    async fn fill(&mut self, store: &Arc<Embedded>, stored: usize) {
        let begun = Instant::now();
        let mut left = stored;
        while left > 0 {
            let batch = left.min(2_000);
            append(store, self.batch(batch)).await;
            left -= batch;
        }
        println!("stored {stored} messages in {:.1} s", begun.elapsed().as_secs_f64());
    }

    fn batch(&mut self, size: usize) -> Vec<Intent> {
        (0..size)
            .map(|_| {
                let number = self.next(self.conversations);
                let sender = user(number, self.next(self.members));
                let mut device = *sender.as_bytes();
                device[8..12].copy_from_slice(&(self.caller | 0x8000_0000).to_be_bytes());
                self.number += 1;
                Intent::Send {
                    convo: convo(number),
                    sender,
                    device: DeviceId::from_bytes(device),
                    client_seq: ClientSeq::new(self.number),
                    body: self.body(),
                    reply_to: None,
                }
            })
            .collect()
    }

    /// About 100 bytes of words.
    fn body(&mut self) -> String {
        const WORDS: [&str; 8] =
            ["anyone", "the build", "is green", "again", "tea", "at five", "who", "wrote this"];
        let mut body = String::with_capacity(112);
        while body.len() < 96 {
            body.push_str(WORDS[self.next(8) as usize]);
            body.push(' ');
        }
        body
    }
}

fn convo(number: u32) -> ConvoId {
    ConvoId::from_bytes(id(0xcc, number, 0))
}

fn user(convo: u32, place: u32) -> UserId {
    UserId::from_bytes(id(0xaa, convo, place))
}

fn id(kind: u8, number: u32, place: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0] = kind;
    bytes[1..5].copy_from_slice(&number.to_be_bytes());
    bytes[12..].copy_from_slice(&place.to_be_bytes());
    bytes
}

/// User and system time of this process; zero where there is no `/proc`.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15, in hundredths; the second one may hold spaces, but ends with the last parenthesis.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// Bytes that this process has caused to be written to a device; zero where there is no `/proc`.
fn bytes_written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}
