//! What the decoders of the store owe for any bytes: an answer, never a panic, and what is understood once is written
//! back and understood the same.
//!
//! The fuzz targets call these with bytes that are grown for hours; the tests here with bytes that are drawn.

use tertulia_domain::log::Commit;
use tertulia_protocol::{ConvoId, Entry, Seq};

use super::block::{DecodeError, Lines, Packer};
use super::journal::segment::{self, Frames, Header};
use super::{record, touched};
use crate::cursor::{InboxCursor, MembersCursor};
use crate::positions::{Epoch, Epochs};

/// A file of the journal.
///
/// # Panics
/// If a promise is broken, as all of these.
pub fn segment(bytes: &[u8]) {
    let header = Header::decode(bytes);
    if let Some(header) = header {
        assert!(bytes.starts_with(&header.encode()));
    }
    let first = header.map_or(Commit::new(1), |header| header.first);
    let mut frames = Frames::new(bytes, first);
    let mut copy = bytes.get(..segment::HEADER_BYTES).unwrap_or_default().to_vec();
    let mut frame = Vec::new();
    let mut expected = first;
    for (commit, batch) in frames.by_ref() {
        assert_eq!(commit, expected, "commits stand one behind the other");
        expected = commit.next();
        segment::begin_frame(&mut frame);
        frame.extend_from_slice(batch);
        segment::end_frame(&mut frame, commit);
        copy.extend_from_slice(&frame);
    }
    assert!(bytes.starts_with(&copy), "frames are read as they are written");
    assert_eq!(frames.next_commit(), expected);
    let _ = frames.is_damaged();
}

/// A file of the journal whose frames hold these batches, the first of them with this commit: checksums are right, so
/// that it is read to its end; behind it stands `rest`.
pub fn whole_segment(first: u64, batches: &[&[u8]], rest: &[u8]) {
    let first = Commit::new(first);
    let mut bytes = Header { folder: *b"the tag of a dir", first }.encode().to_vec();
    let mut frame = Vec::new();
    let mut commits = Vec::new();
    for (commit, batch) in (first.get()..u64::MAX).map(Commit::new).zip(batches) {
        segment::begin_frame(&mut frame);
        frame.extend_from_slice(batch);
        segment::end_frame(&mut frame, commit);
        bytes.extend_from_slice(&frame);
        commits.push((commit, *batch));
    }
    bytes.extend_from_slice(rest);
    let read: Vec<_> = Frames::new(&bytes, first).take(commits.len()).collect();
    assert_eq!(read, commits);
    segment(&bytes);
}

/// A batch, as it stands in a frame.
pub fn batch(bytes: &[u8]) {
    let Ok(records) = record::decode(bytes) else { return };
    let (mut written, mut starts) = (Vec::new(), Vec::new());
    assert!(record::encode(&records, &mut written, &mut starts).is_ok(), "what was read can be written");
    for (record, start) in records.iter().zip(starts) {
        let one = record::decode_one(&written[start as usize..]);
        assert!(one.is_ok_and(|one| one == *record), "each can be read by itself");
    }
    // The same thing can be said in more ways than ours; what we write is the same from then on.
    match record::decode(&written) {
        Ok(again) => assert_eq!(again, records),
        Err(error) => panic!("what was written cannot be read: {error}"),
    }
}

/// What came with a bite, as it stands in `tertulia.db`.
pub fn touched(bytes: &[u8]) {
    let Ok(ranges) = touched::decode(bytes) else { return };
    let written = touched::encode(&ranges);
    assert!(written.is_ok_and(|written| touched::decode(&written).is_ok_and(|again| again == ranges)));
}

/// A block of a log, as it stands in `tertulia.db`; its first entry is `first`.
pub fn block(first: u64, bytes: &[u8]) {
    let first = Seq::new(first);
    let Ok(read) = read_block(first, bytes) else { return };
    let mut packer = Packer::default();
    for (entry, commit, message_no) in &read {
        assert!(packer.push(entry, *commit, *message_no).is_ok(), "what was read can be written");
    }
    // The same thing can be said in more ways than ours; what we write is read the same.
    if let Some((first, bytes)) = packer.block() {
        assert!(read_block(first, bytes).is_ok_and(|again| again == read));
    }
}

fn read_block(first: Seq, bytes: &[u8]) -> Result<Vec<(Entry, Commit, u64)>, DecodeError> {
    let convo = ConvoId::from_bytes([0; 16]);
    Lines::new(first, bytes)?
        .map(|line| line.and_then(|line| Ok((line.entry(convo)?, line.commit, line.message_no))))
        .collect()
}

/// A cursor of the inbox or of the members, as a client hands it in.
pub fn cursor(text: &str) {
    let inbox = InboxCursor::decode(text);
    let members = MembersCursor::decode(text);
    assert!(inbox.is_err() || members.is_err(), "no cursor is of both kinds");
    if let Ok(cursor) = inbox {
        assert!(InboxCursor::decode(&cursor.encode()).is_ok_and(|again| again == cursor));
    }
    if let Ok(cursor) = members {
        assert!(MembersCursor::decode(&cursor.encode()).is_ok_and(|again| again == cursor));
    }
}

/// A position, as a client hands it in, in a folder that was opened a few times.
pub fn position(text: &str) {
    let epoch = |(tag, first)| Epoch { tag, first: Commit::new(first) };
    let epochs = Epochs::new([(0, 1), (7, 5), (8, 5), (u32::MAX, 1 << 40)].into_iter().map(epoch).collect());
    let horizon = Commit::new(1 << 41);
    if let Some(commit) = epochs.parse(text, horizon) {
        assert!(commit <= horizon, "nobody has seen what is to come");
        assert_eq!(epochs.parse(&epochs.position(commit), horizon), Some(commit));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..200)
    }

    proptest! {
        #[test]
        fn any_segment_is_read_or_ends(bytes in bytes()) {
            segment(&bytes);
        }

        #[test]
        fn any_batches_are_framed_and_read(
            first in prop_oneof![0_u64..9, any::<u64>(), u64::MAX - 3..=u64::MAX],
            batches in prop::collection::vec(bytes(), 0..5),
            rest in bytes(),
        ) {
            let batches: Vec<&[u8]> = batches.iter().map(Vec::as_slice).collect();
            whole_segment(first, &batches, &rest);
        }

        #[test]
        fn any_batch_is_read_or_refused(
            kinds in prop::collection::vec((0_u8..6, bytes()), 0..4),
        ) {
            // Version and count are right, the kinds nearly.
            let mut bytes = vec![1, kinds.len() as u8];
            for (kind, fields) in kinds {
                bytes.push(kind);
                bytes.extend_from_slice(&fields);
            }
            batch(&bytes);
        }

        #[test]
        fn any_ranges_are_read_or_refused(count in 0_u8..4, mut rest in bytes()) {
            rest.insert(0, count);
            touched(&rest);
        }

        #[test]
        fn any_block_is_read_or_refused(
            first in prop_oneof![0_u64..9, any::<u64>()],
            lines in prop::collection::vec((0_usize..3, -9_i64..9, 0_u64..9, any::<bool>(), bytes()), 0..5),
            rest in bytes(),
        ) {
            // Version and lines are right, nearly.
            let mut bytes = vec![1];
            for (sender, ts, commit, is_new, fields) in lines {
                bytes = postcard::to_extend(&(sender, ts, commit, 1_u64), bytes).unwrap();
                bytes.extend_from_slice(&[0, 0, 0, 1, b'a']);
                if is_new {
                    bytes.extend_from_slice(&fields[..fields.len().min(16)]);
                }
            }
            bytes.extend_from_slice(&rest);
            block(first, &bytes);
        }

        #[test]
        fn any_text_is_a_cursor_or_none(text in "[A-Za-z0-9_-]{0,40}|bQ[A-Za-z0-9_-]{10}|a[A-Za-z0-9_-]{33}") {
            cursor(&text);
        }

        #[test]
        fn any_text_is_a_position_or_none(text in "(AAAA(AA|Bw|CA)|_____w|[A-Za-z0-9_-]{6})[.]?[+]?[0-9a-fA-F]{0,17}") {
            position(&text);
        }
    }

    #[test]
    fn the_last_number_is_no_commit_of_a_segment() {
        // A frame of it would have no next one.
        let first = Commit::new(u64::MAX);
        let mut bytes = Header { folder: [0; 16], first }.encode().to_vec();
        let mut frame = Vec::new();
        segment::begin_frame(&mut frame);
        segment::end_frame(&mut frame, first);
        bytes.extend_from_slice(&frame);
        assert_eq!(Frames::new(&bytes, first).next(), None);
        segment(&bytes);
    }

    #[test]
    fn a_message_is_no_change() {
        let json = br#"{"kind":"text","body":"hi"}"#;
        let mut bytes = vec![1, 1, 1, 16];
        bytes.extend_from_slice(&[1; 16]);
        bytes.extend_from_slice(&[2, 16]);
        bytes.extend_from_slice(&[2; 16]);
        bytes.extend_from_slice(&[0, json.len() as u8]);
        bytes.extend_from_slice(json);
        bytes.extend_from_slice(&[1, 0]);
        assert!(matches!(record::decode(&bytes), Err(record::DecodeError::NoChange)));
        bytes.push(0);
        batch(&bytes);
    }
}
