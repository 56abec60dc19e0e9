//! Reads the files of a run as one history, in the order of time, a line at a time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;

use super::Error;
use crate::event::{Event, Line, VERSION};

/// What is read of a file at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// Line numbers and file numbers share 64 bits.
const LINE_BITS: u32 = 44;
/// The most files of one history.
pub(super) const FILES_MAX: usize = 1 << (64 - LINE_BITS);

/// The place of a line: file and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct At(u64);

impl At {
    pub(super) fn new(file: usize, line: u64) -> Self {
        Self((file as u64) << LINE_BITS | line)
    }

    pub(super) fn file(self) -> usize {
        (self.0 >> LINE_BITS) as usize
    }

    pub(super) fn line(self) -> u64 {
        self.0 & ((1 << LINE_BITS) - 1)
    }
}

/// The files of a run.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) files: Vec<PathBuf>,
}

/// What was odd about a file, and no reason to refuse it.
#[derive(Debug, Default)]
pub(super) struct Remarks(pub(super) Vec<String>);

/// One file.
struct Reader {
    path: PathBuf,
    input: BufReader<File>,
    text: String,
    number: u64,
    last: u64,
    clock: Option<String>,
}

impl Source {
    /// Reads everything once. The merge costs a logarithm of the number of files a line, and holds one line
    /// and one buffer of each.
    pub(super) fn each(
        &self,
        remarks: &mut Remarks,
        mut take: impl FnMut(At, &Line) -> Result<(), String>,
    ) -> Result<(), Error> {
        let mut readers = Vec::with_capacity(self.files.len());
        let mut next: Vec<Option<Line>> = Vec::with_capacity(self.files.len());
        let mut heap = BinaryHeap::with_capacity(self.files.len());
        for (file, path) in self.files.iter().enumerate() {
            let mut reader = Reader::open(path.clone())?;
            let line = reader.next(remarks)?;
            match &line {
                Some(Line { event: Event::Header(header), .. }) if header.version == VERSION => {
                    reader.clock.clone_from(&header.clock);
                }
                Some(Line { event: Event::Header(header), .. }) => {
                    return Err(
                        reader.broken(format!("version {} of the format, not {VERSION}", header.version))
                    );
                }
                _ => return Err(reader.broken("a history begins with a line of \"e\":\"history\"".into())),
            }
            heap.extend(line.as_ref().map(|line| Reverse(key(line, file))));
            next.push(line);
            readers.push(reader);
        }
        let mut clocks = readers.iter().filter(|reader| reader.clock.is_some());
        if let Some(first) = clocks.next()
            && let Some(other) = clocks.find(|reader| reader.clock != first.clock)
        {
            let why = format!("its times are of another clock than those of {}", first.path.display());
            return Err(other.broken(why));
        }
        while let Some(Reverse((_, _, file))) = heap.pop() {
            let reader = &mut readers[file];
            let Some(line) = next[file].take() else { continue };
            take(At::new(file, reader.number), &line).map_err(|why| reader.broken(why))?;
            next[file] = reader.next(remarks)?;
            heap.extend(next[file].as_ref().map(|line| Reverse(key(line, file))));
        }
        Ok(())
    }
}

/// The order of lines. At the same time attempts go first: then nothing claims that one came after the other.
fn key(line: &Line, file: usize) -> (u64, bool, usize) {
    let begins = matches!(
        line.event,
        Event::Send(_) | Event::Read(_) | Event::ReadInbox(_) | Event::Mark(_) | Event::Change(_)
    );
    (line.t, !begins, file)
}

impl Reader {
    fn open(path: PathBuf) -> Result<Self, Error> {
        match File::open(&path) {
            Ok(opened) => {
                let input = BufReader::with_capacity(BUFFER_BYTES, opened);
                Ok(Self { path, input, text: String::new(), number: 0, last: 0, clock: None })
            }
            Err(cause) => Err(Error::Io { path, cause }),
        }
    }

    fn next(&mut self, remarks: &mut Remarks) -> Result<Option<Line>, Error> {
        self.text.clear();
        let read = self.input.read_line(&mut self.text);
        if read.map_err(|cause| Error::Io { path: self.path.clone(), cause })? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let line = match Line::parse(&self.text) {
            Ok(line) => line,
            // Whoever wrote it was killed.
            Err(_) if !self.text.ends_with('\n') && self.number > 1 => {
                let (path, number) = (self.path.display(), self.number);
                remarks.0.push(format!("{path}:{number}: the file ends in the middle of a line"));
                return Ok(None);
            }
            Err(error) => return Err(self.broken(error.to_string())),
        };
        if line.t < self.last {
            return Err(self.broken("its time is before that of the line before".into()));
        }
        self.last = line.t;
        Ok(Some(line))
    }

    fn broken(&self, why: String) -> Error {
        Error::Broken { path: self.path.clone(), line: self.number, why }
    }
}
