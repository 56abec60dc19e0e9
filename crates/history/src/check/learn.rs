//! The first reading: learns who sent what and what stands where, and finds what contradicts itself.

use std::collections::HashMap;

use tertulia_protocol::entry::HistoryPolicy;
use tertulia_protocol::{ClientSeq, Code, ConvoId, DeviceId, UserId};

use super::known::{Fact, Known, Sent, Span, position};
use super::rules::{Findings, order, sends};
use super::source::At;
use crate::event::{Ack, Event, Kind, Line, Refuse, Seen, Send};

/// Counts of what was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Lines that were read.
    pub lines: u64,
    /// Messages that were tried to be sent, each once.
    pub sends: u64,
    /// Attempts at them.
    pub attempts: u64,
    /// Messages that were acked.
    pub acked: u64,
    /// Refusals.
    pub refused: u64,
    /// Entries that were pushed.
    pub pushes: u64,
    /// Gaps that were named.
    pub gaps: u64,
    /// Receipts.
    pub receipts: u64,
    /// Connections.
    pub connections: u64,
    /// Those that resumed.
    pub resumes: u64,
    /// Pages of history.
    pub pages: u64,
    /// Pages of an inbox.
    pub inboxes: u64,
    /// Marks and changes that went out.
    pub changes: u64,
    /// Calls that failed.
    pub failures: u64,
}

/// What the first reading says at its end.
#[derive(Debug)]
pub(super) struct Learnt {
    pub(super) known: Known,
    pub(super) findings: Findings,
    pub(super) counts: Counts,
    pub(super) notes: Vec<(u64, At)>,
}

/// Learns.
#[derive(Debug, Default)]
pub(super) struct Learner {
    known: Known,
    findings: Findings,
    counts: Counts,
    /// What the driver noted, and when.
    notes: Vec<(u64, At)>,
    sends: HashMap<(u32, u32, u64), u32>,
    /// The first of them by user; the others are its twins.
    by_user: HashMap<(u32, u32, u64), u32>,
    /// What each connection sent to a conversation, in order.
    orders: HashMap<(u32, u32), Vec<u32>>,
    /// The conversation of each page that is being read.
    reads: HashMap<(usize, u64), u32>,
}

impl Learner {
    /// Takes the next line.
    pub(super) fn take(&mut self, at: At, line: &Line) -> Result<(), String> {
        let counts = &mut self.counts;
        counts.lines += 1;
        match &line.event {
            Event::Device(device) => self.device(device.device, device.user)?,
            Event::Before(before) => {
                let convo = self.convo(before.convo);
                let log = &mut self.known.logs[convo as usize];
                log.before = log.before.max(before.seq.get());
            }
            Event::Open(open) => {
                counts.connections += 1;
                let device = self.find_device(open.device)?;
                if let Some(from) = &open.from {
                    self.counts.resumes += 1;
                    self.known.resumed_from.insert((device, position(from)));
                }
                if self.known.add_conn(at.file(), open.c, device).is_none() {
                    return Err(format!("connection {} was opened before", open.c));
                }
            }
            Event::Send(send) => self.send(at, line.t, send)?,
            Event::Ack(ack) => self.ack(at, line.t, ack)?,
            Event::Refuse(refuse) => self.refuse(at, refuse)?,
            Event::Push(push) => {
                counts.pushes += 1;
                self.conn(at, push.c)?;
                let convo = self.convo(push.convo);
                self.see(at, line.t, convo, &push.entry);
            }
            Event::Gap(gap) => {
                counts.gaps += 1;
                self.convo(gap.convo);
                self.conn(at, gap.c)?;
            }
            Event::Receipt(receipt) => {
                counts.receipts += 1;
                self.convo(receipt.convo);
                self.known.users.number(receipt.user);
                self.conn(at, receipt.c)?;
            }
            Event::Read(read) => {
                let convo = self.convo(read.convo);
                self.find_device(read.device)?;
                if self.reads.insert((at.file(), read.op), convo).is_some() {
                    return Err(format!("call {} was begun before", read.op));
                }
            }
            Event::Page(page) => {
                counts.pages += 1;
                let begun = self.reads.remove(&(at.file(), page.op));
                let convo = begun.ok_or_else(|| format!("call {} was not begun", page.op))?;
                for entry in &page.entries {
                    self.see(at, line.t, convo, entry);
                }
            }
            Event::Inbox(inbox) => {
                counts.inboxes += 1;
                for item in &inbox.items {
                    self.convo(item.convo);
                }
            }
            Event::Mark(mark) => {
                counts.changes += 1;
                self.convo(mark.convo);
                self.find_device(mark.device)?;
            }
            Event::Change(change) => {
                counts.changes += 1;
                self.find_device(change.device)?;
                let convo = self.convo(change.convo);
                for user in &change.users {
                    self.known.users.number(*user);
                }
                if let (Kind::Edit | Kind::Delete, Some(target)) = (change.kind, change.target) {
                    let altered = &mut self.known.logs[convo as usize].altered;
                    altered.entry(target.get()).or_default().push(change.body);
                }
            }
            Event::Fail(fail) => {
                counts.failures += 1;
                self.reads.remove(&(at.file(), fail.op));
            }
            Event::ReadInbox(read) => {
                self.find_device(read.device)?;
            }
            Event::Left(left) => {
                self.convo(left.convo);
                self.conn(at, left.c)?;
            }
            Event::Close(close) => drop(self.conn(at, close.c)?),
            Event::Pong(pong) => drop(self.conn(at, pong.c)?),
            Event::Settled(settled) => drop(self.conn(at, settled.c)?),
            Event::Nodes(nodes) => self.known.has_nodes |= nodes.count > 1,
            Event::Note(_) => self.notes.push((line.t, at)),
            Event::Header(_) | Event::Done(_) | Event::Final(_) => {}
        }
        Ok(())
    }

    /// Everything has been read: puts the entries in order, and judges what needs all of them.
    pub(super) fn finish(mut self) -> Learnt {
        for convo in 0..self.known.logs.len() {
            let log = &mut self.known.logs[convo];
            // Nearly in order already: this sort takes one pass for each run that it finds.
            log.facts.sort_by_key(|fact| fact.seq);
            log.index = HashMap::new();
            let mut messages = 0;
            for fact in &mut log.facts {
                messages += u64::from(fact.kind == Kind::Text);
                fact.messages = messages;
                if fact.kind == Kind::Text {
                    log.own.entry(fact.by).or_default().push(fact.seq);
                }
            }
            self.membership(convo as u32);
        }
        self.counts.sends = self.known.sents.len() as u64;
        self.counts.acked = self.known.sents.iter().filter(|sent| sent.acked.is_some()).count() as u64;
        order::real_time(&self.known, &mut self.findings);
        order::senders(&self.known, &self.orders, &mut self.findings);
        sends::refused_for_good(&self.known, &mut self.findings);
        let Self { known, findings, counts, notes, .. } = self;
        Learnt { known, findings, counts, notes }
    }

    /// Who was in a conversation from where to where: a fold over its log.
    fn membership(&mut self, convo: u32) {
        let log = &mut self.known.logs[convo as usize];
        let mut policy: Option<HistoryPolicy> = None;
        // The last place before the last one that nobody has seen: whoever came in before it may have left there.
        let (mut before_hole, mut last) = (0, 0);
        for fact in &log.facts {
            if fact.seq > last + 1 {
                before_hole = last;
                policy = None;
            }
            last = fact.seq;
            if fact.kind == Kind::Created || fact.kind == Kind::SettingsChanged {
                policy = fact.history.or(policy);
            }
            match fact.kind {
                Kind::Created | Kind::MemberAdded => {
                    for user in &fact.users {
                        let spans = log.spans.entry(*user).or_default();
                        if let Some(span) = spans.last_mut().filter(|span| span.joined <= before_hole) {
                            span.left.get_or_insert(before_hole);
                        }
                        if spans.last().is_none_or(|span| span.left.is_some()) {
                            let visible = match policy {
                                _ if fact.kind == Kind::Created => Some(fact.seq),
                                Some(HistoryPolicy::SinceJoined) => Some(fact.seq),
                                Some(HistoryPolicy::All) => Some(1),
                                None => None,
                            };
                            spans.push(Span { joined: fact.seq, visible, left: None });
                        }
                    }
                }
                Kind::MemberRemoved => {
                    for user in &fact.users {
                        match log.spans.get_mut(user).and_then(|spans| spans.last_mut()) {
                            Some(span) if span.left.is_none() => span.left = Some(fact.seq),
                            // He was in it since before anything is known.
                            _ => {
                                let span = Span { joined: 0, visible: None, left: Some(fact.seq) };
                                log.spans.entry(*user).or_default().push(span);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        for user in log.spans.keys() {
            self.known.convos_of.entry(*user).or_default().push(convo);
        }
    }

    fn device(&mut self, device: DeviceId, user: UserId) -> Result<(), String> {
        let user = self.known.users.number(user);
        let device = self.known.devices.number(device) as usize;
        match self.known.owner.get(device) {
            Some(owner) if *owner != user => return Err("the device was another user's before".into()),
            Some(_) => {}
            None => self.known.owner.push(user),
        }
        Ok(())
    }

    fn find_device(&self, device: DeviceId) -> Result<u32, String> {
        let found = self.known.devices.find(device);
        found.ok_or_else(|| format!("no line of \"e\":\"device\" says whose device {device} is"))
    }

    fn convo(&mut self, convo: ConvoId) -> u32 {
        let number = self.known.convos.number(convo);
        if number as usize == self.known.logs.len() {
            self.known.logs.push(super::known::Convo::default());
        }
        number
    }

    fn conn(&self, at: At, c: u64) -> Result<u32, String> {
        self.known.conn(at.file(), c).ok_or_else(|| format!("connection {c} was not opened"))
    }

    fn send(&mut self, at: At, t: u64, send: &Send) -> Result<(), String> {
        self.counts.attempts += 1;
        let device = self.find_device(send.device)?;
        let convo = self.convo(send.convo);
        let n = send.n.get();
        let conn = send.c.map(|c| self.conn(at, c)).transpose()?;
        let next = self.known.sents.len() as u32;
        let number = *self.sends.entry((device, convo, n)).or_insert(next);
        if number == next {
            let first = *self.by_user.entry((self.known.owner[device as usize], convo, n)).or_insert(number);
            let twin =
                if first == number { None } else { self.known.sents[first as usize].twin.replace(number) };
            self.known.sents.push(Sent {
                convo,
                n,
                body: send.body,
                begun: t,
                begun_at: at,
                floor: self.known.logs[convo as usize].top,
                first: None,
                last: None,
                attempts: 0,
                refused: 0,
                trouble: None,
                acked: None,
                seq: 0,
                twin,
            });
        }
        let sent = &mut self.known.sents[number as usize];
        sent.attempts += 1;
        if sent.body != send.body {
            // The same number with another text is another thing, and has to be refused: `conflict`.
            return Ok(());
        }
        let place = conn.map(|conn| {
            let order = self.orders.entry((conn, convo)).or_default();
            order.push(number);
            (conn, order.len() as u32 - 1)
        });
        if sent.attempts == 1 {
            sent.first = place;
        }
        sent.last = place;
        Ok(())
    }

    fn ack(&mut self, at: At, t: u64, ack: &Ack) -> Result<(), String> {
        let device = self.find_device(ack.device)?;
        let convo = self.convo(ack.convo);
        if let Some(c) = ack.c {
            self.conn(at, c)?;
        }
        let Some(number) = self.sends.get(&(device, convo, ack.n.get())).copied() else {
            sends::acked_unsent(&mut self.findings, at, ack);
            return Ok(());
        };
        let seq = ack.seq.get();
        sends::acked(&mut self.known, &mut self.findings, number, seq, at);
        let sent = &self.known.sents[number as usize];
        let seen = Seen {
            seq: ack.seq,
            kind: Kind::Text,
            by: self.known.user(self.known.owner[device as usize]),
            n: Some(ClientSeq::new(sent.n)),
            body: None,
            users: Vec::new(),
            target: None,
            history: None,
        };
        self.see_of(at, t, convo, &seen, Some(number));
        Ok(())
    }

    fn refuse(&mut self, at: At, refuse: &Refuse) -> Result<(), String> {
        self.counts.refused += 1;
        let device = self.find_device(refuse.device)?;
        let convo = self.convo(refuse.convo);
        if let Some(number) = self.sends.get(&(device, convo, refuse.n.get())) {
            let sent = &mut self.known.sents[*number as usize];
            match refuse.code {
                // It says that another text was sent under this number, and nothing of this one.
                Code::Conflict => {}
                // It may be stored, and the answer is what was lost.
                Code::Unavailable => sent.trouble = Some(at),
                _ => {
                    sent.refused += 1;
                    sent.trouble = Some(at);
                }
            }
        }
        Ok(())
    }

    /// An entry was pushed or read.
    fn see(&mut self, at: At, t: u64, convo: u32, seen: &Seen) {
        let by = self.known.users.number(seen.by);
        let before = self.known.logs[convo as usize].before;
        let of = (seen.kind == Kind::Text && seen.seq.get() > before).then(|| {
            let n = seen.n.map_or(0, ClientSeq::get);
            sends::sender(&self.known, self.by_user.get(&(by, convo, n)).copied(), seen)
        });
        match of {
            Some(None) => sends::phantom(&mut self.findings, at, seen),
            Some(Some(number)) => {
                sends::seen(&mut self.known, &mut self.findings, number, seen, at);
                self.see_of(at, t, convo, seen, Some(number));
            }
            None => self.see_of(at, t, convo, seen, None),
        }
    }

    fn see_of(&mut self, at: At, t: u64, convo: u32, seen: &Seen, sent: Option<u32>) {
        let by = self.known.users.number(seen.by);
        let users: Box<[u32]> = seen.users.iter().map(|user| self.known.users.number(*user)).collect();
        let log = &mut self.known.logs[convo as usize];
        let seq = seen.seq.get();
        if log.top.is_none_or(|(top, _)| top < seq) {
            log.top = Some((seq, at));
        }
        match log.index.get(&seq) {
            Some(place) => {
                let fact = &log.facts[*place as usize];
                order::same(&mut self.findings, fact, seen, by, sent, &users, at);
            }
            None => {
                log.index.insert(seq, log.facts.len() as u32);
                log.facts.push(Fact {
                    seq,
                    kind: seen.kind,
                    by,
                    users,
                    target: seen.target.map_or(0, |target| target.get()),
                    history: seen.history,
                    t,
                    at,
                    sent,
                    messages: 0,
                });
            }
        }
    }
}
