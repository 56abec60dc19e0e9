//! The port, answered.

use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::Connection;
use tertulia_domain::log::{Change, Commit, Head, HistorySlice, Intent, Missed, Position};
use tertulia_protocol::rest::Conversation;
use tertulia_protocol::{ConvoId, Seq, Timestamp, UserId};
use tokio::sync::oneshot;

use super::journal::Journal;
use super::newest::NewestCache;
use super::readers::Readers;
use super::reads::history::Read;
use super::reads::{changes, conversation, feed, heads, history, inbox, members, receipts, sharing};
use super::settled;
use super::settler::Progress;
use super::sqlite::FolderLock;
use super::tail::{Stretch, Tail};
use crate::cursor::{InboxCursor, MembersCursor};
use crate::positions::Epochs;
use crate::queue::{Call, Queue};
use crate::{
    Batch, InboxPage, JournalRow, Leftover, Logged, MemberPage, ReceiptPage, Slice, Store, StoreError,
};

/// The store of one process, in a folder: see the [module](super).
///
/// Dropped without [`close`](Store::close) it stops where it is, as by a crash: nothing that was acked is lost,
/// and the next opening settles what is left.
pub struct Embedded {
    pub(super) dir: PathBuf,
    pub(super) queue: Arc<Queue>,
    pub(super) tail: Arc<Tail>,
    pub(super) progress: Arc<Progress>,
    pub(super) epochs: Epochs,
    pub(super) readers: Readers,
    pub(super) newest: Arc<NewestCache>,
    pub(super) batches: Arc<AtomicU64>,
    pub(super) journal_bytes: Arc<AtomicU64>,
    /// `None` once it is closed.
    pub(super) threads: Mutex<Option<Threads>>,
}

/// The threads, and the lock that they work under.
pub(super) struct Threads {
    pub(super) writer: JoinHandle<Journal>,
    pub(super) settler: JoinHandle<()>,
    pub(super) lock: FolderLock,
}

impl Embedded {
    fn take_threads(&self) -> Option<Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Embedded {
    /// Waits until it is settled who is where, as it is visible now; and all else if that is not much.
    async fn members_settled(&self) -> Result<(), StoreError> {
        if self.tail.is_short() {
            return self.tail.all_settled().await;
        }
        self.tail.members_settled().await
    }

    /// Waits until everything of a user's conversations that is visible now is settled.
    async fn settled_of(&self, user: UserId) -> Result<(), StoreError> {
        if self.tail.is_short() {
            return self.tail.all_settled().await;
        }
        self.tail.members_settled().await?;
        let convos = self.readers.read(move |db| heads::convos(db, user)).await?;
        self.tail.convos_settled(convos).await
    }

    /// A stretch of a log as a user may see it, or without a user all of it.
    async fn read_log(
        &self,
        user: Option<UserId>,
        convo: ConvoId,
        mut stretch: Stretch,
        limit: usize,
    ) -> Result<Option<HistorySlice>, StoreError> {
        loop {
            // The order matters. What the tail shows now is filtered by who is a member later: a removal that comes
            // in between hides more, and nothing that is sequenced after it is in what was found before.
            let found = self.tail.find(convo, stretch, limit);
            if found.is_joining {
                self.tail.convos_settled([convo]).await?;
            }
            let read = move |db: &Connection| history::read(db, user, convo, stretch, limit, &found);
            match self.readers.read(read).await? {
                Read::Page(page) => return Ok(page),
                // Mostly once: it takes another removal and coming back to begin later still.
                Read::BeginsAt(first) => stretch = Stretch::From(first),
            }
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        let Some(Threads { writer, settler, lock }) = self.take_threads() else { return };
        self.queue.abandon();
        self.tail.abandon();
        // Both end soon: after the commit, or the bite, that they are at. Only then may another open the folder.
        let panicked = (writer.join().is_err(), settler.join().is_err());
        drop(lock);
        if panicked != (false, false) {
            tracing::error!(?panicked, "the appender or the settler had panicked");
        }
    }
}

#[async_trait]
impl Store for Embedded {
    async fn append(&self, intents: Vec<Intent>, now: Timestamp) -> Result<Batch, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.queue.push(Call { intents, now, arrived: Instant::now(), answer }).await?;
        // Without an answer the writer is gone: it was closed meanwhile, or it has panicked.
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    fn lanes(&self) -> NonZeroUsize {
        NonZeroUsize::MIN
    }

    fn is_sole_writer(&self) -> bool {
        true
    }

    async fn horizon(&self) -> Result<Position, StoreError> {
        Ok(Position::before(self.tail.horizon()))
    }

    fn position(&self, position: Position) -> String {
        self.epochs.position(position.of_part(0))
    }

    async fn parse_position(&self, position: &str) -> Result<Option<Position>, StoreError> {
        Ok(self.epochs.parse(position, self.tail.horizon()).map(Position::before))
    }

    async fn history(
        &self,
        user: UserId,
        convo: ConvoId,
        slice: Slice,
        limit: usize,
    ) -> Result<Option<HistorySlice>, StoreError> {
        let stretch = match slice {
            Slice::Newest => Stretch::Before(Seq::MAX),
            Slice::After(seq) => Stretch::From(seq.next()),
            Slice::Before(seq) => Stretch::Before(seq),
        };
        self.read_log(Some(user), convo, stretch, limit).await
    }

    async fn entries(&self, convo: ConvoId, from: Seq, limit: usize) -> Result<Vec<Logged>, StoreError> {
        let page = self.read_log(None, convo, Stretch::From(from), limit).await?;
        Ok(page.map_or_else(Vec::new, |page| page.entries))
    }

    async fn conversation(&self, user: UserId, convo: ConvoId) -> Result<Option<Conversation>, StoreError> {
        self.tail.convos_settled([convo]).await?;
        self.readers.read(move |db| conversation::read(db, user, convo)).await
    }

    async fn inbox(&self, user: UserId, cursor: Option<&str>, limit: usize) -> Result<InboxPage, StoreError> {
        let cursor = cursor.map(InboxCursor::decode).transpose()?;
        self.settled_of(user).await?;
        self.readers.read(move |db| inbox::read(db, user, cursor, limit)).await
    }

    async fn members(
        &self,
        user: UserId,
        convo: ConvoId,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Option<MemberPage>, StoreError> {
        let cursor = cursor.map(MembersCursor::decode).transpose()?;
        self.tail.convos_settled([convo]).await?;
        self.readers.read(move |db| members::read(db, user, convo, cursor, limit)).await
    }

    async fn message_receipts(
        &self,
        user: UserId,
        convo: ConvoId,
        seq: Seq,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Option<ReceiptPage>, StoreError> {
        let cursor = cursor.map(MembersCursor::decode).transpose()?;
        self.tail.convos_settled([convo]).await?;
        self.readers.read(move |db| receipts::read(db, (user, convo, seq), cursor, limit)).await
    }

    async fn heads(&self, user: UserId) -> Result<Vec<Head>, StoreError> {
        self.settled_of(user).await?;
        self.readers.read(move |db| heads::read(db, user)).await
    }

    async fn changes(
        &self,
        user: UserId,
        since: Position,
        only: Option<ConvoId>,
    ) -> Result<Vec<Change>, StoreError> {
        match only {
            Some(convo) => self.tail.convos_settled([convo]).await?,
            None => self.settled_of(user).await?,
        }
        let newest = Arc::clone(&self.newest);
        self.readers.read(move |db| changes::read(db, &newest, user, since.of_part(0), only)).await
    }

    async fn missed(&self, user: UserId, since: Position, entries_max: usize) -> Result<Missed, StoreError> {
        self.settled_of(user).await?;
        let newest = Arc::clone(&self.newest);
        self.readers.read(move |db| changes::missed(db, &newest, user, since.of_part(0), entries_max)).await
    }

    async fn sharing(&self, user: UserId, others: &[UserId]) -> Result<Vec<UserId>, StoreError> {
        let others = others.to_vec();
        self.tail.members_settled().await?;
        self.readers.read(move |db| sharing::read(db, user, &others)).await
    }

    async fn visible_from(
        &self,
        user: UserId,
        only: Option<ConvoId>,
    ) -> Result<Vec<(ConvoId, Seq)>, StoreError> {
        self.members_settled().await?;
        self.readers.read(move |db| feed::visible_from(db, user, only)).await
    }

    async fn journal(&self, since: Position, limit: usize) -> Result<Option<Vec<JournalRow>>, StoreError> {
        self.readers.read(move |db| feed::journal(db, since.of_part(0), limit)).await
    }

    async fn forget_journal(&self, before: Position) -> Result<(), StoreError> {
        // The settler does it with its next bite: it alone writes the file.
        self.progress.set_passed(before.of_part(0));
        Ok(())
    }

    async fn logs(&self, after: Option<ConvoId>, limit: usize) -> Result<Vec<(ConvoId, Seq)>, StoreError> {
        self.tail.all_settled().await?;
        self.readers.read(move |db| feed::logs(db, after, limit)).await
    }

    async fn ceiling(&self) -> Result<Position, StoreError> {
        self.horizon().await
    }

    fn published(&self, _: usize, _: Commit) {}

    async fn barrier_horizon(&self) -> Result<Position, StoreError> {
        self.horizon().await
    }

    async fn unpublished(&self, _: Duration, _: usize) -> Result<Vec<Leftover>, StoreError> {
        Ok(Vec::new())
    }

    async fn take_over(&self, _: &[Leftover]) -> Result<(), StoreError> {
        Ok(())
    }

    fn figures(&self) -> Vec<(&'static str, f64)> {
        let bytes = |name: &str| {
            let of = |file: String| fs::metadata(self.dir.join(file)).map_or(0, |meta| meta.len());
            (of(name.to_owned()) + of(format!("{name}-wal"))) as f64
        };
        let (entries, records) = self.tail.unsettled();
        let newest = self.tail.horizon().get().saturating_sub(1);
        vec![
            ("store_journal_bytes", self.journal_bytes.load(Ordering::Relaxed) as f64),
            ("store_settled_bytes", bytes(settled::SCHEMA.file)),
            ("store_unsettled_entries", entries as f64),
            ("store_unsettled_records", records as f64),
            ("store_settle_lag_commits", newest.saturating_sub(self.tail.settled().get()) as f64),
            ("store_unsynced_commits", newest.saturating_sub(self.progress.synced().get()) as f64),
            ("store_append_queue_intents", self.queue.depth() as f64),
            ("store_batches", self.batches.load(Ordering::Relaxed) as f64),
        ]
    }

    async fn close(&self) {
        let Some(threads) = self.take_threads() else { return };
        self.queue.close();
        let (tail, progress) = (self.tail.clone(), self.progress.clone());
        // All of it on a thread that may block; it ends also if nobody waits for it any more.
        let closing = tokio::task::spawn_blocking(move || threads.finish(&tail, &progress));
        let lock = closing.await;
        // The last reader is gone before the lock is: whoever opens the folder next is alone.
        self.readers.close().await;
        drop(lock);
    }
}

impl Threads {
    /// Lets both threads finish their work, the queue's being closed; tidies up the files.
    fn finish(self, tail: &Tail, progress: &Progress) -> FolderLock {
        let Self { writer, settler, lock } = self;
        // First the writer: nothing comes into the tail after it.
        let journal = writer.join();
        tail.close();
        match (journal, settler.join()) {
            (Ok(mut journal), Ok(())) => {
                if let Err(error) = journal.finish(progress.synced()) {
                    tracing::warn!(%error, "the journal keeps what is settled; the next start removes it");
                }
            }
            (journal, settler) => {
                let panicked = (journal.is_err(), settler.is_err());
                tracing::error!(?panicked, "the appender or the settler had panicked");
            }
        }
        lock
    }
}
