//! Rows as records.

use rusqlite::Row;
use tertulia_protocol::rest::{Audience, Privacy};
use tertulia_protocol::{DeviceId, Timestamp, UserId};

use super::super::{DeviceRecord, UserRecord};

pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_millis)
}

pub(super) const fn is_hidden(audience: Audience) -> bool {
    match audience {
        Audience::Everyone => false,
        Audience::Nobody => true,
    }
}

/// Reads `last_seen_hidden, read_receipts_hidden` from `column` on.
pub(super) fn privacy(row: &Row<'_>, column: usize) -> rusqlite::Result<Privacy> {
    let audience = |hidden| if hidden { Audience::Nobody } else { Audience::Everyone };
    Ok(Privacy { last_seen: audience(row.get(column)?), read_receipts: audience(row.get(column + 1)?) })
}

/// Reads `id, username, display_name, about, last_seen_hidden, read_receipts_hidden, created_at, last_seen_at`.
pub(super) fn user(row: &Row<'_>) -> rusqlite::Result<UserRecord> {
    Ok(UserRecord {
        id: UserId::from_bytes(row.get(0)?),
        username: row.get(1)?,
        display_name: row.get(2)?,
        about: row.get(3)?,
        privacy: privacy(row, 4)?,
        created_at: time(row, 6)?,
        last_seen_at: row.get::<_, Option<i64>>(7)?.map(Timestamp::from_millis),
    })
}

/// Reads `id, user, name, platform, created_at, last_seen_at, refresh_expires_at`.
pub(super) fn device(row: &Row<'_>) -> rusqlite::Result<DeviceRecord> {
    Ok(DeviceRecord {
        id: DeviceId::from_bytes(row.get(0)?),
        user: UserId::from_bytes(row.get(1)?),
        name: row.get(2)?,
        platform: row.get(3)?,
        created_at: time(row, 4)?,
        last_seen_at: time(row, 5)?,
        expires_at: time(row, 6)?,
    })
}
