//! Small enumerations as the numbers that stand for them in rows.

use tertulia_protocol::entry::{ConversationType, HistoryPolicy, Posting, Role};

/// `kind` of an entry that is a message.
pub(crate) const TEXT: i16 = 0;
/// `kind` of an entry that records a change; what it records is JSON.
pub(crate) const CHANGE: i16 = 1;

/// An enumeration that has numbers in rows.
pub(crate) trait Code: Sized {
    /// What it is called, for whoever finds a number that stands for nothing.
    const NAME: &str;

    /// Its number.
    fn code(self) -> i16;

    /// What a number stands for.
    fn of(code: i16) -> Option<Self>;
}

macro_rules! codes {
    ($($type:ident, $name:literal: $($value:ident = $code:literal),*;)*) => {
        $(
            impl Code for $type {
                const NAME: &str = $name;

                fn code(self) -> i16 {
                    match self {
                        $(Self::$value => $code,)*
                    }
                }

                fn of(code: i16) -> Option<Self> {
                    match code {
                        $($code => Some(Self::$value),)*
                        _ => None,
                    }
                }
            }
        )*
    };
}

codes! {
    ConversationType, "kind of conversation": Direct = 0, Group = 1;
    HistoryPolicy, "history policy": SinceJoined = 0, All = 1;
    Posting, "posting policy": All = 0, Admins = 1;
    Role, "role": Member = 0, Admin = 1, Owner = 2;
}
