//! Power cuts: whatever of the unsynced sectors has reached the disk, the files are whole and have all that was synced.
//!
//! A cut is made from what a file was at its last sync and what it is now: each sector that differs is one or the other.

mod journal;
mod settled;

use proptest::prelude::RngExt as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

const SECTOR_BYTES: usize = 512;

/// The same cuts in every run of a seed.
fn chance(seed: u8) -> TestRng {
    TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32])
}

/// What the disk has of a file after a cut, if it had `durable` for sure and the file was `now`.
fn left(durable: &[u8], now: &[u8], chance: &mut TestRng) -> Vec<u8> {
    let odds = [0, 1, 8, 15, 16][chance.random_range(0..5)];
    let length = if chance.random() { durable.len() } else { now.len() };
    let mut left = vec![0; length];
    for (number, sector) in left.chunks_mut(SECTOR_BYTES).enumerate() {
        let at = number * SECTOR_BYTES;
        let from = if chance.random_range(0..16) < odds { now } else { durable };
        let bytes = from.get(at..from.len().min(at + sector.len())).unwrap_or_default();
        sector[..bytes.len()].copy_from_slice(bytes);
    }
    left
}
