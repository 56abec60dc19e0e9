//! The cursor of a search, as clients hold it: a place in the index, sealed.
//!
//! A place is the time and the number of a message. Where a page ends because the index has looked at as much as one
//! search may, that message may be one that the asker may not see; and the number even of one that he may see counts what
//! was said anywhere in its millisecond. So he can neither read it, nor make one, nor use it for anything but the next
//! page of the same search: it opens for the user and the question that it was given out for.
//!
//! The keys come from that of the accounts, which all nodes have and which outlives a restart, so nobody needs to remember
//! what was given out. Each cursor has a key of its own, of 16 random bytes in front of it: it seals one thing, and there
//! are no nonces to run out of.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use tertulia_protocol::{ConvoId, UserId};
use tertulia_search::{Order, Place};

use crate::accounts::Signer;

const PURPOSE: &str = "tertulia search cursor 1";
const SALT_BYTES: usize = 16;
/// The longest place, a tag of 16, and the salt are less: a text of any length must not be decoded.
const TEXT_MAX: usize = 128;

/// What a cursor is for.
pub(crate) struct Asked<'a> {
    /// Who seeks.
    pub(crate) user: UserId,
    /// What, as he wrote it.
    pub(crate) q: &'a str,
    /// In which conversation, if in one.
    pub(crate) convo: Option<ConvoId>,
    /// What comes first.
    pub(crate) order: Order,
}

impl Asked<'_> {
    /// Seals a place for the next page of this; `None` only if the cipher refuses, which it has no reason to.
    pub(crate) fn seal(&self, signer: &Signer, salt: [u8; SALT_BYTES], place: Place) -> Option<String> {
        let mut sealed = place.to_bytes();
        self.key(signer, salt)?.seal_in_place_append_tag(nonce(), Aad::empty(), &mut sealed).ok()?;
        Some(URL_SAFE_NO_PAD.encode([&salt[..], &sealed].concat()))
    }

    /// The place in a cursor; `None` if it was not given out for this.
    pub(crate) fn open(&self, signer: &Signer, text: &str) -> Option<Place> {
        if text.len() > TEXT_MAX {
            return None;
        }
        let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (&mut salt, sealed) = bytes.split_first_chunk_mut()?;
        let place = self.key(signer, salt)?.open_in_place(nonce(), Aad::empty(), sealed).ok()?;
        Place::from_bytes(place)
    }

    fn key(&self, signer: &Signer, salt: [u8; SALT_BYTES]) -> Option<LessSafeKey> {
        let order = match self.order {
            Order::Newest => 0,
            Order::Rank => 1,
        };
        // What has a length of its own stands last.
        let mut of = [&salt[..], self.user.as_bytes(), &[order, u8::from(self.convo.is_some())]].concat();
        of.extend(self.convo.iter().flat_map(|convo| convo.as_bytes()));
        of.extend(self.q.as_bytes());
        UnboundKey::new(&CHACHA20_POLY1305, &signer.sign(PURPOSE, &of)).ok().map(LessSafeKey::new)
    }
}

/// A key seals once.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use tertulia_store::accounts::SigningKey;

    use super::*;

    const PLACES: [Place; 2] =
        [Place::Newest { id: 7 << 20 }, Place::Rank { newest: i64::MAX, rank: -1, id: i64::MIN }];

    fn signer() -> Signer {
        Signer::new(&SigningKey::new([3; 32]))
    }

    fn asked(q: &str) -> Asked<'_> {
        Asked { user: UserId::from_bytes([1; 16]), q, convo: None, order: Order::Newest }
    }

    #[test]
    fn a_cursor_is_opened_for_what_it_was_given_out_for_and_for_nothing_else() {
        let convo = Some(ConvoId::from_bytes([b't'; 16]));
        for place in PLACES {
            let cursor = asked("tea").seal(&signer(), [9; 16], place).unwrap();
            // Another process, or another node.
            assert_eq!(asked("tea").open(&signer(), &cursor), Some(place));
            for other in [
                asked("tea "),
                asked("tea after:2026-11-24"),
                asked(""),
                Asked { user: UserId::from_bytes([2; 16]), ..asked("tea") },
                Asked { convo, ..asked("tea") },
                Asked { order: Order::Rank, ..asked("tea") },
            ] {
                assert_eq!(other.open(&signer(), &cursor), None, "{}", other.q);
            }
            let stranger = Signer::new(&SigningKey::new([4; 32]));
            assert_eq!(asked("tea").open(&stranger, &cursor), None);
        }
    }

    #[test]
    fn a_changed_character_anywhere_makes_it_worthless_and_garbage_is_none() {
        let cursor = asked("tea").seal(&signer(), [9; 16], PLACES[1]).unwrap();
        for at in 0..cursor.len() {
            let other = if cursor.as_bytes()[at] == b'A' { "B" } else { "A" };
            let changed = format!("{}{other}{}", &cursor[..at], &cursor[at + 1..]);
            assert_eq!(asked("tea").open(&signer(), &changed), None, "{changed}");
        }
        let long = "A".repeat(1 << 20);
        for garbage in ["", "A", "bgAAAAAAAAAH", "🫖", &long, &cursor[1..], &format!("{cursor}AAAA")] {
            assert_eq!(asked("tea").open(&signer(), garbage), None);
        }
    }

    #[test]
    fn what_a_cursor_looks_like_says_nothing_of_its_place() {
        let sealed = |salt: u8, id: i64| {
            let cursor = asked("tea").seal(&signer(), [salt; 16], Place::Newest { id }).unwrap();
            URL_SAFE_NO_PAD.decode(cursor).unwrap()
        };
        let (one, other) = (sealed(1, 5), sealed(2, 5));
        assert_eq!((one.len(), sealed(1, i64::MAX).len()), (other.len(), other.len()));
        let alike = one.iter().zip(&other).skip(16).filter(|(one, other)| one == other).count();
        assert!(alike < 5, "the same place under another key: {one:?}, {other:?}");
    }
}
