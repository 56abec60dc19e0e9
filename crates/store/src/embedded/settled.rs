//! `tertulia.db`: what the journal comes to. Opening it, and its epochs.

use std::path::Path;

use rusqlite::{OptionalExtension, TransactionBehavior};
use tertulia_domain::log::Commit;

use super::OpenError;
use super::paced::{Paced, PacedError};
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
        ("ahead", include_str!("schema/settled_004.sql")),
        ("delivered", include_str!("schema/settled_005.sql")),
    ],
    functions: pack::register,
};

/// Pages in the WAL at which it is brought into the file, by the settler. That takes a moment, but nobody waits for it: it
/// is behind the journal. 8,000 pages share more writes than SQLite's default of 1,000.
pub(super) const WAL_PAGES_MAX: u32 = 8_000;

/// `tertulia.db` as it was opened.
pub(super) struct Opened {
    pub(super) db: Paced,
    /// The data folder's tag.
    pub(super) folder: [u8; 16],
    /// The newest commit that is in it with all before it.
    pub(super) settled: Commit,
    /// Nothing in it is newer.
    pub(super) ahead: Commit,
}

/// Opens the file, or makes it; `folder` is the tag of a new one.
pub(super) fn open(dir: &Path, folder: [u8; 16]) -> Result<Opened, OpenError> {
    let db = sqlite::open_writer(dir, &SCHEMA, Durability::Full)?;
    let failed = |source| OpenError::Sqlite { file: dir.join(SCHEMA.file), source };
    db.pragma_update(None, "cache_size", -131_072).map_err(failed)?;
    // `OR IGNORE`: there is one row, and the first to write it wins.
    db.execute("INSERT OR IGNORE INTO meta (one, folder, settled) VALUES (1, ?1, 0)", [folder])
        .map_err(failed)?;
    let (folder, settled, ahead) = db
        .query_row("SELECT folder, settled, ahead FROM meta", (), |row| {
            Ok((row.get(0)?, get_commit(row, 1)?, get_commit(row, 2)?))
        })
        .map_err(failed)?;
    let db = Paced::new(db, dir, SCHEMA.file, WAL_PAGES_MAX)?;
    Ok(Opened { db, folder, settled, ahead })
}

/// Begins an epoch at `first`, and gives all there are. It is synced before anybody is told a position of it.
pub(super) fn begin_epoch(db: &mut Paced, dir: &Path, tag: u32, first: Commit) -> Result<Epochs, OpenError> {
    let epochs = try_begin_epoch(db, tag, first).map_err(|error| error.opening(dir, SCHEMA.file))?;
    epochs
        .map(Epochs::new)
        .ok_or_else(|| OpenError::Damaged("the tag of this opening was there already; start again".into()))
}

/// `None`: the tag was there already.
fn try_begin_epoch(db: &mut Paced, tag: u32, first: Commit) -> Result<Option<Vec<Epoch>>, PacedError> {
    let tx = db.db_to_write()?.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let taken = tx.query_row("SELECT 1 FROM epochs WHERE tag = ?1", [tag], |_| Ok(())).optional()?.is_some();
    if taken {
        return Ok(None);
    }
    tx.execute("INSERT INTO epochs (tag, first_commit) VALUES (?1, ?2)", (tag, sql(first)))?;
    let epochs = tx
        .prepare("SELECT tag, first_commit FROM epochs ORDER BY number")?
        .query_map((), |row| Ok(Epoch { tag: row.get(0)?, first: get_commit(row, 1)? }))?
        .collect::<Result<_, _>>()?;
    tx.commit()?;
    db.sync()?;
    Ok(Some(epochs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_remembered_and_its_tag_is_never_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = open(dir.path(), [1; 16]).unwrap();
        begin_epoch(&mut opened.db, dir.path(), 7, Commit::new(1)).unwrap();
        assert!(begin_epoch(&mut opened.db, dir.path(), 7, Commit::new(2)).is_err());
        let epochs = begin_epoch(&mut opened.db, dir.path(), 8, Commit::new(4)).unwrap();
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
