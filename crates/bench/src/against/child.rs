//! A floor as a process of its own, for as long as it is needed.

use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::{env, fs};

use crate::error::Error;

/// A running floor; it ends when this is dropped, and its file with it.
pub(super) struct Child {
    process: process::Child,
    file: Option<PathBuf>,
    /// Its address.
    pub(super) url: String,
}

impl Child {
    /// Starts one, and waits until it is ready. If it syncs, then beside `data`, or where that is not known or may not
    /// be written to, in the folder for what is temporary.
    ///
    /// # Errors
    /// If it does not start.
    pub(super) async fn start(program: &Path, synced: bool, data: Option<&Path>) -> Result<Self, Error> {
        let program = program.to_owned();
        let file = synced.then(|| file(data)).transpose().map_err(Error::io("make a file for the floor"))?;
        let started = tokio::task::spawn_blocking(move || Self::start_and_wait(&program, file));
        started.await.map_err(io::Error::other).flatten().map_err(Error::io("start a floor"))
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    fn start_and_wait(program: &Path, file: Option<PathBuf>) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(["bench", "floor", "--listen", "127.0.0.1:0"]);
        if let Some(file) = &file {
            command.arg("--file").arg(file);
        }
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take();
        // From here on it ends when this does.
        let mut child = Self { process, file, url: String::new() };
        let mut line = String::new();
        if let Some(output) = output {
            BufReader::new(output).read_line(&mut line)?;
        }
        child.url = url(&line).ok_or_else(|| io::Error::other("it did not become ready"))?.to_owned();
        Ok(child)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may be over already.
        drop(self.process.kill());
        drop(self.process.wait());
        if let Some(file) = &self.file {
            drop(fs::remove_file(file));
        }
    }
}

/// The address in a ready line.
fn url(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("ready on ")?;
    rest.split([',', ' ', '\n']).next().filter(|url| url.starts_with("http://"))
}

/// An empty file, on the disk that the server writes to if we may.
fn file(data: Option<&Path>) -> io::Result<PathBuf> {
    let name = format!("tertulia-floor-{}", process::id());
    let make = |folder: &Path| {
        let path = folder.join(&name);
        fs::File::create(&path).map(|_| path)
    };
    let beside = data.and_then(Path::parent).map(make);
    match beside {
        Some(Ok(path)) => Ok(path),
        _ => make(&env::temp_dir()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_that_of_the_ready_line() {
        assert_eq!(url("a floor is ready on http://127.0.0.1:1, in memory\n"), Some("http://127.0.0.1:1"));
        assert_eq!(url("tertulia: listen on 127.0.0.1:1: in use\n"), None);
        assert_eq!(url(""), None);
    }

    #[test]
    fn the_file_is_beside_the_data_folder_or_where_one_may_write() {
        let folder = tempfile::tempdir().unwrap();
        let beside = file(Some(&folder.path().join("data"))).unwrap();
        assert_eq!(beside.parent(), Some(folder.path()));
        let elsewhere = file(Some(Path::new("/proc/data"))).unwrap();
        assert_eq!(elsewhere.parent(), Some(&*env::temp_dir()));
        fs::remove_file(elsewhere).unwrap();
    }
}
