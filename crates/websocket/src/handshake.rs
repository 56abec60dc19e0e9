//! The opening handshake: what a request must say and what the answer proves (RFC 6455, section 4.2).

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use sha1::{Digest as _, Sha1};

/// The one version of the protocol, the value of `Sec-WebSocket-Version`.
pub const PROTOCOL_VERSION: &str = "13";

/// What a server appends to a key to prove that it read it (section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A key is 16 bytes in base64.
const KEY_LEN: usize = 24;

/// Takes last characters with stray bits too: the key in section 4.1 of the RFC itself has some.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The header fields of a request that decide whether it opens a WebSocket.
///
/// A field that came in several lines is one value, its lines joined by commas (RFC 9110, section 5.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpgradeHeaders<'a> {
    /// `Upgrade`, a list that holds `websocket`.
    pub upgrade: Option<&'a str>,
    /// `Connection`, a list that holds `Upgrade`.
    pub connection: Option<&'a str>,
    /// `Sec-WebSocket-Version`, `13`.
    pub version: Option<&'a str>,
    /// `Sec-WebSocket-Key`, 16 bytes in base64.
    pub key: Option<&'a str>,
}

/// Why a request opens no WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Not an upgrade at all, or one to something else: a plain request that went astray.
    #[error("this address speaks WebSocket only: send Connection: Upgrade and Upgrade: websocket")]
    NotAnUpgrade,
    /// Another version of the protocol. The answer must name ours in `Sec-WebSocket-Version` (section 4.4).
    #[error("Sec-WebSocket-Version must be {PROTOCOL_VERSION}")]
    WrongVersion,
    /// No key, or not 16 bytes in base64.
    #[error("Sec-WebSocket-Key must be 16 bytes in base64")]
    BadKey,
}

impl HandshakeError {
    /// The HTTP status of the answer: 400 for a bad key, else 426.
    ///
    /// RFC 9110, section 15.5.22: a 426 carries `Upgrade: websocket`.
    pub const fn status(self) -> u16 {
        match self {
            Self::NotAnUpgrade | Self::WrongVersion => 426,
            Self::BadKey => 400,
        }
    }
}

/// Judges a request (section 4.2.1) and answers with the value of `Sec-WebSocket-Accept`.
///
/// That the method is GET, the version of HTTP at least 1.1, and the `Origin` welcome is for the
/// caller to see.
///
/// # Errors
/// The first thing that is wrong, in the order of [`HandshakeError`].
pub fn check_request(headers: &UpgradeHeaders<'_>) -> Result<String, HandshakeError> {
    if !has_token(headers.connection, "upgrade") || !has_token(headers.upgrade, "websocket") {
        return Err(HandshakeError::NotAnUpgrade);
    }
    if headers.version.map(str::trim_ascii) != Some(PROTOCOL_VERSION) {
        return Err(HandshakeError::WrongVersion);
    }
    accept_key(headers.key.ok_or(HandshakeError::BadKey)?.trim_ascii())
}

/// The value of `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (section 4.2.2, item 5.4); 28 characters.
///
/// # Errors
/// [`HandshakeError::BadKey`] if the key is not 16 bytes in base64.
pub fn accept_key(sec_websocket_key: &str) -> Result<String, HandshakeError> {
    let mut nonce = [0; KEY_LEN / 4 * 3];
    if sec_websocket_key.len() != KEY_LEN || LENIENT.decode_slice(sec_websocket_key, &mut nonce) != Ok(16) {
        return Err(HandshakeError::BadKey);
    }
    Ok(STANDARD.encode(Sha1::new().chain_update(sec_websocket_key).chain_update(GUID).finalize()))
}

/// Whether a comma-separated list holds `token`, in whatever case.
fn has_token(list: Option<&str>, token: &str) -> bool {
    list.is_some_and(|list| list.split(',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token)))
}

#[cfg(test)]
mod tests {
    use super::{HandshakeError, UpgradeHeaders, accept_key, check_request};

    /// What a browser sends, with the key of section 1.3.
    const GOOD: UpgradeHeaders<'_> = UpgradeHeaders {
        upgrade: Some("websocket"),
        connection: Some("Upgrade"),
        version: Some("13"),
        key: Some("dGhlIHNhbXBsZSBub25jZQ=="),
    };

    #[test]
    fn section_1_3_the_accept_value_is_the_hash_of_key_and_guid() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned()));
        assert_eq!(check_request(&GOOD), accept_key("dGhlIHNhbXBsZSBub25jZQ=="));
    }

    #[test]
    fn section_4_1_the_key_of_the_rfc_is_taken_although_its_last_bits_are_not_zero() {
        assert!(accept_key("AQIDBAUGBwgJCgsMDQ4PEC==").is_ok());
    }

    #[test]
    fn section_4_2_1_a_key_is_16_bytes_in_base64() {
        for key in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ",        // no padding
            "dGhlIHNhbXBsZSBub25jZTE=",      // 17 bytes
            "dGhlIHNhbXBsZSBub25jZTEy",      // 18 bytes
            "dGhlIHNhbXBsZSBub25j",          // 15 bytes
            "dGhlIHNhbXBsZSBub25j*Q==",      // not of the alphabet
            "dGhlIHNhbXBsZSBub25jZQ==dGhl",  // more behind the padding
            "dGhlIHNhbXBsZSBub25jZ\u{e9}==", // not ASCII, yet 24 bytes
        ] {
            assert_eq!(accept_key(key), Err(HandshakeError::BadKey), "{key}");
            assert_eq!(
                check_request(&UpgradeHeaders { key: Some(key), ..GOOD }),
                Err(HandshakeError::BadKey),
                "{key}"
            );
        }
        assert_eq!(check_request(&UpgradeHeaders { key: None, ..GOOD }), Err(HandshakeError::BadKey));
    }

    #[test]
    fn section_4_2_1_upgrade_and_connection_are_lists_in_any_case() {
        for (upgrade, connection) in [
            ("WebSocket", "upgrade"),
            ("websocket", "keep-alive, Upgrade"),
            ("h2c, WEBSOCKET", "UPGRADE,close"),
            (" websocket ", "\tUpgrade\t,"),
        ] {
            let headers = UpgradeHeaders { upgrade: Some(upgrade), connection: Some(connection), ..GOOD };
            assert!(check_request(&headers).is_ok(), "{headers:?}");
        }
        for (upgrade, connection) in [
            (None, Some("Upgrade")),
            (Some("websocket"), None),
            (Some("websockets"), Some("Upgrade")),
            (Some("h2c"), Some("Upgrade")),
            (Some("websocket"), Some("keep-alive")),
            (Some("websocket"), Some("not upgrade")),
            (Some(""), Some("")),
        ] {
            let headers = UpgradeHeaders { upgrade, connection, ..GOOD };
            assert_eq!(check_request(&headers), Err(HandshakeError::NotAnUpgrade), "{headers:?}");
        }
    }

    #[test]
    fn section_4_4_any_other_version_is_refused() {
        assert!(check_request(&UpgradeHeaders { version: Some(" 13 "), ..GOOD }).is_ok());
        for version in [None, Some(""), Some("8"), Some("12"), Some("13, 8"), Some("013"), Some("+13")] {
            let headers = UpgradeHeaders { version, ..GOOD };
            assert_eq!(check_request(&headers), Err(HandshakeError::WrongVersion), "{version:?}");
        }
    }

    #[test]
    fn only_a_bad_key_is_a_bad_request() {
        assert_eq!(HandshakeError::NotAnUpgrade.status(), 426);
        assert_eq!(HandshakeError::WrongVersion.status(), 426);
        assert_eq!(HandshakeError::BadKey.status(), 400);
    }
}
