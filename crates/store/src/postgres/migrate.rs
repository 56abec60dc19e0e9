//! Tables and functions, brought up to date while older programs may be using them.

use super::connect::Session;
use super::error::{Failure, OpenError};
use super::types::RowExt as _;

/// A step from one state of the tables to the next. One that was ever released is never edited; its checksum is stored.
pub(crate) struct Migration {
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
    /// Whether programs that do not know it can no longer use the tables. What only adds does not break them: a release
    /// adds, and what is no longer used goes with a later one, when no node of the older one serves any more.
    pub(crate) breaks: bool,
}

/// All of them, in order: 1, 2, 3, …
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration { name: "accounts", sql: include_str!("schema/001_accounts.sql"), breaks: true },
    Migration { name: "conversations", sql: include_str!("schema/002_conversations.sql"), breaks: true },
    Migration { name: "feed", sql: include_str!("schema/003_feed.sql"), breaks: false },
    Migration { name: "shared", sql: include_str!("schema/004_shared.sql"), breaks: false },
    Migration { name: "delivered", sql: include_str!("schema/005_delivered.sql"), breaks: false },
];

/// Held while one program migrates: two numbers, so that it is none of those that stand for conversations.
const LOCK: &str = "SELECT pg_advisory_xact_lock(1952806516, 1)";

const TABLE: &str = "CREATE TABLE IF NOT EXISTS migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    checksum bigint NOT NULL,
    breaks boolean NOT NULL
)";

/// Applies what is missing, each step in a transaction of its own.
pub(crate) async fn migrate(session: &Session, migrations: &'static [Migration]) -> Result<(), OpenError> {
    // Mostly there is nothing to do, and nobody is waited for.
    if is_done(session, migrations).await? {
        return Ok(());
    }
    for (number, migration) in (1_i32..).zip(migrations) {
        let step = async {
            // Whoever comes second waits here, and finds it done. Making the table is part of what is waited for.
            session.run(&format!("BEGIN; {LOCK}; {TABLE}")).await?;
            apply(session, number, migration).await?;
            session.run("COMMIT").await?;
            Ok(())
        };
        if let Err(error) = step.await {
            // The first error is the one to tell.
            let _ = session.run("ROLLBACK").await;
            return Err(error);
        }
    }
    // Also what a newer program has done.
    is_done(session, migrations).await.map(drop)
}

async fn apply(session: &Session, number: i32, migration: &'static Migration) -> Result<(), OpenError> {
    let Migration { name, sql, breaks } = migration;
    let known = session.row("SELECT checksum FROM migrations WHERE number = $1", &[&number]).await?;
    if let Some(known) = known {
        return check(number, migration, known.value(0)?);
    }
    session.run(sql).await?;
    let insert = "INSERT INTO migrations VALUES ($1, $2, $3, $4)";
    session.rows(insert, &[&number, name, &checksum(sql), breaks]).await?;
    Ok(())
}

/// Whether all are applied. Fails if others are that this program cannot live with.
async fn is_done(session: &Session, migrations: &'static [Migration]) -> Result<bool, OpenError> {
    let exists = session.row("SELECT to_regclass('migrations') IS NOT NULL", &[]).await?;
    let exists: bool = exists.ok_or_else(|| Failure::Row("no answer".into()))?.value(0)?;
    if !exists {
        return Ok(false);
    }
    let mut missing = migrations.len();
    for row in session.rows("SELECT number, checksum, breaks FROM migrations ORDER BY number", &[]).await? {
        let (number, checksum, breaks): (i32, i64, bool) = (row.value(0)?, row.value(1)?, row.value(2)?);
        let place = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        match place.and_then(|place| migrations.get(place)) {
            Some(migration) => {
                check(number, migration, checksum)?;
                missing -= 1;
            }
            None if breaks => {
                let known = i32::try_from(migrations.len()).unwrap_or(i32::MAX);
                return Err(OpenError::Newer { found: number, known });
            }
            None => {}
        }
    }
    Ok(missing == 0)
}

fn check(number: i32, migration: &'static Migration, applied: i64) -> Result<(), OpenError> {
    if applied == checksum(migration.sql) {
        Ok(())
    } else {
        Err(OpenError::Edited { number, name: migration.name })
    }
}

fn checksum(sql: &str) -> i64 {
    i64::from(crc32fast::hash(sql.as_bytes()))
}
