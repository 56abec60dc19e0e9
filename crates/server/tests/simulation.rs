//! Connections, hub and store through random interleavings, from a seed: guarantees 1 to 6.
//!
//! Everything that takes time in a node is cut here into steps that the seed puts in any order: a batch is
//! appended but not yet handed over, a reader is registered but has not read what it missed, a page was read
//! but not yet given, a client does not read, a connection breaks, the process dies and starts again. The hub
//! and the store are the real ones; their driver is this file instead of sockets and tasks.
//!
//! `TERTULIA_SIM_SEED=n cargo test -p tertulia-server --test simulation` repeats one run,
//! `TERTULIA_SIM_RUNS=n` makes n runs.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests fail by panics"
)]

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tertulia_domain::hub::{Committed, Connection, Hole, Hub, Limits, Mode, Origin, Settings, Step};
use tertulia_domain::log::{Change, Commit, Head, HistorySlice, Intent, Missed, Outcome};
use tertulia_protocol::entry::{ConversationType, EntryKind, HistoryPolicy};
use tertulia_protocol::event::{ConversationNews, ServerEvent};
use tertulia_protocol::rest::Privacy;
use tertulia_protocol::{ClientSeq, ConvoId, DeviceId, Entry, Seq, Timestamp, UserId};
use tertulia_store::embedded::{Embedded, OpenOptions};
use tertulia_store::{Batch, Slice, Store};

const USERS: usize = 4;
const CONVOS: usize = 3;
const STEPS: usize = 700;

#[test]
fn guarantees_1_to_6_hold_in_every_interleaving() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds: Vec<u64> = match number("TERTULIA_SIM_SEED") {
        Some(seed) => vec![seed],
        // The first seeds always, so that a failure of tomorrow is not one of chance alone.
        None => FOUND.into_iter().chain(0..number("TERTULIA_SIM_RUNS").unwrap_or(40)).collect(),
    };
    for seed in seeds {
        let result = std::panic::catch_unwind(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(World::run(seed));
        });
        if let Err(panic) = result {
            eprintln!("failed with TERTULIA_SIM_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// `SplitMix64`: small, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

/// Seeds that once found something.
const FOUND: [u64; 8] = [46, 61, 97, 113, 146, 164, 168, 1027];

/// A client: a device that connects again and again, and remembers what it got.
struct Client {
    user: UserId,
    device: DeviceId,
    client_seq: u64,
    /// What it has, over all its connections.
    known: BTreeMap<ConvoId, BTreeSet<Seq>>,
    /// Everything from here on must reach it.
    from: Option<Commit>,
    position: Option<String>,
    line: Option<Line>,
}

/// One connection of a client, and what is under way for it.
struct Line {
    connection: Arc<Connection>,
    since: Commit,
    stage: Stage,
    /// A read whose answer has not been given yet.
    under_way: Option<Answer>,
    /// The last `message` of each conversation on this line, and what was acked or named a gap on it.
    last: BTreeMap<ConvoId, Seq>,
    covered: BTreeMap<ConvoId, BTreeSet<Seq>>,
}

enum Stage {
    ReadHeads,
    Attach(Vec<Head>),
    ReadChanges,
    Finish(Missed),
    Ready,
}

enum Answer {
    News(ConvoId, Option<Box<tertulia_protocol::rest::Conversation>>, Option<Change>),
    Page(ConvoId, HistorySlice),
    /// He is in that conversation no longer.
    Out(ConvoId),
}

/// A batch that is durable, but has not come to the hub.
struct Undelivered {
    batch: Batch,
    /// Whose connection sent each intent, and under which number.
    origins: Vec<Option<(Arc<Connection>, ConvoId, ClientSeq)>>,
}

struct World {
    chance: Chance,
    dir: tempfile::TempDir,
    store: Option<Arc<Embedded>>,
    hub: Hub,
    clients: Vec<Client>,
    convos: Vec<ConvoId>,
    undelivered: VecDeque<Undelivered>,
    /// What was told to be durable, from outcomes: the truth.
    log: BTreeMap<ConvoId, BTreeMap<Seq, (Arc<Entry>, Commit)>>,
    /// Sends that may be tried again.
    sent: Vec<(Intent, Seq)>,
    now: i64,
    bodies: u64,
}

fn id(kind: u8, number: usize) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0] = kind;
    bytes[6] = 0x70;
    bytes[8] = 0x80;
    bytes[15] = number as u8;
    bytes
}

fn open(dir: &std::path::Path) -> Arc<Embedded> {
    Embedded::open(dir, OpenOptions::default()).unwrap()
}

async fn hub(store: &Arc<Embedded>) -> Hub {
    let positions = Arc::clone(store);
    let settings = Settings {
        position: Box::new(move |commit| positions.position(commit)),
        presence_ttl: Duration::from_secs(60),
        heartbeat: Duration::from_secs(25),
        // So small that readers lag all the time.
        outbox: Limits { frames: 4, bytes: 64 * 1_024, ephemeral: 4 },
        others_append: false,
    };
    Hub::new(settings, store.horizon().await.unwrap())
}

impl World {
    async fn run(seed: u64) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let mut clients = Vec::new();
        for number in 0..USERS * 2 {
            clients.push(Client {
                user: UserId::from_bytes(id(1, number / 2)),
                device: DeviceId::from_bytes(id(2, number)),
                client_seq: 0,
                known: BTreeMap::new(),
                from: None,
                position: None,
                line: None,
            });
        }
        let mut world = Self {
            chance: Chance(seed),
            dir,
            hub: hub(&store).await,
            store: Some(store),
            clients,
            convos: (0..CONVOS).map(|number| ConvoId::from_bytes(id(3, number))).collect(),
            undelivered: VecDeque::new(),
            log: BTreeMap::new(),
            sent: Vec::new(),
            now: 1_800_000_000_000,
            bodies: 0,
        };
        for step in 0..STEPS {
            world.step().await;
            if step % 100 == 99 {
                world.settle_and_check().await;
            }
        }
        world.settle_and_check().await;
        world.check_history().await;
    }

    fn store(&self) -> &Arc<Embedded> {
        self.store.as_ref().unwrap()
    }

    fn users(&self) -> Vec<UserId> {
        self.clients.iter().step_by(2).map(|client| client.user).collect()
    }

    async fn step(&mut self) {
        self.now += 1;
        match self.chance.below(100) {
            0..25 => self.append().await,
            25..45 => self.deliver().await,
            45..75 => {
                let client = self.chance.below(self.clients.len());
                self.advance(client).await;
            }
            75..88 => {
                let client = self.chance.below(self.clients.len());
                self.read(client);
            }
            88..94 => {
                let client = self.chance.below(self.clients.len());
                self.connect(client);
            }
            94..98 => {
                let client = self.chance.below(self.clients.len());
                self.disconnect(client);
            }
            98 => self.flood().await,
            _ => {
                if self.chance.one_in(3) {
                    self.crash().await;
                }
            }
        }
    }

    /// A batch of a few intents, whatever is allowed or not.
    async fn append(&mut self) {
        let count = 1 + self.chance.below(4);
        let mut intents = Vec::new();
        let mut origins = Vec::new();
        for _ in 0..count {
            let convo = self.convos[self.chance.below(CONVOS)];
            let users = self.users();
            let by = users[self.chance.below(users.len())];
            let user = users[self.chance.below(users.len())];
            if !self.log.contains_key(&convo) && !intents.iter().any(|known: &Intent| known.convo() == convo)
            {
                let mut members = vec![by];
                members.extend(
                    users.iter().copied().filter(|other| *other != by).take(self.chance.below(USERS)),
                );
                let history =
                    if self.chance.one_in(2) { HistoryPolicy::All } else { HistoryPolicy::SinceJoined };
                let kind = ConversationType::Group;
                intents.push(Intent::Create { convo, by, kind, title: None, members, history });
                origins.push(None);
                continue;
            }
            match self.chance.below(12) {
                0 => intents.push(Intent::AddMembers { convo, by, users: vec![user] }),
                1 => intents.push(Intent::RemoveMember { convo, by, user }),
                2 => intents.push(Intent::Mark {
                    convo,
                    user,
                    delivered: Some(Seq::new(1)),
                    read: Some(Seq::new(2)),
                }),
                3 => intents.push(Intent::Rename { convo, by, title: format!("title {}", self.now) }),
                4 if !self.sent.is_empty() => {
                    // A retry of something that was acked, on whichever connection the device has now.
                    let (intent, _) = self.sent[self.chance.below(self.sent.len())].clone();
                    let origin = self.origin_of(&intent);
                    intents.push(intent);
                    origins.push(origin);
                    continue;
                }
                _ => {
                    let client = self.chance.below(self.clients.len());
                    let intent = self.send(client, convo);
                    let origin = self.origin_of(&intent);
                    intents.push(intent);
                    origins.push(origin);
                    continue;
                }
            }
            origins.push(None);
        }
        self.append_all(intents, origins).await;
    }

    fn send(&mut self, client: usize, convo: ConvoId) -> Intent {
        self.bodies += 1;
        let client = &mut self.clients[client];
        client.client_seq += 1;
        Intent::Send {
            convo,
            sender: client.user,
            device: client.device,
            client_seq: ClientSeq::new(client.client_seq),
            body: format!("body {}", self.bodies),
            reply_to: None,
        }
    }

    /// More at once than a reader is allowed to miss.
    async fn flood(&mut self) {
        let convo = self.convos[self.chance.below(CONVOS)];
        let client = self.chance.below(self.clients.len());
        let count = 1_000 + self.chance.below(300);
        let intents: Vec<Intent> = (0..count).map(|_| self.send(client, convo)).collect();
        let origins = vec![None; count];
        self.append_all(intents, origins).await;
    }

    fn origin_of(&self, intent: &Intent) -> Option<(Arc<Connection>, ConvoId, ClientSeq)> {
        let Intent::Send { device, convo, client_seq, .. } = intent else { return None };
        let client = self.clients.iter().find(|client| client.device == *device)?;
        let line = client.line.as_ref().filter(|line| matches!(line.stage, Stage::Ready))?;
        Some((Arc::clone(&line.connection), *convo, *client_seq))
    }

    async fn append_all(
        &mut self,
        intents: Vec<Intent>,
        origins: Vec<Option<(Arc<Connection>, ConvoId, ClientSeq)>>,
    ) {
        let batch = self.store().append(intents.clone(), Timestamp::from_millis(self.now)).await.unwrap();
        assert_eq!(batch.outcomes.len(), intents.len());
        for (intent, outcome) in intents.into_iter().zip(&batch.outcomes) {
            match outcome {
                Outcome::Appended { entry, .. } => {
                    let log = self.log.entry(entry.convo_id).or_default();
                    let expected = log.last_key_value().map_or(Seq::new(1), |(seq, _)| seq.next());
                    assert_eq!(entry.seq, expected, "guarantee 2: dense, in the order of acks");
                    log.insert(entry.seq, (Arc::clone(entry), batch.commit.unwrap()));
                    if matches!(entry.kind, EntryKind::Text { .. }) {
                        self.sent.push((intent, entry.seq));
                    }
                }
                Outcome::Duplicate(entry) => {
                    let first = self.sent.iter().find(|(known, _)| *known == intent);
                    assert_eq!(
                        first.map(|(_, seq)| *seq),
                        Some(entry.seq),
                        "guarantee 3: a retry is the same entry"
                    );
                }
                _ => {}
            }
        }
        self.undelivered.push_back(Undelivered { batch, origins });
    }

    async fn deliver(&mut self) {
        let Some(Undelivered { batch, origins }) = self.undelivered.pop_front() else { return };
        let committed = batch.outcomes.iter().zip(&origins).map(|(outcome, origin)| Committed {
            outcome,
            origin: origin.as_ref().map(|(connection, convo, client_seq)| Origin {
                connection,
                convo: *convo,
                client_seq: Some(*client_seq),
            }),
            shows_read: true,
        });
        if let Some(commit) = batch.commit {
            self.hub.caught_up(commit);
        }
        self.hub.deliver(committed);
        if self.chance.one_in(2) {
            self.repair().await;
        }
        if self.undelivered.is_empty() {
            self.hub.caught_up(self.store().horizon().await.unwrap());
        }
    }

    /// Reads what did not come to the hub, as when somebody brought along an older head.
    async fn repair(&mut self) {
        for Hole { convo, from, last } in self.hub.overdue() {
            let limit = last.get() + 1 - from.get();
            for (entry, _) in self.store().entries(convo, from, limit as usize).await.unwrap() {
                let outcome = Outcome::Appended { entry, shared: None };
                self.hub.deliver([Committed { outcome: &outcome, origin: None, shows_read: true }]);
            }
        }
    }

    fn connect(&mut self, client: usize) {
        if self.clients[client].line.is_some() {
            return;
        }
        let store = Arc::clone(self.store());
        let client = &mut self.clients[client];
        let resumed = client.position.as_deref().map(|position| {
            store.parse_position(position).expect("guarantee 5: positions do not age, also over a crash")
        });
        let since = resumed.unwrap_or_else(|| self.hub.position());
        let who = (client.user, client.device);
        let now = Timestamp::from_millis(self.now);
        let (connection, attach) = self.hub.register(Mode::Socket, who, Privacy::default(), since, now);
        client.from.get_or_insert(since);
        client.position.get_or_insert_with(|| store.position(since));
        client.line = Some(Line {
            connection,
            since,
            stage: if attach { Stage::ReadHeads } else { Stage::ReadChanges },
            under_way: None,
            last: BTreeMap::new(),
            covered: BTreeMap::new(),
        });
    }

    fn disconnect(&mut self, client: usize) {
        if self.chance.one_in(2) {
            self.read(client);
        }
        if let Some(line) = self.clients[client].line.take() {
            self.hub.unregister(&line.connection, Timestamp::from_millis(self.now));
        }
    }

    /// One step of what a connection's task does. Returns whether there was something to do.
    async fn advance(&mut self, client: usize) -> bool {
        let store = Arc::clone(self.store());
        let user = self.clients[client].user;
        let Some(line) = &mut self.clients[client].line else { return false };
        match &mut line.stage {
            Stage::ReadHeads => line.stage = Stage::Attach(store.heads(user).await.unwrap()),
            Stage::Attach(heads) => {
                self.hub.attach(user, heads);
                line.stage = Stage::ReadChanges;
            }
            Stage::ReadChanges => {
                // As much comes along as fits into few frames: sometimes all, sometimes only of one conversation.
                line.stage = Stage::Finish(store.missed(user, line.since, 6).await.unwrap());
            }
            Stage::Finish(missed) => {
                self.hub.finish_resume(&line.connection, std::mem::take(missed), &HashSet::new());
                line.stage = Stage::Ready;
            }
            Stage::Ready => {
                if let Some(answer) = line.under_way.take() {
                    Self::give(&self.hub, &line.connection, answer);
                    return true;
                }
                let Some(step) = self.hub.next_step(&line.connection) else { return false };
                line.under_way = Some(Self::read_step(&store, user, step).await);
            }
        }
        true
    }

    async fn read_step(store: &Arc<Embedded>, user: UserId, step: Step) -> Answer {
        match step {
            Step::Missed { .. } => unreachable!("the stages before have done that"),
            Step::News { convo, since, whole } => {
                let conversation = if whole { store.conversation(user, convo).await.unwrap() } else { None };
                if whole && conversation.is_none() {
                    return Answer::Out(convo);
                }
                let change = match since {
                    Some(since) => store.changes(user, since, Some(convo)).await.unwrap().into_iter().next(),
                    None => None,
                };
                Answer::News(convo, conversation.map(Box::new), change)
            }
            Step::Page { convo, after } => {
                // Small pages: more can happen between them.
                let page = store.history(user, convo, Slice::After(after), 3).await.unwrap();
                page.map_or(Answer::Out(convo), |page| Answer::Page(convo, page))
            }
        }
    }

    fn give(hub: &Hub, connection: &Arc<Connection>, answer: Answer) {
        match answer {
            Answer::News(convo, conversation, change) => {
                hub.give_news(connection, convo, conversation.map(|boxed| *boxed), change, &HashSet::new());
            }
            Answer::Page(convo, page) => hub.give_page(connection, convo, &page),
            Answer::Out(convo) => hub.forget(connection, convo),
        }
    }

    /// The client reads what was written to it, and checks it.
    fn read(&mut self, client: usize) {
        let Client { user, known, position, line: Some(line), .. } = &mut self.clients[client] else {
            return;
        };
        let wire = line.connection.take().outbox.to_vec();
        for payload in tertulia_websocket::payloads(&wire) {
            let Ok(event) = serde_json::from_slice::<ServerEvent>(payload) else {
                continue; // A WebSocket ping.
            };
            match event {
                ServerEvent::Message { entry, position: new } => {
                    let (convo, seq) = (entry.convo_id, entry.seq);
                    let truth = self.log.get(&convo).and_then(|log| log.get(&seq));
                    let Some((truth, _)) = truth else {
                        panic!("guarantee 1: {convo} {seq} was never acked")
                    };
                    assert_eq!(**truth, entry, "the entry that was acked is the one that is read");
                    assert!(may_see(&self.log[&convo], *user, seq), "guarantee 6: {user} got {convo} {seq}");
                    let last = line.last.insert(convo, seq);
                    assert!(
                        last.is_none_or(|last| last < seq),
                        "guarantee 4: {seq} after {last:?} in {convo}"
                    );
                    line.covered.entry(convo).or_default().insert(seq);
                    known.entry(convo).or_default().insert(seq);
                    if new.is_some() {
                        *position = new;
                    }
                }
                ServerEvent::MessageAck { convo_id, server_seq, .. } => {
                    line.covered.entry(convo_id).or_default().insert(server_seq);
                    known.entry(convo_id).or_default().insert(server_seq);
                }
                ServerEvent::Gap { convo_id, from_seq, to_seq } => {
                    let last = line.last.insert(convo_id, to_seq);
                    assert!(last.is_none_or(|last| last < from_seq), "guarantee 4: a gap before {last:?}");
                    for seq in from_seq.get()..=to_seq.get() {
                        line.covered.entry(convo_id).or_default().insert(Seq::new(seq));
                        known.entry(convo_id).or_default().insert(Seq::new(seq));
                    }
                }
                ServerEvent::ConversationUpdate { conversation: ConversationNews::Left { id, .. } } => {
                    line.last.remove(&id);
                    line.covered.remove(&id);
                }
                _ => {}
            }
        }
    }

    /// The process dies: nothing of the hub remains, the store is opened again.
    async fn crash(&mut self) {
        for client in 0..self.clients.len() {
            self.clients[client].line = None;
        }
        self.undelivered.clear();
        // The hub and every line hold the store by its positions.
        self.hub = Hub::new(
            Settings {
                position: Box::new(|_| String::new()),
                presence_ttl: Duration::ZERO,
                heartbeat: Duration::ZERO,
                outbox: Limits::default(),
                others_append: false,
            },
            Commit::default(),
        );
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
        while self.hub.has_holes() {
            self.repair().await;
        }
        loop {
            let mut busy = false;
            for client in 0..self.clients.len() {
                self.read(client);
                busy |= self.advance(client).await;
            }
            if !busy {
                break;
            }
        }
        for client in &self.clients {
            let Some(line) = &client.line else { continue };
            assert!(!line.connection.is_lagging(), "everybody catches up once there is rest");
            for (convo, log) in &self.log {
                let Some(visible_from) = visible_from(log, client.user) else { continue };
                for (seq, (_, commit)) in log.range(visible_from..) {
                    if *commit >= line.since {
                        let covered = line.covered.get(convo).is_some_and(|covered| covered.contains(seq));
                        assert!(
                            covered,
                            "guarantee 4: {} lacks {convo} {seq} on this connection",
                            client.user
                        );
                    }
                    if client.from.is_some_and(|from| *commit >= from) {
                        let known = client.known.get(convo).is_some_and(|known| known.contains(seq));
                        assert!(known, "guarantee 5: {} lacks {convo} {seq} over its resumes", client.user);
                    }
                }
            }
        }
    }

    /// What was acked is what is stored: once, dense, for each who may see it.
    async fn check_history(&mut self) {
        self.crash().await;
        for (convo, log) in &self.log {
            for user in self.users() {
                let mut read = Vec::new();
                let mut after = Seq::default();
                let expected: Vec<Arc<Entry>> = match visible_from(log, user) {
                    None => Vec::new(),
                    Some(from) => {
                        let from = if sees_all(log) { Seq::new(1) } else { from };
                        log.range(from..).map(|(_, (entry, _))| Arc::clone(entry)).collect()
                    }
                };
                while let Some(page) =
                    self.store().history(user, *convo, Slice::After(after), 200).await.unwrap()
                {
                    after = page.entries.last().map_or(after, |(entry, _)| entry.seq);
                    read.extend(page.entries.into_iter().map(|(entry, _)| entry));
                    if !page.has_more {
                        break;
                    }
                }
                assert_eq!(
                    read, expected,
                    "guarantees 1, 2, 3 and 6: the log of {convo} as {user} may read it"
                );
            }
        }
    }
}

type Log = BTreeMap<Seq, (Arc<Entry>, Commit)>;

/// The stretches of a log in which a user was a member: from his own entry in to his own entry out.
fn memberships(log: &Log, user: UserId) -> Vec<(Seq, Option<Seq>)> {
    let mut stretches: Vec<(Seq, Option<Seq>)> = Vec::new();
    for (seq, (entry, _)) in log {
        match &entry.kind {
            EntryKind::Created { user_ids, .. } | EntryKind::MemberAdded { user_ids }
                if user_ids.contains(&user) =>
            {
                stretches.push((*seq, None));
            }
            EntryKind::MemberRemoved { user_ids } if user_ids.contains(&user) => {
                if let Some(stretch) = stretches.last_mut() {
                    stretch.1 = Some(*seq);
                }
            }
            _ => {}
        }
    }
    stretches
}

/// Whether an entry may have been pushed to a user.
fn may_see(log: &Log, user: UserId, seq: Seq) -> bool {
    memberships(log, user).iter().any(|(from, to)| *from <= seq && to.is_none_or(|to| seq <= to))
}

/// Where the present membership of a user begins, if he has one.
fn visible_from(log: &Log, user: UserId) -> Option<Seq> {
    memberships(log, user).last().filter(|(_, to)| to.is_none()).map(|(from, _)| *from)
}

/// Whether the history policy lets those who come later read what was before.
fn sees_all(log: &Log) -> bool {
    log.values()
        .any(|(entry, _)| matches!(entry.kind, EntryKind::Created { history: HistoryPolicy::All, .. }))
}
