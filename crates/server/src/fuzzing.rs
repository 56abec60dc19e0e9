//! What the server's decoders owe for any text: an answer, never a panic; what was not given out is no token, and a
//! cursor that is understood is written back the same.
//!
//! The fuzz targets call these with texts that are grown for hours; the tests here with texts that are drawn.

use tertulia_domain::log::{PARTS_MAX, Position};
use tertulia_protocol::{DeviceId, UserId};
use tertulia_search::Order;
use tertulia_store::accounts::SigningKey;

use crate::accounts::tokens::{self, AccessToken};
use crate::accounts::{Identity, Signer};
use crate::gateway::cursor::Cursor;
use crate::search::cursor::Asked;

const KEY: [u8; 32] = [0xA5; 32];

/// A token, as a client hands it in: it is none, for nobody knows the key.
///
/// # Panics
/// If a promise is broken, as all of these.
pub fn token(text: &str) {
    let signer = Signer::new(&SigningKey::new(KEY));
    if let Some(token) = AccessToken::parse(text) {
        assert!(!token.is_signed(&signer), "an access token that was not given out");
    }
    assert!(tokens::parse_refresh(&signer, text).is_none(), "a refresh token that was not given out");
    assert!(tokens::parse_resume(&signer, text).is_none(), "a resume token that was not given out");
}

/// Tokens that were given out, and the same with one character changed: that has one meaning, or none.
pub fn given_out(random: [u8; 32], generation: u64, at: u8, character: u8) {
    let signer = Signer::new(&SigningKey::new(KEY));
    let [user, device] = [0, 16].map(|from| std::array::from_fn(|byte| random[from + byte]));
    let identity = Identity { user: UserId::from_bytes(user), device: DeviceId::from_bytes(device) };
    let access = AccessToken::mint(&signer, random);
    let refresh = tokens::mint_refresh(&signer, identity.device, generation, user);
    let resume = tokens::resume(&signer, identity);

    assert!(AccessToken::parse(&access.text).is_some_and(|token| token.is_signed(&signer)));
    let presented = tokens::parse_refresh(&signer, &refresh.text);
    assert!(presented.is_some_and(|it| it.device == identity.device && it.generation == generation));
    assert_eq!(tokens::parse_resume(&signer, &resume), Some(identity));

    for text in [&access.text, &refresh.text, &resume] {
        let at = usize::from(at) % text.len();
        let mut changed = text.clone();
        changed.replace_range(at..=at, char::from(character & 0x7F).encode_utf8(&mut [0; 4]));
        if changed != *text {
            token(&changed);
        }
    }
}

/// A long-poll's cursor, as a client hands it in.
pub fn long_poll_cursor(text: &str) {
    let at = |number| {
        let mut numbers = [0; PARTS_MAX];
        numbers[0] = number;
        Position::new(numbers)
    };
    let read = |text: &str| text.parse().ok().map(at);
    let write = |position: Position| position.numbers()[0].to_string();
    if let Some(cursor) = Cursor::parse(text, read) {
        assert_eq!(Cursor::parse(&cursor.write(write), read), Some(cursor));
    }
}

/// The cursor of a search, as a client hands it in: it is none, for nobody knows the key.
pub fn search_cursor(text: &str) {
    let signer = Signer::new(&SigningKey::new(KEY));
    let asked = Asked { user: UserId::from_bytes([7; 16]), q: "tea", convo: None, order: Order::Newest };
    assert!(asked.open(&signer, text).is_none(), "a cursor that was not given out");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_no_token(text in "[A-Za-z0-9_-]{64}|[A-Za-z0-9_-]{96}|[A-Za-z0-9_-]{87}|.{0,100}") {
            token(&text);
        }

        #[test]
        fn any_text_is_no_cursor_of_a_search(text in "[A-Za-z0-9_-]{54}|[A-Za-z0-9_-]{76}|.{0,140}") {
            search_cursor(&text);
        }

        #[test]
        fn a_changed_token_is_none(
            random in any::<[u8; 32]>(), generation in any::<u64>(), at in any::<u8>(), character in 0_u8..128,
        ) {
            given_out(random, generation, at, character);
        }

        #[test]
        fn any_text_is_a_cursor_or_none(
            text in "[0-9]{0,21}(~[0-9+]{0,21})?(~[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?(~[0-9+]{0,21}){0,2}",
        ) {
            long_poll_cursor(&text);
        }
    }
}
