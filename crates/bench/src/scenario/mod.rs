//! What is measured. One struct a scenario: its arguments, and in `run` what it does.

mod abuse;
mod catchup;
mod group;
mod history;
mod idle;
mod pairs;
mod rooms;
mod storm;
mod typing;

pub use abuse::{Abuse, AbuseFigures, Calm, Kind, KindFigures};
pub use catchup::{Catchup, CatchupCase, CatchupFigures};
pub use group::Group;
pub use history::{History, HistoryFigures, PageFigures};
pub use idle::Idle;
pub use pairs::Pairs;
pub use rooms::Rooms;
pub use storm::{Phase, Storm, StormFigures};
pub use typing::{Typing, TypingFigures};

use serde::Serialize;

use crate::bench::Bench;
use crate::error::Error;
use crate::load::STAMP_BYTES;
pub use crate::load::plan::Pace;
use crate::report::Findings;

/// A scenario and its arguments.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Scenario {
    /// One writes and one reads, many times.
    Pairs(Pairs),
    /// Few write and many read, in one conversation.
    Group(Group),
    /// Many are connected, and nobody says anything.
    Idle(Idle),
    /// Everybody is cut at once, and comes back.
    Storm(Storm),
    /// Pages are read.
    History(History),
    /// Many groups of mixed sizes, and direct conversations.
    Rooms(Rooms),
    /// Somebody was away.
    Catchup(Catchup),
    /// Many type.
    Typing(Typing),
    /// Some are hostile.
    Abuse(Abuse),
}

impl Scenario {
    /// Its name on the command line.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pairs(_) => "pairs",
            Self::Group(_) => "group",
            Self::Idle(_) => "idle",
            Self::Storm(_) => "storm",
            Self::History(_) => "history",
            Self::Rooms(_) => "rooms",
            Self::Catchup(_) => "catchup",
            Self::Typing(_) => "typing",
            Self::Abuse(_) => "abuse",
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        match self {
            Self::Pairs(pairs) => pairs.traffic.check(),
            Self::Group(group) => group.check(),
            Self::Idle(idle) => idle.check(),
            Self::Storm(storm) => storm.check(),
            Self::History(history) => history.check(),
            Self::Rooms(rooms) => rooms.check(),
            Self::Catchup(catchup) => catchup.check(),
            Self::Typing(typing) => typing.check(),
            Self::Abuse(abuse) => abuse.check(),
        }
    }

    /// Whether what its connections say and hear can be written down.
    pub(crate) fn check_history(&self) -> Result<(), Error> {
        match self {
            Self::Pairs(_) | Self::Group(_) | Self::Rooms(_) | Self::Storm(_) => Ok(()),
            _ => Err(Error::Arguments(format!(
                "{} writes no history: pairs, group, rooms and storm do",
                self.name()
            ))),
        }
    }

    pub(crate) async fn run(&self, bench: &mut Bench) -> Result<Findings, Error> {
        match self {
            Self::Pairs(pairs) => pairs.run(bench).await,
            Self::Group(group) => group.run(bench).await,
            Self::Idle(idle) => idle.run(bench).await,
            Self::Storm(storm) => storm.run(bench).await,
            Self::History(history) => history.run(bench).await,
            Self::Rooms(rooms) => rooms.run(bench).await,
            Self::Catchup(catchup) => catchup.run(bench).await,
            Self::Typing(typing) => typing.run(bench).await,
            Self::Abuse(abuse) => abuse.run(bench).await,
        }
    }
}

/// How those send who do.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// When.
    #[serde(flatten)]
    pub pace: Pace,
    /// The length of each message.
    pub body_bytes: usize,
}

impl Traffic {
    fn check(&self) -> Result<(), Error> {
        if self.body_bytes < STAMP_BYTES {
            let why = "a message carries its time";
            return Err(Error::Arguments(format!("a body has at least {STAMP_BYTES} bytes: {why}")));
        }
        match self.pace {
            Pace::Window(1..) => Ok(()),
            Pace::Rate(rate) if rate.is_finite() && rate > 0.0 => Ok(()),
            _ => Err(Error::Arguments("a window or rate of nothing sends nothing".into())),
        }
    }
}
