//! Whatever stands in a line of a history: it is refused, or understood and written back as what means the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tertulia_history::event::Line;

fuzz_target!(|text: &str| {
    let Ok(line) = Line::parse(text) else { return };
    let written = serde_json::to_string(&line).expect("what was read can be written");
    assert_eq!(Line::parse(&written).expect("what was written can be read"), line);
});
