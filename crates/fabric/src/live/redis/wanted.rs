//! What a node wants to hear, and how far each link is with asking for it. No I/O.
//!
//! The set of wanted topics is the truth; a link asks for whatever changed in it since it asked last. Changes are
//! gathered while an earlier round is under way, so ten thousand calls at once cost a few rounds, and a topic that is
//! subscribed and unsubscribed in between costs nothing. A link that comes back begins with all of them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tertulia_protocol::id::IdHash;

use crate::live::Topic;
use crate::redis::{Address, Topology};

/// How many barriers may be under way; of more the oldest are let go: a later one stands for them.
const BARRIERS_MAX: usize = 64;

#[derive(Default)]
pub(super) struct Wanted {
    topics: HashSet<Topic, IdHash>,
    links: HashMap<Address, Link>,
    topology: Option<Arc<Topology>>,
    prefix: Arc<[u8]>,
    /// Topics that a server has given up, or never had: asked for again when the map has been looked at.
    lost: Vec<Topic>,
    /// Barriers under way, oldest first: the token, and how many links have not passed it.
    barriers: VecDeque<(u64, usize)>,
    /// Counts the connections of all links.
    connections: u64,
}

/// How far a link is.
#[derive(Default)]
struct Link {
    /// The connection that it has.
    connection: Option<u64>,
    /// Moves whenever what was asked for may be forgotten.
    epoch: u64,
    /// What has changed and was not asked for yet. A topic may be there twice.
    changed: VecDeque<Topic>,
    /// Rounds that were begun: a round ends when nothing that has changed is left.
    begun: u64,
    /// The round that somebody waits for.
    awaited: u64,
    /// The last round that the server has confirmed.
    confirmed: u64,
    /// The round after which everything is subscribed again.
    whole_after: u64,
    /// Barriers that were not asked for yet.
    barriers: Vec<u64>,
}

/// What a link asks for next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Round {
    pub(super) subscribe: Vec<Topic>,
    pub(super) unsubscribe: Vec<Topic>,
    /// Confirmed when all of these are, if the round ends with them.
    pub(super) ends: Option<u64>,
    pub(super) barriers: Vec<u64>,
}

/// What a subscriber waits for: each of these links, in this connection, has this round confirmed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ticket(Vec<(Address, u64, u64)>);

/// How a [`Ticket`] stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Waiting,
    Done,
    Broken,
}

impl Link {
    const fn is_up(&self) -> bool {
        self.connection.is_some()
    }

    const fn is_whole(&self) -> bool {
        self.is_up() && self.confirmed >= self.whole_after
    }

    /// The round that will have everything that has changed until now.
    fn next_round(&mut self) -> u64 {
        self.awaited = self.begun + 1;
        self.awaited
    }

    fn has_work(&self) -> bool {
        !self.changed.is_empty() || self.awaited > self.begun || !self.barriers.is_empty()
    }
}

impl Wanted {
    pub(super) fn new(prefix: Arc<[u8]>) -> Self {
        Self { prefix, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }

    /// What a topic is called on the servers.
    fn channel(prefix: &[u8], topic: &Topic) -> Vec<u8> {
        [prefix, &topic.key()].concat()
    }

    fn server_of<'t>(topology: &'t Topology, prefix: &[u8], topic: &Topic) -> Option<&'t Address> {
        if topology.is_cluster() {
            topology.server_of(&Self::channel(prefix, topic))
        } else {
            topology.servers().first()
        }
    }

    /// Wants topics. `None` if that has to wait for a link.
    pub(super) fn want(&mut self, topics: &[Topic]) -> Option<Ticket> {
        self.topics.extend(topics);
        let (ticket, all_up) = self.change(topics);
        all_up.then_some(ticket)
    }

    /// Does not want topics any more.
    pub(super) fn leave(&mut self, topics: &[Topic]) {
        topics.iter().for_each(|topic| {
            self.topics.remove(topic);
        });
        // A link that is down has forgotten them by itself.
        self.change(topics);
    }

    /// Notes that topics have changed with the links that have them, and whether all of those are up.
    fn change(&mut self, topics: &[Topic]) -> (Ticket, bool) {
        let Self { links, topology, prefix, .. } = self;
        let Some(topology) = topology else { return (Ticket(Vec::new()), false) };
        let mut touched: HashSet<&Address> = HashSet::new();
        let mut all_up = true;
        for topic in topics {
            let server = Self::server_of(topology, prefix, topic);
            let link = server.and_then(|server| Some((server, links.get_mut(server)?)));
            match link.filter(|(_, link)| link.is_up()) {
                Some((server, link)) => {
                    link.changed.push_back(*topic);
                    touched.insert(server);
                }
                None => all_up = false,
            }
        }
        let rounds = touched.into_iter().filter_map(|server| {
            let link = links.get_mut(server)?;
            Some((server.clone(), link.epoch, link.next_round()))
        });
        (Ticket(rounds.collect()), all_up)
    }

    /// How what somebody waits for stands.
    pub(super) fn standing(&self, ticket: &Ticket) -> Standing {
        let mut standing = Standing::Done;
        for (server, epoch, round) in &ticket.0 {
            match self.links.get(server) {
                Some(link) if link.epoch == *epoch && link.confirmed >= *round => {}
                Some(link) if link.epoch == *epoch => standing = Standing::Waiting,
                _ => return Standing::Broken,
            }
        }
        standing
    }

    /// Takes over a map. Returns the servers that a link is needed to, and those to which none is any more.
    pub(super) fn set_topology(&mut self, topology: &Arc<Topology>) -> (Vec<Address>, Vec<Address>) {
        let before = self.topology.replace(Arc::clone(topology));
        let servers = topology.servers();
        let gone: Vec<Address> =
            self.links.keys().filter(|known| !servers.contains(known)).cloned().collect();
        gone.iter().for_each(|server| {
            self.links.remove(server);
        });
        let new: Vec<Address> =
            servers.iter().filter(|server| !self.links.contains_key(server)).cloned().collect();
        for server in &new {
            self.links.insert(server.clone(), Link::default());
        }
        let mut moved = std::mem::take(&mut self.lost);
        if let Some(before) = before.filter(|before| before != topology) {
            self.forget_barriers();
            let prefix = &self.prefix;
            let has_moved = |topic: &&Topic| {
                Self::server_of(&before, prefix, topic) != Self::server_of(topology, prefix, topic)
            };
            moved.extend(self.topics.iter().filter(has_moved));
        }
        // What is not wanted any more is asked for as such, which does no harm; and where the link is down, all of
        // its topics are asked for when it is up.
        let (ticket, _) = self.change(&moved);
        for (server, _, round) in ticket.0 {
            if let Some(link) = self.links.get_mut(&server) {
                link.whole_after = link.whole_after.max(round);
            }
        }
        (new, gone)
    }

    /// A link has a connection; returns which.
    pub(super) fn is_up(&mut self, server: &Address) -> u64 {
        let Self { topics, links, topology, prefix, connections, .. } = self;
        *connections += 1;
        let (Some(link), Some(topology)) = (links.get_mut(server), topology) else { return *connections };
        link.connection = Some(*connections);
        link.epoch += 1;
        let here = |topic: &&Topic| Self::server_of(topology, prefix, topic) == Some(server);
        link.changed = topics.iter().filter(here).copied().collect();
        link.whole_after = link.next_round();
        *connections
    }

    /// A connection is broken, or its link is not needed any more; there may be another one to the same server by now.
    pub(super) fn is_down(&mut self, server: &Address, connection: u64) {
        self.forget_barriers();
        let link = self.links.get_mut(server).filter(|link| link.connection == Some(connection));
        let Some(link) = link else { return };
        link.connection = None;
        link.epoch += 1;
        link.changed = VecDeque::new();
        link.confirmed = link.begun;
        link.awaited = link.begun;
    }

    /// What a link asks for next, of at most so many topics; `None` if there is nothing.
    pub(super) fn round(&mut self, server: &Address, max: usize) -> Option<Round> {
        let Self { topics, links, .. } = self;
        let link = links.get_mut(server).filter(|link| link.is_up() && link.has_work())?;
        let mut round = Round { barriers: std::mem::take(&mut link.barriers), ..Round::default() };
        let count = link.changed.len().min(max);
        for topic in link.changed.drain(..count) {
            let list = if topics.contains(&topic) { &mut round.subscribe } else { &mut round.unsubscribe };
            list.push(topic);
        }
        if link.changed.is_empty() {
            // It was as long as everything that is wanted.
            link.changed.shrink_to(1_024);
            if count > 0 || link.awaited > link.begun {
                link.begun += 1;
                round.ends = Some(link.begun);
            }
        }
        Some(round)
    }

    /// A server has confirmed a round.
    pub(super) fn confirmed(&mut self, server: &Address, round: u64) {
        if let Some(link) = self.links.get_mut(server) {
            link.confirmed = round;
        }
    }

    /// A server has given up a topic; returns whether anybody wants it.
    pub(super) fn lost(&mut self, topic: Topic) -> bool {
        let is_wanted = self.topics.contains(&topic);
        self.lost.extend(is_wanted.then_some(topic));
        is_wanted
    }

    /// A server does not take these topics: whoever waits for a round of this link does not know whether they are his.
    pub(super) fn refused(&mut self, server: &Address, topics: Vec<Topic>) {
        self.forget_barriers();
        if let Some(link) = self.links.get_mut(server) {
            link.epoch += 1;
        }
        self.lost.extend(topics);
    }

    /// Whether everything that is wanted is subscribed.
    pub(super) fn is_whole(&self) -> bool {
        let Some(topology) = &self.topology else { return false };
        let is_whole = |server| self.links.get(server).is_some_and(Link::is_whole);
        self.lost.is_empty() && topology.servers().iter().all(is_whole)
    }

    /// Sends a barrier over all links.
    pub(super) fn barrier(&mut self, token: u64) {
        if !self.is_whole() {
            return;
        }
        if self.barriers.len() == BARRIERS_MAX {
            self.barriers.pop_front();
        }
        self.barriers.push_back((token, self.links.len()));
        for link in self.links.values_mut() {
            if link.barriers.len() == BARRIERS_MAX {
                link.barriers.remove(0);
            }
            link.barriers.push(token);
        }
    }

    fn forget_barriers(&mut self) {
        self.barriers.clear();
        self.links.values_mut().for_each(|link| link.barriers.clear());
    }

    /// A barrier has come back over one link; returns whether it has over all.
    pub(super) fn passed(&mut self, token: u64) -> bool {
        let Some(at) = self.barriers.iter().position(|(known, _)| *known == token) else { return false };
        self.barriers[at].1 -= 1;
        let has_passed = self.barriers[at].1 == 0;
        if has_passed {
            // Those before it say nothing that it does not.
            self.barriers.drain(..=at);
        }
        has_passed
    }
}

#[cfg(test)]
mod tests {
    use tertulia_protocol::ConvoId;

    use super::*;
    use crate::redis::Reply;

    const MAX: usize = 1_000;

    fn server(port: u16) -> Address {
        Address { host: "a".into(), port }
    }

    fn topic(number: u8) -> Topic {
        Topic::Conversation(ConvoId::from_bytes([number; 16]))
    }

    fn single() -> Arc<Topology> {
        Arc::new(Topology::single(server(1)))
    }

    /// A cluster whose first server has all slots below this one.
    fn cluster(border: i64) -> Arc<Topology> {
        let range = |first, last, port| {
            let master = Reply::List(vec![Reply::Text("a".into()), Reply::Integer(port)]);
            Reply::List(vec![Reply::Integer(first), Reply::Integer(last), master])
        };
        let answer = Reply::List(vec![range(0, border - 1, 1), range(border, 16_383, 2)]);
        Arc::new(Topology::of_cluster(&answer, &server(1)).unwrap())
    }

    impl Wanted {
        fn goes_down(&mut self, server: &Address) {
            let connection = self.links[server].connection.unwrap();
            self.is_down(server, connection);
        }
    }

    /// One that is up and has nothing to do.
    fn up(topology: &Arc<Topology>) -> Wanted {
        let mut wanted = Wanted::new(Arc::from(&b"t:"[..]));
        assert!(!wanted.is_whole());
        wanted.set_topology(topology);
        for server in topology.servers() {
            assert!(!wanted.is_whole());
            wanted.is_up(server);
            confirm_all(&mut wanted, server);
        }
        assert!(wanted.is_whole());
        wanted
    }

    /// Lets a server confirm all that it is asked; returns the topics.
    fn confirm_all(wanted: &mut Wanted, server: &Address) -> (Vec<Topic>, Vec<Topic>) {
        let mut asked = (Vec::new(), Vec::new());
        while let Some(round) = wanted.round(server, MAX) {
            asked.0.extend(round.subscribe);
            asked.1.extend(round.unsubscribe);
            if let Some(ends) = round.ends {
                wanted.confirmed(server, ends);
            }
        }
        asked
    }

    #[test]
    fn a_subscriber_waits_for_the_round_that_has_his_topics() {
        let mut wanted = up(&single());
        let first = wanted.want(&[topic(1)]).unwrap();
        let round = wanted.round(&server(1), MAX).unwrap();
        assert_eq!((round.subscribe, round.unsubscribe), (vec![topic(1)], vec![]));
        // The round is under way: who comes now waits for the next one.
        let second = wanted.want(&[topic(2), topic(1)]).unwrap();
        wanted.confirmed(&server(1), round.ends.unwrap());
        assert_eq!((wanted.standing(&first), wanted.standing(&second)), (Standing::Done, Standing::Waiting));
        assert_eq!(confirm_all(&mut wanted, &server(1)).0, [topic(2), topic(1)]);
        assert_eq!(wanted.standing(&second), Standing::Done);
        assert_eq!(wanted.round(&server(1), MAX), None);
    }

    #[test]
    fn long_rounds_are_asked_in_pieces_and_end_with_the_last() {
        let mut wanted = up(&single());
        let topics: Vec<_> = (0..5).map(topic).collect();
        let ticket = wanted.want(&topics).unwrap();
        let pieces: Vec<_> = std::iter::from_fn(|| wanted.round(&server(1), 2)).collect();
        let lengths: Vec<_> =
            pieces.iter().map(|piece| (piece.subscribe.len(), piece.ends.is_some())).collect();
        assert_eq!(lengths, [(2, false), (2, false), (1, true)]);
        assert_eq!(wanted.standing(&ticket), Standing::Waiting);
        wanted.confirmed(&server(1), pieces[2].ends.unwrap());
        assert_eq!(wanted.standing(&ticket), Standing::Done);
    }

    #[test]
    fn what_is_asked_is_what_is_wanted_when_it_is_asked() {
        let mut wanted = up(&single());
        wanted.want(&[topic(1), topic(2)]);
        wanted.leave(&[topic(1)]);
        assert_eq!(
            confirm_all(&mut wanted, &server(1)),
            (vec![topic(2)], vec![topic(1), topic(1)]),
            "a server that does not have a topic is asked to give it up, which it does"
        );
        wanted.leave(&[topic(2)]);
        wanted.want(&[topic(2)]);
        assert_eq!(confirm_all(&mut wanted, &server(1)), (vec![topic(2), topic(2)], vec![]));
    }

    #[test]
    fn a_link_that_comes_back_begins_with_all_topics() {
        let mut wanted = up(&single());
        wanted.want(&[topic(1), topic(2)]);
        confirm_all(&mut wanted, &server(1));
        let under_way = wanted.want(&[topic(3)]).unwrap();
        wanted.goes_down(&server(1));
        assert!(!wanted.is_whole());
        assert_eq!(wanted.standing(&under_way), Standing::Broken);
        assert_eq!(wanted.want(&[topic(4)]), None);
        wanted.leave(&[topic(1)]);
        assert_eq!(wanted.round(&server(1), MAX), None);
        wanted.is_up(&server(1));
        assert!(!wanted.is_whole());
        let (mut asked, _) = confirm_all(&mut wanted, &server(1));
        asked.sort();
        assert_eq!(asked, [2, 3, 4].map(topic));
        assert!(wanted.is_whole());
        assert_eq!(wanted.standing(&under_way), Standing::Broken, "whatever comes later");
    }

    #[test]
    fn the_end_of_an_older_connection_changes_nothing() {
        let mut wanted = up(&single());
        let older = wanted.links[&server(1)].connection.unwrap();
        wanted.is_up(&server(1));
        confirm_all(&mut wanted, &server(1));
        wanted.is_down(&server(1), older);
        assert!(wanted.is_whole());
    }

    #[test]
    fn each_server_of_a_cluster_is_asked_for_its_own() {
        let topology = cluster(8_000);
        let mut wanted = up(&topology);
        let topics: Vec<_> = (0..100).map(topic).collect();
        let ticket = wanted.want(&topics).unwrap();
        let (first, _) = confirm_all(&mut wanted, &server(1));
        assert_eq!(wanted.standing(&ticket), Standing::Waiting);
        let (second, _) = confirm_all(&mut wanted, &server(2));
        assert_eq!(wanted.standing(&ticket), Standing::Done);
        assert!(!first.is_empty() && !second.is_empty() && first.len() + second.len() == topics.len());
        for (port, topics) in [(1, &first), (2, &second)] {
            let channel = |topic: &Topic| Wanted::channel(b"t:", topic);
            assert!(topics.iter().all(|topic| topology.server_of(&channel(topic)) == Some(&server(port))));
        }
        // One that breaks leaves the other as it is.
        wanted.goes_down(&server(1));
        assert_eq!(wanted.want(&topics), None);
        assert_eq!(confirm_all(&mut wanted, &server(2)).0.len(), second.len());
        wanted.is_up(&server(1));
        assert_eq!(confirm_all(&mut wanted, &server(1)).0.len(), first.len());
        assert!(wanted.is_whole());
    }

    #[test]
    fn topics_whose_slot_has_moved_are_asked_of_the_other_server() {
        let mut wanted = up(&cluster(4_000));
        let topics: Vec<_> = (0..100).map(topic).collect();
        wanted.want(&topics);
        let (first, _) = confirm_all(&mut wanted, &server(1));
        confirm_all(&mut wanted, &server(2));
        assert_eq!(wanted.set_topology(&cluster(12_000)), (vec![], vec![]));
        assert!(!wanted.is_whole());
        let (moved, _) = confirm_all(&mut wanted, &server(1));
        assert!(!moved.is_empty() && moved.iter().all(|topic| !first.contains(topic)));
        assert_eq!(wanted.round(&server(2), MAX), None);
        assert!(wanted.is_whole());
    }

    #[test]
    fn a_server_that_comes_or_goes_is_said() {
        let mut wanted = up(&cluster(4_000));
        assert_eq!(wanted.set_topology(&single()), (vec![], vec![server(2)]));
        assert_eq!(wanted.set_topology(&cluster(4_000)), (vec![server(2)], vec![]));
        assert!(!wanted.is_whole());
    }

    #[test]
    fn a_refused_topic_breaks_the_round_and_is_asked_for_when_the_map_was_looked_at() {
        let mut wanted = up(&single());
        let ticket = wanted.want(&[topic(1), topic(2)]).unwrap();
        let round = wanted.round(&server(1), MAX).unwrap();
        wanted.refused(&server(1), vec![topic(1)]);
        wanted.confirmed(&server(1), round.ends.unwrap());
        assert_eq!(wanted.standing(&ticket), Standing::Broken);
        assert!(!wanted.is_whole());
        wanted.set_topology(&single());
        assert!(!wanted.is_whole(), "not before the server has it");
        assert_eq!(confirm_all(&mut wanted, &server(1)).0, [topic(1)]);
        assert!(wanted.is_whole());
    }

    #[test]
    fn a_topic_that_a_server_gives_up_is_lost_if_it_is_wanted() {
        let mut wanted = up(&single());
        wanted.want(&[topic(1)]);
        confirm_all(&mut wanted, &server(1));
        assert!(!wanted.lost(topic(2)));
        assert!(wanted.is_whole());
        assert!(wanted.lost(topic(1)));
        assert!(!wanted.is_whole());
        wanted.set_topology(&single());
        assert_eq!(confirm_all(&mut wanted, &server(1)).0, [topic(1)]);
        assert!(wanted.is_whole());
    }

    #[test]
    fn a_barrier_has_passed_when_it_has_over_all_links() {
        let mut wanted = up(&cluster(8_000));
        wanted.barrier(1);
        wanted.barrier(2);
        for port in [1, 2] {
            assert_eq!(wanted.round(&server(port), MAX).unwrap().barriers, [1, 2]);
        }
        assert!(!wanted.passed(1) && !wanted.passed(2));
        assert!(wanted.passed(2), "it has over both");
        assert!(!wanted.passed(1), "the later one has spoken for it");
    }

    #[test]
    fn a_barrier_does_not_survive_a_break() {
        let mut wanted = up(&cluster(8_000));
        wanted.barrier(1);
        wanted.round(&server(1), MAX);
        wanted.goes_down(&server(2));
        wanted.barrier(2);
        assert!(!wanted.passed(1));
        wanted.is_up(&server(2));
        confirm_all(&mut wanted, &server(2));
        assert!(wanted.is_whole() && !wanted.passed(1));
        assert_eq!(wanted.round(&server(1), MAX), None, "nothing is left of them");
    }

    #[test]
    fn barriers_that_never_pass_take_no_memory() {
        let mut wanted = up(&single());
        (0..10_000).for_each(|token| wanted.barrier(token));
        assert!(wanted.barriers.len() <= BARRIERS_MAX);
        assert!(wanted.round(&server(1), MAX).unwrap().barriers.len() <= BARRIERS_MAX);
        assert!(wanted.passed(9_999));
    }
}
