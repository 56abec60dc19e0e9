//! What it costs Redis when thousands come back at once: a number of commands that does not grow with them.

use std::sync::Arc;
use std::time::Duration;

use tertulia_domain::hub::{Connection, Hub, Limits, Mode, Settings, Status};
use tertulia_domain::log::{Commit, Position};
use tertulia_fabric::NodeId;
use tertulia_fabric::live::Topic;
use tertulia_protocol::event::ServerEvent;
use tertulia_protocol::rest::Privacy;
use tertulia_protocol::{DeviceId, Timestamp, UserId};
use tertulia_server::accounts::{AccountsConfig, AccountsService, PasswordConfig};
use tertulia_server::app::TellNodes;
use tertulia_server::clock::{Clock, Random};
use tertulia_server::cluster::{Cluster, join};
use tertulia_server::config::{Config, LiveAt};
use tertulia_services::{Kind, Server as Service};
use tertulia_store::Store;
use tertulia_store::accounts::{EmbeddedAccounts, SigningKey};
use tertulia_store::embedded::{Embedded, OpenOptions};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::harness::DEADLINE;

/// Who comes back; `TERTULIA_STORM` makes it another number.
const USERS: u32 = 1_500;
/// How many of them a node works for at one time, as a node does.
const ARRIVALS: usize = 16;

/// A node without its sockets.
struct Node {
    hub: Arc<Hub>,
    cluster: Cluster,
    turns: Semaphore,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Node {
    fn start(number: u8, redis: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::new(folder.path().to_owned(), ([127, 0, 0, 1], 0).into());
        config.live = LiveAt::Redis(redis.to_owned());
        let store: Arc<dyn Store> = Embedded::open(folder.path(), OpenOptions::default()).unwrap();
        let settings = Settings {
            position: Box::new(|position| position.of_part(0).get().to_string()),
            part_of: Box::new(|_| 0),
            presence_ttl: config.presence_ttl,
            heartbeat: config.heartbeat,
            outbox: Limits::default(),
            sockets_per_device: usize::MAX,
            others_append: true,
        };
        let hub = Arc::new(Hub::new(settings, Position::before(Commit::new(1))));
        let (clock, random) = (Clock::system(), Random::system());
        let (links, ear) = join(&config, NodeId::from_bytes([number; 16])).unwrap();
        let repairs = Arc::new(Notify::new());
        let cluster = Cluster::new(links, &store, &hub, &repairs, (&clock, &random), &config);
        let accounts = AccountsService::start(AccountsConfig {
            store: Arc::new(EmbeddedAccounts::open(folder.path(), SigningKey::new([7; 32])).unwrap()),
            events: Arc::new(TellNodes { hub: Arc::clone(&hub), outgoing: None }),
            limits: tertulia_server::limits::Limits::off(),
            clock,
            random,
            passwords: PasswordConfig::default(),
        })
        .unwrap();
        let stop = CancellationToken::new();
        cluster.start(&accounts, ear, &TaskTracker::new(), &stop);
        Self { hub, cluster, turns: Semaphore::new(ARRIVALS), stop, _folder: folder }
    }

    /// Somebody comes in, as `gateway/joining.rs` has it, and watches somebody.
    async fn come(&self, user: UserId, watches: UserId) -> Arc<Connection> {
        let connection = {
            let _turn = self.turns.acquire().await.unwrap();
            let who = (user, DeviceId::from_bytes(*user.as_bytes()));
            let since = self.hub.position();
            let (connection, _) = self.hub.register(Mode::Socket, who, Privacy::default(), since, now());
            self.cluster.topics.hear(vec![Topic::User(user)]).await;
            self.hub.attach(user, &[]);
            connection
        };
        let status = Status { user: watches, allowed: true, last_seen: None };
        assert!(self.hub.watch(&connection, &[status]));
        self.cluster.presences.ask([watches]).await;
        connection
    }
}

fn now() -> Timestamp {
    Clock::system().now()
}

fn user(number: u32) -> UserId {
    let mut id = [7; 16];
    id[12..].copy_from_slice(&number.to_be_bytes());
    UserId::from_bytes(id)
}

/// Whether a connection was told that somebody is online.
fn is_told(connection: &Connection) -> bool {
    let bytes = connection.take().outbox.to_vec();
    tertulia_websocket::payloads(&bytes).any(|payload| {
        matches!(
            serde_json::from_slice(payload).unwrap(),
            ServerEvent::PresenceUpdate { status: tertulia_protocol::event::Presence::Online, .. }
        )
    })
}

/// How many commands the server has carried out.
async fn commands(redis: &str) -> u64 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(redis.trim_start_matches("redis://")).await.unwrap();
    stream.write_all(b"INFO stats\r\nQUIT\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    line.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_come_back_at_once_cost_redis_no_command_each() {
    let users = std::env::var("TERTULIA_STORM").map_or(USERS, |users| users.parse().unwrap());
    let redis = tokio::task::spawn_blocking(|| Service::temporary(Kind::Redis).unwrap()).await.unwrap();
    let nodes: Arc<[Node; 2]> = Arc::new([1, 2].map(|number| Node::start(number, &redis.url())));
    // Each is on one node, and is watched on the other; once both know each other.
    let [one, other] = &*nodes;
    let (first, second) = (one.come(user(0), user(1)).await, other.come(user(1), user(0)).await);
    until("both nodes know each other", || is_told(&first) || is_told(&second)).await;

    let (before, begun) = (commands(&redis.url()).await, tokio::time::Instant::now());
    let coming = (2..users).map(|number| {
        let nodes = Arc::clone(&nodes);
        tokio::spawn(async move { nodes[number as usize % 2].come(user(number), user(number ^ 1)).await })
    });
    let coming: Vec<_> = coming.collect();
    let mut connections = Vec::new();
    for coming in coming {
        connections.push(coming.await.unwrap());
    }
    let mut told = vec![false; connections.len()];
    until("all are told", || {
        for (connection, told) in connections.iter().zip(&mut told) {
            *told |= is_told(connection);
        }
        told.iter().all(|told| *told)
    })
    .await;
    let (spent, took) = (commands(&redis.url()).await - before, begun.elapsed());
    report(&format!("{users} users: {spent} commands in {took:?}"));
    // Of what a node does in a second the number is bounded, whoever comes: twenty times it tells what has changed and asks
    // for others, in 64 shards each.
    let seconds = 1 + took.as_secs();
    let bound = seconds * 2 * 20 * (2 * 64 + 64 + 16);
    assert!(spent < bound, "{spent} commands for {users} users in {took:?}");
    for node in &*nodes {
        node.stop.cancel();
    }
}

#[expect(clippy::print_stdout, reason = "who makes it with another number wants to know")]
fn report(text: &str) {
    println!("{text}");
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.expect(what);
}
