//! Folding committed batches into `tertulia.db`.
//!
//! A bite is folded in one transaction, a conversation after the other in the order of their keys, so that rows
//! that stand together are written together. Records say all that follows from them; nothing is looked up but keys.

mod folding;
mod keys;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tertulia_domain::conversation::Record;
use tertulia_domain::log::Commit;
use tertulia_protocol::ConvoId;

use self::folding::{Folding, Statements};
pub(super) use self::keys::Keys;
use super::block::{EncodeError, Packer};
use super::journal::PlaceError;
use super::paced::PacedError;
use super::readers::ReadError;
use super::rows::sql;
use super::sqlite::is_disk_full;
use super::touched;
use crate::Touched;

/// Why a bite could not be settled.
#[derive(Debug, thiserror::Error)]
pub(super) enum SettleError {
    #[error("tertulia.db: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("tertulia.db: {0}")]
    Paced(#[from] PacedError),
    #[error("{0}")]
    Journal(#[from] PlaceError),
    #[error("write an entry: {0}")]
    Entry(#[from] EncodeError),
    #[error("write which entries came: {0}")]
    Touched(#[from] postcard::Error),
    #[error("{0}")]
    Damaged(String),
    #[error("a record of {0}, which was never created")]
    NeverCreated(ConvoId),
}

impl SettleError {
    /// Whether the disk is full.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Sqlite(error) => is_disk_full(error),
            Self::Paced(error) => error.is_full(),
            _ => false,
        }
    }
}

impl From<ReadError> for SettleError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Sqlite(error) => Self::Sqlite(error),
            ReadError::Row(what) => Self::Damaged(what),
            ReadError::Journal(error) => Self::Journal(error),
        }
    }
}

/// A batch, or the part of it that is to be settled.
pub(super) struct Committed {
    pub(super) commit: Commit,
    pub(super) records: Vec<Record>,
}

/// Folds `batches`, which follow on what is settled, into `db`, all or nothing; tells of which conversations they are. All
/// who follow have passed what came before the commit `passed`.
pub(super) fn settle(
    db: &mut Connection,
    keys: &mut Keys,
    batches: &[Committed],
    passed: Commit,
) -> Result<Vec<ConvoId>, SettleError> {
    let Some(commit) = batches.last().map(|batch| batch.commit) else { return Ok(Vec::new()) };
    keys.bound();
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let Folded { convos, touched } = fold(&tx, keys, batches)?;
    if !touched.is_empty() {
        tx.prepare_cached("INSERT INTO touched (commit_no, ranges) VALUES (?1, ?2)")?
            .execute((sql(commit), touched::encode(&touched)?))?;
    }
    touched::forget(&tx, passed.min(commit.next()))?;
    tx.prepare_cached("UPDATE meta SET settled = ?1")?.execute([sql(commit)])?;
    tx.commit()?;
    Ok(convos)
}

/// Folds all that is unsettled of some conversations into `db`, all or nothing, though what came before it is not settled.
/// When its turn comes, it is passed over, and named to those who follow.
pub(super) fn settle_before_turn(
    db: &mut Connection,
    keys: &mut Keys,
    parts: &[Committed],
) -> Result<(), SettleError> {
    let Some(newest) = parts.iter().map(|part| part.commit).max() else { return Ok(()) };
    keys.bound();
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    fold(&tx, keys, parts)?;
    tx.prepare_cached("UPDATE meta SET ahead = max(ahead, ?1)")?.execute([sql(newest)])?;
    Ok(tx.commit()?)
}

struct Folded {
    convos: Vec<ConvoId>,
    touched: Vec<Touched>,
}

fn fold(tx: &Transaction<'_>, keys: &mut Keys, batches: &[Committed]) -> Result<Folded, SettleError> {
    let mut records = Vec::with_capacity(batches.iter().map(|batch| batch.records.len()).sum());
    for batch in batches {
        for record in &batch.records {
            records.push((keys.convo(tx, record)?, batch.commit, record));
        }
    }
    // Stable: within a conversation the order of the log stays.
    records.sort_by_key(|&(key, ..)| key);
    let mut statements = Statements::prepare(tx)?;
    let mut packer = Packer::default();
    let mut folded = Folded { convos: Vec::new(), touched: Vec::new() };
    for of_one in records.chunk_by(|one, next| one.0 == next.0) {
        let &[(key, _, first), ..] = of_one else { continue };
        let convo = first.convo();
        folded.convos.push(convo);
        folded.touched.extend(touched::of(of_one.iter().map(|&(.., record)| record)));
        let settled = keys.settled(convo).copied().unwrap_or_default();
        // What was settled before its turn is there.
        let fresh = &of_one[of_one.partition_point(|&(_, commit, _)| commit <= settled)..];
        if let Some(&(_, last, _)) = fresh.last() {
            Folding::new(tx, keys, &mut statements, &mut packer, key).fold(fresh)?;
            if let Some(settled) = keys.settled(convo) {
                *settled = last;
            }
        }
    }
    Ok(folded)
}
