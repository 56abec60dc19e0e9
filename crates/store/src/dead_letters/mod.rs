//! Entries that one who follows the logs could not take, however often he tried: kept, so that somebody looks at them,
//! and so that the rest goes on.
//!
//! A port with two adapters: a small file of the data folder, and a table that all nodes share
//! ([`PostgresDeadLetters`](crate::postgres::PostgresDeadLetters)). A server that runs and an administrator's command
//! may have either open at one time.

mod folder;
#[cfg(test)]
pub(crate) mod testsuite;

use async_trait::async_trait;
use tertulia_protocol::{ConvoId, Seq, Timestamp};

pub use self::folder::FolderDeadLetters;
use crate::StoreError;

/// The longest reason that is kept, in characters.
pub(crate) const WHY_CHARS_MAX: usize = 500;

/// The dead letters of a node, or of all nodes.
#[async_trait]
pub trait DeadLetters: Send + Sync + 'static {
    /// Lays an entry here, or notes that it was tried again in vain.
    async fn put(
        &self,
        consumer: &str,
        convo: ConvoId,
        seq: Seq,
        why: &str,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Those there are, the first ones first, `limit` of them behind the number `after`.
    async fn list(&self, after: i64, limit: usize) -> Result<Vec<DeadLetter>, StoreError>;

    /// How many of a consumer there are.
    async fn count(&self, consumer: &str) -> Result<u64, StoreError>;

    /// Asks for one, or for all, to be tried again; says for how many.
    async fn ask_again(&self, id: Option<i64>) -> Result<u64, StoreError>;

    /// Those of a consumer that wait to be tried again. Whoever is given them tries; of several nodes one is, for a
    /// minute.
    async fn asked(&self, consumer: &str, limit: usize) -> Result<Vec<DeadLetter>, StoreError>;

    /// Takes one away that was asked for: it was taken at last. If it was laid down again meanwhile, it stays.
    async fn remove(&self, id: i64) -> Result<(), StoreError>;
}

/// An entry that somebody could not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number.
    pub id: i64,
    /// Who could not take it.
    pub consumer: String,
    /// The conversation.
    pub convo: ConvoId,
    /// The entry.
    pub seq: Seq,
    /// Why not; nothing of what it says.
    pub why: String,
    /// How often it was tried in vain.
    pub tries: u32,
    /// When it was first laid here.
    pub first_at: Timestamp,
    /// When it was last tried.
    pub last_at: Timestamp,
    /// Whether it waits to be tried again.
    pub again: bool,
}

/// A reason, no longer than is kept.
pub(crate) fn shortened(why: &str) -> String {
    why.chars().take(WHY_CHARS_MAX).collect()
}
