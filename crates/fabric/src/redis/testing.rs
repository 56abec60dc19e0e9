//! Real servers of a test's own: started, killed, paused, and asked directly.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tertulia_services::{Kind, Proxy, Server as Service};

use super::{Address, Command, Reply, Target, Topology, resp, slot_of};

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// A `redis-server`.
pub(crate) struct Server {
    service: Service,
    is_up: bool,
}

impl Server {
    /// A single one.
    pub(crate) fn start() -> Self {
        Self::of(Service::temporary(Kind::Redis))
    }

    pub(crate) fn start_with(options: &[&str]) -> Self {
        Self::of(Service::temporary_redis(options))
    }

    fn of(service: anyhow::Result<Service>) -> Self {
        Self { service: service.unwrap_or_else(|error| panic!("{error:#}")), is_up: true }
    }

    pub(crate) fn port(&self) -> u16 {
        self.service.address().port()
    }

    pub(crate) fn target(&self) -> Target {
        self.service.url().parse().unwrap()
    }

    /// A way to it on which things go wrong when a test says so.
    pub(crate) fn proxy(&self) -> (Proxy, Target) {
        let proxy = Proxy::to(self.service.address()).unwrap();
        let target = format!("redis://{}", proxy.address()).parse().unwrap();
        (proxy, target)
    }

    /// Starts it again after it was killed.
    pub(crate) fn restart(&mut self) {
        self.service.restart().unwrap();
        self.is_up = true;
    }

    pub(crate) fn kill(&mut self) {
        self.service.kill().unwrap();
        self.is_up = false;
    }

    pub(crate) fn pause(&self) {
        self.service.pause().unwrap();
    }

    pub(crate) fn resume(&self) {
        self.service.resume().unwrap();
    }

    /// Asks it something, on a connection of its own.
    pub(crate) fn ask(&self, words: &[&str]) -> Reply {
        let reply = self.try_ask(words).expect("an answer");
        assert!(!matches!(reply, Reply::Error(_)), "{words:?}: {reply:?}");
        reply
    }

    fn try_ask(&self, words: &[&str]) -> Option<Reply> {
        let (name, rest) = words.split_first()?;
        let mut command = Command::new(name, words.len());
        rest.iter().for_each(|word| command.word(word.as_bytes()));
        let mut stream = TcpStream::connect(("127.0.0.1", self.port())).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(command.as_bytes()).ok()?;
        let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            if let Some((value, _)) = resp::parse(&bytes).ok()? {
                return Some(value.to_reply());
            }
            match stream.read(&mut chunk).ok()? {
                0 => return None,
                length => bytes.extend_from_slice(&chunk[..length]),
            }
        }
    }

    /// A field of what it says of itself.
    pub(crate) fn info(&self, section: &str, field: &str) -> String {
        let Reply::Text(text) = self.ask(&["INFO", section]) else { panic!("no text") };
        let text = String::from_utf8(text.to_vec()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.expect("the field").to_owned()
    }
}

/// A Redis Cluster of three masters, and perhaps replicas of the first.
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
}

impl Cluster {
    pub(crate) fn start(replicas: usize) -> Self {
        let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
        let servers: Vec<_> = (0..3 + replicas).map(|_| Server::start_with(&options)).collect();
        for (server, (first, last)) in
            servers.iter().zip([("0", "5460"), ("5461", "10922"), ("10923", "16383")])
        {
            server.ask(&["CLUSTER", "ADDSLOTSRANGE", first, last]);
        }
        let (first, others) = servers.split_first().unwrap();
        for other in others {
            first.ask(&["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string()]);
        }
        let cluster = Self { servers };
        cluster.wait_until("all know each other", |server| {
            let Reply::List(ranges) = server.ask(&["CLUSTER", "SLOTS"]) else { panic!("no list") };
            let Reply::Text(nodes) = server.ask(&["CLUSTER", "NODES"]) else { panic!("no text") };
            ranges.len() == 3 && nodes.iter().filter(|byte| **byte == b'\n').count() == 3 + replicas
        });
        let first = cluster.id(0);
        for replica in &cluster.servers[3..] {
            replica.ask(&["CLUSTER", "REPLICATE", &first]);
        }
        cluster.wait_until_whole();
        let deadline = Instant::now() + PATIENCE;
        while cluster.servers[3..]
            .iter()
            .any(|replica| replica.info("replication", "master_link_status") != "up")
        {
            assert!(Instant::now() < deadline, "the replica does not follow");
            sleep(POLL);
        }
        cluster
    }

    /// One that several tests use at once, each with a prefix of its own, and that none does anything to.
    pub(crate) fn shared() -> (Arc<Self>, String) {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        static USERS: AtomicU32 = AtomicU32::new(0);
        // One that could not be started fails its test, not all others.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let cluster = shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Self::start(0));
            *shared = Arc::downgrade(&cluster);
            cluster
        });
        (cluster, format!("test {}:", USERS.fetch_add(1, Ordering::Relaxed)))
    }

    pub(crate) fn wait_until_whole(&self) {
        self.wait_until("the cluster is whole", |server| {
            let Reply::Text(info) = server.ask(&["CLUSTER", "INFO"]) else { panic!("no text") };
            info.starts_with(b"cluster_state:ok")
        });
    }

    fn wait_until(&self, what: &str, condition: impl Fn(&Server) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !self.servers.iter().filter(|server| server.is_up).all(&condition) {
            assert!(Instant::now() < deadline, "not {what}");
            sleep(POLL);
        }
    }

    pub(crate) fn id(&self, server: usize) -> String {
        let Reply::Text(id) = self.servers[server].ask(&["CLUSTER", "MYID"]) else { panic!("no text") };
        String::from_utf8(id.to_vec()).unwrap()
    }

    pub(crate) fn target(&self) -> Target {
        let seeds: Vec<_> =
            self.servers.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
        format!("redis://{}", seeds.join(",")).parse().unwrap()
    }

    /// Which server has a key now.
    pub(crate) fn server_of(&self, key: &[u8]) -> usize {
        let asked = Address { host: "127.0.0.1".into(), port: self.servers[0].port() };
        let topology = Topology::of_cluster(&self.servers[0].ask(&["CLUSTER", "SLOTS"]), &asked).unwrap();
        let port = topology.server_of(key).unwrap().port;
        self.servers.iter().position(|server| server.port() == port).unwrap()
    }

    /// Gives the slot of a key, which no stored key may have, from one server to another.
    pub(crate) fn move_slot(&self, key: &[u8], from: usize, to: usize) {
        let slot = slot_of(key).to_string();
        let (source, destination) = (self.id(from), self.id(to));
        self.servers[to].ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]);
        self.servers[from].ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &destination]);
        self.servers[to].ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &destination]);
        self.servers[from].ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &destination]);
    }
}
