//! The arguments of the scenarios that have many of their own.

use std::time::Duration;

use clap::Args;
use tertulia_bench::Scenario;
use tertulia_bench::scenario::{History, Pace, Storm, Traffic};

use super::{CommonArgs, body, many};

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
    #[arg(long, value_name = "R", default_value_t = 100.0)]
    rate: f64,
    /// The length of each message
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = body())]
    body: usize,
    #[command(flatten)]
    common: CommonArgs,
}

impl StormArgs {
    pub(super) fn split(self) -> (Scenario, CommonArgs) {
        let storm = Storm {
            connections: self.connections,
            connections_per_user: self.connections_per_user,
            conversations: self.conversations,
            away: Duration::from_millis(self.away_ms),
            spread: Duration::from_millis(self.spread_ms),
            traffic: Traffic { pace: Pace::Rate(self.rate), body_bytes: self.body },
        };
        (Scenario::Storm(storm), self.common)
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
