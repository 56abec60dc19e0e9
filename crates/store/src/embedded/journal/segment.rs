//! A segment of the journal as bytes. No I/O.
//!
//! ```text
//! segment = magic (8) · folder's tag (16) · its first commit (u64) · CRC-32 of those (u32) · frame*
//! frame   = length of the batch (u32) · CRC-32 of all that follows (u32) · commit (u64) · batch (record.rs)
//! ```
//!
//! Numbers are little-endian. A frame is written and synced before the next one is begun, so only the last one can be
//! torn. What stands behind it is zeros, the rest of one whose write had failed and was refused, or frames of
//! lower commits where a segment that was let go is written over.

use tertulia_domain::log::Commit;

/// The format and its version.
const MAGIC: [u8; 8] = *b"TertJrn1";
/// What a segment begins with.
pub(in crate::embedded) const HEADER_BYTES: usize = 36;
/// What a frame has beside the batch.
pub(in crate::embedded) const FRAME_BYTES: usize = 16;
/// How often the bytes behind the end may be read in search of a whole frame. Frames lie beside each other, so honest
/// ones are read once; heads that were put there to be read again and again would cost the square of their number.
const SEARCHES_MAX: usize = 4;

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::embedded) struct Header {
    pub(in crate::embedded) folder: [u8; 16],
    pub(in crate::embedded) first: Commit,
}

impl Header {
    pub(in crate::embedded) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..24].copy_from_slice(&self.folder);
        bytes[24..32].copy_from_slice(&self.first.get().to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..32]);
        bytes[32..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the header that `bytes` begins with; `None` if it is not one, or not whole.
    pub(in crate::embedded) fn decode(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let folder = header[8..24].try_into().ok()?;
        let first = u64::from_le_bytes(header[24..32].try_into().ok()?);
        let found = Self { folder, first: Commit::new(first) };
        (found.encode() == *header).then_some(found)
    }
}

/// Begins a frame in `bytes`, which is cleared first: appends room for its head. The batch comes next.
pub(in crate::embedded) fn begin_frame(bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.extend_from_slice(&[0; FRAME_BYTES]);
}

/// Ends the frame that `bytes` holds.
pub(in crate::embedded) fn end_frame(bytes: &mut [u8], commit: Commit) {
    let length = u32::try_from(bytes.len() - FRAME_BYTES).unwrap_or(u32::MAX);
    bytes[8..FRAME_BYTES].copy_from_slice(&commit.get().to_le_bytes());
    let checksum = crc32fast::hash(&bytes[8..]);
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads the frames of a segment in their order; what follows the last one can be asked for.
pub(in crate::embedded) struct Frames<'a> {
    rest: &'a [u8],
    next: Commit,
}

impl<'a> Frames<'a> {
    /// The frames behind the header of `segment`, which begins with commit `first`.
    pub(in crate::embedded) fn new(segment: &'a [u8], first: Commit) -> Self {
        Self { rest: segment.get(HEADER_BYTES..).unwrap_or_default(), next: first }
    }

    /// The commit that would come next.
    pub(in crate::embedded) const fn next_commit(&self) -> Commit {
        self.next
    }

    /// Whether a whole frame of a later commit stands behind the end: then what is between was not torn, it is damaged.
    ///
    /// So is what looks like more frames than there is room for: nothing of ours ever wrote that. The time is linear.
    pub(in crate::embedded) fn is_damaged(&self) -> bool {
        let mut readable = self.rest.len().saturating_mul(SEARCHES_MAX);
        for at in 1..self.rest.len() {
            // All commits between have their frames before it.
            let ahead = 1..=(at / FRAME_BYTES) as u64;
            let is_later =
                |commit: u64| commit.checked_sub(self.next.get()).is_some_and(|by| ahead.contains(&by));
            let Some(frame) = Frame::at(&self.rest[at..], is_later) else { continue };
            if frame.is_whole() || frame.checked.len() > readable {
                return true;
            }
            readable -= frame.checked.len();
        }
        false
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = (Commit, &'a [u8]);

    fn next(&mut self) -> Option<(Commit, &'a [u8])> {
        let commit = self.next;
        let frame = Frame::at(self.rest, |found| found == commit.get()).filter(Frame::is_whole)?;
        // The last number is nobody's: none would come next.
        self.next = Commit::new(commit.get().checked_add(1)?);
        self.rest = &self.rest[frame.end..];
        Some((commit, frame.batch))
    }
}

/// What looks like a frame.
struct Frame<'a> {
    checksum: u32,
    /// What the checksum is of.
    checked: &'a [u8],
    batch: &'a [u8],
    end: usize,
}

impl<'a> Frame<'a> {
    /// The frame that `bytes` begins with, if it is of a commit that is wanted and ends within them.
    fn at(bytes: &'a [u8], wanted: impl FnOnce(u64) -> bool) -> Option<Self> {
        let head: &[u8; FRAME_BYTES] = bytes.first_chunk()?;
        let [l0, l1, l2, l3, c0, c1, c2, c3, commit @ ..] = *head;
        // Cheap first: most places are no frame.
        if !wanted(u64::from_le_bytes(commit)) {
            return None;
        }
        let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).ok()?;
        let end = FRAME_BYTES.checked_add(length)?;
        let batch = bytes.get(FRAME_BYTES..end)?;
        Some(Self { checksum: u32::from_le_bytes([c0, c1, c2, c3]), checked: &bytes[8..end], batch, end })
    }

    fn is_whole(&self) -> bool {
        crc32fast::hash(self.checked) == self.checksum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment(first: u64, batches: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Header { folder: [7; 16], first: Commit::new(first) }.encode().to_vec();
        let mut frame = Vec::new();
        for (commit, batch) in (first..).zip(batches) {
            begin_frame(&mut frame);
            frame.extend_from_slice(batch);
            end_frame(&mut frame, Commit::new(commit));
            bytes.extend_from_slice(&frame);
        }
        bytes
    }

    fn read(bytes: &[u8], first: u64) -> (Vec<Vec<u8>>, bool) {
        let mut frames = Frames::new(bytes, Commit::new(first));
        let batches = frames.by_ref().map(|(_, batch)| batch.to_vec()).collect();
        (batches, frames.is_damaged())
    }

    #[test]
    fn a_header_is_read_whole_or_not_at_all() {
        let header = Header { folder: [7; 16], first: Commit::new(42) };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Some(header));
        for at in 0..HEADER_BYTES {
            assert_eq!(Header::decode(&bytes[..at]), None, "cut at {at}");
            let mut damaged = bytes;
            damaged[at] ^= 1;
            assert_eq!(Header::decode(&damaged), None, "byte {at}");
        }
    }

    fn batches() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..8)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_zeros_behind_it_are_its_end(batches in batches(), zeros in 0_usize..300) {
            let mut bytes = segment(9, &batches);
            bytes.resize(bytes.len() + zeros, 0);
            prop_assert_eq!(read(&bytes, 9), (batches, false));
        }

        #[test]
        fn a_torn_last_frame_was_never_promised(batches in batches(), lost in 1_usize..40, zeros in 0_usize..99) {
            let mut bytes = segment(9, &batches);
            let lost = lost.min(batches[batches.len() - 1].len() + FRAME_BYTES);
            let end = bytes.len() - lost;
            // A frame whose lost end was zeros is whole.
            prop_assume!(bytes[end..].iter().any(|byte| *byte != 0));
            bytes.truncate(end);
            bytes.resize(bytes.len() + zeros, 0);
            prop_assert_eq!(read(&bytes, 9), (batches[..batches.len() - 1].to_vec(), false));
        }

        #[test]
        fn a_damaged_frame_before_the_last_is_noticed(batches in batches(), at in any::<prop::sample::Index>()) {
            prop_assume!(batches.len() > 1);
            let mut bytes = segment(9, &batches);
            let last = bytes.len() - FRAME_BYTES - batches[batches.len() - 1].len();
            let at = HEADER_BYTES + at.index(last - HEADER_BYTES);
            bytes[at] ^= 1;
            prop_assert!(read(&bytes, 9).1, "byte {}", at);
        }

        #[test]
        fn what_looks_like_too_many_frames_is_damage(count in 60_usize..200) {
            // Heads without an end of their own: each goes on to where the last one ends.
            let mut bytes = segment(9, &[]);
            for left in (1..=count).rev() {
                let commit = 9 + (count - left) as u64;
                bytes.extend_from_slice(&((left - 1) as u32 * FRAME_BYTES as u32).to_le_bytes());
                bytes.extend_from_slice(&[0; 4]);
                bytes.extend_from_slice(&commit.to_le_bytes());
            }
            prop_assert!(read(&bytes, 9).1);
        }

        #[test]
        fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..400), first in any::<u64>()) {
            let _ = Header::decode(&bytes);
            let _ = read(&bytes, first);
        }
    }
}
