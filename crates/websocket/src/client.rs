//! The client's half, for load generators and tests: masked frames, appended to a buffer that the
//! caller writes out.
//!
//! [`Decoder::for_client`](crate::Decoder::for_client) reads the answers. The caller draws the keys: a real
//! client needs an unpredictable one for each frame (RFC 6455, section 5.3), a load generator does not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::close::CloseCode;
use crate::frame::{CLOSE, MASK, PING, PONG, TEXT, close_payload, cut_control, header};
use crate::mask;

/// The value of `Sec-WebSocket-Key` for 16 random bytes; [`accept_key`](crate::accept_key) tells
/// what must come back.
pub fn handshake_key(nonce: [u8; 16]) -> String {
    STANDARD.encode(nonce)
}

/// Appends a text message to `wire`.
pub fn put_text(wire: &mut Vec<u8>, key: [u8; 4], text: &str) {
    put(wire, key, TEXT, text.as_bytes());
}

/// Appends a Ping to `wire`. It carries at most 125 bytes; more are cut off.
pub fn put_ping(wire: &mut Vec<u8>, key: [u8; 4], payload: &[u8]) {
    put(wire, key, PING, cut_control(payload));
}

/// Appends a Pong to `wire`. It carries at most 125 bytes; more are cut off.
pub fn put_pong(wire: &mut Vec<u8>, key: [u8; 4], payload: &[u8]) {
    put(wire, key, PONG, cut_control(payload));
}

/// Appends a Close to `wire`. Of the reason travel at most 123 bytes, cut between two characters.
pub fn put_close(wire: &mut Vec<u8>, key: [u8; 4], code: CloseCode, reason: &str) {
    put(wire, key, CLOSE, &close_payload(code, reason));
}

fn put(wire: &mut Vec<u8>, mut key: [u8; 4], opcode: u8, payload: &[u8]) {
    let (header, header_len) = header(opcode, MASK, payload.len());
    wire.extend_from_slice(&header[..header_len]);
    wire.extend_from_slice(&key);
    let start = wire.len();
    wire.extend_from_slice(payload);
    mask::apply(&mut key, &mut wire[start..]);
}
