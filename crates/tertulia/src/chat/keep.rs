//! The session between two runs: a file that only its user can read.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use tertulia_protocol::rest;

/// Where one user's session on one server is kept. While it lives, no other process has it: two that refresh
/// one session would seem to reuse a token, and the server would log the device out.
#[derive(Debug)]
pub(super) struct Keep {
    file: PathBuf,
    _lock: File,
}

impl Keep {
    /// Opens the place in `folder`, which is made if it is not there; `None` if another process has it.
    ///
    /// # Errors
    /// If the folder or the lock cannot be made.
    pub(super) fn open(folder: &Path, server: &str, user: &str) -> io::Result<Option<Self>> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let server: String =
            server.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' }).collect();
        let file = folder.join(format!("{server}@{user}.json"));
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(file.with_extension("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self { file, _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// What an earlier run has left. A file that cannot be read is as good as none.
    pub(super) fn load(&self) -> Option<rest::Session> {
        serde_json::from_slice(&fs::read(&self.file).ok()?).ok()
    }

    /// Keeps a session: afterwards the file holds it, or, after a crash, the one before.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub(super) fn save(&self, session: &rest::Session) -> io::Result<()> {
        let new = self.file.with_extension("new");
        // An old one may have other rights, and `mode` is for files that are made.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(session)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.file)
    }

    /// Forgets the session: it has ended.
    pub(super) fn forget(&self) {
        if let Err(error) = fs::remove_file(&self.file)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, file = %self.file.display(), "an ended session stays on the disk");
        }
    }
}

/// `$XDG_STATE_HOME/tertulia`, else `~/.local/state/tertulia`; `None` without a home.
pub(super) fn folder() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("tertulia"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn session(token: &str) -> rest::Session {
        serde_json::from_value(serde_json::json!({
            "user": {"id": "02020202-0202-7202-8202-020202020202", "username": "ana", "displayName": "Ana",
                "about": "", "createdAt": "2026-01-01T00:00:00.000Z"},
            "accessToken": token, "refreshToken": "r", "expiresAt": "2026-01-01T00:00:00.000Z",
            "deviceId": "04040404-0404-7404-8404-040404040404"
        }))
        .unwrap()
    }

    #[test]
    fn a_session_is_kept_where_only_its_user_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("state/tertulia");
        let keep = Keep::open(&place, "http://127.0.0.1:8080", "ana").unwrap().unwrap();
        assert!(keep.load().is_none());
        keep.save(&session("one")).unwrap();
        keep.save(&session("two")).unwrap();
        assert_eq!(keep.load().unwrap().access_token, "two");
        assert_eq!(fs::metadata(&keep.file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o700);
        keep.forget();
        assert!(keep.load().is_none());
    }

    #[test]
    fn a_session_belongs_to_one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let open = |user| Keep::open(folder.path(), "http://a", user).unwrap();
        let first = open("ana");
        assert!(first.is_some() && open("ana").is_none() && open("bo").is_some());
        drop(first);
        assert!(open("ana").is_some());
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let keep = Keep::open(folder.path(), "http://a", "ana").unwrap().unwrap();
        fs::write(&keep.file, b"{\"user\":").unwrap();
        assert!(keep.load().is_none());
    }
}
