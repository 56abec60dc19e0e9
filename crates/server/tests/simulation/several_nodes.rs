//! Several nodes on one store: what one appends comes to the others by letters, which may be late, out of order, or
//! lost with the link; a node may die between a commit and its letters.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use tertulia_domain::hub::{Hub, Settings};
use tertulia_domain::log::{Commit, Intent, Position};
use tertulia_fabric::live::Topic;
use tertulia_protocol::{ConvoId, EntryKind, Seq, Timestamp, UserId};
use tertulia_server::cluster::letters::{self, Letter};
use tertulia_store::embedded::{Embedded, OpenOptions};
use tertulia_store::{Sharded, Store};

use crate::chance::Chance;
use crate::client::Stage;
use crate::crowd::{Crowd, Sender};
use crate::one_node::{Undelivered, repair};
use crate::truth::Truth;
use crate::{STEPS, settings};

const NODES: usize = 3;
/// How often everybody has his turn until there must be rest: for each page of what a flood brings, and more.
const ROUNDS_MAX: usize = 20_000;

/// What is on its way to a node.
enum Mail {
    Letter(Letter),
    /// The node's own, when everything below this position had been sent.
    Barrier(Position),
}

struct Node {
    hub: Hub,
    /// Committed, and not handed to the hub here.
    undelivered: VecDeque<Undelivered>,
    /// Handed over here, and not told to the others.
    unsent: VecDeque<Undelivered>,
    /// Conversations that it has subscribed to.
    hears: HashSet<ConvoId>,
    inbox: VecDeque<Mail>,
    /// Without it nothing comes, and nothing can be sent.
    is_linked: bool,
}

struct World {
    chance: Chance,
    store: Arc<dyn Store>,
    nodes: Vec<Node>,
    /// Of each client the node that it is connected to.
    homes: Vec<usize>,
    /// What dead nodes have appended and not told.
    left_over: Vec<Undelivered>,
    crowd: Crowd,
    truth: Truth,
    /// What each commit touched: as the journal of a store that nodes share.
    journal: Vec<(Commit, Vec<ConvoId>)>,
    now: i64,
}

/// Runs a seed, with a crowd on every node.
pub async fn run(seed: u64) {
    run_in_folder(seed, World::step).await;
}

/// Runs a seed with hardly anybody on each node: conversations come to a node and leave it all the time, with their members.
pub async fn run_sparse(seed: u64) {
    run_in_folder(seed, World::sparse_step).await;
}

async fn run_in_folder(seed: u64, next: impl AsyncFn(&mut World)) {
    let dir = tempfile::tempdir().unwrap();
    run_on(seed, Embedded::open(dir.path(), OpenOptions::default()).unwrap(), next).await;
}

/// Runs a seed on a store of two parts, one of which may be behind the other.
pub async fn run_on_two_parts(seed: u64) {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let open = |dir: &tempfile::TempDir| -> Arc<dyn Store> {
        Embedded::open(dir.path(), OpenOptions::default()).unwrap()
    };
    run_on(seed, Sharded::over(dirs.iter().map(open).collect()).await.unwrap(), World::step).await;
}

async fn run_on(seed: u64, store: Arc<dyn Store>, next: impl AsyncFn(&mut World)) {
    let (crowd, start) = (Crowd::new(), store.horizon().await.unwrap());
    let mut world = World {
        chance: Chance(seed),
        nodes: (0..NODES).map(|_| Node::start(&store, start)).collect(),
        homes: vec![0; crowd.clients.len()],
        left_over: Vec::new(),
        store,
        crowd,
        truth: Truth::default(),
        journal: Vec::new(),
        now: 1_800_000_000_000,
    };
    for step in 0..STEPS {
        next(&mut world).await;
        if step % 100 == 99 {
            world.settle_and_check().await;
        }
    }
    world.settle_and_check().await;
    world.truth.check_history(world.store.as_ref(), &world.crowd.users()).await;
}

impl Node {
    fn start(store: &Arc<dyn Store>, start: Position) -> Self {
        let (positions, parts) = (Arc::clone(store), Arc::clone(store));
        let position = Box::new(move |position| positions.position(position));
        let part_of = Box::new(move |convo| parts.part_of(convo));
        let hub = Hub::new(Settings { position, part_of, others_append: true, ..settings() }, start);
        Self {
            hub,
            undelivered: VecDeque::new(),
            unsent: VecDeque::new(),
            hears: HashSet::new(),
            inbox: VecDeque::new(),
            is_linked: true,
        }
    }
}

impl World {
    async fn step(&mut self) {
        self.now += 1;
        let node = self.chance.below(NODES);
        match self.chance.below(120) {
            0..22 => {
                let intents = self.crowd.intents(&mut self.chance, &self.truth, self.now);
                self.append(node, intents).await;
            }
            22..36 => self.deliver(node),
            36..48 => self.send(node),
            48..62 => self.receive(node),
            62..66 => {
                let parts = self.store.lanes().get();
                // A part that does not answer now tells nothing new.
                let away = parts > 1 && self.chance.one_in(3);
                let away = away.then(|| self.chance.below(parts));
                self.ask_barrier(node, away).await;
            }
            66..69 => self.hear(node).await,
            69..72 => repair(&self.nodes[node].hub, self.store.as_ref()).await,
            72..92 => {
                let client = self.chance.below(self.homes.len());
                self.advance(client).await;
            }
            92..101 => {
                let client = self.chance.below(self.homes.len());
                self.crowd.clients[client].read(&self.truth);
            }
            101..108 => {
                let client = self.chance.below(self.homes.len());
                self.connect(client, node).await;
            }
            108..113 => {
                let client = self.chance.below(self.homes.len());
                self.disconnect(client);
            }
            113 => {
                let intents = self.crowd.flood(&mut self.chance);
                self.append(node, intents).await;
            }
            114 | 115 => self.cut(node),
            116..118 => self.restore(node).await,
            118 => self.send_left_over(node).await,
            _ => {
                if self.chance.one_in(3) {
                    self.kill(node);
                }
            }
        }
    }

    /// As [`step`](Self::step), but everybody is in a hurry, and few stay.
    async fn sparse_step(&mut self) {
        self.now += 1;
        let node = self.chance.below(NODES);
        let client = self.chance.below(self.homes.len());
        match self.chance.below(100) {
            0..30 => {
                let intents = self.crowd.intents(&mut self.chance, &self.truth, self.now);
                self.append(node, intents).await;
                self.deliver(node);
                if self.chance.one_in(2) {
                    self.send(node);
                }
            }
            30..40 => self.send(node),
            40..56 => {
                while !self.nodes[node].inbox.is_empty() {
                    self.receive(node);
                }
            }
            56..60 => self.ask_barrier(node, None).await,
            60..64 => self.hear(node).await,
            64..66 => repair(&self.nodes[node].hub, self.store.as_ref()).await,
            66..82 => loop {
                self.crowd.clients[client].read(&self.truth);
                if !self.advance(client).await {
                    break;
                }
            },
            82..86 => {
                self.connect(client, node).await;
            }
            86..92 => self.disconnect(client),
            92 => self.cut(node),
            93..95 => self.restore(node).await,
            95..97 => self.send_left_over(node).await,
            97 => self.kill(node),
            _ => self.step().await,
        }
    }

    async fn append(&mut self, node: usize, intents: Vec<(Intent, Sender)>) {
        // Each lane by itself.
        let mut lanes = vec![(Vec::new(), Vec::new()); self.store.lanes().get()];
        for (intent, sender) in intents {
            let (intents, senders) = &mut lanes[self.store.lane_of(intent.convo())];
            intents.push(intent);
            senders.push(sender);
        }
        for (intents, senders) in lanes.into_iter().filter(|(intents, _)| !intents.is_empty()) {
            let batch = self.store.append(intents.clone(), Timestamp::from_millis(self.now)).await.unwrap();
            if let Some(commit) = batch.commit {
                self.journal.push((commit, intents.iter().map(Intent::convo).collect()));
            }
            self.truth.note(intents, &batch);
            self.nodes[node].undelivered.push_back(Undelivered { batch, senders });
        }
    }

    fn deliver(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        if let Some(undelivered) = node.undelivered.pop_front() {
            node.hub.deliver(undelivered.committed());
            node.unsent.push_back(undelivered);
        }
    }

    /// Tells the others what was handed over here.
    fn send(&mut self, node: usize) {
        if !self.nodes[node].is_linked {
            return;
        }
        let Some(unsent) = self.nodes[node].unsent.pop_front() else { return };
        let mut written = Vec::new();
        for outcome in &unsent.batch.outcomes {
            letters::write(outcome, true, |to, letter| written.push((to, letter.clone())));
        }
        for (to, letter) in written {
            self.post(Some(node), to, &letter);
        }
    }

    /// Puts a letter into the inbox of each node that hears it.
    fn post(&mut self, from: Option<usize>, to: Topic, letter: &Letter) {
        let homes = &self.homes;
        let is_at = |user: UserId, node: usize| {
            let clients = self.crowd.clients.iter().zip(homes);
            clients
                .into_iter()
                .any(|(client, home)| client.user == user && client.line.is_some() && *home == node)
        };
        for (number, node) in self.nodes.iter_mut().enumerate() {
            let hears = match to {
                Topic::Conversation(convo) => node.hears.contains(&convo),
                Topic::User(user) => is_at(user, number),
                _ => true,
            };
            if hears && node.is_linked && from != Some(number) {
                node.inbox.push_back(Mail::Letter(letter.clone()));
            }
        }
    }

    fn receive(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        match node.inbox.pop_front() {
            Some(Mail::Letter(letter)) => {
                letters::read(&node.hub, letter);
            }
            Some(Mail::Barrier(horizon)) => node.hub.caught_up(horizon),
            None => {}
        }
    }

    /// Everything below the oldest commit that was not told has been sent to whom it concerns.
    async fn ask_barrier(&mut self, node: usize, away: Option<usize>) {
        let mut horizon = self.store.horizon().await.unwrap();
        let nodes = self.nodes.iter().flat_map(|node| node.undelivered.iter().chain(&node.unsent));
        for commit in nodes.chain(&self.left_over).filter_map(|unsent| unsent.batch.commit) {
            if horizon.has(commit) {
                horizon.set(commit);
            }
        }
        if let Some(away) = away {
            horizon.set(self.nodes[node].hub.position().of_part(away));
        }
        if self.nodes[node].is_linked {
            self.nodes[node].inbox.push_back(Mail::Barrier(horizon));
        }
    }

    /// Subscribes to conversations that have come to the node.
    async fn hear(&mut self, node: usize) {
        for convo in self.nodes[node].hub.take_unheard() {
            self.nodes[node].hears.insert(convo);
            self.compare(node, convo);
        }
        let Node { hub, hears, .. } = &mut self.nodes[node];
        // Who is about to come in has said so by then.
        let coming: HashSet<ConvoId> = self
            .crowd
            .clients
            .iter()
            .zip(&self.homes)
            .filter(|(_, home)| **home == node)
            .filter_map(|(client, _)| match client.line.as_ref().map(|line| &line.stage) {
                Some(Stage::Attach(heads)) => Some(heads.iter().map(|head| head.convo)),
                _ => None,
            })
            .flatten()
            .collect();
        hears.retain(|convo| hub.is_here(*convo) || coming.contains(convo));
    }

    /// What was told before the node heard of a conversation is in the log.
    fn compare(&self, node: usize, convo: ConvoId) {
        let hub = &self.nodes[node].hub;
        let last = self.truth.log.get(&convo).and_then(|log| log.last_key_value());
        hub.has_come_to(convo, last.map_or(Seq::default(), |(seq, _)| *seq));
        hub.lacks_news(convo, None);
    }

    async fn advance(&mut self, client: usize) -> bool {
        let node = &mut self.nodes[self.homes[client]];
        let client = &mut self.crowd.clients[client];
        // A node subscribes before it reads what the reader missed.
        if let Some(Stage::Attach(heads)) = client.line.as_ref().map(|line| &line.stage) {
            node.hears.extend(heads.iter().map(|head| head.convo));
        }
        client.advance(&node.hub, self.store.as_ref()).await
    }

    async fn connect(&mut self, client: usize, node: usize) {
        if self.crowd.clients[client].line.is_none() {
            self.homes[client] = node;
            self.crowd.clients[client].connect(&self.nodes[node].hub, self.store.as_ref(), self.now).await;
        }
    }

    fn disconnect(&mut self, client: usize) {
        let reads = self.chance.one_in(2);
        let hub = &self.nodes[self.homes[client]].hub;
        let client = &mut self.crowd.clients[client];
        if reads {
            client.read(&self.truth);
        }
        if let Some(line) = client.line.take() {
            hub.unregister(&line.connection, Timestamp::from_millis(self.now));
        }
    }

    /// The link of a node breaks: what was on its way to it is lost.
    fn cut(&mut self, node: usize) {
        self.nodes[node].is_linked = false;
        self.nodes[node].inbox.clear();
    }

    /// The link stands again: what was missed is in the journal.
    async fn restore(&mut self, node: usize) {
        if self.nodes[node].is_linked {
            return;
        }
        self.nodes[node].is_linked = true;
        let since = self.nodes[node].hub.position();
        let mut touched: Vec<ConvoId> = self
            .journal
            .iter()
            .filter(|(commit, _)| !since.has(*commit))
            .flat_map(|(_, convos)| convos.iter().copied())
            .collect();
        touched.sort_unstable();
        touched.dedup();
        for convo in touched {
            let Some(log) = self.truth.log.get(&convo) else { continue };
            let node = &self.nodes[node];
            // Whom it lets in or puts out may be here, also by an entry that is past: somebody who came in before the
            // link broke has brought along a head.
            for (entry, commit) in log.values() {
                let changes_members = matches!(
                    entry.kind,
                    EntryKind::Created { .. }
                        | EntryKind::MemberAdded { .. }
                        | EntryKind::MemberRemoved { .. }
                );
                if changes_members && !since.has(*commit) {
                    letters::read(&node.hub, Letter::Entry(Arc::clone(entry), None));
                }
            }
            self.compare_since(node, convo, since);
        }
    }

    fn compare_since(&self, node: &Node, convo: ConvoId, since: Position) {
        let since = since.of_part(self.store.part_of(convo));
        let last = self.truth.log.get(&convo).and_then(|log| log.last_key_value());
        let last = last.map_or(Seq::default(), |(seq, _)| *seq);
        letters::read(&node.hub, Letter::Hint { convo, last, since: since.get() });
    }

    /// A node tells what a dead one did not.
    async fn send_left_over(&mut self, node: usize) {
        if !self.nodes[node].is_linked {
            return;
        }
        for Undelivered { batch, .. } in std::mem::take(&mut self.left_over) {
            for outcome in &batch.outcomes {
                let mut written = Vec::new();
                letters::write(outcome, true, |to, letter| written.push((to, letter.clone())));
                for (to, letter) in written {
                    self.post(None, to, &letter);
                }
            }
        }
    }

    /// A node dies, and another begins in its place.
    fn kill(&mut self, node: usize) {
        for (client, home) in self.crowd.clients.iter_mut().zip(&self.homes) {
            if *home == node {
                client.line = None;
            }
        }
        let positions = self.nodes.iter().map(|node| node.hub.position());
        let position = positions.reduce(|all, one| all.and(&one)).unwrap();
        let dead = std::mem::replace(&mut self.nodes[node], Node::start(&self.store, position));
        self.left_over.extend(dead.undelivered.into_iter().chain(dead.unsent));
    }

    /// Lets everything come to rest, and checks that every connected client has all it must have.
    async fn settle_and_check(&mut self) {
        for node in 0..NODES {
            self.restore(node).await;
            while !self.nodes[node].undelivered.is_empty() {
                self.deliver(node);
            }
        }
        for node in 0..NODES {
            while !self.nodes[node].unsent.is_empty() {
                self.send(node);
            }
        }
        self.send_left_over(0).await;
        for _ in 0..2 {
            for node in 0..NODES {
                while !self.nodes[node].inbox.is_empty() {
                    self.receive(node);
                }
            }
            self.come_to_rest().await;
            for node in 0..NODES {
                self.ask_barrier(node, None).await;
            }
        }
        for client in &self.crowd.clients {
            client.check(&self.truth);
        }
    }

    async fn come_to_rest(&mut self) {
        for round in 0.. {
            assert!(round < ROUNDS_MAX, "guarantee 5: some client never has all that it lacks");
            let mut busy = false;
            for node in 0..NODES {
                self.hear(node).await;
                while !self.nodes[node].hub.overdue().is_empty() {
                    repair(&self.nodes[node].hub, self.store.as_ref()).await;
                    busy = true;
                }
                repair(&self.nodes[node].hub, self.store.as_ref()).await;
            }
            for client in 0..self.homes.len() {
                self.crowd.clients[client].read(&self.truth);
                busy |= self.advance(client).await;
            }
            if !busy {
                break;
            }
        }
    }
}
