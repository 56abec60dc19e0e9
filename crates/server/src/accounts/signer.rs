//! What the service gives out and wants to know again: signed with the key of the accounts.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tertulia_store::accounts::SigningKey;

/// Signs with HMAC-SHA256. A signature for one purpose is none for another.
#[derive(Clone)]
pub struct Signer {
    /// With the key in it already; cloned for each use.
    keyed: Hmac<Sha256>,
}

impl Signer {
    /// A signer with this key.
    pub fn new(key: &SigningKey) -> Self {
        // HMAC fills a key up with zeros to the block of its hash.
        let mut block = [0; 64];
        block[..32].copy_from_slice(key.as_bytes());
        Self { keyed: Hmac::new(&block.into()) }
    }

    /// The signature of `payload`; any first 16 bytes of it or more will do.
    ///
    /// `purpose` names what is signed, for example `tertulia resume 1`, and holds no NUL.
    pub fn sign(&self, purpose: &str, payload: &[u8]) -> [u8; 32] {
        self.mac(purpose, payload).finalize().into_bytes().into()
    }

    /// Whether `tag` (16 to 32 bytes) is the signature of `payload`, in a time that does not tell where it is wrong.
    pub fn verify(&self, purpose: &str, payload: &[u8], tag: &[u8]) -> bool {
        tag.len() >= 16 && self.mac(purpose, payload).verify_truncated_left(tag).is_ok()
    }

    fn mac(&self, purpose: &str, payload: &[u8]) -> Hmac<Sha256> {
        self.keyed.clone().chain_update(purpose).chain_update([0]).chain_update(payload)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_hmac_sha256() {
        let signer = Signer::new(&SigningKey::new([1; 32]));
        let by_hand = <Hmac<Sha256> as KeyInit>::new_from_slice(&[1; 32]).unwrap().chain_update(b"p\0data");
        assert_eq!(signer.sign("p", b"data"), <[u8; 32]>::from(by_hand.finalize().into_bytes()));
    }

    #[test]
    fn a_signature_holds_for_its_purpose_payload_and_key_alone() {
        let signer = Signer::new(&SigningKey::new([1; 32]));
        let tag = signer.sign("one", b"payload");
        assert!(signer.verify("one", b"payload", &tag));
        assert!(signer.verify("one", b"payload", &tag[..16]));
        assert!(!signer.verify("one", b"payload", &tag[..15]));
        assert!(!signer.verify("one", b"payload", &[]));
        assert!(!signer.verify("two", b"payload", &tag));
        assert!(!signer.verify("one", b"paylaod", &tag));
        assert!(!Signer::new(&SigningKey::new([2; 32])).verify("one", b"payload", &tag));
    }
}
