//! Frames that wait to be written, in the form in which they are written.
//!
//! A short frame is copied behind the one before it: all that waits for a reader is then one piece of memory and one
//! plain write, without an allocation, a reference count and an I/O slice for each frame. A long frame, or some that come
//! together, is shared by all of its readers if there are some, and so is every frame once a reader has fallen behind: then many slow readers of one conversation
//! hold it once.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf as _, Bytes};
use tertulia_websocket::Frame;

/// The longest frame that is copied, or frames that are put in together: what is longer costs more to copy for each reader
/// than to share among them, if there are some.
const COPIED_FRAME_MAX: usize = 1_024;
/// What is copied for one reader; what waits beyond it is shared.
const COPIED_BYTES_MAX: usize = 16 * 1_024;
/// Room for the first few frames, so that they do not move while more come.
const COPIED_BYTES_MIN: usize = 512;

/// Frames in the order in which they are to be written.
#[derive(Debug, Default)]
pub struct Outbox {
    pieces: VecDeque<Piece>,
    frames: u32,
    copied: u32,
    bytes: u32,
    /// How much room the first copied piece has: what was copied the last time.
    expected: u32,
}

#[derive(Debug)]
enum Piece {
    Copied { wire: Vec<u8>, written: usize },
    Shared(Bytes),
}

impl Piece {
    fn rest(&self) -> &[u8] {
        match self {
            Self::Copied { wire, written } => &wire[*written..],
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Outbox {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// How many frames were put in since it was last empty.
    pub const fn frames(&self) -> usize {
        self.frames as usize
    }

    /// How many bytes wait. What may be put in is bounded far below 4 GiB.
    pub const fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// Takes out all that waits, and leaves room for as much.
    pub(super) fn take(&mut self) -> Self {
        let expected = self.copied;
        std::mem::replace(self, Self { expected, ..Self::default() })
    }

    /// Puts a frame behind the others.
    pub fn push(&mut self, frame: &Frame) {
        self.put(frame.bytes(), 1, COPIED_FRAME_MAX, || frame.bytes().clone());
    }

    /// Puts a frame behind the others that others read, too.
    pub(super) fn push_encoded(&mut self, encoded: &mut Encoded) {
        let Encoded { wire, frames, shared, is_for_one } = encoded;
        let copied_max = if *is_for_one { COPIED_BYTES_MAX } else { COPIED_FRAME_MAX };
        let share = || shared.get_or_insert_with(|| Bytes::copy_from_slice(wire)).clone();
        self.put(wire, *frames, copied_max, share);
    }

    /// Puts a frame behind the others that nobody else reads; `write` appends it.
    pub(super) fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let wire = self.room(0);
        let before = wire.len();
        write(wire);
        let len = wire.len() - before;
        self.count(1, len);
        self.copied += len as u32;
    }

    /// The first pieces that wait, as slices for one system call; how many there are.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece.rest());
            count += 1;
        }
        count
    }

    /// Takes out the first `written` bytes, or all.
    pub fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.pieces.front_mut() {
            let rest = first.rest().len();
            self.bytes -= written.min(rest) as u32;
            if written < rest {
                match first {
                    Piece::Copied { written: before, .. } => *before += written,
                    Piece::Shared(bytes) => bytes.advance(written),
                }
                return;
            }
            written -= rest;
            self.pieces.pop_front();
        }
        // Given away, not kept for the next time: most connections are idle.
        *self = Self::default();
    }

    /// Everything that waits, in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.bytes());
        self.pieces.iter().for_each(|piece| all.extend_from_slice(piece.rest()));
        all
    }

    fn put(&mut self, wire: &[u8], frames: u32, copied_max: usize, share: impl FnOnce() -> Bytes) {
        if wire.len() <= copied_max && (self.copied as usize) < COPIED_BYTES_MAX {
            self.room(wire.len()).extend_from_slice(wire);
            self.copied += wire.len() as u32;
        } else {
            self.pieces.push_back(Piece::Shared(share()));
        }
        self.count(frames, wire.len());
    }

    fn count(&mut self, frames: u32, bytes: usize) {
        self.frames += frames;
        self.bytes += bytes as u32;
    }

    /// Where the next `len` bytes are copied to: behind the last ones, if those were copied.
    fn room(&mut self, len: usize) -> &mut Vec<u8> {
        if !matches!(self.pieces.back(), Some(Piece::Copied { .. })) {
            let expected = std::mem::take(&mut self.expected) as usize;
            let wire = Vec::with_capacity(len.max(expected).max(COPIED_BYTES_MIN));
            self.pieces.push_back(Piece::Copied { wire, written: 0 });
        }
        match self.pieces.back_mut() {
            Some(Piece::Copied { wire, .. }) => wire,
            _ => unreachable!("the last piece is a copied one"),
        }
    }
}

/// One frame, or some that follow on each other, encoded once for all of their readers.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    wire: Vec<u8>,
    frames: u32,
    /// The same bytes, made when the first reader does not copy them.
    shared: Option<Bytes>,
    /// Whether there is nobody to share them with.
    is_for_one: bool,
}

impl Encoded {
    /// Forgets the frames; their memory serves the next ones, which are for one reader or for more.
    pub(super) fn clear(&mut self, is_for_one: bool) {
        self.is_for_one = is_for_one;
        self.wire.clear();
        self.frames = 0;
        self.shared = None;
    }

    /// The frames; if they are not there yet, `write` appends one for each of `items`.
    pub(super) fn get_or_write<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Vec<u8>, T),
    ) -> &mut Self {
        if self.wire.is_empty() {
            for item in items {
                write(&mut self.wire, item);
                self.frames += 1;
            }
        }
        self
    }

    /// How many frames.
    pub(super) const fn frames(&self) -> usize {
        self.frames as usize
    }

    /// The length of the frames in bytes.
    pub(super) const fn len(&self) -> usize {
        self.wire.len()
    }
}

#[cfg(test)]
mod tests {
    use tertulia_websocket::payloads;

    use super::*;

    fn texts(outbox: &Outbox) -> Vec<usize> {
        let wire = outbox.to_vec();
        payloads(&wire).map(<[u8]>::len).collect()
    }

    #[test]
    fn frames_come_out_in_the_order_in_which_they_went_in_long_and_short() {
        let mut outbox = Outbox::default();
        let lengths = [1, 5_000, 2, 3, 70_000, 4];
        for length in lengths {
            outbox.push(&Frame::text(&"x".repeat(length)));
        }
        assert_eq!(texts(&outbox), lengths);
        assert_eq!((outbox.frames(), outbox.bytes()), (6, outbox.to_vec().len()));
    }

    #[test]
    fn what_is_written_in_parts_goes_on_where_it_was() {
        let mut outbox = Outbox::default();
        [10, 5_000, 20].iter().for_each(|length| outbox.push(&Frame::text(&"x".repeat(*length))));
        let all = outbox.to_vec();
        for step in [1, 11, 4_000, 7] {
            let left = outbox.to_vec();
            outbox.advance(step);
            assert_eq!(outbox.to_vec(), left[step..]);
            assert_eq!(outbox.bytes(), left.len() - step);
        }
        assert!(all.ends_with(&outbox.to_vec()));
        outbox.advance(outbox.bytes());
        assert!(outbox.is_empty());
        assert_eq!(outbox.frames(), 0);
    }

    #[test]
    fn a_reader_who_falls_behind_shares_what_he_waits_for() {
        let mut encoded = Encoded::default();
        encoded.get_or_write([Frame::text(&"x".repeat(1_000))], |wire, frame| {
            wire.extend_from_slice(frame.bytes());
        });
        let mut slow = Outbox::default();
        for _ in 0..100 {
            slow.push_encoded(&mut encoded);
        }
        let copied = slow.pieces.iter().filter(|piece| matches!(piece, Piece::Copied { .. })).count();
        assert_eq!(copied, 1);
        assert!(slow.copied as usize <= COPIED_BYTES_MAX + 1_004, "{}", slow.copied);
        assert_eq!(texts(&slow), [1_000; 100]);
    }

    #[test]
    fn what_is_long_is_shared_unless_there_is_nobody_to_share_it_with() {
        for (is_for_one, is_copied) in [(true, true), (false, false)] {
            let mut encoded = Encoded::default();
            encoded.clear(is_for_one);
            encoded.get_or_write(["a", "b"].map(|text| Frame::text(&text.repeat(1_000))), |wire, frame| {
                wire.extend_from_slice(frame.bytes());
            });
            let mut outbox = Outbox::default();
            outbox.push_encoded(&mut encoded);
            assert_eq!(matches!(outbox.pieces[0], Piece::Copied { .. }), is_copied);
            assert_eq!((texts(&outbox), outbox.frames()), (vec![1_000; 2], 2));
        }
    }
}
