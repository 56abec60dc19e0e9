//! The server's side of WebSocket ([RFC 6455]) without a socket: bytes in, events out.
//!
//! Nothing here reads, writes, waits, spawns or looks at a clock. The caller owns the socket, and
//! three values do the rest:
//!
//! - [`check_request`] judges the headers of an upgrade and answers with the `Sec-WebSocket-Accept` value.
//! - [`Decoder`] turns what the peer sent into [`Event`]s. Idle, it owns no heap memory.
//! - [`Frame`] is what we send: encoded once, then shared by every reader without a copy.
//!
//! Extensions and subprotocols are neither offered nor understood, so the reserved bits of every
//! frame must be zero.
//!
//! ```
//! use tertulia_websocket::{Decoder, Event, Frame, ProtocolError};
//!
//! /// Answers what has just been read into a buffer that all connections of this thread share.
//! fn on_bytes(
//!     decoder: &mut Decoder,
//!     mut input: &mut [u8],
//!     outbox: &mut Vec<Frame>,
//! ) -> Result<(), ProtocolError> {
//!     while let Some(event) = decoder.next(&mut input)? {
//!         match event {
//!             Event::Text(text) => outbox.push(Frame::text(text)),
//!             Event::Ping(payload) => outbox.push(Frame::pong(payload)),
//!             Event::Binary(_) | Event::Pong(_) | Event::Close(_) => {}
//!         }
//!     }
//!     Ok(())
//! }
//!
//! let mut outbox = Vec::new();
//! // "Hello", masked: the example of RFC 6455, section 5.7.
//! let mut read = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
//! on_bytes(&mut Decoder::default(), &mut read, &mut outbox)?;
//! assert_eq!(outbox[0].payload(), b"Hello");
//! # Ok::<(), ProtocolError>(())
//! ```
//!
//! [RFC 6455]: https://www.rfc-editor.org/rfc/rfc6455

#![forbid(unsafe_code)]

// In reading order; rustfmt sorts only neighbours.
mod handshake;

mod decode;

mod frame;

mod close;

mod mask;

#[cfg(any(feature = "client", test))]
pub mod client;

#[cfg(test)]
mod tests;

pub use close::CloseCode;
pub use decode::{Decoder, Event, MESSAGE_BYTES_MAX, ProtocolError};
pub use frame::{Frame, TextFrameBuilder, payloads, put_text};
pub use handshake::{HandshakeError, PROTOCOL_VERSION, UpgradeHeaders, accept_key, check_request};
