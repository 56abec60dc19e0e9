//! Which entries came with a bite: rows of `touched`, with what they name as bytes.

use rusqlite::Transaction;
use tertulia_domain::conversation::Record;
use tertulia_domain::log::Commit;
use tertulia_protocol::{ConvoId, Seq};

use super::readers::ReadError;
use super::rows::sql;
use crate::Touched;

/// How many rows of what came are forgotten with one bite.
const FORGOTTEN_MAX: u32 = 1_000;

/// A conversation, and the first and the last of its new entries.
type Stored = ([u8; 16], u64, u64);

pub(super) fn encode(ranges: &[Touched]) -> Result<Vec<u8>, postcard::Error> {
    let stored: Vec<Stored> =
        ranges.iter().map(|range| (*range.convo.as_bytes(), range.first.get(), range.last.get())).collect();
    postcard::to_stdvec(&stored)
}

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Touched>, ReadError> {
    let stored: Vec<Stored> = postcard::from_bytes(bytes)
        .map_err(|error| ReadError::Row(format!("what came with a commit: {error}")))?;
    let touched = |(convo, first, last): Stored| {
        let (first, last) = (Seq::new(first), Seq::new(last));
        Touched { convo: ConvoId::from_bytes(convo), first, last }
    };
    Ok(stored.into_iter().map(touched).collect())
}

/// The entries among the records of one conversation: they follow one another.
pub(super) fn of<'a>(records: impl DoubleEndedIterator<Item = &'a Record> + Clone) -> Option<Touched> {
    let entry = |record: &Record| match record {
        Record::Entry { entry, .. } => Some((entry.convo_id, entry.seq)),
        _ => None,
    };
    let (convo, first) = records.clone().find_map(entry)?;
    let (_, last) = records.rev().find_map(entry)?;
    Some(Touched { convo, first, last })
}

/// Forgets what came before a commit; some of it, and the rest with the next bites.
pub(super) fn forget(tx: &Transaction<'_>, passed: Commit) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE meta SET touched_from = ?1 WHERE touched_from < ?1")?.execute([sql(passed)])?;
    tx.prepare_cached(
        "DELETE FROM touched WHERE commit_no IN
            (SELECT commit_no FROM touched WHERE commit_no < ?1 ORDER BY commit_no LIMIT ?2)",
    )?
    .execute((sql(passed), FORGOTTEN_MAX))?;
    Ok(())
}
