//! Which node has heard what of which other: somebody at each of them says something again and again, and listens.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tertulia_protocol::ClientSeq;
use tokio::sync::watch;
use tokio::time::Instant;

#[derive(Debug, Default)]
struct Sides {
    /// When each node's message was begun to be sent, as long as not all have heard it.
    said: Vec<HashMap<ClientSeq, Instant>>,
    /// By who hears and whom: when what he heard last was said.
    heard: Vec<Vec<Option<Instant>>>,
}

/// Told by those who speak and listen; asked by whoever wants to know whether all hear all.
#[derive(Debug)]
pub(crate) struct Echoes {
    sides: Mutex<Sides>,
    moves: watch::Sender<u64>,
}

/// More than this are never on their way: a speaker waits for his ack.
const SAID_MAX: usize = 1_024;

impl Echoes {
    pub(crate) fn new(nodes: usize) -> Self {
        let sides = Sides { said: vec![HashMap::new(); nodes], heard: vec![vec![None; nodes]; nodes] };
        Self { sides: Mutex::new(sides), moves: watch::Sender::new(0) }
    }

    /// For the first time this is sent at `node`.
    pub(crate) fn said(&self, node: usize, n: ClientSeq, at: Instant) {
        if let Some(said) = self.lock().said.get_mut(node) {
            if said.len() >= SAID_MAX {
                let oldest = said.iter().min_by_key(|(_, at)| **at).map(|(n, _)| *n);
                oldest.and_then(|oldest| said.remove(&oldest));
            }
            said.insert(n, at);
        }
    }

    /// What was sent at `from` is pushed at `node`.
    pub(crate) fn heard(&self, node: usize, from: usize, n: ClientSeq) {
        let mut sides = self.lock();
        let at = sides.said.get(from).and_then(|said| said.get(&n)).copied();
        if let Some(heard) = sides.heard.get_mut(node).and_then(|heard| heard.get_mut(from)) {
            *heard = (*heard).max(at);
        }
        drop(sides);
        self.moves.send_modify(|moves| *moves += 1);
    }

    /// Waits until each node has heard from all others something that was said after `since`.
    pub(crate) async fn all_hear(&self, since: Instant) {
        let mut moves = self.moves.subscribe();
        while self.silent(since).is_some() && moves.changed().await.is_ok() {}
    }

    /// A node that has not heard anything of another one that was said after `since`.
    pub(crate) fn silent(&self, since: Instant) -> Option<(usize, usize)> {
        let sides = self.lock();
        let mut pairs = sides
            .heard
            .iter()
            .enumerate()
            .flat_map(|(node, heard)| heard.iter().enumerate().map(move |(from, at)| (node, from, *at)));
        pairs
            .find(|(node, from, at)| node != from && at.is_none_or(|at| at < since))
            .map(|(node, from, _)| (node, from))
    }

    fn lock(&self) -> MutexGuard<'_, Sides> {
        self.sides.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_hear_when_each_has_heard_of_all_others_what_was_said_later() {
        let echoes = Echoes::new(2);
        let (old, new) = (ClientSeq::new(1), ClientSeq::new(2));
        let before = Instant::now();
        let since = before + std::time::Duration::from_secs(1);
        echoes.said(0, old, before);
        echoes.said(1, old, before);
        echoes.heard(1, 0, old);
        echoes.heard(0, 1, old);
        assert_eq!(echoes.silent(since), Some((0, 1)));
        echoes.said(0, new, since);
        echoes.heard(1, 0, new);
        assert_eq!(echoes.silent(since), Some((0, 1)));
        echoes.said(1, new, since);
        echoes.heard(0, 1, new);
        assert_eq!(echoes.silent(since), None);
        echoes.all_hear(since).await;
    }
}
