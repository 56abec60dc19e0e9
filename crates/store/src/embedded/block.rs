//! Neighbours in a log as the bytes of one row of `log`.
//!
//! A row costs as much whether it holds one message or sixteen, so a conversation's entries are settled in blocks. A version
//! byte, then line after line in postcard's encoding; numbers that go up stand as the distance from the line before, and a
//! sender by his place among those who came before him in the block.
//!
//! The types in here are the stored format: they change only together with [`VERSION`], and what an older version wrote can
//! be read for ever.

use serde::{Deserialize, Serialize};
use tertulia_domain::log::Commit;
use tertulia_protocol::{ClientSeq, ConvoId, Entry, EntryKind, Seq, Timestamp, UserId};

const VERSION: u8 = 1;

/// A block takes no more lines when it has so many bytes. SQLite keeps a row of these in its page, four and more to a page
/// of 8 KiB; longer ones reach into pages of their own.
const FULL_BYTES: usize = 1_800;

/// An entry that cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum EncodeError {
    #[error("what changed, as JSON: {0}")]
    Change(#[from] serde_json::Error),
    #[error("{0}")]
    Encoding(#[from] postcard::Error),
}

/// A block that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("it has format {0}, which this program does not know")]
    Version(u8),
    #[error("it is empty, ends too early, or has a line that is none: {0}")]
    Encoding(#[from] postcard::Error),
    #[error("a sender who was not named before")]
    Sender,
    #[error("a change in it is not understood: {0}")]
    Change(#[from] serde_json::Error),
    #[error("a message in it stands as a change")]
    NoChange,
}

/// An entry as it is stored; what is a distance is one from the line before, and from 0 in the first.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    /// His place among the senders of the block; the next free one introduces him.
    sender: usize,
    ts: i64,
    commit: u64,
    message_no: u64,
    #[serde(borrow)]
    what: What<'a>,
}

#[derive(Serialize, Deserialize)]
enum What<'a> {
    Text { client_seq: Option<u64>, reply_to: Option<u64>, body: &'a str },
    Change { json: &'a str },
}

/// Where a line stands from which the next one counts.
#[derive(Debug, Clone, Default)]
struct Place {
    seq: Seq,
    ts: i64,
    commit: u64,
    message_no: u64,
    senders: Vec<UserId>,
}

/// A block that is being filled.
#[derive(Debug, Default)]
pub(super) struct Packer {
    bytes: Vec<u8>,
    first: Seq,
    last: Place,
}

impl Packer {
    /// Goes on with a block that was stored, if it takes more and `next` follows on it.
    pub(super) fn resume(&mut self, first: Seq, bytes: &[u8], next: Seq) -> Result<(), DecodeError> {
        self.clear();
        if is_full(bytes) {
            return Ok(());
        }
        let mut lines = Lines::new(first, bytes)?;
        for line in &mut lines {
            line?;
        }
        if lines.last.seq.next() == next {
            self.bytes.extend_from_slice(bytes);
            (self.first, self.last) = (first, lines.last);
        }
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        let mut senders = std::mem::take(&mut self.last.senders);
        senders.clear();
        (self.first, self.last) = (Seq::default(), Place { senders, ..Place::default() });
    }

    /// The block's first entry and its bytes, if it has any.
    pub(super) fn block(&self) -> Option<(Seq, &[u8])> {
        (!self.bytes.is_empty()).then_some((self.first, &self.bytes[..]))
    }

    pub(super) fn is_full(&self) -> bool {
        is_full(&self.bytes)
    }

    /// Adds the entry that follows in the log.
    pub(super) fn push(&mut self, entry: &Entry, commit: Commit, message_no: u64) -> Result<(), EncodeError> {
        if self.bytes.is_empty() {
            self.bytes.push(VERSION);
            self.first = entry.seq;
        }
        let last = &mut self.last;
        let known = last.senders.iter().position(|sender| *sender == entry.sender_id);
        let (ts, commit) = (entry.ts.as_millis(), commit.get());
        let json;
        let stored = Stored {
            sender: known.unwrap_or(last.senders.len()),
            ts: ts.wrapping_sub(last.ts),
            commit: commit.wrapping_sub(last.commit),
            message_no: message_no.wrapping_sub(last.message_no),
            what: match &entry.kind {
                EntryKind::Text { body, reply_to } => What::Text {
                    client_seq: entry.client_seq.map(ClientSeq::get),
                    reply_to: reply_to.map(Seq::get),
                    body,
                },
                change => {
                    json = serde_json::to_string(change)?;
                    What::Change { json: &json }
                }
            },
        };
        if known.is_none() {
            last.senders.push(entry.sender_id);
        }
        let mut bytes = postcard::to_extend(&stored, std::mem::take(&mut self.bytes))?;
        if known.is_none() {
            bytes.extend_from_slice(entry.sender_id.as_bytes());
        }
        self.bytes = bytes;
        (last.seq, last.ts, last.commit, last.message_no) = (entry.seq, ts, commit, message_no);
        Ok(())
    }
}

/// Whether a block takes no more lines.
fn is_full(bytes: &[u8]) -> bool {
    bytes.len() >= FULL_BYTES
}

/// The lines of a block, in the order of the log.
pub(super) struct Lines<'a> {
    rest: &'a [u8],
    last: Place,
}

impl<'a> Lines<'a> {
    /// Of the block whose first entry is `first`.
    pub(super) fn new(first: Seq, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        match bytes.split_first() {
            None => Err(postcard::Error::DeserializeUnexpectedEnd.into()),
            Some((&VERSION, rest)) => {
                Ok(Self { rest, last: Place { seq: first.previous(), ..Place::default() } })
            }
            Some((&version, _)) => Err(DecodeError::Version(version)),
        }
    }

    fn line(&mut self) -> Result<Line<'a>, DecodeError> {
        let (stored, mut rest) = postcard::take_from_bytes::<Stored<'a>>(self.rest)?;
        let last = &mut self.last;
        if stored.sender == last.senders.len() {
            let (id, behind) = rest.split_first_chunk().ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
            last.senders.push(UserId::from_bytes(*id));
            rest = behind;
        }
        let sender = *last.senders.get(stored.sender).ok_or(DecodeError::Sender)?;
        last.seq = last.seq.next();
        last.ts = last.ts.wrapping_add(stored.ts);
        last.commit = last.commit.wrapping_add(stored.commit);
        last.message_no = last.message_no.wrapping_add(stored.message_no);
        self.rest = rest;
        Ok(Line {
            seq: last.seq,
            sender,
            ts: Timestamp::from_millis(last.ts),
            commit: Commit::new(last.commit),
            message_no: last.message_no,
            what: stored.what,
        })
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<Line<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let line = self.line();
        if line.is_err() {
            // Nothing behind it can be understood.
            self.rest = &[];
        }
        Some(line)
    }
}

/// An entry of a block; its body stands in the block.
pub(super) struct Line<'a> {
    pub(super) seq: Seq,
    pub(super) sender: UserId,
    ts: Timestamp,
    pub(super) commit: Commit,
    /// How many messages there are up to it.
    pub(super) message_no: u64,
    what: What<'a>,
}

impl Line<'_> {
    pub(super) fn is_message(&self) -> bool {
        matches!(self.what, What::Text { .. })
    }

    pub(super) fn entry(&self, convo: ConvoId) -> Result<Entry, DecodeError> {
        let (client_seq, kind) = match self.what {
            What::Text { client_seq, reply_to, body } => (
                client_seq.map(ClientSeq::new),
                EntryKind::Text { body: body.to_owned(), reply_to: reply_to.map(Seq::new) },
            ),
            What::Change { json } => match serde_json::from_str(json)? {
                EntryKind::Text { .. } => return Err(DecodeError::NoChange),
                kind => (None, kind),
            },
        };
        Ok(Entry { convo_id: convo, seq: self.seq, sender_id: self.sender, client_seq, ts: self.ts, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONVO: ConvoId = ConvoId::from_bytes([1; 16]);

    /// Entries from `first` on, with commits and numbers, of three senders.
    fn entries(first: u64) -> Vec<(Entry, Commit, u64)> {
        let text = |body: &str, reply_to| EntryKind::Text { body: body.into(), reply_to };
        let kinds = [
            (1, None, EntryKind::MemberAdded { user_ids: vec![UserId::from_bytes([7; 16])] }),
            (2, Some(ClientSeq::MAX), text("¿qué tal?", Some(Seq::new(1)))),
            (1, Some(ClientSeq::new(1)), text("", None)),
            (2, None, EntryKind::Renamed { title: "tea".into() }),
            (3, Some(ClientSeq::new(2)), text("上海", Some(Seq::MAX))),
        ];
        let times = [1_795_563_466_123, 1_795_563_466_123, -5, i64::MAX, i64::MIN];
        let mut message_no = first;
        (first..)
            .zip(kinds)
            .zip(times)
            .map(|((seq, (sender, client_seq, kind)), ts)| {
                message_no += u64::from(kind.is_message());
                let (sender_id, ts) = (UserId::from_bytes([sender; 16]), Timestamp::from_millis(ts));
                let entry = Entry { convo_id: CONVO, seq: Seq::new(seq), sender_id, client_seq, ts, kind };
                (entry, Commit::new(seq * 3), message_no)
            })
            .collect()
    }

    fn pack(entries: &[(Entry, Commit, u64)], packer: &mut Packer) {
        for (entry, commit, message_no) in entries {
            packer.push(entry, *commit, *message_no).unwrap();
        }
    }

    fn unpack(first: Seq, bytes: &[u8]) -> Result<Vec<(Entry, Commit, u64)>, DecodeError> {
        Lines::new(first, bytes)?
            .map(|line| line.and_then(|line| Ok((line.entry(CONVO)?, line.commit, line.message_no))))
            .collect()
    }

    #[test]
    fn what_is_packed_is_read() {
        let mut packer = Packer::default();
        pack(&entries(40), &mut packer);
        let (first, bytes) = packer.block().unwrap();
        assert_eq!(first, Seq::new(40));
        assert_eq!(unpack(first, bytes).unwrap(), entries(40));
    }

    #[test]
    fn a_block_that_is_gone_on_with_is_the_one_that_was_never_left() {
        let entries = entries(1);
        let mut whole = Packer::default();
        pack(&entries, &mut whole);
        for at in 1..entries.len() {
            let (before, after) = entries.split_at(at);
            let mut packer = Packer::default();
            pack(before, &mut packer);
            let stored = packer.block().unwrap().1.to_vec();
            packer.resume(Seq::new(1), &stored, after[0].0.seq).unwrap();
            pack(after, &mut packer);
            assert_eq!(packer.block(), whole.block(), "left after {at}");
        }
    }

    #[test]
    fn a_block_is_not_gone_on_with_where_another_entry_follows_or_it_is_full() {
        let mut packer = Packer::default();
        pack(&entries(1), &mut packer);
        let stored = packer.block().unwrap().1.to_vec();
        packer.resume(Seq::new(1), &stored, Seq::new(9)).unwrap();
        assert_eq!(packer.block(), None);
        packer.resume(Seq::new(1), &[VERSION; FULL_BYTES], Seq::new(6)).unwrap();
        assert_eq!(packer.block(), None);
    }

    /// The bytes of version 1, as they were first written: a log of that time must stay readable.
    #[test]
    fn a_block_of_version_1_can_be_read() {
        let hex = include_str!("block_v1.hex");
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        assert_eq!(unpack(Seq::new(40), &bytes).unwrap(), entries(40));
    }

    #[test]
    fn a_block_that_ends_too_early_is_noticed_or_has_fewer_lines() {
        let mut packer = Packer::default();
        pack(&entries(1), &mut packer);
        let bytes = packer.block().unwrap().1;
        assert!(unpack(Seq::new(1), &[]).is_err());
        for at in 1..bytes.len() {
            if let Ok(read) = unpack(Seq::new(1), &bytes[..at]) {
                assert_eq!(read, entries(1)[..read.len()], "cut at {at}");
                assert!(read.len() < 5);
            }
        }
    }
}
