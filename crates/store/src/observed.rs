//! What is told of each commit, for metrics.

use std::sync::Arc;
use std::time::Duration;

/// Is told of every commit.
pub type AppendObserver = Arc<dyn Fn(AppendStats) + Send + Sync>;

/// What a commit was like.
#[derive(Debug, Clone, Copy)]
pub struct AppendStats {
    /// How many intents were decided together.
    pub intents: usize,
    /// How long the one that came first had waited.
    pub queued: Duration,
    /// How long deciding, writing and syncing took.
    pub commit: Duration,
}
