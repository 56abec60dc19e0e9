//! What other nodes tell, to the hub.

use std::sync::atomic::Ordering;

use tertulia_domain::log::Commit;
use tertulia_fabric::live::{Ear, Heard};

use super::{Outgoing, Parts, letters};

/// Hears until the channel is closed.
pub(super) async fn hear(outgoing: &Outgoing, parts: &Parts, mut ear: Ear) {
    let Parts { hub, link, repairs, .. } = parts;
    while let Some(heard) = ear.next().await {
        match heard {
            Heard::Message { bytes, .. } => {
                let mut lacks = false;
                for letter in outgoing.open(&bytes).into_iter().flatten() {
                    lacks |= letters::read(hub, letter);
                }
                if lacks {
                    repairs.notify_one();
                }
            }
            // A barrier that was asked for before the link broke is never heard.
            Heard::Barrier(horizon) if link.is_whole() => hub.caught_up(Commit::new(horizon)),
            Heard::Barrier(_) => {}
            Heard::Broken => {
                tracing::warn!(
                    "the link to the other nodes is broken; what they append is read from the log later"
                );
                link.is_whole.store(false, Ordering::Release);
            }
            Heard::Restored => link.restored.notify_one(),
        }
    }
}
