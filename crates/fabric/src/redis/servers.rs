//! All servers behind an address: which they are, which has what, and the way to each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::caller::{CallError, Caller};
use super::target::{Address, Target};
use super::topology::Topology;
use super::{Command, Reply};
use crate::backoff::{SERVER, roll};

/// How often a cluster is asked what has become of it, if nothing gave cause to.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What has moved is not looked for more often than this.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// How long to wait for a server that has not answered yet.
const REACH_MAX: Duration = Duration::from_secs(2);
/// How long a call waits to hear where something has moved.
const MOVED_MAX: Duration = Duration::from_secs(1);

/// The servers; clones are the same.
#[derive(Clone)]
pub(crate) struct Servers(Arc<Shared>);

struct Shared {
    target: Target,
    callers: Mutex<HashMap<Address, Caller>>,
    map: watch::Sender<Map>,
    /// Somebody has cause to think that it has changed.
    doubt: Notify,
    /// Counts what may have made the servers forget: another connection, another map.
    upheavals: Arc<AtomicU64>,
    ending: CancellationToken,
    tasks: TaskTracker,
}

/// What is known of the servers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Map {
    /// How often it was looked at; also when nothing had changed.
    pub(crate) looked: u64,
    /// `None` before any server has answered.
    pub(crate) topology: Option<Arc<Topology>>,
}

/// Commands that belong together: sent in one go, each to the server that has its key.
pub(crate) trait Routed: Sync {
    /// How many there are.
    fn count(&self) -> usize;
    /// The key of one of them.
    fn key(&self, at: usize) -> Vec<u8>;
    /// Writes one of them.
    fn write(&self, at: usize, commands: &mut Command);
}

impl Servers {
    /// Begins to look for them.
    pub(crate) fn start(target: Target) -> Self {
        let shared = Shared {
            target,
            callers: Mutex::default(),
            map: watch::Sender::new(Map::default()),
            doubt: Notify::new(),
            upheavals: Arc::new(AtomicU64::new(0)),
            ending: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let servers = Self(Arc::new(shared));
        let looking = servers.clone();
        servers.spawn(async move { looking.look().await });
        servers
    }

    /// Runs something until it ends or the servers are [let go](Self::close).
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ending = self.0.ending.clone();
        self.0.tasks.spawn(async move {
            ending.run_until_cancelled(task).await;
        });
    }

    /// How they are reached.
    pub(crate) fn target(&self) -> &Target {
        &self.0.target
    }

    /// What is known of them, now and later.
    pub(crate) fn map(&self) -> watch::Receiver<Map> {
        self.0.map.subscribe()
    }

    /// Something gives cause to think that the map has changed.
    pub(crate) fn doubt(&self) {
        self.0.doubt.notify_one();
    }

    /// Counts what may have made the servers forget, or go back to what they knew earlier: another connection (to a
    /// server that was perhaps restarted), another map (a replica has taken over).
    pub(crate) fn upheavals(&self) -> u64 {
        self.0.upheavals.load(Ordering::Acquire)
    }

    /// Lets go of all connections, and ends all that [`spawn`](Self::spawn) runs.
    pub(crate) async fn close(&self) {
        self.0.ending.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// The same without waiting: for whoever was not closed in order.
    pub(crate) fn abandon(&self) {
        self.0.ending.cancel();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.ending.is_cancelled()
    }

    /// Asks commands, each of the server that has its key, in one round trip to each server; `answers[i]` is that of
    /// the `i`th. What one server is asked it does in the order of the commands.
    ///
    /// What has moved to another server is asked there, as soon as one of them says where that is.
    pub(crate) async fn ask(&self, commands: &impl Routed) -> Vec<Result<Reply, CallError>> {
        if self.is_closed() {
            return (0..commands.count()).map(|_| Err(CallError::Closed)).collect();
        }
        let mut map = self.map();
        let (mut looked, topology) = {
            let map = map.borrow_and_update();
            (map.looked, map.topology.clone())
        };
        let mut answers = self.ask_once(topology.as_deref(), commands, 0..commands.count()).await;
        let mut moved: Vec<usize> = (0..answers.len()).filter(|at| has_moved(&answers[*at])).collect();
        let deadline = Instant::now() + MOVED_MAX;
        while !moved.is_empty() {
            self.doubt();
            let looked_again =
                tokio::time::timeout_at(deadline, map.wait_for(|map| map.looked > looked)).await;
            let Some(map) = looked_again.ok().and_then(|map| Some(map.ok()?.clone())) else { break };
            looked = map.looked;
            let again = self.ask_once(map.topology.as_deref(), commands, moved.iter().copied()).await;
            for (at, answer) in moved.iter().zip(again) {
                answers[*at] = answer;
            }
            moved.retain(|at| has_moved(&answers[*at]));
        }
        answers
    }

    /// Waits until all servers answer, or one does not.
    pub(crate) async fn reach(&self) -> Result<(), CallError> {
        let mut map = self.map();
        let known = tokio::time::timeout(REACH_MAX, map.wait_for(|map| map.topology.is_some())).await;
        let topology = known.ok().and_then(|map| map.ok()?.topology.clone());
        let topology = topology.ok_or_else(|| CallError::Broken("no server has answered yet".into()))?;
        let pings = topology.servers().iter().map(|server| async {
            let pong = self.caller(server).call(Command::new("PING", 1), 1).await;
            pong.inspect_err(|_| self.doubt())
        });
        join_all(pings).await.into_iter().try_for_each(|pong| pong.map(drop))
    }

    /// Asks those at `places`, in this order.
    async fn ask_once(
        &self,
        topology: Option<&Topology>,
        commands: &impl Routed,
        places: impl Iterator<Item = usize>,
    ) -> Vec<Result<Reply, CallError>> {
        let Some(topology) = topology else {
            return places.map(|_| Err(CallError::Broken("no server has answered yet".into()))).collect();
        };
        let mut answers = Vec::new();
        let mut servers: Vec<(Command, Vec<usize>)> = vec![Default::default(); topology.servers().len()];
        for (nth, at) in places.enumerate() {
            answers.push(Err(CallError::Broken("no server has this key now".into())));
            let server = if topology.is_cluster() { topology.place_of(&commands.key(at)) } else { 0 };
            if let Some((command, nths)) = servers.get_mut(server) {
                commands.write(at, command);
                nths.push(nth);
            }
        }
        let asked = topology.servers().iter().zip(servers).filter(|(_, (_, nths))| !nths.is_empty());
        let asked = asked.map(|(server, (command, nths))| async {
            (self.caller(server).call(command, nths.len()).await, nths)
        });
        for (result, nths) in join_all(asked).await {
            match result {
                Ok(replies) => {
                    nths.into_iter().zip(replies).for_each(|(nth, reply)| answers[nth] = Ok(reply));
                }
                Err(error) => {
                    self.doubt();
                    nths.into_iter().for_each(|nth| answers[nth] = Err(error.clone()));
                }
            }
        }
        answers
    }

    fn callers(&self) -> MutexGuard<'_, HashMap<Address, Caller>> {
        self.0.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn caller(&self, server: &Address) -> Caller {
        let mut callers = self.callers();
        if let Some(caller) = callers.get(server) {
            return caller.clone();
        }
        let upheavals = Arc::clone(&self.0.upheavals);
        let (caller, end) = Caller::new(self.0.target.clone(), server.clone(), upheavals);
        callers.insert(server.clone(), caller.clone());
        drop(callers);
        self.spawn(end);
        caller
    }

    /// Keeps the map.
    async fn look(&self) {
        let mut failures = 0;
        loop {
            match self.find().await {
                Some(topology) => {
                    failures = 0;
                    self.keep(topology);
                    let every = if self.is_cluster() { LOOK_EVERY } else { Duration::MAX };
                    // The end of the wait is as good as a doubt.
                    drop(tokio::time::timeout(every, self.0.doubt.notified()).await);
                    tokio::time::sleep(LOOK_PAUSE.mul_f64(0.5 + 0.5 * roll())).await;
                }
                None => {
                    failures += 1;
                    tokio::time::sleep(SERVER.wait(failures, roll())).await;
                }
            }
        }
    }

    /// Whether they are a Redis Cluster.
    pub(crate) fn is_cluster(&self) -> bool {
        self.0.map.borrow().topology.as_ref().is_some_and(|topology| topology.is_cluster())
    }

    fn keep(&self, topology: Topology) {
        self.0.map.send_modify(|map| {
            map.looked += 1;
            if map.topology.as_deref() != Some(&topology) {
                tracing::info!(servers = ?topology.servers(), cluster = topology.is_cluster(), "Redis servers");
                self.0.upheavals.fetch_add(1, Ordering::AcqRel);
                self.callers().retain(|server, _| {
                    topology.servers().contains(server) || self.0.target.seeds.contains(server)
                });
                map.topology = Some(Arc::new(topology));
            }
        });
    }

    /// Asks all that are known at once: the first that knows where everything is is believed. One that does not answer
    /// holds nobody up, and one whose view is old is corrected by the next answer `MOVED`.
    async fn find(&self) -> Option<Topology> {
        let mut known = self.0.target.seeds.clone();
        let topology = self.0.map.borrow().topology.clone();
        known.extend(topology.iter().flat_map(|topology| topology.servers().iter().cloned()));
        known.sort();
        known.dedup();
        let mut asked: FuturesUnordered<_> = known
            .into_iter()
            .map(|server| async {
                let mut command = Command::new("CLUSTER", 2);
                command.word(b"SLOTS");
                let answer = self.caller(&server).call(command, 1).await;
                (server, answer)
            })
            .collect();
        while let Some((server, answer)) = asked.next().await {
            let found = match answer.ok().and_then(|mut replies| replies.pop()) {
                Some(Reply::Error(text)) if text.contains("cluster support disabled") => {
                    Some(Topology::single(server))
                }
                Some(Reply::Error(text)) => {
                    tracing::warn!(%server, text, "a server of Redis does not say where what is");
                    None
                }
                Some(answer) => Topology::of_cluster(&answer, &server).filter(Topology::is_whole),
                None => None,
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

/// Whether another server, or the same a moment later, will answer what this one did not.
fn has_moved(answer: &Result<Reply, CallError>) -> bool {
    let kinds = ["MOVED ", "ASK ", "TRYAGAIN ", "CLUSTERDOWN ", "LOADING "];
    matches!(answer, Ok(Reply::Error(text)) if kinds.iter().any(|kind| text.starts_with(kind)))
}
