//! A turn without sockets: what has come goes into arenas, and after one sync out to each connection in one piece.

use std::io;
use std::ops::Range;

use tertulia_protocol::event::{ClientEvent, ServerEvent};
use tertulia_protocol::{Code, ConvoId, DeviceId, Timestamp};

use super::frames::{self, Decimal, Letter, TurnText};
use super::log::Log;
use super::registry::Registry;
use super::rest::user_of_token;

/// What a connection says and hears in a turn, and what has to be known of it for that.
#[derive(Default)]
struct Peer {
    user: Option<usize>,
    /// The conversation that it wrote to last: mostly the next one, too.
    last: Option<(String, usize)>,
    /// What it is to hear, as places in the arenas.
    entries: Vec<Range<usize>>,
    answers: Vec<Range<usize>>,
    /// Whether it is on the list of those who are to hear something.
    listed: bool,
}

/// All conversations, and the turn.
#[derive(Default)]
pub(super) struct Relay {
    pub(super) registry: Registry,
    peers: Vec<Peer>,
    turns: u64,
    now: Timestamp,
    text: TurnText,
    /// Frames of `message`, each once.
    entries: Vec<u8>,
    /// Frames for one connection each.
    answers: Vec<u8>,
    records: Vec<u8>,
    keeps_records: bool,
    /// Connections that are to hear something.
    listed: Vec<usize>,
    /// What one connection hears, where it does not stand in one piece.
    gathered: Vec<u8>,
    /// Messages of one connection to one conversation, one after the other, which are yet to be handed out.
    parcel: Option<Parcel>,
}

struct Parcel {
    convo: usize,
    entries: Range<usize>,
}

impl Relay {
    /// Begins a turn.
    pub(super) fn begin(&mut self, now: Timestamp, keeps_records: bool) {
        self.turns += 1;
        self.now = now;
        let ts = now.to_rfc3339();
        self.text.set(str::from_utf8(&ts).unwrap_or_default(), self.turns);
        self.keeps_records = keeps_records;
    }

    /// The time of the turn.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// A connection says something.
    pub(super) fn hear(&mut self, peer: usize, text: &str) {
        if let Some(letter) = frames::letter(text) {
            return self.letter(peer, &letter);
        }
        match frames::said(text) {
            Some(ClientEvent::SendMessage { convo_id, client_seq, body, reply_to, .. }) => {
                let (convo, client_seq) = (convo_id.to_string(), client_seq.to_string());
                let body = serde_json::to_string(&body).unwrap_or_default();
                let reply_to = reply_to.map(|seq| seq.to_string());
                let (convo, client_seq, body) = (&*convo, &*client_seq, &*body);
                self.letter(peer, &Letter { convo, client_seq, body, reply_to: reply_to.as_deref() });
            }
            Some(ClientEvent::Connect { token } | ClientEvent::Resume { resume_token: token, .. }) => {
                self.connect(peer, &token);
            }
            Some(ClientEvent::Ping {}) => {
                let position = self.position();
                self.answer(peer, &ServerEvent::Pong { position });
            }
            // Watermarks, typing and presence are no messages.
            Some(_) => {}
            None => self.refuse(peer, Code::Invalid, None),
        }
    }

    /// All that a connection has said in this turn has been heard.
    pub(super) fn hand_out(&mut self, sender: usize) {
        let Some(Parcel { convo, entries }) = self.parcel.take() else { return };
        for &number in &self.registry.convos[convo].peers {
            if number == sender {
                continue;
            }
            let peer = &mut self.peers[number];
            add(&mut peer.entries, entries.clone());
            if !peer.listed {
                peer.listed = true;
                self.listed.push(number);
            }
        }
    }

    /// Ends the turn: what was said becomes durable, and then each connection hears of it, all at once.
    ///
    /// # Errors
    /// If it does not become durable; then nobody hears of it.
    pub(super) fn settle(
        &mut self,
        log: &mut dyn Log,
        mut write: impl FnMut(usize, &[u8]),
    ) -> io::Result<()> {
        log.sync(&self.records)?;
        self.records.clear();
        for number in self.listed.drain(..) {
            let peer = &mut self.peers[number];
            peer.listed = false;
            match (peer.answers.as_slice(), peer.entries.as_slice()) {
                // It has gone meanwhile.
                ([], []) => {}
                ([], [entries]) => write(number, &self.entries[entries.clone()]),
                ([answers], []) => write(number, &self.answers[answers.clone()]),
                (answers, entries) => {
                    self.gathered.clear();
                    let answers = answers.iter().map(|range| &self.answers[range.clone()]);
                    let entries = entries.iter().map(|range| &self.entries[range.clone()]);
                    answers.chain(entries).for_each(|part| self.gathered.extend_from_slice(part));
                    write(number, &self.gathered);
                }
            }
            peer.answers.clear();
            peer.entries.clear();
        }
        self.entries.clear();
        self.answers.clear();
        Ok(())
    }

    /// A connection has ended.
    pub(super) fn leave(&mut self, peer: usize) {
        if let Some(gone) = self.peers.get_mut(peer) {
            let user = gone.user;
            *gone = Peer { listed: gone.listed, ..Peer::default() };
            if let Some(user) = user {
                self.registry.go(user, peer);
            }
        }
    }

    fn position(&self) -> String {
        format!("floor0.{:x}", self.turns)
    }

    fn connect(&mut self, peer: usize, token: &str) {
        let user = user_of_token(token).filter(|&user| user < self.registry.users.len());
        let Some(user) = user else { return self.refuse(peer, Code::Unauthenticated, None) };
        if self.peers.len() <= peer {
            self.peers.resize_with(peer + 1, Peer::default);
        }
        if self.peers[peer].user.is_none() {
            self.peers[peer].user = Some(user);
            self.registry.come(user, peer);
        }
        let ready = ServerEvent::Ready {
            user_id: self.registry.users[user].id,
            device_id: DeviceId::from_bytes(*self.registry.users[user].id.as_bytes()),
            resume_token: token.to_owned(),
            position: self.position(),
            heartbeat_seconds: 25,
            resumed: false,
        };
        self.answer(peer, &ready);
    }

    fn letter(&mut self, number: usize, letter: &Letter<'_>) {
        let Some(peer) = self.peers.get_mut(number) else { return };
        let Some(user) = peer.user else { return };
        let convo = match &peer.last {
            Some((id, convo)) if id == letter.convo => *convo,
            _ => {
                let found = letter.convo.parse::<ConvoId>().ok().and_then(|id| self.registry.convo_of(id));
                let Some(convo) = found else { return self.refuse(number, Code::NotFound, Some(letter)) };
                peer.last = Some((letter.convo.to_owned(), convo));
                convo
            }
        };
        if self.parcel.as_ref().is_some_and(|parcel| parcel.convo != convo) {
            self.hand_out(number);
        }
        let place = &mut self.registry.convos[convo];
        let seq = Decimal::new(place.next);
        let sender = &self.registry.users[user];
        let start = self.entries.len();
        frames::put_entry(&mut self.entries, &place.text, &sender.text, &self.text, &seq, letter);
        let end = self.entries.len();
        match &mut self.parcel {
            Some(parcel) => parcel.entries.end = end,
            none => *none = Some(Parcel { convo, entries: start..end }),
        }
        if self.keeps_records {
            let records = &mut self.records;
            records.extend_from_slice(&(letter.body.len() as u32).to_le_bytes());
            records.extend_from_slice(place.id.as_bytes());
            records.extend_from_slice(&place.next.to_le_bytes());
            records.extend_from_slice(sender.id.as_bytes());
            records.extend_from_slice(&self.now.as_millis().to_le_bytes());
            records.extend_from_slice(letter.client_seq.as_bytes());
            records.extend_from_slice(letter.body.as_bytes());
        }
        place.next += 1;
        let start = self.answers.len();
        frames::put_ack(&mut self.answers, &place.text, &self.text, &seq, letter);
        self.list_answer(number, start);
    }

    fn refuse(&mut self, peer: usize, code: Code, letter: Option<&Letter<'_>>) {
        let error = ServerEvent::Error {
            code,
            detail: "the floor knows no such thing".to_owned(),
            convo_id: letter.and_then(|letter| letter.convo.parse().ok()),
            client_seq: None,
            retry_after_ms: None,
        };
        self.answer(peer, &error);
    }

    fn answer(&mut self, peer: usize, event: &ServerEvent) {
        let start = self.answers.len();
        let text = serde_json::to_string(event).unwrap_or_default();
        frames::put(&mut self.answers, [&*text]);
        self.list_answer(peer, start);
    }

    /// What stands in `answers` from `start` on is for this connection.
    fn list_answer(&mut self, number: usize, start: usize) {
        if self.peers.len() <= number {
            self.peers.resize_with(number + 1, Peer::default);
        }
        let peer = &mut self.peers[number];
        add(&mut peer.answers, start..self.answers.len());
        if !peer.listed {
            peer.listed = true;
            self.listed.push(number);
        }
    }
}

/// Adds a place, as one with the last if it follows it.
fn add(places: &mut Vec<Range<usize>>, place: Range<usize>) {
    match places.last_mut() {
        Some(last) if last.end == place.start => last.end = place.end,
        _ => places.push(place),
    }
}
