//! Why a connection ends: the status codes that may travel in a Close frame.

use std::fmt;

/// A status code that may stand in a Close frame (RFC 6455, section 7.4, and the registry it founds).
///
/// 1000–1003 and 1007–1014 are for the protocol, 3000–3999 for registered libraries, 4000–4999 for
/// applications. What else a `u16` can hold is either unassigned or, like 1005 and 1006, never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: all is said.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server stops, or the page is left.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: a kind of data that is not served, such as binary.
    pub const UNSUPPORTED: Self = Self(1003);
    /// 1007: text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: a rule of ours, when no other code fits.
    pub const POLICY: Self = Self(1008);
    /// 1009: a message over the limit.
    pub const TOO_BIG: Self = Self(1009);
    /// 1011: our fault.
    pub const INTERNAL: Self = Self(1011);
    /// 1012: the server starts anew; come back.
    pub const RESTART: Self = Self(1012);
    /// 1013: too busy; come back later.
    pub const TRY_LATER: Self = Self(1013);

    /// The code, if it may be sent: 1000–1003, 1007–1014 or 3000–4999.
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number on the wire.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
