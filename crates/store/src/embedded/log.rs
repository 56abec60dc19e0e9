//! The logs as rows: a few neighbours each, packed as `block` says.

use std::ops::RangeInclusive;
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, Row};
use tertulia_domain::log::Commit;
use tertulia_protocol::{ConvoId, Entry, Seq};

use super::block::{DecodeError, Line, Lines, Packer};
use super::readers::ReadError;
use super::rows::{self, Key, get_seq};

/// An entry and its commit.
pub(super) type Committed = (Arc<Entry>, Commit);

/// Adds the entries from `first` to `last` to `entries`; the caller knows that all of them are there.
pub(super) fn read(
    db: &Connection,
    convo: ConvoId,
    key: Key,
    range: &RangeInclusive<Seq>,
    entries: &mut Vec<Committed>,
) -> Result<(), ReadError> {
    let mut statement = db.prepare_cached(
        "SELECT first, entries FROM log WHERE convo = ?1 AND first <= ?3
            AND first >= (SELECT max(first) FROM log WHERE convo = ?1 AND first <= ?2)
         ORDER BY first",
    )?;
    let mut found = statement.query((key, rows::seq(*range.start()), rows::seq(*range.end())))?;
    while let Some(row) = found.next()? {
        for line in lines(row)? {
            let line = line?;
            if range.contains(&line.seq) {
                entries.push((Arc::new(line.entry(convo)?), line.commit));
            }
        }
    }
    Ok(())
}

/// Looks at one entry of a log, if it is there.
pub(super) fn look<T>(
    db: &Connection,
    key: Key,
    seq: Seq,
    look: impl FnOnce(&Line<'_>) -> Result<T, DecodeError>,
) -> Result<Option<T>, ReadError> {
    look_with(&mut statement(db)?, key, seq, look)
}

/// What [`look_with`] looks with, many times.
pub(super) fn statement(db: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
    db.prepare_cached(
        "SELECT first, entries FROM log WHERE convo = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1",
    )
}

pub(super) fn look_with<T>(
    statement: &mut CachedStatement<'_>,
    key: Key,
    seq: Seq,
    look: impl FnOnce(&Line<'_>) -> Result<T, DecodeError>,
) -> Result<Option<T>, ReadError> {
    let mut found = statement.query((key, rows::seq(seq)))?;
    let Some(row) = found.next()? else { return Ok(None) };
    for line in lines(row)? {
        let line = line?;
        if line.seq == seq {
            return Ok(Some(look(&line)?));
        }
    }
    Ok(None)
}

/// Goes on with the newest block of a log, if the entry `next` follows there and the block takes more.
pub(super) fn resume(db: &Connection, key: Key, next: Seq, packer: &mut Packer) -> Result<(), ReadError> {
    packer.clear();
    let mut statement =
        db.prepare_cached("SELECT first, entries FROM log WHERE convo = ?1 ORDER BY first DESC LIMIT 1")?;
    let mut found = statement.query([key])?;
    if let Some(row) = found.next()? {
        packer.resume(get_seq(row, 0)?, bytes(row)?, next)?;
    }
    Ok(())
}

fn lines<'a>(row: &'a Row<'_>) -> Result<Lines<'a>, ReadError> {
    Ok(Lines::new(get_seq(row, 0)?, bytes(row)?)?)
}

fn bytes<'a>(row: &'a Row<'_>) -> Result<&'a [u8], ReadError> {
    Ok(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)
}

impl From<DecodeError> for ReadError {
    fn from(error: DecodeError) -> Self {
        Self::Row(format!("a block of a log: {error}"))
    }
}
