//! Dead letters that somebody asks to be tried again.

use super::follow::Follower;
use super::parts::{Stopped, insist};
use super::read::{Batch, Page};

/// Letters that are tried again at once.
const LETTERS_MAX: usize = 100;
/// They come from no partition.
const PARTITION: i32 = -1;

impl Follower {
    /// Tries again what somebody has asked for.
    pub(super) async fn try_letters_again(&mut self) -> Result<(), Stopped> {
        let name = self.parts.consumer.name();
        let letters = &self.parts.sources.letters;
        let asked = insist!(self.parts, "read the dead letters", letters.asked(name, LETTERS_MAX).await);
        for letter in asked {
            let page = Page { partition: PARTITION, convo: letter.convo, first: letter.seq, count: 1 };
            let read = self.read_page(page).await?;
            // What could not be read is laid down again, and no longer asked for.
            let Some(entry) = read.into_iter().next() else { continue };
            self.take(Batch::of(vec![entry]), None).await?;
            let letters = &self.parts.sources.letters;
            insist!(self.parts, "remove a dead letter", letters.remove(letter.id).await);
        }
        self.count_letters().await;
        Ok(())
    }

    pub(super) async fn count_letters(&self) {
        if let Ok(count) = self.parts.sources.letters.count(self.parts.consumer.name()).await {
            self.parts.progress.set_dead_letters(count);
        }
    }
}
