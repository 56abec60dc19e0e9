//! Opening a data folder: lock it, find what was left over in the journal, begin an epoch, start the threads.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use super::conversations::Conversations;
use super::journal::{Journal, JournalOptions, Written};
use super::readers::Readers;
use super::settler::{Progress, Settler};
use super::sqlite::FolderLock;
use super::store::{Embedded, Threads};
use super::tail::Tail;
use super::writer::Writer;
use super::{OpenError, OpenOptions, TailLimits, disk, settled};
use crate::queue::Queue;

impl Embedded {
    /// Opens a data folder, or makes it. What a process that was killed has left in the journal is read, and is there like
    /// all else; it is settled behind.
    ///
    /// Blocks: call it before the service starts, or on a thread that may.
    ///
    /// # Errors
    /// The folder is in use, or was written by a newer version, or is damaged, or the disk is full.
    pub fn open(dir: impl AsRef<Path>, options: OpenOptions) -> Result<Arc<Self>, OpenError> {
        let dir = dir.as_ref();
        let lock = FolderLock::take(dir)?;
        // Tags come from the operating system, not from the caller: two openings with one tag would take each
        // other's positions for their own.
        let opened = settled::open(dir, random(dir)?)?;
        let faults = options.faults;
        let journal_options = JournalOptions {
            segment_bytes: options.journal_segment_bytes,
            segment_age: options.journal_segment_age,
        };
        let (mut db, settled) = (opened.db, opened.settled);
        let mut journal = Journal::open(dir, opened.folder, settled, journal_options, faults.clone())?;
        if journal.newest() < opened.ahead {
            return Err(OpenError::Damaged(format!(
                "tertulia.db has something of commit {}, but the journal ends at {}: it is older, or was damaged; put \
                 back both from one backup",
                opened.ahead.get(),
                journal.newest().get()
            )));
        }
        let tail = Arc::new(Tail::new(settled, limits_on(dir, options.tail)));
        journal.replay(settled, |Written { commit, place, starts }, records| {
            tail.push(commit, place, records, starts);
        })?;
        if tail.horizon() != journal.newest().next() {
            return Err(OpenError::Damaged(format!(
                "the journal ends at commit {}, its replay before {}",
                journal.newest().get(),
                tail.horizon().get()
            )));
        }
        if journal.newest() > settled {
            let commits = journal.newest().get() - settled.get();
            tracing::info!(commits, "what was left in the journal is settled from now on");
        }
        let [a, b, c, d, ..] = random(dir)?;
        let epochs = settled::begin_epoch(&mut db, dir, u32::from_be_bytes([a, b, c, d]), tail.horizon())?;
        let progress = Arc::new(Progress::default());
        let settler = Settler::new(db, dir.to_owned(), tail.clone(), progress.clone(), faults, settled);
        let readers = Readers::open(dir, options.readers)?;
        let conversations = Conversations::open(dir, options.conversations_weight_max)?;
        disk::sync_folder(dir).map_err(|source| OpenError::Folder { dir: dir.to_owned(), source })?;
        let queue = Arc::new(Queue::new(options.queue_intents_max, options.queue_bytes_max));
        let (batches, journal_bytes) = (Arc::default(), journal.size());
        let writer = Writer {
            queue: queue.clone(),
            tail: tail.clone(),
            progress: progress.clone(),
            journal_patience: options.journal_segment_age,
            journal,
            conversations,
            on_append: options.on_append,
            batches: Arc::clone(&batches),
        };
        let spawned = |source| OpenError::Folder { dir: dir.to_owned(), source };
        let guard = Guard { queue: None, tail: tail.clone() };
        let settler = thread::Builder::new().name("settler".into()).spawn(move || {
            let _guard = guard;
            settler.run();
        });
        let settler = settler.map_err(spawned)?;
        let guard = Guard { queue: Some(queue.clone()), tail: tail.clone() };
        let writer = thread::Builder::new().name("appender".into()).spawn(move || {
            let _guard = guard;
            writer.run()
        });
        let writer = match writer {
            Ok(writer) => writer,
            Err(source) => {
                tail.abandon();
                return Err(spawned(source));
            }
        };
        let threads = Threads { writer, settler, lock };
        Ok(Arc::new(Self {
            dir: dir.to_owned(),
            queue,
            tail,
            progress,
            epochs,
            readers,
            newest: Arc::default(),
            batches,
            journal_bytes,
            threads: Mutex::new(Some(threads)),
        }))
    }
}

/// What is unsettled may take this part of the disk's free room; but not less than so many bytes.
const DISK_SHARE: u64 = 4;
const TAIL_BYTES_MIN: u64 = 64 << 20;

fn limits_on(dir: &Path, limits: TailLimits) -> TailLimits {
    let free = disk::free_bytes(dir).unwrap_or(u64::MAX);
    TailLimits { bytes_max: limits.bytes_max.min((free / DISK_SHARE).max(TAIL_BYTES_MIN)), ..limits }
}

/// If a thread panics, whoever waits for it is told, and so is whoever comes: nobody waits for ever.
struct Guard {
    /// The appender's.
    queue: Option<Arc<Queue>>,
    tail: Arc<Tail>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if thread::panicking() {
            match &self.queue {
                Some(queue) => queue.abandon(),
                None => self.tail.stuck("the settler has panicked; restart the service".into()),
            }
        }
    }
}

fn random(dir: &Path) -> Result<[u8; 16], OpenError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| OpenError::Folder { dir: dir.to_owned(), source: std::io::Error::other(error) })?;
    Ok(bytes)
}
