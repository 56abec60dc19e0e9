//! What indexing a message costs, and how long a search takes.
//!
//! ```text
//! cargo run --release -p tertulia-search --example index_bench -- [key=value …]
//!   messages=1000000    in the index
//!   conversations=100   over which they are spread evenly at random
//!   batch=20000         messages in one transaction
//!   queries=300         of each kind
//!   dir=PATH            a folder to keep; a temporary one when absent
//!   url=POSTGRES        a database instead, which is emptied first
//! ```
//!
//! A message is 100 bytes of made-up words out of 30,000, of which a few are said often and most seldom, as people do
//! (Zipf). CPU is user and system time of the whole process, read from `/proc`; of a database its own is not in it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement for people at a terminal")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tertulia_protocol::{ConvoId, Seq, Timestamp, UserId};
use tertulia_search::postgres::Postgres;
use tertulia_search::{Change, Document, Embedded, Order, Search, SearchIndex, Term};
use tertulia_store::postgres::PostgresOptions;

const VOCABULARY: usize = 30_000;
const BODY_BYTES: usize = 100;
/// Messages of the whole service in a second.
const PER_SECOND: i64 = 500;

#[tokio::main]
async fn main() {
    let settings = Settings::from_args();
    let temporary = tempfile::tempdir().unwrap();
    let dir = settings.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&dir).unwrap();
    let index = settings.open(&dir).await;
    index.clear().await.unwrap();
    let mut world = World::new(&settings);
    println!("{settings:?}");

    let (mut tokenizing, mut applying) = (Duration::ZERO, Vec::new());
    let cpu = cpu_time();
    let mut left = settings.messages;
    while left > 0 {
        let size = left.min(settings.batch);
        left -= size;
        let bodies: Vec<_> = (0..size).map(|_| world.message()).collect();
        let begun = Instant::now();
        let batch: Vec<_> = bodies.into_iter().map(Message::into_change).collect();
        tokenizing += begun.elapsed();
        let begun = Instant::now();
        index.apply(batch, Some("x")).await.unwrap();
        applying.push(begun.elapsed());
    }
    let spent = cpu_time().saturating_sub(cpu);
    let per_message = |time: Duration| time.as_secs_f64() * 1e6 / settings.messages as f64;
    let made = world.making;
    println!(
        "a message: {:.1} µs CPU without making it up, of them {:.1} for its words; {:.1} µs in apply",
        per_message(spent.saturating_sub(made)),
        per_message(tokenizing),
        per_message(applying.iter().sum()),
    );
    show("a batch", &mut applying);
    index.close().await;
    if let Ok(file) = std::fs::metadata(dir.join("search.db")) {
        println!("at rest: {:.0} bytes a message", file.len() as f64 / settings.messages as f64);
    }

    let index = settings.open(&dir).await;
    let mine: Vec<u32> = (0..settings.conversations.min(100)).collect();
    let kinds: [(&str, usize, Order, [usize; 2]); 6] = [
        ("one conversation, a word", 1, Order::Newest, [20, 1]),
        ("one conversation, two words", 1, Order::Newest, [20, 2]),
        ("100 conversations, newest 20, a word", 100, Order::Newest, [20, 1]),
        ("100 conversations, newest 20, two words", 100, Order::Newest, [20, 2]),
        ("100 conversations, newest 20, a phrase", 100, Order::Newest, [20, 0]),
        ("100 conversations, best 20, a word", 100, Order::Rank, [20, 1]),
    ];
    for (name, convos, order, [limit, words]) in kinds {
        let (mut times, mut hits) = (Vec::new(), 0);
        for _ in 0..settings.queries {
            let first = world.below(mine.len());
            let convos = mine.iter().cycle().skip(first).take(convos);
            let text =
                if words == 0 { format!("{} {}", world.common(), world.common()) } else { String::new() };
            let terms = match words {
                0 => Term::of(&text).into_iter().collect(),
                _ => (0..words).filter_map(|_| Term::of(&world.word())).collect(),
            };
            let convos = convos.map(|&number| (convo(number), Seq::new(1))).collect();
            let search = Search { terms, convos, order, limit, ..Search::default() };
            let begun = Instant::now();
            hits += index.search(search).await.unwrap().hits.len();
            times.push(begun.elapsed());
        }
        show(&format!("{name} ({:.1} hits)", hits as f64 / settings.queries as f64), &mut times);
    }
}

fn show(name: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e3;
    println!("{name}: p50 {:.2} ms, p99 {:.2} ms, at most {:.1} ms", at(50), at(99), at(100));
}

#[derive(Debug)]
struct Settings {
    messages: usize,
    conversations: u32,
    batch: usize,
    queries: usize,
    dir: Option<PathBuf>,
    url: Option<String>,
}

impl Settings {
    async fn open(&self, dir: &std::path::Path) -> Box<dyn SearchIndex> {
        match &self.url {
            Some(url) => Box::new(Postgres::open(url, &PostgresOptions::default()).await.unwrap()),
            None => Box::new(Embedded::open(dir).unwrap()),
        }
    }

    fn from_args() -> Self {
        let mut settings = Self {
            messages: 1_000_000,
            conversations: 100,
            batch: 20_000,
            queries: 300,
            dir: None,
            url: None,
        };
        for arg in std::env::args().skip(1) {
            let (key, value) = arg.split_once('=').unwrap();
            match key {
                "messages" => settings.messages = value.parse().unwrap(),
                "conversations" => settings.conversations = value.parse().unwrap(),
                "batch" => settings.batch = value.parse().unwrap(),
                "queries" => settings.queries = value.parse().unwrap(),
                "url" => settings.url = Some(value.to_owned()),
                "dir" => settings.dir = Some(value.into()),
                _ => panic!("there is no setting {key}"),
            }
        }
        settings
    }
}

struct Message {
    convo: u32,
    seq: u64,
    ts: i64,
    body: String,
}

impl Message {
    fn into_change(self) -> Change {
        let sender = UserId::from_bytes(id(0xAA, self.convo, u32::try_from(self.seq % 10).unwrap()));
        let ts = Timestamp::from_millis(self.ts);
        Change::Put(Document::new(convo(self.convo), Seq::new(self.seq), sender, ts, &self.body))
    }
}

struct World {
    random: u64,
    /// The chance of a word or a more common one, of 2^32.
    chances: Vec<u32>,
    words: Vec<String>,
    seqs: Vec<u64>,
    number: i64,
    making: Duration,
}

impl World {
    fn new(settings: &Settings) -> Self {
        let weights: Vec<f64> = (1..=VOCABULARY).map(|place| 1.0 / place as f64).collect();
        let whole: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let chances = weights.iter().map(|weight| {
            sum += weight;
            (sum / whole * f64::from(u32::MAX)) as u32
        });
        let mut world = Self {
            random: 7,
            chances: chances.collect(),
            words: Vec::new(),
            seqs: vec![0; settings.conversations as usize],
            number: 0,
            making: Duration::ZERO,
        };
        for _ in 0..VOCABULARY {
            let length = 3 + world.below(7);
            let word =
                (0..length).map(|_| char::from(b'a' + u8::try_from(world.below(26)).unwrap())).collect();
            world.words.push(word);
        }
        world
    }

    fn below(&mut self, end: usize) -> usize {
        // Knuth's MMIX generator.
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.random >> 33).unwrap() % end
    }

    /// A word as often as people say it.
    fn said(&mut self) -> usize {
        let chance = u32::try_from(self.below(1 << 31)).unwrap() * 2;
        self.chances.partition_point(|&sum| sum < chance).min(VOCABULARY - 1)
    }

    fn message(&mut self) -> Message {
        let begun = Instant::now();
        let mut body = String::with_capacity(BODY_BYTES + 10);
        while body.len() < BODY_BYTES {
            let word = self.said();
            body.push_str(&self.words[word]);
            body.push(' ');
        }
        let convo = self.below(self.seqs.len());
        self.seqs[convo] += 1;
        self.number += 1;
        let ts = 1_795_563_466_000 + self.number * 1_000 / PER_SECOND;
        self.making += begun.elapsed();
        Message { convo: u32::try_from(convo).unwrap(), seq: self.seqs[convo], ts, body }
    }

    /// A word that somebody would seek: neither the commonest nor one that nobody says.
    fn word(&mut self) -> String {
        let place = 100 + self.below(5_000);
        self.words[place].clone()
    }

    fn common(&mut self) -> String {
        let place = self.below(50);
        self.words[place].clone()
    }
}

fn convo(number: u32) -> ConvoId {
    ConvoId::from_bytes(id(0xCC, number, 0))
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
