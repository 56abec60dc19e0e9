//! The port [`Nodes`]: which nodes there are, and which of them a session belongs to.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tertulia_domain::rendezvous::draw;

use crate::{ClusterError, NodeId};

/// How loaded a node is at most: all that it was made for.
pub const LOAD_MAX: u16 = 1_000;

/// What a node says of itself to the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Where clients reach it.
    pub url: String,
    /// How much of what it was made for it carries, in thousandths: 0 … [`LOAD_MAX`].
    pub load: u16,
    /// Whether it sends its sessions away, and wants no new ones.
    pub draining: bool,
    /// Whether it does not reach the store: it keeps its sessions, and is good for no new ones.
    #[serde(default)]
    pub cut_off: bool,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Which.
    pub id: NodeId,
    /// What it says of itself.
    #[serde(flatten)]
    pub description: Description,
}

/// The nodes of a cluster. A node is one of them for as long as its lease lives.
#[async_trait]
pub trait Nodes: Send + Sync + 'static {
    /// What this node is called.
    fn id(&self) -> NodeId;

    /// Says something else of this node. The others hear it soon.
    fn describe(&self, description: Description);

    /// All nodes, this one among them, by their ids; what it tells of the others may be a second old.
    ///
    /// # Errors
    /// Nobody can tell now.
    async fn nodes(&self) -> Result<Vec<NodeInfo>, ClusterError>;
}

/// The nodes in the order in which a session goes to them: first the one that it belongs to, then where it goes when that
/// one is gone, and so on. The same for whoever asks while the nodes stay the same, so that a session which comes back finds
/// what its node still knows of it. Any node serves any session all the same.
///
/// Rendezvous hashing, weighted by what a node has left: a node that comes takes its share from all others, the
/// sessions of one that goes are spread over all others, and no other session moves. Draining nodes get none. Those that are
/// cut off from the store come last: they may be back soon, and when all of them are cut off nothing else is known.
pub fn order_for<'n>(session: &[u8], nodes: &'n [NodeInfo]) -> Vec<&'n NodeInfo> {
    let willing = nodes.iter().filter(|node| !node.description.draining);
    let mut scored: Vec<_> = willing.map(|node| (score(session, node), node)).collect();
    // Two scores are only ever the same for one node that is there twice.
    scored.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    scored.sort_by_key(|(_, node)| node.description.cut_off);
    scored.into_iter().map(|(_, node)| node).collect()
}

/// -weight / ln(u), with u drawn evenly from 0 to 1 by a hash: so a node has the greatest score as often as its weight is
/// in the sum of all.
fn score(session: &[u8], node: &NodeInfo) -> f64 {
    // 53 bits, as many as a float holds, and never 0 or 1.
    let drawn = ((draw(node.id.as_bytes(), session) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -weight(&node.description) / drawn.ln()
}

/// What a node has left; never nothing, since sessions have to go somewhere.
fn weight(description: &Description) -> f64 {
    let left = LOAD_MAX - description.load.min(LOAD_MAX);
    f64::from(left.max(LOAD_MAX / 50)) / f64::from(LOAD_MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const SESSIONS: u32 = 10_000;

    fn node(number: u8, load: u16) -> NodeInfo {
        let description = Description { url: format!("http://{number}"), load, ..Description::default() };
        NodeInfo { id: NodeId::from_bytes([number; 16]), description }
    }

    fn places(nodes: &[NodeInfo]) -> Vec<Option<NodeId>> {
        (0..SESSIONS)
            .map(|session| order_for(&session.to_be_bytes(), nodes).first().map(|node| node.id))
            .collect()
    }

    fn shares(nodes: &[NodeInfo]) -> Vec<f64> {
        let mut counts = HashMap::new();
        for place in places(nodes).into_iter().flatten() {
            *counts.entry(place).or_insert(0) += 1;
        }
        let share =
            |node: &NodeInfo| f64::from(counts.get(&node.id).copied().unwrap_or(0)) / f64::from(SESSIONS);
        nodes.iter().map(share).collect()
    }

    #[track_caller]
    fn check(nodes: &[NodeInfo], expected: &[f64]) {
        let shares = shares(nodes);
        let is_near = shares.iter().zip(expected).all(|(share, expected)| (share - expected).abs() < 0.02);
        assert!(is_near, "{shares:?} instead of {expected:?}");
    }

    #[test]
    fn sessions_are_spread_by_what_nodes_have_left() {
        check(&[node(1, 0), node(2, 0), node(3, 0)], &[1.0 / 3.0; 3]);
        check(&[node(1, 500), node(2, 0)], &[1.0 / 3.0, 2.0 / 3.0]);
        check(&[node(1, 900), node(2, 600), node(3, 500)], &[0.1, 0.4, 0.5]);
        check(&[node(1, 1_000), node(2, 60_000)], &[0.5, 0.5]);
        check(&[node(1, 1_000), node(2, 0)], &[0.02, 0.98]);
    }

    #[test]
    fn a_draining_node_gets_none() {
        let mut nodes = [node(1, 0), node(2, 0), node(3, 0)];
        nodes[1].description.draining = true;
        check(&nodes, &[0.5, 0.0, 0.5]);
        nodes.iter_mut().for_each(|node| node.description.draining = true);
        assert!(order_for(b"s", &nodes).is_empty());
        assert!(order_for(b"s", &[]).is_empty());
    }

    #[test]
    fn a_node_that_is_cut_off_comes_last_and_when_all_are_it_is_as_if_none_were() {
        let all = [node(1, 0), node(2, 0), node(3, 0)];
        let cut_off = |numbers: &[usize]| {
            let mut nodes = all.clone();
            numbers.iter().for_each(|number| nodes[*number].description.cut_off = true);
            nodes
        };
        check(&cut_off(&[0]), &[0.0, 0.5, 0.5]);
        check(&cut_off(&[0, 1]), &[0.0, 0.0, 1.0]);
        assert_eq!(places(&cut_off(&[0, 1, 2])), places(&all));
        for session in 0..100_u32 {
            let nodes = cut_off(&[1]);
            let order = order_for(&session.to_be_bytes(), &nodes);
            assert_eq!((order.len(), order[2].id), (3, all[1].id));
        }
    }

    #[test]
    fn a_node_that_comes_takes_its_share_and_nothing_else_moves() {
        let all: Vec<_> = (1..=4).map(|number| node(number, 0)).collect();
        let (before, after) = (places(&all[..3]), places(&all));
        let moved: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
        assert!(moved.iter().all(|(_, after)| **after == Some(all[3].id)));
        assert!((f64::from(SESSIONS) * 0.25 - moved.len() as f64).abs() < 250.0, "{}", moved.len());
    }

    #[test]
    fn the_sessions_of_a_node_that_goes_are_spread_and_nothing_else_moves() {
        let all: Vec<_> = (1..=4).map(|number| node(number, 0)).collect();
        let (before, after) = (places(&all), places(&all[1..]));
        for (before, after) in before.iter().zip(&after) {
            assert!(before == after || *before == Some(all[0].id));
        }
        check(&all[1..], &[1.0 / 3.0; 3]);
    }

    #[test]
    fn who_finds_his_node_gone_goes_to_the_one_that_is_his_then() {
        let all: Vec<_> = (1..=5).map(|number| node(number, u16::from(number) * 100)).collect();
        for session in 0..100_u32 {
            let mut left = all.clone();
            for next in order_for(&session.to_be_bytes(), &all) {
                assert_eq!(order_for(&session.to_be_bytes(), &left)[0], next);
                left.retain(|node| node != next);
            }
            assert!(left.is_empty());
        }
    }

    #[test]
    fn the_order_of_nodes_is_of_no_matter_and_places_are_the_same_in_every_version() {
        let mut nodes = vec![node(1, 0), node(2, 100), node(3, 200)];
        let before = places(&nodes);
        nodes.reverse();
        assert_eq!(places(&nodes), before);
        let place =
            |session: &[u8]| order_for(session, &nodes).first().map(|node| node.description.url.as_str());
        assert_eq!(
            [place(b"ana"), place(b"bo"), place(b"eve")],
            ["http://1", "http://1", "http://2"].map(Some)
        );
    }

    #[test]
    fn a_description_is_read_by_nodes_of_other_versions() {
        let node = node(7, 12);
        let written = serde_json::to_string(&node).unwrap();
        let id = "07".repeat(16);
        let older = format!(r#"{{"id":"{id}","url":"http://7","load":12,"draining":false}}"#);
        assert_eq!(written, older.replace("}", r#","cut_off":false}"#));
        assert_eq!(serde_json::from_str::<NodeInfo>(&older).unwrap(), node);
        let newer = written.replace("}", r#","region":"eu"}"#);
        assert_eq!(serde_json::from_str::<NodeInfo>(&newer).unwrap(), node);
    }
}
