//! One node: what it has appended comes to its hub some time later, and the process may die in between.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use tertulia_domain::hub::{Committed, Hole, Hub, Origin, Settings};
use tertulia_domain::log::{Intent, Outcome, Position};
use tertulia_protocol::Timestamp;
use tertulia_store::embedded::{Embedded, OpenOptions};
use tertulia_store::{Batch, Store};

use crate::chance::Chance;
use crate::crowd::{Crowd, Sender};
use crate::truth::Truth;
use crate::{STEPS, settings};

/// A batch that is durable, but has not come to the hub.
pub struct Undelivered {
    pub batch: Batch,
    pub senders: Vec<Sender>,
}

impl Undelivered {
    /// For the hub.
    pub fn committed(&self) -> impl Iterator<Item = Committed<'_>> {
        self.batch.outcomes.iter().zip(&self.senders).map(|(outcome, sender)| Committed {
            outcome,
            origin: sender.as_ref().map(|(connection, convo, client_seq)| Origin {
                connection,
                convo: *convo,
                client_seq: Some(*client_seq),
            }),
            shows_read: true,
        })
    }
}

/// Reads what did not come to a hub, as when somebody brought along an older head.
pub async fn repair(hub: &Hub, store: &dyn Store) {
    for Hole { convo, from, last } in hub.overdue() {
        let limit = last.get() + 1 - from.get();
        for (entry, _) in store.entries(convo, from, limit as usize).await.unwrap() {
            let outcome = Outcome::Appended { entry, shared: None };
            hub.deliver([Committed { outcome: &outcome, origin: None, shows_read: true }]);
        }
    }
    for (user, convo) in hub.doubts() {
        let position = hub.position();
        if store.conversation(user, convo).await.unwrap().is_some() {
            hub.resolve(user, convo, true);
        } else if store.changes(user, position, Some(convo)).await.unwrap().is_empty() {
            hub.resolve(user, convo, false);
        }
    }
}

struct World {
    chance: Chance,
    dir: tempfile::TempDir,
    store: Option<Arc<Embedded>>,
    hub: Hub,
    crowd: Crowd,
    truth: Truth,
    undelivered: VecDeque<Undelivered>,
    now: i64,
}

/// Runs a seed.
pub async fn run(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut world = World {
        chance: Chance(seed),
        dir,
        hub: hub(&store).await,
        store: Some(store),
        crowd: Crowd::new(),
        truth: Truth::default(),
        undelivered: VecDeque::new(),
        now: 1_800_000_000_000,
    };
    for step in 0..STEPS {
        world.step().await;
        if step % 100 == 99 {
            world.settle_and_check().await;
        }
    }
    world.settle_and_check().await;
    world.crash().await;
    world.truth.check_history(world.store().as_ref(), &world.crowd.users()).await;
}

fn open(dir: &Path) -> Arc<Embedded> {
    Embedded::open(dir, OpenOptions::default()).unwrap()
}

async fn hub(store: &Arc<Embedded>) -> Hub {
    let positions = Arc::clone(store);
    let settings =
        Settings { position: Box::new(move |position| positions.position(position)), ..settings() };
    Hub::new(settings, store.horizon().await.unwrap())
}

impl World {
    fn store(&self) -> &Arc<Embedded> {
        self.store.as_ref().unwrap()
    }

    async fn step(&mut self) {
        self.now += 1;
        match self.chance.below(100) {
            0..25 => {
                let intents = self.crowd.intents(&mut self.chance, &self.truth, self.now);
                self.append(intents).await;
            }
            25..45 => self.deliver().await,
            45..75 => {
                let client = self.chance.below(self.crowd.clients.len());
                let store = Arc::clone(self.store());
                self.crowd.clients[client].advance(&self.hub, store.as_ref()).await;
            }
            75..88 => {
                let client = self.chance.below(self.crowd.clients.len());
                self.crowd.clients[client].read(&self.truth);
            }
            88..94 => {
                let client = self.chance.below(self.crowd.clients.len());
                let store = Arc::clone(self.store());
                self.crowd.clients[client].connect(&self.hub, store.as_ref(), self.now).await;
            }
            94..98 => {
                let client = self.chance.below(self.crowd.clients.len());
                self.disconnect(client);
            }
            98 => {
                let intents = self.crowd.flood(&mut self.chance);
                self.append(intents).await;
            }
            _ => {
                if self.chance.one_in(3) {
                    self.crash().await;
                }
            }
        }
    }

    async fn append(&mut self, intents: Vec<(Intent, Sender)>) {
        let (intents, senders): (Vec<_>, _) = intents.into_iter().unzip();
        let batch = self.store().append(intents.clone(), Timestamp::from_millis(self.now)).await.unwrap();
        self.truth.note(intents, &batch);
        self.undelivered.push_back(Undelivered { batch, senders });
    }

    async fn deliver(&mut self) {
        let Some(undelivered) = self.undelivered.pop_front() else { return };
        if let Some(commit) = undelivered.batch.commit {
            self.hub.caught_up(Position::before(commit));
        }
        self.hub.deliver(undelivered.committed());
        if self.now % 2 == 0 {
            repair(&self.hub, self.store().as_ref()).await;
        }
        if self.undelivered.is_empty() {
            self.hub.caught_up(self.store().horizon().await.unwrap());
        }
    }

    fn disconnect(&mut self, client: usize) {
        let reads = self.chance.one_in(2);
        let client = &mut self.crowd.clients[client];
        if reads {
            client.read(&self.truth);
        }
        if let Some(line) = client.line.take() {
            self.hub.unregister(&line.connection, Timestamp::from_millis(self.now));
        }
    }

    /// The process dies: nothing of the hub remains, the store is opened again.
    async fn crash(&mut self) {
        for client in &mut self.crowd.clients {
            client.line = None;
        }
        self.undelivered.clear();
        // The hub and every line hold the store by its positions.
        self.hub = Hub::new(settings(), Position::default());
        self.store = None;
        let store = open(self.dir.path());
        self.hub = hub(&store).await;
        self.store = Some(store);
    }

    /// Lets everything come to rest, and checks that every connected client has all it must have.
    async fn settle_and_check(&mut self) {
        while !self.undelivered.is_empty() {
            self.deliver().await;
        }
        while self.hub.needs_repair() {
            repair(&self.hub, self.store().as_ref()).await;
        }
        let store = Arc::clone(self.store());
        loop {
            let mut busy = false;
            for client in &mut self.crowd.clients {
                client.read(&self.truth);
                busy |= client.advance(&self.hub, store.as_ref()).await;
            }
            if !busy {
                break;
            }
        }
        for client in &self.crowd.clients {
            client.check(&self.truth);
        }
    }
}
