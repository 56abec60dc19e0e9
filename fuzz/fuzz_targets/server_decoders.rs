//! What clients bring back to the server: access, refresh and resume tokens, and the cursors of a long-poll and a search; and the
//! frames of a socket as the gateway reads them.
//!
//! The first byte says what the others are.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tertulia_protocol::event::ClientEvent;
use tertulia_server::fuzzing;
use tertulia_server::gateway::incoming;

fuzz_target!(|data: &[u8]| {
    let Some((&kind, bytes)) = data.split_first() else { return };
    if kind % 4 == 0 {
        let Some((random, rest)) = bytes.split_first_chunk() else { return };
        let &[g0, g1, g2, g3, g4, g5, g6, g7, at, character, ..] = rest else { return };
        let generation = u64::from_be_bytes([g0, g1, g2, g3, g4, g5, g6, g7]);
        return fuzzing::given_out(*random, generation, at, character);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match kind % 4 {
        1 => fuzzing::token(text),
        2 => {
            fuzzing::long_poll_cursor(text);
            fuzzing::search_cursor(text);
        }
        _ => {
            let _ = incoming::parse(text);
            events_are_read_the_same_both_ways(text);
        }
    }
});

/// The short way of reading a send takes and refuses what the long one does; the text is what follows its `type`, too.
fn events_are_read_the_same_both_ways(text: &str) {
    const SEND: &str = r#"{"type":"send_message","convoId":"0198f3a2-7c4e-7b1a-9d3e-5f6a7b8c9d0e","#;
    for text in [text, &format!("{SEND}{text}"), &format!(r#"{SEND}"clientSeq":7,"body":"hola",{text}}}"#)] {
        let as_json =
            |event: ClientEvent| serde_json::to_string(&event).expect("what was read can be written");
        let short = ClientEvent::parse(text).map(as_json).map_err(|error| error.to_string());
        let long = serde_json::from_str(text).map(as_json).map_err(|error| error.to_string());
        assert_eq!(short, long);
    }
}
