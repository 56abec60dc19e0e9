//! The second reading: follows every connection and every call, knowing what is known in the end.

use std::collections::{BTreeSet, HashMap};

use tertulia_protocol::{Code, ConvoId, DeviceId, UserId};

use super::known::Known;
use super::rules::Findings;
use super::rules::fence::Fence;
use super::rules::owed::Live;
use super::rules::reads::{Asked, Reads};
use super::rules::unread::recount;
use super::rules::watermarks::Watermarks;
use super::source::At;
use crate::event::{Event, Inbox, Kind, Line, Page, Push, Read};

/// A call that has not been answered.
#[derive(Debug)]
enum Call {
    Read(Asked, u32, Box<Read>),
    Inbox(Asked),
    Mark { user: u32, convo: u32, delivered: u64, read: u64 },
    Add { convo: u32, users: Vec<u32> },
    Remove { convo: u32, users: Vec<u32> },
    Other,
}

/// Follows.
#[derive(Debug)]
pub(super) struct Retracer<'a> {
    known: &'a Known,
    findings: Findings,
    live: Live,
    fence: Fence,
    reads: Reads,
    watermarks: Watermarks,
    calls: HashMap<(usize, u64), Call>,
    /// When reads that are open began: nobody asks for what was before the first of them.
    open_reads: BTreeSet<(u64, usize, u64)>,
    is_final: bool,
}

/// What the second reading says at its end.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) findings: Findings,
    /// Whether there was a final reading.
    pub(super) is_final: bool,
    /// Acked messages that it did not read, and the first ack of them.
    pub(super) unread_back: (u64, Option<At>),
}

impl<'a> Retracer<'a> {
    pub(super) fn new(known: &'a Known, findings: Findings) -> Self {
        Self {
            known,
            findings,
            live: Live::default(),
            fence: Fence::default(),
            reads: Reads::default(),
            watermarks: Watermarks::default(),
            calls: HashMap::new(),
            open_reads: BTreeSet::new(),
            is_final: false,
        }
    }

    pub(super) fn finish(mut self) -> Outcome {
        let unread_back = self.reads.unread_back(self.known, &mut self.findings);
        Outcome { findings: self.findings, is_final: self.is_final, unread_back }
    }

    /// Takes the next line; the first reading has found it to be in order.
    pub(super) fn take(&mut self, at: At, line: &Line) -> Result<(), String> {
        let t = line.t;
        match &line.event {
            Event::Open(open) => {
                let conn = self.conn(at, open.c)?;
                self.live.open(self.known, conn, open, at, t);
            }
            Event::Close(close) => {
                let conn = self.conn(at, close.c)?;
                self.live.close(self.known, conn);
                self.watermarks.close(conn);
            }
            Event::Ack(ack) => {
                let (convo, device, seq) = (self.convo(ack.convo)?, self.device(ack.device)?, ack.seq.get());
                if let Some(c) = ack.c {
                    let conn = self.conn(at, c)?;
                    self.live.ack(conn, convo, seq, at);
                }
                if self.shown(convo, seq, at) {
                    let user = self.known.owner[device as usize];
                    let horizon = self.horizon(t);
                    self.reads.own.raise((user, convo), t, seq, at, horizon);
                }
            }
            Event::Push(push) => self.push(at, t, push)?,
            Event::Gap(gap) => {
                let (conn, convo) = (self.conn(at, gap.c)?, self.convo(gap.convo)?);
                let range = (gap.from.get(), gap.to.get());
                self.live.gap(self.known, &mut self.findings, conn, convo, range, at);
            }
            Event::Receipt(receipt) => {
                let (conn, convo) = (self.conn(at, receipt.c)?, self.convo(receipt.convo)?);
                let user = self.user(receipt.user)?;
                self.watermarks.receipt(&mut self.findings, (conn, convo, user), receipt, at);
            }
            Event::Left(left) => {
                let conn = self.conn(at, left.c)?;
                // One of which nothing else was ever seen is owed to nobody.
                if let Some(convo) = self.known.convos.find(left.convo) {
                    self.live.left(conn, convo);
                }
            }
            Event::Pong(pong) => {
                let conn = self.conn(at, pong.c)?;
                self.live.tell(self.known, conn, &pong.position, at);
            }
            Event::Settled(settled) => {
                let conn = self.conn(at, settled.c)?;
                self.live.settled(self.known, &mut self.findings, conn, at, t);
            }
            Event::Read(read) => {
                let asked = self.asked(read.device, at, t)?;
                let call = Call::Read(asked, self.convo(read.convo)?, Box::new(*read));
                self.begin(at, t, read.op, call);
            }
            Event::ReadInbox(read) => {
                let call = Call::Inbox(self.asked(read.device, at, t)?);
                self.begin(at, t, read.op, call);
            }
            Event::Page(page) => self.page(at, t, page)?,
            Event::Inbox(inbox) => self.inbox(at, t, inbox)?,
            Event::Mark(mark) => {
                let (convo, device) = (self.convo(mark.convo)?, self.device(mark.device)?);
                let user = self.known.owner[device as usize];
                let [delivered, read] = [mark.delivered, mark.read].map(|seq| seq.map_or(0, |seq| seq.get()));
                self.calls.insert((at.file(), mark.op), Call::Mark { user, convo, delivered, read });
            }
            Event::Change(change) => {
                let convo = self.convo(change.convo)?;
                let users =
                    change.users.iter().map(|user| self.user(*user)).collect::<Result<Vec<_>, _>>()?;
                let call = match change.kind {
                    Kind::MemberAdded => {
                        users.iter().for_each(|user| self.fence.adds(convo, *user));
                        Call::Add { convo, users }
                    }
                    Kind::MemberRemoved => Call::Remove { convo, users },
                    _ => Call::Other,
                };
                self.calls.insert((at.file(), change.op), call);
            }
            Event::Done(done) => self.done(at, t, done.op),
            Event::Fail(fail) => {
                let call = self.end(at, fail.op);
                // After `unavailable` it may have been carried out, as after no answer.
                let refused = fail.code.filter(|code| *code != Code::Unavailable);
                if let (Some(Call::Add { convo, users }), Some(_)) = (call, refused) {
                    users.iter().for_each(|user| self.fence.has_added(convo, *user));
                }
            }
            Event::Final(_) => self.is_final = true,
            Event::Header(_)
            | Event::Nodes(_)
            | Event::Device(_)
            | Event::Before(_)
            | Event::Send(_)
            | Event::Refuse(_)
            | Event::Note(_) => {}
        }
        Ok(())
    }

    fn push(&mut self, at: At, t: u64, push: &Push) -> Result<(), String> {
        let (conn, convo, seq) = (self.conn(at, push.c)?, self.convo(push.convo)?, push.entry.seq.get());
        let (user, device) = (self.known.conns[conn as usize].user, self.known.conns[conn as usize].device);
        self.fence.sees(self.known, &mut self.findings, (convo, user), seq, at);
        let is_known = self.shown(convo, seq, at);
        let position = push.position.as_deref();
        self.live.push(self.known, &mut self.findings, conn, convo, seq, position, at, t);
        if is_known {
            let horizon = self.horizon(t);
            self.reads.seen.raise((device, convo), t, seq, at, horizon);
        }
        Ok(())
    }

    fn page(&mut self, at: At, t: u64, page: &Page) -> Result<(), String> {
        let Some(Call::Read(asked, convo, read)) = self.end(at, page.op) else {
            return Err(format!("call {} did not ask for a page", page.op));
        };
        let who = (convo, asked.user);
        self.fence.is_shown(self.known, &mut self.findings, who, (asked.at, asked.t), at);
        for entry in &page.entries {
            self.fence.sees(self.known, &mut self.findings, who, entry.seq.get(), at);
            self.shown(convo, entry.seq.get(), at);
        }
        self.reads.page(self.known, &mut self.findings, asked, (convo, &read), page, at);
        if let Some(last) =
            page.entries.last().filter(|last| self.known.log(convo).fact(last.seq.get()).is_some())
        {
            let horizon = self.horizon(t);
            self.reads.seen.raise((asked.device, convo), t, last.seq.get(), at, horizon);
        }
        Ok(())
    }

    fn inbox(&mut self, at: At, t: u64, inbox: &Inbox) -> Result<(), String> {
        let Some(Call::Inbox(asked)) = self.end(at, inbox.op) else {
            return Err(format!("call {} did not ask for an inbox", inbox.op));
        };
        for item in &inbox.items {
            let convo = self.convo(item.convo)?;
            let who = (convo, asked.user);
            self.fence.is_shown(self.known, &mut self.findings, who, (asked.at, asked.t), at);
            self.reads.reaches(&mut self.findings, asked, convo, (item.last.get(), u64::MAX), |_| false, at);
            let (own, horizon) = (self.reads.own.before((asked.user, convo), asked.t), self.horizon(t));
            self.watermarks.inbox(&mut self.findings, own, asked, convo, item, at, t, horizon);
            recount(self.known, &mut self.findings, who, item, asked.at, at);
        }
        Ok(())
    }

    fn done(&mut self, at: At, t: u64, op: u64) {
        match self.end(at, op) {
            Some(Call::Mark { user, convo, delivered, read }) => {
                let horizon = self.horizon(t);
                self.watermarks.marked((user, convo), (delivered, read), t, at, horizon);
            }
            Some(Call::Add { convo, users }) => {
                users.iter().for_each(|user| self.fence.has_added(convo, *user));
            }
            Some(Call::Remove { convo, users }) => {
                users.iter().for_each(|user| self.fence.has_removed(convo, *user, at, t));
            }
            _ => {}
        }
    }

    /// A line shows an entry; a phantom shows nothing that others have to see.
    fn shown(&mut self, convo: u32, seq: u64, at: At) -> bool {
        let is_known = self.known.log(convo).fact(seq).is_some();
        if is_known {
            self.live.shown(self.known, convo, seq, at);
            self.reads.shown(convo, seq, at);
        }
        is_known
    }

    fn begin(&mut self, at: At, t: u64, op: u64, call: Call) {
        self.open_reads.insert((t, at.file(), op));
        self.calls.insert((at.file(), op), call);
    }

    fn end(&mut self, at: At, op: u64) -> Option<Call> {
        let call = self.calls.remove(&(at.file(), op))?;
        if let Call::Read(asked, ..) | Call::Inbox(asked) = &call {
            self.open_reads.remove(&(asked.t, at.file(), op));
        }
        Some(call)
    }

    fn horizon(&self, t: u64) -> u64 {
        self.open_reads.first().map_or(t, |(begun, _, _)| *begun)
    }

    fn asked(&self, device: DeviceId, at: At, t: u64) -> Result<Asked, String> {
        let device = self.device(device)?;
        Ok(Asked { user: self.known.owner[device as usize], device, t, at, is_final: self.is_final })
    }

    fn conn(&self, at: At, c: u64) -> Result<u32, String> {
        self.known.conn(at.file(), c).ok_or_else(changed)
    }

    fn convo(&self, convo: ConvoId) -> Result<u32, String> {
        self.known.convos.find(convo).ok_or_else(changed)
    }

    fn device(&self, device: DeviceId) -> Result<u32, String> {
        self.known.devices.find(device).ok_or_else(changed)
    }

    fn user(&self, user: UserId) -> Result<u32, String> {
        self.known.users.find(user).ok_or_else(changed)
    }
}

/// The files are read twice.
fn changed() -> String {
    "the file was changed while it was read".to_owned()
}
