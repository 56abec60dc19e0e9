//! What each member must see, and where what he sees differs.

use std::fmt;
use std::sync::Arc;

use tertulia_protocol::{ConvoId, Entry, EntryKind, Seq, UserId};

use super::plan::Script;

/// The whole log of a group, known before the first line is sent.
#[derive(Debug)]
pub(super) struct Expected {
    /// The group.
    pub(super) convo: ConvoId,
    /// What is said in it.
    pub(super) script: Script,
    /// The users of all people, by their places.
    users: Arc<[UserId]>,
    /// Who is named by `created`, and by each `member_added` after it; sorted.
    opening: Vec<Vec<UserId>>,
}

impl Expected {
    /// A group that the first member of `script` began with the users `opening[0]`, and to which he added
    /// the others of `opening`, one call each.
    pub(super) fn new(
        convo: ConvoId,
        script: Script,
        users: Arc<[UserId]>,
        mut opening: Vec<Vec<UserId>>,
    ) -> Self {
        opening.iter_mut().for_each(|named| named.sort_unstable());
        Self { convo, script, users, opening }
    }

    /// How many entries precede the lines.
    pub(super) fn opening_entries(&self) -> u64 {
        self.opening.len() as u64
    }

    /// The last entry.
    pub(super) fn last(&self) -> Seq {
        Seq::new(self.opening_entries() + self.script.cues.len() as u64)
    }

    /// The line at a place in the log, if it is one of a line.
    pub(super) fn line_at(&self, seq: Seq) -> Option<usize> {
        let line = usize::try_from(seq.get().checked_sub(self.opening_entries() + 1)?).ok()?;
        (line < self.script.cues.len()).then_some(line)
    }

    /// The place of a person's last line; zero if he has none.
    pub(super) fn last_of(&self, person: usize) -> Seq {
        let line = self.script.cues.iter().rposition(|cue| cue.speaker == person);
        Seq::new(line.map_or(0, |line| self.opening_entries() + line as u64 + 1))
    }

    /// How many messages of others follow a person's last line: what is unread for him when he has read nothing.
    pub(super) fn unread_of(&self, person: usize) -> u64 {
        self.last().get() - self.last_of(person).get().max(self.opening_entries())
    }

    /// Compares an entry with what stands at its place.
    fn compare(&self, entry: &Entry) -> Result<(), Difference> {
        let seq = entry.seq;
        if entry.convo_id != self.convo {
            return Err(Difference::Foreign { convo: entry.convo_id });
        }
        let Some(line) = self.line_at(seq) else { return self.compare_opening(entry) };
        let cue = &self.script.cues[line];
        match &entry.kind {
            EntryKind::Text { body, reply_to: None } if *body == cue.body => self.sent_by(cue.speaker, entry),
            EntryKind::Text { body, .. } => {
                Err(Difference::Altered { seq, sent: excerpt(&cue.body), seen: excerpt(body) })
            }
            other => Err(Difference::Altered {
                seq,
                sent: excerpt(&cue.body),
                seen: excerpt(&format!("{other:?}")),
            }),
        }
    }

    fn compare_opening(&self, entry: &Entry) -> Result<(), Difference> {
        let place = usize::try_from(entry.seq.previous().get()).unwrap_or(usize::MAX);
        let named = match &entry.kind {
            EntryKind::Created { title, user_ids, .. }
                if title.as_ref() == Some(&self.script.title) && place == 0 =>
            {
                user_ids
            }
            EntryKind::MemberAdded { user_ids } if place > 0 => user_ids,
            _ => return Err(Difference::Unknown { seq: entry.seq }),
        };
        let mut named = named.clone();
        named.sort_unstable();
        if self.opening.get(place) != Some(&named) {
            return Err(Difference::Unknown { seq: entry.seq });
        }
        self.sent_by(self.script.members[0], entry)
    }

    fn sent_by(&self, person: usize, entry: &Entry) -> Result<(), Difference> {
        if entry.sender_id == self.users[person] {
            Ok(())
        } else {
            Err(Difference::Sender { seq: entry.seq })
        }
    }
}

/// How far one member has seen a group, entry by entry.
#[derive(Debug, Clone)]
pub(super) struct View {
    next: Seq,
}

impl View {
    /// A view of nothing yet.
    pub(super) fn new() -> Self {
        Self { next: Seq::new(1) }
    }

    /// Takes the next entry that the member sees, and says of all that differs.
    pub(super) fn take(&mut self, expected: &Expected, entry: &Entry, mut differs: impl FnMut(Difference)) {
        if entry.convo_id == expected.convo {
            if entry.seq < self.next {
                return differs(Difference::Again { seq: entry.seq, due: self.next });
            }
            if entry.seq > self.next {
                differs(Difference::Missing { from: self.next, to: entry.seq.previous() });
            }
            self.next = entry.seq.next();
        }
        if let Err(difference) = expected.compare(entry) {
            differs(difference);
        }
    }

    /// The last entry that was seen.
    pub(super) fn seen(&self) -> Seq {
        self.next.previous()
    }

    /// Says what of the end was not seen.
    pub(super) fn finish(&self, expected: &Expected) -> Result<(), Difference> {
        if self.seen() >= expected.last() {
            return Ok(());
        }
        Err(Difference::Missing { from: self.next, to: expected.last() })
    }
}

/// Where what a member sees is not what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Difference {
    /// Entries were not handed over before the next one, or not at all.
    Missing { from: Seq, to: Seq },
    /// An entry came a second time, or after one that follows it.
    Again { seq: Seq, due: Seq },
    /// There is something else in the place of a line: another line, or this one with other bytes.
    Altered { seq: Seq, sent: String, seen: String },
    /// The right line in the name of another.
    Sender { seq: Seq },
    /// An entry that nobody has written.
    Unknown { seq: Seq },
    /// An entry of a conversation that he is not in.
    Foreign { convo: ConvoId },
    /// Something that is counted or remembered is wrong.
    Count { what: &'static str, expected: u64, seen: u64 },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { from, to } if from == to => write!(f, "entry {from} is missing"),
            Self::Missing { from, to } => write!(f, "entries {from} to {to} are missing"),
            Self::Again { seq, due } => write!(f, "entry {seq} came again or too late: {due} was due"),
            Self::Altered { seq, sent, seen } => write!(f, "entry {seq} is {seen:?} where {sent:?} was sent"),
            Self::Sender { seq } => write!(f, "entry {seq} is in the name of another"),
            Self::Unknown { seq } => write!(f, "entry {seq} was written by nobody here"),
            Self::Foreign { convo } => write!(f, "an entry of conversation {convo}, which is none of his"),
            Self::Count { what, expected, seen } => write!(f, "{what} is {seen} where it must be {expected}"),
        }
    }
}

/// As much of a text as fits into a line of the report.
fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    let mut excerpt: String = text.chars().take(CHARS_MAX).collect();
    if excerpt.len() < text.len() {
        excerpt.push('…');
    }
    excerpt
}

#[cfg(test)]
mod tests;
