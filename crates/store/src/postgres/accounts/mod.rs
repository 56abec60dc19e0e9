//! Accounts in PostgreSQL.
//!
//! What is decided in one statement is one; what needs a look at what is stored locks that first, so that two nodes
//! that do the same at once do it one after the other.

mod rows;
mod tokens;

use std::sync::Arc;

use async_trait::async_trait;
use tertulia_protocol::rest::{Audience, Privacy, UserPatch};
use tertulia_protocol::{DeviceId, Timestamp, UserId};

use self::rows::{device_columns, user_columns};
use super::connect::Connector;
use super::error::{Failure, OpenError};
use super::migrate::{MIGRATIONS, migrate};
use super::options::PostgresOptions;
use super::pool::{Lent, Pool};
use super::types::{Id, RowExt as _, integer};
use crate::StoreError;
use crate::accounts::fold::{after_prefix, fold};
use crate::accounts::{
    Access, Accounts, Creation, Credentials, DeviceRecord, NewDevice, NewUser, Presented, Rotation,
    SigningKey, TokenHash, Tokens, UserPage, UserRecord, cursor,
};

/// How often something is tried that another call stood in the way of.
const TRIES_MAX: usize = 4;

/// Accounts in a database that all nodes share.
pub struct PostgresAccounts {
    signing_key: SigningKey,
    pool: Pool,
}

impl PostgresAccounts {
    /// Opens the database, and makes its tables or brings them up to date.
    ///
    /// `new_key` becomes the signing key if the database has none yet; it must be random.
    ///
    /// # Errors
    /// The database does not answer, or is not one that the service can use; see [`OpenError`].
    pub async fn open(url: &str, options: &PostgresOptions, new_key: SigningKey) -> Result<Self, OpenError> {
        let connector = Arc::new(Connector::new(url, options)?);
        let pool = Pool::new(connector, options.readers, options.wait_max);
        let session = pool.lend().await?;
        session.check().await?;
        migrate(&session, MIGRATIONS).await?;
        let key = "signing_key";
        let insert = "INSERT INTO meta VALUES ($1, $2) ON CONFLICT DO NOTHING";
        session.rows(insert, &[&key, &new_key.as_bytes().as_slice()]).await?;
        let stored = session.row("SELECT value FROM meta WHERE name = $1", &[&key]).await?;
        let stored = stored.ok_or_else(|| Failure::Row("no signing key".into()))?;
        let signing_key = stored.value::<&[u8]>(0)?.try_into();
        let signing_key = signing_key.map_err(|_| Failure::Row("a signing key has 32 bytes".into()))?;
        drop(session);
        Ok(Self { signing_key: SigningKey::new(signing_key), pool })
    }

    /// A connection in a transaction in which these statements will be used.
    async fn begin(&self, statements: &[&'static str]) -> Result<Lent, Failure> {
        let mut lent = self.pool.lend().await?;
        // Those that are polled together go out in their order only if none has to be prepared first.
        let begun = lent.prepare(statements).await;
        lent.settle(begun)?;
        let begun = lent.run("BEGIN").await;
        lent.settle(begun)?;
        Ok(lent)
    }
}

/// Ends a transaction as what was done in it says. `None`: another call stood in its way; it can be done again.
async fn end<T>(mut lent: Lent, done: Result<T, Failure>, tries: &mut usize) -> Result<Option<T>, Failure> {
    *tries += 1;
    let ended = match done {
        Ok(done) => lent.run("COMMIT").await.map(|()| done),
        Err(failure) if failure.breaks_connection() => Err(failure),
        Err(failure) => lent.run("ROLLBACK").await.and(Err(failure)),
    };
    match lent.settle(ended) {
        Ok(done) => Ok(Some(done)),
        Err(failure) if failure.is_conflict() && *tries < TRIES_MAX => Ok(None),
        Err(failure) => Err(failure),
    }
}

#[async_trait]
impl Accounts for PostgresAccounts {
    fn signing_key(&self) -> SigningKey {
        self.signing_key
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        let row = self.pool.row(sql, &[]).await?.ok_or_else(|| Failure::Row("no time".into()))?;
        Ok(Some(Timestamp::from_millis(row.value::<i64>(0)?)))
    }

    async fn create_user(&self, user: NewUser, device: NewDevice) -> Result<Creation, StoreError> {
        let sql = "
            WITH added AS (
                INSERT INTO users (id, username, display_name, display_name_folded, about, password_hash,
                    last_seen_hidden, read_receipts_hidden, created_at)
                VALUES ($1, $2, $3, $4, '', $5, false, false, $6)
                ON CONFLICT (username) DO NOTHING RETURNING id
            ), device AS (
                INSERT INTO devices (id, user_id, name, platform, created_at, last_seen_at, refresh_hash,
                    refresh_generation, refresh_expires_at)
                SELECT $7, id, $8, $9, $10, $10, $11, $12, $13 FROM added
            ), token AS (
                INSERT INTO access_tokens (hash, device, expires_at) SELECT $14, $7, $15 FROM added
            )
            SELECT 1 FROM added";
        let tokens = &device.tokens;
        let created = self
            .pool
            .row(
                sql,
                &[
                    &Id::from(user.id),
                    &user.username,
                    &user.display_name,
                    &fold(&user.display_name),
                    &user.password_hash,
                    &user.created_at.as_millis(),
                    &Id::from(device.id),
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
            .await?;
        Ok(if created.is_some() { Creation::Created } else { Creation::UsernameTaken })
    }

    async fn credentials(&self, username: &str) -> Result<Option<Credentials>, StoreError> {
        if username.contains('\0') {
            return Ok(None);
        }
        let sql = "SELECT id, password_hash FROM users WHERE username = $1";
        let Some(row) = self.pool.row(sql, &[&username]).await? else { return Ok(None) };
        Ok(Some(Credentials { user: row.id(0)?, password_hash: row.value(1)? }))
    }

    async fn replace_password_hash(&self, user: UserId, old: &str, new: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2 RETURNING 1";
        Ok(self.pool.row(sql, &[&Id::from(user), &old, &new]).await?.is_some())
    }

    async fn users(&self, ids: &[UserId]) -> Result<Vec<UserRecord>, StoreError> {
        let sql = concat!("SELECT ", user_columns!(), " FROM users u WHERE id = ANY($1)");
        let rows = self.pool.rows(sql, &[&rows::ids(ids)]).await?;
        Ok(rows.iter().map(rows::user).collect::<Result<_, _>>()?)
    }

    async fn privacies(&self, ids: &[UserId]) -> Result<Vec<(UserId, Privacy)>, StoreError> {
        let sql = "SELECT id, last_seen_hidden, read_receipts_hidden FROM users WHERE id = ANY($1)";
        let rows = self.pool.rows(sql, &[&rows::ids(ids)]).await?;
        Ok(rows.iter().map(|row| Ok((row.id(0)?, rows::privacy(row, 1)?))).collect::<Result<_, Failure>>()?)
    }

    async fn search(&self, prefix: &str, cursor: Option<&str>, limit: usize) -> Result<UserPage, StoreError> {
        let prefix = fold(prefix);
        let after = cursor.map_or(Ok(""), cursor::parse)?;
        let mut items = Vec::new();
        // No name has this character, and PostgreSQL no text.
        if !prefix.contains('\0') {
            // Beyond all names; of a prefix that nothing lies beyond.
            let end =
                after_prefix(&prefix).unwrap_or_else(|| rows::LAST_CHARACTER.repeat(prefix.len() + 256));
            let from = if after < prefix.as_str() { &prefix } else { after };
            let rows = self
                .pool
                .rows(SEARCH, &[&after, &from, &end, &prefix, &integer(limit.saturating_add(1))])
                .await?;
            items = rows.iter().map(rows::user).collect::<Result<_, _>>()?;
        }
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(|last| cursor::write(&last.username));
        Ok(UserPage { items, next_cursor })
    }

    async fn update_user(&self, user: UserId, patch: UserPatch) -> Result<Option<UserRecord>, StoreError> {
        let sql = concat!(
            "UPDATE users u SET
                display_name = coalesce($2, display_name),
                display_name_folded = coalesce($3, display_name_folded),
                about = coalesce($4, about),
                last_seen_hidden = coalesce($5, last_seen_hidden),
                read_receipts_hidden = coalesce($6, read_receipts_hidden)
             WHERE id = $1 RETURNING ",
            user_columns!()
        );
        let hidden = |audience: Option<Audience>| audience.map(rows::is_hidden);
        let privacy = patch.privacy.unwrap_or_default();
        let folded = patch.display_name.as_deref().map(fold);
        let row = self
            .pool
            .row(
                sql,
                &[
                    &Id::from(user),
                    &patch.display_name,
                    &folded,
                    &patch.about,
                    &hidden(privacy.last_seen),
                    &hidden(privacy.read_receipts),
                ],
            )
            .await?;
        Ok(row.as_ref().map(rows::user).transpose()?)
    }

    async fn add_device(&self, device: NewDevice) -> Result<Option<Vec<DeviceId>>, StoreError> {
        let mut tries = 0;
        loop {
            let lent = self.begin(&tokens::ADD).await?;
            let added = tokens::add(&lent, &device).await;
            if let Some(added) = end(lent, added, &mut tries).await? {
                return Ok(added);
            }
        }
    }

    async fn devices(&self, user: UserId, now: Timestamp) -> Result<Vec<DeviceRecord>, StoreError> {
        let sql = concat!(
            "SELECT ",
            device_columns!(),
            " FROM devices WHERE user_id = $1 AND refresh_expires_at > $2 ORDER BY created_at, id"
        );
        let rows = self.pool.rows(sql, &[&Id::from(user), &now.as_millis()]).await?;
        Ok(rows.iter().map(rows::device).collect::<Result<_, _>>()?)
    }

    async fn device(&self, id: DeviceId) -> Result<Option<DeviceRecord>, StoreError> {
        let sql = concat!("SELECT ", device_columns!(), " FROM devices WHERE id = $1");
        let row = self.pool.row(sql, &[&Id::from(id)]).await?;
        Ok(row.as_ref().map(rows::device).transpose()?)
    }

    async fn lives(&self, devices: &[DeviceId]) -> Result<Vec<(DeviceId, UserId, Timestamp)>, StoreError> {
        let sql = "SELECT id, user_id, refresh_expires_at FROM devices WHERE id = ANY($1)";
        let rows = self.pool.rows(sql, &[&rows::ids(devices)]).await?;
        Ok(rows
            .iter()
            .map(|row| Ok((row.id(0)?, row.id(1)?, row.time(2)?)))
            .collect::<Result<_, Failure>>()?)
    }

    async fn access(&self, token: TokenHash) -> Result<Option<Access>, StoreError> {
        let sql =
            "SELECT d.user_id, d.id, t.expires_at FROM access_tokens t JOIN devices d ON d.id = t.device
            WHERE t.hash = $1";
        let Some(row) = self.pool.row(sql, &[&token.as_bytes().as_slice()]).await? else { return Ok(None) };
        Ok(Some(Access { user: row.id(0)?, device: row.id(1)?, expires_at: row.time(2)? }))
    }

    async fn rotate(
        &self,
        presented: Presented,
        next: Tokens,
        now: Timestamp,
    ) -> Result<Rotation, StoreError> {
        let mut tries = 0;
        loop {
            let lent = self.begin(&tokens::ROTATE).await?;
            let rotated = tokens::rotate(&lent, presented, &next, now).await;
            if let Some(rotated) = end(lent, rotated, &mut tries).await? {
                return Ok(rotated);
            }
        }
    }

    async fn remove_device(&self, user: UserId, device: DeviceId) -> Result<bool, StoreError> {
        let sql = "DELETE FROM devices WHERE id = $1 AND user_id = $2 RETURNING 1";
        Ok(self.pool.row(sql, &[&Id::from(device), &Id::from(user)]).await?.is_some())
    }

    async fn remove_ended(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(UserId, DeviceId)>, StoreError> {
        // Another node may be sweeping: it says of those that it removes itself.
        let sql = "DELETE FROM devices WHERE id IN (
                SELECT id FROM devices WHERE refresh_expires_at <= $1 ORDER BY refresh_expires_at LIMIT $2
                FOR UPDATE SKIP LOCKED)
            RETURNING user_id, id";
        let rows = self.pool.rows(sql, &[&now.as_millis(), &integer(limit)]).await?;
        Ok(rows.iter().map(|row| Ok((row.id(0)?, row.id(1)?))).collect::<Result<_, Failure>>()?)
    }

    async fn touch(
        &self,
        mut devices: Vec<(DeviceId, Timestamp)>,
        mut users: Vec<(UserId, Timestamp)>,
    ) -> Result<(), StoreError> {
        // In one order, so that two nodes do not wait for each other.
        devices.sort_unstable();
        users.sort_unstable();
        let (ids, times) = rows::columns(&devices);
        self.pool.rows(TOUCH_DEVICES, &[&ids, &times]).await?;
        let (ids, times) = rows::columns(&users);
        self.pool.rows(TOUCH_USERS, &[&ids, &times]).await?;
        Ok(())
    }

    async fn set_block(&self, by: UserId, other: UserId, blocked: bool) -> Result<bool, StoreError> {
        let sql = "
            WITH exist AS (
                SELECT 1 FROM users a, users b WHERE a.id = $1 AND b.id = $2
            ), added AS (
                INSERT INTO blocks SELECT $1, $2 FROM exist WHERE $3 ON CONFLICT DO NOTHING
            ), lifted AS (
                DELETE FROM blocks WHERE blocker = $1 AND blocked = $2 AND NOT $3
            )
            SELECT 1 FROM exist";
        Ok(self.pool.row(sql, &[&Id::from(by), &Id::from(other), &blocked]).await?.is_some())
    }

    async fn blocks(&self, by: UserId, other: UserId) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM blocks WHERE blocker = $1 AND blocked = $2";
        Ok(self.pool.row(sql, &[&Id::from(by), &Id::from(other)]).await?.is_some())
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

const TOUCH_DEVICES: &str = "UPDATE devices d SET last_seen_at = at
    FROM unnest($1::uuid[], $2::bigint[]) t(id, at) WHERE d.id = t.id AND last_seen_at < at";

const TOUCH_USERS: &str = "UPDATE users u SET last_seen_at = at
    FROM unnest($1::uuid[], $2::bigint[]) t(id, at) WHERE u.id = t.id AND coalesce(last_seen_at < at, true)";

/// Users after the username $1 whose username lies from $2 on before $3, or whose folded display name from $4 on.
///
/// Each of the inner selects gives a page by itself, from one index, so what is read of the table is a page.
const SEARCH: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM users u WHERE username IN (
        (SELECT username FROM users WHERE username >= $2 AND username > $1 AND username < $3
         ORDER BY username LIMIT $5)
        UNION
        (SELECT username FROM users WHERE display_name_folded >= $4 AND display_name_folded < $3
            AND username > $1 ORDER BY username LIMIT $5))
      ORDER BY username LIMIT $5"
);
