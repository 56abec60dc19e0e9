//! Where something stands in the journal, for whoever reads it before it is settled.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use tertulia_domain::conversation::Record;

use super::super::record::{self, DecodeError};

/// How much is read of a record whose length is not known: most are shorter.
const GUESSED_BYTES: usize = 512;

/// Where a batch stands. Its segment is not written over while one of these is about.
#[derive(Debug, Clone)]
pub(in crate::embedded) struct Place {
    pub(super) file: Arc<File>,
    /// Where its first byte is, and how many there are.
    pub(super) at: u64,
    pub(super) length: u32,
}

/// Why something in the journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub(in crate::embedded) enum PlaceError {
    #[error("read the journal: {0}")]
    Io(#[from] io::Error),
    #[error("a batch in the journal: {0}")]
    Decode(#[from] DecodeError),
}

impl Place {
    /// The length of the batch, in bytes.
    pub(in crate::embedded) fn length(&self) -> usize {
        self.length as usize
    }

    /// All records of the batch; `bytes` is kept for its capacity.
    pub(in crate::embedded) fn records(&self, bytes: &mut Vec<u8>) -> Result<Vec<Record>, PlaceError> {
        bytes.resize(self.length(), 0);
        self.file.read_exact_at(bytes, self.at)?;
        Ok(record::decode(bytes)?)
    }

    /// The record that begins at this byte of the batch. There is one version of the format so far, so it need not be looked at.
    pub(in crate::embedded) fn record(&self, start: u32) -> Result<Record, PlaceError> {
        let rest = self.length().saturating_sub(start as usize);
        let at = self.at + u64::from(start);
        let mut guessed = [0; GUESSED_BYTES];
        let guessed = &mut guessed[..rest.min(GUESSED_BYTES)];
        self.file.read_exact_at(guessed, at)?;
        match record::decode_one(guessed) {
            Err(_) if rest > GUESSED_BYTES => {
                let mut bytes = vec![0; rest];
                self.file.read_exact_at(&mut bytes, at)?;
                Ok(record::decode_one(&bytes)?)
            }
            decoded => Ok(decoded?),
        }
    }
}
