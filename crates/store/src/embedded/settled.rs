//! `tertulia.db`: what the journal comes to. Opening it, and its epochs.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use tertulia_domain::log::Commit;

use super::OpenError;
use super::pack;
use super::rows::{get_commit, sql};
use super::sqlite::{self, Durability, Schema};
use crate::positions::{Epoch, Epochs};

pub(super) const SCHEMA: Schema = Schema {
    file: "tertulia.db",
    migrations: &[
        ("conversations", include_str!("schema/settled_001.sql")),
        ("touched", include_str!("schema/settled_002.sql")),
        ("log", include_str!("schema/settled_003.sql")),
    ],
    functions: pack::register,
};

/// Pages in the WAL at which it is brought into the file, by the settler's own commit. That takes a moment, but
/// nobody waits for it: it is behind the journal. 8,000 pages share more writes than the default of 1,000.
const CHECKPOINT_PAGES: u32 = 8_000;

/// `tertulia.db` as it was opened.
pub(super) struct Opened {
    pub(super) db: Connection,
    /// The data folder's tag.
    pub(super) folder: [u8; 16],
    /// The newest commit that is in it.
    pub(super) settled: Commit,
}

/// Opens the file, or makes it; `folder` is the tag of a new one.
pub(super) fn open(dir: &Path, folder: [u8; 16]) -> Result<Opened, OpenError> {
    let db = sqlite::open_writer(dir, &SCHEMA, Durability::Full)?;
    let failed = |source| OpenError::Sqlite { file: dir.join(SCHEMA.file), source };
    db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(failed)?;
    db.pragma_update(None, "cache_size", -131_072).map_err(failed)?;
    // `OR IGNORE`: there is one row, and the first to write it wins.
    db.execute("INSERT OR IGNORE INTO meta (one, folder, settled) VALUES (1, ?1, 0)", [folder])
        .map_err(failed)?;
    let (folder, settled) = db
        .query_row("SELECT folder, settled FROM meta", (), |row| Ok((row.get(0)?, get_commit(row, 1)?)))
        .map_err(failed)?;
    Ok(Opened { db, folder, settled })
}

/// Begins an epoch at `first`, and gives all there are. It is synced before anybody is told a position of it.
pub(super) fn begin_epoch(db: &mut Connection, tag: u32, first: Commit) -> Result<Epochs, OpenError> {
    let begun = (|| {
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let taken =
            tx.query_row("SELECT 1 FROM epochs WHERE tag = ?1", [tag], |_| Ok(())).optional()?.is_some();
        if taken {
            return Ok(None);
        }
        tx.execute("INSERT INTO epochs (tag, first_commit) VALUES (?1, ?2)", (tag, sql(first)))?;
        let epochs = tx
            .prepare("SELECT tag, first_commit FROM epochs ORDER BY number")?
            .query_map((), |row| Ok(Epoch { tag: row.get(0)?, first: get_commit(row, 1)? }))?
            .collect::<Result<Vec<_>, _>>()?;
        tx.commit()?;
        Ok(Some(epochs))
    })();
    let epochs = begun.map_err(|source| OpenError::Sqlite { file: SCHEMA.file.into(), source })?;
    epochs
        .map(Epochs::new)
        .ok_or_else(|| OpenError::Damaged("the tag of this opening was there already; start again".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_remembered_and_its_tag_is_never_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = open(dir.path(), [1; 16]).unwrap();
        begin_epoch(&mut opened.db, 7, Commit::new(1)).unwrap();
        assert!(begin_epoch(&mut opened.db, 7, Commit::new(2)).is_err());
        let epochs = begin_epoch(&mut opened.db, 8, Commit::new(4)).unwrap();
        let horizon = Commit::new(9);
        for number in [4, 9] {
            let position = epochs.position(Commit::new(number));
            assert_eq!(epochs.parse(&position, horizon), Some(Commit::new(number)));
        }
    }

    #[test]
    fn a_folder_keeps_the_tag_that_it_was_made_with() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), [1; 16]).unwrap();
        assert_eq!(open(dir.path(), [2; 16]).unwrap().folder, [1; 16]);
    }
}
