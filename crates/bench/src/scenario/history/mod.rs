//! `history`: pages read over REST, by many at once, each as quickly as it gets them.

mod figures;
mod reader;

pub use figures::{HistoryFigures, PageFigures};

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use tertulia_protocol::ConvoId;
use tertulia_protocol::entry::ConversationType;
use tertulia_protocol::rules::PAGE_DEFAULT;

use self::reader::{Reader, request};
use super::Traffic;
use crate::bench::Bench;
use crate::crowd::Wanted;
use crate::error::Error;
use crate::fleet::fill::fill;
use crate::histogram::Histogram;
use crate::process::Process;
use crate::report::Findings;
use crate::service::Target;

const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Members of the conversation that is read.
const MEMBERS: usize = 10;

/// Readers of pages.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// How many read at once.
    pub readers: usize,
    /// Entries of the conversation that is read.
    pub entries: u64,
    /// Conversations of the inbox that is read.
    pub conversations: usize,
    /// The length of each message.
    pub body_bytes: usize,
}

/// A kind of page.
#[derive(Debug, Clone, Copy)]
enum Page {
    Newest,
    Before,
    After,
    Inbox,
}

impl Page {
    const ALL: [Self; 4] = [Self::Newest, Self::Before, Self::After, Self::Inbox];

    fn name(self) -> &'static str {
        match self {
            Self::Newest => "newest page",
            Self::Before => "deep page, before",
            Self::After => "deep page, after",
            Self::Inbox => "inbox",
        }
    }

    /// Each call another place, so that not one page alone is read from a cache.
    fn path(self, convo: ConvoId, head: u64, turn: u64) -> String {
        const STEP: u64 = 7_919;
        let limit = PAGE_DEFAULT as u64;
        let deep = limit + 1 + turn.wrapping_mul(STEP) % head.saturating_sub(2 * limit).max(1);
        match self {
            Self::Newest => format!("/conversations/{convo}/messages?limit={limit}"),
            Self::Before => format!("/conversations/{convo}/messages?before={deep}&limit={limit}"),
            Self::After => format!("/conversations/{convo}/messages?after={deep}&limit={limit}"),
            Self::Inbox => format!("/conversations?limit={limit}"),
        }
    }
}

impl History {
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.readers == 0 || self.entries == 0 || self.conversations == 0 {
            return Err(Error::Arguments("somebody reads something".into()));
        }
        Traffic { pace: super::Pace::Window(1), body_bytes: self.body_bytes }.check()
    }

    pub(super) async fn run(&self, bench: &mut Bench) -> Result<Findings, Error> {
        let users = MEMBERS.max(self.conversations);
        bench.crowd.grow(users, &bench.progress).await?;
        let mut wanted = vec![Wanted {
            name: format!("history of {} at {}", self.entries, self.body_bytes),
            kind: ConversationType::Group,
            members: (0..MEMBERS).collect(),
        }];
        // The others of the inbox are direct ones.
        wanted.extend((1..self.conversations).map(|other| Wanted {
            name: format!("history direct 0 {other}"),
            kind: ConversationType::Direct,
            members: vec![0, other],
        }));
        let convos = bench.crowd.meet(&wanted, &bench.progress).await?;
        bench.crowd.sign_in([0], &bench.progress).await?;
        let token = bench.crowd.token(0).to_owned();
        bench.progress.begin("filling", self.entries as usize);
        // The entry `created` is the first.
        let there = bench.crowd.head(0, convos[0]).await?;
        let missing = (self.entries + 1).saturating_sub(there);
        fill(bench.service.targets.first(), &token, &convos[..1], missing, self.body_bytes).await?;
        for &convo in &convos[1..] {
            if bench.crowd.head(0, convo).await? < 2 {
                fill(bench.service.targets.first(), &token, &[convo], 1, self.body_bytes).await?;
            }
        }
        bench.set_up_is_done();

        let head = there.max(self.entries + 1);
        let mut findings = Findings { memory: vec![bench.memory("before")], ..Findings::default() };
        let mut pages = Vec::new();
        for page in Page::ALL {
            pages.push(self.read(bench, page, convos[0], head, &token).await?);
        }
        findings.memory.push(bench.memory("after"));
        let refused: u64 = pages.iter().map(|page| page.refused).sum();
        if refused > 0 {
            findings.problems.push(format!("{refused} reads were refused"));
        }
        findings.history = Some(HistoryFigures { entries: head, pages });
        Ok(findings)
    }

    /// One kind of page, for as long as is measured.
    async fn read(
        &self,
        bench: &Bench,
        page: Page,
        convo: ConvoId,
        head: u64,
        token: &str,
    ) -> Result<PageFigures, Error> {
        let orders = Arc::new(Orders::default());
        let readers: Vec<_> = (0..self.readers as u64)
            .map(|number| {
                let (orders, target, token) =
                    (Arc::clone(&orders), bench.service.targets.first().clone(), token.to_owned());
                // Far apart, so that no two read the same places one after the other.
                let path = move |turn: u64| page.path(convo, head, turn + number * 1_000_003);
                thread::Builder::new()
                    .name(format!("bench-read-{number}"))
                    .spawn(move || read_on(&target, &token, path, &orders))
                    .map_err(Error::io("start a thread"))
            })
            .collect::<Result<_, _>>()?;
        bench.progress.begin(page.name(), bench.measured.as_secs() as usize);
        let outcome = measure(bench, &orders).await;
        orders.stopped.store(true, Relaxed);
        let (mut latency, mut refused, mut bytes) = (Histogram::new(), 0, 0);
        for reader in readers {
            let read = reader.join().map_err(|_| io::Error::other("it has panicked"));
            let read = read.and_then(|read| read).map_err(Error::io("read a page"))?;
            latency.add(&read.latency);
            refused += read.refused;
            bytes += read.bytes;
        }
        let (server, generator, seconds) = outcome?;
        Ok(PageFigures::new(page.name(), &latency, refused, bytes, seconds, [server, generator]))
    }
}

/// Warms up and measures: CPU of server and generator, and how long it was.
async fn measure(
    bench: &Bench,
    orders: &Orders,
) -> Result<(Option<Duration>, Option<Duration>, Duration), Error> {
    bench.progress.unless_interrupted(tokio::time::sleep(bench.warm_up)).await?;
    let usage = || (bench.service.cpu(), Process::own().cpu());
    let (began, before) = (Instant::now(), usage());
    orders.counts.store(true, Relaxed);
    while began.elapsed() < bench.measured {
        let done = orders.done.load(Relaxed);
        bench.progress.show(began.elapsed().as_secs() as usize, format_args!("{done} pages"));
        let rest = bench.measured.saturating_sub(began.elapsed());
        bench.progress.unless_interrupted(tokio::time::sleep(rest.min(LOOK_EVERY))).await?;
    }
    orders.counts.store(false, Relaxed);
    let (seconds, after) = (began.elapsed(), usage());
    let spent = |after: Option<Duration>, before: Option<Duration>| {
        after.zip(before).map(|(after, before)| after.saturating_sub(before))
    };
    Ok((spent(after.0, before.0), spent(after.1, before.1), seconds))
}

#[derive(Debug, Default)]
struct Orders {
    counts: AtomicBool,
    stopped: AtomicBool,
    done: AtomicU64,
}

struct Read {
    latency: Histogram,
    refused: u64,
    bytes: u64,
}

fn read_on(target: &Target, token: &str, path: impl Fn(u64) -> String, orders: &Orders) -> io::Result<Read> {
    let mut reader = Reader::dial(target)?;
    let mut read = Read { latency: Histogram::new(), refused: 0, bytes: 0 };
    for turn in 0.. {
        if orders.stopped.load(Relaxed) {
            break;
        }
        let request = request(target, token, &path(turn));
        let began = Instant::now();
        let answer = reader.get(&request)?;
        if orders.counts.load(Relaxed) {
            read.latency.record(began.elapsed().as_nanos() as u64);
            read.refused += u64::from(answer.status != 200);
            read.bytes += answer.bytes as u64;
            orders.done.fetch_add(1, Relaxed);
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_pages_lie_inside_of_the_history_and_move() {
        let convo = ConvoId::from_bytes([7; 16]);
        let seqs = |head: u64| -> Vec<u64> {
            (0..100)
                .map(|turn| {
                    let path = Page::Before.path(convo, head, turn);
                    path.split_once("before=").unwrap().1.split('&').next().unwrap().parse().unwrap()
                })
                .collect()
        };
        let (long, short) = (seqs(10_000), seqs(60));
        assert!(long.iter().all(|seq| (51..9_951).contains(seq)), "{long:?}");
        assert!(long.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(short.iter().all(|&seq| seq == 51));
    }
}
