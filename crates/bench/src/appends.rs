//! What PostgreSQL takes when nothing stands in front of it: the same messages, appended in a loop, without sockets,
//! accounts, readers or other nodes. It is what a cluster is measured against.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reqwest::Url;
use serde::Serialize;
use tertulia_domain::log::{Intent, Outcome};
use tertulia_protocol::entry::{ConversationType, HistoryPolicy};
use tertulia_protocol::{ClientSeq, ConvoId, DeviceId, Timestamp, UserId};
use tertulia_store::postgres::{Postgres, PostgresOptions};
use tertulia_store::{Store, StoreError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bench::Options;
use crate::conditions::Conditions;
use crate::error::Error;
use crate::load::generator::Played;
use crate::load::tally::Tally;
use crate::process::Process;
use crate::progress::Progress;
use crate::report::{Cost, Findings, LoadFigures, Report, SetUp};
use crate::scenario::{Pace, Pairs, Traffic};
use crate::service::Used;

/// Appends of one lane that are under way or made ready: while one is at the server the next one is written.
const CALLS_PER_LANE: usize = 2;
const SECOND: Duration = Duration::from_secs(1);

/// Appends of the messages of pairs, as many at a time as they would have unanswered.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Appends {
    /// Direct conversations.
    conversations: usize,
    /// Messages of each that are under way at a time.
    window: u32,
    /// The length of each message.
    body_bytes: usize,
}

impl Appends {
    /// Those that stand beside such pairs.
    ///
    /// # Errors
    /// If they write at a rate: there is nothing to be found out.
    pub(crate) fn beside(pairs: &Pairs) -> Result<Self, Error> {
        let Traffic { pace: Pace::Window(window), body_bytes } = pairs.traffic else {
            return Err(Error::Arguments("bare appends stand beside a closed loop: use --window".into()));
        };
        Ok(Self { conversations: pairs.pairs, window, body_bytes })
    }

    /// Appends to the database at this address, which is one of a cluster, or empty.
    ///
    /// # Errors
    /// If it cannot be used, or on the user's wish.
    pub(crate) async fn run(
        &self,
        address: &str,
        options: &Options,
        shutdown: CancellationToken,
    ) -> Result<Report, Error> {
        let unreachable = |cause: String| Error::Unreachable { what: "bare appends".into(), cause };
        let began = Instant::now();
        let defaults = PostgresOptions::default();
        let store: Arc<dyn Store> =
            Postgres::open(address, &defaults).await.map_err(|error| unreachable(error.to_string()))?;
        let server = server(address);
        let conditions = Conditions::new(store.lanes().get(), &shown(address), "", server);
        let convos = self.make(store.as_ref()).await.map_err(|error| unreachable(error.to_string()))?;
        let set_up = SetUp {
            users_registered: 0,
            conversations_made: convos.len(),
            seconds: began.elapsed().as_secs_f64(),
        };
        let progress = Progress::new(shutdown);
        let outcome = self.append_all(&store, &convos, options, server, &progress).await;
        store.close().await;
        let (tally, played) = outcome?;
        let findings = Findings {
            load: Some(LoadFigures::new(&tally, &played, options.measured)),
            problems: played.problems,
            ..Findings::default()
        };
        Report::new("appends", self, options, conditions, set_up, findings)
    }

    async fn make(&self, store: &dyn Store) -> Result<Vec<ConvoId>, StoreError> {
        // Of another run are others.
        let run = now();
        let convos: Vec<_> = (0..self.conversations as u32).map(|number| id(run, number, 0)).collect();
        for part in convos.chunks(100) {
            let create = |&convo: &[u8; 16]| {
                let members = vec![user(convo, 0), user(convo, 1)];
                let (kind, history) = (ConversationType::Direct, HistoryPolicy::All);
                let convo = ConvoId::from_bytes(convo);
                Intent::Create { convo, by: members[0], kind, title: None, members, history }
            };
            store.append(part.iter().map(create).collect(), run).await?;
        }
        Ok(convos.into_iter().map(ConvoId::from_bytes).collect())
    }

    async fn append_all(
        &self,
        store: &Arc<dyn Store>,
        convos: &[ConvoId],
        options: &Options,
        server: Option<Process>,
        progress: &Progress,
    ) -> Result<(Tally, Played), Error> {
        let from = Instant::now() + options.warm_up;
        let until = from + options.measured;
        let mut callers = JoinSet::new();
        for lane in 0..store.lanes().get() {
            let of_lane: Vec<_> =
                convos.iter().copied().filter(|&convo| store.lane_of(convo) == lane).collect();
            for part in of_lane.chunks(of_lane.len().div_ceil(CALLS_PER_LANE).max(1)) {
                let caller = Caller { part: part.to_vec(), window: self.window, body_bytes: self.body_bytes };
                callers.spawn(caller.append(Arc::clone(store), from, until));
            }
        }
        progress.begin("warming up", 0);
        progress.unless_interrupted(tokio::time::sleep_until(from.into())).await?;
        let before = Usage::now(server, store.as_ref());
        progress.begin("appending", 0);
        progress.unless_interrupted(tokio::time::sleep_until(until.into())).await?;
        let used = Usage::now(server, store.as_ref()).since(&before);
        let mut tally = Tally::new();
        let mut problems = Vec::new();
        for outcome in callers.join_all().await {
            match outcome {
                Ok(part) => tally.add(&part),
                Err(error) => problems.push(error),
            }
        }
        let (used, own_cpu) = used;
        Ok((tally, Played { used, own_cpu, samples: Vec::new(), problems }))
    }
}

/// One who appends to some conversations of a lane.
struct Caller {
    part: Vec<ConvoId>,
    window: u32,
    body_bytes: usize,
}

impl Caller {
    async fn append(self, store: Arc<dyn Store>, from: Instant, until: Instant) -> Result<Tally, String> {
        let mut tally = Tally::new();
        let body = "a hundred bytes of what people say to each other ".repeat(1 + self.body_bytes / 50);
        let body = &body[..self.body_bytes];
        let mut number = 0;
        while Instant::now() < until {
            let mut intents = Vec::with_capacity(self.part.len() * self.window as usize);
            for _ in 0..self.window {
                number += 1;
                intents.extend(self.part.iter().map(|&convo| Intent::Send {
                    convo,
                    sender: user(*convo.as_bytes(), 0),
                    device: DeviceId::from_bytes(*convo.as_bytes()),
                    client_seq: ClientSeq::new(number),
                    body: body.to_owned(),
                    reply_to: None,
                }));
            }
            let called = Instant::now();
            let outcomes = store.append(intents, now()).await.map_err(|error| error.to_string())?.outcomes;
            let ended = Instant::now();
            if !outcomes.iter().all(|outcome| matches!(outcome, Outcome::Appended { .. })) {
                return Err("a message was not taken".into());
            }
            if (from..until).contains(&ended) {
                let second = ((ended - from).as_nanos() / SECOND.as_nanos()) as usize;
                tally.acked.resize(tally.acked.len().max(second + 1), 0);
                tally.acked[second] += outcomes.len() as u64;
                for _ in &outcomes {
                    tally.send_to_ack.record((ended - called).as_nanos() as u64);
                }
            }
        }
        Ok(tally)
    }
}

/// What was used up to a moment.
struct Usage {
    server: Option<Duration>,
    own: Option<Duration>,
    figures: Vec<(&'static str, f64)>,
}

impl Usage {
    fn now(server: Option<Process>, store: &dyn Store) -> Self {
        Self {
            server: server.and_then(Process::cpu_with_descendants),
            own: Process::own().cpu(),
            figures: store.figures(),
        }
    }

    /// By the server, and by this process.
    fn since(self, before: &Self) -> (Used, Option<Duration>) {
        let less = |after: Option<Duration>, before: Option<Duration>| {
            after.zip(before).map(|(after, before)| after.saturating_sub(before))
        };
        let counted =
            [("store_batches", "appends to the store"), ("store_round_trips", "round trips to the store")];
        let of = |figures: &[(&str, f64)], name: &str| {
            figures.iter().find(|(figure, _)| *figure == name).map_or(0.0, |(_, value)| *value)
        };
        let costs = counted
            .map(|(name, what)| Cost { what, count: of(&self.figures, name) - of(&before.figures, name) });
        let used = Used { nodes: less(self.server, before.server), beside: Vec::new(), costs: costs.into() };
        (used, less(self.own, before.own))
    }
}

/// The process of the database, if it is one of this machine.
fn server(address: &str) -> Option<Process> {
    let url: Url = address.parse().ok()?;
    let is_here = matches!(url.host_str()?, "127.0.0.1" | "localhost" | "[::1]");
    is_here.then(|| Process::listening_on(url.port().unwrap_or(5432))).flatten()
}

/// The address without its password.
fn shown(address: &str) -> String {
    let without = |mut url: Url| url.set_password(None).map(|()| url.to_string()).ok();
    address.parse().ok().and_then(without).unwrap_or_else(|| "PostgreSQL".to_owned())
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(since.as_millis() as i64)
}

fn user(convo: [u8; 16], place: u32) -> UserId {
    let mut bytes = convo;
    bytes[8..12].copy_from_slice(&(place + 1).to_be_bytes());
    UserId::from_bytes(bytes)
}

/// The end of an id decides on its lane.
fn id(run: Timestamp, number: u32, place: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&run.as_millis().to_be_bytes());
    bytes[8..12].copy_from_slice(&place.to_be_bytes());
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(shown("postgres://me:secret@127.0.0.1:5432/chat"), "postgres://me@127.0.0.1:5432/chat");
        assert_eq!(shown("host=secret"), "PostgreSQL");
    }
}
