//! The journal's files: how they are called, found, made and removed.
//!
//! `journal-N.log` begins with commit N. Its space is taken from the disk when it is made, so that a full disk is found
//! there and not between two batches. `journal-N.spare` is one that was let go and is written over later: a sync of what
//! is written over old bytes changes no metadata of the file system, which halves it. What is old is told from what is
//! new by its commits.

use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use tertulia_domain::log::Commit;

use super::super::disk;
use super::segment::{HEADER_BYTES, Header};

const PREFIX: &str = "journal-";
const SUFFIX: &str = ".log";
/// A segment that was let go, to be written over.
const SPARE_SUFFIX: &str = ".spare";
/// The only spare one of a build before the first release.
const ONLY_SPARE: &str = "journal.spare";
/// A segment that has no header yet.
const NEXT: &str = "journal.next";

/// The path of the segment that begins with a commit; by name they are in order.
pub(super) fn path(dir: &Path, first: Commit) -> PathBuf {
    named(dir, first, SUFFIX)
}

fn named(dir: &Path, first: Commit, suffix: &str) -> PathBuf {
    dir.join(format!("{PREFIX}{:020}{suffix}", first.get()))
}

/// The first commits of all segments in a folder, ascending.
pub(super) fn list(dir: &Path) -> io::Result<Vec<Commit>> {
    list_named(dir, SUFFIX)
}

fn list_named(dir: &Path, suffix: &str) -> io::Result<Vec<Commit>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(suffix)?.parse().ok());
        found.extend(number.map(Commit::new));
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes a segment of `bytes` bytes at least, of the spare one that began with `spare` if there is one, ready to be written
/// behind its header; tells how long it is.
pub(super) fn create(
    dir: &Path,
    header: Header,
    bytes: u64,
    spare: Option<Commit>,
) -> io::Result<(File, u64)> {
    let next = dir.join(NEXT);
    let begun = begin(dir, &next, header, bytes, spare);
    if begun.is_err() {
        // What a failed sync has left of it nobody knows, and the disk may be full.
        remove_if_there(&next)?;
    }
    let begun = begun?;
    // Named only when it is whole: a segment that is found has a header.
    fs::rename(&next, path(dir, header.first))?;
    disk::sync_folder(dir)?;
    Ok(begun)
}

fn begin(
    dir: &Path,
    next: &Path,
    header: Header,
    bytes: u64,
    spare: Option<Commit>,
) -> io::Result<(File, u64)> {
    if let Some(spare) = spare {
        match fs::rename(named(dir, spare, SPARE_SUFFIX), next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            // On the disk it may still have the name under which it was written.
            _ => disk::sync_folder(dir)?,
        }
    }
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(next)?;
    let mut length = file.metadata()?.len();
    if length < bytes {
        disk::allocate(&file, bytes)?;
        length = bytes;
    }
    file.write_all(&header.encode())?;
    disk::sync_all(&file)?;
    Ok((file, length))
}

/// Whether there is a segment that begins with this commit.
pub(super) fn is_there(dir: &Path, first: Commit) -> io::Result<bool> {
    path(dir, first).try_exists()
}

/// Opens a segment of an earlier process.
pub(super) fn open(dir: &Path, first: Commit) -> io::Result<File> {
    File::options().read(true).write(true).open(path(dir, first))
}

/// Keeps a segment that may go as a spare one.
pub(super) fn keep_as_spare(dir: &Path, first: Commit) -> io::Result<()> {
    fs::rename(path(dir, first), named(dir, first, SPARE_SUFFIX))
}

/// Removes a segment.
pub(super) fn remove(dir: &Path, first: Commit) -> io::Result<()> {
    fs::remove_file(path(dir, first))
}

/// Removes a spare one.
pub(super) fn remove_spare(dir: &Path, first: Commit) -> io::Result<()> {
    remove_if_there(&named(dir, first, SPARE_SUFFIX))
}

/// Removes all spare ones, and one in the making.
pub(super) fn remove_spares(dir: &Path) -> io::Result<()> {
    for first in list_named(dir, SPARE_SUFFIX)? {
        remove_spare(dir, first)?;
    }
    remove_if_there(&dir.join(ONLY_SPARE))?;
    remove_if_there(&dir.join(NEXT))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Leaves only the header.
pub(super) fn cut(mut file: &File) -> io::Result<()> {
    file.set_len(HEADER_BYTES as u64)?;
    file.seek(SeekFrom::Start(HEADER_BYTES as u64))?;
    disk::sync_all(file)
}
