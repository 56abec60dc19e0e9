//! One order: all see the same at a place; it respects real time and the order in which a connection sent.
//!
//! *One order*: kind, author, message and members of an entry are the same in every ack, push and page.
//!
//! *Real time*: if any line shows place `s` before the first attempt at a message begins, the message stands
//! above `s`. One comparison a message: with the highest place that was known when it began.
//!
//! *Sender's order*: if the last attempt at `a` went out on the connection on which then the first attempt at
//! `b` went out, and none of `a` was refused, `a` stands below `b`.

use std::collections::HashMap;

use super::{Findings, Rule};
use crate::check::known::{Fact, Known, Sent};
use crate::check::source::At;
use crate::event::Seen;

/// Compares an entry with what was seen of it first.
pub(in crate::check) fn same(
    findings: &mut Findings,
    fact: &Fact,
    seen: &Seen,
    by: u32,
    sent: Option<u32>,
    users: &[u32],
    at: At,
) {
    findings.looked(Rule::OneOrder);
    let target = seen.target.map_or(0, |target| target.get());
    let same = fact.kind == seen.kind
        && fact.by == by
        && fact.sent == sent
        && *fact.users == *users
        && fact.target == target;
    if !same {
        let what = || format!("entry {} is not the same to all", fact.seq);
        findings.broken(Rule::OneOrder, what, &[(fact.at, fact.seq).into(), (at, fact.seq).into()]);
    }
}

/// Judges the order of all messages by when they began.
pub(in crate::check) fn real_time(known: &Known, findings: &mut Findings) {
    for sent in known.sents.iter().filter(|sent| sent.seq > 0) {
        let Some((floor, floor_at)) = sent.floor else { continue };
        findings.looked(Rule::RealTime);
        if sent.seq <= floor {
            let what = || format!("entry {} was there before the message at {} was sent", floor, sent.seq);
            let shown = shown(known, sent);
            findings.broken(
                Rule::RealTime,
                what,
                &[(floor_at, floor).into(), sent.begun_at.into(), shown.into()],
            );
        }
    }
}

/// Judges what each connection sent to each conversation, in order.
pub(in crate::check) fn senders(
    known: &Known,
    orders: &HashMap<(u32, u32), Vec<u32>>,
    findings: &mut Findings,
) {
    for (&(conn, _), order) in orders {
        let mut highest: Option<&Sent> = None;
        for (place, number) in (0..).zip(order) {
            let sent = &known.sents[*number as usize];
            if sent.seq == 0 {
                continue;
            }
            if sent.first == Some((conn, place))
                && let Some(before) = highest
            {
                findings.looked(Rule::SenderOrder);
                if sent.seq <= before.seq {
                    let what = || {
                        let (first, second) = (before.n, sent.n);
                        let (a, b) = (before.seq, sent.seq);
                        format!(
                            "clientSeq {first} was sent before {second} on one connection and stands at {a}, above {b}"
                        )
                    };
                    let proof = [
                        before.begun_at.into(),
                        sent.begun_at.into(),
                        shown(known, before).into(),
                        shown(known, sent).into(),
                    ];
                    findings.broken(Rule::SenderOrder, what, &proof);
                }
            }
            let is_last = sent.last == Some((conn, place)) && sent.trouble.is_none();
            if is_last && highest.is_none_or(|highest| highest.seq < sent.seq) {
                highest = Some(sent);
            }
        }
    }
}

/// The line that shows where a message stands.
fn shown(known: &Known, sent: &Sent) -> (At, u64) {
    (known.log(sent.convo).fact(sent.seq).map_or(sent.begun_at, |fact| fact.at), sent.seq)
}
