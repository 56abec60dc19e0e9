//! The folder of a run.

use std::path::{Path, PathBuf};

use crate::error::Error;

/// A temporary one goes unless something is wrong.
pub(crate) enum Folder {
    Given(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Folder {
    /// The folder that was asked for, or one with the seed in its name.
    pub(crate) fn new(given: Option<&Path>, seed: u64) -> Result<Self, Error> {
        match given {
            Some(path) => {
                std::fs::create_dir_all(path).map_err(Error::io("make", path))?;
                Ok(Self::Given(path.to_owned()))
            }
            None => {
                let place = std::env::temp_dir();
                let prefix = format!("tertulia-torture-{seed}-");
                let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(&place);
                Ok(Self::Temporary(folder.map_err(Error::io("make a folder in", &place))?))
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }

    /// It stays, and this is where.
    pub(crate) fn keep(self) -> PathBuf {
        match self {
            Self::Given(path) => path,
            Self::Temporary(folder) => folder.keep(),
        }
    }
}
