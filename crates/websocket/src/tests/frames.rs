//! What we send, what a decoder costs, and both ends of the wire against each other.

use std::io::Write as _;

use super::{Dice, FIN, PING, TEXT, decode, masked};
use crate::client::{handshake_key, put_close, put_ping, put_pong, put_text};
use crate::{CloseCode, Decoder, Event, Frame, TextFrameBuilder, accept_key, payloads};

#[test]
fn section_5_7_a_server_frame_is_unmasked_and_its_length_minimal() {
    assert_eq!(&Frame::text("Hello").bytes()[..], b"\x81\x05Hello");
    assert_eq!(&Frame::ping(b"Hello").bytes()[..], b"\x89\x05Hello");
    assert_eq!(&Frame::pong(b"").bytes()[..], b"\x8a\x00");
    assert_eq!(&Frame::close(CloseCode::NORMAL, "bye").bytes()[..], b"\x88\x05\x03\xe8bye");
    for (len, header) in [
        (0, &[0x81, 0][..]),
        (125, &[0x81, 125]),
        (126, &[0x81, 126, 0, 126]),
        (65_535, &[0x81, 126, 0xFF, 0xFF]),
        (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let text = "x".repeat(len);
        let frame = Frame::text(&text);
        assert_eq!(&frame.bytes()[..header.len()], header);
        assert_eq!(frame.payload(), text.as_bytes());
        assert_eq!(frame.len(), header.len() + len);
    }
}

#[test]
fn a_length_beyond_all_memory_ends_a_row_of_frames() {
    let mut wire = Frame::text("Hello").bytes().to_vec();
    wire.extend_from_slice(&[0x81, 127]);
    wire.extend_from_slice(&[0xFF; 40]);
    assert_eq!(payloads(&wire).collect::<Vec<_>>(), [b"Hello"]);
}

#[test]
fn a_frame_written_in_pieces_equals_a_frame_of_the_whole() {
    for len in [0, 1, 125, 126, 65_535, 65_536] {
        let text = "x".repeat(len);
        let mut builder = TextFrameBuilder::with_capacity(len / 2);
        let (left, right) = text.split_at(len / 3);
        builder.extend_from_slice(left.as_bytes());
        write!(builder, "{right}").unwrap();
        assert_eq!(builder.finish(), Frame::text(&text));
    }
}

#[test]
fn a_clone_of_a_frame_shares_its_bytes() {
    let frame = Frame::text("Hello");
    assert_eq!(frame.clone().bytes().as_ptr(), frame.bytes().as_ptr());
}

#[test]
fn section_5_5_a_control_frame_carries_at_most_125_bytes() {
    assert_eq!(Frame::ping(&[7; 200]).payload(), [7; 125]);
    assert_eq!(Frame::pong(&[7; 126]).payload(), [7; 125]);
    assert_eq!(Frame::close(CloseCode::POLICY, &"x".repeat(124)).payload().len(), 125);
    // 61 letters of two bytes are 122; half of the next would fit.
    assert_eq!(&Frame::close(CloseCode::POLICY, &"é".repeat(80)).payload()[2..], "é".repeat(61).as_bytes());
}

#[test]
fn section_7_4_a_code_that_may_not_be_sent_cannot_be_made() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, u16::MAX] {
        assert_eq!(CloseCode::new(code), None, "{code}");
    }
    assert_eq!(CloseCode::new(1000), Some(CloseCode::NORMAL));
    assert_eq!(CloseCode::new(4404).map(CloseCode::get), Some(4404));
}

#[test]
fn an_idle_decoder_takes_64_bytes_and_no_heap() {
    assert!(size_of::<Decoder>() <= 64, "{}", size_of::<Decoder>());
    assert_eq!(Decoder::default().heap_bytes(), 0);
}

#[test]
fn what_arrives_whole_is_handed_out_where_it_was_read() {
    let mut wire = [masked(FIN | TEXT, b"Hello", [1, 2, 3, 4]), masked(FIN | PING, b"?", [5; 4])].concat();
    let place = wire.as_ptr_range();
    let mut decoder = Decoder::default();
    let mut input = wire.as_mut_slice();
    while let Some(event) = decoder.next(&mut input).unwrap() {
        let (Event::Text(_) | Event::Ping(_)) = event else { panic!("{event:?}") };
        let payload = match event {
            Event::Text(text) => text.as_bytes(),
            Event::Ping(bytes) | Event::Pong(bytes) | Event::Binary(bytes) => bytes,
            Event::Close(_) => &[],
        };
        assert!(place.contains(&payload.as_ptr()));
        assert_eq!(decoder.heap_bytes(), 0);
    }
}

#[test]
fn a_partial_message_costs_no_more_than_it_has_bytes_twice_and_nothing_once_it_is_out() {
    let mut wire = masked(FIN | TEXT, &[b'x'; 100_000], [1, 2, 3, 4]);
    let mut decoder = Decoder::default();
    let mut came = 0;
    for read in wire.chunks_mut(1000) {
        let mut input = &mut *read;
        came += input.len();
        if decoder.next(&mut input).unwrap().is_some() {
            assert_eq!(came, 100_014);
        }
        assert!(decoder.heap_bytes() <= 2 * came, "{} bytes for {came}", decoder.heap_bytes());
    }
    assert_eq!(decoder.next(&mut (&mut [][..])), Ok(None));
    assert_eq!(decoder.heap_bytes(), 0);
}

#[test]
fn an_announced_length_alone_costs_nothing() {
    let mut wire = masked(FIN | TEXT, &[b'x'; 100_000], [1, 2, 3, 4]);
    let mut decoder = Decoder::default();
    assert_eq!(decoder.next(&mut &mut wire[..14]), Ok(None));
    assert_eq!(decoder.heap_bytes(), 0);
    assert_eq!(decoder.next(&mut &mut wire[14..24]), Ok(None));
    assert!(decoder.heap_bytes() <= 20);
}

#[test]
fn a_log_line_about_a_decoder_keeps_what_was_said_to_itself() {
    let mut wire = masked(TEXT, b"a secret", [0; 4]);
    let mut decoder = Decoder::default();
    assert_eq!(decoder.next(&mut wire.as_mut_slice()), Ok(None));
    assert_eq!(format!("{decoder:?}"), "Decoder { held_len: 8, .. }");
}

#[test]
fn a_server_understands_what_a_client_puts() {
    let long = "x".repeat(70_000);
    let mut wire = Vec::new();
    put_text(&mut wire, [1, 2, 3, 4], "Hello");
    put_ping(&mut wire, [5, 6, 7, 8], b"?");
    put_pong(&mut wire, [0; 4], &[0; 200]);
    put_text(&mut wire, [9; 4], &long);
    put_close(&mut wire, [0xFF; 4], CloseCode::GOING_AWAY, "bye");
    let said = "text Hello | ping ? | pong 125×00 | text 70000×78 | close 1001 bye";
    let limit = long.len();
    for reads in [&[wire.len()][..], &[1], &[1000, 1]] {
        assert_eq!(decode(Decoder::new(limit), limit, &wire, reads), said);
    }
}

#[test]
fn a_client_understands_what_a_server_sends() {
    let frames = [
        Frame::text("Hello"),
        Frame::ping(b"?"),
        Frame::text(&"x".repeat(300)),
        Frame::pong(b"!"),
        Frame::close(CloseCode::RESTART, "back soon"),
    ];
    let wire = frames.iter().flat_map(|frame| frame.bytes().to_vec()).collect::<Vec<_>>();
    let mut dice = Dice(7);
    for _ in 0..50 {
        let reads = [1 + dice.roll(9), 1 + dice.roll(99)];
        assert_eq!(
            decode(Decoder::for_client(300), 300, &wire, &reads),
            "text Hello | ping ? | text 300×78 | pong ! | close 1012 back soon",
        );
    }
}

#[test]
fn a_key_that_a_client_makes_is_one_that_a_server_takes() {
    assert_eq!(handshake_key(*b"the sample nonce"), "dGhlIHNhbXBsZSBub25jZQ==");
    assert!(accept_key(&handshake_key([0xFF; 16])).is_ok());
}
