//! Accounts in a SQLite file of their own, `accounts.db`, which syncs with each commit.

mod rows;
mod worker;

use std::path::Path;

use async_trait::async_trait;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension};
use tertulia_protocol::rest::{Audience, Privacy, UserPatch};
use tertulia_protocol::{DeviceId, Timestamp, UserId};

use self::rows::{device, time};
use self::worker::{Workers, failed};
use super::cursor;
use super::fold::{after_prefix, fold};
use super::{
    ACCESS_TOKENS_PER_DEVICE_MAX, Access, Accounts, Creation, Credentials, DEVICES_PER_USER_MAX,
    DeviceRecord, NewDevice, NewUser, Presented, Rotation, SigningKey, TokenHash, Tokens, UserPage,
    UserRecord,
};
use crate::StoreError;
use crate::embedded::OpenError;
use crate::embedded::sqlite::{self, Durability, Schema};

const SCHEMA: Schema = Schema {
    file: "accounts.db",
    migrations: &[("accounts", include_str!("schema.sql"))],
    functions: sqlite::no_functions,
};
/// Reads are short and mostly answered from memory: two threads keep two cores busy.
const READERS: usize = 2;
/// What a connection keeps of the file, in KiB. What is asked for again and again the service remembers itself, and the
/// rest is found by chance: a storm of clients would only fill it, for good.
const CACHE_KIB: i32 = 512;

/// Accounts in the data folder; one process at a time, which is for the caller to see to.
pub struct EmbeddedAccounts {
    signing_key: SigningKey,
    writer: Workers,
    readers: Workers,
}

impl EmbeddedAccounts {
    /// Opens or makes `accounts.db` in `dir`, which exists and is locked by this process.
    ///
    /// `new_key` becomes the signing key if the file has none yet; it must be random.
    ///
    /// # Errors
    /// If the file cannot be used; see [`OpenError`].
    pub fn open(dir: &Path, new_key: SigningKey) -> Result<Self, OpenError> {
        let sqlite = |source| OpenError::Sqlite { file: dir.join(SCHEMA.file), source };
        let threads = |source| OpenError::Folder { dir: dir.to_owned(), source };
        let lean = |db: &Connection| db.pragma_update(None, "cache_size", -CACHE_KIB).map_err(sqlite);
        let db = sqlite::open_writer(dir, &SCHEMA, Durability::Full)?;
        db.pragma_update(None, "foreign_keys", true).map_err(sqlite)?;
        lean(&db)?;
        let signing_key = SigningKey::new(signing_key(&db, new_key).map_err(sqlite)?);
        let readers = (0..READERS).map(|_| {
            let db = sqlite::open_reader(dir, &SCHEMA)?;
            lean(&db)?;
            Ok(db)
        });
        let readers = readers.collect::<Result<_, OpenError>>()?;
        Ok(Self {
            signing_key,
            writer: Workers::writer(db).map_err(threads)?,
            readers: Workers::readers(readers).map_err(threads)?,
        })
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.readers.run(|db| work(db).map_err(|error| failed(&error))).await
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.run(|db| work(db).map_err(|error| failed(&error))).await
    }
}

fn signing_key(db: &Connection, new_key: SigningKey) -> rusqlite::Result<[u8; 32]> {
    db.execute("INSERT OR IGNORE INTO meta VALUES ('signing_key', ?1)", [new_key.as_bytes()])?;
    db.query_row("SELECT value FROM meta WHERE name = 'signing_key'", (), |row| row.get(0))
}

#[async_trait]
impl Accounts for EmbeddedAccounts {
    fn signing_key(&self) -> SigningKey {
        self.signing_key
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    async fn create_user(&self, user: NewUser, device: NewDevice) -> Result<Creation, StoreError> {
        self.write(move |db| {
            let added = db
                .prepare_cached(
                    "INSERT INTO users (id, username, display_name, display_name_folded, about, password_hash,
                         last_seen_hidden, read_receipts_hidden, created_at)
                     VALUES (?1, ?2, ?3, ?4, '', ?5, 0, 0, ?6)
                     ON CONFLICT (username) DO NOTHING",
                )?
                .execute((
                    user.id.as_bytes(),
                    user.username,
                    &user.display_name,
                    fold(&user.display_name),
                    user.password_hash,
                    user.created_at.as_millis(),
                ))?;
            if added == 0 {
                return Ok(Creation::UsernameTaken);
            }
            insert_device(db, &device)?;
            Ok(Creation::Created)
        })
        .await
    }

    async fn credentials(&self, username: &str) -> Result<Option<Credentials>, StoreError> {
        let username = username.to_owned();
        self.read(move |db| {
            db.prepare_cached("SELECT id, password_hash FROM users WHERE username = ?1")?
                .query_row([username], |row| {
                    Ok(Credentials { user: UserId::from_bytes(row.get(0)?), password_hash: row.get(1)? })
                })
                .optional()
        })
        .await
    }

    async fn replace_password_hash(&self, user: UserId, old: &str, new: &str) -> Result<bool, StoreError> {
        let (old, new) = (old.to_owned(), new.to_owned());
        self.write(move |db| {
            db.prepare_cached("UPDATE users SET password_hash = ?3 WHERE id = ?1 AND password_hash = ?2")?
                .execute((user.as_bytes(), old, new))
                .map(|changed| changed > 0)
        })
        .await
    }

    async fn users(&self, ids: &[UserId]) -> Result<Vec<UserRecord>, StoreError> {
        let ids = ids.to_vec();
        self.read(move |db| {
            let mut found = Vec::with_capacity(ids.len());
            for id in ids {
                found.extend(read_user(db, id)?);
            }
            Ok(found)
        })
        .await
    }

    async fn privacies(&self, ids: &[UserId]) -> Result<Vec<(UserId, Privacy)>, StoreError> {
        let ids = ids.to_vec();
        self.read(move |db| {
            let mut query =
                db.prepare_cached("SELECT last_seen_hidden, read_receipts_hidden FROM users WHERE id = ?1")?;
            let mut found = Vec::with_capacity(ids.len());
            for id in ids {
                let privacy = query.query_row([id.as_bytes()], |row| rows::privacy(row, 0)).optional()?;
                found.extend(privacy.map(|privacy| (id, privacy)));
            }
            Ok(found)
        })
        .await
    }

    async fn search(&self, prefix: &str, cursor: Option<&str>, limit: usize) -> Result<UserPage, StoreError> {
        let prefix = fold(prefix);
        let after = cursor.map_or(Ok(String::new()), |text| cursor::parse(text).map(str::to_owned))?;
        let mut items = self.read(move |db| search(db, &prefix, &after, limit.saturating_add(1))).await?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(|last| cursor::write(&last.username));
        Ok(UserPage { items, next_cursor })
    }

    async fn update_user(&self, user: UserId, patch: UserPatch) -> Result<Option<UserRecord>, StoreError> {
        self.write(move |db| {
            let hidden = |audience: Option<Audience>| audience.map(rows::is_hidden);
            let privacy = patch.privacy.unwrap_or_default();
            db.prepare_cached(
                "UPDATE users SET
                     display_name = coalesce(?2, display_name),
                     display_name_folded = coalesce(?3, display_name_folded),
                     about = coalesce(?4, about),
                     last_seen_hidden = coalesce(?5, last_seen_hidden),
                     read_receipts_hidden = coalesce(?6, read_receipts_hidden)
                 WHERE id = ?1",
            )?
            .execute((
                user.as_bytes(),
                &patch.display_name,
                patch.display_name.as_deref().map(fold),
                patch.about,
                hidden(privacy.last_seen),
                hidden(privacy.read_receipts),
            ))?;
            read_user(db, user)
        })
        .await
    }

    async fn add_device(&self, device: NewDevice) -> Result<Option<Vec<DeviceId>>, StoreError> {
        self.write(move |db| {
            if read_user(db, device.user)?.is_none() {
                return Ok(None);
            }
            let gone = make_room(db, device.user)?;
            insert_device(db, &device)?;
            Ok(Some(gone))
        })
        .await
    }

    async fn devices(&self, user: UserId, now: Timestamp) -> Result<Vec<DeviceRecord>, StoreError> {
        self.read(move |db| {
            db.prepare_cached(
                "SELECT id, user, name, platform, created_at, last_seen_at, refresh_expires_at FROM devices
                 WHERE user = ?1 AND refresh_expires_at > ?2 ORDER BY created_at, id",
            )?
            .query_map((user.as_bytes(), now.as_millis()), device)?
            .collect()
        })
        .await
    }

    async fn device(&self, id: DeviceId) -> Result<Option<DeviceRecord>, StoreError> {
        self.read(move |db| {
            db.prepare_cached(
                "SELECT id, user, name, platform, created_at, last_seen_at, refresh_expires_at FROM devices
                 WHERE id = ?1",
            )?
            .query_row([id.as_bytes()], device)
            .optional()
        })
        .await
    }

    async fn lives(&self, devices: &[DeviceId]) -> Result<Vec<(DeviceId, UserId, Timestamp)>, StoreError> {
        let devices = devices.to_vec();
        self.read(move |db| {
            let mut query =
                db.prepare_cached("SELECT user, refresh_expires_at FROM devices WHERE id = ?1")?;
            let mut found = Vec::with_capacity(devices.len());
            for id in devices {
                let life = |row: &rusqlite::Row<'_>| Ok((UserId::from_bytes(row.get(0)?), time(row, 1)?));
                let life = query.query_row([id.as_bytes()], life).optional()?;
                found.extend(life.map(|(user, ends_at)| (id, user, ends_at)));
            }
            Ok(found)
        })
        .await
    }

    async fn access(&self, token: TokenHash) -> Result<Option<Access>, StoreError> {
        self.read(move |db| {
            db.prepare_cached(
                "SELECT devices.user, devices.id, access_tokens.expires_at
                 FROM access_tokens JOIN devices ON devices.id = access_tokens.device
                 WHERE access_tokens.hash = ?1",
            )?
            .query_row([token.as_bytes()], |row| {
                Ok(Access {
                    user: UserId::from_bytes(row.get(0)?),
                    device: DeviceId::from_bytes(row.get(1)?),
                    expires_at: time(row, 2)?,
                })
            })
            .optional()
        })
        .await
    }

    async fn rotate(
        &self,
        presented: Presented,
        next: Tokens,
        now: Timestamp,
    ) -> Result<Rotation, StoreError> {
        self.write(move |db| rotate(db, presented, &next, now)).await
    }

    async fn remove_device(&self, user: UserId, device: DeviceId) -> Result<bool, StoreError> {
        self.write(move |db| {
            db.prepare_cached("DELETE FROM devices WHERE id = ?1 AND user = ?2")?
                .execute((device.as_bytes(), user.as_bytes()))
                .map(|removed| removed > 0)
        })
        .await
    }

    async fn remove_ended(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(UserId, DeviceId)>, StoreError> {
        self.write(move |db| {
            let ended: Vec<(UserId, DeviceId)> = db
                .prepare_cached(
                    "SELECT user, id FROM devices WHERE refresh_expires_at <= ?1
                     ORDER BY refresh_expires_at LIMIT ?2",
                )?
                .query_map((now.as_millis(), integer(limit)), |row| {
                    Ok((UserId::from_bytes(row.get(0)?), DeviceId::from_bytes(row.get(1)?)))
                })?
                .collect::<Result<_, _>>()?;
            for (_, device) in &ended {
                remove(db, *device)?;
            }
            Ok(ended)
        })
        .await
    }

    async fn touch(
        &self,
        devices: Vec<(DeviceId, Timestamp)>,
        users: Vec<(UserId, Timestamp)>,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            let mut touch = db
                .prepare_cached("UPDATE devices SET last_seen_at = ?2 WHERE id = ?1 AND last_seen_at < ?2")?;
            for (device, at) in devices {
                touch.execute((device.as_bytes(), at.as_millis()))?;
            }
            let mut touch = db.prepare_cached(
                "UPDATE users SET last_seen_at = ?2 WHERE id = ?1 AND coalesce(last_seen_at < ?2, true)",
            )?;
            for (user, at) in users {
                touch.execute((user.as_bytes(), at.as_millis()))?;
            }
            Ok(())
        })
        .await
    }

    async fn set_block(&self, by: UserId, other: UserId, blocked: bool) -> Result<bool, StoreError> {
        self.write(move |db| {
            if read_user(db, by)?.is_none() || read_user(db, other)?.is_none() {
                return Ok(false);
            }
            let change = if blocked {
                "INSERT OR IGNORE INTO blocks VALUES (?1, ?2)"
            } else {
                "DELETE FROM blocks WHERE blocker = ?1 AND blocked = ?2"
            };
            db.prepare_cached(change)?.execute((by.as_bytes(), other.as_bytes()))?;
            Ok(true)
        })
        .await
    }

    async fn blocks(&self, by: UserId, other: UserId) -> Result<bool, StoreError> {
        self.read(move |db| {
            db.prepare_cached("SELECT EXISTS (SELECT 1 FROM blocks WHERE blocker = ?1 AND blocked = ?2)")?
                .query_row((by.as_bytes(), other.as_bytes()), |row| row.get(0))
        })
        .await
    }

    async fn close(&self) {
        self.writer.close().await;
        self.readers.close().await;
    }
}

fn read_user(db: &Connection, id: UserId) -> rusqlite::Result<Option<UserRecord>> {
    db.prepare_cached(
        "SELECT id, username, display_name, about, last_seen_hidden, read_receipts_hidden, created_at, last_seen_at
         FROM users WHERE id = ?1",
    )?
    .query_row([id.as_bytes()], rows::user)
    .optional()
}

/// Users after the username ?1 whose username lies between ?2 and ?3 or whose folded display name between ?4 and ?3.
///
/// Each of the inner selects gives a page by itself, from one index, so what is read of the table is a page.
const SEARCH: &str = "
    SELECT id, username, display_name, about, last_seen_hidden, read_receipts_hidden, created_at, last_seen_at
    FROM users WHERE username IN (
        SELECT * FROM (
            SELECT username FROM users WHERE username >= ?2 AND username < ?3 ORDER BY username LIMIT ?5)
        UNION
        SELECT * FROM (
            SELECT username FROM users INDEXED BY users_by_display_name
            WHERE display_name_folded >= ?4 AND display_name_folded < ?3 AND username > ?1
            ORDER BY username LIMIT ?5))
    ORDER BY username LIMIT ?5";

fn search(db: &Connection, prefix: &str, after: &str, limit: usize) -> rusqlite::Result<Vec<UserRecord>> {
    // The first text after `after`: the index is entered at the page, not at the prefix.
    let next = format!("{after}\0");
    let from = if after < prefix { prefix } else { &next };
    // SQLite holds every blob for greater than every text.
    let end = after_prefix(prefix).map_or(Value::Blob(Vec::new()), Value::Text);
    db.prepare_cached(SEARCH)?.query_map((after, from, end, prefix, integer(limit)), rows::user)?.collect()
}

fn insert_device(db: &Connection, device: &NewDevice) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO devices (id, user, name, platform, created_at, last_seen_at,
             refresh_hash, refresh_generation, refresh_expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, ?8)",
    )?
    .execute((
        device.id.as_bytes(),
        device.user.as_bytes(),
        &device.name,
        &device.platform,
        device.created_at.as_millis(),
        device.tokens.refresh.as_bytes(),
        integer(device.tokens.generation),
        device.tokens.refresh_expires_at.as_millis(),
    ))?;
    insert_access(db, device.id, &device.tokens)
}

fn insert_access(db: &Connection, device: DeviceId, tokens: &Tokens) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT INTO access_tokens (hash, device, expires_at) VALUES (?1, ?2, ?3)")?
        .execute((tokens.access.as_bytes(), device.as_bytes(), tokens.access_expires_at.as_millis()))?;
    Ok(())
}

/// Removes devices until one more has room: those first that were not seen for the longest time.
fn make_room(db: &Connection, user: UserId) -> rusqlite::Result<Vec<DeviceId>> {
    let gone: Vec<DeviceId> = db
        .prepare_cached(
            "SELECT id FROM devices WHERE user = ?1 ORDER BY last_seen_at DESC, id DESC LIMIT -1 OFFSET ?2",
        )?
        .query_map((user.as_bytes(), integer(DEVICES_PER_USER_MAX - 1)), |row| {
            row.get(0).map(DeviceId::from_bytes)
        })?
        .collect::<Result<_, _>>()?;
    for device in &gone {
        remove(db, *device)?;
    }
    Ok(gone)
}

/// Removes a device; its access tokens go with it.
fn remove(db: &Connection, device: DeviceId) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM devices WHERE id = ?1")?.execute([device.as_bytes()])?;
    Ok(())
}

fn rotate(
    db: &Connection,
    presented: Presented,
    next: &Tokens,
    now: Timestamp,
) -> rusqlite::Result<Rotation> {
    let device = presented.device;
    let stored: Option<([u8; 16], Vec<u8>, i64, i64)> = db
        .prepare_cached(
            "SELECT user, refresh_hash, refresh_generation, refresh_expires_at FROM devices WHERE id = ?1",
        )?
        .query_row([device.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    let Some((user, hash, generation, expires_at)) = stored else { return Ok(Rotation::Unknown) };
    let user = UserId::from_bytes(user);
    if expires_at <= now.as_millis() || integer(presented.generation) > generation {
        return Ok(Rotation::Unknown);
    }
    // An older one; or two different ones of the same generation, as after a restore.
    if integer(presented.generation) < generation || !presented.hash.matches(&hash) {
        remove(db, device)?;
        return Ok(Rotation::Reused(user));
    }
    db.prepare_cached(
        "UPDATE devices SET refresh_hash = ?2, refresh_generation = ?3, refresh_expires_at = ?4,
             last_seen_at = max(last_seen_at, ?5)
         WHERE id = ?1",
    )?
    .execute((
        device.as_bytes(),
        next.refresh.as_bytes(),
        integer(next.generation),
        next.refresh_expires_at.as_millis(),
        now.as_millis(),
    ))?;
    db.prepare_cached(
        "DELETE FROM access_tokens WHERE device = ?1 AND (expires_at <= ?2 OR hash NOT IN (
             SELECT hash FROM access_tokens WHERE device = ?1 ORDER BY expires_at DESC LIMIT ?3))",
    )?
    .execute((device.as_bytes(), now.as_millis(), integer(ACCESS_TOKENS_PER_DEVICE_MAX - 1)))?;
    insert_access(db, device, next)?;
    Ok(read_user(db, user)?.map_or(Rotation::Unknown, Rotation::Rotated))
}

/// SQLite's integers have a sign; what is beyond them counts as the largest.
fn integer(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
