//! The checker: reads the files of a run and says which guarantees held, which did not, and by which lines.
//!
//! It reads them twice, in the order of time over all files, a line at a time. The first reading (`learn`)
//! finds out what there is: who sent what and when, what stands at each place of each conversation, who was a
//! member from where to where; so the second (`retrace`) judges what each connection and each call was told
//! knowing what was to be told. Time is linear in the size of the files, but for the logarithm of their number
//! in the merge, and a binary search for each conversation of an inbox. Memory is what is known (`known`, about
//! 300 bytes a message), and for each open connection what it has still to be told. Lines that are part of
//! evidence are read again at the end.

mod evidence;
mod known;
mod learn;
mod report;
mod retrace;
mod rules;
mod source;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

pub use learn::Counts;
pub use report::{Evidence, Report, RuleReport, Verdict, Violation};
pub use rules::Rule;

use learn::{Learner, Learnt};
use retrace::Retracer;
use source::{Remarks, Source};

/// What is asked of a run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// A run with fewer acked messages says nothing.
    pub min_operations: u64,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("read {}: {cause}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A line that no history can have.
    #[error("{}:{line}: {why}", path.display())]
    Broken {
        /// Of which file.
        path: PathBuf,
        /// Its number.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// There is nothing to read.
    #[error("no file of a history is there: name files, or a folder with files that end with .ndjson")]
    Nothing,
    /// More files than can be told apart.
    #[error("{0} files are too many for one history: the most is {max}", max = source::FILES_MAX)]
    TooMany(usize),
}

/// Checks the files of one run; a folder stands for all that end with `.ndjson` in it.
///
/// # Errors
/// If a file cannot be read, or is no history.
pub fn check(paths: &[PathBuf], options: Options) -> Result<Report, Error> {
    let source = Source { files: files(paths)? };
    let mut remarks = Remarks::default();
    let mut learner = Learner::default();
    source.each(&mut remarks, |at, line| learner.take(at, line))?;
    let Learnt { known, findings, counts, notes } = learner.finish();
    let mut retracer = Retracer::new(&known, findings);
    source.each(&mut Remarks::default(), |at, line| retracer.take(at, line))?;
    let outcome = retracer.finish();
    report::Making { source: &source, counts, notes, outcome }.report(remarks, options)
}

fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let failed = |cause| Error::Io { path: path.clone(), cause };
        let first = files.len();
        for item in std::fs::read_dir(path).map_err(failed)? {
            let file = item.map_err(failed)?.path();
            if file.extension().is_some_and(|extension| extension == "ndjson") {
                files.push(file);
            }
        }
        files[first..].sort();
    }
    match files.len() {
        0 => Err(Error::Nothing),
        many if many > source::FILES_MAX => Err(Error::TooMany(many)),
        _ => Ok(files),
    }
}
