//! Rendezvous hashing: which of several places something belongs to, as everybody works it out alone.
//!
//! Each place draws a number for the thing, and the greatest wins: so a place that comes or goes moves nothing between the
//! others. What is kept somewhere by this rule is looked for by it for ever: it never changes.

use sha2::{Digest as _, Sha256};

/// What a place draws for a thing: evenly from all numbers, and always the same.
pub fn draw(place: &[u8], thing: &[u8]) -> u64 {
    let hash: [u8; 32] = Sha256::new().chain_update(place).chain_update(thing).finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = hash;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_the_same_for_ever() {
        // By `printf … | sha256sum`.
        assert_eq!(draw(b"", b"abc"), 0xba78_16bf_8f01_cfea);
        assert_eq!(draw(b"a", b"bc"), 0xba78_16bf_8f01_cfea);
    }
}
