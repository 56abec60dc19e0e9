//! A disk that can be filled: a small file system of our own where one may be mounted, else a limit on files.

use std::path::{Path, PathBuf};

use rustix::process::Pid;

use crate::error::Error;

/// What stands in for a disk that fills.
#[derive(Debug)]
pub(crate) enum Disk {
    /// A file system in memory at the data folder. It is full when it is made as small as what it holds; that
    /// costs no memory, as a file that fills it would.
    Small { at: PathBuf, bytes: u64 },
    /// The server may not write beyond the beginning of any file (`RLIMIT_FSIZE`): SQLite is told EFBIG instead
    /// of ENOSPC.
    Limit,
    /// Nobody asked for a full disk.
    Plain,
}

/// How far into a file the server may still write under a limit: less than any database is long.
const LIMIT_BYTES: u64 = 4 * 1_024;

impl Disk {
    /// Makes the data folder on a disk that can be filled; the text says why it is not the better kind.
    #[cfg(target_os = "linux")]
    pub(crate) fn fillable(at: &Path, bytes: u64) -> Result<(Self, Option<String>), Error> {
        use rustix::mount::{MountFlags, mount};
        std::fs::create_dir_all(at).map_err(Error::io("make", at))?;
        let options = std::ffi::CString::new(format!("size={bytes},mode=0700")).unwrap_or_default();
        match mount("tmpfs", at, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str()) {
            Ok(()) => Ok((Self::Small { at: at.to_owned(), bytes }, None)),
            Err(error) => {
                let why = format!(
                    "no small disk can be mounted here ({error}; it wants root): instead the server may not \
                     write to its files for a while, which gives EFBIG instead of ENOSPC"
                );
                Ok((Self::Limit, Some(why)))
            }
        }
    }

    /// Makes the data folder on a disk that can be filled; the text says why it is not the better kind.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn fillable(_: &Path, _: u64) -> Result<(Self, Option<String>), Error> {
        Err(Error::NoFault(
            "a full disk can only be had on Linux: name the other faults with --faults".into(),
        ))
    }

    /// Fills it; a process that starts later is told, too, when this is called again.
    #[cfg(target_os = "linux")]
    pub(crate) fn fill(&self, server: Option<Pid>) -> Result<(), Error> {
        match self {
            Self::Small { at, .. } => {
                let room = rustix::fs::statvfs(at).map_err(|error| Error::io("look at", at)(error.into()))?;
                resize(at, room.f_blocks.saturating_sub(room.f_bfree).max(1) * room.f_frsize)
            }
            Self::Limit => limit(server, Some(LIMIT_BYTES)),
            Self::Plain => Ok(()),
        }
    }

    /// Makes room again.
    #[cfg(target_os = "linux")]
    pub(crate) fn empty(&self, server: Option<Pid>) -> Result<(), Error> {
        match self {
            Self::Small { at, bytes } => resize(at, *bytes),
            Self::Limit => limit(server, None),
            Self::Plain => Ok(()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn fill(&self, _: Option<Pid>) -> Result<(), Error> {
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn empty(&self, _: Option<Pid>) -> Result<(), Error> {
        Ok(())
    }

    /// What the report says of it.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Small { .. } => "a small file system in memory, made as small as what it holds",
            Self::Limit => "a limit on the size of files (EFBIG instead of ENOSPC)",
            Self::Plain => "never full",
        }
    }

    /// Copies what is on it to a folder that stays.
    pub(crate) fn keep(&self, into: &Path) -> Result<(), Error> {
        let Self::Small { at, .. } = self else { return Ok(()) };
        std::fs::create_dir_all(into).map_err(Error::io("make", into))?;
        for file in std::fs::read_dir(at).map_err(Error::io("read", at))? {
            let file = file.map_err(Error::io("read", at))?;
            if file.file_type().is_ok_and(|kind| kind.is_file()) {
                std::fs::copy(file.path(), into.join(file.file_name()))
                    .map_err(Error::io("copy", &file.path()))?;
            }
        }
        Ok(())
    }
}

#[cfg(target_os = "linux")]
fn resize(at: &Path, bytes: u64) -> Result<(), Error> {
    use rustix::mount::{MountFlags, mount_remount};
    mount_remount(at, MountFlags::NOSUID | MountFlags::NODEV, format!("size={bytes}"))
        .map_err(|error| Error::io("resize the disk at", at)(error.into()))
}

#[cfg(target_os = "linux")]
fn limit(server: Option<Pid>, bytes: Option<u64>) -> Result<(), Error> {
    use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
    let Some(pid) = server else { return Ok(()) };
    let maximum = getrlimit(Resource::Fsize).maximum;
    let wanted = Rlimit { current: bytes.or(maximum), maximum };
    prlimit(Some(pid), Resource::Fsize, wanted)
        .map(drop)
        .map_err(|error| Error::io("limit the files of", Path::new("the server"))(error.into()))
}

impl Drop for Disk {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        if let Self::Small { at, .. } = self {
            // Whatever still has a file open keeps it until it ends; the folder is free at once.
            let _ = rustix::mount::unmount(at.as_path(), rustix::mount::UnmountFlags::DETACH);
        }
    }
}
