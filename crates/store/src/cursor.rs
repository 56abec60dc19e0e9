//! Where a page ended, as a text that clients hand back.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tertulia_protocol::{ConvoId, Timestamp};

use crate::StoreError;

/// Where a page of the inbox ended: after this conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InboxCursor {
    pub(crate) ts: Timestamp,
    pub(crate) convo: ConvoId,
}

/// Where a page of members ended: after the one who joined with this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MembersCursor(pub(crate) u64);

/// A letter in front keeps one kind from being taken for another.
const INBOX: u8 = b'i';
const MEMBERS: u8 = b'm';

impl InboxCursor {
    pub(crate) fn encode(self) -> String {
        let mut bytes = [INBOX; 25];
        bytes[1..9].copy_from_slice(&self.ts.as_millis().to_be_bytes());
        bytes[9..].copy_from_slice(self.convo.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub(crate) fn decode(text: &str) -> Result<Self, StoreError> {
        let bytes: [u8; 25] = decode(text)?;
        let [INBOX, rest @ ..] = bytes else { return Err(StoreError::InvalidCursor) };
        let (mut ts, mut convo) = ([0; 8], [0; 16]);
        ts.copy_from_slice(&rest[..8]);
        convo.copy_from_slice(&rest[8..]);
        Ok(Self { ts: Timestamp::from_millis(i64::from_be_bytes(ts)), convo: ConvoId::from_bytes(convo) })
    }
}

impl MembersCursor {
    pub(crate) fn encode(self) -> String {
        let mut bytes = [MEMBERS; 9];
        bytes[1..].copy_from_slice(&self.0.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub(crate) fn decode(text: &str) -> Result<Self, StoreError> {
        let bytes: [u8; 9] = decode(text)?;
        let [MEMBERS, rest @ ..] = bytes else { return Err(StoreError::InvalidCursor) };
        // Beyond the sign there are no numbers of ours.
        Ok(Self(u64::from_be_bytes(rest) & (u64::MAX >> 1)))
    }
}

fn decode<const N: usize>(text: &str) -> Result<[u8; N], StoreError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| StoreError::InvalidCursor)?;
    bytes.try_into().map_err(|_| StoreError::InvalidCursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_not_taken_for_another_kind() {
        let inbox = InboxCursor { ts: Timestamp::from_millis(-7), convo: ConvoId::from_bytes([9; 16]) };
        let members = MembersCursor(300);
        assert_eq!(InboxCursor::decode(&inbox.encode()).unwrap(), inbox);
        assert_eq!(MembersCursor::decode(&members.encode()).unwrap(), members);
        assert!(InboxCursor::decode(&members.encode()).is_err());
        assert!(MembersCursor::decode(&inbox.encode()).is_err());
        for garbage in ["", "x", "!", "aGVsbG8", &inbox.encode()[1..]] {
            assert!(InboxCursor::decode(garbage).is_err(), "{garbage:?}");
        }
    }
}
