//! What holds for any stream: messages come out as they went in, cuts change nothing, memory stays
//! within the limit.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{BINARY, CONTINUATION, FIN, PING, PONG, TEXT, decode, masked, show};
use crate::{Decoder, Event};

/// Small, so that streams reach it.
const LIMIT: usize = 300;

/// A message in fragments, each with what control frame follows it.
#[derive(Clone, Debug)]
struct Sent {
    text: bool,
    fragments: Vec<(Vec<u8>, Option<Control>)>,
    key: [u8; 4],
}

/// A Ping, or else a Pong, and its payload.
type Control = (bool, Vec<u8>);

impl Sent {
    fn wire(&self) -> Vec<u8> {
        let last = self.fragments.len() - 1;
        let mut wire = Vec::new();
        for (i, (payload, control)) in self.fragments.iter().enumerate() {
            let opcode = match (i, self.text) {
                (0, true) => TEXT,
                (0, false) => BINARY,
                _ => CONTINUATION,
            };
            wire.extend(masked(if i == last { FIN | opcode } else { opcode }, payload, self.key));
            if let Some((ping, payload)) = control {
                wire.extend(masked(FIN | if *ping { PING } else { PONG }, payload, self.key));
            }
        }
        wire
    }

    fn said(&self) -> Vec<String> {
        let last = self.fragments.len() - 1;
        let message: Vec<u8> = self.fragments.iter().flat_map(|(payload, _)| payload.clone()).collect();
        let mut said = Vec::new();
        for (i, (_, control)) in self.fragments.iter().enumerate() {
            if i == last {
                said.push(match self.text {
                    true => show(Event::Text(str::from_utf8(&message).unwrap())),
                    false => show(Event::Binary(&message)),
                });
            }
            if let Some((ping, payload)) = control {
                said.push(show(if *ping { Event::Ping(payload) } else { Event::Pong(payload) }));
            }
        }
        said
    }
}

fn control() -> impl Strategy<Value = Option<Control>> {
    proptest::option::weighted(0.3, (any::<bool>(), vec(any::<u8>(), 0..=125)))
}

fn sent() -> impl Strategy<Value = Sent> {
    let payload = prop_oneof![
        "\\PC{0,60}".prop_map(|text| (true, text.into_bytes())),
        vec(any::<u8>(), 0..=LIMIT).prop_map(|bytes| (false, bytes)),
    ];
    (payload, vec((any::<prop::sample::Index>(), control()), 0..5), control(), any::<[u8; 4]>()).prop_map(
        |((text, payload), cuts, control, key)| {
            let mut rest = payload.as_slice();
            let mut fragments = Vec::new();
            for (cut, control) in cuts {
                let (fragment, tail) = rest.split_at(cut.index(rest.len() + 1));
                fragments.push((fragment.to_vec(), control));
                rest = tail;
            }
            fragments.push((rest.to_vec(), control));
            Sent { text, fragments, key }
        },
    )
}

fn reads() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![vec(1..8_usize, 1..20), vec(1..400_usize, 1..20)]
}

proptest! {
    #[test]
    fn messages_come_out_as_they_went_in(messages in vec(sent(), 0..6), reads in reads()) {
        let wire: Vec<u8> = messages.iter().flat_map(Sent::wire).collect();
        let said: Vec<String> = messages.iter().flat_map(Sent::said).collect();
        prop_assert_eq!(decode(Decoder::new(LIMIT), LIMIT, &wire, &reads), said.join(" | "));
    }

    #[test]
    fn cuts_change_nothing_about_a_damaged_stream(
        messages in vec(sent(), 1..6),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        limit in 0..=LIMIT,
        reads in reads(),
    ) {
        let mut wire: Vec<u8> = messages.iter().flat_map(Sent::wire).collect();
        for (place, byte) in damage {
            let place = place.index(wire.len());
            wire[place] ^= byte;
        }
        let whole = decode(Decoder::new(limit), limit, &wire, &[wire.len()]);
        prop_assert_eq!(decode(Decoder::new(limit), limit, &wire, &reads), whole);
    }

    #[test]
    fn any_bytes_are_safe_to_read(wire in vec(any::<u8>(), 1..600), reads in reads(), from_client in any::<bool>()) {
        let decoder = || if from_client { Decoder::new(LIMIT) } else { Decoder::for_client(LIMIT) };
        let whole = decode(decoder(), LIMIT, &wire, &[wire.len()]);
        prop_assert_eq!(decode(decoder(), LIMIT, &wire, &reads), whole);
    }
}
