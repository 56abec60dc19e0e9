//! A client: a device that connects again and again, and remembers what it got.
//!
//! What its connection's task does in a node is cut into steps here: between any two of them anything may happen.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use tertulia_domain::hub::{Connection, Hub, Mode, Step};
use tertulia_domain::log::{Change, Head, HistorySlice, Missed, Position};
use tertulia_protocol::event::{ConversationNews, ServerEvent};
use tertulia_protocol::rest::Privacy;
use tertulia_protocol::{ConvoId, DeviceId, Seq, Timestamp, UserId};
use tertulia_store::{Slice, Store};

use crate::chance::id;
use crate::truth::{Truth, may_see, visible_from};

/// A client: a device that connects again and again, and remembers what it got.
pub struct Client {
    pub user: UserId,
    pub device: DeviceId,
    pub client_seq: u64,
    /// What it has, over all its connections.
    pub known: BTreeMap<ConvoId, BTreeSet<Seq>>,
    /// Everything from here on must reach it.
    pub from: Option<Position>,
    pub position: Option<String>,
    pub line: Option<Line>,
}

/// One connection of a client, and what is under way for it.
pub struct Line {
    pub connection: Arc<Connection>,
    pub since: Position,
    pub stage: Stage,
    /// A read whose answer has not been given yet.
    pub under_way: Option<Answer>,
    /// The last `message` of each conversation on this line, and what was acked or named a gap on it.
    pub last: BTreeMap<ConvoId, Seq>,
    pub covered: BTreeMap<ConvoId, BTreeSet<Seq>>,
    /// Of these, those that were acked to this connection.
    pub acked: BTreeMap<ConvoId, BTreeSet<Seq>>,
}

pub enum Stage {
    ReadHeads,
    Attach(Vec<Head>),
    ReadChanges,
    Finish(Missed),
    Ready,
}

pub enum Answer {
    News(ConvoId, Option<Box<tertulia_protocol::rest::Conversation>>, Option<Change>),
    Page(ConvoId, HistorySlice),
    /// He is in that conversation no longer.
    Out(ConvoId),
}

impl Client {
    /// Two devices a user.
    pub fn new(number: usize) -> Self {
        Self {
            user: UserId::from_bytes(id(1, number / 2)),
            device: DeviceId::from_bytes(id(2, number)),
            client_seq: 0,
            known: BTreeMap::new(),
            from: None,
            position: None,
            line: None,
        }
    }

    pub async fn connect(&mut self, hub: &Hub, store: &dyn Store, now: i64) {
        if self.line.is_some() {
            return;
        }
        let resumed = match self.position.as_deref() {
            Some(position) => {
                let known = store.parse_position(position).await.unwrap();
                Some(known.expect("guarantee 5: positions do not age, also over a crash"))
            }
            None => None,
        };
        let since = resumed.unwrap_or_else(|| hub.position());
        let who = (self.user, self.device);
        let now = Timestamp::from_millis(now);
        let (connection, attach) = hub.register(Mode::Socket, who, Privacy::default(), since, now);
        self.from.get_or_insert(since);
        self.position.get_or_insert_with(|| store.position(since));
        self.line = Some(Line {
            connection,
            since,
            stage: if attach { Stage::ReadHeads } else { Stage::ReadChanges },
            under_way: None,
            last: BTreeMap::new(),
            covered: BTreeMap::new(),
            acked: BTreeMap::new(),
        });
    }

    /// One step of what a connection's task does. Returns whether there was something to do.
    pub async fn advance(&mut self, hub: &Hub, store: &dyn Store) -> bool {
        let user = self.user;
        let Some(line) = &mut self.line else { return false };
        match &mut line.stage {
            Stage::ReadHeads => line.stage = Stage::Attach(store.heads(user).await.unwrap()),
            Stage::Attach(heads) => {
                hub.attach(user, heads);
                line.stage = Stage::ReadChanges;
            }
            Stage::ReadChanges => {
                // As much comes along as fits into few frames: sometimes all, sometimes only of one conversation.
                line.stage = Stage::Finish(store.missed(user, line.since, 6).await.unwrap());
            }
            Stage::Finish(missed) => {
                hub.finish_resume(&line.connection, std::mem::take(missed), &HashSet::new());
                line.stage = Stage::Ready;
            }
            Stage::Ready => {
                if let Some(answer) = line.under_way.take() {
                    give(hub, &line.connection, answer);
                    return true;
                }
                let Some(step) = hub.next_step(&line.connection) else { return false };
                line.under_way = Some(read_step(store, user, step).await);
            }
        }
        true
    }

    /// The client reads what was written to it, and checks it.
    pub fn read(&mut self, truth: &Truth) {
        let Self { user, known, position, line: Some(line), .. } = self else { return };
        let wire = line.connection.take().outbox.to_vec();
        for payload in tertulia_websocket::payloads(&wire) {
            let Ok(event) = serde_json::from_slice::<ServerEvent>(payload) else {
                continue; // A WebSocket ping.
            };
            match event {
                ServerEvent::Message { entry, position: new } => {
                    let (convo, seq) = (entry.convo_id, entry.seq);
                    let told = truth.log.get(&convo).and_then(|log| log.get(&seq));
                    let Some((told, _)) = told else { panic!("guarantee 1: {convo} {seq} was never acked") };
                    assert_eq!(**told, entry, "the entry that was acked is the one that is read");
                    assert!(may_see(&truth.log[&convo], *user, seq), "guarantee 6: {user} got {convo} {seq}");
                    let last = line.last.insert(convo, seq);
                    assert!(
                        last.is_none_or(|last| last < seq),
                        "guarantee 4: {user} got {seq} after {last:?} in {convo}"
                    );
                    line.covered.entry(convo).or_default().insert(seq);
                    known.entry(convo).or_default().insert(seq);
                    if new.is_some() {
                        *position = new;
                    }
                }
                ServerEvent::MessageAck { convo_id, server_seq, .. } => {
                    line.acked.entry(convo_id).or_default().insert(server_seq);
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
                    // An ack may have come before what is below it: it stands also for who was put out and let in again.
                    line.covered.insert(id, line.acked.get(&id).cloned().unwrap_or_default());
                }
                _ => {}
            }
        }
    }

    /// Once there is rest, a connected client has all that it must have.
    pub fn check(&self, truth: &Truth) {
        let Some(line) = &self.line else { return };
        assert!(!line.connection.is_lagging(), "everybody catches up once there is rest");
        for (convo, log) in &truth.log {
            let Some(visible_from) = visible_from(log, self.user) else { continue };
            for (seq, (_, commit)) in log.range(visible_from..) {
                if !line.since.has(*commit) {
                    let covered = line.covered.get(convo).is_some_and(|covered| covered.contains(seq));
                    assert!(covered, "guarantee 4: {} lacks {convo} {seq} on this connection", self.user);
                }
                if self.from.is_some_and(|from| !from.has(*commit)) {
                    let known = self.known.get(convo).is_some_and(|known| known.contains(seq));
                    assert!(known, "guarantee 5: {} lacks {convo} {seq} over its resumes", self.user);
                }
            }
        }
    }
}

async fn read_step(store: &dyn Store, user: UserId, step: Step) -> Answer {
    match step {
        Step::Missed { .. } => unreachable!("the stages before have done that"),
        Step::News { convo, since, whole } => {
            let conversation = if whole { store.conversation(user, convo).await.unwrap() } else { None };
            if whole && conversation.is_none() {
                return Answer::Out(convo);
            }
            let change = match since {
                Some(since) => store
                    .changes(user, Position::before(since), Some(convo))
                    .await
                    .unwrap()
                    .into_iter()
                    .next(),
                None => None,
            };
            Answer::News(convo, conversation.map(Box::new), change)
        }
        Step::Page { convo, after, limit } => {
            // Small pages: more can happen between them.
            let page = store.history(user, convo, Slice::After(after), limit.min(3)).await.unwrap();
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
