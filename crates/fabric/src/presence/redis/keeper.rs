//! Keeps a node's lease, and tells the servers what the node announces.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use super::layout::{Commands, Lease};
use super::view::SHARDS;
use crate::ClusterError;
use crate::backoff::{SERVER, STEADY, roll};
use crate::nodes::NodeInfo;
use crate::redis::{CallError, Reply};

/// How long changes gather after others were told: a node tells the servers of any number of them twenty times a second.
const GATHER: Duration = Duration::from_millis(50);
/// Users that are told of at once: an answer to 64 shards comes long before a call counts as lost.
const TELL_MAX: usize = 10_000;
/// Shards that are looked at with each renewal.
const SHARDS_KEPT: usize = 8;

pub(super) struct Keeper {
    shared: Arc<Shared>,
    /// Leases that have been replaced, and may still live.
    replaced: Vec<Lease>,
    /// The shard that is looked at next.
    next_shard: usize,
}

impl Keeper {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared, replaced: Vec::new(), next_shard: 0 }
    }

    /// Keeps a lease until the node leaves.
    pub(super) async fn run(mut self) {
        let mut failures: u32 = 0;
        loop {
            let begun = Instant::now();
            let leaving = self.shared.leaving.clone();
            let Some(reason) = leaving.run_until_cancelled(self.hold()).await else { break };
            failures = if begun.elapsed() >= STEADY { 1 } else { failures.saturating_add(1) };
            if failures == 1 {
                tracing::warn!(%reason, "what this node announced is announced anew");
            } else {
                tracing::debug!(%reason, failures, "what this node announced is still to be announced anew");
            }
            self.shared.failed();
            let wait = tokio::time::sleep(SERVER.wait(failures, roll()));
            if leaving.run_until_cancelled(wait).await.is_none() {
                break;
            }
        }
        self.replaced.extend(self.shared.take_lease());
        // Should it fail, the lease runs out.
        drop(self.sweep_replaced().await);
    }

    /// Takes a lease, announces everything, and keeps it so until the servers may have forgotten something.
    async fn hold(&mut self) -> ClusterError {
        match self.begin().await {
            Ok((lease, upheavals)) => self.keep(lease, upheavals).await,
            Err(reason) => reason,
        }
    }

    async fn begin(&mut self) -> Result<(Lease, u64), ClusterError> {
        let shared = Arc::clone(&self.shared);
        // All connections stand before anything is told, so that one that is made later says something.
        shared.servers.reach().await.map_err(unavailable)?;
        let upheavals = shared.servers.upheavals();
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| ClusterError::Unavailable(error.to_string()))?;
        let lease = Lease::new(random);
        self.replaced.extend(shared.set_lease(lease));
        expect_ok(&shared.ask(&shared.layout.take(lease, &self.about()?, shared.lives)).await?)?;
        shared.ask(&shared.layout.enlist(lease)).await?;
        shared.view().begin_anew();
        let mut renewed = Instant::now();
        while self.tell(lease).await? {
            if renewed.elapsed() > shared.lives / 3 {
                self.renew(lease).await?;
                renewed = Instant::now();
            }
        }
        if shared.servers.upheavals() != upheavals {
            return Err(ClusterError::Unavailable("a server was connected to meanwhile".into()));
        }
        // Only now, so that nobody seems to have gone in between.
        self.sweep_replaced().await?;
        Ok((lease, upheavals))
    }

    /// Returns why the lease is worth nothing any more.
    async fn keep(&mut self, lease: Lease, upheavals: u64) -> ClusterError {
        let shared = Arc::clone(&self.shared);
        let mut renew = tokio::time::interval(shared.lives / 3);
        // One who was away for long renews once.
        renew.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        renew.reset();
        let mut told = Instant::now();
        loop {
            let mut is_due = false;
            tokio::select! {
                biased;
                _ = renew.tick() => is_due = true,
                () = shared.described.notified() => is_due = true,
                () = shared.announced.notified() => tokio::time::sleep_until(told + GATHER).await,
            }
            #[cfg(test)]
            drop(shared.gate.lock().await);
            let done = async {
                while self.tell(lease).await? {}
                if is_due { self.renew(lease).await } else { Ok(()) }
            };
            if let Err(error) = done.await {
                return error;
            }
            told = Instant::now();
            if shared.servers.upheavals() != upheavals {
                return ClusterError::Unavailable("a connection was made anew".into());
            }
        }
    }

    /// Tells the servers of those who have changed, or of as many as go at once; returns whether there were more.
    async fn tell(&self, lease: Lease) -> Result<bool, ClusterError> {
        let shared = &self.shared;
        let (changes, announced) = {
            let mut view = shared.view();
            let changes = view.take(TELL_MAX);
            (changes, view.is_settled().then(|| view.announced()))
        };
        shared.ask(&shared.layout.tell(lease, &changes)).await?;
        shared.view().took(&changes);
        if let Some(announced) = announced {
            shared.told(announced);
        }
        Ok(announced.is_none())
    }

    async fn renew(&mut self, lease: Lease) -> Result<(), ClusterError> {
        let shared = Arc::clone(&self.shared);
        let shards: Vec<usize> = {
            let view = shared.view();
            let next = (0..SHARDS).map(|at| (self.next_shard + at) % SHARDS);
            next.filter(|shard| view.is_told(*shard)).take(SHARDS_KEPT).collect()
        };
        self.next_shard = shards.last().map_or(0, |last| last + 1);
        let answers = shared.ask(&shared.layout.renew(lease, &self.about()?, shared.lives, shards)).await?;
        let lost = |what: &str| Err(ClusterError::Unavailable(what.into()));
        match answers.as_slice() {
            [Reply::Text(_), _, shards @ ..] if shards.iter().all(|shard| *shard == Reply::Integer(1)) => {}
            [Reply::Null, ..] => return lost("the lease has run out"),
            _ => return lost("the servers have lost users of this node"),
        }
        // Whoever has died is swept away, though nobody may ask for him.
        shared.others(Duration::ZERO).await.map(drop)
    }

    async fn sweep_replaced(&mut self) -> Result<(), ClusterError> {
        while let Some(lease) = self.replaced.last().copied() {
            self.shared.sweep(lease).await?;
            self.replaced.pop();
        }
        Ok(())
    }

    fn about(&self) -> Result<Vec<u8>, ClusterError> {
        let info = NodeInfo { id: self.shared.id, description: self.shared.description().clone() };
        serde_json::to_vec(&info).map_err(|error| ClusterError::Unavailable(error.to_string()))
    }
}

fn expect_ok(answers: &[Reply]) -> Result<(), ClusterError> {
    match answers {
        [Reply::Text(_)] => Ok(()),
        _ => Err(ClusterError::Unavailable("the server does not take a lease".into())),
    }
}

impl Shared {
    /// Ends a lease that was given back, or has run out, and deletes what stands under it; one of the nodes that find it.
    pub(super) async fn sweep(&self, lease: Lease) -> Result<(), ClusterError> {
        if self.ask(&self.layout.strike(lease)).await? == [Reply::Integer(1)] {
            self.ask(&self.layout.sweep(lease)).await?;
        }
        Ok(())
    }

    /// Asks commands of which none may fail.
    pub(super) async fn ask(&self, commands: &Commands) -> Result<Vec<Reply>, ClusterError> {
        let answers = self.servers.ask(commands).await;
        self.commands.fetch_add(answers.len() as u64, Ordering::Relaxed);
        let answers = answers.into_iter().map(|answer| match answer {
            Ok(Reply::Error(text)) => Err(ClusterError::Unavailable(text)),
            Ok(reply) => Ok(reply),
            Err(error) => Err(unavailable(error)),
        });
        answers.collect()
    }
}

fn unavailable(error: CallError) -> ClusterError {
    match error {
        CallError::Closed => ClusterError::Closed,
        CallError::Broken(text) => ClusterError::Unavailable(text),
    }
}
