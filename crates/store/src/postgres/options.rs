//! What can be set when a database is opened.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::AppendObserver;

/// What can be set when a database is opened. The defaults are for a node on a small machine.
#[derive(Clone)]
pub struct PostgresOptions {
    /// How many appends are under way beside each other: each lane has a connection of its own.
    ///
    /// With one, what follows waits while an append is synced; with more, what comes in a time is in more transactions, and
    /// each costs the server as much as some fifty messages.
    pub lanes: NonZeroUsize,
    /// The most intents that wait in a lane to be appended; further calls of `append` wait at the door.
    pub queue_intents_max: usize,
    /// The most bytes of bodies that wait in a lane.
    pub queue_bytes_max: usize,
    /// How much all lanes together remember of conversations, in members and devices; about 200 bytes each.
    pub conversations_weight_max: usize,
    /// The most reads at a time, each on a connection of its own; the others wait.
    pub readers: usize,
    /// How long a connection may take to come about.
    pub connect_max: Duration,
    /// How long a statement may take. Beyond it nobody knows whether it was done.
    pub statement_max: Duration,
    /// How long a read waits for a connection.
    pub wait_max: Duration,
    /// Told of every commit, by the task that commits: be quick.
    pub on_append: Option<AppendObserver>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            lanes: const { NonZeroUsize::new(2).unwrap() },
            queue_intents_max: 4_096,
            queue_bytes_max: 16 << 20,
            conversations_weight_max: 1_000_000,
            readers: 8,
            connect_max: Duration::from_secs(3),
            statement_max: Duration::from_secs(10),
            wait_max: Duration::from_secs(5),
            on_append: None,
        }
    }
}
