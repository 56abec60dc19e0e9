//! How the commits of one connection come to the disk: in pieces, and when we say so.
//!
//! SQLite syncs a file as a whole. That is tens of megabytes in one go, and whoever syncs the journal meanwhile waits
//! behind them: sends that took 3 ms took 20. So we sync the file ourselves, a piece at a time, and the disk is free for
//! others in between.
//!
//! The order is SQLite's own (<https://www.sqlite.org/wal.html#ckpt>), as what it rests on is the same:
//! - **P1** A commit survives power loss once the WAL is synced up to its last frame; before that all of it is lost, never a
//!   part: frames have running checksums.
//! - **P2** A page is copied from the WAL into the file only after the WAL is synced.
//! - **P3** The WAL is begun anew, or removed, only after all that was copied is synced: until then nothing is written, and no
//!   reader that is closed last takes the WAL for done with. SQLite syncs its new header by itself.
//! - **P4** What an earlier process left in the WAL is written once more before it counts as synced: if a sync failed, the
//!   system has it in memory and takes it for written, though it may not be on the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::OpenError;
use super::disk::{self, PIECE_BYTES};
use super::sqlite::{Durability, is_disk_full};

/// What a WAL begins with, and what stands before each of its pages, in bytes (<https://www.sqlite.org/fileformat2.html#walformat>).
const WAL_HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: u64 = 24;

/// The one connection that writes a file, and the file's way to the disk.
pub struct Paced {
    // Before the files: whoever closes a file loses the locks that his process has on it (fcntl(2)), be they SQLite's.
    db: Connection,
    wal: File,
    main: File,
    page_bytes: u64,
    /// How many frames the WAL has; told by SQLite with each commit.
    frames: Arc<AtomicU32>,
    /// So many of them are synced.
    synced: u32,
    /// Pages were copied into the file and are not synced.
    is_owing: bool,
    /// Why no sync can be believed any more.
    failed: Option<String>,
    wal_pages_max: u32,
}

/// Why something did not come to the disk.
#[derive(Debug, thiserror::Error)]
pub enum PacedError {
    /// SQLite could not do it.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The WAL could not be read. It may be tried again.
    #[error("read the WAL: {0}")]
    Io(io::Error),
    /// The disk did not take it, and what it has is not known: the system says so once, and believes it written then. Only
    /// opening the file again helps. Also when a sync finds no room, which is rare: a write finds none before.
    #[error("sync: {0}; nothing more is written here: look after the disk, and start the service again")]
    Failed(String),
}

impl PacedError {
    /// Whether the disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Sqlite(error) => is_disk_full(error),
            Self::Io(_) | Self::Failed(_) => false,
        }
    }

    /// Why a file could not be opened.
    pub(super) fn opening(self, dir: &Path, file: &str) -> OpenError {
        match self {
            Self::Sqlite(source) => OpenError::Sqlite { file: dir.join(file), source },
            Self::Io(source) => OpenError::Folder { dir: dir.join(file), source },
            Self::Failed(why) => OpenError::Folder { dir: dir.join(file), source: io::Error::other(why) },
        }
    }
}

impl Paced {
    /// Takes a connection that writes to `dir/file`, whose WAL is to have at most about so many pages.
    ///
    /// # Errors
    /// The file and its WAL cannot be opened.
    pub fn new(mut db: Connection, dir: &Path, file: &str, wal_pages_max: u32) -> Result<Self, OpenError> {
        let frames = Arc::new(AtomicU32::new(0));
        let taken = take(&mut db, &frames);
        let page_bytes = taken.map_err(|source| OpenError::Sqlite { file: dir.join(file), source })?;
        let open = |name: &str| File::options().read(true).write(true).open(dir.join(name));
        let opened = || {
            let (main, wal) = (open(file)?, open(&format!("{file}-wal"))?);
            // What an earlier process has committed, and what the file is called.
            disk::write_once_more(&wal)?;
            disk::sync(&wal)?;
            disk::sync_folder(dir)?;
            Ok((main, wal))
        };
        let (main, wal) = opened().map_err(|source| OpenError::Folder { dir: dir.to_owned(), source })?;
        Ok(Self {
            db,
            wal,
            main,
            page_bytes,
            frames,
            synced: 0,
            is_owing: false,
            failed: None,
            wal_pages_max,
        })
    }

    /// The connection, for reading.
    #[must_use]
    pub const fn db(&self) -> &Connection {
        &self.db
    }

    /// The connection, for a transaction. It is not on the disk before the next [`sync`](Self::sync).
    ///
    /// # Errors
    /// What was copied before cannot be synced.
    pub fn db_to_write(&mut self) -> Result<&mut Connection, PacedError> {
        self.sync_copied(&[])?;
        Ok(&mut self.db)
    }

    /// Syncs all that was committed.
    ///
    /// # Errors
    /// It may not be on the disk.
    pub fn sync(&mut self) -> Result<(), PacedError> {
        self.check()?;
        let frames = self.frames.load(Ordering::Relaxed);
        if frames > self.synced {
            let (from, end) = (self.frame(self.synced), self.frame(frames));
            let pieces = (from..end).step_by(PIECE_BYTES as usize).map(|at| (at, PIECE_BYTES.min(end - at)));
            let done = disk::sync_in_pieces(&self.wal, pieces);
            self.note(done)?;
            self.synced = frames;
        }
        Ok(())
    }

    /// Brings a long WAL into the file, synced, so that it is begun anew.
    ///
    /// # Errors
    /// All of it may not be on the disk; it can be tried again if the disk was full.
    pub fn tidy(&mut self) -> Result<(), PacedError> {
        if self.frames.load(Ordering::Relaxed) < self.wal_pages_max {
            return Ok(());
        }
        self.sync()?;
        let pages = self.pages_in_wal().map_err(PacedError::Io)?;
        self.is_owing = true;
        self.copy()?;
        self.sync_copied(&pages)
    }

    /// Copies from the WAL, as far as readers let us, and syncs nothing.
    fn copy(&self) -> rusqlite::Result<()> {
        // Off for this alone: SQLite would sync the file, and as a whole.
        self.db.pragma_update(None, "synchronous", 0)?;
        let copied = self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()));
        Durability::Normal.apply(&self.db)?;
        copied
    }

    fn sync_copied(&mut self, pages: &[u32]) -> Result<(), PacedError> {
        self.check()?;
        if self.is_owing {
            let page_bytes = self.page_bytes;
            let pieces = pages.chunks((PIECE_BYTES / page_bytes).max(1) as usize).filter_map(|pages| {
                // Numbered from 1.
                let (first, last) = (u64::from(*pages.first()?) - 1, u64::from(*pages.last()?));
                Some((first * page_bytes, (last - first) * page_bytes))
            });
            let done = disk::sync_in_pieces(&self.main, pieces);
            self.note(done)?;
            self.is_owing = false;
            // It may be begun anew by the next commit, which tells how long it is then.
            self.synced = 0;
            self.frames.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Which pages are in the WAL, ascending.
    fn pages_in_wal(&self) -> io::Result<Vec<u32>> {
        let mut pages = Vec::new();
        for number in 0..self.frames.load(Ordering::Relaxed) {
            let mut page = [0; 4];
            self.wal.read_exact_at(&mut page, self.frame(number))?;
            pages.push(u32::from_be_bytes(page).max(1));
        }
        pages.sort_unstable();
        pages.dedup();
        Ok(pages)
    }

    /// Where a frame begins, and the one before it ends.
    const fn frame(&self, number: u32) -> u64 {
        WAL_HEADER_BYTES + number as u64 * (FRAME_HEADER_BYTES + self.page_bytes)
    }

    fn check(&self) -> Result<(), PacedError> {
        self.failed.as_ref().map_or(Ok(()), |why| Err(PacedError::Failed(why.clone())))
    }

    fn note(&mut self, synced: io::Result<()>) -> Result<(), PacedError> {
        synced.map_err(|error| PacedError::Failed(self.failed.insert(error.to_string()).clone()))
    }

    /// Brings all of the WAL into the file and closes it, so that it is one file.
    ///
    /// # Errors
    /// The WAL stays, and is read by whoever opens the file next.
    pub fn close(mut self) -> Result<(), PacedError> {
        let db = self.db_to_write()?;
        // From here on SQLite syncs by itself; whoever closes the file last removes the WAL.
        Durability::Full.apply(db)?;
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        Ok(db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?)
    }
}

/// From now on SQLite syncs nothing of this connection but the headers of new WALs. Gives the length of a page.
fn take(db: &mut Connection, frames: &Arc<AtomicU32>) -> rusqlite::Result<u64> {
    Durability::Normal.apply(db)?;
    // What a closed connection copies it would sync by itself, and not wait for anything.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    let frames = Arc::clone(frames);
    // A hook of ours takes the place of SQLite's, which copies after a thousand pages.
    db.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, count: std::ffi::c_int| {
        frames.store(u32::try_from(count).unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }))?;
    db.query_row("PRAGMA page_size", (), |row| row.get::<_, u32>(0)).map(u64::from)
}

#[cfg(test)]
mod tests {
    use super::super::sqlite::{self, Schema};
    use super::*;

    const SCHEMA: Schema = Schema {
        file: "t.db",
        migrations: &[("rows", "CREATE TABLE rows (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")],
        functions: sqlite::no_functions,
    };
    const WAL_PAGES_MAX: u32 = 40;

    fn open(dir: &Path) -> Paced {
        let db = sqlite::open_writer(dir, &SCHEMA, Durability::Full).unwrap();
        Paced::new(db, dir, SCHEMA.file, WAL_PAGES_MAX).unwrap()
    }

    /// Adds rows of about half a page each.
    fn add(paced: &mut Paced, count: usize) -> Result<(), PacedError> {
        let tx = paced.db_to_write()?.transaction()?;
        for _ in 0..count {
            tx.execute("INSERT INTO rows (text) VALUES (?1)", ["x".repeat(4_000)])?;
        }
        Ok(tx.commit()?)
    }

    fn count(db: &Connection) -> u32 {
        db.query_row("SELECT count(*) FROM rows", (), |row| row.get(0)).unwrap()
    }

    /// How many rows there are in the file alone, as if its WAL had never been.
    fn count_without_wal(dir: &Path) -> u32 {
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(dir.join(SCHEMA.file), copy.path().join(SCHEMA.file)).unwrap();
        let db = sqlite::open_reader(copy.path(), &SCHEMA).unwrap();
        // Not even the table may be there yet.
        db.query_row("SELECT count(*) FROM rows", (), |row| row.get(0)).unwrap_or(0)
    }

    fn wal(dir: &Path) -> Vec<u8> {
        std::fs::read(dir.join("t.db-wal")).unwrap()
    }

    #[test]
    fn a_short_wal_stays_and_a_long_one_comes_into_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut paced = open(dir.path());
        add(&mut paced, 1).unwrap();
        paced.tidy().unwrap();
        add(&mut paced, 3_000).unwrap();
        assert_eq!(count_without_wal(dir.path()), 0, "SQLite copied by itself");
        paced.tidy().unwrap();
        assert_eq!(count_without_wal(dir.path()), 3_001);
    }

    #[test]
    fn a_wal_is_begun_anew_and_so_it_does_not_grow() {
        let dir = tempfile::tempdir().unwrap();
        let mut paced = open(dir.path());
        for _ in 0..50 {
            add(&mut paced, 20).unwrap();
            paced.sync().unwrap();
            paced.tidy().unwrap();
        }
        assert_eq!(count(paced.db()), 1_000);
        let frame_bytes = FRAME_HEADER_BYTES + paced.page_bytes;
        let pages = wal(dir.path()).len() as u64 / frame_bytes;
        assert!(pages < u64::from(WAL_PAGES_MAX) * 2, "{pages}");
    }

    #[test]
    fn the_pages_that_are_synced_are_all_that_differ() {
        let dir = tempfile::tempdir().unwrap();
        let mut paced = open(dir.path());
        add(&mut paced, 300).unwrap();
        paced.tidy().unwrap();
        let before = std::fs::read(dir.path().join(SCHEMA.file)).unwrap();
        let changed = "UPDATE rows SET text = 'y' WHERE id % 7 = 0";
        paced.db_to_write().unwrap().execute(changed, ()).unwrap();
        add(&mut paced, 100).unwrap();
        let pages = paced.pages_in_wal().unwrap();
        paced.tidy().unwrap();
        let after = std::fs::read(dir.path().join(SCHEMA.file)).unwrap();
        let page_bytes = usize::try_from(paced.page_bytes).unwrap();
        let differ = |&number: &u32| {
            let at = (number as usize - 1) * page_bytes;
            before.get(at..at + page_bytes) != after.get(at..at + page_bytes)
        };
        let all = 1..=u32::try_from(after.len() / page_bytes).unwrap();
        let missed: Vec<_> = all.filter(differ).filter(|page| !pages.contains(page)).collect();
        assert!(missed.is_empty(), "{missed:?}");
        assert!(pages.iter().filter(|page| differ(page)).count() > 50);
    }

    #[test]
    fn a_reader_that_holds_a_moment_keeps_it_and_the_wal() {
        let dir = tempfile::tempdir().unwrap();
        let mut paced = open(dir.path());
        add(&mut paced, 10).unwrap();
        let mut reader = sqlite::open_reader(dir.path(), &SCHEMA).unwrap();
        let moment = reader.transaction().unwrap();
        assert_eq!(count(&moment), 10);
        for _ in 0..5 {
            add(&mut paced, 100).unwrap();
            paced.tidy().unwrap();
        }
        assert_eq!(count(&moment), 10);
        assert!(count_without_wal(dir.path()) < 510);
        moment.commit().unwrap();
        add(&mut paced, 1).unwrap();
        paced.tidy().unwrap();
        assert_eq!(count_without_wal(dir.path()), 511);
    }

    /// P3: until then the WAL is all there is of it.
    #[test]
    fn nothing_is_written_after_a_sync_that_failed() {
        let dir = tempfile::tempdir().unwrap();
        let mut paced = open(dir.path());
        add(&mut paced, 100).unwrap();
        // What no file is cannot be synced.
        paced.main = File::open("/dev/null").unwrap();
        let before = wal(dir.path());
        for _ in 0..2 {
            let failed = paced.tidy().unwrap_err();
            assert!(matches!(&failed, PacedError::Failed(_)) && !failed.is_full(), "{failed}");
            assert!(matches!(paced.sync().unwrap_err(), PacedError::Failed(_)));
            assert!(matches!(add(&mut paced, 1).unwrap_err(), PacedError::Failed(_)));
        }
        assert_eq!(count(paced.db()), 100);
        drop(paced);
        assert!(wal(dir.path()) == before, "the WAL was written to");
        let mut again = open(dir.path());
        add(&mut again, 1).unwrap();
        assert_eq!(count(again.db()), 101);
    }

    /// P3: a reader that is closed last does not take for done what is not synced.
    #[test]
    fn whoever_is_closed_last_leaves_a_wal_whose_copy_could_not_be_synced() {
        let dir = tempfile::tempdir().unwrap();
        let mut paced = open(dir.path());
        let reader = sqlite::open_reader(dir.path(), &SCHEMA).unwrap();
        add(&mut paced, 100).unwrap();
        assert_eq!(count(&reader), 100);
        paced.main = File::open("/dev/null").unwrap();
        assert!(matches!(paced.tidy().unwrap_err(), PacedError::Failed(_)));
        let before = wal(dir.path());
        drop(paced);
        drop(reader);
        assert!(wal(dir.path()) == before, "the WAL was written to");
    }

    /// P4.
    #[test]
    fn what_an_earlier_process_left_is_written_once_more_and_stays_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let mut paced = open(dir.path());
        // Of several pieces, the last of them not whole.
        add(&mut paced, 300).unwrap();
        drop(paced);
        let before = wal(dir.path());
        let length = before.len() as u64;
        assert!(length > 2 * PIECE_BYTES && !length.is_multiple_of(PIECE_BYTES));
        let file = File::options().write(true).open(dir.path().join("t.db-wal")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        let paced = open(dir.path());
        assert!(file.metadata().unwrap().modified().unwrap() > std::time::UNIX_EPOCH, "it was not written");
        assert!(wal(dir.path()) == before);
        assert_eq!(count(paced.db()), 300);
    }

    #[test]
    fn a_closed_file_is_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut paced = open(dir.path());
        add(&mut paced, 5).unwrap();
        paced.close().unwrap();
        assert_eq!(count_without_wal(dir.path()), 5);
        let left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert!(wal_is_gone_or_empty(dir.path()), "{left:?}");
    }

    fn wal_is_gone_or_empty(dir: &Path) -> bool {
        std::fs::metadata(dir.join("t.db-wal")).map_or(true, |meta| meta.len() == 0)
    }
}
