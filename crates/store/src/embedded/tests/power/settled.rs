//! The settled file: it is whole, and has all commits up to one that is not before the last synced one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use proptest::prelude::RngExt as _;
use proptest::test_runner::TestRng;
use rusqlite::Connection;

use super::{chance, left};
use crate::embedded::disk::watched::{self, Watcher};
use crate::embedded::paced::Paced;
use crate::embedded::sqlite::{self, Durability, Schema};

const SCHEMA: Schema = Schema {
    file: "t.db",
    migrations: &[("rows", "CREATE TABLE rows (id INTEGER PRIMARY KEY, value INTEGER, text TEXT)")],
    functions: sqlite::no_functions,
};
const FILES: [&str; 2] = ["t.db", "t.db-wal"];
const WAL_PAGES_MAX: u32 = 24;
const WAL_HEADER_BYTES: usize = 32;
const COMMITS: usize = 60;

type Rows = BTreeMap<i64, i64>;

/// A folder, what of its files is known to be on the disk, and what its table was after each commit.
struct Machine {
    dir: PathBuf,
    durable: [Vec<u8>; 2],
    history: Vec<Rows>,
    /// So many commits are synced.
    synced: usize,
    chance: TestRng,
    cuts: usize,
    /// How many cuts lost a commit, so that it is known that cuts cut.
    lossy: usize,
}

impl Machine {
    fn now(&self, file: usize) -> Vec<u8> {
        fs::read(self.dir.join(FILES[file])).unwrap()
    }

    fn note_sync(&mut self, file: &File) {
        let inode = file.metadata().unwrap().ino();
        let synced = FILES.iter().position(|name| fs::metadata(self.dir.join(name)).unwrap().ino() == inode);
        let synced = synced.unwrap();
        self.durable[synced] = self.now(synced);
        // All that was committed is in the WAL, and what is copied is in it, too.
        self.synced = self.history.len() - 1;
    }

    /// What the disk has after a cut, for a file.
    fn left(&mut self, file: usize) -> Vec<u8> {
        let now = self.now(file);
        let mut left = left(&self.durable[file], &now, &mut self.chance);
        if file == 1 && left.len() >= WAL_HEADER_BYTES && now.len() >= WAL_HEADER_BYTES {
            // SQLite syncs the header of a WAL that it begins anew before any frame of it.
            left[..WAL_HEADER_BYTES].copy_from_slice(&now[..WAL_HEADER_BYTES]);
        }
        left
    }

    fn cut(&mut self) {
        let after = tempfile::tempdir().unwrap();
        for (number, name) in FILES.iter().enumerate() {
            fs::write(after.path().join(name), self.left(number)).unwrap();
        }
        let db = Connection::open(after.path().join(SCHEMA.file)).unwrap();
        let whole: String = db.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
        assert_eq!(whole, "ok", "after cut {}", self.cuts);
        let found = rows(&db);
        let possible = &self.history[self.synced..];
        let place = possible.iter().position(|rows| *rows == found);
        assert!(
            place.is_some(),
            "cut {}: not what any commit from {} to {} has left",
            self.cuts,
            self.synced,
            self.history.len() - 1
        );
        self.cuts += 1;
        self.lossy += usize::from(place != Some(possible.len() - 1));
    }
}

/// Cuts the power around each sync.
struct Told(Rc<RefCell<Machine>>);

impl Told {
    fn cut(machine: &mut Machine) {
        for _ in 0..3 {
            machine.cut();
        }
    }
}

impl Watcher for Told {
    fn before(&mut self, _: &File) -> io::Result<()> {
        Self::cut(&mut self.0.borrow_mut());
        Ok(())
    }

    fn after(&mut self, file: &File) {
        let mut machine = self.0.borrow_mut();
        machine.note_sync(file);
        Self::cut(&mut machine);
    }

    fn written_once_more(&mut self, _: &File) {}
}

fn rows(db: &Connection) -> Rows {
    let mut statement = db.prepare("SELECT id, value FROM rows").unwrap();
    statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<Result<_, _>>().unwrap()
}

fn open(dir: &Path) -> Paced {
    let db = sqlite::open_writer(dir, &SCHEMA, Durability::Full).unwrap();
    Paced::new(db, dir, SCHEMA.file, WAL_PAGES_MAX).unwrap()
}

/// Commits rows, new ones and some that are there, so that pages are written again and again.
fn commit(paced: &mut Paced, number: usize, chance: &mut TestRng, rows: &mut Rows) {
    let tx = paced.db_to_write().unwrap().transaction().unwrap();
    for _ in 0..chance.random_range(1..=12) {
        let (id, value) = (chance.random_range(0..400), number as i64);
        let text = "x".repeat(chance.random_range(500..2_000));
        tx.execute("INSERT OR REPLACE INTO rows VALUES (?1, ?2, ?3)", (id, value, text)).unwrap();
        rows.insert(id, value);
    }
    tx.commit().unwrap();
}

fn run(seed: u8) {
    let dir = tempfile::tempdir().unwrap();
    let mut paced = open(dir.path());
    let mut load = chance(seed);
    let machine = Rc::new(RefCell::new(Machine {
        dir: dir.path().to_owned(),
        durable: FILES.map(|name| fs::read(dir.path().join(name)).unwrap()),
        history: vec![Rows::new()],
        synced: 0,
        chance: chance(!seed),
        cuts: 0,
        lossy: 0,
    }));
    let _watching = watched::watch(Told(Rc::clone(&machine)));
    let mut state = Rows::new();
    for number in 1..=COMMITS {
        // SQLite may begin the WAL anew in here: there is no moment in it that could be watched.
        commit(&mut paced, number, &mut load, &mut state);
        machine.borrow_mut().history.push(state.clone());
        machine.borrow_mut().cut();
        for _ in 0..load.random_range(0..3) {
            if load.random_range(0..3) == 0 {
                paced.sync().unwrap();
                // Whoever was told so lets go of what is before it.
                let commits = machine.borrow().history.len();
                assert_eq!(machine.borrow().synced, commits - 1, "seed {seed}, commit {number}");
            } else {
                paced.tidy().unwrap();
            }
        }
        machine.borrow_mut().cut();
    }
    let machine = machine.borrow();
    assert!(machine.cuts > 200 && machine.lossy > 15, "{} cuts, {} lossy", machine.cuts, machine.lossy);
}

#[test]
fn a_cut_takes_no_synced_commit_and_no_part_of_one() {
    for seed in 0..4 {
        run(seed);
    }
}
