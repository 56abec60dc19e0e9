//! Streams and what a server must make of them, numbered like the cases of the Autobahn test suite,
//! or by the section of RFC 6455 where that suite has none.
//!
//! Each stream is read at once, byte by byte and in random pieces, always with the same result.

use super::{BINARY, CLOSE, CONTINUATION, Dice, FIN, PING, PONG, TEXT, decode, masked, show_bytes};
use crate::{Decoder, MESSAGE_BYTES_MAX, ProtocolError};

/// A name, the frames and what they mean.
type Case = (String, Vec<Vec<u8>>, String);

fn case(name: impl Into<String>, frames: impl Into<Vec<Vec<u8>>>, expected: impl Into<String>) -> Case {
    (name.into(), frames.into(), expected.into())
}

/// One frame; `first` is its first byte.
fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    masked(first, payload.as_ref(), [0x37, 0xFA, 0x21, 0x3D])
}

fn text(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(FIN | TEXT, payload)
}

fn ping(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(FIN | PING, payload)
}

fn pong(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(FIN | PONG, payload)
}

fn close(code: u16, reason: impl AsRef<[u8]>) -> Vec<u8> {
    frame(FIN | CLOSE, [&code.to_be_bytes(), reason.as_ref()].concat())
}

/// One message in frames of `len` bytes.
fn fragments(opcode: u8, payload: &[u8], len: usize) -> Vec<Vec<u8>> {
    let count = payload.len().div_ceil(len);
    payload
        .chunks(len)
        .enumerate()
        .map(|(i, chunk)| {
            let opcode = if i == 0 { opcode } else { CONTINUATION };
            frame(if i + 1 == count { FIN | opcode } else { opcode }, chunk)
        })
        .collect()
}

/// Only the first bytes of a frame: the header of 6 bytes and `payload_len` of what follows.
fn start_of(mut frame: Vec<u8>, payload_len: usize) -> Vec<u8> {
    frame.truncate(6 + payload_len);
    frame
}

#[track_caller]
fn check(cases: impl IntoIterator<Item = Case>) {
    let mut dice = Dice(1);
    for (name, frames, expected) in cases {
        let wire = frames.concat();
        let run = |reads: &[usize]| decode(Decoder::default(), MESSAGE_BYTES_MAX, &wire, reads);
        assert_eq!(run(&[wire.len()]), expected, "{name}, at once");
        assert_eq!(run(&[1]), expected, "{name}, byte by byte");
        for most in [3, 8, 40, 500, 5000] {
            let reads: Vec<usize> = (0..16).map(|_| 1 + dice.roll(most)).collect();
            assert_eq!(run(&reads), expected, "{name}, in reads of {reads:?}");
        }
    }
}

#[test]
fn autobahn_1_framing() {
    let sizes = [0, 1, 125, 126, 127, 128, 65_535, 65_536];
    let of = |opcode: u8, word: &'static str, section: u8| {
        sizes.map(move |size| {
            let payload = vec![b'*'; size];
            let expected = format!("{word} {}", show_bytes(&payload));
            case(
                format!("1.{section} {word} of {size} bytes"),
                [frame(FIN | opcode, payload)],
                expected.trim_end(),
            )
        })
    };
    check(of(TEXT, "text", 1));
    check(of(BINARY, "binary", 2));
    check([
        case(
            "5.7 the masked Hello of the RFC",
            [b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58".to_vec()],
            "text Hello",
        ),
        case("5.2 nothing at all", [vec![]], ""),
        case("5.2 half a header", [vec![0x81]], ""),
        case("5.2 a header alone", [start_of(text("Hello"), 0)], ""),
        case("5.2 a frame that lacks its last byte", [start_of(text("Hello"), 4)], ""),
        case("5.2 messages back to back", ["a", "", "b", "c"].map(text), "text a | text | text b | text c"),
        case("5.3 a key of zeros", [masked(FIN | TEXT, b"Hello", [0; 4])], "text Hello"),
        case(
            "5.3 a new key for each frame",
            [masked(TEXT, b"He", [1; 4]), masked(FIN, b"llo", [2; 4])],
            "text Hello",
        ),
    ]);
}

#[test]
fn autobahn_2_pings_and_pongs() {
    check([
        case("2.1 a ping of nothing", [ping("")], "ping"),
        case("2.2 a ping of text", [ping("Hello, world!")], "ping Hello, world!"),
        case("2.3 a ping of bytes", [ping(b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")], "ping 00fffefdfcfb00ff"),
        case("2.4 a ping of 125 bytes", [ping([0xFE; 125])], "ping 125×fe"),
        case("2.5 a ping of 126 bytes", [ping([0xFE; 126])], "1002"),
        case("2.5 a ping of 65,536 bytes", [ping([0xFE; 65_536])], "1002"),
        case("2.5 a pong of 126 bytes", [pong([0xFE; 126])], "1002"),
        case("2.7 an unasked pong of nothing", [pong("")], "pong"),
        case("2.8 an unasked pong of text", [pong("unasked")], "pong unasked"),
        case("2.9 an unasked pong, then a ping", [pong("unasked"), ping("a")], "pong unasked | ping a"),
        case("2.10 ten pings", vec![ping("x"); 10], ["ping x"; 10].join(" | ")),
        case(
            "2.10 pings between messages",
            [text("a"), ping("1"), text("b"), ping("2")],
            "text a | ping 1 | text b | ping 2",
        ),
    ]);
}

#[test]
fn autobahn_3_reserved_bits() {
    check([
        case("3.1 RSV3 in a text", [frame(0x90 | TEXT, "Hello")], "1002"),
        case("3.2 RSV2 in a second text", [text("a"), frame(0xA0 | TEXT, "b"), ping("")], "text a | 1002"),
        case(
            "3.3 RSV2 and 3 in a second text",
            [text("a"), frame(0xB0 | TEXT, "b"), ping("")],
            "text a | 1002",
        ),
        case(
            "3.4 RSV1, that of compression",
            [text("a"), frame(0xC0 | TEXT, "b"), ping("")],
            "text a | 1002",
        ),
        case("3.5 RSV1 and 3 in a binary", [frame(0xD0 | BINARY, [0xFF; 8])], "1002"),
        case("3.6 RSV1 and 2 in a ping", [frame(0xE0 | PING, "Hello")], "1002"),
        case("3.7 all three in a close", [frame(0xF0 | CLOSE, "")], "1002"),
        case("3.7 RSV1 in a continuation", [frame(TEXT, "a"), frame(0xC0, "b")], "1002"),
        case("3.1 the first byte is enough", [vec![0x91]], "1002"),
    ]);
}

#[test]
fn autobahn_4_opcodes() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let section = if opcode < 8 { "4.1" } else { "4.2" };
        check([
            case(format!("{section} opcode {opcode}, empty"), [frame(FIN | opcode, "")], "1002"),
            case(format!("{section} opcode {opcode}, not final"), [frame(opcode, "")], "1002"),
            case(
                format!("{section} opcode {opcode} after a text"),
                [text("a"), frame(FIN | opcode, "b"), ping("")],
                "text a | 1002",
            ),
            case(
                format!("{section} opcode {opcode} inside of a message"),
                [frame(TEXT, "a"), frame(FIN | opcode, "b"), frame(FIN, "c")],
                "1002",
            ),
        ]);
    }
}

#[test]
fn section_5_1_a_client_masks() {
    let unmasked = |first: u8, payload: &str| [&[first, payload.len() as u8], payload.as_bytes()].concat();
    check([
        case("5.1 an unmasked text", [unmasked(FIN | TEXT, "Hello")], "1002"),
        case("5.1 an unmasked ping", [unmasked(FIN | PING, "")], "1002"),
        case("5.1 an unmasked close", [unmasked(FIN | CLOSE, "")], "1002"),
        case(
            "5.1 an unmasked text after a masked one",
            [text("a"), unmasked(FIN | TEXT, "b")],
            "text a | 1002",
        ),
        case("5.1 an unmasked continuation", [frame(TEXT, "a"), unmasked(FIN, "b")], "1002"),
        case("5.1 two bytes are enough", [vec![0x81, 0x7F]], "1002"),
    ]);
}

#[test]
fn section_5_2_a_length_takes_as_few_bytes_as_possible() {
    /// A text whose header says `length` and whose payload is not there.
    fn announced(length: &[u8]) -> Vec<u8> {
        [&[FIN | TEXT], length].concat()
    }
    check([
        case("5.2 0 in 16 bits", [announced(&[0xFE, 0, 0])], "1002"),
        case("5.2 125 in 16 bits", [announced(&[0xFE, 0, 125])], "1002"),
        case("5.2 126 in 16 bits", [announced(&[0xFE, 0, 126])], ""),
        case("5.2 65,535 in 16 bits", [announced(&[0xFE, 0xFF, 0xFF])], ""),
        case("5.2 0 in 64 bits", [announced(&[0xFF, 0, 0, 0, 0, 0, 0, 0, 0])], "1002"),
        case("5.2 125 in 64 bits", [announced(&[0xFF, 0, 0, 0, 0, 0, 0, 0, 125])], "1002"),
        case("5.2 65,535 in 64 bits", [announced(&[0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF])], "1002"),
        case("5.2 65,536 in 64 bits", [announced(&[0xFF, 0, 0, 0, 0, 0, 1, 0, 0])], ""),
        case("5.2 the topmost bit", [announced(&[0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0])], "1002"),
        case("5.2 the topmost bit and all others", [announced(&[0xFF; 9])], "1002"),
        case(
            "5.2 all but the topmost bit",
            [announced(&[0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF])],
            "1009",
        ),
        case("5.5 a ping's length in 16 bits", [vec![FIN | PING, 0xFE]], "1002"),
        case("5.5 a close's length in 64 bits", [vec![FIN | CLOSE, 0xFF]], "1002"),
    ]);
}

#[test]
fn autobahn_5_fragmentation() {
    let one = || frame(TEXT, "one ");
    let two = || frame(CONTINUATION, "two ");
    let end = || frame(FIN | CONTINUATION, "end");
    check([
        case("5.1 a ping in two fragments", [frame(PING, "one"), end()], "1002"),
        case("5.2 a pong in two fragments", [frame(PONG, "one"), end()], "1002"),
        case("5.2 a close in two fragments", [frame(CLOSE, ""), end()], "1002"),
        case("5.3 a text in two fragments", [one(), end()], "text one end"),
        case("5.4 a text in three fragments", [one(), two(), end()], "text one two end"),
        case("5.5 a binary in three fragments", fragments(BINARY, b"\xff\xfe\xfd", 1), "binary fffefd"),
        case("5.5 two fragmented messages", [one(), end(), one(), end()], "text one end | text one end"),
        case("5.6 a ping between fragments", [one(), ping("p"), end()], "ping p | text one end"),
        case("5.7 an empty ping between fragments", [one(), ping(""), end()], "ping | text one end"),
        case(
            "5.8 a ping between empty fragments",
            [frame(TEXT, ""), ping("p"), frame(FIN, "")],
            "ping p | text",
        ),
        case(
            "5.8 the longest ping between fragments",
            [one(), ping([7; 125]), two(), pong([8; 125]), end()],
            "ping 125×07 | pong 125×08 | text one two end",
        ),
        case("5.9 a final continuation of nothing", [end(), text("a")], "1002"),
        case("5.10 the same after a text", [text("a"), end(), text("b")], "text a | 1002"),
        case("5.11 the same after a fragmented text", [one(), end(), end()], "text one end | 1002"),
        case("5.12 a continuation of nothing", [two(), text("a")], "1002"),
        case("5.13 the same after a text", [text("a"), two(), text("b")], "text a | 1002"),
        case("5.14 the same after a ping", [ping("a"), two(), text("b")], "ping a | 1002"),
        case(
            "5.15 the same after a fragmented text",
            [one(), end(), two(), text("a")],
            "text one end | 1002",
        ),
        case("5.16 a continuation before its text", [two(), one(), end()], "1002"),
        case("5.17 a final continuation before its text", [end(), one(), end()], "1002"),
        case("5.18 a text inside of a text", [one(), text("a")], "1002"),
        case("5.18 a binary inside of a text", [one(), frame(FIN | BINARY, "a")], "1002"),
        case("5.18 a fragmented text inside of an empty one", [frame(TEXT, ""), one()], "1002"),
        case(
            "5.19 pings among five fragments",
            [one(), two(), ping("1"), two(), two(), ping("2"), end()],
            "ping 1 | ping 2 | text one two two two end",
        ),
        case("5.20 a close inside of a message", [one(), close(1000, "bye"), end()], "close 1000 bye"),
        case(
            "5.20 a whole message between pings",
            [ping("1"), text("a"), ping("2")],
            "ping 1 | text a | ping 2",
        ),
        case(
            "5.20 a whole message after a fragmented one",
            [one(), end(), text("a")],
            "text one end | text a",
        ),
        case("5.20 a message that never ends", [one(), two(), two()], ""),
    ]);
}

#[test]
fn autobahn_6_1_to_6_4_text_over_fragments() {
    let greek = "Hello-µ@ßöäüàá-UTF-8!! κόσμε".as_bytes();
    let said = format!("text {}", show_bytes(greek));
    // A surrogate, which UTF-8 has no place for.
    let broken = [greek, b"\xed\xa0\x80", b"edited"].concat();
    let at = greek.len();
    check([
        case("6.1.1 an empty text", [text("")], "text"),
        case("6.1.2 three empty fragments", [frame(TEXT, ""), frame(0, ""), frame(FIN, "")], "text"),
        case(
            "6.1.3 one fragment that is not empty",
            [frame(TEXT, ""), frame(0, "mid"), frame(FIN, "")],
            "text mid",
        ),
        case("6.2.1 valid, in one", [text(greek)], &*said),
        case("6.2.2 valid, cut between characters", fragments(TEXT, greek, 7), &*said),
        case("6.2.3 valid, byte by byte", fragments(TEXT, greek, 1), &*said),
        case(
            "6.2.4 valid, cut inside of characters",
            fragments(TEXT, "κόσμε€𤭢".as_bytes(), 1),
            "text κόσμε€𤭢",
        ),
        case(
            "6.2.4 a character around a ping and an empty fragment",
            [frame(TEXT, b"\xf0\x9f"), ping(b"\xff"), frame(0, ""), frame(0, b"\x98"), frame(FIN, b"\x80")],
            "ping ff | text 😀",
        ),
        case(
            "6.2.4 a fragment starts anew after a text",
            [text("é"), frame(TEXT, b"\xc3"), frame(FIN, b"\xa9")],
            "text é | text é",
        ),
        case("6.3.1 invalid, in one", [text(&broken)], "1007"),
        case("6.3.2 invalid, byte by byte", fragments(TEXT, &broken, 1), "1007"),
        case("6.3.2 a binary may be anything", fragments(BINARY, b"\xed\xa0\x80", 1), "binary eda080"),
        case(
            "6.4.1 fails in the fragment that breaks it",
            [frame(TEXT, greek), frame(0, b"\xf4\x90\x80\x80")],
            "1007",
        ),
        case(
            "6.4.2 fails with the byte that breaks it",
            [frame(TEXT, b"\xf4"), start_of(frame(0, b"\x90\x80\x80"), 1)],
            "1007",
        ),
        case("6.4.3 fails before the frame is complete", [start_of(text(&broken), at + 2)], "1007"),
        case("6.4.4 and not a byte before", [start_of(text(&broken), at + 1)], ""),
        case("6.4.4 an end inside of a character", [frame(TEXT, "a"), frame(FIN, b"\xf0\x9f\x98")], "1007"),
        case("6.4.4 an empty end inside of a character", [frame(TEXT, b"\xc3"), frame(FIN, "")], "1007"),
        case("6.4.4 a close instead of the end", [frame(TEXT, b"\xc3"), close(1000, "")], "close 1000"),
        case("6.4.4 a fragment may end inside of a character", [frame(TEXT, b"\xf0\x9f\x98")], ""),
    ]);
}

#[test]
fn autobahn_6_5_to_6_23_what_utf_8_is() {
    let valid: [(&str, &[&[u8]]); 7] = [
        (
            "6.5 some text",
            &[
                b"hello$world",
                b"hello\xc2\xa2world",
                b"hello\xe2\x82\xacworld",
                b"hello\xf0\xa4\xad\xa2world",
            ],
        ),
        (
            "6.6 whole characters of a word",
            &[b"\xce\xba", b"\xce\xba\xe1\xbd\xb9", b"\xce\xba\xe1\xbd\xb9\xcf\x83"],
        ),
        ("6.7 the first of each length", &[b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"]),
        ("6.9 the last of each length", &[b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"]),
        ("6.11 next to what is forbidden", &[b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd"]),
        (
            "6.22 not characters, yet valid",
            &[
                b"\xef\xbf\xbe",
                b"\xf0\x9f\xbf\xbe",
                b"\xf0\x9f\xbf\xbf",
                b"\xf0\xaf\xbf\xbe",
                b"\xf0\xbf\xbf\xbf",
                b"\xf1\x8f\xbf\xbe",
                b"\xf1\x9f\xbf\xbf",
                b"\xf2\xaf\xbf\xbe",
                b"\xf3\xbf\xbf\xbf",
                b"\xf4\x8f\xbf\xbe",
            ],
        ),
        ("6.23 specials", &[b"\xef\xbf\xb9", b"\xef\xbf\xba", b"\xef\xbf\xbb", b"\xef\xbf\xbc"]),
    ];
    let invalid: [(&str, &[&[u8]]); 15] = [
        (
            "6.6 parts of characters of a word",
            &[b"\xce", b"\xce\xba\xe1", b"\xce\xba\xe1\xbd", b"\xce\xba\xe1\xbd\xb9\xcf"],
        ),
        ("6.8 the first of 5 and 6 bytes", &[b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"]),
        (
            "6.10 the last of 4 to 6 bytes",
            &[b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"],
        ),
        ("6.11 beyond the last character", &[b"\xf4\x90\x80\x80"]),
        (
            "6.12 continuation bytes alone",
            &[b"\x80", b"\xbf", b"\x80\xbf", b"\x80\xbf\x80", b"\x80\xbf\x80\xbf\x80\xbf"],
        ),
        (
            "6.13 first bytes alone",
            &[b"\xc0 \xc1 ", b"\xdf ", b"\xe0 \xef ", b"\xf0 \xf7 ", b"\xf8 \xfb ", b"\xfc \xfd "],
        ),
        (
            "6.14 the last byte missing",
            &[
                b"\xc0",
                b"\xe0\x80",
                b"\xf0\x80\x80",
                b"\xf8\x80\x80\x80",
                b"\xfc\x80\x80\x80\x80",
                b"\xdf",
                b"\xef\xbf",
                b"\xf7\xbf\xbf",
                b"\xfb\xbf\xbf\xbf",
                b"\xfd\xbf\xbf\xbf\xbf",
            ],
        ),
        ("6.15 one after another", &[b"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xdf\xef\xbf\xf7\xbf\xbf"]),
        ("6.16 impossible bytes", &[b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"]),
        (
            "6.17 a slash too long",
            &[b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf"],
        ),
        (
            "6.18 the last of each too long",
            &[b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf"],
        ),
        (
            "6.19 a NUL too long",
            &[b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xfc\x80\x80\x80\x80\x80"],
        ),
        (
            "6.20 surrogates",
            &[
                b"\xed\xa0\x80",
                b"\xed\xad\xbf",
                b"\xed\xae\x80",
                b"\xed\xaf\xbf",
                b"\xed\xb0\x80",
                b"\xed\xbe\x80",
                b"\xed\xbf\xbf",
            ],
        ),
        (
            "6.21 pairs of surrogates",
            &[
                b"\xed\xa0\x80\xed\xb0\x80",
                b"\xed\xa0\x80\xed\xbf\xbf",
                b"\xed\xad\xbf\xed\xb0\x80",
                b"\xed\xae\x80\xed\xbf\xbf",
                b"\xed\xaf\xbf\xed\xbf\xbf",
            ],
        ),
        ("6.21 after much that is valid", &[b"0123456789abcdef0123456789abcdef0123456789abcdef\xed\xa0\x80"]),
    ];
    for (name, texts) in valid {
        for bytes in texts {
            let expected = format!("text {}", show_bytes(bytes));
            check([
                case(format!("{name}: {bytes:02x?}"), [text(bytes)], &*expected),
                case(format!("{name}: {bytes:02x?} in fragments"), fragments(TEXT, bytes, 1), &*expected),
            ]);
        }
    }
    for (name, texts) in invalid {
        for bytes in texts {
            check([
                case(format!("{name}: {bytes:02x?}"), [text(bytes)], "1007"),
                case(format!("{name}: {bytes:02x?} in fragments"), fragments(TEXT, bytes, 1), "1007"),
            ]);
        }
    }
}

#[test]
fn autobahn_7_close() {
    check([
        case("7.1.1 a text, then a close", [text("a"), close(1000, "")], "text a | close 1000"),
        case("7.1.2 a second close is ignored", [close(1000, "one"), close(1001, "two")], "close 1000 one"),
        case("7.1.3 a ping after the close is ignored", [close(1000, ""), ping("")], "close 1000"),
        case("7.1.4 a text after the close is ignored", [close(1000, ""), text("a")], "close 1000"),
        case(
            "7.1.5 a close inside of a message",
            [frame(TEXT, "a"), close(1000, ""), frame(FIN, "b")],
            "close 1000",
        ),
        case("7.1.6 rubbish after the close is ignored", [close(1000, ""), vec![0xFF; 100]], "close 1000"),
        case("7.3.1 no payload", [frame(FIN | CLOSE, "")], "close"),
        case("7.3.2 a payload of one byte", [frame(FIN | CLOSE, "a")], "1002"),
        case("7.3.3 a code", [close(1000, "")], "close 1000"),
        case("7.3.4 a code and a reason", [close(1000, "Hello World!")], "close 1000 Hello World!"),
        case("7.3.5 the longest reason", [close(1000, [b'*'; 123])], "close 1000 123×2a"),
        case("7.3.6 a reason too long", [close(1000, [b'*'; 124])], "1002"),
        case("7.5.1 a reason that is not UTF-8", [close(1000, b"\xce\xba\xed\xa0\x80edited")], "1007"),
        case("7.5.1 a reason that ends inside of a character", [close(1000, b"\xe2\x82")], "1007"),
        case("7.5.1 a reason of many alphabets", [close(1000, "κόσμε 😀")], "close 1000 κόσμε 😀"),
        case("7.5.1 a bad code before a bad reason", [close(1005, b"\xff")], "1002"),
    ]);
    let valid =
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
    check(valid.map(|code| case(format!("7.7 code {code}"), [close(code, "")], format!("close {code}"))));
    let invalid = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 65_535];
    check(invalid.map(|code| case(format!("7.9 code {code}"), [close(code, "why")], "1002")));
}

#[test]
fn autobahn_9_limits() {
    let most = vec![b'*'; MESSAGE_BYTES_MAX];
    let over = vec![b'*'; MESSAGE_BYTES_MAX + 1];
    check([
        case("9.1 the longest text", [text(&most)], "text 131072×2a"),
        case("9.1 two of the longest texts", [text(&most), text(&most)], "text 131072×2a | text 131072×2a"),
        case("9.1 a text too long", [text(&over)], "1009"),
        case("9.1 its header is enough", [start_of(text(&over), 4)], "1009"),
        case("9.2 the longest binary", [frame(FIN | BINARY, &most)], "binary 131072×2a"),
        case("9.2 a binary too long", [frame(FIN | BINARY, &over)], "1009"),
    ]);
    for len in [64, 256, 1024, 4096, 16_384, 65_536, 131_071] {
        check([
            case(
                format!("9.3 the longest text in frames of {len}"),
                fragments(TEXT, &most, len),
                "text 131072×2a",
            ),
            case(format!("9.3 a text too long in frames of {len}"), fragments(TEXT, &over, len), "1009"),
            case(
                format!("9.4 the longest binary in frames of {len}"),
                fragments(BINARY, &most, len),
                "binary 131072×2a",
            ),
            case(format!("9.4 a binary too long in frames of {len}"), fragments(BINARY, &over, len), "1009"),
        ]);
    }
    check([
        case(
            "9.3 nothing more fits, a ping does",
            [frame(TEXT, &most), ping([0; 125]), frame(FIN, "")],
            "ping 125×00 | text 131072×2a",
        ),
        case("9.3 one more byte in a last fragment", [frame(TEXT, &most), frame(FIN, "*")], "1009"),
        case(
            "9.3 the count starts anew with each message",
            [fragments(TEXT, &most, 65_536).concat(), text(&most)],
            "text 131072×2a | text 131072×2a",
        ),
        case("9.3 ten thousand empty fragments", [frame(TEXT, ""), frame(0, "").repeat(10_000)], ""),
    ]);
}

#[test]
fn every_breach_has_its_name() {
    use ProtocolError as E;
    for (wire, error) in [
        (frame(0xC0 | TEXT, ""), E::ReservedBits),
        (frame(FIN | 0xB, ""), E::UnknownOpcode(0xB)),
        (frame(PING, ""), E::FragmentedControl),
        (ping([0; 126]), E::ControlTooLong),
        (frame(FIN, ""), E::NothingToContinue),
        ([frame(TEXT, ""), text("")].concat(), E::MessageInsideMessage),
        (vec![FIN | TEXT, 0], E::NotMasked),
        (vec![FIN | TEXT, 0xFE, 0, 1], E::LengthNotMinimal),
        ([FIN | TEXT].into_iter().chain([0xFF; 9]).collect(), E::LengthTopBit),
        (text([b' '; 11]), E::MessageTooBig { bytes_max: 10 }),
        (text(b"\xff"), E::NotUtf8),
        (close(1000, b"\xff"), E::NotUtf8),
        (frame(FIN | CLOSE, "x"), E::CloseOfOneByte),
        (close(1006, ""), E::InvalidCloseCode(1006)),
    ] {
        let mut wire = wire;
        assert_eq!(Decoder::new(10).next(&mut wire.as_mut_slice()), Err(error));
    }
    let mut masked = text("");
    assert_eq!(Decoder::for_client(10).next(&mut masked.as_mut_slice()), Err(E::Masked));
}
