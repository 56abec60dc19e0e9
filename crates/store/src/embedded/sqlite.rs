//! Opening SQLite files: settings, numbered migrations, and the lock on the data folder.
//!
//! Every file of the data folder is opened through here, so all of them have the same settings
//! and are refused in the same words when a newer program has written them.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior};

use super::{OpenError, disk};

/// Older versions can lose commits when a WAL is reset while another connection checkpoints.
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// How long a connection waits for another one's lock. Each file has one writer, so this is
/// only ever the length of a recovery or a checkpoint.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The length of a page. A commit of the settler writes them one by one: with 8 KiB half as many where conversations are
/// busy. Where they are many it takes no more CPU than with 4 KiB, and half as many bytes again.
pub(super) const PAGE_BYTES: u32 = 8_192;

/// Statements that a connection keeps prepared: more than any of ours uses.
const STATEMENTS_CACHED: usize = 96;

/// One kind of file: its name in the data folder and how its tables came to be.
pub struct Schema {
    /// The file's name in the data folder.
    pub file: &'static str,
    /// Migrations 1, 2, 3, …: (name, SQL). One that was ever released is never edited; its checksum is stored.
    pub migrations: &'static [(&'static str, &'static str)],
    /// Makes the SQL functions that the migrations call.
    pub functions: fn(&Connection) -> rusqlite::Result<()>,
}

/// For migrations that call none.
pub const fn no_functions(_: &Connection) -> rusqlite::Result<()> {
    Ok(())
}

/// When a commit reaches the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// With the commit: it survives power loss.
    Full,
    /// Later, but in order: power loss may take the last commits, never a part of one.
    Normal,
}

impl Durability {
    /// Sets this for the commits that `db` makes from now on.
    pub fn apply(self, db: &Connection) -> rusqlite::Result<()> {
        // An integer: pragma_update would quote a word, and 1 and 2 are NORMAL and FULL.
        db.pragma_update(
            None,
            "synchronous",
            match self {
                Self::Normal => 1,
                Self::Full => 2,
            },
        )
    }
}

/// Opens (or makes) a file for its one writer, and brings its tables up to date.
pub fn open_writer(dir: &Path, schema: &Schema, durability: Durability) -> Result<Connection, OpenError> {
    assert_version()?;
    let path = dir.join(schema.file);
    let failed = |source| OpenError::Sqlite { file: path.clone(), source };
    let mut db = Connection::open(&path).map_err(failed)?;
    configure(&db).map_err(failed)?;
    // Of a new file; a commit of the settler writes pages one by one, and neighbours are written together.
    db.pragma_update(None, "page_size", PAGE_BYTES).map_err(failed)?;
    // The answer is a row: the mode that was reached.
    db.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0)).map_err(failed)?;
    // Migrations and the first rows of a new file must not be lost, whatever comes later.
    Durability::Full.apply(&db).map_err(failed)?;
    (schema.functions)(&db).map_err(failed)?;
    migrate(&mut db, &path, schema)?;
    durability.apply(&db).map_err(failed)?;
    Ok(db)
}

/// Opens a file that [`open_writer`] has opened before, for reading only.
pub fn open_reader(dir: &Path, schema: &Schema) -> Result<Connection, OpenError> {
    let path = dir.join(schema.file);
    let failed = |source| OpenError::Sqlite { file: path.clone(), source };
    // Not SQLITE_OPEN_READ_ONLY: a reader of a WAL file must be able to make its shared memory.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(&path, flags).map_err(failed)?;
    configure(&db).map_err(failed)?;
    // Whoever is closed last would copy what the WAL has and remove it, also when what was copied before is not synced (P3).
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
    db.pragma_update(None, "query_only", true).map_err(failed)?;
    Ok(db)
}

fn configure(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    db.pragma_update(None, "temp_store", "memory")?;
    // Plans do not depend on what is bound: else a third of the time of many small reads goes into planning anew.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // What a damaged file says of itself is not believed.
    db.pragma_update(None, "cell_size_check", true)?;
    db.pragma_update(None, "trusted_schema", false)
}

/// Whether it could not be done because the disk is full.
pub(super) fn is_disk_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

fn assert_version() -> Result<(), OpenError> {
    if rusqlite::version_number() < SQLITE_VERSION_MIN {
        return Err(OpenError::SqliteTooOld { found: rusqlite::version() });
    }
    Ok(())
}

/// Applies what is missing, each migration in a transaction of its own.
fn migrate(db: &mut Connection, path: &Path, schema: &Schema) -> Result<(), OpenError> {
    let failed = |source| OpenError::Sqlite { file: path.to_owned(), source };
    db.execute_batch(
        "CREATE TABLE IF NOT EXISTS migrations (
            number INTEGER PRIMARY KEY,
            name TEXT NOT NULL,
            checksum INTEGER NOT NULL
        ) STRICT",
    )
    .map_err(failed)?;
    let found: u32 = db
        .query_row("SELECT coalesce(max(number), 0) FROM migrations", (), |row| row.get(0))
        .map_err(failed)?;
    let known = u32::try_from(schema.migrations.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(OpenError::Newer { file: path.to_owned(), found, known });
    }
    for (number, &(name, sql)) in (1_u32..).zip(schema.migrations) {
        let checksum = crc32fast::hash(sql.as_bytes());
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let applied: Option<u32> = tx
            .query_row("SELECT checksum FROM migrations WHERE number = ?1", [number], |row| row.get(0))
            .optional()
            .map_err(failed)?;
        match applied {
            Some(applied) if applied == checksum => {}
            Some(_) => return Err(OpenError::Edited { file: path.to_owned(), number, name }),
            None => {
                tx.execute_batch(sql).map_err(failed)?;
                tx.execute("INSERT INTO migrations VALUES (?1, ?2, ?3)", (number, name, checksum))
                    .map_err(failed)?;
                tx.commit().map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// The right to use a data folder; one process at a time has it, and loses it when it ends.
#[derive(Debug)]
pub struct FolderLock {
    // The lock is the operating system's and lives as long as this file is open, also through `kill -9`.
    _file: File,
}

impl FolderLock {
    /// Makes the folder if need be, and takes its lock.
    ///
    /// # Errors
    /// [`OpenError::InUse`] if another process has it.
    pub fn take(dir: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Folder { dir: dir.to_owned(), source };
        make_private_dir(dir).map_err(failed)?;
        let path: PathBuf = dir.join("tertulia.lock");
        let file = File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: dir.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

/// Nobody but the service's own user has a reason to read the messages of all.
fn make_private_dir(dir: &Path) -> std::io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let missing: Vec<_> = dir.ancestors().take_while(|path| !path.is_dir()).collect();
    builder.create(dir)?;
    // After a power cut a folder is there only if whoever names it was synced.
    missing.into_iter().filter_map(Path::parent).try_for_each(|parent| {
        disk::sync_folder(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Schema =
        Schema { file: "t.db", migrations: &[("one", "CREATE TABLE a (x)")], functions: no_functions };
    const TWO: Schema = Schema {
        file: "t.db",
        migrations: &[("one", "CREATE TABLE a (x)"), ("two", "CREATE TABLE b (x)")],
        functions: no_functions,
    };
    const EDITED: Schema =
        Schema { file: "t.db", migrations: &[("one", "CREATE TABLE a (x, y)")], functions: no_functions };

    #[test]
    fn the_sqlite_in_use_does_not_lose_commits_when_a_wal_is_reset() {
        assert!(rusqlite::version_number() >= SQLITE_VERSION_MIN, "{}", rusqlite::version());
    }

    #[test]
    fn migrations_are_applied_once_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        open_writer(dir.path(), &ONE, Durability::Full).unwrap();
        for _ in 0..2 {
            let db = open_writer(dir.path(), &TWO, Durability::Normal).unwrap();
            let tables: i64 = db
                .query_row("SELECT count(*) FROM sqlite_schema WHERE name IN ('a', 'b')", (), |row| {
                    row.get(0)
                })
                .unwrap();
            assert_eq!(tables, 2);
        }
    }

    #[test]
    fn a_newer_schema_is_refused_in_clear_words() {
        let dir = tempfile::tempdir().unwrap();
        open_writer(dir.path(), &TWO, Durability::Full).unwrap();
        let error = open_writer(dir.path(), &ONE, Durability::Full).unwrap_err();
        assert!(matches!(error, OpenError::Newer { found: 2, known: 1, .. }), "{error}");
        assert!(error.to_string().contains("newer"), "{error}");
    }

    #[test]
    fn a_migration_that_was_edited_after_it_was_applied_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        open_writer(dir.path(), &ONE, Durability::Full).unwrap();
        let error = open_writer(dir.path(), &EDITED, Durability::Full).unwrap_err();
        assert!(matches!(error, OpenError::Edited { number: 1, .. }), "{error}");
    }

    #[test]
    fn a_reader_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let _writer = open_writer(dir.path(), &ONE, Durability::Full).unwrap();
        let reader = open_reader(dir.path(), &ONE).unwrap();
        assert!(reader.execute("INSERT INTO a VALUES (1)", ()).is_err());
    }

    #[test]
    fn a_second_process_on_the_same_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let held = FolderLock::take(dir.path()).unwrap();
        let error = FolderLock::take(dir.path()).unwrap_err();
        assert!(matches!(error, OpenError::InUse { .. }), "{error}");
        drop(held);
        FolderLock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_new_folder_and_those_above_it_are_named_on_the_disk() {
        use std::cell::RefCell;
        use std::io;
        use std::os::unix::fs::MetadataExt as _;
        use std::rc::Rc;

        use crate::embedded::disk::watched::{self, Watcher};

        struct Seen(Rc<RefCell<Vec<u64>>>);
        impl Watcher for Seen {
            fn before(&mut self, file: &File) -> io::Result<()> {
                self.0.borrow_mut().push(file.metadata()?.ino());
                Ok(())
            }
            fn after(&mut self, _: &File) {}
            fn written_once_more(&mut self, _: &File) {}
        }

        let above = tempfile::tempdir().unwrap();
        let seen = Rc::default();
        let _watching = watched::watch(Seen(Rc::clone(&seen)));
        make_private_dir(&above.path().join("one/two")).unwrap();
        for name in ["", "one"] {
            let inode = fs::metadata(above.path().join(name)).unwrap().ino();
            assert!(seen.borrow().contains(&inode), "{name:?} has a new name in it");
        }
    }
}
