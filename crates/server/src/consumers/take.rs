//! Has a consumer take a batch. What it can never take is found, and laid with the dead letters; the rest is taken.

use std::sync::Arc;

use tertulia_protocol::{ConvoId, Entry, Seq};

use super::ConsumeError;
use super::follow::{Follower, LOOK_EVERY};
use super::parts::{Stopped, insist};
use super::read::Batch;

impl Follower {
    /// Has the consumer take a batch, and the cursor with it; without one its cursor stays.
    pub(super) async fn take(&mut self, batch: Batch, cursor: Option<&str>) -> Result<(), Stopped> {
        if batch.entries.is_empty() && cursor.is_none() {
            return Ok(());
        }
        if let Err(why) = self.offer(batch.entries.clone(), cursor).await? {
            self.sift(batch.entries, why).await?;
            // Until here a crash would have it hear the whole batch again.
            while cursor.is_some()
                && let Err(why) = self.offer(Vec::new(), cursor).await?
            {
                tracing::error!(consumer = self.parts.consumer.name(), why, "does not take its cursor");
                self.parts.progress.failed();
                self.parts.pause(LOOK_EVERY).await?;
            }
        }
        if let Some(cursor) = cursor {
            self.stored = Some(cursor.to_owned());
        }
        Ok(())
    }

    /// Offers entries; the inner error says why they can never be taken.
    async fn offer(
        &self,
        entries: Vec<Arc<Entry>>,
        cursor: Option<&str>,
    ) -> Result<Result<(), String>, Stopped> {
        let taken = insist!(
            self.parts,
            "take what came",
            match self.parts.consumer.take(entries.clone(), cursor).await {
                Err(ConsumeError::Never(why)) => Ok(Err(why)),
                taken => taken.map(Ok),
            }
        );
        if taken.is_ok() {
            self.parts.progress.took(entries.len());
        }
        Ok(taken)
    }

    /// Has those of a refused batch taken that can be; the cursor stays.
    async fn sift(&self, entries: Vec<Arc<Entry>>, why: String) -> Result<(), Stopped> {
        let mut left = vec![entries];
        let mut refused = Some(why);
        while let Some(mut entries) = left.pop() {
            let why = match refused.take() {
                // The first one was offered already.
                Some(why) => Err(why),
                None => self.offer(entries.clone(), None).await?,
            };
            let Err(why) = why else { continue };
            match entries.as_slice() {
                [] => {}
                [one] => self.lay_down(one.convo_id, one.seq, &why).await?,
                _ => {
                    // The first half goes first: of a conversation nothing is taken out of its order.
                    let second = entries.split_off(entries.len() / 2);
                    left.extend([second, entries]);
                }
            }
        }
        Ok(())
    }

    /// Lays an entry with the dead letters.
    pub(super) async fn lay_down(&self, convo: ConvoId, seq: Seq, why: &str) -> Result<(), Stopped> {
        let name = self.parts.consumer.name();
        tracing::error!(consumer = name, %convo, %seq, why, "cannot take an entry; it is with the dead letters");
        let now = self.parts.clock.now();
        let letters = &self.parts.sources.letters;
        insist!(self.parts, "write a dead letter", letters.put(name, convo, seq, why, now).await);
        self.count_letters().await;
        Ok(())
    }
}
