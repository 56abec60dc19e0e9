//! The live channel over Redis 7: sharded pub/sub, a channel a topic, on a single server or a Redis Cluster.
//!
//! A node hears on one connection to each server (`link`), and publishes on another one (`crate::redis::Servers`). What
//! it wants to hear (`wanted`) is kept here, so that a server that forgot it is told again.
//!
//! **What the server needs**: Redis 7.0. Its `client-output-buffer-limit pubsub` says how much it keeps for a node that
//! does not read; as it comes (32 MiB, or 8 MiB for a minute) it is enough for a node that stops for a second. A node that
//! stops for longer is cut off, hears [`Heard::Broken`](super::Heard::Broken), and reads from the store what it missed.
//!
//! **What is noticed**: a server that has said nothing for 0.5 s is pinged, and one that owes an answer for 1.2 s is
//! given up, so a paused one or one whose network is gone is noticed within 2 s.
//!
//! **What is lost in silence**: a publisher that still sees a master which the others have left behind (its network is
//! split, for at most `cluster-node-timeout`) publishes to nobody.

#[cfg(test)]
mod faults;
mod link;
#[cfg(test)]
mod tests;
mod wanted;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::link::Link;
use self::wanted::{Round, Standing, Wanted};
use super::ear::{Inlet, ear};
use super::{Ear, Limits, Live, LiveError, Topic, check_sizes};
use crate::redis::{Address, CallError, Command, Reply, Routed, Servers, Target, slot_of};

/// How a node joins.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the servers are.
    pub target: Target,
    /// What the names of all channels begin with. Clusters of Tertulia that share a server each have their own.
    pub prefix: String,
    /// What waits for the node.
    pub limits: Limits,
}

impl Options {
    /// As it comes, with the prefix `t:`.
    pub fn new(target: Target) -> Self {
        Self { target, prefix: "t:".into(), limits: Limits::default() }
    }
}

/// The live channel over Redis.
pub struct RedisLive(Arc<Shared>);

struct Shared {
    servers: Servers,
    prefix: Arc<[u8]>,
    inlet: Inlet,
    wanted: Mutex<Wanted>,
    /// Woken for each link when it has something to ask for.
    work: Mutex<HashMap<Address, Arc<Notify>>>,
    /// Woken when a subscriber may have what he waits for.
    progress: Notify,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    published: Count,
    published_bytes: Count,
    publish_failures: Count,
    heard: Count,
    heard_bytes: Count,
    connections: Count,
    broken: Count,
}

#[derive(Default)]
struct Count(AtomicU64);

impl Count {
    fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    fn get(&self) -> f64 {
        self.0.load(Ordering::Relaxed) as f64
    }
}

impl RedisLive {
    /// Begins to connect; to be called within a runtime. The ear hears `Restored` when the link stands.
    pub fn start(options: Options) -> (Self, Ear) {
        let (inlet, ear) = ear(options.limits);
        let prefix: Arc<[u8]> = options.prefix.into_bytes().into();
        let shared = Arc::new(Shared {
            servers: Servers::start(options.target),
            wanted: Mutex::new(Wanted::new(Arc::clone(&prefix))),
            prefix,
            inlet,
            work: Mutex::default(),
            progress: Notify::new(),
            counts: Counts::default(),
        });
        shared.servers.spawn(Arc::clone(&shared).follow());
        (Self(shared), ear)
    }
}

impl Drop for RedisLive {
    fn drop(&mut self) {
        self.0.inlet.close();
        self.0.servers.abandon();
    }
}

impl Shared {
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        // A panic under the lock is a bug that was logged; what the set holds is still worth more than nothing.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) -> MutexGuard<'_, HashMap<Address, Arc<Notify>>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is wanted or how far the links are, and tells whoever has to know.
    fn change<T>(&self, what: impl FnOnce(&mut Wanted) -> T) -> T {
        let mut wanted = self.wanted();
        let result = what(&mut wanted);
        // Told under the lock, so that two changes are not told the other way round.
        let is_whole = wanted.is_whole();
        if self.inlet.is_whole() != is_whole {
            self.inlet.set_whole(is_whole);
            self.counts.broken.add(u64::from(!is_whole));
        }
        drop(wanted);
        self.progress.notify_waiters();
        self.work().values().for_each(|work| work.notify_one());
        result
    }

    fn passed(&self, token: u64) {
        let mut wanted = self.wanted();
        if wanted.passed(token) {
            self.inlet.barrier(token);
        }
    }

    fn round(&self, server: &Address, max: usize) -> Option<Round> {
        self.wanted().round(server, max)
    }

    /// Cuts a list of topics into those of one command each.
    fn commands(&self, mut topics: Vec<Topic>, max: usize) -> Vec<Vec<Topic>> {
        let is_cluster = self.servers.is_cluster();
        if !is_cluster {
            return topics.chunks(max).map(<[Topic]>::to_vec).collect();
        }
        let slot = |topic: &Topic| slot_of(&self.channel(topic));
        topics.sort_by_cached_key(slot);
        let of_one_slot = topics.chunk_by(|one, other| slot(one) == slot(other));
        of_one_slot.flat_map(|topics| topics.chunks(max)).map(<[Topic]>::to_vec).collect()
    }

    fn channel(&self, topic: &Topic) -> Vec<u8> {
        [&*self.prefix, &topic.key()].concat()
    }

    /// Keeps a link to each server that has something.
    async fn follow(self: Arc<Self>) {
        let mut map = self.servers.map();
        let mut links: HashMap<Address, CancellationToken> = HashMap::new();
        loop {
            let topology = map.borrow_and_update().topology.clone();
            if let Some(topology) = topology {
                let (new, gone) = self.change(|wanted| wanted.set_topology(&topology));
                for server in gone {
                    self.work().remove(&server);
                    if let Some(ending) = links.remove(&server) {
                        ending.cancel();
                    }
                }
                for server in new {
                    let (work, ending) = (Arc::new(Notify::new()), CancellationToken::new());
                    self.work().insert(server.clone(), Arc::clone(&work));
                    links.insert(server.clone(), ending.clone());
                    let link = Link { shared: Arc::clone(&self), server, work };
                    self.servers.spawn(async move {
                        ending.run_until_cancelled(link.run()).await;
                    });
                }
            }
            if map.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Messages as commands.
struct Publish<'m> {
    shared: &'m Shared,
    messages: &'m [(Topic, Bytes)],
}

impl Routed for Publish<'_> {
    fn count(&self) -> usize {
        self.messages.len()
    }

    fn key(&self, at: usize) -> Vec<u8> {
        self.shared.channel(&self.messages[at].0)
    }

    fn write(&self, at: usize, commands: &mut Command) {
        let (topic, bytes) = &self.messages[at];
        commands.begin("SPUBLISH", 3);
        commands.word_of(&self.shared.prefix, &topic.key());
        commands.word(bytes);
    }
}

#[async_trait]
impl Live for RedisLive {
    async fn subscribe(&self, topics: Vec<Topic>) -> Result<(), LiveError> {
        let shared = &self.0;
        let broken = || LiveError::Broken("the link is being made".into());
        if topics.is_empty() {
            return Ok(());
        }
        let ticket = shared.change(|wanted| wanted.want(&topics)).ok_or_else(broken);
        drop(topics);
        loop {
            if shared.servers.is_closed() {
                return Err(LiveError::Closed);
            }
            let ticket = ticket.as_ref().map_err(LiveError::clone)?;
            let progress = shared.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            let standing = shared.wanted().standing(ticket);
            match standing {
                Standing::Done => return Ok(()),
                Standing::Broken => return Err(LiveError::Broken("the link broke".into())),
                Standing::Waiting => progress.await,
            }
        }
    }

    fn unsubscribe(&self, topics: &[Topic]) {
        self.0.change(|wanted| wanted.leave(topics));
    }

    async fn publish(&self, messages: Vec<(Topic, Bytes)>) -> Result<(), LiveError> {
        check_sizes(&messages)?;
        let shared = &self.0;
        let answers = shared.servers.ask(&Publish { shared, messages: &messages }).await;
        shared.counts.published.add(messages.len() as u64);
        shared.counts.published_bytes.add(messages.iter().map(|(_, bytes)| bytes.len() as u64).sum());
        let failure = answers.into_iter().find_map(|answer| match answer {
            Ok(Reply::Integer(_)) => None,
            Ok(Reply::Error(text)) => Some(LiveError::Broken(text)),
            Ok(_) => Some(LiveError::Broken("the server does not know how to publish".into())),
            Err(CallError::Closed) => Some(LiveError::Closed),
            Err(CallError::Broken(text)) => Some(LiveError::Broken(text)),
        });
        shared.counts.publish_failures.add(u64::from(failure.is_some()));
        failure.map_or(Ok(()), Err)
    }

    fn barrier(&self, token: u64) {
        self.0.change(|wanted| wanted.barrier(token));
    }

    fn figures(&self) -> Vec<(&'static str, f64)> {
        let counts = &self.0.counts;
        vec![
            ("live_published", counts.published.get()),
            ("live_published_bytes", counts.published_bytes.get()),
            ("live_publish_failures", counts.publish_failures.get()),
            ("live_heard", counts.heard.get()),
            ("live_heard_bytes", counts.heard_bytes.get()),
            ("live_connections", counts.connections.get()),
            ("live_broken", counts.broken.get()),
            ("live_topics", self.0.wanted().len() as f64),
            ("live_queue", self.0.inlet.depth() as f64),
        ]
    }

    async fn close(&self) {
        self.0.inlet.close();
        self.0.servers.close().await;
        self.0.progress.notify_waiters();
    }
}
