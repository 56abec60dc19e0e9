//! Commits as positions, and the database's numbering of commits.
//!
//! A commit is the number of its transaction plus a base. The base is 0, until the database is restored from a dump:
//! then the server counts transactions anew, and the base lifts their numbers above all that the dump brought along.
//!
//! An epoch begins with each start of the server: whatever is restored, and however, has been started since. It begins
//! at the horizon of that moment, so that a position of an earlier epoch is known up to there, and one from a future that
//! was lost is not.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tertulia_domain::log::Commit;

use super::connect::Session;
use super::error::Failure;
use super::pool::Pool;
use super::rows;
use super::types::RowExt as _;
use crate::positions::{Epoch, Epochs};

/// Held while one node looks whether an epoch has begun: one of the pairs that stand for no conversation.
const LOCK: &str = "SELECT pg_advisory_xact_lock(1952806516, 2)";

const LINEAGE: &str = "SELECT l.base FROM lineage l, pg_control_system() s, pg_database d
    WHERE l.system = s.system_identifier AND l.database = d.oid AND d.datname = current_database()";

/// A new database, or one that was restored from a dump: nothing that was told of it before is known.
const BEGIN_LINEAGE: &str = "
    WITH forgotten AS (DELETE FROM epochs), newest AS (
        SELECT greatest((SELECT max(last_commit) FROM conversations), (SELECT max(first_commit) FROM epochs), 0) AS base
    )
    INSERT INTO lineage (system, database, base)
    SELECT s.system_identifier, d.oid, newest.base FROM newest, pg_control_system() s, pg_database d
    WHERE d.datname = current_database()
    ON CONFLICT (one) DO UPDATE SET system = excluded.system, database = excluded.database, base = excluded.base
    RETURNING base";

/// No epoch begins before the one before it.
const BEGIN_EPOCH: &str = "
    INSERT INTO epochs (tag, server, first_commit)
    SELECT $1, $2, greatest(pg_snapshot_xmin(pg_current_snapshot())::text::bigint + $3,
        (SELECT max(first_commit) FROM epochs))
    WHERE (SELECT server FROM epochs ORDER BY number DESC LIMIT 1) IS DISTINCT FROM $2";

const EPOCHS: &str = "SELECT tag, first_commit FROM epochs ORDER BY number";

const CEILING: &str = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint + $1";

const HORIZON: &str = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint + $1";

/// In one snapshot: what is committed below its oldest transaction is to be seen in it.
const BARRIER: &str = "SELECT least(pg_snapshot_xmin(pg_current_snapshot())::text::bigint + $1, (
        SELECT min(j.commit_no) FROM published p CROSS JOIN LATERAL (
            SELECT k.commit_no FROM journal k
            WHERE k.node = p.node AND k.lane = p.lane AND k.commit_no > p.commit_no ORDER BY k.commit_no LIMIT 1
        ) j))";

/// What this node knows of the numbering.
pub(crate) struct Numbering(Mutex<Known>);

struct Known {
    /// The start of the server that it is known for.
    server: String,
    base: i64,
    epochs: Epochs,
    /// The highest that was seen.
    horizon: Commit,
}

impl Numbering {
    /// Begins an epoch if need be, and reads all.
    pub(crate) async fn open(session: &Session) -> Result<Self, Failure> {
        Ok(Self(Mutex::new(read(session).await?)))
    }

    /// The base of the numbers on this connection, which may be the first to a server that was started anew.
    pub(crate) async fn base(&self, session: &Session) -> Result<i64, Failure> {
        {
            let known = self.lock();
            if known.server == session.server() {
                return Ok(known.base);
            }
        }
        let mut read = read(session).await?;
        let mut known = self.lock();
        read.horizon = read.horizon.max(known.horizon);
        *known = read;
        Ok(known.base)
    }

    /// Everything below it is committed or never will be.
    pub(crate) async fn horizon(&self, pool: &Pool) -> Result<Commit, Failure> {
        self.ask(pool, HORIZON).await
    }

    /// Everything below it is committed, and told to the other nodes, or never will be.
    pub(crate) async fn barrier(&self, pool: &Pool) -> Result<Commit, Failure> {
        self.ask(pool, BARRIER).await
    }

    /// Every transaction that has a number yet has one below it.
    pub(crate) async fn ceiling(&self, pool: &Pool) -> Result<Commit, Failure> {
        self.number(pool, CEILING).await
    }

    async fn ask(&self, pool: &Pool, sql: &'static str) -> Result<Commit, Failure> {
        let horizon = self.number(pool, sql).await?;
        let mut known = self.lock();
        known.horizon = known.horizon.max(horizon);
        Ok(horizon)
    }

    async fn number(&self, pool: &Pool, sql: &'static str) -> Result<Commit, Failure> {
        let mut lent = pool.lend().await?;
        let base = self.base(&lent).await;
        let base = lent.settle(base)?;
        let row = lent.row(sql, &[&base]).await;
        let row = lent.settle(row)?.ok_or_else(|| Failure::Row("no horizon".into()))?;
        rows::commit(&row, 0)
    }

    pub(crate) fn position(&self, commit: Commit) -> String {
        self.lock().epochs.position(commit)
    }

    /// What a position stands for; asks what is stored if this node does not know it.
    pub(crate) async fn parse(&self, pool: &Pool, position: &str) -> Result<Option<Commit>, Failure> {
        {
            let known = self.lock();
            if let Some(commit) = known.epochs.parse(position, known.horizon) {
                return Ok(Some(commit));
            }
            // What has not even the form of a position is looked up nowhere.
            if !Epochs::is_well_formed(position) {
                return Ok(None);
            }
        }
        self.horizon(pool).await?;
        {
            let known = self.lock();
            if let Some(commit) = known.epochs.parse(position, known.horizon) {
                return Ok(Some(commit));
            }
        }
        // Another node may have begun an epoch.
        let mut lent = pool.lend().await?;
        let read = read(&lent).await;
        let mut read = lent.settle(read)?;
        let mut known = self.lock();
        read.horizon = known.horizon;
        *known = read;
        Ok(known.epochs.parse(position, known.horizon))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing under this lock leaves it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(session: &Session) -> Result<Known, Failure> {
    session.run(&format!("BEGIN; {LOCK}")).await?;
    let read = read_locked(session).await;
    session.run(if read.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
    read
}

async fn read_locked(session: &Session) -> Result<Known, Failure> {
    let lineage = match session.row(LINEAGE, &[]).await? {
        Some(lineage) => lineage,
        None => session.row(BEGIN_LINEAGE, &[]).await?.ok_or_else(|| Failure::Row("no lineage".into()))?,
    };
    let base: i64 = lineage.value(0)?;
    let server = session.server();
    // Random, so that no restored copy gives out the same.
    let tag = getrandom::u32().map_err(|error| Failure::Row(format!("no random numbers: {error}")))?;
    session.rows(BEGIN_EPOCH, &[&i64::from(tag), &server, &base]).await?;
    let mut epochs = Vec::new();
    for row in session.rows(EPOCHS, &[]).await? {
        let tag = u32::try_from(row.value::<i64>(0)?).map_err(|error| Failure::Row(error.to_string()))?;
        epochs.push(Epoch { tag, first: Commit::new(row.count(1)?) });
    }
    let horizon = epochs.last().map_or(Commit::default(), |epoch| epoch.first);
    Ok(Known { server: server.to_owned(), base, epochs: Epochs::new(epochs), horizon })
}
