//! What is known of a run once all of it has been read: who sent what, what stands where in each conversation,
//! and who could see it when.
//!
//! This is the memory that a check takes: about 300 bytes for each message, whoever saw it and however often.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher as _};

use tertulia_protocol::entry::HistoryPolicy;
use tertulia_protocol::{ConvoId, DeviceId, UserId};

use super::source::At;
use crate::event::{Body, Kind};

/// Numbers instead of ids.
#[derive(Debug)]
pub(super) struct Names<T> {
    numbers: HashMap<T, u32>,
    pub(super) ids: Vec<T>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), ids: Vec::new() }
    }
}

impl<T: Copy + Eq + Hash> Names<T> {
    /// The number of an id.
    pub(super) fn number(&mut self, id: T) -> u32 {
        *self.numbers.entry(id).or_insert_with(|| {
            self.ids.push(id);
            (self.ids.len() - 1) as u32
        })
    }

    pub(super) fn find(&self, id: T) -> Option<u32> {
        self.numbers.get(&id).copied()
    }
}

/// A position as it is compared: two are the same if their hashes are.
pub(super) fn position(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// A message that somebody has tried to send, however often.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) convo: u32,
    pub(super) n: u64,
    pub(super) body: Body,
    /// The first attempt.
    pub(super) begun: u64,
    pub(super) begun_at: At,
    /// The highest place that was known in the conversation then, and the line that shows it.
    pub(super) floor: Option<(u64, At)>,
    /// Where it was tried first and last: the connection, and the place among its attempts in the conversation.
    pub(super) first: Option<(u32, u32)>,
    pub(super) last: Option<(u32, u32)>,
    pub(super) attempts: u32,
    /// Attempts that were refused for good.
    pub(super) refused: u32,
    /// Whether any was refused, for good or not.
    pub(super) trouble: Option<At>,
    pub(super) acked: Option<(u64, At)>,
    /// Where it stands, by whatever was seen first.
    pub(super) seq: u64,
    /// Another one of the same user, conversation and number, of another device.
    pub(super) twin: Option<u32>,
}

impl Sent {
    /// Whether this connection may have sent it, so that its ack stands for its push there.
    pub(super) fn may_be_of(&self, conn: u32) -> bool {
        let on = |place: Option<(u32, u32)>| place.is_some_and(|(place, _)| place == conn);
        on(self.first) || on(self.last) || self.attempts > 2
    }
}

/// An entry, as it was seen first.
#[derive(Debug)]
pub(super) struct Fact {
    pub(super) seq: u64,
    pub(super) kind: Kind,
    pub(super) by: u32,
    pub(super) users: Box<[u32]>,
    pub(super) target: u64,
    pub(super) history: Option<HistoryPolicy>,
    /// When it was known to be there, and by which line.
    pub(super) t: u64,
    pub(super) at: At,
    pub(super) sent: Option<u32>,
    /// Messages up to and with this one, of all.
    pub(super) messages: u64,
}

/// A time as a member, in places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The entry that let him in.
    pub(super) joined: u64,
    /// The first that he may see; unknown if nobody has seen what the policy was.
    pub(super) visible: Option<u64>,
    /// The entry that let him out.
    pub(super) left: Option<u64>,
}

impl Span {
    fn may_see(&self, seq: u64) -> bool {
        self.visible.is_none_or(|first| first <= seq) && self.left.is_none_or(|last| seq <= last)
    }
}

/// A conversation.
#[derive(Debug, Default)]
pub(super) struct Convo {
    /// Entries up to here were there before.
    pub(super) before: u64,
    /// By `seq`, once all are known.
    pub(super) facts: Vec<Fact>,
    /// Where in `facts` an entry is, while they are being learnt.
    pub(super) index: HashMap<u64, u32>,
    /// The highest place that is known so far.
    pub(super) top: Option<(u64, At)>,
    pub(super) spans: HashMap<u32, Vec<Span>>,
    /// The places of each sender's messages, ascending.
    pub(super) own: HashMap<u32, Vec<u64>>,
    /// What messages were to become: an edit's text, or nothing.
    pub(super) altered: HashMap<u64, Vec<Option<Body>>>,
}

/// What is known of a user in a conversation at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// It is his to see: he was a member, since the span's beginning.
    Member(Span),
    /// It is not, for he was no member.
    Stranger,
    /// Nobody has seen enough of the conversation to know.
    Unknown,
}

impl Convo {
    /// Where `seq` is in `facts`.
    pub(super) fn place(&self, seq: u64) -> Result<usize, usize> {
        // Most often nothing is missing.
        let guess = seq.wrapping_sub(self.facts.first().map_or(0, |fact| fact.seq));
        match usize::try_from(guess) {
            Ok(guess) if self.facts.get(guess).is_some_and(|fact| fact.seq == seq) => Ok(guess),
            _ => self.facts.binary_search_by_key(&seq, |fact| fact.seq),
        }
    }

    pub(super) fn fact(&self, seq: u64) -> Option<&Fact> {
        self.place(seq).ok().map(|place| &self.facts[place])
    }

    /// Whether all from `from` to `to` are known.
    pub(super) fn knows_all(&self, from: u64, to: u64) -> bool {
        match (self.place(from), self.place(to)) {
            (Ok(first), Ok(last)) => (last - first) as u64 == to - from,
            _ => from > to,
        }
    }

    /// Whether the entry at `seq` is `user`'s to see.
    pub(super) fn sight(&self, user: u32, seq: u64) -> Sight {
        let Some(spans) = self.spans.get(&user) else {
            // Without its first entry nobody knows who was in it.
            return if self.knows_all(1, seq) { Sight::Stranger } else { Sight::Unknown };
        };
        let in_person = spans.iter().rev().find(|span| span.joined <= seq && span.may_see(seq));
        if let Some(span) = in_person.or_else(|| spans.iter().rev().find(|span| span.may_see(seq))) {
            // What nobody has seen could have let him out.
            let is_sure = span.joined > 0 && (span.joined > seq || self.knows_all(span.joined, seq));
            return if is_sure { Sight::Member(*span) } else { Sight::Unknown };
        }
        // Between two times as a member an unknown entry could have let him in.
        let left = spans.iter().filter_map(|span| span.left).filter(|left| *left < seq).max();
        let from = left.map_or(1, |left| left + 1);
        if self.knows_all(from, seq) { Sight::Stranger } else { Sight::Unknown }
    }

    /// The messages of others in `(read, last]`, of those that begin at `visible`; `None` if not all are known.
    pub(super) fn unread(&self, user: u32, read: u64, last: u64, visible: u64) -> Option<u64> {
        let from = (read + 1).max(visible);
        if from > last {
            return Some(0);
        }
        if !self.knows_all(from, last) {
            return None;
        }
        let (first, end) = (self.place(from).ok()?, self.place(last).ok()?);
        let before = if first == 0 { 0 } else { self.facts[first - 1].messages };
        let all = self.facts[end].messages - before;
        let own = self.own.get(&user).map_or(0, |own| {
            own.partition_point(|seq| *seq <= last) - own.partition_point(|seq| *seq < from)
        });
        Some(all - own as u64)
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) device: u32,
    pub(super) user: u32,
}

/// A run.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Several nodes answer: a position that an entry carries is the last one that its node has been sure of.
    pub(super) has_nodes: bool,
    pub(super) users: Names<UserId>,
    pub(super) devices: Names<DeviceId>,
    pub(super) convos: Names<ConvoId>,
    /// Whose device.
    pub(super) owner: Vec<u32>,
    pub(super) logs: Vec<Convo>,
    pub(super) sents: Vec<Sent>,
    pub(super) conns: Vec<Conn>,
    conn_index: HashMap<(usize, u64), u32>,
    /// Positions that were resumed from, by device.
    pub(super) resumed_from: HashSet<(u32, u64)>,
    /// The conversations that each user was in.
    pub(super) convos_of: HashMap<u32, Vec<u32>>,
}

impl Known {
    pub(super) fn add_conn(&mut self, file: usize, c: u64, device: u32) -> Option<u32> {
        let number = self.conns.len() as u32;
        let user = self.owner[device as usize];
        let is_new = self.conn_index.insert((file, c), number).is_none();
        self.conns.push(Conn { device, user });
        is_new.then_some(number)
    }

    pub(super) fn conn(&self, file: usize, c: u64) -> Option<u32> {
        self.conn_index.get(&(file, c)).copied()
    }

    pub(super) fn log(&self, convo: u32) -> &Convo {
        &self.logs[convo as usize]
    }

    /// When the first attempt at the message at `seq` began.
    pub(super) fn begun(&self, convo: u32, seq: u64) -> Option<(u64, &Sent)> {
        let sent = &self.sents[self.log(convo).fact(seq)?.sent? as usize];
        Some((sent.begun, sent))
    }

    /// For evidence: the user's id.
    pub(super) fn user(&self, user: u32) -> UserId {
        self.users.ids[user as usize]
    }

    /// For evidence: the conversation's id.
    pub(super) fn convo(&self, convo: u32) -> ConvoId {
        self.convos.ids[convo as usize]
    }
}
