//! Real servers of a test's own: started, killed, paused, and asked directly.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command as Process, Stdio};
use std::sync::{LazyLock, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Address, Command, Reply, Target, Topology, resp, slot_of};

const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);

/// The ports that servers of tests get.
const PORTS: std::ops::Range<u16> = 7_800..7_900;
static IN_USE: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A port that nobody has, kept until it is dropped.
struct Port(u16);

impl Port {
    fn take() -> Self {
        let mut in_use = IN_USE.lock().unwrap();
        let is_free = |port: &u16| !in_use.contains(port) && TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let port = PORTS.clone().find(is_free).expect("a free port");
        in_use.insert(port);
        Self(port)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        IN_USE.lock().unwrap().remove(&self.0);
    }
}

/// A `redis-server`.
pub(crate) struct Server {
    port: Port,
    bus: Option<Port>,
    folder: TempDir,
    options: Vec<String>,
    process: Option<Child>,
}

impl Server {
    /// A single one.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(options: &[&str]) -> Self {
        let options = options.iter().map(ToString::to_string).collect();
        let mut server = Self {
            port: Port::take(),
            bus: None,
            folder: tempfile::tempdir().unwrap(),
            options,
            process: None,
        };
        server.restart();
        server
    }

    /// One that becomes part of a cluster.
    fn start_in_cluster() -> Self {
        let bus = Port::take();
        let bus_port = bus.0.to_string();
        let mut server = Self {
            port: Port::take(),
            bus: Some(bus),
            folder: tempfile::tempdir().unwrap(),
            options: [
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "1000",
                "--cluster-port",
                &bus_port,
            ]
            .map(Into::into)
            .into(),
            process: None,
        };
        server.restart();
        server
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.0
    }

    pub(crate) fn target(&self) -> Target {
        format!("redis://127.0.0.1:{}", self.port()).parse().unwrap()
    }

    /// Starts it, again if it was killed.
    pub(crate) fn restart(&mut self) {
        let port = self.port().to_string();
        let mut process = Process::new("redis-server");
        process.args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no", "--dir"]);
        process.arg(self.folder.path()).args(&self.options);
        let started = process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.process = Some(started.expect("redis-server is needed for this test: apt install redis-server"));
        let deadline = Instant::now() + PATIENCE;
        // One with a password answers that it wants it.
        while self.try_ask(&["PING"]).is_none() {
            let has_ended = self.process.as_mut().and_then(|process| process.try_wait().unwrap());
            assert!(has_ended.is_none(), "redis-server ended: {has_ended:?}");
            assert!(Instant::now() < deadline, "redis-server does not come up");
            sleep(POLL);
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it runs");
        kill_process(Pid::from_child(process), signal).unwrap();
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

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A Redis Cluster of three masters, and perhaps replicas of the first.
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
}

impl Cluster {
    pub(crate) fn start(replicas: usize) -> Self {
        let servers: Vec<_> = (0..3 + replicas).map(|_| Server::start_in_cluster()).collect();
        for (server, (first, last)) in
            servers.iter().zip([("0", "5460"), ("5461", "10922"), ("10923", "16383")])
        {
            server.ask(&["CLUSTER", "ADDSLOTSRANGE", first, last]);
        }
        let (first, others) = servers.split_first().unwrap();
        for other in others {
            let (port, bus) = (other.port().to_string(), other.bus.as_ref().unwrap().0.to_string());
            first.ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
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

    pub(crate) fn wait_until_whole(&self) {
        self.wait_until("the cluster is whole", |server| {
            let Reply::Text(info) = server.ask(&["CLUSTER", "INFO"]) else { panic!("no text") };
            info.starts_with(b"cluster_state:ok")
        });
    }

    fn wait_until(&self, what: &str, condition: impl Fn(&Server) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !self.servers.iter().filter(|server| server.process.is_some()).all(&condition) {
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
