//! How fast the PostgreSQL store appends, and what a message costs.
//!
//! ```text
//! cargo run --release -p tertulia-store --example postgres_bench -- url=postgres://… [key=value …]
//!   conversations=100   over which everything is spread evenly at random
//!   batch=100           intents in one call, all of one lane
//!   callers=4           calls at a time
//!   lanes=4             of the store
//!   nodes=1             stores on the one database
//!   seconds=5           of the measured part
//!   members=10          of each conversation
//! ```
//!
//! CPU is user and system time: of this process, and of all processes called `postgres` on this machine. A round trip is
//! a message to the server that is waited for; stale are conversations that another node had changed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a measurement for people at a terminal"
)]

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tertulia_domain::log::{Intent, Outcome};
use tertulia_protocol::entry::{ConversationType, HistoryPolicy};
use tertulia_protocol::{ClientSeq, ConvoId, DeviceId, Timestamp, UserId};
use tertulia_store::Store;
use tertulia_store::postgres::{Postgres, PostgresOptions};

#[tokio::main]
async fn main() {
    let settings = Settings::from_args();
    let lanes = NonZeroUsize::new(settings.lanes).unwrap();
    let options = PostgresOptions { lanes, ..PostgresOptions::default() };
    let mut nodes = Vec::new();
    for _ in 0..settings.nodes {
        nodes.push(Postgres::open(&settings.url, &options).await.unwrap());
    }
    println!("{settings:?}");
    // Another run's conversations are not this one's.
    let run = nodes[0].horizon().await.unwrap().of_part(0).get();
    let convos: Vec<ConvoId> =
        (0..settings.conversations).map(|number| ConvoId::from_bytes(id(run, number, 0))).collect();
    for part in convos.chunks(100) {
        let create = |&convo: &ConvoId| {
            let members: Vec<_> = (0..settings.members).map(|place| user(convo, place)).collect();
            let (by, kind, title) = (members[0], ConversationType::Group, None);
            Intent::Create { convo, by, kind, title, members, history: HistoryPolicy::SinceJoined }
        };
        nodes[0].append(part.iter().map(create).collect(), now()).await.unwrap();
    }
    let before = Measured::now(&nodes);
    let deadline = Instant::now() + Duration::from_secs(settings.seconds);
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..settings.callers {
        let node = Arc::clone(&nodes[caller % nodes.len()]);
        let lane = caller / nodes.len() % settings.lanes;
        let of_lane: Vec<_> =
            convos.iter().copied().filter(|&convo| nodes[0].lane_of(convo) == lane).collect();
        let (batch, members) = (settings.batch, settings.members);
        callers.spawn(async move {
            let (mut chance, mut numbers) = (caller as u64 + 1, HashMap::<ConvoId, u64>::new());
            let (mut latencies, mut sent) = (Vec::new(), 0_u64);
            while Instant::now() < deadline {
                let mut intents = Vec::with_capacity(batch);
                for _ in 0..batch {
                    let convo = of_lane[below(&mut chance, of_lane.len() as u64) as usize];
                    let place = below(&mut chance, u64::from(members)) as u32;
                    let number = numbers.entry(convo).or_default();
                    *number += 1;
                    let mut device = *user(convo, place).as_bytes();
                    device[0] = caller as u8;
                    intents.push(Intent::Send {
                        convo,
                        sender: user(convo, place),
                        device: DeviceId::from_bytes(device),
                        client_seq: ClientSeq::new(*number),
                        body: "what people say to each other, a hundred bytes of it ".repeat(2),
                        reply_to: None,
                    });
                }
                let called = Instant::now();
                let outcomes = node.append(intents, now()).await.unwrap().outcomes;
                latencies.push(called.elapsed());
                assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Appended { .. })));
                sent += outcomes.len() as u64;
            }
            (latencies, sent)
        });
    }
    let (mut latencies, mut sent) = (Vec::new(), 0);
    for (of_caller, count) in callers.join_all().await {
        latencies.extend(of_caller);
        sent += count;
    }
    Measured::now(&nodes).report(&before, sent);
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!("append p50 {:?} p99 {:?} max {:?}", at(0.5), at(0.99), at(1.0));
    for node in nodes {
        node.close().await;
    }
}

#[derive(Debug)]
struct Settings {
    url: String,
    conversations: u32,
    batch: usize,
    callers: usize,
    lanes: usize,
    nodes: usize,
    seconds: u64,
    members: u32,
}

impl Settings {
    fn from_args() -> Self {
        let mut given: HashMap<String, String> = std::env::args()
            .skip(1)
            .map(|argument| {
                let (key, value) = argument.split_once('=').expect("key=value");
                (key.to_owned(), value.to_owned())
            })
            .collect();
        let mut number = |key: &str, default: u64| -> u64 {
            given.remove(key).map_or(default, |value| value.parse().unwrap())
        };
        let (conversations, batch) = (number("conversations", 100), number("batch", 100));
        let (callers, lanes, nodes) = (number("callers", 4), number("lanes", 4), number("nodes", 1));
        let (seconds, members) = (number("seconds", 5), number("members", 10));
        let url = given.remove("url").expect("url=postgres://…");
        assert!(given.is_empty(), "unknown: {given:?}");
        Self {
            url,
            conversations: conversations as u32,
            batch: batch as usize,
            callers: callers as usize,
            lanes: lanes as usize,
            nodes: nodes as usize,
            seconds,
            members: members as u32,
        }
    }
}

/// What was used up to a moment.
struct Measured {
    at: Instant,
    client: Duration,
    server: Duration,
    figures: HashMap<&'static str, f64>,
}

impl Measured {
    fn now(nodes: &[Arc<Postgres>]) -> Self {
        let mut figures = HashMap::new();
        for (name, value) in nodes.iter().flat_map(|node| node.figures()) {
            *figures.entry(name).or_default() += value;
        }
        let is_server = |pid: &str| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "postgres")
        };
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let server = processes
            .filter_map(|process| process.file_name().into_string().ok())
            .filter(|pid| is_server(pid))
            .map(|pid| cpu(&pid))
            .sum();
        Self { at: Instant::now(), client: cpu("self"), server, figures }
    }

    fn report(&self, before: &Self, sent: u64) {
        let seconds = (self.at - before.at).as_secs_f64();
        let each =
            |now: Duration, then: Duration| (now.saturating_sub(then)).as_secs_f64() * 1e6 / sent as f64;
        let more = |name: &str| self.figures[name] - before.figures[name];
        println!(
            "{:.0} msg/s; CPU a message: client {:.1} µs, server {:.1} µs; {:.2} round trips a batch of {:.1}, {} stale",
            sent as f64 / seconds,
            each(self.client, before.client),
            each(self.server, before.server),
            more("store_round_trips") / more("store_batches"),
            sent as f64 / more("store_batches"),
            more("store_stale_conversations"),
        );
    }
}

/// User and system time of a process; nothing where there is no `/proc`.
fn cpu(pid: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap())
}

fn below(chance: &mut u64, count: u64) -> u64 {
    *chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*chance >> 33) % count
}

fn user(convo: ConvoId, place: u32) -> UserId {
    let mut bytes = *convo.as_bytes();
    bytes[8..12].copy_from_slice(&place.to_be_bytes());
    UserId::from_bytes(bytes)
}

/// The end of an id decides on its lane.
fn id(run: u64, number: u32, place: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&run.to_be_bytes());
    bytes[8..12].copy_from_slice(&place.to_be_bytes());
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    bytes
}
