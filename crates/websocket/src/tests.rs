//! The wire as a test sees it: an encoder of its own, a run over a stream cut into reads, and what
//! came out as a line of text.

mod cases;
mod frames;
mod properties;

use crate::{Decoder, Event};

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const FIN: u8 = 0x80;

/// What a decoder may hold beyond its limit: a control frame cut inside of a fragmented message.
const CONTROL_BYTES_MAX: usize = 125;

/// A masked frame, written by the letter of section 5.2 and without a line of what is tested.
fn masked(first: u8, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    let mut wire = vec![first];
    match payload.len() {
        len @ 0..126 => wire.push(0x80 + len as u8),
        len @ 126..65_536 => wire.extend([0xFE, (len >> 8) as u8, len as u8]),
        len => {
            wire.push(0xFF);
            wire.extend((len as u64).to_be_bytes());
        }
    }
    wire.extend(key);
    wire.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
    wire
}

/// Feeds `wire` in reads of the given lengths, over and over, and tells what the peer said: its
/// events and, if the connection must fail, the close code.
#[track_caller]
fn decode(mut decoder: Decoder, limit: usize, wire: &[u8], reads: &[usize]) -> String {
    let mut seen = Vec::new();
    let mut wire = wire.to_vec();
    let mut unread = wire.as_mut_slice();
    for len in reads.iter().copied().cycle() {
        let mut input = unread.split_off_mut(..len.min(unread.len())).unwrap();
        loop {
            let step = decoder.next(&mut input).map(|event| event.map(show));
            assert!(
                decoder.heap_bytes() <= limit + CONTROL_BYTES_MAX,
                "{} bytes are held",
                decoder.heap_bytes()
            );
            match step {
                Ok(Some(event)) => seen.push(event),
                Ok(None) => break,
                Err(error) => {
                    seen.push(error.close_code().to_string());
                    assert_eq!(decoder.next(&mut input), Ok(None), "after an error comes nothing");
                    return seen.join(" | ");
                }
            }
        }
        assert!(input.is_empty(), "`None` means that all is taken");
        if unread.is_empty() {
            break;
        }
    }
    seen.join(" | ")
}

fn show(event: Event<'_>) -> String {
    match event {
        Event::Text(text) => format!("text {}", show_bytes(text.as_bytes())),
        Event::Binary(bytes) => format!("binary {}", show_bytes(bytes)),
        Event::Ping(bytes) => format!("ping {}", show_bytes(bytes)),
        Event::Pong(bytes) => format!("pong {}", show_bytes(bytes)),
        Event::Close(None) => "close".to_owned(),
        Event::Close(Some((code, reason))) => format!("close {code} {}", show_bytes(reason.as_bytes())),
    }
    .trim_end()
    .to_owned()
}

/// Text as it is, other bytes in hexadecimal, and a long run of one byte as `200×2a`.
fn show_bytes(bytes: &[u8]) -> String {
    match bytes {
        [first, ..] if bytes.len() > 32 && bytes.iter().all(|byte| byte == first) => {
            format!("{}×{first:02x}", bytes.len())
        }
        _ => match str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        },
    }
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}
