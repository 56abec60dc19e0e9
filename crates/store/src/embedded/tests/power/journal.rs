//! The journal: whatever was acked is there, and nothing that was never appended; also after a sync that failed, after a
//! process was killed, and after the next cut.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::RngExt as _;
use proptest::test_runner::TestRng;
use tempfile::TempDir;
use tertulia_domain::conversation::{Effect, Record};
use tertulia_domain::log::Commit;
use tertulia_protocol::entry::{Entry, EntryKind};
use tertulia_protocol::{ConvoId, Seq, Timestamp, UserId};

use super::{SECTOR_BYTES, chance, left};
use crate::embedded::Faults;
use crate::embedded::disk::watched::{self, Watcher};
use crate::embedded::journal::{Journal, JournalOptions};

const FOLDER: [u8; 16] = [7; 16];
const SEGMENT_BYTES: u64 = 5_000;
const LIVES: usize = 12;
const BATCHES: usize = 16;
/// One sync in so many fails.
const FAILS_ONE_IN: u32 = 25;

/// Which file a name stands for, by its number.
type Names = BTreeMap<String, u64>;

/// A folder, what of it is on the disk for sure, and what was appended to its journal.
struct Machine {
    dir: TempDir,
    /// All that were ever seen, kept open: a number stands for one file for ever.
    files: HashMap<u64, File>,
    durable: HashMap<u64, Vec<u8>>,
    durable_names: Names,
    /// What these were when a sync of them failed. The system takes that for written: a later sync brings only what was
    /// written since.
    doubtful: HashMap<u64, Vec<u8>>,
    acked: Vec<Record>,
    /// What was tried since, as the next commit; refused, but for the last one.
    tried: Vec<Record>,
    /// So many are settled and synced.
    removable: usize,
    chance: TestRng,
    cuts: usize,
    /// How many cuts took, and left, what was not acked.
    taken: usize,
    stayed: usize,
    failed: usize,
    /// The next sync fails, or does not come any more.
    is_dying: bool,
}

impl Machine {
    /// What the folder is now.
    fn names(&mut self) -> Names {
        let mut names = Names::new();
        for entry in fs::read_dir(self.dir.path()).unwrap() {
            let entry = entry.unwrap();
            let inode = entry.metadata().unwrap().ino();
            self.files.entry(inode).or_insert_with(|| File::open(entry.path()).unwrap());
            names.insert(entry.file_name().into_string().unwrap(), inode);
        }
        names
    }

    fn now(&self, inode: u64) -> Vec<u8> {
        let file = &self.files[&inode];
        let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn note_failure(&mut self, file: &File) {
        let meta = file.metadata().unwrap();
        if meta.is_file() {
            self.doubtful.insert(meta.ino(), self.now(meta.ino()));
        }
    }

    fn note_sync(&mut self, inode: u64) {
        let mut synced = self.now(inode);
        if let Some(doubtful) = self.doubtful.get(&inode) {
            let durable = self.durable.get(&inode).map(Vec::as_slice).unwrap_or_default();
            for (number, sector) in synced.chunks_mut(SECTOR_BYTES).enumerate() {
                let sector_of = |bytes: &[u8]| {
                    let at = number * SECTOR_BYTES;
                    let mut found =
                        bytes.get(at..bytes.len().min(at + sector.len())).unwrap_or_default().to_vec();
                    found.resize(sector.len(), 0);
                    found
                };
                if *sector == sector_of(doubtful) {
                    sector.copy_from_slice(&sector_of(durable));
                }
            }
        }
        self.durable.insert(inode, synced);
    }

    /// Begins anew from what a cut has left: all of that is on the disk.
    fn restart(&mut self, dir: TempDir, settled: usize) {
        self.dir = dir;
        self.removable = settled;
        self.files.clear();
        self.doubtful.clear();
        self.durable_names = self.names();
        let inodes: Vec<_> = self.durable_names.values().copied().collect();
        self.durable = inodes.into_iter().map(|inode| (inode, self.now(inode))).collect();
    }

    /// The power is cut; gives what is there, and how many are settled.
    fn cut(&mut self) -> (TempDir, usize) {
        let now = self.names();
        let names = if self.chance.random() { self.durable_names.clone() } else { now };
        let after = tempfile::tempdir().unwrap();
        for (name, inode) in names {
            let durable = self.durable.get(&inode).map(Vec::as_slice).unwrap_or_default();
            let left = left(durable, &self.now(inode), &mut self.chance);
            fs::write(after.path().join(name), left).unwrap();
        }
        self.cuts += 1;
        (after, self.settled())
    }

    /// What was settled may be on the disk before it is synced.
    fn settled(&mut self) -> usize {
        self.chance.random_range(self.removable..=self.acked.len())
    }

    /// Opens what a cut has left; gives all that was ever appended, as is known now.
    fn judge(&mut self, dir: &Path, settled: usize) -> Vec<Record> {
        let cut = self.cuts;
        let opened = open(dir, settled, Duration::MAX);
        let (_, found) = opened.unwrap_or_else(|error| panic!("cut {cut}: {error}"));
        self.check(settled, &found, &format!("cut {cut}"))
    }

    /// What a process finds in the journal it may tell to others.
    fn know(&mut self, settled: usize, found: &[Record]) {
        self.acked = self.check(settled, found, "a start");
        self.tried.clear();
    }

    /// All that was acked is there, and nothing that was not tried; gives all there is.
    fn check(&mut self, settled: usize, found: &[Record], when: &str) -> Vec<Record> {
        let known = [&self.acked[..settled], found].concat();
        let acked = self.acked.len();
        assert!(known.len() >= acked, "{when}: {} of {acked}", known.len());
        assert!(known[..acked] == self.acked, "{when}: what was acked is not what is there");
        match &known[acked..] {
            [] => self.taken += usize::from(!self.tried.is_empty()),
            [more] => {
                assert!(self.tried.contains(more), "{when}: what is there was never appended");
                self.stayed += 1;
            }
            more => panic!("{when}: {} more than were appended", more.len() - 1),
        }
        known
    }

    fn cut_and_judge(&mut self) {
        for _ in 0..2 {
            let (after, settled) = self.cut();
            let known = self.judge(after.path(), settled);
            // And it goes on from there.
            let (mut journal, _) = open(after.path(), settled, Duration::ZERO).unwrap();
            let next = record(known.len() + 1, 100);
            journal.append(std::slice::from_ref(&next), commit(settled)).unwrap();
            drop(journal);
            let (_, found) = open(after.path(), settled, Duration::MAX).unwrap();
            assert!(found.len() == known.len() + 1 - settled && found.last() == Some(&next));
        }
    }
}

/// Cuts the power around each sync, and lets some fail.
struct Told(Rc<RefCell<Machine>>);

impl Watcher for Told {
    fn before(&mut self, file: &File) -> io::Result<()> {
        // It opens journals, too.
        let Ok(mut machine) = self.0.try_borrow_mut() else { return Ok(()) };
        machine.cut_and_judge();
        let one_in = if machine.is_dying { 2 } else { FAILS_ONE_IN };
        let fails = machine.chance.random_ratio(1, one_in);
        if fails {
            machine.failed += 1;
            machine.note_failure(file);
        }
        if fails || machine.is_dying { Err(io::Error::other("a test says so")) } else { Ok(()) }
    }

    fn after(&mut self, file: &File) {
        let Ok(mut machine) = self.0.try_borrow_mut() else { return };
        let names = machine.names();
        let meta = file.metadata().unwrap();
        if meta.is_dir() {
            machine.durable_names = names;
        } else {
            machine.note_sync(meta.ino());
        }
        machine.cut_and_judge();
    }

    fn written_once_more(&mut self, file: &File) {
        if let Ok(mut machine) = self.0.try_borrow_mut() {
            machine.doubtful.remove(&file.metadata().unwrap().ino());
        }
    }
}

fn commit(number: usize) -> Commit {
    Commit::new(number as u64)
}

/// One whose bytes say how many it is.
fn record(number: usize, length: usize) -> Record {
    let entry = Entry {
        convo_id: ConvoId::from_bytes([1; 16]),
        seq: Seq::new(number as u64),
        sender_id: UserId::from_bytes([2; 16]),
        client_seq: None,
        ts: Timestamp::from_millis(number as i64),
        kind: EntryKind::Renamed { title: format!("{number} ").repeat(length / 4) },
    };
    Record::Entry { entry: Arc::new(entry), message_no: 0, effect: Effect::None }
}

/// Opens a journal; gives what is in it behind `settled`, in order.
fn open(
    dir: &Path,
    settled: usize,
    segment_age: Duration,
) -> Result<(Journal, Vec<Record>), crate::embedded::OpenError> {
    let options = JournalOptions { segment_bytes: SEGMENT_BYTES, segment_age };
    let mut journal = Journal::open(dir, FOLDER, commit(settled), options, Faults::default())?;
    let mut found = Vec::new();
    journal.replay(commit(settled), |written, records| {
        assert_eq!(written.commit, commit(settled + found.len() + 1));
        found.extend_from_slice(records);
    })?;
    assert_eq!(journal.newest(), commit(settled + found.len()));
    Ok((journal, found))
}

/// A process: opens the journal, and appends, with some of it settled meanwhile.
fn live(machine: &Rc<RefCell<Machine>>, load: &mut TestRng) {
    // Either segments that were let go are written over, or none is kept.
    let age = if load.random() { Duration::MAX } else { Duration::ZERO };
    let (dir, settled) = (machine.borrow().dir.path().to_owned(), machine.borrow().removable);
    // What opening it writes may fail, too.
    let (mut journal, found) = loop {
        if let Ok(opened) = open(&dir, settled, age) {
            break opened;
        }
    };
    // Whoever reads now is shown all of it.
    machine.borrow_mut().know(settled, &found);
    for _ in 0..BATCHES {
        if load.random_ratio(1, 5) {
            let mut machine = machine.borrow_mut();
            machine.removable = load.random_range(machine.removable..=machine.acked.len());
        }
        if load.random_ratio(1, 5) {
            let removable = commit(machine.borrow().removable);
            let _ = journal.tidy(removable);
        }
        append(machine, &mut journal, load);
    }
    if load.random_ratio(1, 4) {
        let all = machine.borrow().acked.len();
        machine.borrow_mut().removable = all;
        let _ = journal.finish(commit(all));
    }
    if load.random() {
        let mut machine = machine.borrow_mut();
        let (dir, settled) = machine.cut();
        machine.judge(dir.path(), settled);
        machine.restart(dir, settled);
    } else {
        // Only the process is killed, in the midst of an append.
        machine.borrow_mut().is_dying = true;
        append(machine, &mut journal, load);
        let mut machine = machine.borrow_mut();
        machine.is_dying = false;
        machine.removable = machine.settled();
    }
}

fn append(machine: &RefCell<Machine>, journal: &mut Journal, load: &mut TestRng) {
    let (number, removable) = {
        let machine = machine.borrow();
        (machine.acked.len() + 1, commit(machine.removable))
    };
    let length = if load.random_ratio(1, 30) { 9_000 } else { load.random_range(0..1_600) };
    let record = record(number, length);
    machine.borrow_mut().tried.push(record.clone());
    let appended = journal.append(std::slice::from_ref(&record), removable).map(|written| written.commit);
    let mut machine = machine.borrow_mut();
    if let Ok(found) = appended {
        assert_eq!(found, commit(number));
        machine.acked.push(record);
        machine.tried.clear();
    }
    machine.cut_and_judge();
}

fn run(seed: u8) {
    let mut load = chance(seed);
    let machine = Rc::new(RefCell::new(Machine {
        dir: tempfile::tempdir().unwrap(),
        files: HashMap::new(),
        durable: HashMap::new(),
        durable_names: Names::new(),
        doubtful: HashMap::new(),
        acked: Vec::new(),
        tried: Vec::new(),
        removable: 0,
        chance: chance(!seed),
        cuts: 0,
        taken: 0,
        stayed: 0,
        failed: 0,
        is_dying: false,
    }));
    let _watching = watched::watch(Told(Rc::clone(&machine)));
    for _ in 0..LIVES {
        live(&machine, &mut load);
    }
    let Machine { cuts, taken, stayed, failed, .. } = &*machine.borrow();
    let enough = *cuts > 1_000 && *taken > 50 && *stayed > 50 && *failed > 5;
    assert!(enough, "{cuts} cuts took {taken} and left {stayed}; {failed} syncs failed");
}

#[test]
fn a_cut_takes_nothing_that_was_acked_and_leaves_nothing_that_was_not_appended() {
    for seed in 0..3 {
        run(seed);
    }
}
