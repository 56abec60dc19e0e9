//! Which nodes there are, and what this one says of itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tertulia_domain::hub::Hub;
use tertulia_fabric::nodes::{Description, LOAD_MAX, NodeInfo, Nodes};

/// How often a node looks how loaded it is.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// A change of its load that is less than this is not told, in thousandths.
const LOAD_STEP: u16 = 20;

/// What a node is told of itself.
pub(super) struct Node {
    /// Where clients reach it; empty if it is not to say so.
    pub(super) url: String,
    /// How many sockets it is made for.
    pub(super) capacity: u32,
}

pub(super) struct Members {
    nodes: Arc<dyn Nodes>,
    hub: Arc<Hub>,
    capacity: u32,
    said: Mutex<Description>,
    /// Of whom was last heard.
    known: Mutex<Vec<NodeInfo>>,
}

impl Members {
    pub(super) fn new(nodes: Arc<dyn Nodes>, hub: Arc<Hub>, Node { url, capacity }: Node) -> Self {
        let said = Mutex::new(Description { url, ..Description::default() });
        Self { nodes, hub, capacity, said, known: Mutex::default() }
    }

    pub(super) async fn known(&self) -> Vec<NodeInfo> {
        match self.nodes.nodes().await {
            Ok(nodes) => {
                lock(&self.known).clone_from(&nodes);
                nodes
            }
            Err(error) => {
                tracing::debug!(%error, "which nodes there are is not known now");
                let own = NodeInfo { id: self.nodes.id(), description: lock(&self.said).clone() };
                let mut nodes = lock(&self.known).clone();
                nodes.retain(|node| node.id != own.id);
                nodes.push(own);
                nodes
            }
        }
    }

    pub(super) fn drain(&self) {
        self.say(|said| said.draining = true);
    }

    /// Says whether this node reaches the store.
    pub(super) fn cut_off(&self, is_cut_off: bool) {
        self.say(|said| said.cut_off = is_cut_off);
    }

    /// Says how loaded this node is, for ever.
    pub(super) async fn tell_load(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let load = load(self.hub.present().sockets, self.capacity);
            let is_far = lock(&self.said).load.abs_diff(load) >= LOAD_STEP;
            if is_far {
                self.say(|said| said.load = load);
            }
        }
    }

    fn say(&self, change: impl FnOnce(&mut Description)) {
        let mut said = lock(&self.said);
        change(&mut said);
        self.nodes.describe(said.clone());
    }
}

/// In thousandths of what a node is made for.
fn load(sockets: usize, capacity: u32) -> u16 {
    let load = sockets.saturating_mul(usize::from(LOAD_MAX)) / capacity.max(1) as usize;
    u16::try_from(load).unwrap_or(LOAD_MAX).min(LOAD_MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks leaves it half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::load;

    #[test]
    fn load_is_what_is_here_of_what_a_node_is_made_for() {
        let loads = [(0, 20_000), (500, 20_000), (20_000, 20_000), (90_000, 20_000), (1, 0)];
        assert_eq!(loads.map(|(sockets, capacity)| load(sockets, capacity)), [0, 25, 1_000, 1_000, 1_000]);
    }
}
