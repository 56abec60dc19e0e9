//! Where something stands in the journal, for whoever reads it before it is settled.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use tertulia_domain::conversation::Record;

use super::super::record::{self, DecodeError};

/// How much is read of a record whose length is not known: most are shorter.
const GUESSED_BYTES: usize = 512;
/// And how many times as much when it is longer: so at most about so many times what it has.
const GUESSED_MORE: usize = 16;

/// Where a batch stands. Its segment is not written over while one of these is about.
#[derive(Debug, Clone)]
pub(in crate::embedded) struct Place {
    pub(in crate::embedded) file: Arc<File>,
    /// Where its first byte is, and how many there are.
    pub(in crate::embedded) at: u64,
    pub(in crate::embedded) length: u32,
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
        self.read(guessed, at)?;
        let mut decoded = record::decode_one(guessed);
        let mut length = guessed.len();
        while decoded.is_err() && length < rest {
            // Not all of the rest at once: that may be a batch of thousands.
            length = rest.min(length * GUESSED_MORE);
            let mut bytes = vec![0; length];
            self.read(&mut bytes, at)?;
            decoded = record::decode_one(&bytes);
        }
        Ok(decoded?)
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        #[cfg(test)]
        tests::READ.set(tests::READ.get() + bytes.len());
        self.file.read_exact_at(bytes, at)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tertulia_domain::conversation::{Effect, Passed};
    use tertulia_protocol::{ClientSeq, ConvoId, DeviceId, Entry, EntryKind, Seq, Timestamp, UserId};

    use super::*;

    thread_local! {
        /// How many bytes were read of single records.
        pub(super) static READ: Cell<usize> = const { Cell::new(0) };
    }

    #[test]
    fn a_long_record_costs_what_it_has_and_not_what_is_behind_it() {
        const COUNT: u64 = 500;
        const BODY_BYTES: usize = 2_000;
        let device = DeviceId::from_bytes([3; 16]);
        let passed = Passed::default();
        let records: Vec<_> = (1..=COUNT)
            .map(|number| {
                let entry = Arc::new(Entry {
                    convo_id: ConvoId::from_bytes([1; 16]),
                    seq: Seq::new(number),
                    sender_id: UserId::from_bytes([2; 16]),
                    client_seq: Some(ClientSeq::new(number)),
                    ts: Timestamp::from_millis(0),
                    kind: EntryKind::Text { body: "x".repeat(BODY_BYTES), reply_to: None },
                });
                Record::Entry { entry, message_no: number, effect: Effect::Sent { device, passed } }
            })
            .collect();
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        record::encode(&records, &mut bytes, &mut starts).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        let length = u32::try_from(bytes.len()).unwrap();
        let place = Place { file: Arc::new(file), at: 0, length };
        for (record, start) in records.iter().zip(starts) {
            assert_eq!(&place.record(start).unwrap(), record);
        }
        assert!(READ.get() < bytes.len() * 6, "{} bytes of {}", READ.get(), bytes.len());
    }
}
