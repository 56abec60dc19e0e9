//! The live channel within one process: what a node alone has, and what tests join several nodes by.
//!
//! A node that does not take what it hears loses it, and hears a broken link, as it would with a server between.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::ear::{Inlet, ear};
use super::{Ear, Limits, Live, LiveError, Topic, check_sizes};

/// What joins the nodes of a process.
#[derive(Clone, Default)]
pub struct Bus(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    nodes: HashMap<u64, Node>,
    next_node: u64,
    /// Who is subscribed to what. Also while his link is cut: it is subscribed when the link is back.
    subscribers: HashMap<Topic, Vec<u64>>,
}

struct Node {
    inlet: Inlet,
    topics: HashSet<Topic>,
    /// Whether its link stands.
    linked: bool,
    /// What is on its way to the node, if that takes long.
    held: Option<Vec<Held>>,
    /// How many of the next messages to it are lost in silence.
    losing: usize,
    /// How many messages came to it.
    heard: u64,
}

enum Held {
    Message(Topic, Bytes),
    Barrier(u64),
}

/// The live channel of one node of a process.
pub struct LocalLive {
    bus: Bus,
    node: u64,
    published: AtomicU64,
}

impl Bus {
    /// A bus without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// A node's link to it, which stands at once.
    pub fn join(&self, limits: Limits) -> (LocalLive, Ear) {
        let (inlet, ear) = ear(limits);
        inlet.set_whole(true);
        let mut state = self.lock();
        let node = state.next_node;
        state.next_node += 1;
        let topics = HashSet::new();
        state.nodes.insert(node, Node { inlet, topics, linked: true, held: None, losing: 0, heard: 0 });
        drop(state);
        (LocalLive { bus: self.clone(), node, published: AtomicU64::default() }, ear)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is a bug that was logged; what the maps hold is still worth more than nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    fn hear(&mut self, topic: Topic, bytes: &Bytes) {
        if !self.linked {
            return;
        }
        if self.losing > 0 {
            self.losing -= 1;
            return;
        }
        self.heard += 1;
        match &mut self.held {
            Some(held) => held.push(Held::Message(topic, bytes.clone())),
            None => self.inlet.message_or_overrun(topic, bytes),
        }
    }
}

/// What tests do to a link.
impl LocalLive {
    /// Cuts the link.
    pub fn cut(&self) {
        self.with_node(|node| {
            node.linked = false;
            // What was on its way is lost.
            node.held = node.held.take().map(|_| Vec::new());
            node.inlet.set_whole(false);
        });
    }

    /// Mends it.
    pub fn mend(&self) {
        self.with_node(|node| {
            node.linked = true;
            node.inlet.set_whole(true);
        });
    }

    /// From now on what is published is on its way to this node, until [`release`](Self::release).
    pub fn hold(&self) {
        self.with_node(|node| node.held = Some(node.held.take().unwrap_or_default()));
    }

    /// Lets all that is on its way arrive.
    pub fn release(&self) {
        self.with_node(|node| {
            for held in node.held.take().into_iter().flatten() {
                match held {
                    Held::Message(topic, bytes) => node.inlet.message_or_overrun(topic, &bytes),
                    Held::Barrier(token) => node.inlet.barrier(token),
                }
            }
        });
    }

    /// Loses the next messages to this node, so that it does not notice.
    pub fn lose(&self, messages: usize) {
        self.with_node(|node| node.losing = messages);
    }

    fn with_node<T>(&self, what: impl FnOnce(&mut Node) -> T) -> Option<T> {
        self.bus.lock().nodes.get_mut(&self.node).map(what)
    }
}

#[async_trait]
impl Live for LocalLive {
    async fn subscribe(&self, topics: Vec<Topic>) -> Result<(), LiveError> {
        let mut state = self.bus.lock();
        let State { nodes, subscribers, .. } = &mut *state;
        let node = nodes.get_mut(&self.node).ok_or(LiveError::Closed)?;
        for topic in topics {
            if node.topics.insert(topic) {
                subscribers.entry(topic).or_default().push(self.node);
            }
        }
        if node.linked { Ok(()) } else { Err(cut()) }
    }

    fn unsubscribe(&self, topics: &[Topic]) {
        let mut state = self.bus.lock();
        let State { nodes, subscribers, .. } = &mut *state;
        let Some(node) = nodes.get_mut(&self.node) else { return };
        for topic in topics.iter().filter(|topic| node.topics.remove(topic)) {
            leave(subscribers, topic, self.node);
        }
    }

    async fn publish(&self, messages: Vec<(Topic, Bytes)>) -> Result<(), LiveError> {
        check_sizes(&messages)?;
        let mut state = self.bus.lock();
        let State { nodes, subscribers, .. } = &mut *state;
        match nodes.get(&self.node) {
            None => return Err(LiveError::Closed),
            Some(node) if !node.linked => return Err(cut()),
            Some(_) => {}
        }
        self.published.fetch_add(messages.len() as u64, Ordering::Relaxed);
        for (topic, bytes) in &messages {
            for subscriber in subscribers.get(topic).into_iter().flatten() {
                if let Some(node) = nodes.get_mut(subscriber) {
                    node.hear(*topic, bytes);
                }
            }
        }
        Ok(())
    }

    fn barrier(&self, token: u64) {
        self.with_node(|node| match &mut node.held {
            _ if !node.linked => {}
            Some(held) => held.push(Held::Barrier(token)),
            None => node.inlet.barrier(token),
        });
    }

    fn figures(&self) -> Vec<(&'static str, f64)> {
        let figures = self.with_node(|node| (node.heard, node.topics.len(), node.inlet.depth()));
        let (heard, topics, depth) = figures.unwrap_or_default();
        vec![
            ("live_published", self.published.load(Ordering::Relaxed) as f64),
            ("live_heard", heard as f64),
            ("live_topics", topics as f64),
            ("live_queue", depth as f64),
        ]
    }

    async fn close(&self) {
        let mut state = self.bus.lock();
        let Some(node) = state.nodes.remove(&self.node) else { return };
        node.inlet.close();
        for topic in &node.topics {
            leave(&mut state.subscribers, topic, self.node);
        }
    }
}

fn leave(subscribers: &mut HashMap<Topic, Vec<u64>>, topic: &Topic, node: u64) {
    if let Some(nodes) = subscribers.get_mut(topic) {
        nodes.retain(|known| *known != node);
        if nodes.is_empty() {
            subscribers.remove(topic);
        }
    }
}

fn cut() -> LiveError {
    LiveError::Broken("it was cut".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::testsuite::LiveUnderTest;

    #[derive(Default)]
    struct Joined {
        bus: Bus,
        nodes: Mutex<Vec<Arc<LocalLive>>>,
    }

    impl LiveUnderTest for Joined {
        async fn open() -> Self {
            Self::default()
        }

        async fn join(&self, limits: Limits) -> (Arc<dyn Live>, Ear) {
            let (live, ear) = self.bus.join(limits);
            let live = Arc::new(live);
            self.nodes.lock().unwrap().push(Arc::clone(&live));
            (live, ear)
        }

        async fn cut(&mut self) {
            self.nodes.lock().unwrap().iter().for_each(|node| node.cut());
        }

        async fn mend(&mut self) {
            self.nodes.lock().unwrap().iter().for_each(|node| node.mend());
        }
    }

    crate::live_suite!(Joined);
}
