//! How values stand in the rows of `tertulia.db`.

use rusqlite::{Connection, OptionalExtension, Row};
use tertulia_domain::log::{Commit, Receipt};
use tertulia_protocol::rest::MemberSettings;
use tertulia_protocol::{ConvoId, Seq, Timestamp, UserId};

use super::readers::ReadError;
use crate::codes::Code;

/// The key of a conversation, user or device in one data folder.
pub(super) type Key = i64;

/// A value that stands in the row as its number.
pub(super) fn get_code<C: Code>(row: &Row<'_>, at: usize) -> Result<C, ReadError> {
    let code = row.get(at)?;
    C::of(code).ok_or_else(|| unknown(C::NAME, code))
}

fn unknown(what: &str, code: i16) -> ReadError {
    ReadError::Row(format!("no {what} has the number {code}"))
}

/// A count or sequence number; all of ours are below 2^53.
pub(super) const fn count(number: u64) -> i64 {
    number.cast_signed()
}

pub(super) fn get_count(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(at).map(i64::cast_unsigned)
}

pub(super) const fn seq(seq: Seq) -> i64 {
    seq.get().cast_signed()
}

pub(super) fn get_seq(row: &Row<'_>, at: usize) -> rusqlite::Result<Seq> {
    get_count(row, at).map(Seq::new)
}

pub(super) fn get_time(row: &Row<'_>, at: usize) -> rusqlite::Result<Timestamp> {
    row.get(at).map(Timestamp::from_millis)
}

pub(super) fn get_convo_id(row: &Row<'_>, at: usize) -> rusqlite::Result<ConvoId> {
    row.get(at).map(ConvoId::from_bytes)
}

pub(super) fn get_user_id(row: &Row<'_>, at: usize) -> rusqlite::Result<UserId> {
    row.get(at).map(UserId::from_bytes)
}

/// Four columns: muted, muted_until, pinned, archived.
pub(super) fn get_settings(row: &Row<'_>, at: usize) -> rusqlite::Result<MemberSettings> {
    Ok(MemberSettings {
        muted: row.get(at)?,
        muted_until: row.get::<_, Option<i64>>(at + 1)?.map(Timestamp::from_millis),
        pinned: row.get(at + 2)?,
        archived: row.get(at + 3)?,
    })
}

/// What [`get_receipt`] takes of a row `p` of `participants` and its `u` of `ids`.
pub(super) const RECEIPT_COLUMNS: &str = "u.id, p.delivered_seq, p.read_seq, p.marked_at,
    coalesce(p.delivered_at, p.marked_at), coalesce(p.delivered_commit, p.marked_commit)";

/// A member's watermarks, of [`RECEIPT_COLUMNS`], and the commit in which he last received something.
///
/// The receipt says of `delivered` when it moved last; it is for the caller to take away what is older than the commit
/// that is asked for.
pub(super) fn get_receipt(convo: ConvoId, row: &Row<'_>) -> rusqlite::Result<(Receipt, Commit)> {
    let (user, delivered, read) = (get_user_id(row, 0)?, get_seq(row, 1)?, get_seq(row, 2)?);
    let (ts, delivered_at) = (get_time(row, 3)?, Some(get_time(row, 4)?));
    Ok((Receipt { convo, user, delivered, read, ts, delivered_at }, get_commit(row, 5)?))
}

/// A commit number as SQLite keeps it. Numbers are dense from 1: they never reach the sign.
pub(super) const fn sql(commit: Commit) -> i64 {
    commit.get().cast_signed()
}

pub(super) fn get_commit(row: &Row<'_>, at: usize) -> rusqlite::Result<Commit> {
    row.get::<_, i64>(at).map(|number| Commit::new(number.cast_unsigned()))
}

/// The key of a conversation.
pub(super) fn convo_key(db: &Connection, convo: ConvoId) -> rusqlite::Result<Option<Key>> {
    db.prepare_cached("SELECT key FROM conversations WHERE id = ?1")?
        .query_row([convo.as_bytes()], |row| row.get(0))
        .optional()
}

/// The key of a user who was ever a member somewhere.
pub(super) fn user_key(db: &Connection, user: UserId) -> rusqlite::Result<Option<Key>> {
    db.prepare_cached("SELECT key FROM ids WHERE id = ?1")?
        .query_row([user.as_bytes()], |row| row.get(0))
        .optional()
}
