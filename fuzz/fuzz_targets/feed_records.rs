//! What others may have written into the topic of the feed, and the address of one: no panic, and what is read is what would
//! have been written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tertulia_feed::KafkaTarget;
use tertulia_feed::kafka::any_record;

fuzz_target!(|data: &[u8]| {
    let Some((&split, bytes)) = data.split_first() else { return };
    let (key, value) = bytes.split_at(usize::from(split).min(bytes.len()));
    any_record(key, value);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = text.parse::<KafkaTarget>();
    }
});
