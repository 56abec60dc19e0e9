//! What a node is told: flags, environment and file come together in the binary; here is what they come to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use tertulia_feed::target::{InvalidTarget, KafkaTarget};

use crate::limits::LimitsConfig;

/// Where conversations and accounts are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreAt {
    /// In the data folder.
    Folder,
    /// In the PostgreSQL database with this address, which has its password in it.
    Postgres(String),
    /// In several PostgreSQL databases on servers of their own, each conversation in one of them.
    PostgresServers(Vec<String>),
}

/// How nodes that share a store tell each other what they append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveAt {
    /// There is one node.
    Process,
    /// By the Redis server, or cluster, with this address, which may have its password in it.
    Redis(String),
}

/// Where nodes that share a store know of each other, and of each other's users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PresenceAt {
    /// Where they tell each other what they append.
    Live,
    /// On the Redis server, or cluster, with this address, which may have its password in it.
    Redis(String),
}

/// Where those are told from who follow the logs, as search does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedAt {
    /// From the store's journal, each node for itself.
    Journal,
    /// By this Kafka, for all nodes together: what they derive they share.
    Kafka(KafkaTarget),
}

/// The configuration of a node.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data folder; made if it is not there.
    pub data: PathBuf,
    /// Where conversations and accounts are kept.
    pub store: StoreAt,
    /// How nodes that share a store tell each other what they append.
    pub live: LiveAt,
    /// Where nodes that share a store know of each other, and of each other's users.
    pub presence: PresenceAt,
    /// Where those are told from who follow the logs.
    pub feed: FeedAt,
    /// Where clients reach this node, as in `https://chat1.example.org`; what it tells of itself.
    pub public_url: Option<String>,
    /// How many sockets this node is made for: what others compare its load by.
    pub capacity: u32,
    /// Where to listen.
    pub listen: SocketAddr,
    /// How long a user counts as present after his last sign of life.
    pub presence_ttl: Duration,
    /// How long a new socket may take to say who it is.
    pub handshake: Duration,
    /// How long the body of a request may take to come.
    pub body: Duration,
    /// How long a client may take nothing of an answer that waits for him, before his HTTP connection is closed.
    pub unread: Duration,
    /// How many bytes of long answers may be on their way at one time.
    pub answers_bytes: usize,
    /// How often a silent connection is pinged.
    pub heartbeat: Duration,
    /// Rate limits; `None` lifts them all.
    pub limits: Option<LimitsConfig>,
    /// Web origins besides the server's own that browsers may come from, as in `https://chat.example.org`.
    pub allowed_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<std::net::IpAddr>,
    /// How long a drain may take.
    pub drain: Duration,
    /// The length of a file of the journal, in bytes; `None`: the store's own.
    pub journal_segment_bytes: Option<u64>,
}

impl Config {
    /// The defaults, for a data folder and an address.
    pub fn new(data: PathBuf, listen: SocketAddr) -> Self {
        Self {
            data,
            store: StoreAt::Folder,
            live: LiveAt::Process,
            presence: PresenceAt::Live,
            feed: FeedAt::Journal,
            public_url: None,
            capacity: 20_000,
            listen,
            presence_ttl: Duration::from_secs(60),
            handshake: Duration::from_secs(10),
            body: Duration::from_secs(30),
            unread: Duration::from_secs(30),
            answers_bytes: 128 << 20,
            heartbeat: Duration::from_secs(25),
            limits: Some(LimitsConfig::default()),
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            drain: Duration::from_secs(10),
            journal_segment_bytes: None,
        }
    }
}
