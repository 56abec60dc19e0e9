//! Who is there, and what they want.

use std::sync::Arc;

use tertulia_domain::hub::Connection;
use tertulia_domain::log::Intent;
use tertulia_protocol::entry::{ConversationType, HistoryPolicy};
use tertulia_protocol::{ClientSeq, ConvoId, Seq, UserId};

use crate::chance::{Chance, id};
use crate::client::{Client, Stage};
use crate::truth::Truth;

const USERS: usize = 4;
const CONVOS: usize = 3;

/// The connection that sent an intent, and under which number.
pub type Sender = Option<(Arc<Connection>, ConvoId, ClientSeq)>;

/// Clients of a few users, and the conversations that they talk in.
pub struct Crowd {
    pub clients: Vec<Client>,
    convos: Vec<ConvoId>,
    bodies: u64,
}

impl Crowd {
    pub fn new() -> Self {
        Self {
            clients: (0..USERS * 2).map(Client::new).collect(),
            convos: (0..CONVOS).map(|number| ConvoId::from_bytes(id(3, number))).collect(),
            bodies: 0,
        }
    }

    pub fn users(&self) -> Vec<UserId> {
        self.clients.iter().step_by(2).map(|client| client.user).collect()
    }

    /// A few intents, whatever is allowed or not.
    pub fn intents(&mut self, chance: &mut Chance, truth: &Truth, now: i64) -> Vec<(Intent, Sender)> {
        let count = 1 + chance.below(4);
        let mut intents: Vec<(Intent, Sender)> = Vec::new();
        for _ in 0..count {
            let convo = self.convos[chance.below(CONVOS)];
            let users = self.users();
            let by = users[chance.below(users.len())];
            let user = users[chance.below(users.len())];
            if !truth.log.contains_key(&convo) && !intents.iter().any(|(known, _)| known.convo() == convo) {
                let mut members = vec![by];
                members.extend(users.iter().copied().filter(|other| *other != by).take(chance.below(USERS)));
                let history = if chance.one_in(2) { HistoryPolicy::All } else { HistoryPolicy::SinceJoined };
                let kind = ConversationType::Group;
                intents.push((Intent::Create { convo, by, kind, title: None, members, history }, None));
                continue;
            }
            let (delivered, read) = (Some(Seq::new(1)), Some(Seq::new(2)));
            intents.push(match chance.below(12) {
                0 => (Intent::AddMembers { convo, by, users: vec![user] }, None),
                1 => (Intent::RemoveMember { convo, by, user }, None),
                2 => (Intent::Mark { convo, user, delivered, read }, None),
                3 => (Intent::Rename { convo, by, title: format!("title {now}") }, None),
                4 if !truth.sent.is_empty() => {
                    // A retry of something that was acked, on whichever connection the device has now.
                    self.by_its_device(truth.sent[chance.below(truth.sent.len())].0.clone())
                }
                _ => {
                    let client = chance.below(self.clients.len());
                    let intent = self.send(client, convo);
                    self.by_its_device(intent)
                }
            });
        }
        intents
    }

    /// More at once than a reader is allowed to miss.
    pub fn flood(&mut self, chance: &mut Chance) -> Vec<(Intent, Sender)> {
        let convo = self.convos[chance.below(CONVOS)];
        let client = chance.below(self.clients.len());
        let count = 1_000 + chance.below(300);
        (0..count).map(|_| (self.send(client, convo), None)).collect()
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

    fn by_its_device(&self, intent: Intent) -> (Intent, Sender) {
        let Intent::Send { device, convo, client_seq, .. } = intent else { return (intent, None) };
        let client = self.clients.iter().find(|client| client.device == device);
        let line = client.and_then(|client| client.line.as_ref());
        let line = line.filter(|line| matches!(line.stage, Stage::Ready));
        let sender = line.map(|line| (Arc::clone(&line.connection), convo, client_seq));
        (intent, sender)
    }
}
