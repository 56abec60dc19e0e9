//! Writes a history while it happens.

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock;
use crate::event::{Event, Header, VERSION};

/// Lines are gathered up to here before they are written. This is all the memory that a recorder takes,
/// plus one line.
const BUFFER_BYTES: usize = 256 * 1024;

/// A history that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("write the history {}: {cause}", path.display())]
pub struct Error {
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub cause: io::Error,
}

/// What a history has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Lines, with the header.
    pub lines: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Writes one file; clones write the same one, from any thread.
///
/// [`record`](Self::record) takes the time and writes under one lock, so that the lines of a file are in the
/// order of their times. When the buffer is full, whoever records waits until it is written: memory is bounded,
/// and nothing is left out. The first error is kept, what comes after it is not written, and
/// [`finish`](Self::finish) tells it; [`error`](Self::error) tells it earlier to whoever asks.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    connections: AtomicU64,
    ops: AtomicU64,
    pen: Mutex<Pen>,
}

struct Pen {
    file: Box<dyn io::Write + Send>,
    buffer: Vec<u8>,
    last: u64,
    written: Written,
    failed: Option<io::Error>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

impl Recorder {
    /// Begins a history in a new file; one that is there is overwritten. `program` says who writes.
    ///
    /// # Errors
    /// If the file cannot be created or written.
    pub fn create(path: impl Into<PathBuf>, program: &str) -> Result<Self, Error> {
        let path = path.into();
        match File::create(&path) {
            Ok(file) => Self::begin(path, Box::new(file), program),
            Err(cause) => Err(Error { path, cause }),
        }
    }

    fn begin(path: PathBuf, file: Box<dyn io::Write + Send>, program: &str) -> Result<Self, Error> {
        let written = Written { lines: 0, bytes: 0 };
        let buffer = Vec::with_capacity(BUFFER_BYTES);
        let pen = Mutex::new(Pen { file, buffer, last: 0, written, failed: None });
        let shared = Shared { path, connections: AtomicU64::new(0), ops: AtomicU64::new(0), pen };
        let recorder = Self { shared: Arc::new(shared) };
        recorder.record(Header { version: VERSION, program: program.to_owned(), clock: clock::name() });
        // At once, so that a folder that cannot be written is told before the work, not after it.
        recorder.flush()?;
        Ok(recorder)
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// A number for a connection that is about to be opened.
    pub fn connection(&self) -> u64 {
        self.shared.connections.fetch_add(1, Relaxed) + 1
    }

    /// A number for a call that is about to be made.
    pub fn op(&self) -> u64 {
        self.shared.ops.fetch_add(1, Relaxed) + 1
    }

    /// Writes that this happens now. Call it before an attempt goes out, and after an answer has come.
    pub fn record(&self, event: impl Into<Event>) {
        self.pen().put(&event.into(), clock::now);
    }

    /// What has gone wrong so far.
    pub fn error(&self) -> Option<Error> {
        self.pen().failed.as_ref().map(|cause| self.told(cause))
    }

    /// Writes what is gathered.
    ///
    /// # Errors
    /// If it, or anything before it, could not be written.
    pub fn flush(&self) -> Result<Written, Error> {
        let mut pen = self.pen();
        pen.write_out();
        match &pen.failed {
            Some(cause) => Err(self.told(cause)),
            None => Ok(pen.written),
        }
    }

    /// Writes what is gathered, and says how much it was. What clones record later is written when the last of
    /// them is dropped.
    ///
    /// # Errors
    /// If anything could not be written: the history is not complete then.
    pub fn finish(self) -> Result<Written, Error> {
        self.flush()
    }

    fn pen(&self) -> MutexGuard<'_, Pen> {
        self.shared.pen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self, cause: &io::Error) -> Error {
        Error { path: self.shared.path.clone(), cause: io::Error::new(cause.kind(), cause.to_string()) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let pen = self.pen.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !pen.buffer.is_empty() {
            pen.write_out();
            if let Some(error) = &pen.failed {
                tracing::error!(path = %self.path.display(), %error, "a history is not complete");
            }
        }
    }
}

impl Pen {
    fn put(&mut self, event: &Event, clock: impl FnOnce() -> u64) {
        /// [`Line`](crate::event::Line), with an event that is only lent.
        #[derive(serde::Serialize)]
        struct Line<'a> {
            t: u64,
            #[serde(flatten)]
            event: &'a Event,
        }
        if self.failed.is_some() {
            return;
        }
        // Never the same moment twice: the order in a file is the order of its times.
        self.last = clock().max(self.last + 1);
        let from = self.buffer.len();
        if let Err(error) = serde_json::to_writer(&mut self.buffer, &Line { t: self.last, event }) {
            self.buffer.truncate(from);
            self.failed = Some(error.into());
            return;
        }
        self.buffer.push(b'\n');
        self.written.lines += 1;
        self.written.bytes += (self.buffer.len() - from) as u64;
        if self.buffer.len() >= BUFFER_BYTES {
            self.write_out();
        }
    }

    fn write_out(&mut self) {
        if self.failed.is_none()
            && let Err(error) = self.file.write_all(&self.buffer)
        {
            self.failed = Some(error);
        }
        self.buffer.clear();
    }
}

#[cfg(test)]
mod tests {
    use tertulia_protocol::Seq;

    use super::*;
    use crate::event::{Gap, Line, Note, Settled};

    fn lines(path: &Path) -> Vec<Line> {
        std::fs::read_to_string(path).unwrap().lines().map(|line| Line::parse(line).unwrap()).collect()
    }

    #[test]
    fn a_history_begins_with_its_header_and_has_one_line_for_each_event() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ndjson");
        let recorder = Recorder::create(&path, "a test").unwrap();
        recorder.record(Settled { c: recorder.connection() });
        recorder.record(Note { text: "killed".into() });
        let written = recorder.finish().unwrap();
        let lines = lines(&path);
        assert_eq!(written.lines, 3);
        assert_eq!(written.bytes, std::fs::metadata(&path).unwrap().len());
        assert!(matches!(&lines[0].event, Event::Header(header) if header.program == "a test"));
        assert_eq!(lines[1].event, Settled { c: 1 }.into());
        assert_eq!(lines[2].event, Note { text: "killed".into() }.into());
    }

    #[test]
    fn lines_of_many_threads_are_whole_and_in_the_order_of_their_times() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ndjson");
        let recorder = Recorder::create(&path, "a test").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        recorder.record(Settled { c: recorder.connection() });
                    }
                });
            }
        });
        recorder.finish().unwrap();
        let lines = lines(&path);
        assert_eq!(lines.len(), 8_001);
        assert!(lines.is_sorted_by(|a, b| a.t < b.t));
    }

    #[test]
    fn what_is_gathered_is_written_when_the_last_recorder_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ndjson");
        let recorder = Recorder::create(&path, "a test").unwrap();
        recorder.record(Settled { c: 7 });
        drop(recorder);
        assert_eq!(lines(&path).len(), 2);
    }

    /// Takes a header, and then nothing.
    struct Full(bool);

    impl io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.0, true) {
                Err(io::ErrorKind::StorageFull.into())
            } else {
                Ok(bytes.len())
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_told_and_nothing_is_written_after_it() {
        let recorder = Recorder::begin("full.ndjson".into(), Box::new(Full(false)), "a test").unwrap();
        for c in 0..20_000 {
            recorder.record(Gap {
                c,
                convo: tertulia_protocol::ConvoId::from_bytes([1; 16]),
                from: Seq::new(1),
                to: Seq::new(2),
            });
        }
        let error = recorder.error().unwrap();
        assert_eq!(error.cause.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().starts_with("write the history full.ndjson: "));
        assert!(recorder.finish().is_err());
    }

    #[test]
    fn a_folder_that_is_not_there_is_told_at_once() {
        assert!(Recorder::create("/no/such/folder/a.ndjson", "a test").is_err());
    }
}
