//! Devices that come, and their tokens.

use tertulia_protocol::{DeviceId, Timestamp, UserId};

use super::rows::{self, user_columns};
use crate::accounts::{
    ACCESS_TOKENS_PER_DEVICE_MAX, DEVICES_PER_USER_MAX, NewDevice, Presented, Rotation, Tokens,
};
use crate::postgres::connect::Session;
use crate::postgres::error::Failure;
use crate::postgres::types::{Id, RowExt as _, integer};

const LOCK_USER: &str = "SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE";

/// Those go that were not seen for the longest time.
const MAKE_ROOM: &str = "DELETE FROM devices WHERE id IN (
        SELECT id FROM devices WHERE user_id = $1 ORDER BY last_seen_at DESC, id DESC OFFSET $2)
    RETURNING id";

/// Nothing, if there is no such user.
const INSERT_DEVICE: &str = "
    WITH added AS (
        INSERT INTO devices (id, user_id, name, platform, created_at, last_seen_at, refresh_hash,
            refresh_generation, refresh_expires_at)
        SELECT $1, id, $3, $4, $5, $5, $6, $7, $8 FROM users WHERE id = $2
        RETURNING id
    )
    INSERT INTO access_tokens (hash, device, expires_at) SELECT $9, id, $10 FROM added";

/// What adding a device uses.
pub(super) const ADD: [&str; 3] = [LOCK_USER, MAKE_ROOM, INSERT_DEVICE];

/// In a transaction: adds a device, and gives those that went to make room; `None` if its user does not exist.
pub(super) async fn add(session: &Session, device: &NewDevice) -> Result<Option<Vec<DeviceId>>, Failure> {
    let (user, room) = (Id::from(device.user), integer(DEVICES_PER_USER_MAX - 1));
    let (locked, making_room): ([_; 1], [_; 2]) = ([&user as _], [&user as _, &room as _]);
    // Two logins at once make room one after the other: what comes after the lock sees what the first did.
    let (user, gone, ()) = tokio::try_join!(
        biased;
        session.row(LOCK_USER, &locked),
        session.rows(MAKE_ROOM, &making_room),
        insert(session, device)
    )?;
    let gone = gone.iter().map(|row| row.id(0)).collect::<Result<_, _>>()?;
    Ok(user.map(|_| gone))
}

async fn insert(session: &Session, device: &NewDevice) -> Result<(), Failure> {
    let tokens = &device.tokens;
    session
        .rows(
            INSERT_DEVICE,
            &[
                &Id::from(device.id),
                &Id::from(device.user),
                &device.name,
                &device.platform,
                &device.created_at.as_millis(),
                &tokens.refresh.as_bytes().as_slice(),
                &integer(tokens.generation),
                &tokens.refresh_expires_at.as_millis(),
                &tokens.access.as_bytes().as_slice(),
                &tokens.access_expires_at.as_millis(),
            ],
        )
        .await
        .map(drop)
}

const LOCK_DEVICE: &str = "SELECT user_id, refresh_hash, refresh_generation, refresh_expires_at
    FROM devices WHERE id = $1 FOR UPDATE";
const REMOVE_DEVICE: &str = "DELETE FROM devices WHERE id = $1";
const NEXT_REFRESH: &str = "UPDATE devices SET refresh_hash = $2, refresh_generation = $3,
    refresh_expires_at = $4, last_seen_at = greatest(last_seen_at, $5) WHERE id = $1";
const FORGET_ACCESS: &str =
    "DELETE FROM access_tokens WHERE device = $1 AND (expires_at <= $2 OR hash NOT IN (
    SELECT hash FROM access_tokens WHERE device = $1 ORDER BY expires_at DESC LIMIT $3))";
const INSERT_ACCESS: &str = "INSERT INTO access_tokens (hash, device, expires_at) VALUES ($1, $2, $3)";
const USER: &str = concat!("SELECT ", user_columns!(), " FROM users u WHERE id = $1");

/// What a rotation uses.
pub(super) const ROTATE: [&str; 6] =
    [LOCK_DEVICE, REMOVE_DEVICE, NEXT_REFRESH, FORGET_ACCESS, INSERT_ACCESS, USER];

/// In a transaction: the device stays locked from the look at its token to its next one.
pub(super) async fn rotate(
    session: &Session,
    presented: Presented,
    next: &Tokens,
    now: Timestamp,
) -> Result<Rotation, Failure> {
    let device = Id::from(presented.device);
    let Some(stored) = session.row(LOCK_DEVICE, &[&device]).await? else { return Ok(Rotation::Unknown) };
    let (user, hash): (UserId, &[u8]) = (stored.id(0)?, stored.value(1)?);
    let (generation, expires_at): (i64, i64) = (stored.value(2)?, stored.value(3)?);
    if expires_at <= now.as_millis() || integer(presented.generation) > generation {
        return Ok(Rotation::Unknown);
    }
    // An older one; or two different ones of the same generation, as after a restore.
    if integer(presented.generation) < generation || !presented.hash.matches(hash) {
        session.rows(REMOVE_DEVICE, &[&device]).await?;
        return Ok(Rotation::Reused(user));
    }
    let (user, now) = (Id::from(user), now.as_millis());
    let (refresh, access) = (next.refresh.as_bytes().as_slice(), next.access.as_bytes().as_slice());
    let (generation, refresh_ends) = (integer(next.generation), next.refresh_expires_at.as_millis());
    let (access_ends, kept) = (next.access_expires_at.as_millis(), integer(ACCESS_TOKENS_PER_DEVICE_MAX - 1));
    let next_refresh: [_; 5] = [&device as _, &refresh as _, &generation as _, &refresh_ends as _, &now as _];
    let forget: [_; 3] = [&device as _, &now as _, &kept as _];
    let insert: [_; 3] = [&access as _, &device as _, &access_ends as _];
    let read: [_; 1] = [&user as _];
    let (_, _, _, user) = tokio::try_join!(
            biased;
        session.rows(NEXT_REFRESH, &next_refresh),
        session.rows(FORGET_ACCESS, &forget),
        session.rows(INSERT_ACCESS, &insert),
        session.row(USER, &read)
    )?;
    Ok(user.as_ref().map(rows::user).transpose()?.map_or(Rotation::Unknown, Rotation::Rotated))
}
