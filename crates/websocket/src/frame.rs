//! What a server sends: whole, unmasked frames (RFC 6455, sections 5.1 and 5.2).

use std::io;

use bytes::Bytes;

use crate::close::CloseCode;

pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;
pub(crate) const FIN: u8 = 0x80;
/// In the second byte of a header: a masking key follows the length.
pub(crate) const MASK: u8 = 0x80;

/// The most bytes that a control frame may carry (section 5.5).
pub(crate) const CONTROL_BYTES_MAX: usize = 125;

/// The longest header without a masking key: two bytes and a 64-bit length.
const HEADER_BYTES_MAX: usize = 10;

/// An encoded server frame, header and payload. A clone shares the bytes.
///
/// The frame is never a part of a message: its FIN bit is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Bytes);

#[expect(clippy::len_without_is_empty, reason = "a frame has a header and so is never empty")]
impl Frame {
    /// A text frame. Where the text is yet to be written, [`TextFrameBuilder`] spares a copy.
    pub fn text(payload: &str) -> Self {
        Self::encode(TEXT, payload.as_bytes())
    }

    /// A Ping. It carries at most 125 bytes; more are cut off.
    pub fn ping(payload: &[u8]) -> Self {
        Self::encode(PING, cut_control(payload))
    }

    /// A Pong. It carries at most 125 bytes, as the Ping did that it answers; more are cut off.
    pub fn pong(payload: &[u8]) -> Self {
        Self::encode(PONG, cut_control(payload))
    }

    /// A Close, our first or the answer to the peer's; nothing may be sent after it (section 5.5.1).
    ///
    /// Of the reason travel at most 123 bytes, cut between two characters.
    pub fn close(code: CloseCode, reason: &str) -> Self {
        Self::encode(CLOSE, &close_payload(code, reason))
    }

    /// The wire form: header and payload.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// What follows the header.
    pub fn payload(&self) -> &[u8] {
        let header_len = match self.0[1] {
            127 => 10,
            126 => 4,
            _ => 2,
        };
        &self.0[header_len..]
    }

    /// The length of the wire form in bytes, header included; at least 2.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn encode(opcode: u8, payload: &[u8]) -> Self {
        let (header, header_len) = header(opcode, 0, payload.len());
        let mut wire = Vec::with_capacity(header_len + payload.len());
        wire.extend_from_slice(&header[..header_len]);
        wire.extend_from_slice(payload);
        Self(wire.into())
    }
}

/// A text frame in the making: the payload is written where it stays, after room for the longest header.
///
/// ```
/// use std::io::Write as _;
/// use tertulia_websocket::TextFrameBuilder;
///
/// let mut frame = TextFrameBuilder::with_capacity(16);
/// write!(frame, r#"{{"seq":{}}}"#, 7)?;
/// assert_eq!(frame.finish().payload(), br#"{"seq":7}"#);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct TextFrameBuilder {
    /// `HEADER_BYTES_MAX` bytes for the header, then the payload.
    wire: Vec<u8>,
}

impl TextFrameBuilder {
    /// A builder with room for `payload_bytes`. It grows beyond; the frame keeps what room is left over.
    pub fn with_capacity(payload_bytes: usize) -> Self {
        let mut wire = Vec::with_capacity(HEADER_BYTES_MAX + payload_bytes);
        wire.resize(HEADER_BYTES_MAX, 0);
        Self { wire }
    }

    /// Appends to the payload. It must be UTF-8 as a whole; the pieces need not be.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.wire.extend_from_slice(bytes);
    }

    /// Puts the header before the payload. Nothing is copied.
    pub fn finish(mut self) -> Frame {
        let (room, payload) = self.wire.split_at_mut(HEADER_BYTES_MAX);
        debug_assert!(std::str::from_utf8(payload).is_ok(), "a text frame carries UTF-8 (section 5.6)");
        let (header, header_len) = header(TEXT, 0, payload.len());
        let start = HEADER_BYTES_MAX - header_len;
        room[start..].copy_from_slice(&header[..header_len]);
        Frame(Bytes::from(self.wire).slice(start..))
    }
}

/// Appends to the payload; it never fails.
impl io::Write for TextFrameBuilder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Appends a whole text frame to `wire`; `write` appends the payload, which must be UTF-8, and nothing else.
///
/// For frames that are written where they are sent from. [`TextFrameBuilder`] makes one that is shared.
pub fn put_text(wire: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    /// Nearly all payloads have a length that takes so much; the others are moved a little.
    const HEADER_BYTES_GUESSED: usize = 4;
    let start = wire.len();
    wire.extend_from_slice(&[0; HEADER_BYTES_GUESSED]);
    write(wire);
    let payload = &wire[start + HEADER_BYTES_GUESSED..];
    debug_assert!(std::str::from_utf8(payload).is_ok(), "a text frame carries UTF-8 (section 5.6)");
    let (header, header_len) = header(TEXT, 0, payload.len());
    let guessed = start..start + HEADER_BYTES_GUESSED;
    if header_len == HEADER_BYTES_GUESSED {
        wire[guessed].copy_from_slice(&header[..header_len]);
    } else {
        wire.splice(guessed, header[..header_len].iter().copied());
    }
}

/// The payloads of whole server frames that stand one behind the other, as a server has written them.
///
/// It ends where a frame is not whole.
pub fn payloads(mut wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&[_, short], _) = wire.split_first_chunk()?;
        let (header_len, len) = match short {
            127 => (10, u64::from_be_bytes(wire.get(2..10)?.try_into().ok()?)),
            126 => (4, u64::from(u16::from_be_bytes(wire.get(2..4)?.try_into().ok()?))),
            short => (2, u64::from(short)),
        };
        let end = usize::try_from(len).ok()?.checked_add(header_len)?;
        let payload = wire.get(header_len..end)?;
        wire = &wire[end..];
        Some(payload)
    })
}

/// The header of an unfragmented frame, without a masking key, and its length. `mask` is [`MASK`]
/// if a key follows, or 0.
pub(crate) fn header(opcode: u8, mask: u8, payload_len: usize) -> ([u8; HEADER_BYTES_MAX], usize) {
    let mut header = [0; HEADER_BYTES_MAX];
    header[0] = FIN | opcode;
    // The shortest form that holds the length is the only one allowed.
    let header_len = if payload_len <= CONTROL_BYTES_MAX {
        header[1] = mask | payload_len as u8;
        2
    } else if let Ok(len) = u16::try_from(payload_len) {
        header[1] = mask | 126;
        header[2..4].copy_from_slice(&len.to_be_bytes());
        4
    } else {
        header[1] = mask | 127;
        header[2..].copy_from_slice(&(payload_len as u64).to_be_bytes());
        10
    };
    (header, header_len)
}

/// Code and reason as a Close carries them; of the reason as much as fits, cut between two characters.
pub(crate) fn close_payload(code: CloseCode, reason: &str) -> Vec<u8> {
    let reason = &reason[..reason.floor_char_boundary(CONTROL_BYTES_MAX - 2)];
    [&code.get().to_be_bytes(), reason.as_bytes()].concat()
}

/// As much of `payload` as a control frame carries.
pub(crate) fn cut_control(payload: &[u8]) -> &[u8] {
    &payload[..payload.len().min(CONTROL_BYTES_MAX)]
}
