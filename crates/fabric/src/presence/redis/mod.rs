//! Presence and nodes over Redis: a lease each node, and what it sees of its users under that (`layout`).
//!
//! **What it costs**, a node: twenty times a second at most, what has changed, in three commands for each of 64 shards at
//! most, whatever the number of users (ten thousand who come at once are some hundred commands); three times a lease two
//! commands and eight small ones to keep it. Asking for users costs two commands a node for one of them, and never more
//! than 65 a node.
//!
//! **When servers fail**: what the node announced is in its own memory (`view`), and is announced anew under a new lease
//! whenever a server may have forgotten it (`keeper`): a connection broke, the lease has run out, a shard is gone.

mod keeper;
mod layout;
mod view;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tertulia_protocol::UserId;
use tertulia_protocol::event::Presence as Status;
use tertulia_protocol::id::IdMap;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::keeper::Keeper;
use self::layout::{Commands, Layout, Lease, status};
use self::view::{View, shard_of};
use super::Presence;
use crate::nodes::{Description, NodeInfo, Nodes};
use crate::redis::{Reply, Servers, Target};
use crate::{ClusterError, NodeId};

/// How old what is known of the other nodes may be.
const KNOWN_FOR: Duration = Duration::from_secs(1);

/// How a node joins.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the servers are.
    pub target: Target,
    /// What all keys begin with. Clusters of Tertulia that share a server each have their own.
    pub prefix: String,
    /// How long a node that has died is still seen.
    pub lease: Duration,
}

impl Options {
    /// As it comes: the prefix `t:`, a lease of 10 s.
    pub fn new(target: Target) -> Self {
        Self { target, prefix: "t:".into(), lease: Duration::from_secs(10) }
    }
}

/// Presence and nodes over Redis.
pub struct RedisPresence {
    shared: Arc<Shared>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    id: NodeId,
    servers: Servers,
    layout: Layout,
    lives: Duration,
    view: Mutex<View>,
    description: Mutex<Description>,
    lease: Mutex<Option<Lease>>,
    /// Something was announced.
    announced: Notify,
    /// The description has changed.
    described: Notify,
    progress: watch::Sender<Progress>,
    others: tokio::sync::Mutex<Heard>,
    leaving: CancellationToken,
    commands: AtomicU64,
    leases: AtomicU64,
    /// While a test holds it, the node is as good as stopped.
    #[cfg(test)]
    gate: Arc<tokio::sync::Mutex<()>>,
}

/// How far the servers have been told.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// Of what was announced.
    told: u64,
    /// Times that they could not be.
    failures: u64,
}

/// The other nodes, by their leases.
type Others = Arc<Vec<(Lease, NodeInfo)>>;

/// What was last heard of the other nodes, and when. Also that nothing was: who asks a server that does not answer
/// waits, and not all who come meanwhile wait one after the other.
type Heard = Option<(Instant, Result<Others, ClusterError>)>;

impl RedisPresence {
    /// Begins to connect, and takes a lease as soon as it can; to be called within a runtime.
    pub fn start(id: NodeId, description: Description, options: Options) -> Self {
        let shared = Arc::new(Shared {
            id,
            servers: Servers::start(options.target),
            layout: Layout(options.prefix),
            lives: options.lease,
            view: Mutex::new(View::new()),
            description: Mutex::new(description),
            lease: Mutex::default(),
            announced: Notify::new(),
            described: Notify::new(),
            progress: watch::Sender::new(Progress::default()),
            others: tokio::sync::Mutex::default(),
            leaving: CancellationToken::new(),
            commands: AtomicU64::new(0),
            leases: AtomicU64::new(0),
            #[cfg(test)]
            gate: Arc::default(),
        });
        let keeper = tokio::spawn(Keeper::new(Arc::clone(&shared)).run());
        Self { shared, keeper: Mutex::new(Some(keeper)) }
    }
}

/// Without [`close`](Presence::close) the lease runs out by itself, as that of a process that was killed.
impl Drop for RedisPresence {
    fn drop(&mut self) {
        self.shared.servers.abandon();
        if let Some(keeper) = lock(&self.keeper).take() {
            keeper.abort();
        }
    }
}

/// A panic under a lock is a bug that was logged; what it guards is still worth more than nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn view(&self) -> MutexGuard<'_, View> {
        lock(&self.view)
    }

    fn description(&self) -> MutexGuard<'_, Description> {
        lock(&self.description)
    }

    /// Returns the lease before.
    fn set_lease(&self, lease: Lease) -> Option<Lease> {
        self.leases.fetch_add(1, Ordering::Relaxed);
        lock(&self.lease).replace(lease)
    }

    fn take_lease(&self) -> Option<Lease> {
        lock(&self.lease).take()
    }

    /// All that was announced up to this has been told.
    fn told(&self, announced: u64) {
        self.progress
            .send_if_modified(|progress| std::mem::replace(&mut progress.told, announced) < announced);
    }

    fn failed(&self) {
        self.progress.send_modify(|progress| progress.failures += 1);
    }

    /// The other nodes, as they were no longer ago than this.
    async fn others(&self, age_max: Duration) -> Result<Others, ClusterError> {
        if self.leaving.is_cancelled() {
            return Err(ClusterError::Closed);
        }
        // Whoever comes while somebody asks waits for his answer.
        let mut heard = self.others.lock().await;
        if let Some((at, others)) = &*heard
            && at.elapsed() < age_max
        {
            return others.clone();
        }
        let begun = Instant::now();
        let found = self.find_others().await;
        let at = if found.is_ok() { begun } else { Instant::now() };
        *heard = Some((at, found.as_ref().map(|(others, _)| Arc::clone(others)).map_err(Clone::clone)));
        drop(heard);
        let (others, over) = found?;
        for lease in over {
            // If it does not work, the next one who looks does it.
            drop(self.sweep(lease).await);
        }
        Ok(others)
    }

    /// The other nodes, and leases that are over.
    async fn find_others(&self) -> Result<(Others, Vec<Lease>), ClusterError> {
        let leases: Vec<Lease> = match self.ask(&self.layout.all()).await?.as_slice() {
            [Reply::List(members)] => members.iter().filter_map(Lease::from_member).collect(),
            _ => Vec::new(),
        };
        let about = self.ask(&self.layout.about(&leases)).await?;
        let (mut others, mut over) = (Vec::new(), Vec::new());
        for (lease, about) in leases.into_iter().zip(about) {
            match about {
                // What cannot be read is of a version that we do not know.
                Reply::Text(about) => others.extend(serde_json::from_slice(&about).map(|info| (lease, info))),
                _ => over.push(lease),
            }
        }
        others.retain(|(_, info): &(Lease, NodeInfo)| info.id != self.id);
        Ok((Arc::new(others), over))
    }
}

#[async_trait]
impl Presence for RedisPresence {
    fn announce(&self, changes: &[(UserId, Status)]) {
        self.shared.view().announce(changes);
        self.shared.announced.notify_one();
    }

    async fn told(&self) -> Result<(), ClusterError> {
        let shared = &self.shared;
        let mut progress = shared.progress.subscribe();
        let announced = shared.view().announced();
        let failures = progress.borrow_and_update().failures;
        shared.announced.notify_one();
        let settled = progress.wait_for(|now| now.told >= announced || now.failures > failures);
        let is_told = tokio::select! {
            settled = settled => settled.map_err(|_| ClusterError::Closed)?.told >= announced,
            () = shared.leaving.cancelled() => return Err(ClusterError::Closed),
        };
        if is_told { Ok(()) } else { Err(ClusterError::Unavailable("it will be tried again".into())) }
    }

    async fn ask(&self, users: &[UserId]) -> Result<Vec<Status>, ClusterError> {
        let own: Vec<Status> = {
            let view = self.shared.view();
            users.iter().map(|user| view.status(*user)).collect()
        };
        let elsewhere = self.elsewhere(users).await?;
        Ok(own.into_iter().zip(elsewhere).map(|(own, other)| own.most(other)).collect())
    }

    async fn elsewhere(&self, users: &[UserId]) -> Result<Vec<Status>, ClusterError> {
        let shared = &self.shared;
        let others = shared.others(KNOWN_FOR).await?;
        let mut shards: BTreeMap<usize, Vec<UserId>> = BTreeMap::new();
        for user in users {
            shards.entry(shard_of(*user)).or_default().push(*user);
        }
        let mut seen: IdMap<UserId, Status> = IdMap::default();
        let mut commands = Commands::default();
        for (lease, _) in others.iter() {
            shared.layout.ask(&mut commands, *lease, &shards);
        }
        let answers = shared.ask(&commands).await?;
        // For each lease whether it lives, and then its shards.
        for answers in answers.chunks_exact(1 + shards.len()) {
            let Some((Reply::Integer(1), answers)) = answers.split_first() else { continue };
            for (users, fields) in shards.values().zip(answers) {
                let Reply::List(fields) = fields else { continue };
                for (user, field) in users.iter().zip(fields) {
                    match status(field) {
                        Status::Offline => {}
                        there => {
                            seen.entry(*user).and_modify(|known| *known = known.most(there)).or_insert(there);
                        }
                    }
                }
            }
        }
        Ok(users.iter().map(|user| seen.get(user).copied().unwrap_or(Status::Offline)).collect())
    }

    fn figures(&self) -> Vec<(&'static str, f64)> {
        let shared = &self.shared;
        let progress = *shared.progress.borrow();
        vec![
            ("presence_users", shared.view().len() as f64),
            ("presence_commands", shared.commands.load(Ordering::Relaxed) as f64),
            ("presence_leases", shared.leases.load(Ordering::Relaxed) as f64),
            ("presence_failures", progress.failures as f64),
        ]
    }

    async fn close(&self) {
        self.shared.leaving.cancel();
        let keeper = lock(&self.keeper).take();
        if let Some(keeper) = keeper
            && let Err(error) = keeper.await
        {
            tracing::error!(%error, "the keeper of the lease ended badly");
        }
        self.shared.servers.close().await;
    }
}

#[async_trait]
impl Nodes for RedisPresence {
    fn id(&self) -> NodeId {
        self.shared.id
    }

    fn describe(&self, description: Description) {
        *self.shared.description() = description;
        self.shared.described.notify_one();
    }

    async fn nodes(&self) -> Result<Vec<NodeInfo>, ClusterError> {
        let others = self.shared.others(KNOWN_FOR).await?;
        let own = NodeInfo { id: self.shared.id, description: self.shared.description().clone() };
        let mut nodes: Vec<NodeInfo> = others.iter().map(|(_, info)| info.clone()).chain([own]).collect();
        nodes.sort_by_key(|info| info.id);
        // A node that has taken a new lease may have the old one for a moment.
        nodes.dedup_by_key(|info| info.id);
        Ok(nodes)
    }
}
