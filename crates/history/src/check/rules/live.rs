//! Live order: what a connection is told.
//!
//! On one connection, the entries of a conversation ascend and none comes twice. What lies between two that
//! follow each other is named by a `gap`, or was sent by this very connection (its ack stands for the push), or
//! lies in a time in which the user was no member. Before the first: nothing that was sent after the connection
//! stood is left out.
//!
//! A connection that resumed goes on where the earlier one was when it was told the position: there the same
//! is demanded under the rule *resume*, but that an entry may come a second time.

use std::collections::{BTreeSet, HashMap};

use super::{Findings, Rule};
use crate::check::known::{Fact, Known, Sight};
use crate::check::source::At;

/// What a connection has been told of a conversation.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    /// Whether anything was pushed; before that only acks are known.
    pub(super) started: bool,
    /// Whether it is what an earlier connection was told.
    pub(super) inherited: bool,
    /// Handed over up to here.
    pub(super) last: u64,
    last_at: At,
    /// Acked above that.
    pub(super) acked: BTreeSet<u64>,
}

impl Heard {
    fn new(at: At) -> Self {
        Self { started: false, inherited: false, last: 0, last_at: at, acked: BTreeSet::new() }
    }

    pub(super) fn has(&self, seq: u64) -> bool {
        (self.started && seq <= self.last) || self.acked.contains(&seq)
    }
}

/// A connection, while it is open.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) conn: u32,
    pub(super) user: u32,
    pub(super) opened_at: At,
    /// What was sent after this moment is due.
    pub(super) since: u64,
    /// The line that told the position that it resumed from.
    pub(super) resumed: Option<At>,
    pub(super) heard: HashMap<u32, Heard>,
}

/// What arrives: an entry, or the entries that a gap names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) convo: u32,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) is_gap: bool,
    pub(super) at: At,
}

impl Wire {
    /// A message was acked on it.
    pub(super) fn ack(&mut self, convo: u32, seq: u64, at: At) {
        let heard = self.heard.entry(convo).or_insert_with(|| Heard::new(at));
        if !heard.has(seq) {
            heard.acked.insert(seq);
        }
    }

    /// The rule that what comes is judged by.
    pub(super) fn rule(&self, catches_up: bool) -> Rule {
        if catches_up && self.resumed.is_some() { Rule::Resume } else { Rule::LiveOrder }
    }

    /// Something was pushed on it.
    pub(super) fn arrive(&mut self, known: &Known, findings: &mut Findings, arrival: Arrival) {
        let Arrival { convo, from, to, is_gap, at } = arrival;
        let log = known.log(convo);
        // What was before he came in, or came in again, is not missing.
        let sight = log.sight(self.user, to);
        let joined = match sight {
            Sight::Member(span) => span.joined,
            // That it comes at all is what is wrong, and another rule says so.
            Sight::Stranger => return,
            Sight::Unknown => 0,
        };
        let heard = self.heard.entry(convo).or_insert_with(|| Heard::new(at));
        let (started, inherited, last, last_at) = (heard.started, heard.inherited, heard.last, heard.last_at);
        findings.looked(self.rule(inherited || !started));
        if started && !inherited && from <= last && !is_gap {
            let what = || format!("entry {from} comes after {last} on one connection");
            findings.broken(Rule::LiveOrder, what, &[(last_at, last).into(), (at, from).into()]);
            return;
        }
        let missing = if started {
            let above = (last + 1).max(joined);
            let facts = log.facts.get(first_from(&log.facts, above)..).unwrap_or_default();
            facts.iter().take_while(|fact| fact.seq < from).find(|fact| !self.stands_for(known, convo, fact))
        } else {
            let end = first_from(&log.facts, from);
            log.facts[..end]
                .iter()
                .rev()
                .take_while(|fact| fact.seq >= joined && self.may_be_due(known, fact))
                .find(|fact| self.is_due(known, fact) && !self.stands_for(known, convo, fact))
        };
        // Who may have been out of it for a while is judged only by what he was told in one go.
        let is_sure = sight != Sight::Unknown || (started && !inherited);
        if let Some(fact) = missing.filter(|_| is_sure) {
            let rule = self.rule(inherited || !started);
            let what = || format!("entry {} is left out before {from}, and no gap names it", fact.seq);
            // It is missing after what came last; before anything came, after what the connection began with.
            let after = if started && !inherited { (last_at, last).into() } else { self.opened_at.into() };
            let told = self.resumed.filter(|_| rule == Rule::Resume).unwrap_or(self.opened_at);
            let mut proof = vec![told.into(), after, (fact.at, fact.seq).into(), (at, from).into()];
            if started && !inherited {
                proof.remove(0);
            }
            findings.broken(rule, what, &proof);
        }
        if let Some(heard) = self.heard.get_mut(&convo) {
            heard.last = if inherited || !started { to } else { last.max(to) };
            (heard.started, heard.inherited, heard.last_at) = (true, false, at);
            heard.acked = heard.acked.split_off(&(heard.last + 1));
        }
    }

    /// Whether an entry is a message that was sent after this connection's beginning.
    pub(super) fn is_due(&self, known: &Known, fact: &Fact) -> bool {
        fact.sent.is_some_and(|number| known.sents[number as usize].begun > self.since)
    }

    /// Whether it may be from after this connection's beginning: when a change was made is not known, only when
    /// it was seen.
    pub(super) fn may_be_due(&self, known: &Known, fact: &Fact) -> bool {
        self.is_due(known, fact) || (fact.sent.is_none() && fact.t > self.since)
    }

    /// Whether an ack on this connection stands for the entry, or may have.
    pub(super) fn stands_for(&self, known: &Known, convo: u32, fact: &Fact) -> bool {
        let acked = self.heard.get(&convo).is_some_and(|heard| heard.acked.contains(&fact.seq));
        let is_his = fact.by == self.user;
        acked || (is_his && fact.sent.is_some_and(|number| known.sents[number as usize].may_be_of(self.conn)))
    }
}

/// Where the first entry from `seq` on is.
pub(super) fn first_from(facts: &[Fact], seq: u64) -> usize {
    let guess = seq.saturating_sub(facts.first().map_or(0, |fact| fact.seq));
    match usize::try_from(guess) {
        Ok(guess) if facts.get(guess).is_some_and(|fact| fact.seq == seq) => guess,
        _ => facts.partition_point(|fact| fact.seq < seq),
    }
}
