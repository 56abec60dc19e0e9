//! Any stream, cut anywhere, means the same as in one piece; the decoder never panics, and its memory stays in bounds.
//!
//! Both ends are read: the server's decoder of what clients mask, the client's of what servers do not; then the same
//! bytes as a row of frames of our own, and as the headers of an upgrade.
//!
//! The first bytes of the input say how the others are read: the limit, and the lengths of eight reads in turn.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tertulia_websocket::{
    CloseCode, Decoder, Event, ProtocolError, UpgradeHeaders, accept_key, check_request, payloads,
};

/// What a decoder may hold beyond its limit: a control frame cut inside of a fragmented message.
const CONTROL_BYTES_MAX: usize = 125;

#[derive(Debug, PartialEq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(CloseCode, String)>),
    Failed(ProtocolError),
}

fuzz_target!(|data: &[u8]| {
    let Some((&[limit, ref reads @ ..], wire)) = data.split_first_chunk::<9>() else { return };
    // Up to 1020 bytes, so that all forms of a length but the longest lie on both sides of the limit.
    let limit = usize::from(limit) * 4;
    let reads = reads.map(|len| usize::from(len).max(1));
    for make in [Decoder::new, Decoder::for_client] {
        let decode = |reads: &[usize]| decode(make(limit), limit, wire, reads);
        let whole = decode(&[wire.len()]);
        assert_eq!(decode(&reads), whole, "in reads of {reads:?}");
        assert_eq!(decode(&[1]), whole, "byte by byte");
    }
    let rows: usize = payloads(wire).map(|payload| payload.len() + 2).sum();
    assert!(rows <= wire.len(), "payloads lie beside each other");
    check_upgrade(wire);
});

fn check_upgrade(wire: &[u8]) {
    let Ok(text) = std::str::from_utf8(wire) else { return };
    let mut fields = text.split('\n').map(Some).chain([None; 4]);
    let mut field = || fields.next().flatten();
    let headers = UpgradeHeaders { upgrade: field(), connection: field(), version: field(), key: field() };
    let known = UpgradeHeaders {
        upgrade: Some("websocket"),
        connection: Some("Upgrade"),
        version: Some("13"),
        key: Some(text),
    };
    for headers in [headers, known] {
        if let (Ok(accept), Some(key)) = (check_request(&headers), headers.key) {
            assert_eq!(accept_key(key.trim_ascii()), Ok(accept));
        }
    }
}

fn decode(mut decoder: Decoder, limit: usize, wire: &[u8], reads: &[usize]) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut wire = wire.to_vec();
    let mut unread = wire.as_mut_slice();
    for &len in reads.iter().cycle() {
        let mut input = unread.split_off_mut(..len.min(unread.len())).unwrap_or_default();
        loop {
            let step = decoder.next(&mut input).map(|event| event.map(own));
            assert!(decoder.heap_bytes() <= limit + CONTROL_BYTES_MAX);
            match step {
                Ok(Some(event)) => seen.push(event),
                Ok(None) => break,
                Err(error) => {
                    seen.push(Seen::Failed(error));
                    return seen;
                }
            }
        }
        assert!(input.is_empty());
        if unread.is_empty() {
            return seen;
        }
    }
    seen
}

fn own(event: Event<'_>) -> Seen {
    match event {
        Event::Text(text) => Seen::Text(text.to_owned()),
        Event::Binary(bytes) => Seen::Binary(bytes.to_vec()),
        Event::Ping(bytes) => Seen::Ping(bytes.to_vec()),
        Event::Pong(bytes) => Seen::Pong(bytes.to_vec()),
        Event::Close(close) => Seen::Close(close.map(|(code, reason)| (code, reason.to_owned()))),
    }
}
