//! The hub by itself: a world of two users in one conversation, whose log is a list.

mod catch_up;
mod delivery;
mod holes;
mod presence;
mod receipts;
mod removals;
mod runs;
mod sockets;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tertulia_protocol::event::{CloseReason, ConversationNews, OwnPresence, Presence, ServerEvent};
use tertulia_protocol::rest::{Audience, Privacy};
use tertulia_protocol::{ClientSeq, ConvoId, DeviceId, Entry, EntryKind, Seq, Timestamp, UserId};
use tertulia_websocket::payloads;

use super::{
    Committed, Connection, Hole, Hub, Limits, MISSED_KEPT, MISSED_MAX, Mode, Origin, Outbox, PAGE_MAX,
    Present, Settings, Sighting, Status, Step, encode,
};
use crate::log::{Change, Commit, Head, HistorySlice, Missed, Outcome, Position, Receipt};

const ANA: UserId = UserId::from_bytes([1; 16]);
const BO: UserId = UserId::from_bytes([2; 16]);
const CY: UserId = UserId::from_bytes([4; 16]);
/// Of a device.
const SOCKETS_MAX: usize = 4;
const CONVO: ConvoId = ConvoId::from_bytes([3; 16]);

const fn at(number: u64) -> Position {
    Position::before(Commit::new(number))
}

struct World {
    hub: Hub,
    log: Vec<(Arc<Entry>, Commit)>,
    now: Timestamp,
}

impl World {
    fn new(limits: Limits) -> Self {
        Self::with(limits, false)
    }

    /// One of several nodes.
    fn of_many() -> Self {
        Self::with(Limits::default(), true)
    }

    fn with(limits: Limits, others_append: bool) -> Self {
        let settings = Settings {
            position: Box::new(|position| position.of_part(0).get().to_string()),
            part_of: Box::new(|_| 0),
            presence_ttl: Duration::from_secs(60),
            heartbeat: Duration::from_secs(25),
            outbox: limits,
            sockets_per_device: SOCKETS_MAX,
            others_append,
        };
        Self { hub: Hub::new(settings, at(1)), log: Vec::new(), now: Timestamp::from_millis(1_000_000) }
    }

    /// A live connection.
    fn connect(&mut self, user: UserId) -> Arc<Connection> {
        self.connect_with(user, Privacy::default())
    }

    /// A user who is in these conversations, and in no others.
    fn connect_in(&self, user: UserId, heads: &[Head]) -> Arc<Connection> {
        let who = (user, DeviceId::from_bytes([9; 16]));
        let since = self.hub.position();
        let (connection, _) = self.hub.register(Mode::Socket, who, Privacy::default(), since, self.now);
        self.hub.attach(user, heads);
        self.hub.finish_resume(&connection, Missed::default(), &HashSet::new());
        connection
    }

    fn connect_with(&mut self, user: UserId, privacy: Privacy) -> Arc<Connection> {
        let device = DeviceId::from_bytes([9; 16]);
        let since = self.hub.position();
        let (connection, attach) = self.hub.register(Mode::Socket, (user, device), privacy, since, self.now);
        if attach {
            let last_seq = Seq::new(self.log.len() as u64);
            self.hub.attach(user, &[Head { convo: CONVO, last_seq, member_count: 2 }]);
        }
        self.hub.finish_resume(&connection, Missed::default(), &HashSet::new());
        connection
    }

    /// The connection watches a user who was last seen now, and is told what he is.
    fn watch(&self, connection: &Arc<Connection>, user: UserId) -> bool {
        let status = Status { user, allowed: true, last_seen: Some(self.now) };
        let watches = self.hub.watch(connection, &[status]);
        self.hub.tell_statuses(connection, &[status]);
        watches
    }

    fn text(&mut self, body: &str) -> (Outcome, Commit) {
        let number = self.log.len() as u64 + 1;
        let entry = Arc::new(Entry {
            convo_id: CONVO,
            seq: Seq::new(number),
            sender_id: ANA,
            client_seq: Some(ClientSeq::new(number)),
            ts: self.now,
            kind: EntryKind::Text { body: body.into(), reply_to: None },
        });
        let commit = Commit::new(number);
        self.log.push((Arc::clone(&entry), commit));
        (Outcome::Appended { entry, shared: None }, commit)
    }

    /// Ana's message is committed and handed over.
    fn send(&mut self, body: &str, origin: Option<&Arc<Connection>>) {
        let (outcome, commit) = self.text(body);
        let origin =
            origin.map(|connection| Origin { connection, convo: CONVO, client_seq: Some(ClientSeq::new(7)) });
        self.hand_over(commit, Committed { outcome: &outcome, origin, shows_read: true });
        self.hub.caught_up(Position::before(commit.next()));
    }

    /// All before it was handed over.
    fn hand_over(&self, commit: Commit, committed: Committed<'_>) {
        self.hub.caught_up(Position::before(commit));
        self.hub.deliver([committed]);
    }

    /// Bo's removal is committed; it still has to be handed over.
    fn remove_bo(&mut self) -> (Outcome, Commit) {
        let number = self.log.len() as u64 + 1;
        let kind = EntryKind::MemberRemoved { user_ids: vec![BO] };
        let (seq, ts) = (Seq::new(number), self.now);
        let entry = Arc::new(Entry { convo_id: CONVO, seq, sender_id: ANA, client_seq: None, ts, kind });
        let commit = Commit::new(number);
        self.log.push((Arc::clone(&entry), commit));
        (Outcome::Appended { entry, shared: None }, commit)
    }

    fn deliver(&self, (outcome, commit): &(Outcome, Commit)) {
        self.hand_over(*commit, Committed { outcome, origin: None, shows_read: true });
    }

    /// Bo resumes; the hub knows of him in the conversation up to the end of the log.
    fn begin_resume(&self, since: u64) -> Arc<Connection> {
        let who = (BO, DeviceId::from_bytes([9; 16]));
        let since = at(since);
        let (connection, _) = self.hub.register(Mode::Socket, who, Privacy::default(), since, self.now);
        let last_seq = Seq::new(self.log.len() as u64);
        self.hub.attach(BO, &[Head { convo: CONVO, last_seq, member_count: 2 }]);
        connection
    }

    /// The same where there are news, in which nothing is told.
    fn catch_up_with_news(&self, connection: &Arc<Connection>) {
        if let Some(Step::News { convo, .. }) = self.hub.next_step(connection) {
            self.hub.give_news(connection, convo, None, None, &HashSet::new());
        }
        self.catch_up(connection);
    }

    /// Does what a lagging connection's task does, until there is nothing to do.
    fn catch_up(&self, connection: &Arc<Connection>) {
        while let Some(step) = self.hub.next_step(connection) {
            let Step::Page { convo, after, .. } = step else { panic!("no news here: {step:?}") };
            let entries: Vec<_> =
                self.log.iter().filter(|(entry, _)| entry.seq > after).take(2).cloned().collect();
            let has_more = entries.last().is_some_and(|(entry, _)| entry.seq.get() < self.log.len() as u64);
            self.hub.give_page(connection, convo, &HistorySlice { entries, has_more });
        }
    }
}

/// What a connection got, in short.
fn got(connection: &Connection) -> Vec<String> {
    said(&connection.take().outbox)
}

/// What is in an outbox, in short.
fn said(outbox: &Outbox) -> Vec<String> {
    let wire = outbox.to_vec();
    let events = payloads(&wire).filter_map(|text| serde_json::from_slice(text).ok());
    events
        .map(|event| match event {
            ServerEvent::Message { entry, position } => {
                let what = match entry.kind {
                    EntryKind::Text { body, .. } => body,
                    EntryKind::MemberRemoved { .. } => "removed".to_owned(),
                    other => panic!("not here: {other:?}"),
                };
                format!(
                    "{} {what}{}",
                    entry.seq,
                    position.map_or(String::new(), |position| format!(" @{position}"))
                )
            }
            ServerEvent::MessageAck { client_seq, server_seq, .. } => {
                format!("ack {client_seq}={server_seq}")
            }
            ServerEvent::ConversationUpdate { conversation: ConversationNews::Left { .. } } => {
                "left".to_owned()
            }
            ServerEvent::Gap { from_seq, to_seq, .. } => format!("gap {from_seq}-{to_seq}"),
            ServerEvent::Receipt { delivered_seq, read_seq, .. } => {
                format!("receipt {delivered_seq} {}", read_seq.map_or("hidden".into(), |seq| seq.to_string()))
            }
            ServerEvent::Typing { active, .. } => format!("typing {active}"),
            ServerEvent::PresenceUpdate { status, last_seen, .. } => {
                format!("{status:?}{}", if last_seen.is_some() { " with last seen" } else { "" })
            }
            other => format!("{other:?}"),
        })
        .collect()
}

const fn missed_from(first: u64, last: u64) -> Change {
    Change::In {
        convo: CONVO,
        joined: false,
        first_missed: Some(Seq::new(first)),
        last_seq: Seq::new(last),
        shared: None,
        own: None,
        receipts: Vec::new(),
    }
}

fn changed(change: Change) -> Missed {
    Missed { changes: vec![change], pages: Vec::new() }
}

fn sighting(user: UserId, presence: Presence, last_seen: Option<Timestamp>) -> Sighting {
    Sighting { user, presence, last_seen }
}
