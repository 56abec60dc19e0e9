//! Who gets which frame. One hub a node; it owns no socket, task or clock.
//!
//! What is committed comes in by [`Hub::deliver`]; frames come out of each [`Connection`]'s outbox. For each (connection, conversation) there are two states: *live*, pushed as
//! entries arrive, with nothing kept; and *lagging*, which reads pages of the log ([`Hub::next_step`]) until
//! what it has read meets what the hub delivers next. A resume starts lagging; so does a reader whose outbox
//! is full. There is no other way for an entry to reach a reader.
//!
//! Files, in reading order: `connection` (one reader: its outbox and where it lags), `frames` (encoding,
//! once for all readers), `routes` (who is here, and in which conversations; `slots`), `delivery` (what is
//! committed, to whom), `membership` (who comes and goes), `news` (what is no entry), `holes` (what did not come
//! through here), `catch_up` (resume and lag), `ephemeral` (typing, and what may be dropped), `presence`.
//!
//! Locks: `routes` before a connection's `state`; neither is held across a call out of this module.

mod catch_up;
mod connection;
mod delivery;
mod ephemeral;
mod frames;
mod holes;
mod membership;
mod news;
mod outbox;
mod presence;
mod receipts;
mod routes;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use catch_up::Step;
pub use connection::{Close, Connection, Limits, Mode, Taken};
pub use delivery::{Committed, Origin};
pub use ephemeral::Typing;
pub use frames::{encode, receipt};
pub use holes::Hole;
pub use outbox::Outbox;
pub use presence::{Departed, Sighting, Status};

use tertulia_protocol::{ConvoId, UserId};

use self::connection::LaggingCount;
use crate::log::{Commit, PARTS_MAX, Position};

/// The most entries of a conversation that a reader may miss before the older ones become a `gap`.
pub const MISSED_MAX: u64 = 1_000;
/// How many of the newest entries are still pushed after such a gap.
pub const MISSED_KEPT: u64 = 200;
/// The most entries that one step of a lagging reader reads.
pub const PAGE_MAX: usize = 200;
/// In conversations of more members than this, the watermarks of others are not pushed, and typing neither:
/// both would grow with the square of the members. Whoever wants to know asks by REST.
pub const CHATTER_MEMBERS_MAX: u64 = crate::conversation::RECEIPTS_MEMBERS_MAX as u64;

/// What the hub needs to know of its node.
pub struct Settings {
    /// Writes a position for clients; the store's.
    pub position: Box<dyn Fn(Position) -> String + Send + Sync>,
    /// In which part of the store a conversation is.
    pub part_of: Box<dyn Fn(ConvoId) -> usize + Send + Sync>,
    /// How long a connection counts as present after its last sign of life.
    pub presence_ttl: Duration,
    /// How often a silent connection is pinged; one that stays silent for two of them is closed.
    pub heartbeat: Duration,
    /// What a connection's outbox holds at most.
    pub outbox: Limits,
    /// How many open sockets a device has at most: where it opens one more, another one is closed ([`Hub::register`]).
    pub sockets_per_device: usize,
    /// Whether other nodes append, too. Then conversations have to be heard of ([`Hub::take_unheard`]), and commits
    /// come here in any order.
    pub others_append: bool,
}

/// The hub of a node.
pub struct Hub {
    settings: Settings,
    routes: Mutex<routes::Routes>,
    /// Everything below it has been put into the outboxes of live readers. Each part moves by itself.
    position: [AtomicU64; PARTS_MAX],
    /// Whether a lagging reader waits for the position to move.
    is_awaited: AtomicBool,
    /// Who began or ended typing, for the other nodes.
    typing: Mutex<HashMap<(ConvoId, UserId), bool>>,
    /// What this node sees of users of whom it has changed, for the other nodes.
    sightings: Mutex<HashMap<UserId, Sighting>>,
    stats: Stats,
    /// How many readers lag.
    lagging: LaggingCount,
}

/// What the hub has done since it began, for metrics.
#[derive(Debug, Default)]
pub struct Stats {
    /// Entries pushed to a connection, live or by catching up.
    pub deliveries: AtomicU64,
    /// `gap` events told.
    pub gaps: AtomicU64,
    /// Times that a reader fell behind because its outbox was full.
    pub lagged: AtomicU64,
    /// Holes in what came here that had to be read from the store.
    pub holes: AtomicU64,
    /// Typing and presence frames dropped because the lane of a connection was full.
    pub ephemeral_dropped: AtomicU64,
    /// Typing and presence frames replaced by a newer one before they were written.
    pub ephemeral_merged: AtomicU64,
}

/// What is on this node now: counted as they come and go, so that it costs nothing to ask.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Present {
    /// Sockets.
    pub sockets: usize,
    /// Waiting long-polls.
    pub polls: usize,
    /// Users with at least one of them.
    pub users: usize,
    /// Conversations with somebody here.
    pub conversations: usize,
    /// Connections that lag in at least one conversation.
    pub lagging: usize,
}

impl Hub {
    /// A hub that has delivered everything below `start`.
    pub fn new(settings: Settings, start: Position) -> Self {
        let hub = Self {
            settings,
            routes: Mutex::default(),
            position: Default::default(),
            is_awaited: AtomicBool::new(false),
            typing: Mutex::default(),
            sightings: Mutex::default(),
            stats: Stats::default(),
            lagging: LaggingCount::default(),
        };
        hub.move_to(&start);
        hub
    }

    /// What was done so far.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Everything below it has been handed to the live readers of this node.
    pub fn position(&self) -> Position {
        Position::new(std::array::from_fn(|part| self.position[part].load(Ordering::Acquire)))
    }

    /// Returns whether it was behind.
    fn move_to(&self, position: &Position) -> bool {
        let mut has_moved = false;
        for (own, number) in self.position.iter().zip(position.numbers()).filter(|(_, number)| *number > 0) {
            has_moved |= own.fetch_max(number, Ordering::AcqRel) < number;
        }
        has_moved
    }

    /// Says that everything below `horizon` has come here: nothing committed is on its way.
    ///
    /// It is the position, in each part of the store, as soon as nothing is missing there any more.
    pub fn caught_up(&self, horizon: Position) {
        if self.settings.others_append {
            self.come(horizon);
        } else {
            self.move_to(&horizon);
        }
    }

    /// How often a silent connection is pinged.
    pub const fn heartbeat(&self) -> Duration {
        self.settings.heartbeat
    }

    /// Whether so many answers wait for a reader that no more may be caused: answers are put in over the limits of
    /// an outbox, so their number is bounded by asking this before the next request is heard.
    pub fn is_congested(&self, connection: &Connection) -> bool {
        connection.state().is_congested(&self.settings.outbox)
    }

    fn position_text(&self, position: Position) -> String {
        (self.settings.position)(position)
    }

    /// The position in the part of the store in which a conversation is.
    fn position_in(&self, position: &Position, convo: ConvoId) -> Commit {
        position.of_part((self.settings.part_of)(convo))
    }

    fn routes(&self) -> MutexGuard<'_, routes::Routes> {
        // A panic under the lock is a bug that was logged; what the map holds is still worth more than nothing.
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
