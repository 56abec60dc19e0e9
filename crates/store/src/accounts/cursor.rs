//! Where a page of a search ended, as a text that clients hand back; the same for every adapter.

use tertulia_protocol::rules;

use crate::StoreError;

/// The place after a username, in characters that need no escape in a URL, with a sum over it: what we did not
/// give out shall be refused and not looked up.
pub(crate) fn write(username: &str) -> String {
    format!("{username}~{:08x}", crc32fast::hash(username.as_bytes()))
}

/// The username of a [written](fn@write) one.
pub(crate) fn parse(text: &str) -> Result<&str, StoreError> {
    let username = text.rsplit_once('~').map_or("", |(username, _)| username);
    let is_ours = rules::username(username).is_ok() && write(username) == text;
    is_ours.then_some(username).ok_or(StoreError::InvalidCursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cursors_that_were_given_out_are_taken() {
        assert_eq!(parse(&write("ana.b-1_")).unwrap(), "ana.b-1_");
        for garbage in ["", "ana", "ana~", "ana~00000000", "~00000000", "Ana~5d6b9e1d", "1", "ana.b-1_~"] {
            assert!(matches!(parse(garbage), Err(StoreError::InvalidCursor)), "{garbage}");
        }
    }
}
