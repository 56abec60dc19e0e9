//! What comes to the disk for sure: syncs of files and folders. Every sync of the embedded store but SQLite's own is here, so
//! that tests can cut the power between any two of them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// How much is written in one go: a quarter of a millisecond of a fast disk.
pub(super) const PIECE_BYTES: u64 = 512 * 1_024;

/// Brings what was written to a file to the disk, and its length.
pub(super) fn sync(file: &File) -> io::Result<()> {
    done(file, File::sync_data)
}

/// The same with all that is said about the file.
pub(super) fn sync_all(file: &File) -> io::Result<()> {
    done(file, File::sync_all)
}

/// What is synced in the files is found again only if the folder that names them is synced, too.
pub(super) fn sync_folder(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    sync_all(&File::open(dir)?)?;
    Ok(())
}

fn done(file: &File, sync: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    #[cfg(test)]
    watched::before(file)?;
    sync(file)?;
    #[cfg(test)]
    watched::after(file);
    Ok(())
}

/// Writes these stretches (from where, how many bytes) one after the other, and syncs: others have the disk in between.
pub(super) fn sync_in_pieces(file: &File, pieces: impl Iterator<Item = (u64, u64)>) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    for (from, bytes) in pieces {
        super::linux::write_back(file, from, bytes)?;
    }
    #[cfg(not(target_os = "linux"))]
    drop(pieces);
    sync(file)
}

/// Writes what a file has over itself, so that the next sync brings it to the disk whatever became of those before.
pub(super) fn write_once_more(file: &File) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES as usize];
    let mut at = 0;
    loop {
        let length = file.read_at(&mut piece, at)?;
        if length == 0 {
            break;
        }
        file.write_all_at(&piece[..length], at)?;
        at += length as u64;
    }
    #[cfg(test)]
    watched::written_once_more(file);
    Ok(())
}

/// What is free on a folder's disk, in bytes, where the system says it.
#[cfg(target_os = "linux")]
pub(super) fn free_bytes(dir: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(dir).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn free_bytes(_: &Path) -> Option<u64> {
    None
}

/// Takes a file's space from the disk, so that writing to it finds room.
#[cfg(target_os = "linux")]
pub(super) fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        // Not every file system can: there a full disk is found when it is written to.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(bytes),
        done => Ok(done?),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)
}

/// The syncs of a thread, for tests that cut the power between them.
#[cfg(test)]
pub(super) mod watched {
    use std::cell::RefCell;
    use std::fs::File;
    use std::io;

    /// Who is told of syncs.
    pub(in crate::embedded) trait Watcher {
        /// Of one that is about to be; it fails if this does.
        fn before(&mut self, file: &File) -> io::Result<()>;
        /// Of one that is done.
        fn after(&mut self, file: &File);
        /// All that a file has was written over itself.
        fn written_once_more(&mut self, file: &File);
    }

    thread_local! {
        static WATCHER: RefCell<Option<Box<dyn Watcher>>> = const { RefCell::new(None) };
    }

    /// Has this told of every sync of this thread until what is given is dropped.
    pub(in crate::embedded) fn watch(watcher: impl Watcher + 'static) -> Watching {
        WATCHER.set(Some(Box::new(watcher)));
        Watching
    }

    #[must_use]
    pub(in crate::embedded) struct Watching;

    impl Drop for Watching {
        fn drop(&mut self) {
            WATCHER.take();
        }
    }

    pub(super) fn before(file: &File) -> io::Result<()> {
        tell(|watcher| watcher.before(file)).unwrap_or(Ok(()))
    }

    pub(super) fn after(file: &File) {
        tell(|watcher| watcher.after(file));
    }

    pub(super) fn written_once_more(file: &File) {
        tell(|watcher| watcher.written_once_more(file));
    }

    /// Syncs that the watcher makes itself are not told.
    fn tell<T>(tell: impl FnOnce(&mut dyn Watcher) -> T) -> Option<T> {
        let mut watcher = WATCHER.take()?;
        let told = tell(&mut *watcher);
        WATCHER.set(Some(watcher));
        Some(told)
    }
}
