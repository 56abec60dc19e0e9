//! Users and conversations on the server, made once and used again.
//!
//! A registration costs the server some 20 ms of hashing, by design; ten thousand of them cost minutes. So who gives
//! a file finds the same users, and the same conversations, there at the next run.

mod api;
mod file;
mod people;

mod conversations;

pub(crate) use api::Api;
pub(crate) use conversations::Wanted;
use file::File;

use std::path::PathBuf;

use crate::error::Error;

/// The users of a run.
#[derive(Debug)]
pub(crate) struct Crowd {
    api: Api,
    path: Option<PathBuf>,
    file: File,
    /// What this run had to make.
    pub(crate) registered: usize,
    pub(crate) conversations_made: usize,
}

impl Crowd {
    /// Those of the file, if there is one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn open(api: Api, path: Option<PathBuf>) -> Result<Self, Error> {
        let file = match &path {
            Some(path) if path.exists() => File::read(path)?,
            _ => File::new()?,
        };
        Ok(Self { api, path, file, registered: 0, conversations_made: 0 })
    }

    /// The server's calls.
    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    /// Writes the file, if one was given.
    ///
    /// Refresh tokens work once: whenever some were used, the new ones must not be lost.
    fn save(&self) -> Result<(), Error> {
        self.path.as_ref().map_or(Ok(()), |path| self.file.write(path))
    }
}
