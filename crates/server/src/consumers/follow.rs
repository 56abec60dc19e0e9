//! Tells a consumer what comes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tertulia_feed::{Came, Place, Reader};
use tertulia_store::leases::Lease;

use super::backfill::Logs;
use super::catch_up::NEW_MAX;
use super::cursor::Cursor;
use super::parts::{Parts, Stopped, insist};
use super::progress::Waiting;
use super::read::{self, Batch, pages};

/// How often to look whether something has come; what came meanwhile is taken at once, for a large batch costs less.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(400);
/// How often to look at what somebody has asked to be tried again.
const LETTERS_EVERY: Duration = Duration::from_secs(2);
/// How often what was taken is synced, and the feed may forget it.
const SYNC_EVERY: Duration = Duration::from_secs(60);

/// Tells one consumer; [`run`](Self::run) it.
pub(super) struct Follower {
    pub(super) parts: Parts,
    /// Where the consumer is, alone; or how far the logs are read, together, while this node reads them.
    pub(super) cursor: Cursor,
    /// As it is stored.
    pub(super) stored: Option<String>,
    /// Logs that are to be told still.
    pub(super) logs: Option<Logs>,
    /// By which this node reads them for all.
    pub(super) lease: Option<Lease>,
    /// When to look again whether somebody should.
    pub(super) look_at: Duration,
    /// Until when the feed may say that the consumer is new.
    pub(super) new_until: Duration,
    reader: Box<dyn Reader>,
    /// Up to there all is taken.
    taken: Place,
    let_go: Place,
}

impl Follower {
    /// Tells until it is stopped.
    pub(super) async fn run(parts: Parts) {
        let (name, consumer) = (parts.consumer.name(), Arc::clone(&parts.consumer));
        if let Ok(mut follower) = Self::begin(parts).await {
            let Err(Stopped) = follower.follow().await;
            // What is not synced is told again.
            let _ = consumer.sync().await;
            follower.leave().await;
        }
        tracing::debug!(consumer = name, "stopped");
    }

    /// Finds out where the consumer is.
    async fn begin(parts: Parts) -> Result<Self, Stopped> {
        let together = parts.sources.feed.keeps_places();
        let stored = insist!(parts, "read its cursor", parts.consumer.cursor().await);
        let cursor = stored.as_deref().and_then(Cursor::parse).unwrap_or_default();
        let (feed, name) = (&parts.sources.feed, parts.consumer.name());
        let reader = insist!(parts, "begin to follow", feed.follow(name, cursor.since.as_deref()).await);
        let mut follower = Self {
            cursor,
            stored,
            logs: None,
            lease: None,
            look_at: parts.clock.monotonic(),
            new_until: parts.clock.monotonic() + NEW_MAX,
            reader,
            taken: Place::default(),
            let_go: Place::default(),
            parts,
        };
        if !together && follower.cursor.backfill.is_some() {
            follower.open_logs().await?;
        }
        follower.count_letters().await;
        Ok(follower)
    }

    async fn follow(&mut self) -> Result<Infallible, Stopped> {
        let now = self.parts.clock.monotonic();
        let (mut letters_at, mut synced_at) = (now, now);
        loop {
            let more = self.take_what_came().await?;
            let begun = self.parts.clock.monotonic();
            self.catch_up().await?;
            let now = self.parts.clock.monotonic();
            if now.saturating_sub(letters_at) >= LETTERS_EVERY {
                letters_at = now;
                self.try_letters_again().await?;
            }
            if now.saturating_sub(synced_at) >= SYNC_EVERY && self.taken != self.let_go {
                synced_at = now;
                self.let_go().await?;
            }
            match (&self.logs, more) {
                (_, true) => {}
                // As long again as it took: there are others who need the machine.
                (Some(_), false) => self.parts.pause(now.saturating_sub(begun).min(LOOK_EVERY)).await?,
                (None, false) => self.parts.pause(LOOK_EVERY).await?,
            }
        }
    }

    /// Takes what has come; says whether there is more already.
    async fn take_what_came(&mut self) -> Result<bool, Stopped> {
        let news = insist!(self.parts, "read what came", self.reader.next().await);
        if news.missed {
            self.begin_anew(&news.place).await?;
        }
        let mut waiting = Waiting::new(self.reader.lag());
        for Came { partition, range } in &news.came {
            waiting.came(*partition, range.last.get() + 1 - range.first.get());
        }
        self.parts.progress.waits(&waiting);
        let mut pages = news.came.iter().flat_map(pages).peekable();
        let mut batch = Batch::default();
        loop {
            let some = read::some(&mut pages);
            if some.is_empty() {
                break;
            }
            for (partition, entries) in self.read(some).await? {
                waiting.since(partition, entries.first().map(|entry| entry.ts));
                batch.extend(entries);
            }
            self.parts.progress.waits(&waiting);
            if batch.is_full(self.is_together()) {
                // The news are not done: their place is still the one before them.
                self.take(std::mem::take(&mut batch), None).await?;
            }
        }
        if news.place != self.taken {
            let cursor = self.cursor_at(&news.place);
            self.take(batch, cursor.as_deref()).await?;
            self.was_taken(&news.place).await?;
        }
        self.parts.progress.waits(&Waiting::new(self.reader.lag()));
        Ok(news.more)
    }

    /// The cursor that is stored with what was taken up to a place; none, where the feed keeps that.
    fn cursor_at(&mut self, place: &Place) -> Option<String> {
        self.cursor.since = Some(place.text()?.to_owned());
        Some(self.cursor.write())
    }

    /// Tells the feed that everything up to a place was taken.
    pub(super) async fn was_taken(&mut self, place: &Place) -> Result<(), Stopped> {
        if self.is_together() {
            // The feed does not tell it again.
            insist!(self.parts, "sync", self.parts.consumer.sync().await);
        }
        insist!(self.parts, "say what was taken", self.reader.taken(place).await);
        self.taken = place.clone();
        Ok(())
    }

    /// Syncs what was taken, and lets the feed forget it.
    async fn let_go(&mut self) -> Result<(), Stopped> {
        insist!(self.parts, "sync", self.parts.consumer.sync().await);
        insist!(self.parts, "let the feed forget", self.reader.let_go(&self.taken).await);
        self.let_go = self.taken.clone();
        Ok(())
    }

    async fn leave(self) {
        if let (Some(leases), Some(lease)) = (&self.parts.sources.leases, &self.lease) {
            // Else it ends by itself.
            let _ = leases.give_up(lease).await;
        }
        self.reader.leave().await;
    }

    /// Whether what the consumer has taken is all nodes'.
    pub(super) fn is_together(&self) -> bool {
        self.parts.sources.feed.keeps_places()
    }
}
