//! What the decoders of what servers say owe for any bytes.

use super::{resp, topology};

/// Whatever a server says is read or refused; and what is read as a map of a cluster is one.
pub fn server_says(bytes: &[u8]) {
    if let Ok(Some((value, length))) = resp::parse(bytes) {
        assert!(length <= bytes.len());
        topology::check(&value.to_reply());
    }
}
