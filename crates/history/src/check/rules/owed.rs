//! Complete resumes, and positions that are true.
//!
//! What a connection is owed: every entry that its user may see, and that
//! - was sent after the connection stood; or
//! - of one that resumed: was not handed over on the earlier connection when that one was told the position,
//!   for a position is never ahead of what has been handed over.
//!
//! An entry that carries a position says that nothing before it is still on its way. So if a line shows that an
//! owed entry was durable before the pushed one was sent, the owed one has been handed over by then: pushed,
//! named by a gap or acked there. And what is owed at `settled` has been handed over, too.
//!
//! Where several nodes answer, an entry carries the last position that its node was sure of, which may be below the
//! owed entry and below itself: it says nothing of either. What a resume from it owes is judged all the same.
//!
//! Entries of a time as a member that has ended are no longer owed once that is known. Cost: each entry is owed
//! once to each connection that it has to come to, and a resume costs what was missed.

use std::collections::{HashMap, HashSet, VecDeque};

use super::live::{Arrival, Heard, Wire, first_from};
use super::{Findings, Rule};
use crate::check::known::{Fact, Known, Sight, position};
use crate::check::source::At;
use crate::event::Open;

/// An entry that has to come, and since when it is known.
#[derive(Debug, Clone, Copy)]
struct Owed {
    t: u64,
    convo: u32,
    seq: u64,
}

/// What had been handed over when a position was told first.
#[derive(Debug)]
struct Told {
    at: At,
    since: u64,
    heard: HashMap<u32, Heard>,
}

/// The open connections.
#[derive(Debug, Default)]
pub(in crate::check) struct Live {
    wires: HashMap<u32, (Wire, VecDeque<Owed>)>,
    /// By conversation: the open connections of those who were ever in it.
    listeners: HashMap<u32, HashSet<u32>>,
    /// By conversation: the highest place that is known by now.
    top: HashMap<u32, u64>,
    /// Only positions that are resumed from.
    told: HashMap<(u32, u64), Told>,
}

impl Live {
    pub(in crate::check) fn open(&mut self, known: &Known, conn: u32, open: &Open, at: At, t: u64) {
        let (user, device) = (known.conns[conn as usize].user, known.conns[conn as usize].device);
        let from = open.from.as_deref().filter(|_| open.resumed);
        let told = from.and_then(|from| self.told.get(&(device, position(from))));
        let mut wire = Wire { conn, user, opened_at: at, since: t, resumed: None, heard: HashMap::new() };
        let mut owed = Vec::new();
        let convos = known.convos_of.get(&user).map_or(&[][..], Vec::as_slice);
        if let Some(told) = told {
            wire.since = told.since;
            wire.resumed = Some(told.at);
            wire.heard = told.heard.clone();
            wire.heard.values_mut().for_each(|heard| heard.inherited = true);
            for convo in convos {
                let Some(top) = self.top.get(convo) else { continue };
                let log = known.log(*convo);
                let last = wire.heard.get(convo).filter(|heard| heard.started).map(|heard| heard.last);
                let missed = log.facts[..first_from(&log.facts, top + 1)].iter().rev();
                let missed = missed.take_while(|fact| match last {
                    Some(last) => fact.seq > last,
                    None => wire.may_be_due(known, fact),
                });
                let missed = missed.filter(|fact| last.is_some() || wire.is_due(known, fact));
                let missed = missed.filter(|fact| fact.t <= t && wire.owes(known, *convo, fact));
                owed.extend(missed.map(|fact| Owed { t: fact.t, convo: *convo, seq: fact.seq }));
            }
            owed.sort_by_key(|owed| owed.t);
        }
        for convo in convos {
            self.listeners.entry(*convo).or_default().insert(conn);
        }
        self.wires.insert(conn, (wire, owed.into()));
        self.tell(known, conn, &open.position, at);
    }

    pub(in crate::check) fn close(&mut self, known: &Known, conn: u32) {
        if let Some((wire, _)) = self.wires.remove(&conn) {
            let convos = known.convos_of.get(&wire.user).map_or(&[][..], Vec::as_slice);
            for convo in convos.iter().chain(wire.heard.keys()) {
                if let Some(listeners) = self.listeners.get_mut(convo) {
                    listeners.remove(&conn);
                }
            }
        }
    }

    pub(in crate::check) fn ack(&mut self, conn: u32, convo: u32, seq: u64, at: At) {
        if let Some((wire, _)) = self.wires.get_mut(&conn) {
            wire.ack(convo, seq, at);
        }
    }

    /// A line shows an entry; if it is the first one, the entry is owed from now on.
    pub(in crate::check) fn shown(&mut self, known: &Known, convo: u32, seq: u64, at: At) {
        let Some(fact) = known.log(convo).fact(seq).filter(|fact| fact.at == at) else { return };
        let top = self.top.entry(convo).or_default();
        *top = seq.max(*top);
        for conn in self.listeners.get(&convo).into_iter().flatten() {
            let Some((wire, owed)) = self.wires.get_mut(conn) else { continue };
            let follows = wire.heard.get(&convo).is_some_and(|heard| heard.started);
            if (follows || wire.is_due(known, fact)) && wire.owes(known, convo, fact) {
                owed.push_back(Owed { t: fact.t, convo, seq });
            }
        }
    }

    /// An entry is pushed. Call [`shown`](Self::shown) before.
    #[expect(clippy::too_many_arguments, reason = "they are the line")]
    pub(in crate::check) fn push(
        &mut self,
        known: &Known,
        findings: &mut Findings,
        conn: u32,
        convo: u32,
        seq: u64,
        position: Option<&str>,
        at: At,
        t: u64,
    ) {
        self.arrive(known, findings, conn, Arrival { convo, from: seq, to: seq, is_gap: false, at });
        let Some(position) = position else { return };
        if !known.has_nodes
            && let Some((begun, sent)) = known.begun(convo, seq)
            && let Some((wire, owed)) = self.wires.get_mut(&conn)
        {
            settle(known, findings, wire, owed, (begun, t), &[sent.begun_at, at]);
        }
        self.tell(known, conn, position, at);
    }

    pub(in crate::check) fn gap(
        &mut self,
        known: &Known,
        findings: &mut Findings,
        conn: u32,
        convo: u32,
        (from, to): (u64, u64),
        at: At,
    ) {
        self.arrive(known, findings, conn, Arrival { convo, from, to, is_gap: true, at });
    }

    /// The user is told that he is no longer in a conversation: what he missed of it he will not see.
    pub(in crate::check) fn left(&mut self, conn: u32, convo: u32) {
        if let Some((_, owed)) = self.wires.get_mut(&conn) {
            owed.retain(|owed| owed.convo != convo);
        }
    }

    /// What is owed by now has to be there.
    pub(in crate::check) fn settled(
        &mut self,
        known: &Known,
        findings: &mut Findings,
        conn: u32,
        at: At,
        t: u64,
    ) {
        if let Some((wire, owed)) = self.wires.get_mut(&conn) {
            settle(known, findings, wire, owed, (t, t), &[at]);
        }
    }

    /// A position is told: remembers what has been handed over, if it will be resumed from.
    pub(in crate::check) fn tell(&mut self, known: &Known, conn: u32, text: &str, at: At) {
        let key = (known.conns[conn as usize].device, position(text));
        if known.resumed_from.contains(&key)
            && let Some((wire, _)) = self.wires.get(&conn)
        {
            // Told again later, it is the same moment: what counts is what it was first.
            self.told.entry(key).or_insert_with(|| Told { at, since: wire.since, heard: wire.heard.clone() });
        }
    }

    fn arrive(&mut self, known: &Known, findings: &mut Findings, conn: u32, arrival: Arrival) {
        if let Some((wire, _)) = self.wires.get_mut(&conn) {
            if !wire.heard.contains_key(&arrival.convo) {
                self.listeners.entry(arrival.convo).or_default().insert(conn);
            }
            wire.arrive(known, findings, arrival);
        }
    }
}

impl Wire {
    /// Whether an entry that is due has to come: it is the user's to see and has not come.
    fn owes(&self, known: &Known, convo: u32, fact: &Fact) -> bool {
        let heard = self.heard.get(&convo);
        if heard.is_some_and(|heard| heard.has(fact.seq)) {
            return false;
        }
        match known.log(convo).sight(self.user, fact.seq) {
            Sight::Member(span) => fact.seq >= span.joined,
            Sight::Stranger | Sight::Unknown => false,
        }
    }
}

/// Looks for what was owed before `before` and has not come by `now`.
fn settle(
    known: &Known,
    findings: &mut Findings,
    wire: &Wire,
    owed: &mut VecDeque<Owed>,
    (before, now): (u64, u64),
    because: &[At],
) {
    while let Some(&Owed { t, convo, seq }) = owed.front() {
        let has_come = wire.heard.get(&convo).is_some_and(|heard| heard.has(seq));
        if !has_come && t >= before {
            return;
        }
        owed.pop_front();
        let log = known.log(convo);
        let Some(fact) = log.fact(seq).filter(|_| !has_come) else { continue };
        let inherits = wire.heard.get(&convo).is_none_or(|heard| heard.inherited || !heard.started);
        let rule = wire.rule(inherits);
        findings.looked(rule);
        let has_left = match log.sight(wire.user, seq) {
            Sight::Member(span) => {
                span.left.is_some_and(|left| log.fact(left).is_some_and(|fact| fact.t < now))
            }
            Sight::Stranger | Sight::Unknown => false,
        };
        if has_left || wire.stands_for(known, convo, fact) {
            continue;
        }
        let told = wire.resumed.filter(|_| rule == Rule::Resume);
        let what = || format!("entry {seq} had to come by then, and did not");
        let because = because.iter().map(|at| (*at).into());
        let proof: Vec<_> = told
            .map(Into::into)
            .into_iter()
            .chain([wire.opened_at.into(), (fact.at, seq).into()])
            .chain(because)
            .collect();
        findings.broken(rule, what, &proof);
    }
}
