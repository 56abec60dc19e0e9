//! What users write and seek: the tokenizer, the query language, snippets; and the places of which cursors are made.
//!
//! The first byte says which; of a query and a text the line break parts the two.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tertulia_search::fuzzing;

fuzz_target!(|data: &[u8]| {
    let Some((&kind, bytes)) = data.split_first() else { return };
    if kind % 3 == 1 {
        return fuzzing::place(bytes);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if kind % 3 == 0 {
        return fuzzing::tokens(text);
    }
    let (query, text) = text.split_once('\n').unwrap_or((text, text));
    fuzzing::query(query, text);
});
