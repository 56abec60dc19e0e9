//! The rules, and what they have found. Each says in its module what exactly it demands and by which lines.

pub(super) mod fence;
pub(super) mod live;
pub(super) mod order;
pub(super) mod owed;
pub(super) mod reads;
pub(super) mod sends;
pub(super) mod unread;
pub(super) mod watermarks;

use serde::Serialize;

use super::source::At;

/// What is proved or refuted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// What was acked is there in the end.
    AckedLoss,
    /// What is there was sent, by the one and with the text that it says, and was not refused for good.
    Phantom,
    /// One message, one entry.
    Duplicate,
    /// All see the same entry at a place, and pages leave no place out.
    OneOrder,
    /// Acked before another was sent: a lower `seq`.
    RealTime,
    /// What a connection sent one after the other is stored in that order.
    SenderOrder,
    /// Whoever was acked reads it.
    OwnWrites,
    /// What was seen once is seen again.
    MonotonicReads,
    /// On a connection: ascending, none twice, what is missing is named or was acked there.
    LiveOrder,
    /// After a resume: everything since the position.
    Resume,
    /// Watermarks go forward only.
    Watermarks,
    /// After a removal: nothing.
    Removal,
    /// `unreadCount` is what one counts.
    Unread,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::AckedLoss,
        Self::Phantom,
        Self::Duplicate,
        Self::OneOrder,
        Self::RealTime,
        Self::SenderOrder,
        Self::OwnWrites,
        Self::MonotonicReads,
        Self::LiveOrder,
        Self::Resume,
        Self::Watermarks,
        Self::Removal,
        Self::Unread,
    ];

    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::AckedLoss => "no acked loss",
            Self::Phantom => "no phantom",
            Self::Duplicate => "no duplicate",
            Self::OneOrder => "one order without holes",
            Self::RealTime => "real-time order",
            Self::SenderOrder => "sender's order",
            Self::OwnWrites => "read your writes",
            Self::MonotonicReads => "monotonic reads",
            Self::LiveOrder => "live order, gaps named",
            Self::Resume => "complete resumes",
            Self::Watermarks => "monotone watermarks",
            Self::Removal => "removal fence",
            Self::Unread => "unread equals a recount",
        }
    }
}

/// A line that shows something, and the `seq` in it that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) at: At,
    pub(super) seq: Option<u64>,
}

impl From<At> for Proof {
    fn from(at: At) -> Self {
        Self { at, seq: None }
    }
}

impl From<(At, u64)> for Proof {
    fn from((at, seq): (At, u64)) -> Self {
        Self { at, seq: Some(seq) }
    }
}

/// A rule that was broken.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) rule: Rule,
    pub(super) what: String,
    pub(super) proof: Vec<Proof>,
}

/// Of each rule so many findings are kept; the rest is counted.
const KEPT_MAX: u64 = 20;

/// What the rules have looked at and found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) kept: Vec<Finding>,
    pub(super) broken: [u64; Rule::ALL.len()],
    pub(super) looked: [u64; Rule::ALL.len()],
}

impl Findings {
    /// A rule was applied.
    pub(super) fn looked(&mut self, rule: Rule) {
        self.looked[rule as usize] += 1;
    }

    /// A rule was broken, as these lines show.
    pub(super) fn broken(&mut self, rule: Rule, what: impl FnOnce() -> String, proof: &[Proof]) {
        let count = &mut self.broken[rule as usize];
        *count += 1;
        if *count <= KEPT_MAX {
            let mut proof = proof.to_vec();
            proof.dedup_by_key(|proof| proof.at);
            self.kept.push(Finding { rule, what: what(), proof });
        }
    }
}
