//! What pages and inboxes show: no holes, one's own writes, what was seen before, and in the end all that was
//! acked.
//!
//! A page has no hole: after `a` it begins with `a + 1`, or with the first entry that the reader may see;
//! before `b` it ends with `b - 1`, or with the head. It reaches the head if it says that no more follow, and
//! so does the newest page. A page or inbox that reaches the head reaches
//! - what the reader, on any device, was acked before it was asked for (*read your writes*);
//! - what this device was shown before (*monotonic reads*);
//! - after `final`: everything that anybody was ever shown or acked (*no acked loss*).
//!
//! And in the end each acked message was in a page that was asked for after `final`; those that were not are
//! counted, and make the run incomplete.

use std::collections::HashMap;

use super::{Findings, Rule};
use crate::check::known::{Known, Sight};
use crate::check::source::At;
use crate::event::{Page, Read};

/// A bound as it was from a time on: the time, the bound, and the line that shows it.
type Step = (u64, u64, At);

/// A lower bound that rises, and as much of its past as calls that are open can ask for.
#[derive(Debug, Default)]
pub(in crate::check) struct Floors(HashMap<(u32, u32), Vec<Step>>);

impl Floors {
    /// From `t` on it is `seq`; nobody will ask for times before `horizon`.
    pub(in crate::check) fn raise(&mut self, key: (u32, u32), t: u64, seq: u64, at: At, horizon: u64) {
        let steps = self.0.entry(key).or_default();
        if steps.last().is_none_or(|(_, highest, _)| *highest < seq) {
            let unneeded = steps.iter().rposition(|(t, _, _)| *t < horizon).unwrap_or(0);
            steps.drain(..unneeded);
            steps.push((t, seq, at));
        }
    }

    /// What it was before `t`.
    pub(in crate::check) fn before(&self, key: (u32, u32), t: u64) -> Option<(u64, At)> {
        let steps = self.0.get(&key)?;
        steps.iter().rev().find(|(since, _, _)| *since < t).map(|(_, seq, at)| (*seq, *at))
    }
}

/// Somebody who asks.
#[derive(Debug, Clone, Copy)]
pub(in crate::check) struct Asked {
    pub(in crate::check) user: u32,
    pub(in crate::check) device: u32,
    pub(in crate::check) t: u64,
    pub(in crate::check) at: At,
    /// Nobody sends any more.
    pub(in crate::check) is_final: bool,
}

/// What readers have to see.
#[derive(Debug, Default)]
pub(in crate::check) struct Reads {
    /// By user: what he was acked.
    pub(in crate::check) own: Floors,
    /// By device: what it was shown.
    pub(in crate::check) seen: Floors,
    /// By conversation: the highest that anybody was shown or acked.
    highest: HashMap<u32, (u64, At)>,
    /// By conversation: what was read after `final`.
    read_back: HashMap<u32, Vec<(u64, u64)>>,
}

impl Reads {
    /// A line shows an entry.
    pub(in crate::check) fn shown(&mut self, convo: u32, seq: u64, at: At) {
        let highest = self.highest.entry(convo).or_insert((seq, at));
        if highest.0 < seq {
            *highest = (seq, at);
        }
    }

    /// An answer says that a conversation reaches to `last`; `below`: only what is below was asked for. What is
    /// `excused` need not be there.
    pub(in crate::check) fn reaches(
        &self,
        findings: &mut Findings,
        asked: Asked,
        convo: u32,
        (last, below): (u64, u64),
        excused: impl Fn(u64) -> bool,
        at: At,
    ) {
        let own = self.own.before((asked.user, convo), asked.t);
        let seen = self.seen.before((asked.device, convo), asked.t);
        let all = self.highest.get(&convo).copied().filter(|_| asked.is_final);
        for (rule, floor) in [(Rule::AckedLoss, all), (Rule::OwnWrites, own), (Rule::MonotonicReads, seen)] {
            let Some((seq, shown_at)) = floor.filter(|(seq, _)| *seq < below && !excused(*seq)) else {
                continue;
            };
            findings.looked(rule);
            if seq > last {
                let what = || format!("entry {seq} was there before, and this ends with {last}");
                findings.broken(rule, what, &[(shown_at, seq).into(), asked.at.into(), at.into()]);
                // The stronger reason says it all.
                return;
            }
        }
    }

    /// A page has come.
    pub(in crate::check) fn page(
        &mut self,
        known: &Known,
        findings: &mut Findings,
        asked: Asked,
        (convo, read): (u32, &Read),
        page: &Page,
        at: At,
    ) {
        findings.looked(Rule::OneOrder);
        let seqs = || page.entries.iter().map(|entry| entry.seq.get());
        let (first, last) = (seqs().next(), seqs().next_back());
        if let Some((before, seq)) = seqs().zip(seqs().skip(1)).find(|(before, seq)| before + 1 != *seq) {
            let what = || format!("a page has {seq} after {before}");
            findings.broken(Rule::OneOrder, what, &[(at, seq).into()]);
            return;
        }
        let after = read.after.map(|seq| seq.get());
        let before = read.before.map_or(u64::MAX, |seq| seq.get());
        let is_whole = after.is_none() && (!page.more || page.entries.len() < read.limit);
        // The entry that it has to begin with, where that is known.
        let begins = after.map(|after| after + 1).or(is_whole.then_some(1));
        if let (Some(begins), Some(first)) = (begins, first)
            && begins != first
            && !is_start(known, convo, asked.user, first)
        {
            let what = || format!("a page begins with {first}, and {begins} was due");
            findings.broken(Rule::OneOrder, what, &[asked.at.into(), (at, first).into()]);
        }
        if let Some(last) = last.filter(|last| *last >= before) {
            let what = || format!("a page of what is before {before} ends with {last}");
            findings.broken(Rule::OneOrder, what, &[asked.at.into(), (at, last).into()]);
        }
        if after.is_none() || !page.more {
            // Who has come in again since need not see it any more: it is below what he may see now.
            let is_below_his = |seq| last.is_none() && comes_in_later(known, convo, asked.user, seq, before);
            let ends = (last.or(after).unwrap_or(0), before);
            self.reaches(findings, asked, convo, ends, is_below_his, at);
        }
        if let (true, Some(first), Some(last)) = (asked.is_final, first, last) {
            let ranges = self.read_back.entry(convo).or_default();
            match ranges.last_mut() {
                Some(range) if range.0 <= first && first <= range.1 + 1 => range.1 = range.1.max(last),
                _ => ranges.push((first, last)),
            }
        }
    }

    /// How many acked messages were not read back in the end, and the first of them.
    pub(in crate::check) fn unread_back(
        mut self,
        known: &Known,
        findings: &mut Findings,
    ) -> (u64, Option<At>) {
        for ranges in self.read_back.values_mut() {
            ranges.sort_unstable();
            let mut merged: Vec<(u64, u64)> = Vec::new();
            for (first, last) in ranges.drain(..) {
                match merged.last_mut() {
                    Some(range) if first <= range.1 + 1 => range.1 = range.1.max(last),
                    _ => merged.push((first, last)),
                }
            }
            *ranges = merged;
        }
        let mut missing = (0, None);
        for sent in &known.sents {
            let Some((seq, at)) = sent.acked else { continue };
            let ranges = self.read_back.get(&sent.convo).map_or(&[][..], Vec::as_slice);
            let place = ranges.partition_point(|(first, _)| *first <= seq);
            if place > 0 && ranges[place - 1].1 >= seq {
                findings.looked(Rule::AckedLoss);
            } else {
                missing.0 += 1;
                missing.1.get_or_insert(at);
            }
        }
        missing
    }
}

/// Whether a reader came into a conversation above `seq`, so that nothing below `before` need be his to see.
fn comes_in_later(known: &Known, convo: u32, user: u32, seq: u64, before: u64) -> bool {
    let spans = known.log(convo).spans.get(&user).map_or(&[][..], Vec::as_slice);
    spans.iter().any(|span| span.joined > seq && span.visible.is_none_or(|first| first >= before))
}

/// Whether a reader's history may begin with this entry.
fn is_start(known: &Known, convo: u32, user: u32, seq: u64) -> bool {
    let log = known.log(convo);
    match log.spans.get(&user) {
        Some(spans) => {
            spans.iter().any(|span| span.visible.is_none_or(|visible| visible == seq) || span.joined == seq)
        }
        None => log.sight(user, seq) == Sight::Unknown,
    }
}
