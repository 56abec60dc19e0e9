//! Why a data folder could not be opened.

use std::io;
use std::path::PathBuf;

/// Why a data folder could not be opened; the texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be made or read.
    #[error("cannot use the data folder {}: {source}", dir.display())]
    Folder {
        /// Which.
        dir: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Another process has it.
    #[error("the data folder {} is in use by another process; stop that one, or give this one a folder of its own", dir.display())]
    InUse {
        /// Which.
        dir: PathBuf,
    },
    /// A newer program has written it.
    #[error("{} was written by a newer version (its schema is {found}, this program knows {known}); start that version, or restore a backup", file.display())]
    Newer {
        /// Which.
        file: PathBuf,
        /// The schema's number in the file.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// A migration is not the one that was applied: this is a build that was never released.
    #[error("{}: migration {number} ({name}) is not the one that made this file; start the version that did", file.display())]
    Edited {
        /// Which file.
        file: PathBuf,
        /// Which migration.
        number: u32,
        /// Its name.
        name: &'static str,
    },
    /// The SQLite that this program was linked with can lose commits.
    #[error("SQLite {found} can lose commits; build with 3.51.3 or newer")]
    SqliteTooOld {
        /// Its version.
        found: &'static str,
    },
    /// SQLite could not do it.
    #[error("cannot open {}: {source}", file.display())]
    Sqlite {
        /// Which file.
        file: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// What is stored cannot be understood; a person must look.
    #[error("the data folder is damaged: {0}")]
    Damaged(String),
}
