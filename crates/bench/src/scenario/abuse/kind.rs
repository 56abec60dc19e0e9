//! The ways to be hostile.

use serde::Serialize;

/// What a hostile peer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The head of a request, a byte a second.
    SlowLoris,
    /// Half of the head of a request, and then nothing.
    HalfHead,
    /// A socket that never says `connect`.
    Silent,
    /// A member of a busy group who never reads.
    NeverReading,
    /// Pings, without end.
    PingFlood,
    /// Messages in fragments of one byte.
    OneByteFragments,
    /// Frames of 128 KiB that are no JSON.
    Garbage,
    /// Calls for pages of long messages, none of which is read.
    UnreadAnswers,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::SlowLoris,
        Self::HalfHead,
        Self::Silent,
        Self::NeverReading,
        Self::PingFlood,
        Self::OneByteFragments,
        Self::Garbage,
        Self::UnreadAnswers,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SlowLoris => "slow-loris",
            Self::HalfHead => "half-head",
            Self::Silent => "silent",
            Self::NeverReading => "never-reading",
            Self::PingFlood => "ping-flood",
            Self::OneByteFragments => "one-byte-fragments",
            Self::Garbage => "garbage",
            Self::UnreadAnswers => "unread-answers",
        }
    }

    /// How often something is sent a second, by all of the hostile together: enough to hurt, and the same on every
    /// machine. Of those who do not read, it is what is sent to them.
    pub(super) const fn per_second(self, hostile: usize) -> f64 {
        match self {
            Self::SlowLoris => hostile as f64,
            Self::HalfHead | Self::Silent => 0.0,
            Self::NeverReading => 200.0,
            Self::PingFlood | Self::OneByteFragments => 20_000.0,
            Self::Garbage => 200.0,
            // With limits, each of a hundred could go on like that.
            Self::UnreadAnswers => 30.0,
        }
    }

    /// Whether it logs in.
    pub(super) const fn enters(self) -> bool {
        matches!(self, Self::NeverReading | Self::PingFlood | Self::OneByteFragments | Self::Garbage)
    }
}
