//! What lies on the disk or comes back from clients to the store: segments of the journal, the batches in their frames,
//! blocks of logs, positions and cursors.
//!
//! The first byte says what the others are.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tertulia_store::embedded::fuzzing;

fuzz_target!(|data: &[u8]| {
    let Some((&kind, bytes)) = data.split_first() else { return };
    match kind % 7 {
        0 => fuzzing::segment(bytes),
        1 => {
            // Checksums cannot be guessed: the batches are given, and what stands behind them.
            let Some((first, bytes)) = bytes.split_first_chunk() else { return };
            let (rest, batches) = bytes.split_at(bytes.len() / 2);
            let batches: Vec<&[u8]> = batches.split(|&byte| byte == 0xFF).collect();
            fuzzing::whole_segment(u64::from_le_bytes(*first), &batches, rest);
        }
        2 => fuzzing::batch(bytes),
        5 => fuzzing::touched(bytes),
        6 => {
            let Some((first, bytes)) = bytes.split_first_chunk() else { return };
            fuzzing::block(u64::from_le_bytes(*first), bytes);
        }
        kind => {
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            if kind == 3 { fuzzing::cursor(text) } else { fuzzing::position(text) }
        }
    }
});
