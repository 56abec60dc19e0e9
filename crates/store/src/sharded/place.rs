//! Which part a conversation is in.

use tertulia_domain::rendezvous::draw;
use tertulia_protocol::ConvoId;

/// The part of a conversation, of so many. It is there for ever: this never changes.
pub(super) fn part_of(convo: ConvoId, parts: usize) -> usize {
    let number = |part: usize| draw(&[u8::try_from(part).unwrap_or(u8::MAX)], convo.as_bytes());
    (0..parts).max_by_key(|part| number(*part)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convo(number: u32) -> ConvoId {
        let mut bytes = [7; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        ConvoId::from_bytes(bytes)
    }

    fn places(parts: usize) -> Vec<usize> {
        (0..10_000).map(|number| part_of(convo(number), parts)).collect()
    }

    #[test]
    fn conversations_are_spread_evenly() {
        for parts in 1..=8 {
            let places = places(parts);
            for part in 0..parts {
                let share =
                    places.iter().filter(|place| **place == part).count() as f64 * parts as f64 / 10_000.0;
                assert!((share - 1.0).abs() < 0.1, "{part} of {parts} has {share} of its share");
            }
        }
    }

    #[test]
    fn a_further_part_takes_its_share_and_nothing_else_would_move() {
        let (before, after) = (places(3), places(4));
        let moved: Vec<_> = before.iter().zip(after).filter(|(before, after)| **before != *after).collect();
        assert!(moved.iter().all(|(_, after)| *after == 3));
        assert!((2_200..2_800).contains(&moved.len()), "{}", moved.len());
    }

    #[test]
    fn the_place_of_a_conversation_is_the_same_for_ever() {
        let places =
            |parts| (0..24).map(|number| part_of(convo(number), parts).to_string()).collect::<String>();
        assert_eq!(places(1), "000000000000000000000000");
        assert_eq!(places(2), "001001111010011110100011");
        assert_eq!(places(3), "201021212020211120220211");
        assert_eq!(places(8), "201657777550446623420243");
    }
}
