//! Where the floor keeps what it relays: nowhere, or in a file that is synced once a turn.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// How long the file is. It is written over from its beginning when it is full: a floor need not be read again.
const FILE_BYTES: u64 = 64 * 1024 * 1024;
/// How much of it is filled at once, at the start.
const FILL_BYTES: usize = 1024 * 1024;

/// What makes a turn durable.
pub(super) trait Log {
    /// Takes the records of a turn; when this is over they are durable.
    ///
    /// # Errors
    /// If they are not.
    fn sync(&mut self, records: &[u8]) -> io::Result<()>;

    /// Whether there is any use in making records.
    fn keeps(&self) -> bool {
        true
    }
}

/// Memory only.
pub(super) struct Nowhere;

impl Log for Nowhere {
    fn sync(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn keeps(&self) -> bool {
        false
    }
}

/// A file whose blocks all exist and hold something before the first turn, so that a sync writes records and no
/// metadata.
pub(super) struct Ring<F> {
    file: F,
    len: u64,
    next: u64,
}

/// What a ring is written to.
pub(super) trait Medium {
    fn put(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
}

impl Medium for File {
    fn put(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

impl Ring<File> {
    /// Makes the file, and fills it.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        let zeros = vec![0; FILL_BYTES];
        for at in (0..FILE_BYTES).step_by(FILL_BYTES) {
            file.write_all_at(&zeros, at)?;
        }
        file.sync_all()?;
        Ok(Self::new(file, FILE_BYTES))
    }
}

impl<F: Medium> Ring<F> {
    pub(super) fn new(file: F, len: u64) -> Self {
        Self { file, len, next: 0 }
    }
}

impl<F: Medium> Log for Ring<F> {
    fn sync(&mut self, records: &[u8]) -> io::Result<()> {
        let mut rest = records;
        while !rest.is_empty() {
            let room = usize::try_from(self.len - self.next).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at(rest.len().min(room));
            self.file.put(now, self.next)?;
            self.next = (self.next + now.len() as u64) % self.len;
            rest = later;
        }
        if records.is_empty() { Ok(()) } else { self.file.sync() }
    }
}
