//! The arguments of the scenarios that have many of their own.

use std::time::Duration;

use clap::{Args, ValueEnum};
use tertulia_bench::Scenario;
use tertulia_bench::scenario::{Abuse, Catchup, History, Kind, Pace, Pairs, Rooms, Storm, Traffic, Typing};

use super::{Asked, CommonArgs, RecordArgs, TrafficArgs, body, many};

#[derive(Debug, Args)]
pub(super) struct StormArgs {
    /// Connections that are cut
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = many(2))]
    connections: usize,
    /// Connections of each user: with more than one, fewer users are to be registered
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = many(1))]
    connections_per_user: usize,
    /// Groups of 100 that each user is in
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = many(1))]
    conversations: usize,
    /// How long all are away before the first comes back
    #[arg(long, value_name = "MS", default_value_t = 0)]
    away_ms: u64,
    /// Over what time each draws its moment to come back: the client's jitter
    #[arg(long, value_name = "MS", default_value_t = 0)]
    spread_ms: u64,
    /// Messages a second of those who stay, all together
    #[arg(long, value_name = "R", default_value_t = 50.0)]
    rate: f64,
    /// The length of each message
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = body())]
    body: usize,
    #[command(flatten)]
    record: RecordArgs,
    #[command(flatten)]
    common: CommonArgs,
}

impl StormArgs {
    pub(super) fn split(self) -> Asked {
        let storm = Storm {
            connections: self.connections,
            connections_per_user: self.connections_per_user,
            conversations: self.conversations,
            away: Duration::from_millis(self.away_ms),
            spread: Duration::from_millis(self.spread_ms),
            traffic: Traffic { pace: Pace::Rate(self.rate), body_bytes: self.body },
        };
        Asked { scenario: Scenario::Storm(storm), common: self.common, history: self.record.history }
    }
}

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// Readers, each of whom asks for the next page when he has one
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = many(1))]
    readers: usize,
    /// Entries of the conversation that is read
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    entries: u64,
    /// Conversations of the inbox that is read
    #[arg(long, value_name = "K", default_value_t = 200, value_parser = many(1))]
    conversations: usize,
    /// The length of each message
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = body())]
    body: usize,
    #[command(flatten)]
    common: CommonArgs,
}

impl HistoryArgs {
    pub(super) fn split(self) -> (Scenario, CommonArgs) {
        let Self { readers, entries, conversations, body, common } = self;
        (Scenario::History(History { readers, entries, conversations, body_bytes: body }), common)
    }
}

#[derive(Debug, Args)]
pub(super) struct RoomsArgs {
    /// Users, each connected once
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = many(3))]
    users: usize,
    /// Rooms: the first has everybody, most have few
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = many(1))]
    rooms: usize,
    /// Direct conversations of each user, on average
    #[arg(long, value_name = "K", default_value_t = 8, value_parser = many(1))]
    directs: usize,
    /// The share of users who write in a direct conversation, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    direct_share: f64,
    /// The same seed is the same workspace
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    traffic: TrafficArgs,
    #[command(flatten)]
    record: RecordArgs,
    #[command(flatten)]
    common: CommonArgs,
}

impl RoomsArgs {
    pub(super) fn split(self) -> Asked {
        let Self { users, rooms, directs, direct_share, seed, traffic, record, common } = self;
        let traffic = traffic.traffic();
        let scenario = Scenario::Rooms(Rooms { users, rooms, directs, direct_share, seed, traffic });
        Asked { scenario, common, history: record.history }
    }
}

#[derive(Debug, Args)]
pub(super) struct CatchupArgs {
    /// How many entries are missed, one case each
    #[arg(long, value_name = "K,…", value_delimiter = ',', default_values_t = [10, 100, 1_000, 10_000])]
    missed: Vec<u64>,
    /// How many conversations are many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = many(2))]
    conversations: usize,
    /// How many entries are a long history, in all of the conversations together
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    history: u64,
    /// How often each case is measured
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = many(1))]
    times: usize,
    /// The length of each message
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = body())]
    body: usize,
    #[command(flatten)]
    common: CommonArgs,
}

impl CatchupArgs {
    pub(super) fn split(self) -> (Scenario, CommonArgs) {
        let Self { missed, conversations, history, times: rounds, body, common } = self;
        (Scenario::Catchup(Catchup { missed, conversations, history, rounds, body_bytes: body }), common)
    }
}

#[derive(Debug, Args)]
pub(super) struct TypingArgs {
    /// Members who read; the first of them writes
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = many(2))]
    members: usize,
    /// More members, who type
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = many(2))]
    typists: usize,
    /// Typing events a second, of all who type together
    #[arg(long, value_name = "R", default_value_t = 5_000.0)]
    typing_rate: f64,
    /// Messages a second
    #[arg(long, value_name = "R", default_value_t = 200.0)]
    rate: f64,
    /// The length of each message
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = body())]
    body: usize,
    #[command(flatten)]
    common: CommonArgs,
}

impl TypingArgs {
    pub(super) fn split(self) -> (Scenario, CommonArgs) {
        let Self { members, typists, typing_rate, rate, body, common } = self;
        let traffic = Traffic { pace: Pace::Rate(rate), body_bytes: body };
        (Scenario::Typing(Typing { members, typists, typing_rate, traffic }), common)
    }
}

#[derive(Debug, Args)]
pub(super) struct AbuseArgs {
    /// What the hostile do, one after the other [default: all]
    #[arg(long, value_name = "KIND,…", value_delimiter = ',')]
    kinds: Vec<KindArg>,
    /// How many are hostile
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = many(1))]
    hostile: usize,
    /// Pairs of users who talk meanwhile
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = many(1))]
    pairs: usize,
    /// Messages a second of all of them together
    #[arg(long, value_name = "R", default_value_t = 2_000.0)]
    rate: f64,
    /// The length of each message
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = body())]
    body: usize,
    #[command(flatten)]
    common: CommonArgs,
}

/// A kind by its name on the command line.
#[derive(Debug, Clone, Copy)]
struct KindArg(Kind);

impl ValueEnum for KindArg {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [KindArg; Kind::ALL.len()] = {
            let mut all = [KindArg(Kind::SlowLoris); Kind::ALL.len()];
            let mut place = 0;
            while place < all.len() {
                all[place] = KindArg(Kind::ALL[place]);
                place += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.0.name()))
    }
}

impl AbuseArgs {
    pub(super) fn split(self) -> (Scenario, CommonArgs) {
        let Self { kinds, hostile, pairs, rate, body, common } = self;
        let kinds = match kinds.is_empty() {
            true => Kind::ALL.to_vec(),
            false => kinds.into_iter().map(|kind| kind.0).collect(),
        };
        let traffic = Traffic { pace: Pace::Rate(rate), body_bytes: body };
        (Scenario::Abuse(Abuse { kinds, hostile, pairs: Pairs { pairs, traffic } }), common)
    }
}
