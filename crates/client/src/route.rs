//! Which of the nodes of a service a session speaks with.
//!
//! A node names the one that the session belongs to, and the others (`GET /api/gateway`). Any node serves any session, so
//! when one does not answer the next one is tried, and at last the address that the program was given.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tertulia_protocol::rest::Gateway;

use crate::server::Server;

/// Of so many nodes a session knows; more are never needed to find one that answers.
const NODES_MAX: usize = 8;

pub(crate) struct Route {
    /// What the program was given.
    given: Server,
    nodes: Mutex<Nodes>,
}

struct Nodes {
    /// In the order in which they are tried; never empty.
    all: Vec<Server>,
    at: usize,
}

impl Route {
    pub(crate) fn new(given: Server) -> Self {
        let nodes = Nodes { all: vec![given.clone()], at: 0 };
        Self { given, nodes: Mutex::new(nodes) }
    }

    /// The node that the session is with.
    pub(crate) fn current(&self) -> Server {
        self.lock().current(&self.given)
    }

    /// How many there are to try.
    pub(crate) fn len(&self) -> usize {
        self.lock().all.len()
    }

    /// A node does not answer: the session goes on to the next one, unless it has already. The node that it is with then.
    pub(crate) fn after(&self, failed: &Server) -> Server {
        let mut nodes = self.lock();
        if nodes.current(&self.given).is(failed) {
            nodes.at = (nodes.at + 1) % nodes.all.len();
        }
        nodes.current(&self.given)
    }

    /// What a node has said.
    pub(crate) fn take(&self, gateway: &Gateway) {
        let mut all = Vec::new();
        // A single node has nothing to say that is not known, and may be behind a proxy that it knows nothing of.
        if !gateway.others.is_empty() {
            let named = [&gateway.url].into_iter().chain(&gateway.others);
            all.extend(named.filter_map(|address| self.given.at(address)).take(NODES_MAX));
        }
        if !all.iter().any(|node| node.is(&self.given)) {
            all.push(self.given.clone());
        }
        *self.lock() = Nodes { all, at: 0 };
    }

    fn lock(&self) -> MutexGuard<'_, Nodes> {
        // Nothing under this lock leaves it half done.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nodes {
    fn current(&self, given: &Server) -> Server {
        self.all.get(self.at).unwrap_or(given).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(given: &str, url: &str, others: &[&str]) -> Vec<String> {
        let route = Route::new(Server::new(given).unwrap());
        let others = others.iter().copied().map(str::to_owned).collect();
        route.take(&Gateway { url: url.to_owned(), others });
        let mut order = Vec::new();
        let mut node = route.current();
        for _ in 0..route.len() {
            order.push(node.socket_url().to_owned());
            node = route.after(&node);
        }
        assert_eq!(node.socket_url(), order[0], "and then from the beginning");
        order
    }

    #[test]
    fn nodes_are_tried_as_they_are_named_and_at_last_the_given_address() {
        assert_eq!(
            route("http://given", "http://one", &["http://two/"]),
            ["ws://one/api/ws", "ws://two/api/ws", "ws://given/api/ws"]
        );
        assert_eq!(
            route("http://two/", "http://one", &["http://two"]),
            ["ws://one/api/ws", "ws://two/api/ws"]
        );
    }

    #[test]
    fn a_single_node_is_where_it_was_found() {
        assert_eq!(route("http://given", "http://inside:8080", &[]), ["ws://given/api/ws"]);
    }

    #[test]
    fn what_is_no_address_or_less_safe_is_passed_over() {
        assert_eq!(
            route("http://given", "ftp://one", &["", "http://two"]),
            ["ws://two/api/ws", "ws://given/api/ws"]
        );
        #[cfg(feature = "tls")]
        assert_eq!(
            route("https://given", "http://one", &["https://two"]),
            ["wss://two/api/ws", "wss://given/api/ws"]
        );
    }

    #[test]
    fn of_many_who_find_a_node_gone_one_moves_on() {
        let route = Route::new(Server::new("http://given").unwrap());
        route.take(&Gateway { url: "http://one".into(), others: vec!["http://two".into()] });
        let one = route.current();
        let two = route.after(&one);
        assert!(route.after(&one).is(&two) && route.current().is(&two));
    }
}
