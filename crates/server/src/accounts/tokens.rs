//! The forms of tokens. All are base64url, and all carry a signature: what was not given out is refused without
//! a look at the disk, and nobody can make a refresh token that revokes somebody else.
//!
//! | token | bytes |
//! |---|---|
//! | access | 32 random, tag 16 |
//! | refresh | device 16, generation 8, 16 random, tag 32 |
//! | resume | version 1, user 16, device 16, tag 32 |

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tertulia_protocol::{DeviceId, UserId};
use tertulia_store::accounts::{Presented, TokenHash};

use super::{Identity, Signer};

const ACCESS: &str = "tertulia access 1";
const REFRESH: &str = "tertulia refresh 1";
const RESUME: &str = "tertulia resume 1";
const RESUME_VERSION: u8 = 1;

/// A token that was just made: its text for the client, its hash for the store.
pub(crate) struct Minted {
    pub(crate) text: String,
    pub(crate) hash: TokenHash,
}

impl Minted {
    fn new(bytes: &[u8]) -> Self {
        Self { text: URL_SAFE_NO_PAD.encode(bytes), hash: hash(bytes) }
    }
}

/// The bytes of an access token.
pub(crate) struct AccessToken([u8; 48]);

impl AccessToken {
    pub(crate) fn mint(signer: &Signer, random: [u8; 32]) -> Minted {
        let mut bytes = [0; 48];
        bytes[..32].copy_from_slice(&random);
        bytes[32..].copy_from_slice(&signer.sign(ACCESS, &random)[..16]);
        Minted::new(&bytes)
    }

    /// Reads the form; whether it was given out, [`is_signed`](Self::is_signed) tells.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        decode(text).map(Self)
    }

    pub(crate) fn hash(&self) -> TokenHash {
        hash(&self.0)
    }

    pub(crate) fn is_signed(&self, signer: &Signer) -> bool {
        signer.verify(ACCESS, &self.0[..32], &self.0[32..])
    }
}

pub(crate) fn mint_refresh(signer: &Signer, device: DeviceId, generation: u64, random: [u8; 16]) -> Minted {
    let mut bytes = [0; 72];
    bytes[..16].copy_from_slice(device.as_bytes());
    bytes[16..24].copy_from_slice(&generation.to_be_bytes());
    bytes[24..40].copy_from_slice(&random);
    let tag = signer.sign(REFRESH, &bytes[..40]);
    bytes[40..].copy_from_slice(&tag);
    Minted::new(&bytes)
}

/// Reads a refresh token that was given out.
pub(crate) fn parse_refresh(signer: &Signer, text: &str) -> Option<Presented> {
    let bytes: [u8; 72] = decode(text)?;
    if !signer.verify(REFRESH, &bytes[..40], &bytes[40..]) {
        return None;
    }
    let device = DeviceId::from_bytes(bytes[..16].try_into().ok()?);
    let generation = u64::from_be_bytes(bytes[16..24].try_into().ok()?);
    Some(Presented { device, generation, hash: hash(&bytes) })
}

pub(crate) fn resume(signer: &Signer, identity: Identity) -> String {
    let mut bytes = [0; 65];
    bytes[0] = RESUME_VERSION;
    bytes[1..17].copy_from_slice(identity.user.as_bytes());
    bytes[17..33].copy_from_slice(identity.device.as_bytes());
    let tag = signer.sign(RESUME, &bytes[..33]);
    bytes[33..].copy_from_slice(&tag);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads a resume token that was given out; whether its device is still there is another question.
pub(crate) fn parse_resume(signer: &Signer, text: &str) -> Option<Identity> {
    let bytes: [u8; 65] = decode(text)?;
    if bytes[0] != RESUME_VERSION || !signer.verify(RESUME, &bytes[..33], &bytes[33..]) {
        return None;
    }
    let user = UserId::from_bytes(bytes[1..17].try_into().ok()?);
    let device = DeviceId::from_bytes(bytes[17..33].try_into().ok()?);
    Some(Identity { user, device })
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    // Checked first: a text of any length must not be decoded.
    if text.len() != (N * 4).div_ceil(3) {
        return None;
    }
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

fn hash(bytes: &[u8]) -> TokenHash {
    TokenHash::new(Sha256::digest(bytes).into())
}

#[cfg(test)]
mod tests {
    use tertulia_store::accounts::SigningKey;

    use super::*;

    fn signer() -> Signer {
        Signer::new(&SigningKey::new([3; 32]))
    }

    fn identity() -> Identity {
        Identity { user: UserId::from_bytes([1; 16]), device: DeviceId::from_bytes([2; 16]) }
    }

    /// Every text that differs in one character.
    fn forgeries(text: &str) -> impl Iterator<Item = String> {
        (0..text.len()).map(|at| {
            let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
            format!("{}{other}{}", &text[..at], &text[at + 1..])
        })
    }

    #[test]
    fn what_was_given_out_is_known_again() {
        let access = AccessToken::mint(&signer(), [9; 32]);
        let parsed = AccessToken::parse(&access.text).unwrap();
        assert!(parsed.is_signed(&signer()) && parsed.hash() == access.hash);
        let refresh = mint_refresh(&signer(), identity().device, 7, [9; 16]);
        let parsed = parse_refresh(&signer(), &refresh.text).unwrap();
        assert_eq!((parsed.device, parsed.generation), (identity().device, 7));
        assert_eq!(parsed.hash, refresh.hash);
        assert_eq!(parse_resume(&signer(), &resume(&signer(), identity())), Some(identity()));
    }

    #[test]
    fn a_changed_character_anywhere_makes_it_worthless() {
        for text in forgeries(&AccessToken::mint(&signer(), [9; 32]).text) {
            assert!(AccessToken::parse(&text).is_none_or(|token| !token.is_signed(&signer())), "{text}");
        }
        for text in forgeries(&mint_refresh(&signer(), identity().device, 7, [9; 16]).text) {
            assert!(parse_refresh(&signer(), &text).is_none(), "{text}");
        }
        for text in forgeries(&resume(&signer(), identity())) {
            assert_eq!(parse_resume(&signer(), &text), None, "{text}");
        }
    }

    #[test]
    fn garbage_is_no_token() {
        let long = "A".repeat(1 << 20);
        for text in ["", "A", "====", "not a token", "\u{1f600}", &long] {
            assert!(AccessToken::parse(text).is_none());
            assert!(parse_refresh(&signer(), text).is_none());
            assert_eq!(parse_resume(&signer(), text), None);
        }
    }
}
