//! What a peer sent: from bytes, cut anywhere, to events (RFC 6455, sections 5 to 8).
//!
//! Two kinds of memory hold a payload. A message that arrives whole in one frame and one read is unmasked
//! where it was read and handed out from there. Only what is cut, by the network or into fragments, is copied
//! into a buffer of the decoder's own, and that is given back with the message.

use std::{fmt, mem, str};

use crate::close::CloseCode;
use crate::frame::{BINARY, CLOSE, CONTROL_BYTES_MAX, FIN, MASK, PING, PONG, TEXT};
use crate::mask;

/// The default limit for a message: 128 KiB, counted over all of its fragments.
pub const MESSAGE_BYTES_MAX: usize = 131_072;

const CONTINUATION: u8 = 0x0;
/// RSV1 to RSV3: they belong to extensions, and we know none.
const RESERVED: u8 = 0x70;
/// The longest header: two bytes, a 64-bit length and the masking key.
const HEADER_BYTES_MAX: usize = 14;

/// What the peer said. Payloads are borrowed until the next call of the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole text message, at most as long as the decoder's limit.
    Text(&'a str),
    /// A whole binary message, at most as long as the decoder's limit. Who serves none answers
    /// [`CloseCode::UNSUPPORTED`].
    Binary(&'a [u8]),
    /// To be answered soon by a Pong with the same payload, at most 125 bytes (section 5.5.2).
    Ping(&'a [u8]),
    /// An answer to our Ping, or a heartbeat that nobody asked for (section 5.5.3); at most 125 bytes.
    Pong(&'a [u8]),
    /// The last event. It is to be answered by a Close, unless we sent one before (section 5.5.1);
    /// the code and the reason of at most 123 bytes are the peer's, if it gave any.
    Close(Option<(CloseCode, &'a str)>),
}

/// Why the connection must fail (RFC 6455, section 7.1.7), with the code to close it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A reserved bit is set, although no extension was agreed on (section 5.2).
    #[error("a reserved bit of the frame is set")]
    ReservedBits,
    /// Opcodes 3 to 7 and 11 to 15 have no meaning (section 5.2).
    #[error("opcode {0} is unknown")]
    UnknownOpcode(u8),
    /// Close, Ping and Pong travel in one frame (section 5.5).
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// Close, Ping and Pong carry at most 125 bytes (section 5.5).
    #[error("a control frame is longer than {CONTROL_BYTES_MAX} bytes")]
    ControlTooLong,
    /// A continuation frame, but no message to continue (section 5.4).
    #[error("there is no message to continue")]
    NothingToContinue,
    /// A new message starts before the last one has ended (section 5.4).
    #[error("a message starts inside of another")]
    MessageInsideMessage,
    /// A client masks all of its frames (section 5.1).
    #[error("the frame is not masked")]
    NotMasked,
    /// A server masks none of its frames (section 5.1).
    #[error("the frame is masked")]
    Masked,
    /// A length is encoded in as few bytes as possible (section 5.2).
    #[error("the length is encoded in more bytes than it needs")]
    LengthNotMinimal,
    /// The topmost bit of a 64-bit length is zero (section 5.2).
    #[error("the length has its topmost bit set")]
    LengthTopBit,
    /// The message would exceed the decoder's limit (section 10.4).
    #[error("the message is longer than {bytes_max} bytes")]
    MessageTooBig {
        /// The limit in bytes, over all fragments.
        bytes_max: usize,
    },
    /// The text of a message or the reason of a Close is not UTF-8 (section 8.1).
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// The payload of a Close is empty or starts with a code of two bytes (section 5.5.1).
    #[error("a close frame of one byte has no room for its code")]
    CloseOfOneByte,
    /// A Close with a code that may not be sent (section 7.4).
    #[error("close code {0} may not be sent")]
    InvalidCloseCode(u16),
}

impl ProtocolError {
    /// The code that tells the peer (section 7.4.1): 1007 for bad UTF-8, 1009 for a message too
    /// big, else 1002.
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::NotUtf8 => CloseCode::INVALID_PAYLOAD,
            Self::MessageTooBig { .. } => CloseCode::TOO_BIG,
            Self::ReservedBits
            | Self::UnknownOpcode(_)
            | Self::FragmentedControl
            | Self::ControlTooLong
            | Self::NothingToContinue
            | Self::MessageInsideMessage
            | Self::NotMasked
            | Self::Masked
            | Self::LengthNotMinimal
            | Self::LengthTopBit
            | Self::CloseOfOneByte
            | Self::InvalidCloseCode(_) => CloseCode::PROTOCOL_ERROR,
        }
    }
}

/// The receiving half of a connection.
///
/// After each read, call [`next`](Self::next) until it answers `None`. The result does not depend
/// on how the stream is cut into reads.
///
/// The decoder takes 64 bytes, and no heap while nothing is partial. Whatever the peer sends, it
/// holds at most the limit and the 125 bytes of a control frame that is cut inside of a fragmented
/// message; room is made for bytes that came, never for a length that was announced.
pub struct Decoder {
    stage: Stage,
    /// Up to `message_len` the fragments of an unfinished message, then what has come of the payload in hand.
    ///
    /// Between frames, what stands behind `message_len` was handed out and is due to be dropped.
    held: Vec<u8>,
    message_len: usize,
    message_bytes_max: usize,
    /// What the fragments in `held` are. `Some` from a first fragment to the last, even if all are empty.
    message: Option<Kind>,
    /// How many of the last message bytes in `held` begin a character that is not complete, 0 to 3.
    unchecked: u8,
    /// Clients mask, servers do not.
    peer_masks: bool,
}

/// What the next byte is.
enum Stage {
    /// A byte of a header, of which `len` bytes came already, too few to read it.
    Header { bytes: [u8; HEADER_BYTES_MAX], len: u8 },
    /// A byte of a payload, of which `rest` bytes are to come; if none, the frame is yet to be handed out.
    Payload { kind: Kind, fin: bool, mask: [u8; 4], rest: usize },
    /// Nothing of interest: the peer closed, or failed.
    Done,
}

/// What a payload is; the opcode of a frame, but a fragment knows its message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Binary,
    Ping,
    Pong,
    Close,
}

impl Decoder {
    /// A decoder of client frames, at the start of a connection.
    ///
    /// `message_bytes_max` limits a message over all of its fragments; see [`MESSAGE_BYTES_MAX`].
    /// Control frames are not counted.
    pub fn new(message_bytes_max: usize) -> Self {
        Self {
            stage: Stage::START,
            held: Vec::new(),
            message_len: 0,
            message_bytes_max,
            message: None,
            unchecked: 0,
            peer_masks: true,
        }
    }

    /// The same for the frames of a server, which are not masked.
    #[cfg(any(feature = "client", test))]
    pub fn for_client(message_bytes_max: usize) -> Self {
        Self { peer_masks: false, ..Self::new(message_bytes_max) }
    }

    /// The memory behind the decoder, in bytes: 0 when nothing is partial and `next` has answered `None`.
    pub fn heap_bytes(&self) -> usize {
        self.held.capacity()
    }

    /// Takes the next event from the front of `input`, or takes all of `input` and answers `None`.
    ///
    /// The payload is unmasked in place, so what was taken is no longer what was read.
    ///
    /// # Errors
    /// The peer broke the protocol: send a Close with [`ProtocolError::close_code`] and drop the connection.
    /// Text that is not UTF-8 and a length over the limit fail at once, before the rest of the message comes.
    ///
    /// After an error and after [`Event::Close`], input is taken and ignored (RFC 6455, sections
    /// 1.4 and 7.1.7).
    pub fn next<'e, 'i: 'e>(
        &'e mut self,
        input: &mut &'i mut [u8],
    ) -> Result<Option<Event<'e>>, ProtocolError> {
        loop {
            // Who does not set the next stage, by an error or by the end, is done.
            match mem::replace(&mut self.stage, Stage::Done) {
                Stage::Header { mut bytes, len } => {
                    self.drop_handed_out();
                    let old = usize::from(len);
                    let new = input.len().min(HEADER_BYTES_MAX - old);
                    bytes[old..old + new].copy_from_slice(&input[..new]);
                    let Some((stage, header_len)) = self.read_header(&bytes[..old + new])? else {
                        // All of the input is a part of the header.
                        take(input, new);
                        self.stage = Stage::Header { bytes, len: (old + new) as u8 };
                        return Ok(None);
                    };
                    take(input, header_len - old);
                    self.stage = stage;
                }
                Stage::Payload { kind, fin, mut mask, rest } => {
                    let chunk = take(input, rest);
                    mask::apply(&mut mask, chunk);
                    let rest = rest - chunk.len();
                    let start = if kind.is_control() { self.message_len } else { 0 };
                    let complete = fin && rest == 0;
                    let in_place = complete && self.held.len() == start;
                    if !in_place {
                        self.hold(chunk, fin, rest);
                    }
                    if !complete {
                        if kind == Kind::Text {
                            self.check_text(chunk.len())?;
                        }
                        if rest > 0 {
                            self.stage = Stage::Payload { kind, fin, mask, rest };
                            return Ok(None);
                        }
                        self.message = Some(kind);
                        self.message_len = self.held.len();
                        self.stage = Stage::START;
                        continue;
                    }
                    if !kind.is_control() {
                        self.message = None;
                        self.message_len = 0;
                        self.unchecked = 0;
                    }
                    let event = Event::new(kind, if in_place { chunk } else { &self.held[start..] })?;
                    if kind != Kind::Close {
                        self.stage = Stage::START;
                    }
                    return Ok(Some(event));
                }
                Stage::Done => {
                    self.held = Vec::new();
                    *input = &mut [];
                    return Ok(None);
                }
            }
        }
    }

    /// Reads a header from the start of `bytes`: the stage that follows and the length of the
    /// header, or `None` if more bytes are needed.
    ///
    /// Each check needs only the bytes before it, so that a header fails for the same reason
    /// however it is cut.
    fn read_header(&self, bytes: &[u8]) -> Result<Option<(Stage, usize)>, ProtocolError> {
        let Some((&first, tail)) = bytes.split_first() else { return Ok(None) };
        if first & RESERVED != 0 {
            return Err(ProtocolError::ReservedBits);
        }
        let fin = first & FIN != 0;
        let kind = match (first & 0x0F, self.message) {
            (CONTINUATION, Some(kind)) => kind,
            (CONTINUATION, None) => return Err(ProtocolError::NothingToContinue),
            (TEXT | BINARY, Some(_)) => return Err(ProtocolError::MessageInsideMessage),
            (TEXT, None) => Kind::Text,
            (BINARY, None) => Kind::Binary,
            (CLOSE | PING | PONG, _) if !fin => return Err(ProtocolError::FragmentedControl),
            (CLOSE, _) => Kind::Close,
            (PING, _) => Kind::Ping,
            (PONG, _) => Kind::Pong,
            (unknown, _) => return Err(ProtocolError::UnknownOpcode(unknown)),
        };

        let Some((&second, tail)) = tail.split_first() else { return Ok(None) };
        match (second & MASK != 0, self.peer_masks) {
            (false, true) => return Err(ProtocolError::NotMasked),
            (true, false) => return Err(ProtocolError::Masked),
            _ => {}
        }
        let (len, tail) = match second & !MASK {
            126 | 127 if kind.is_control() => return Err(ProtocolError::ControlTooLong),
            126 => {
                let Some((&len, tail)) = tail.split_first_chunk() else { return Ok(None) };
                match u16::from_be_bytes(len) {
                    0..=125 => return Err(ProtocolError::LengthNotMinimal),
                    len => (u64::from(len), tail),
                }
            }
            127 => {
                let Some((&len, tail)) = tail.split_first_chunk() else { return Ok(None) };
                match u64::from_be_bytes(len) {
                    0..=0xFFFF => return Err(ProtocolError::LengthNotMinimal),
                    0x8000_0000_0000_0000.. => return Err(ProtocolError::LengthTopBit),
                    len => (len, tail),
                }
            }
            len => (u64::from(len), tail),
        };
        let rest = match usize::try_from(len) {
            Ok(len) if kind.is_control() || len <= self.message_bytes_max - self.message_len => len,
            _ => return Err(ProtocolError::MessageTooBig { bytes_max: self.message_bytes_max }),
        };

        let (mask, tail) = if self.peer_masks {
            let Some((&mask, tail)) = tail.split_first_chunk() else { return Ok(None) };
            (mask, tail)
        } else {
            ([0; 4], tail)
        };
        Ok(Some((Stage::Payload { kind, fin, mask, rest }, bytes.len() - tail.len())))
    }

    /// Keeps `chunk`, after which `rest` bytes of its frame are to come.
    fn hold(&mut self, chunk: &[u8], fin: bool, rest: usize) {
        let needed = self.held.len() + chunk.len();
        if needed > self.held.capacity() {
            // Twice the room each time, for the copies to stay few, but never more than can be of use.
            let useful = if fin { needed + rest } else { self.message_bytes_max };
            let room = needed.max(useful.min(2 * self.held.capacity()));
            self.held.reserve_exact(room - self.held.len());
        }
        self.held.extend_from_slice(chunk);
    }

    /// Fails if the last `new` bytes in `held`, of text, can no longer become UTF-8.
    fn check_text(&mut self, new: usize) -> Result<(), ProtocolError> {
        let tail = &self.held[self.held.len() - new - usize::from(self.unchecked)..];
        self.unchecked = match str::from_utf8(tail) {
            Ok(_) => 0,
            // The start of a character, at most 3 bytes.
            Err(error) if error.error_len().is_none() => (tail.len() - error.valid_up_to()) as u8,
            Err(_) => return Err(ProtocolError::NotUtf8),
        };
        Ok(())
    }

    fn drop_handed_out(&mut self) {
        self.held.truncate(self.message_len);
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }
}

/// Takes messages of up to [`MESSAGE_BYTES_MAX`] from a client.
impl Default for Decoder {
    fn default() -> Self {
        Self::new(MESSAGE_BYTES_MAX)
    }
}

/// Shows how much is held, not what: that is somebody's text.
impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("held_len", &self.held.len()).finish_non_exhaustive()
    }
}

impl Stage {
    const START: Self = Self::Header { bytes: [0; HEADER_BYTES_MAX], len: 0 };
}

impl Kind {
    fn is_control(self) -> bool {
        match self {
            Self::Text | Self::Binary => false,
            Self::Ping | Self::Pong | Self::Close => true,
        }
    }
}

impl<'a> Event<'a> {
    fn new(kind: Kind, payload: &'a [u8]) -> Result<Self, ProtocolError> {
        Ok(match kind {
            Kind::Text => Self::Text(utf8(payload)?),
            Kind::Binary => Self::Binary(payload),
            Kind::Ping => Self::Ping(payload),
            Kind::Pong => Self::Pong(payload),
            Kind::Close => Self::Close(match payload {
                [] => None,
                [_] => return Err(ProtocolError::CloseOfOneByte),
                [high, low, reason @ ..] => {
                    let code = u16::from_be_bytes([*high, *low]);
                    let code = CloseCode::new(code).ok_or(ProtocolError::InvalidCloseCode(code))?;
                    Some((code, utf8(reason)?))
                }
            }),
        })
    }
}

/// The first `len` bytes of `input`, or all if they are fewer; `input` keeps the others.
fn take<'i>(input: &mut &'i mut [u8], len: usize) -> &'i mut [u8] {
    input.split_off_mut(..len.min(input.len())).unwrap_or_default()
}

fn utf8(bytes: &[u8]) -> Result<&str, ProtocolError> {
    str::from_utf8(bytes).map_err(|_| ProtocolError::NotUtf8)
}
