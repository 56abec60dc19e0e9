//! Tells a consumer what comes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tertulia_domain::log::Commit;
use tertulia_protocol::{ConvoId, Entry, EntryKind, Seq};
use tertulia_store::dead_letters::DeadLetters;
use tertulia_store::{JournalRow, Store, StoreError, Touched};
use tokio_util::sync::CancellationToken;

use super::backfill::Logs;
use super::backoff::Backoff;
use super::cursor::{Backfill, Cursor};
use super::progress::{Progress, Progresses};
use super::{ConsumeError, Consumer};
use crate::clock::{Clock, Random};

/// How often to look whether something has come; what came meanwhile is taken at once, for a large batch costs less.
const LOOK_EVERY: Duration = Duration::from_millis(400);
/// Rows of the journal that are read at once: some seconds of it.
const ROWS_MAX: usize = 64;
/// The most entries of a batch.
const BATCH_ENTRIES_MAX: usize = 20_000;
/// The most bytes of a batch, about.
const BATCH_BYTES_MAX: usize = 16 << 20;
/// Entries of a log that are read at once: each may have 64 KiB.
const PAGE_ENTRIES: usize = 100;
/// Logs that are read at one time; the store takes together what waits together.
const READS_AT_ONCE: usize = 16;
/// How often to look at what somebody has asked to be tried again.
const LETTERS_EVERY: Duration = Duration::from_secs(2);
/// Letters that are tried again at once.
const LETTERS_MAX: usize = 100;
/// How often what was taken is synced, and the journal may forget it.
const SYNC_EVERY: Duration = Duration::from_secs(60);

/// Does something until it succeeds; ends the function around it when the process goes down.
macro_rules! insist {
    ($parts:expr, $what:literal, $work:expr) => {{
        let mut patience = Patience::new(&$parts, $what);
        loop {
            if patience.parts.stop.is_cancelled() {
                return Err(Stopped);
            }
            match $work {
                Ok(done) => break done,
                Err(error) => patience.wait(error.into()).await?,
            }
        }
    }};
}

/// What a follower needs.
pub(super) struct Parts {
    /// Who is told.
    pub(super) consumer: Arc<dyn Consumer>,
    /// Where the logs are.
    pub(super) store: Arc<dyn Store>,
    /// Where that goes which can never be taken.
    pub(super) letters: Arc<DeadLetters>,
    /// What it shows.
    pub(super) progress: Arc<Progress>,
    /// What all consumers show.
    pub(super) all: Progresses,
    /// The time.
    pub(super) clock: Clock,
    /// Chance, for waits.
    pub(super) random: Random,
    /// When to stop.
    pub(super) stop: CancellationToken,
}

/// Tells one consumer; [`run`](Self::run) it.
pub(super) struct Follower {
    parts: Parts,
    cursor: Cursor,
    /// `cursor.since`, as the store counts.
    since: Commit,
    /// The cursor that the consumer has stored.
    stored: String,
    /// Logs that are to be told still.
    logs: Option<Logs>,
    synced: Commit,
}

/// The process is going down.
pub(super) struct Stopped;

impl Follower {
    /// Tells until it is stopped.
    pub(super) async fn run(parts: Parts) {
        let name = parts.consumer.name();
        if let Ok(mut follower) = Self::begin(parts).await {
            let Err(Stopped) = follower.follow().await;
            // What is not synced is told again.
            let _ = follower.parts.consumer.sync().await;
        }
        tracing::debug!(consumer = name, "stopped");
    }

    /// Finds out where the consumer is.
    async fn begin(parts: Parts) -> Result<Self, Stopped> {
        let mut follower = Self {
            parts,
            cursor: Cursor { since: String::new(), backfill: None },
            since: Commit::default(),
            stored: String::new(),
            logs: None,
            synced: Commit::default(),
        };
        let stored = insist!(follower.parts, "read its cursor", follower.parts.consumer.cursor().await);
        let cursor = stored.as_deref().and_then(Cursor::parse);
        // Of another data folder, or from before a restore: what it has taken may be what nobody said.
        let since = match &cursor {
            Some(cursor) => {
                let store = &follower.parts.store;
                insist!(follower.parts, "find its position", store.parse_position(&cursor.since).await)
            }
            None => None,
        };
        match (cursor, since) {
            (Some(cursor), Some(since)) => {
                (follower.stored, follower.cursor, follower.since) = (cursor.write(), cursor, since);
                if follower.cursor.backfill.is_some() {
                    follower.open_logs().await?;
                }
            }
            _ => follower.begin_anew(stored.is_some()).await?,
        }
        follower.count_letters().await;
        Ok(follower)
    }

    /// Has the consumer forget everything, and tells it all there is.
    async fn begin_anew(&mut self, knows_another: bool) -> Result<(), Stopped> {
        let name = self.parts.consumer.name();
        if knows_another {
            tracing::warn!(
                consumer = name,
                "it is not known what came since it was here: it begins anew with the logs"
            );
        }
        let Parts { store, consumer, .. } = &self.parts;
        let horizon = insist!(self.parts, "ask for the horizon", store.horizon().await);
        insist!(self.parts, "begin anew", consumer.reset().await);
        self.since = horizon;
        self.cursor = Cursor { since: self.parts.store.position(horizon), backfill: Some(Backfill::BEGIN) };
        self.take(Batch::default()).await?;
        self.open_logs().await
    }

    async fn open_logs(&mut self) -> Result<(), Stopped> {
        let from = self.cursor.backfill.unwrap_or(Backfill::BEGIN);
        let store = self.parts.store.as_ref();
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

    async fn follow(&mut self) -> Result<std::convert::Infallible, Stopped> {
        let now = self.parts.clock.monotonic();
        let (mut letters_at, mut synced_at) = (now, now);
        loop {
            let more = self.take_what_came().await?;
            let begun = self.parts.clock.monotonic();
            self.take_from_logs().await?;
            let now = self.parts.clock.monotonic();
            if now.saturating_sub(letters_at) >= LETTERS_EVERY {
                letters_at = now;
                self.try_letters_again().await?;
            }
            if now.saturating_sub(synced_at) >= SYNC_EVERY && self.since > self.synced {
                synced_at = now;
                self.let_go().await?;
            }
            match (&self.logs, more) {
                (_, true) => {}
                // As long again as it took: there are others who need the machine.
                (Some(_), false) => self.pause(now.saturating_sub(begun).min(LOOK_EVERY)).await?,
                (None, false) => self.pause(LOOK_EVERY).await?,
            }
        }
    }

    /// Takes what the journal has; says whether there is more already.
    async fn take_what_came(&mut self) -> Result<bool, Stopped> {
        let since = self.since;
        let rows = insist!(self.parts, "read the journal", self.parts.store.journal(since, ROWS_MAX).await);
        let Some(rows) = rows else {
            self.begin_anew(true).await?;
            return Ok(true);
        };
        let count = |range: &Touched| range.last.get() + 1 - range.first.get();
        let mut left: u64 = rows.iter().flat_map(|row| &row.ranges).map(count).sum();
        let more = rows.len() == ROWS_MAX;
        let mut batch = Batch::default();
        for JournalRow { commit, ranges, .. } in rows {
            let mut pages = ranges.iter().flat_map(pages).collect::<Vec<_>>().into_iter();
            loop {
                let some: Vec<_> = pages.by_ref().take(READS_AT_ONCE).collect();
                if some.is_empty() {
                    break;
                }
                batch.extend(self.read(some).await?);
                self.parts.progress.waits(left, batch.entries.first().map(|entry| entry.ts));
                if batch.is_full() {
                    left = left.saturating_sub(batch.entries.len() as u64);
                    // The row is not done: its place is still the one before it.
                    self.take(std::mem::take(&mut batch)).await?;
                }
            }
            self.since = commit.next();
        }
        if self.since > since {
            self.cursor.since = self.parts.store.position(self.since);
            self.take(batch).await?;
        }
        self.parts.progress.waits(0, None);
        Ok(more)
    }

    /// Takes a batch of what was in the logs already.
    async fn take_from_logs(&mut self) -> Result<(), Stopped> {
        let Some(mut logs) = self.logs.take() else { return Ok(()) };
        let mut batch = Batch::default();
        while !batch.is_full() {
            let store = self.parts.store.as_ref();
            let pages = insist!(self.parts, "read the logs", logs.next(store, READS_AT_ONCE).await);
            if pages.is_empty() {
                break;
            }
            batch.extend(self.read(pages).await?);
        }
        let place = logs.place();
        self.cursor.backfill = place;
        self.parts.progress.backfilled(batch.entries.len() as u64);
        self.take(batch).await?;
        match place {
            Some(_) => self.logs = Some(logs),
            None => {
                self.parts.progress.set_backfill(self.parts.progress.backfill().0, 0);
                tracing::info!(consumer = self.parts.consumer.name(), "has read what was in the logs");
            }
        }
        Ok(())
    }

    /// Reads pages of logs, in their order.
    async fn read(&self, pages: Vec<Page>) -> Result<Vec<Arc<Entry>>, Stopped> {
        let reads: Vec<_> = pages.into_iter().map(|page| self.read_page(page)).collect();
        let read = join_all(reads).await;
        let mut entries = Vec::new();
        for page in read {
            entries.extend(page?);
        }
        Ok(entries)
    }

    async fn read_page(&self, page: Page) -> Result<Vec<Arc<Entry>>, Stopped> {
        let read = insist!(
            self.parts,
            "read a log",
            match entries(self.parts.store.as_ref(), page).await {
                // Another try gives the same.
                Err(StoreError::Damaged(why)) => Ok(Err(why)),
                read => read.map(Ok),
            }
        );
        let Err(why) = read else { return Ok(read.unwrap_or_default()) };
        if page.count == 1 {
            self.lay_down(page.convo, page.first, &why).await?;
            return Ok(Vec::new());
        }
        // Somewhere in it: entry by entry.
        let mut read = Vec::new();
        for seq in page.first.get()..page.first.get() + page.count as u64 {
            let one = Page { first: Seq::new(seq), count: 1, ..page };
            read.extend(Box::pin(self.read_page(one)).await?);
        }
        Ok(read)
    }

    /// Has the consumer take a batch with the present cursor. What it can never take is found, and laid with the dead
    /// letters; the rest is taken.
    async fn take(&mut self, batch: Batch) -> Result<(), Stopped> {
        let cursor = self.cursor.write();
        if let Err(why) = self.offer(batch.entries.clone(), &cursor).await? {
            self.sift(batch.entries, why).await?;
            // Until here a crash would have it hear the whole batch again.
            while let Err(why) = self.offer(Vec::new(), &cursor).await? {
                tracing::error!(consumer = self.parts.consumer.name(), why, "does not take its cursor");
                self.parts.progress.failed();
                self.pause(LOOK_EVERY).await?;
            }
        }
        self.stored = cursor;
        Ok(())
    }

    /// Offers entries; the inner error says why they can never be taken.
    async fn offer(&self, entries: Vec<Arc<Entry>>, cursor: &str) -> Result<Result<(), String>, Stopped> {
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

    /// Has those of a refused batch taken that can be, with the cursor from before it.
    async fn sift(&self, entries: Vec<Arc<Entry>>, why: String) -> Result<(), Stopped> {
        let mut left = vec![entries];
        let mut refused = Some(why);
        while let Some(mut entries) = left.pop() {
            let why = match refused.take() {
                // The first one was offered already.
                Some(why) => Err(why),
                None => self.offer(entries.clone(), &self.stored).await?,
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
    async fn lay_down(&self, convo: ConvoId, seq: Seq, why: &str) -> Result<(), Stopped> {
        let name = self.parts.consumer.name();
        tracing::error!(consumer = name, %convo, %seq, why, "cannot take an entry; it is with the dead letters");
        let now = self.parts.clock.now();
        insist!(self.parts, "write a dead letter", {
            let why = why.to_owned();
            self.letters(move |letters| letters.put(name, convo, seq, &why, now)).await
        });
        self.count_letters().await;
        Ok(())
    }

    /// Tries again what somebody has asked for.
    async fn try_letters_again(&mut self) -> Result<(), Stopped> {
        let name = self.parts.consumer.name();
        let asked = insist!(
            self.parts,
            "read the dead letters",
            self.letters(move |letters| letters.asked(name, LETTERS_MAX)).await
        );
        for letter in asked {
            let page = Page { convo: letter.convo, first: letter.seq, count: 1 };
            let read = self.read_page(page).await?;
            // What could not be read is laid down again, and no longer asked for.
            let Some(entry) = read.into_iter().next() else { continue };
            self.take(Batch::of(vec![entry])).await?;
            let id = letter.id;
            insist!(
                self.parts,
                "remove a dead letter",
                self.letters(move |letters| {
                    // Laid down again meanwhile, it stays.
                    let waits = letters.asked(name, LETTERS_MAX)?.iter().any(|letter| letter.id == id);
                    if waits { letters.remove(id) } else { Ok(()) }
                })
                .await
            );
        }
        self.count_letters().await;
        Ok(())
    }

    async fn count_letters(&self) {
        let name = self.parts.consumer.name();
        if let Ok(count) = self.letters(move |letters| letters.count(name)).await {
            self.parts.progress.set_dead_letters(count);
        }
    }

    /// Does something with the dead letters, on a thread that may block.
    async fn letters<T: Send + 'static>(
        &self,
        work: impl FnOnce(&DeadLetters) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let letters = Arc::clone(&self.parts.letters);
        let done = tokio::task::spawn_blocking(move || work(&letters)).await;
        done.unwrap_or_else(|error| {
            Err(StoreError::Unavailable { reason: error.to_string(), retry_after: Duration::ZERO })
        })
    }

    /// Syncs what was taken, and lets the journal forget what all have passed.
    async fn let_go(&mut self) -> Result<(), Stopped> {
        let since = self.since;
        insist!(self.parts, "sync", self.parts.consumer.sync().await);
        let passed = self.parts.all.passed(&self.parts.progress, since);
        insist!(self.parts, "let the journal forget", self.parts.store.forget_journal(passed).await);
        self.synced = since;
        Ok(())
    }

    async fn pause(&self, wait: Duration) -> Result<(), Stopped> {
        self.parts.pause(wait).await
    }
}

impl Parts {
    async fn pause(&self, wait: Duration) -> Result<(), Stopped> {
        tokio::select! {
            () = tokio::time::sleep(wait) => Ok(()),
            () = self.stop.cancelled() => Err(Stopped),
        }
    }
}

/// Waits longer from try to try.
struct Patience<'a> {
    parts: &'a Parts,
    what: &'static str,
    backoff: Backoff,
}

impl<'a> Patience<'a> {
    fn new(parts: &'a Parts, what: &'static str) -> Self {
        Self { parts, what, backoff: Backoff::new(parts.random.clone()) }
    }

    /// Waits before something that failed is tried again.
    async fn wait(&mut self, error: ConsumeError) -> Result<(), Stopped> {
        let (why, least) = match error {
            ConsumeError::Closed => return Err(Stopped),
            ConsumeError::Again { why, retry_after } => (why, retry_after),
            ConsumeError::Never(why) => (why, Duration::from_secs(1)),
        };
        let wait = self.backoff.next(least);
        tracing::warn!(
            consumer = self.parts.consumer.name(),
            why,
            retry_ms = wait.as_millis(),
            "could not {}; nothing is lost, it is tried again",
            self.what
        );
        self.parts.progress.failed();
        self.parts.pause(wait).await
    }
}

/// A stretch of a log that is read at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    pub(super) convo: ConvoId,
    pub(super) first: Seq,
    pub(super) count: usize,
}

/// A stretch as pages.
pub(super) fn pages(range: &Touched) -> impl Iterator<Item = Page> + use<> {
    let Touched { convo, first, last } = *range;
    (first.get()..=last.get()).step_by(PAGE_ENTRIES).map(move |first| {
        let left = usize::try_from(last.get() + 1 - first).unwrap_or(PAGE_ENTRIES);
        Page { convo, first: Seq::new(first), count: left.min(PAGE_ENTRIES) }
    })
}

async fn entries(store: &dyn Store, page: Page) -> Result<Vec<Arc<Entry>>, StoreError> {
    let entries = store.entries(page.convo, page.first, page.count).await?;
    Ok(entries.into_iter().map(|(entry, _)| entry).collect())
}

/// Entries that are taken together.
#[derive(Default)]
struct Batch {
    entries: Vec<Arc<Entry>>,
    bytes: usize,
}

impl Batch {
    fn of(entries: Vec<Arc<Entry>>) -> Self {
        let mut batch = Self::default();
        batch.extend(entries);
        batch
    }

    fn extend(&mut self, entries: Vec<Arc<Entry>>) {
        let body =
            |entry: &Arc<Entry>| if let EntryKind::Text { body, .. } = &entry.kind { body.len() } else { 0 };
        self.bytes += entries.iter().map(body).sum::<usize>();
        self.entries.extend(entries);
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= BATCH_ENTRIES_MAX || self.bytes >= BATCH_BYTES_MAX
    }
}

impl From<StoreError> for ConsumeError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed => Self::Closed,
            StoreError::Unavailable { reason, retry_after } => Self::Again { why: reason, retry_after },
            StoreError::InvalidCursor | StoreError::Damaged(_) => {
                Self::Again { why: error.to_string(), retry_after: Duration::from_secs(5) }
            }
        }
    }
}
