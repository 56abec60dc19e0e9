//! `journal.db`: what was promised. One row a commit, synced before anybody is told.
//!
//! A row goes when it is settled and the settled file is synced, so the file stays small.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use tertulia_domain::conversation::Record;
use tertulia_domain::log::Commit;

use super::sqlite::{self, Durability, Schema};
use super::tail::Committed;
use super::{Faults, OpenError, record};

pub(super) const SCHEMA: Schema =
    Schema { file: "journal.db", migrations: &[("journal", include_str!("schema/journal_001.sql"))] };

/// How many settled rows go with one commit: a few more than come, so that no commit waits for many.
const TRIMMED_A_COMMIT: u64 = 8;
/// How many go at a time when nothing else is to be done.
const TRIMMED_WHEN_IDLE: u64 = 512;

/// The writer's end of `journal.db`.
pub(super) struct Journal {
    db: Connection,
    faults: Faults,
    /// The newest commit whose row is gone.
    trimmed: Commit,
    /// The newest commit in it.
    newest: Commit,
    /// Kept from batch to batch for its capacity.
    bytes: Vec<u8>,
}

impl Journal {
    /// Opens the file, or makes it for the folder with this tag, where `settled` is the newest settled commit.
    pub(super) fn open(
        dir: &Path,
        folder: [u8; 16],
        settled: Commit,
        faults: Faults,
    ) -> Result<Self, OpenError> {
        let db = sqlite::open_writer(dir, &SCHEMA, Durability::Full)?;
        let failed = |source| OpenError::Sqlite { file: dir.join(SCHEMA.file), source };
        // Rows overflow into chains of pages, which deleting reads: 16 MiB of them in memory.
        db.pragma_update(None, "cache_size", -16_384).map_err(failed)?;
        if let Some(pages) = faults.journal_pages_max {
            db.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, u32>(0))
                .map_err(failed)?;
        }
        let meta: Option<(Vec<u8>, u64)> = db
            .query_row("SELECT folder, trimmed FROM meta", (), |row| {
                Ok((row.get(0)?, get_commit(row, 1)?.get()))
            })
            .optional()
            .map_err(failed)?;
        let trimmed = match meta {
            None => {
                // A new journal; also where only the settled file was put back from a backup.
                db.execute("INSERT INTO meta VALUES (1, ?1, ?2)", (folder, sql(settled))).map_err(failed)?;
                settled
            }
            Some((theirs, _)) if theirs != folder => {
                return Err(OpenError::Damaged(
                    "journal.db and tertulia.db belong to different folders; put back the pair".into(),
                ));
            }
            Some((_, trimmed)) => Commit::new(trimmed),
        };
        if trimmed > settled {
            return Err(OpenError::Damaged(format!(
                "tertulia.db ends at commit {}, but journal.db has forgotten all up to {}: one of the two is \
                 older than the other; put back both from one backup",
                settled.get(),
                trimmed.get()
            )));
        }
        let newest: Option<Commit> = db
            .query_row("SELECT max(commit_no) FROM journal", (), |row| {
                Ok(row.get::<_, Option<i64>>(0)?.map(|number| Commit::new(number.cast_unsigned())))
            })
            .map_err(failed)?;
        let newest = newest.unwrap_or(trimmed).max(settled);
        Ok(Self { db, faults, trimmed, newest, bytes: Vec::new() })
    }

    /// Hands out what is not settled yet, in order, some at a time.
    pub(super) fn replay(
        &self,
        settled: Commit,
        mut settle: impl FnMut(&[Arc<Committed>]) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        const RECORDS_AT_ONCE: usize = 20_000;
        let failed = |source| OpenError::Sqlite { file: SCHEMA.file.into(), source };
        let mut statement = self
            .db
            .prepare("SELECT commit_no, batch FROM journal WHERE commit_no > ?1 ORDER BY commit_no")
            .map_err(failed)?;
        let mut rows = statement.query([sql(settled)]).map_err(failed)?;
        let (mut expected, mut batches, mut records) = (settled.next(), Vec::new(), 0);
        while let Some(row) = rows.next().map_err(failed)? {
            let commit = get_commit(row, 0).map_err(failed)?;
            if commit != expected {
                return Err(OpenError::Damaged(format!(
                    "the journal lacks commits {} to {}",
                    expected.get(),
                    commit.get().saturating_sub(1)
                )));
            }
            expected = commit.next();
            let bytes = row.get_ref(1).and_then(|value| Ok(value.as_blob()?)).map_err(failed)?;
            let decoded = record::decode(bytes).map_err(|error| {
                OpenError::Damaged(format!("commit {} in the journal: {error}", commit.get()))
            })?;
            records += decoded.len();
            batches.push(Arc::new(Committed { commit, records: decoded }));
            if records >= RECORDS_AT_ONCE {
                settle(&batches)?;
                batches.clear();
                records = 0;
            }
        }
        if batches.is_empty() { Ok(()) } else { settle(&batches) }
    }

    /// Writes a batch as the next commit and syncs it; removes some rows up to `removable` with it.
    pub(super) fn append(&mut self, records: &[Record], removable: Commit) -> Result<Commit, JournalError> {
        Faults::check(&self.faults.journal_full)?;
        let commit = self.newest.next();
        record::encode(records, &mut self.bytes)?;
        let trimmed = self.step(removable, TRIMMED_A_COMMIT);
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Some(trimmed) = trimmed {
            remove(&tx, trimmed)?; // First: the new row may have their pages.
        }
        tx.prepare_cached("INSERT INTO journal (commit_no, batch) VALUES (?1, ?2)")?
            .execute((sql(commit), &self.bytes))?;
        tx.commit()?;
        self.newest = commit;
        self.trimmed = trimmed.unwrap_or(self.trimmed);
        Ok(commit)
    }

    /// The newest commit in it, or before it.
    pub(super) const fn newest(&self) -> Commit {
        self.newest
    }

    /// Whether it holds rows that are to go some time.
    pub(super) fn has_rows(&self) -> bool {
        self.newest > self.trimmed
    }

    /// Brings it into its final shape: no settled rows, no WAL.
    pub(super) fn finish(&mut self, removable: Commit) -> Result<(), JournalError> {
        while self.step(removable, 1).is_some() {
            self.trim(removable)?;
        }
        self.checkpoint()
    }

    /// Removes rows up to `removable`, a number of them at a time.
    pub(super) fn trim(&mut self, removable: Commit) -> Result<(), JournalError> {
        if let Some(trimmed) = self.step(removable, TRIMMED_WHEN_IDLE) {
            let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            remove(&tx, trimmed)?;
            tx.commit()?;
            self.trimmed = trimmed;
        }
        Ok(())
    }

    /// Brings everything into the one file; its WAL is empty then.
    fn checkpoint(&self) -> Result<(), JournalError> {
        self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
        Ok(())
    }

    fn step(&self, removable: Commit, rows_max: u64) -> Option<Commit> {
        if self.faults.keep_journal.load(Ordering::Relaxed) {
            return None;
        }
        let until = removable.min(Commit::new(self.trimmed.get() + rows_max));
        (until > self.trimmed).then_some(until)
    }
}

fn remove(db: &Connection, until: Commit) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM journal WHERE commit_no <= ?1")?.execute([sql(until)])?;
    db.prepare_cached("UPDATE meta SET trimmed = ?1")?.execute([sql(until)])?;
    Ok(())
}

/// Why a batch is not in the journal.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    #[error("journal.db: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("encode a batch: {0}")]
    Encoding(#[from] postcard::Error),
}

/// A commit number as SQLite keeps it. Numbers are dense from 1: they never reach the sign.
pub(super) fn sql(commit: Commit) -> i64 {
    commit.get().cast_signed()
}

pub(super) fn get_commit(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Commit> {
    row.get::<_, i64>(at).map(|number| Commit::new(number.cast_unsigned()))
}
