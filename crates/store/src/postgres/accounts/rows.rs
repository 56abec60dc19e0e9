//! Rows as records.

use tertulia_protocol::Timestamp;
use tertulia_protocol::rest::{Audience, Privacy};
use tokio_postgres::Row;

use crate::accounts::{DeviceRecord, UserRecord};
use crate::postgres::error::Failure;
use crate::postgres::types::{Id, RowExt as _};

/// The last character there is.
pub(super) const LAST_CHARACTER: &str = "\u{10ffff}";

/// The columns of [`user`], of `users u`.
macro_rules! user_columns {
    () => {
        "u.id, u.username, u.display_name, u.about, u.last_seen_hidden, u.read_receipts_hidden, u.created_at,
         u.last_seen_at"
    };
}
pub(super) use user_columns;

/// The columns of [`device`].
macro_rules! device_columns {
    () => {
        "id, user_id, name, platform, created_at, last_seen_at, refresh_expires_at"
    };
}
pub(super) use device_columns;

pub(super) const fn is_hidden(audience: Audience) -> bool {
    match audience {
        Audience::Everyone => false,
        Audience::Nobody => true,
    }
}

/// Reads `last_seen_hidden, read_receipts_hidden` from `at` on.
pub(super) fn privacy(row: &Row, at: usize) -> Result<Privacy, Failure> {
    let audience = |hidden| if hidden { Audience::Nobody } else { Audience::Everyone };
    Ok(Privacy { last_seen: audience(row.value(at)?), read_receipts: audience(row.value(at + 1)?) })
}

pub(super) fn user(row: &Row) -> Result<UserRecord, Failure> {
    Ok(UserRecord {
        id: row.id(0)?,
        username: row.value(1)?,
        display_name: row.value(2)?,
        about: row.value(3)?,
        privacy: privacy(row, 4)?,
        created_at: row.time(6)?,
        last_seen_at: row.value::<Option<i64>>(7)?.map(Timestamp::from_millis),
    })
}

pub(super) fn device(row: &Row) -> Result<DeviceRecord, Failure> {
    Ok(DeviceRecord {
        id: row.id(0)?,
        user: row.id(1)?,
        name: row.value(2)?,
        platform: row.value(3)?,
        created_at: row.time(4)?,
        last_seen_at: row.time(5)?,
        expires_at: row.time(6)?,
    })
}

pub(super) fn ids<I: Copy + Into<Id>>(ids: &[I]) -> Vec<Id> {
    ids.iter().map(|&id| id.into()).collect()
}

/// Pairs as two arrays.
pub(super) fn columns<I: Copy + Into<Id>>(pairs: &[(I, Timestamp)]) -> (Vec<Id>, Vec<i64>) {
    pairs.iter().map(|&(id, at)| (id.into(), at.as_millis())).unzip()
}
