//! The port of the log: one write, and the reads that follow from it.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use tertulia_domain::log::{Change, Commit, Head, HistorySlice, Intent, Missed, Outcome, Position};
use tertulia_protocol::rest::{Conversation, Member, MessageReceipt};
use tertulia_protocol::{ConvoId, Entry, EntryKind, Seq, Timestamp, UserId};

/// Ranges that are read beside each other where each is a read of its own: there are others who want to read.
const RANGES_AT_ONCE: usize = 16;

/// Conversations and their logs.
///
/// What is promised, whatever stands behind it:
/// - An outcome is told only when it is durable (synced), and every read that begins after that sees it.
/// - Entries of a conversation are numbered 1, 2, 3, … without holes, in the order of the batches and,
///   within a batch, of its intents.
/// - A device's `client_seq` stands for one message of a conversation as long as the message lives.
/// - What a user may not see (before his `visible_from_seq`, after his removal) no read gives him.
///
/// Not promised: that reads of two calls come from one moment.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Appends `intents`; `outcomes[i]` answers `intents[i]`.
    ///
    /// Those of one [lane](Self::lanes) are one transaction and one sync. In each conversation intents are
    /// committed in their order, and in the order in which the calls were first polled. A call that is dropped
    /// after that may still be committed.
    ///
    /// # Errors
    /// Nobody knows whether the batch is stored. Append it again: the messages that were stored come back as
    /// `Duplicate`, everything else as `Unchanged` or anew.
    async fn append(&self, intents: Vec<Intent>, now: Timestamp) -> Result<Batch, StoreError>;

    /// How many appends the store takes beside each other, each of conversations of its own.
    fn lanes(&self) -> NonZeroUsize;

    /// The lane of a conversation: the same on every node and at any time.
    fn lane_of(&self, convo: ConvoId) -> usize {
        lane_of(convo, self.lanes())
    }

    /// The part of the store in which a conversation is: all of a [lane](Self::lane_of) are in one. Its commits are
    /// numbered by that part alone.
    fn part_of(&self, _: ConvoId) -> usize {
        0
    }

    /// Whether nobody else appends, and commits are numbered in the order in which their calls return: then who
    /// has handed over all up to a commit knows that nothing below it will come.
    fn is_sole_writer(&self) -> bool;

    /// Everything below this position is durable and visible to reads, and no commit below it will come.
    ///
    /// It may lie below commits that were told already, for a while: late, never wrong.
    async fn horizon(&self) -> Result<Position, StoreError>;

    /// A position as clients hold it; opaque, short, safe in a URL.
    fn position(&self, position: Position) -> String;

    /// A position that this store gave out.
    ///
    /// `None` for what is no position, or one of another data folder, or one from beyond what this store
    /// remembers (it was restored from a backup since).
    ///
    /// # Errors
    /// Another node may have given it out, and what is stored cannot be asked at present.
    async fn parse_position(&self, position: &str) -> Result<Option<Position>, StoreError>;

    /// A stretch of a conversation as `user` may see it, ascending; `None` if he is not in it.
    async fn history(
        &self,
        user: UserId,
        convo: ConvoId,
        slice: Slice,
        limit: usize,
    ) -> Result<Option<HistorySlice>, StoreError>;

    /// The entries of a log from `from` on, `limit` at most, whoever may see them: for those who carry a log on, and show
    /// it to nobody who may not.
    async fn entries(&self, convo: ConvoId, from: Seq, limit: usize) -> Result<Vec<Logged>, StoreError>;

    /// Of these stretches the entries that let somebody in or put somebody out, of each conversation in the order of its
    /// log, and whoever may see them: for those who did not hear of it when it came.
    ///
    /// Where several nodes append it is one question for all stretches, and messages are not given out for it.
    async fn member_changes(&self, among: &[Touched]) -> Result<Vec<Logged>, StoreError> {
        let mut found = Vec::new();
        for &Touched { convo, first, last } in among {
            let mut next = first;
            while next <= last {
                let page = self.entries(convo, next, ENTRIES_AT_ONCE).await?;
                let Some((newest, _)) = page.last() else { break };
                next = newest.seq.next();
                let is_wanted = |(entry, _): &Logged| entry.seq <= last && changes_members(&entry.kind);
                found.extend(page.into_iter().filter(is_wanted));
            }
        }
        Ok(found)
    }

    /// The entries of several ranges, a list each in their order, as [`entries`](Self::entries) gives them: one statement
    /// where each by itself would be one.
    async fn ranges(&self, ranges: &[Touched]) -> Result<Vec<Vec<Logged>>, StoreError> {
        let mut found = Vec::with_capacity(ranges.len());
        for ranges in ranges.chunks(RANGES_AT_ONCE) {
            let reads = ranges.iter().map(|range| self.entries(range.convo, range.first, range.count()));
            found.extend(try_join_all(reads).await?);
        }
        Ok(found)
    }

    /// One conversation as `user` sees it, without `members`; `None` if he is not in it.
    async fn conversation(&self, user: UserId, convo: ConvoId) -> Result<Option<Conversation>, StoreError>;

    /// The user's conversations, newest activity first, `limit` of them after `cursor`. Direct ones carry `members`.
    ///
    /// # Errors
    /// [`StoreError::InvalidCursor`] for a cursor that no page gave out.
    async fn inbox(&self, user: UserId, cursor: Option<&str>, limit: usize) -> Result<InboxPage, StoreError>;

    /// Members by the time they joined, `limit` of them after `cursor`; `None` if `user` is not in it.
    ///
    /// # Errors
    /// [`StoreError::InvalidCursor`] for a cursor that no page gave out.
    async fn members(
        &self,
        user: UserId,
        convo: ConvoId,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Option<MemberPage>, StoreError>;

    /// How each other member stands to the message `seq`, by the time they joined, `limit` of them after `cursor`; `None` if
    /// `user` is not in the conversation or the entry is no message that he may see.
    ///
    /// # Errors
    /// [`StoreError::InvalidCursor`] for a cursor that no page gave out.
    async fn message_receipts(
        &self,
        user: UserId,
        convo: ConvoId,
        seq: Seq,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Option<ReceiptPage>, StoreError>;

    /// The heads of all conversations that `user` is in, in no order.
    async fn heads(&self, user: UserId) -> Result<Vec<Head>, StoreError>;

    /// What changed for `user` in commits that are not below `since`, a conversation each, ordered by id; with `only`, in that one.
    ///
    /// The cost grows with the number of his conversations and with what changed, not with history.
    async fn changes(
        &self,
        user: UserId,
        since: Position,
        only: Option<ConvoId>,
    ) -> Result<Vec<Change>, StoreError>;

    /// What changed for `user` since then, as [`changes`](Store::changes) tells it, and from the same moment the entries
    /// themselves where few were missed: `entries_max` in all at most, of a conversation all or none.
    async fn missed(&self, user: UserId, since: Position, entries_max: usize) -> Result<Missed, StoreError>;

    /// Those of `others` who share a conversation with `user`; he himself always does.
    async fn sharing(&self, user: UserId, others: &[UserId]) -> Result<Vec<UserId>, StoreError>;

    /// The conversations that `user` is in, each with the first entry that he may see, in no order; with `only`, that
    /// one, if he is in it.
    async fn visible_from(
        &self,
        user: UserId,
        only: Option<ConvoId>,
    ) -> Result<Vec<(ConvoId, Seq)>, StoreError>;

    /// Above every commit that was told before this call; of one that is told later it may lie above, too.
    async fn ceiling(&self) -> Result<Position, StoreError>;

    /// What came with commits that are not below `since`, in each part ascending, `limit` rows of it at most, and fewer only
    /// if there are no more: for those who follow the logs. Whoever has taken a row has [passed](Position::pass) its commit.
    ///
    /// It tells late (what is told is below the [`horizon`](Self::horizon)), and may tell of entries that came before
    /// `since`, never of none that came after. `None`: what came since then is not all known any more; the
    /// [`logs`](Self::logs) have it.
    async fn journal(&self, since: Position, limit: usize) -> Result<Option<Vec<JournalRow>>, StoreError>;

    /// All who follow have passed what is below a position: it may be forgotten, now or later.
    async fn forget_journal(&self, before: Position) -> Result<(), StoreError>;

    /// This lane's appends have been told to the other nodes, all that were committed up to `commit`.
    ///
    /// It is noted with the lane's next append, or soon. Where there are no other nodes nothing is.
    fn published(&self, lane: usize, commit: Commit);

    /// Everything below it is durable and visible, and has been told to the other nodes by whoever appended it.
    async fn barrier_horizon(&self) -> Result<Position, StoreError>;

    /// What was committed longer than that ago and not told to the other nodes, in each part ascending, `limit` at most: who appended
    /// it has died, or does not know that it is stored. Whoever finds it tells it, and says so with
    /// [`take_over`](Self::take_over).
    async fn unpublished(&self, longer_than: Duration, limit: usize) -> Result<Vec<Leftover>, StoreError>;

    /// These were told to the other nodes.
    async fn take_over(&self, leftovers: &[Leftover]) -> Result<(), StoreError>;

    /// All conversations with their newest entries, by id, `limit` of them after `after`: for those who begin to follow.
    async fn logs(&self, after: Option<ConvoId>, limit: usize) -> Result<Vec<(ConvoId, Seq)>, StoreError>;

    /// Figures for `/metrics`, cheap to take: (name without prefix, value).
    fn figures(&self) -> Vec<(&'static str, f64)>;

    /// Finishes what is under way and lets go of the data; later calls fail with [`StoreError::Closed`].
    async fn close(&self);
}

/// Entries of a log that are looked through at once.
const ENTRIES_AT_ONCE: usize = 500;

/// Whether an entry lets somebody in, or puts somebody out.
pub(crate) const fn changes_members(kind: &EntryKind) -> bool {
    matches!(
        kind,
        EntryKind::Created { .. } | EntryKind::MemberAdded { .. } | EntryKind::MemberRemoved { .. }
    )
}

/// What an `append` gave.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The number of this commit, of several the newest in one of the parts; `None` if nothing was changed.
    pub commit: Option<Commit>,
    /// One for each intent, in their order.
    pub outcomes: Vec<Outcome>,
}

/// The lane of a conversation, of so many.
pub(crate) fn lane_of(convo: ConvoId, lanes: NonZeroUsize) -> usize {
    // The end of an id is random, and of a direct conversation a hash.
    let [.., a, b, c, d] = *convo.as_bytes();
    u32::from_be_bytes([a, b, c, d]) as usize % lanes
}

/// An entry, and the commit that it came with.
pub type Logged = (Arc<Entry>, Commit);

/// What came with a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRow {
    /// The commit, or the newest of several.
    pub commit: Commit,
    /// The entries.
    pub ranges: Vec<Touched>,
    /// Conversations in which nothing but watermarks and settings changed. Only a store that several nodes share tells
    /// them.
    pub quiet: Vec<ConvoId>,
}

/// New entries of a conversation, which follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touched {
    /// The conversation.
    pub convo: ConvoId,
    /// The first of them.
    pub first: Seq,
    /// The last of them.
    pub last: Seq,
}

impl Touched {
    /// How many they are.
    pub fn count(&self) -> usize {
        let count = (self.last.get() + 1).saturating_sub(self.first.get());
        usize::try_from(count).unwrap_or(usize::MAX)
    }
}

/// What a commit touched that was not told to the other nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Who appended it.
    pub node: i32,
    /// In which of his lanes.
    pub lane: i32,
    /// The commit.
    pub commit: Commit,
    /// What it touched. Where only watermarks and settings moved, the range ends before it begins.
    pub touched: Vec<Touched>,
}

/// Which stretch of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slice {
    /// The newest entries.
    Newest,
    /// The oldest entries with a greater seq.
    After(Seq),
    /// The newest entries with a smaller seq.
    Before(Seq),
}

/// A page of an inbox.
#[derive(Debug, Clone)]
pub struct InboxPage {
    /// The conversations.
    pub items: Vec<Conversation>,
    /// For the next page.
    pub next_cursor: Option<String>,
}

/// A page of members, with their true watermarks: who may see them is decided above.
#[derive(Debug, Clone)]
pub struct MemberPage {
    /// The members.
    pub items: Vec<Member>,
    /// For the next page.
    pub next_cursor: Option<String>,
}

/// A page of how members stand to a message, with all times: who may see them is decided above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptPage {
    /// A member each.
    pub items: Vec<MessageReceipt>,
    /// For the next page.
    pub next_cursor: Option<String>,
}

/// The store could not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It does not answer now, or has no room; nothing that was acked is lost.
    #[error("the store cannot do this now: {reason}; try again in {} s", retry_after.as_secs().max(1))]
    Unavailable {
        /// What is the matter, for the log; no bodies, no secrets.
        reason: String,
        /// When trying again makes sense.
        retry_after: Duration,
    },
    /// A cursor that this store did not give out.
    #[error("this cursor is not one that was given out; begin without one")]
    InvalidCursor,
    /// What is stored cannot be understood; a person must look.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// It was closed: the process is going down.
    #[error("the store is closed")]
    Closed,
}
