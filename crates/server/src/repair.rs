//! Reads from the store what did not come to the hub by itself: once for all who are here, and delivered as if it had.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tertulia_domain::backoff::Backoff;
use tertulia_domain::hub::{Committed, Hole, Hub};
use tertulia_domain::log::Outcome;
use tertulia_fabric::live::Topic;
use tertulia_protocol::{ConvoId, EntryKind, UserId};
use tertulia_store::{Store, StoreError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::Random;
use crate::cluster::Topics;
use crate::lane::Batches;
use crate::retry::Retry;

/// How long what comes from another node may be late before it is read.
const PATIENCE: Duration = Duration::from_millis(25);
/// How long to wait for what this node itself has at the store: mostly it fills the hole, and whoever sent it has his ack for
/// it, not the message.
const OWN_MAX: Duration = Duration::from_secs(1);
/// How many entries one read takes.
const PAGE: u64 = 200;
/// When a read that failed is tried again.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// Who repairs a hub.
pub struct Repairer {
    /// What the hub tells its readers.
    pub hub: Arc<Hub>,
    /// Where the logs are.
    pub store: Arc<dyn Store>,
    /// Told when there is a hole.
    pub wanted: Arc<Notify>,
    /// What this node itself is about to hand to the hub.
    pub own: Arc<Batches>,
    /// What the node hears of, where other nodes append.
    pub topics: Option<Topics>,
    /// Chance.
    pub random: Random,
}

impl Repairer {
    /// Repairs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.run_for_ever()).await;
    }

    async fn run_for_ever(self) {
        loop {
            self.wanted.notified().await;
            let mut retry = Retry::new(BACKOFF, self.random.clone());
            while self.hub.needs_repair() {
                let wait = match self.repair_all().await {
                    Ok(()) => {
                        retry.succeeded();
                        self.random.jitter(PATIENCE)
                    }
                    Err(error) => {
                        let wait = retry.failed(Duration::ZERO);
                        if retry.is_first() {
                            tracing::warn!(%error, "what did not come here could not be read; trying again");
                        } else {
                            tracing::debug!(%error, "what did not come here could still not be read");
                        }
                        wait
                    }
                };
                tokio::time::sleep(wait).await;
            }
        }
    }

    /// What cannot be read in one part of the store holds up nothing of the others.
    async fn repair_all(&self) -> Result<(), StoreError> {
        let mut done = self.hear().await;
        // Of a part that does not answer nothing more is asked in this round.
        let mut away = HashSet::new();
        // An append that hangs is not waited for: what others have sent behind it is due.
        let _ = tokio::time::timeout(OWN_MAX, self.own.all_that_began()).await;
        for hole in self.hub.overdue() {
            let part = self.store.part_of(hole.convo);
            if !away.contains(&part)
                && let Err(error) = self.fill(hole).await
            {
                away.insert(part);
                done = Err(error);
            }
        }
        for (user, convo) in self.hub.doubts() {
            let part = self.store.part_of(convo);
            if !away.contains(&part)
                && let Err(error) = self.resolve(user, convo).await
            {
                away.insert(part);
                done = Err(error);
            }
        }
        done
    }

    /// Subscribes to conversations that have come here; what was told of them before is read.
    async fn hear(&self) -> Result<(), StoreError> {
        let convos = self.hub.take_unheard();
        let Some(topics) = self.topics.as_ref().filter(|_| !convos.is_empty()) else { return Ok(()) };
        topics.hear(convos.iter().map(|convo| Topic::Conversation(*convo)).collect()).await;
        let mut done = Ok(());
        for convo in convos {
            let Some(next) = self.hub.next(convo) else { continue };
            match self.store.entries(convo, next, 1).await {
                Ok(found) => {
                    if let Some((entry, _)) = found.first() {
                        self.hub.has_come_to(convo, entry.seq);
                    }
                    self.hub.lacks_news(convo, None);
                }
                Err(error) => {
                    self.hub.put_unheard([convo]);
                    done = Err(error);
                }
            }
        }
        done
    }

    /// Asks the store whether somebody is in a conversation.
    async fn resolve(&self, user: UserId, convo: ConvoId) -> Result<(), StoreError> {
        let position = self.hub.position();
        if self.store.conversation(user, convo).await?.is_some() {
            self.hub.resolve(user, convo, true);
        } else if self.store.changes(user, position, Some(convo)).await?.is_empty() {
            self.hub.resolve(user, convo, false);
        }
        Ok(())
    }

    async fn fill(&self, Hole { convo, from, last }: Hole) -> Result<(), StoreError> {
        let missing = (last.get() + 1).saturating_sub(from.get());
        let limit = usize::try_from(missing.min(PAGE)).unwrap_or(usize::MAX);
        let entries = self.store.entries(convo, from, limit).await?;
        let shared_since = entries
            .iter()
            .find(|(entry, _)| {
                matches!(entry.kind, EntryKind::Renamed { .. } | EntryKind::SettingsChanged { .. })
            })
            .map(|(_, commit)| *commit);
        for (entry, _) in entries {
            let outcome = Outcome::Appended { entry, shared: None };
            self.hub.deliver([Committed { outcome: &outcome, origin: None, shows_read: true }]);
        }
        if shared_since.is_some() {
            self.hub.lacks_news(convo, shared_since);
        }
        Ok(())
    }
}
