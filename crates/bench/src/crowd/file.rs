//! The file that keeps users and conversations from run to run.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use tertulia_protocol::rest::Session;
use tertulia_protocol::{ConvoId, Timestamp, UserId};

use crate::error::Error;

/// All that a later run needs. It holds secrets, of users that exist to be measured with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct File {
    /// What all of their names begin with.
    pub(super) tag: String,
    /// The one of all of them.
    pub(super) password: String,
    /// In the order of their numbers.
    pub(super) people: Vec<Person>,
    /// By what they were made for.
    pub(super) conversations: BTreeMap<String, Made>,
}

/// A user.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Person {
    pub(super) id: UserId,
    pub(super) access_token: String,
    pub(super) refresh_token: String,
    pub(super) expires_at: Timestamp,
}

/// A conversation.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Made {
    pub(super) id: ConvoId,
    pub(super) members: usize,
}

impl File {
    /// A crowd of nobody, whose names nobody has yet.
    pub(super) fn new() -> Result<Self, Error> {
        let secret = hex(random()?);
        Ok(Self {
            tag: secret[..8].to_owned(),
            password: secret[8..].to_owned(),
            people: Vec::new(),
            conversations: BTreeMap::new(),
        })
    }

    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let what = || format!("read {}", path.display());
        let text = fs::read(path).map_err(Error::io(what()))?;
        serde_json::from_slice(&text).map_err(|error| Error::io(what())(error.into()))
    }

    /// Replaces the file; whoever reads it sees the old or the new one.
    pub(super) fn write(&self, path: &Path) -> Result<(), Error> {
        let write = || {
            let beside = path.with_added_extension("new");
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&beside)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            fs::rename(beside, path)
        };
        write().map_err(Error::io(format!("write {}", path.display())))
    }
}

impl From<Session> for Person {
    fn from(session: Session) -> Self {
        Self {
            id: session.user.id,
            access_token: session.access_token,
            refresh_token: session.refresh_token,
            expires_at: session.expires_at,
        }
    }
}

fn random() -> Result<[u8; 16], Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::io("draw a name")(io::Error::other(error.to_string())))?;
    Ok(bytes)
}

fn hex(bytes: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.json");
        let mut file = File::new().unwrap();
        let id = ConvoId::from_bytes([7; 16]);
        file.conversations.insert("group of 200".into(), Made { id, members: 200 });
        file.write(&path).unwrap();
        file.write(&path).unwrap();
        let again = File::read(&path).unwrap();
        assert_eq!((again.tag, again.password), (file.tag, file.password));
        assert_eq!(again.conversations["group of 200"].id, id);
    }
}
