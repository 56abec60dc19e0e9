//! The port of the index: what it takes, what it is asked, what it answers.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use tertulia_protocol::{ConvoId, IdHash, Seq, Timestamp, UserId};

use crate::term::Term;
use crate::words::each_word;

/// Messages by their words.
///
/// It is fed in batches, each with the place up to which it has been fed; the two are stored together, so that a place is
/// never ahead of what is found, nor behind it by more than a batch. A batch may come again. Where several feed it at one
/// time, each with other conversations, somebody else keeps their places, and the cursor is moved by itself.
///
/// It says where something stands, never what: who asks reads the message from the store, and so sees it as it is now,
/// or not at all if he may not.
#[async_trait]
pub trait SearchIndex: Send + Sync + 'static {
    /// The cursor that came with the last batch; `None` of an index that is new, or was cleared.
    async fn cursor(&self) -> Result<Option<String>, IndexError>;

    /// Takes a batch, all or nothing, and the cursor with it; without one the cursor stays. Of two changes of one message
    /// the later one counts; one that is there already is replaced.
    ///
    /// # Errors
    /// [`IndexError::Refused`] if the same batch can never be taken: one of its documents is at fault.
    async fn apply(&self, batch: Vec<Change>, cursor: Option<&str>) -> Result<(), IndexError>;

    /// Moves the cursor, if it is still where it is thought to be; says whether it was.
    async fn move_cursor(&self, from: Option<&str>, to: &str) -> Result<bool, IndexError>;

    /// Makes what was taken survive power loss; before, it may lose the last batches, with their cursors.
    async fn sync(&self) -> Result<(), IndexError>;

    /// Forgets everything, the cursor too.
    async fn clear(&self) -> Result<(), IndexError>;

    /// Finds the messages that fit.
    async fn search(&self, search: Search) -> Result<Found, IndexError>;

    /// Figures for `/metrics`, cheap to take: (name without prefix, value).
    fn figures(&self) -> Vec<(&'static str, f64)>;

    /// Lets go of the data; later calls fail with [`IndexError::Closed`].
    async fn close(&self);
}

/// What happened to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It says this.
    Put(Document),
    /// It says nothing any more.
    Remove {
        /// The conversation.
        convo: ConvoId,
        /// Its place.
        seq: Seq,
        /// When it was written.
        ts: Timestamp,
    },
}

/// A message as the index takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The conversation.
    pub convo: ConvoId,
    /// Its place.
    pub seq: Seq,
    /// Who wrote it.
    pub sender: UserId,
    /// When it was written; never changes.
    pub ts: Timestamp,
    /// What it says.
    pub body: String,
}

impl Document {
    /// A message.
    pub fn new(convo: ConvoId, seq: Seq, sender: UserId, ts: Timestamp, body: &str) -> Self {
        Self { convo, seq, sender, ts, body: body.to_owned() }
    }

    /// Its words in their order, folded, with a space between two; and how many there are.
    ///
    /// Takes a while for thousands of messages: for the threads of adapters that may.
    pub fn words(&self) -> (String, u32) {
        let mut words = String::with_capacity(self.body.len() + self.body.len() / 2);
        let mut count = 0;
        each_word(&self.body, |word, _, _| {
            if !words.is_empty() {
                words.push(' ');
            }
            words.push_str(word);
            count += 1;
        });
        (words, count)
    }
}

/// What is sought. All of it must hold, and there is a term or a sender at least.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// Words and phrases.
    pub terms: Vec<Term>,
    /// Where to look, and from which entry on.
    pub convos: HashMap<ConvoId, Seq, IdHash>,
    /// Who wrote it.
    pub sender: Option<UserId>,
    /// It is older than this.
    pub before: Option<Timestamp>,
    /// It is of this moment or newer.
    pub after: Option<Timestamp>,
    /// What comes first.
    pub order: Order,
    /// Behind which hit to go on; of a search for the same in the same order.
    pub from: Option<Place>,
    /// How many hits to give.
    pub limit: usize,
}

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The newest. Of one moment: in a conversation the higher `seq`, between two whichever, but always the same.
    #[default]
    Newest,
    /// The highest [`rank`], then as by [`Newest`](Self::Newest); among the newest [`RANKED_MAX`] messages that fit.
    Rank,
}

/// How many messages that fit are ranked: the newest.
pub const RANKED_MAX: usize = 10_000;

/// What a message weighs, whatever is sought in it: its time, less a week for each doubling of its length. So what was
/// sought makes up much of what comes first, and of two alike the newer one does.
pub const fn rank(ts: Timestamp, words: u32) -> i64 {
    const WEEK_MS: i64 = 7 * 24 * 3_600 * 1_000;
    ts.as_millis() - WEEK_MS * (words | 1).ilog2() as i64
}

/// Adapters number messages by their time, and within a millisecond with so many bits; the time has 43, and lasts until
/// the year 2248.
pub(crate) const NUMBER_BITS: u32 = 20;

/// The least number of a moment.
pub(crate) fn first_id(ts: Timestamp) -> i64 {
    ts.as_millis().clamp(0, i64::MAX >> NUMBER_BITS) << NUMBER_BITS
}

/// A message that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// The conversation.
    pub convo: ConvoId,
    /// Its place.
    pub seq: Seq,
    /// For the page behind it.
    pub place: Place,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// In the order that was asked for.
    pub hits: Vec<Hit>,
    /// Where to go on; `None`: there is no more. It is that of a hit, or behind fewer hits than were asked for, when it has
    /// looked at as much as one search may: then it may be that of a message that the asker may not see.
    pub next: Option<Place>,
}

/// The first byte of a written [`Place`].
const NEWEST: u8 = b'n';
const RANK: u8 = b'r';

/// Where a search has come to; messages that are written later do not move it.
///
/// Not for the eyes of the asker, who could tell by it when something was said that he may not see: at the latest
/// ([`Found::next`]), and how much in one millisecond (an id counts it). Whoever hands it out seals it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// By [`Order::Newest`]: behind this document.
    Newest {
        /// The index's number of it; higher is newer.
        id: i64,
    },
    /// By [`Order::Rank`]: behind this document, among those that were there when the search began.
    Rank {
        /// The newest document that may be seen and was there.
        newest: i64,
        /// What this one weighs.
        rank: i64,
        /// The index's number of it.
        id: i64,
    },
}

impl Place {
    /// As bytes, 25 at most: the fewest that say it.
    pub fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Newest { id } => [&[NEWEST][..], &id.to_be_bytes()].concat(),
            Self::Rank { newest, rank, id } => {
                [&[RANK][..], &newest.to_be_bytes(), &rank.to_be_bytes(), &id.to_be_bytes()].concat()
            }
        }
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&kind, numbers) = bytes.split_first()?;
        let (numbers, []) = numbers.as_chunks() else { return None };
        match (kind, numbers) {
            (NEWEST, &[id]) => Some(Self::Newest { id: i64::from_be_bytes(id) }),
            (RANK, &[newest, rank, id]) => {
                let [newest, rank, id] = [newest, rank, id].map(i64::from_be_bytes);
                Some(Self::Rank { newest, rank, id })
            }
            _ => None,
        }
    }

    /// The order that it belongs to.
    pub const fn order(&self) -> Order {
        match self {
            Self::Newest { .. } => Order::Newest,
            Self::Rank { .. } => Order::Rank,
        }
    }
}

/// The index could not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IndexError {
    /// It does not answer now; nothing was changed.
    #[error("the search index cannot do this now: {reason}")]
    Unavailable {
        /// What is the matter, for the log; no bodies.
        reason: String,
        /// When trying again makes sense.
        retry_after: Duration,
    },
    /// It will never take this batch.
    #[error("the search index refuses this: {0}")]
    Refused(String),
    /// It was closed: the process is going down.
    #[error("the search index is closed")]
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written_and_garbage_is_none() {
        let places = [
            Place::Newest { id: 7 },
            Place::Newest { id: i64::MIN },
            Place::Rank { newest: i64::MAX, rank: -1, id: 3 },
        ];
        for place in places {
            let bytes = place.to_bytes();
            assert_eq!(Place::from_bytes(&bytes), Some(place));
            for garbage in [&[][..], b"x", b"n", &bytes[1..], &[&bytes[..], &[0]].concat()] {
                assert_eq!(Place::from_bytes(garbage), None, "{garbage:?}");
            }
        }
    }
}
