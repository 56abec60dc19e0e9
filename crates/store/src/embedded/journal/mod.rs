//! The journal: what was promised. One frame a commit, synced before anybody is told.
//!
//! A frame goes with its segment, once all of that is settled and the settled file is synced.
//!
//! Why no table: a row of SQLite costs several pages of its WAL, the same pages again in the file, and reading them
//! once more to take the row out. That was two thirds of what appending costs
//! ([decision 6](../../../../../docs/decisions/006-the-journal-is-segment-files.md)).

mod files;
mod place;
pub(super) mod segment;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tertulia_domain::conversation::Record;
use tertulia_domain::log::Commit;

pub(super) use self::place::{Place, PlaceError};
use self::segment::{FRAME_BYTES, Frames, HEADER_BYTES, Header};
use super::{Faults, OpenError, disk, record};

/// How many segments that were let go are kept to be written over. Under load some are settled at a time, and each that has
/// to be made anew costs every sync into it a write of its inode: its blocks hold nothing yet.
const SPARES_MAX: usize = 4;

/// The writer's end of the journal.
pub(super) struct Journal {
    dir: PathBuf,
    folder: [u8; 16],
    options: JournalOptions,
    faults: Faults,
    /// Segments that are not written to any more, the oldest first.
    finished: VecDeque<Finished>,
    current: Option<Current>,
    /// The newest commit in it.
    newest: Commit,
    /// Kept from batch to batch for their capacity.
    bytes: Vec<u8>,
    starts: Vec<u32>,
    /// What its files take, for the figures.
    size: Arc<AtomicU64>,
    /// Segments that were let go, by their first commits, and since when; what was deleted is in there, too.
    spares: VecDeque<(Commit, Instant)>,
}

/// How its segments are.
#[derive(Debug, Clone, Copy)]
pub(super) struct JournalOptions {
    /// How long they are, in bytes; a longer batch has one of its own.
    pub(super) segment_bytes: u64,
    /// How long one is written to, if all of it is settled: what is deleted goes from here, too.
    pub(super) segment_age: Duration,
}

/// A segment that is not written to any more.
struct Finished {
    first: Commit,
    /// The one before `first` if it holds nothing.
    last: Commit,
    bytes: u64,
    /// Open for those who read what is not settled; not what an earlier process left.
    file: Option<Arc<File>>,
}

/// The segment that is written to.
struct Current {
    file: Arc<File>,
    first: Commit,
    begun: Instant,
    written: u64,
    bytes: u64,
}

/// A batch that is written and synced.
pub(super) struct Written<'a> {
    pub(super) commit: Commit,
    pub(super) place: Place,
    /// Where in the batch each record begins.
    pub(super) starts: &'a [u32],
}

impl Journal {
    /// Opens the journal of the folder with this tag, where `settled` is the newest settled commit.
    pub(super) fn open(
        dir: &Path,
        folder: [u8; 16],
        settled: Commit,
        options: JournalOptions,
        faults: Faults,
    ) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Folder { dir: dir.to_owned(), source };
        let mut journal = Self {
            dir: dir.to_owned(),
            folder,
            options,
            faults,
            finished: VecDeque::new(),
            current: None,
            newest: settled,
            bytes: Vec::new(),
            starts: Vec::new(),
            size: Arc::default(),
            spares: VecDeque::new(),
        };
        if dir.join("journal.db").exists() {
            return Err(OpenError::Damaged(
                "journal.db is of a build before the first release: stop that build in good order, then remove the file"
                    .into(),
            ));
        }
        // Those of an earlier process may have commits that, after a backup was put back, are still to come.
        files::remove_spares(dir).map_err(failed)?;
        let firsts = files::list(dir).map_err(failed)?;
        for (at, &first) in firsts.iter().enumerate() {
            let found = read(dir, first)?;
            if found.header.folder != folder {
                return Err(OpenError::Damaged(
                    "the journal and tertulia.db belong to different folders; put back the pair".into(),
                ));
            }
            let mut frames = Frames::new(&found.bytes, first);
            let last = match firsts.get(at + 1) {
                // The next one says where this one ends: what is behind was refused.
                Some(next) => next.previous(),
                None => {
                    frames.by_ref().for_each(drop);
                    if frames.is_damaged() {
                        return Err(lacks(frames.next_commit(), "a later one is there"));
                    }
                    frames.next_commit().previous()
                }
            };
            let finished = Finished { first, last, bytes: found.bytes.len() as u64, file: None };
            journal.finished.push_back(finished);
        }
        if let Some(first) = firsts.first().filter(|first| first.get() > settled.get() + 1) {
            return Err(OpenError::Damaged(format!(
                "tertulia.db ends at commit {}, but the journal has forgotten all up to {}: one of the two is older \
                 than the other; put back both from one backup",
                settled.get(),
                first.get() - 1
            )));
        }
        journal.newest = journal.finished.back().map_or(settled, |segment| segment.last).max(settled);
        journal.measure();
        Ok(journal)
    }

    /// Hands out what is not settled yet, a batch at a time, in order; `take` is told, too, where each record begins.
    pub(super) fn replay(
        &mut self,
        settled: Commit,
        mut take: impl FnMut(Written<'_>, &[Record]),
    ) -> Result<(), OpenError> {
        let failed = |source| OpenError::Folder { dir: self.dir.clone(), source };
        let last = self.finished.len().saturating_sub(1);
        let unsettled = self.finished.iter_mut().enumerate().filter(|(_, segment)| segment.last > settled);
        for (number, segment) in unsettled {
            let found = read(&self.dir, segment.first)?;
            let file = files::open(&self.dir, segment.first).map_err(failed)?;
            if number == last {
                // Whether its last frame was ever synced nobody knows, nor whether the system would say so.
                disk::write_once_more(&file).and_then(|()| disk::sync(&file)).map_err(failed)?;
            }
            let file = segment.file.insert(Arc::new(file));
            let mut frames = Frames::new(&found.bytes, segment.first);
            let mut end = HEADER_BYTES;
            while frames.next_commit() <= segment.last {
                let Some((commit, bytes)) = frames.next() else {
                    return Err(lacks(frames.next_commit(), "its segment goes on"));
                };
                let at = end + FRAME_BYTES;
                end = at + bytes.len();
                if commit <= settled {
                    continue;
                }
                self.starts.clear();
                let begins = |start| self.starts.push(u32::try_from(start).unwrap_or(u32::MAX));
                let records = record::decode_with(bytes, begins).map_err(|error| {
                    OpenError::Damaged(format!("commit {} in the journal: {error}", commit.get()))
                })?;
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                let place = Place { file: Arc::clone(file), at: at as u64, length };
                take(Written { commit, place, starts: &self.starts }, &records);
            }
        }
        Ok(())
    }

    /// Writes a batch as the next commit and syncs it; lets go of segments up to `removable`.
    pub(super) fn append(
        &mut self,
        records: &[Record],
        removable: Commit,
    ) -> Result<Written<'_>, JournalError> {
        if self.faults.journal_full.load(Ordering::Relaxed) {
            return Err(JournalError::Io(io::ErrorKind::StorageFull.into()));
        }
        self.tidy(removable)?;
        let commit = self.newest.next();
        segment::begin_frame(&mut self.bytes);
        self.starts.clear();
        record::encode(records, &mut self.bytes, &mut self.starts)?;
        segment::end_frame(&mut self.bytes, commit);
        let length = self.bytes.len() as u64;
        let current = match self.current.take() {
            Some(current) if current.written + length <= current.bytes => current,
            full => {
                self.finished.extend(full.map(|current| self.finish_segment(&current)));
                match self.begin_segment(commit, length) {
                    // A disk with room for one: the last one goes first.
                    Err(_) if removable >= self.newest => {
                        self.trim(removable, 0);
                        self.begin_segment(commit, length)?
                    }
                    begun => begun?,
                }
            }
        };
        let current = self.current.insert(current);
        let written = (&*current.file).write_all(&self.bytes).and_then(|()| disk::sync(&current.file));
        if let Err(error) = written {
            // What a failed sync has left behind nobody knows: the next batch goes into a segment of its own, whose
            // name says that this one ends before it.
            if let Some(broken) = self.current.take().filter(|current| current.first < commit) {
                self.finished.push_back(self.finish_segment(&broken));
            }
            return Err(error.into());
        }
        let place = Place {
            file: Arc::clone(&current.file),
            at: current.written + FRAME_BYTES as u64,
            length: u32::try_from(self.bytes.len() - FRAME_BYTES).unwrap_or(u32::MAX),
        };
        current.written += length;
        self.newest = commit;
        Ok(Written { commit, place, starts: &self.starts })
    }

    /// The newest commit in it, or before it.
    pub(super) const fn newest(&self) -> Commit {
        self.newest
    }

    /// What its files take, in bytes; told as it changes.
    pub(super) fn size(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.size)
    }

    /// Whether there is anything that is to go some time.
    pub(super) fn is_untidy(&self) -> bool {
        !self.spares.is_empty() || self.holds_frames()
    }

    fn holds_frames(&self) -> bool {
        let holds_any = |segment: &Finished| segment.last >= segment.first;
        self.finished.iter().any(holds_any)
            || self.current.as_ref().is_some_and(|current| current.written > HEADER_BYTES as u64)
    }

    /// Lets go of segments whose commits are all up to `removable`, but for the newest `kept`.
    fn trim(&mut self, removable: Commit, kept: usize) {
        if self.faults.keep_journal.load(Ordering::Relaxed) {
            return;
        }
        while let Some(segment) = self.finished.front().filter(|segment| segment.last <= removable)
            && self.finished.len() + usize::from(self.current.is_some()) > kept
        {
            // A whole one will be written over, if another is soon needed.
            // Not if somebody still reads in it: one that is only removed stays as it is for him.
            let is_read = segment.file.as_ref().is_some_and(|file| Arc::strong_count(file) > 1);
            let is_spare = self.spares.len() < SPARES_MAX
                && kept > 0
                && segment.bytes == self.options.segment_bytes
                && !is_read;
            let let_go = if is_spare { files::keep_as_spare } else { files::remove };
            if let Err(error) = let_go(&self.dir, segment.first) {
                tracing::warn!(%error, first = segment.first.get(), "a settled segment of the journal stays for now");
                return;
            }
            if is_spare {
                self.spares.push_back((segment.first, Instant::now()));
            }
            self.finished.pop_front();
            self.measure();
        }
    }

    /// Lets go of what is up to `removable`, also in the newest segment if that is old.
    pub(super) fn tidy(&mut self, removable: Commit) -> io::Result<()> {
        // The newest one stays: its name says how far the journal has come.
        self.trim(removable, 1);
        let is_old = |since: Instant| since.elapsed() >= self.options.segment_age;
        while let Some(&(first, _)) = self.spares.front().filter(|(_, since)| is_old(*since)) {
            files::remove_spare(&self.dir, first)?;
            self.spares.pop_front();
        }
        let is_old = self.current.as_ref().is_some_and(|current| is_old(current.begun));
        if is_old { self.renew(removable) } else { Ok(()) }
    }

    /// Begins a new segment if all that is in the others may go.
    fn renew(&mut self, removable: Commit) -> io::Result<()> {
        let is_over = removable >= self.newest && self.holds_frames();
        if is_over && !self.faults.keep_journal.load(Ordering::Relaxed) {
            let next = self.newest.next();
            let segment = match self.begin_segment(next, 0) {
                Ok(segment) => segment,
                // The old one may have room where the disk has none. But not if the new one has its name: that says where
                // the old one ends.
                Err(error) if !files::is_there(&self.dir, next)? => {
                    tracing::debug!(%error, "a settled segment of the journal is kept for now");
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let replaced = self.current.replace(segment);
            self.finished.extend(replaced.map(|current| self.finish_segment(&current)));
            self.trim(removable, 1);
        }
        Ok(())
    }

    /// Brings it into its final shape: if all is settled, one short file that says how far it has come.
    pub(super) fn finish(&mut self, removable: Commit) -> io::Result<()> {
        self.trim(removable, 1);
        self.renew(removable)?;
        if let Some(current) = self.current.as_ref().filter(|current| current.written == HEADER_BYTES as u64)
        {
            files::cut(&current.file)?;
        }
        self.spares.clear();
        files::remove_spares(&self.dir)
    }

    fn begin_segment(&mut self, first: Commit, length: u64) -> io::Result<Current> {
        let bytes = self.options.segment_bytes.max(HEADER_BYTES as u64 + length);
        if self.faults.journal_bytes_max.is_some_and(|max| self.measure() + bytes > max) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let header = Header { folder: self.folder, first };
        let spare = self.spares.front().map(|&(first, _)| first);
        let (file, bytes) = files::create(&self.dir, header, bytes, spare)?;
        self.spares.pop_front();
        // One that held nothing had the same name: it is no more.
        self.finished.retain(|segment| segment.first != first);
        self.size.fetch_add(bytes, Ordering::Relaxed);
        Ok(Current {
            file: Arc::new(file),
            first,
            begun: Instant::now(),
            written: HEADER_BYTES as u64,
            bytes,
        })
    }

    fn finish_segment(&self, current: &Current) -> Finished {
        let (first, bytes, file) = (current.first, current.bytes, Some(Arc::clone(&current.file)));
        Finished { first, last: self.newest, bytes, file }
    }

    fn measure(&self) -> u64 {
        let current = self.current.as_ref().map_or(0, |current| current.bytes);
        let size = current + self.finished.iter().map(|segment| segment.bytes).sum::<u64>();
        self.size.store(size, Ordering::Relaxed);
        size
    }
}

struct Segment {
    header: Header,
    bytes: Vec<u8>,
}

fn read(dir: &Path, first: Commit) -> Result<Segment, OpenError> {
    let path = files::path(dir, first);
    let bytes = fs::read(&path).map_err(|source| OpenError::Folder { dir: path.clone(), source })?;
    match Header::decode(&bytes) {
        Some(header) if header.first == first => Ok(Segment { header, bytes }),
        _ => Err(OpenError::Damaged(format!(
            "{} is no segment of a journal that this program knows; it is of a newer version, or put back the folder \
             from a backup",
            path.display()
        ))),
    }
}

fn lacks(commit: Commit, why: &str) -> OpenError {
    OpenError::Damaged(format!(
        "the journal lacks commit {}, or it was damaged, for {why}; put back the folder from a backup",
        commit.get()
    ))
}

/// Why a batch is not in the journal.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    #[error("write the journal: {0}")]
    Io(#[from] io::Error),
    #[error("encode a batch: {0}")]
    Encoding(#[from] postcard::Error),
}

#[cfg(test)]
mod tests {
    use tertulia_domain::conversation::Effect;
    use tertulia_protocol::{ConvoId, Entry, EntryKind, Seq, Timestamp, UserId};

    use super::*;

    fn record(number: u64) -> Record {
        let entry = Entry {
            convo_id: ConvoId::from_bytes([1; 16]),
            seq: Seq::new(number),
            sender_id: UserId::from_bytes([2; 16]),
            client_seq: None,
            ts: Timestamp::from_millis(0),
            kind: EntryKind::Renamed { title: "x".into() },
        };
        Record::Entry { entry: Arc::new(entry), message_no: 0, effect: Effect::None }
    }

    #[test]
    fn a_segment_with_room_is_written_on_where_the_disk_has_none_for_another() {
        let dir = tempfile::tempdir().unwrap();
        // An old one is let go of as soon as all of it is settled.
        let options = JournalOptions { segment_bytes: 30_000, segment_age: Duration::ZERO };
        let faults = Faults { journal_bytes_max: Some(40_000), ..Faults::default() };
        let mut journal = Journal::open(dir.path(), [7; 16], Commit::new(0), options, faults).unwrap();
        for number in 1..=20 {
            let commit = journal.append(&[record(number)], journal.newest()).unwrap().commit;
            assert_eq!(commit, Commit::new(number));
        }
    }
}
