//! Tells a consumer what is in the logs already: one that is new, and one that has missed something.
//!
//! Where all nodes share what was taken, one of them reads the logs, by a lease; the others look from time to time whether
//! there is something to do, and nobody who does it. How far it is is the consumer's cursor, which is moved only by who
//! knows where it was: so a node that was paused, and holds the lease no longer, moves it no more.

use std::time::Duration;

use tertulia_feed::Place;
use tertulia_store::leases::Lease;

use super::backfill::Logs;
use super::cursor::{Backfill, Cursor};
use super::follow::Follower;
use super::parts::{Stopped, insist};
use super::read::{Batch, WHOLE_AT_ONCE};

/// How long a node reads the logs for all without saying that it still does.
const LEASE: Duration = Duration::from_secs(30);
/// How often the others look whether somebody should.
const WORK_EVERY: Duration = Duration::from_secs(5);
/// How long the feed has time to say that a consumer is new. If it says nothing, it has told others who called themselves
/// the same, and what they had taken is gone.
pub(super) const NEW_MAX: Duration = Duration::from_secs(30);

impl Follower {
    /// Something was missed before a place in the feed: the logs have it.
    pub(super) async fn begin_anew(&mut self, place: &Place) -> Result<(), Stopped> {
        if self.is_together() {
            return self.ask_for_the_logs().await;
        }
        let name = self.parts.consumer.name();
        if self.stored.is_some() {
            tracing::warn!(
                consumer = name,
                "it is not known what came since it was here: it begins anew with the logs"
            );
        }
        insist!(self.parts, "begin anew", self.parts.consumer.reset().await);
        let since = place.text().map(str::to_owned);
        self.cursor = Cursor { since, ..Cursor::anew(0) };
        let cursor = self.cursor.write();
        self.take(Batch::default(), Some(&cursor)).await?;
        self.open_logs().await
    }

    /// Has whichever node read the logs, from their beginning. What was taken of them before stays: it is taken again.
    async fn ask_for_the_logs(&mut self) -> Result<(), Stopped> {
        loop {
            let consumer = &self.parts.consumer;
            let stored = insist!(self.parts, "read its cursor", consumer.cursor().await);
            let round =
                stored.as_deref().map_or(1, |stored| Cursor::parse(stored).unwrap_or_default().round + 1);
            let anew = Cursor::anew(round).write();
            if !insist!(self.parts, "begin anew", consumer.move_cursor(stored.as_deref(), &anew).await) {
                continue;
            }
            if stored.is_some() {
                tracing::warn!(
                    consumer = consumer.name(),
                    round,
                    "the feed may not have told everything: one node reads the logs again"
                );
            } else {
                tracing::info!(
                    consumer = consumer.name(),
                    "it is new here, and nothing is wrong: one node reads what is in the logs, once"
                );
            }
            break;
        }
        self.look_at = self.parts.clock.monotonic();
        self.logs = None;
        Ok(())
    }

    /// Takes a part of what is in the logs, if there is something to be taken, and this node is the one.
    pub(super) async fn catch_up(&mut self) -> Result<(), Stopped> {
        if self.is_together() {
            self.see_who_reads().await?;
        }
        self.take_from_logs().await
    }

    async fn see_who_reads(&mut self) -> Result<(), Stopped> {
        let Some(leases) = self.parts.sources.leases.clone() else { return Ok(()) };
        let now = self.parts.clock.monotonic();
        if now < self.look_at {
            return Ok(());
        }
        self.look_at = now + WORK_EVERY;
        if let (Some(lease), true) = (&self.lease, self.logs.is_some()) {
            if !insist!(self.parts, "go on with the logs", leases.keep(lease, None).await) {
                self.stop_reading().await;
            }
            return Ok(());
        }
        let consumer = &self.parts.consumer;
        let stored = insist!(self.parts, "read its cursor", consumer.cursor().await);
        let is_done = |stored: Option<&str>| {
            stored.and_then(Cursor::parse).is_some_and(|cursor| cursor.backfill.is_none())
        };
        if stored.is_none() && now < self.new_until {
            // The feed will say that the consumer is new. What would be read before that would be read again.
            return Ok(());
        }
        if is_done(stored.as_deref()) {
            self.parts.progress.set_backfill(self.parts.progress.backfill().0, 0);
            return self.give_up().await;
        }
        if self.lease.is_none() {
            let name = format!("logs of {}", consumer.name());
            self.lease = insist!(self.parts, "ask who reads the logs", leases.take(&name, LEASE).await);
        }
        if self.lease.is_some() {
            self.begin_reading().await?;
        }
        Ok(())
    }

    /// Goes on with the logs where whoever read them before has stopped.
    async fn begin_reading(&mut self) -> Result<(), Stopped> {
        let consumer = &self.parts.consumer;
        let mut stored = insist!(self.parts, "read its cursor", consumer.cursor().await);
        let known = stored.as_deref().and_then(Cursor::parse);
        self.cursor = match known {
            Some(cursor) => cursor,
            None => {
                // Nobody has begun, or by another form of cursor.
                insist!(self.parts, "begin anew", consumer.reset().await);
                let anew = Cursor::anew(1);
                let text = anew.write();
                if !insist!(self.parts, "begin anew", consumer.move_cursor(None, &text).await) {
                    return self.give_up().await;
                }
                stored = Some(text);
                anew
            }
        };
        self.stored = stored;
        if self.cursor.backfill.is_some() { self.open_logs().await } else { self.give_up().await }
    }

    async fn give_up(&mut self) -> Result<(), Stopped> {
        self.stop_reading().await;
        Ok(())
    }

    /// Leaves the logs to others.
    async fn stop_reading(&mut self) {
        self.logs = None;
        let lease: Option<Lease> = self.lease.take();
        if let (Some(leases), Some(lease)) = (&self.parts.sources.leases, lease) {
            // Else it ends by itself.
            let _ = leases.give_up(&lease).await;
        }
    }

    pub(super) async fn open_logs(&mut self) -> Result<(), Stopped> {
        let from = self.cursor.backfill.unwrap_or(Backfill::BEGIN);
        let store = self.parts.sources.store.as_ref();
        let (logs, done, left) = insist!(self.parts, "count the logs", Logs::open(store, from).await);
        self.parts.progress.set_backfill(done, left);
        if left > 0 {
            tracing::info!(
                consumer = self.parts.consumer.name(),
                entries = left,
                "reads what is in the logs already"
            );
        }
        self.logs = Some(logs);
        Ok(())
    }

    /// Takes a batch of what was in the logs already.
    async fn take_from_logs(&mut self) -> Result<(), Stopped> {
        let Some(mut logs) = self.logs.take() else { return Ok(()) };
        let mut batch = Batch::default();
        while !batch.is_full(self.is_together()) {
            let store = self.parts.sources.store.as_ref();
            let pages = insist!(self.parts, "read the logs", logs.next(store, WHOLE_AT_ONCE).await);
            if pages.is_empty() {
                break;
            }
            for (_, entries) in self.read(pages).await? {
                batch.extend(entries);
            }
        }
        let place = logs.place();
        self.cursor.backfill = place;
        self.parts.progress.backfilled(batch.entries.len() as u64);
        let cursor = self.cursor.write();
        if self.is_together() {
            self.take(batch, None).await?;
            let from = self.stored.replace(cursor.clone());
            let consumer = &self.parts.consumer;
            if !insist!(self.parts, "move its cursor", consumer.move_cursor(from.as_deref(), &cursor).await) {
                // Somebody else does it, or has asked for the logs anew.
                self.stop_reading().await;
                return Ok(());
            }
        } else {
            self.take(batch, Some(&cursor)).await?;
        }
        if place.is_some() {
            self.logs = Some(logs);
            return Ok(());
        }
        self.parts.progress.set_backfill(self.parts.progress.backfill().0, 0);
        tracing::info!(consumer = self.parts.consumer.name(), "has read what was in the logs");
        self.stop_reading().await;
        Ok(())
    }
}
