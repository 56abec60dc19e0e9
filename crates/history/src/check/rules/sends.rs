//! No phantom, no duplicate.
//!
//! *Phantom*: a message that is seen or acked was tried to be sent before, by a device of the one whom it
//! names, in that conversation, under that number and with that text; another text is right if an edit to it
//! was begun before, none if a delete was. A message all of whose attempts were refused for good is nowhere.
//!
//! *Duplicate*: one (device, conversation, `clientSeq`) stands at one place, in all acks and all entries.

use super::{Findings, Rule};
use crate::check::known::Known;
use crate::check::source::At;
use crate::event::{Ack, Seen};

/// Which message an entry is, of those that its sender sent under that number; `None` if he sent none.
pub(in crate::check) fn sender(known: &Known, first: Option<u32>, seen: &Seen) -> Option<u32> {
    let mut twins = std::iter::successors(first, |number| known.sents[*number as usize].twin);
    // Devices of one user may use the same number: the place decides, and before it is known, the text.
    let at_place = twins.clone().find(|number| known.sents[*number as usize].seq == seen.seq.get());
    let same_text = || {
        let is_it = |number: &u32| {
            let sent = &known.sents[*number as usize];
            sent.seq == 0 && Some(sent.body) == seen.body
        };
        twins.find(is_it)
    };
    at_place.or_else(same_text).or(first)
}

/// An entry that nobody has sent.
pub(in crate::check) fn phantom(findings: &mut Findings, at: At, seen: &Seen) {
    findings.looked(Rule::Phantom);
    let what = || {
        let n = seen.n.map_or_else(|| "without a clientSeq".into(), |n| format!("with clientSeq {n}"));
        format!("entry {} is a message of {} {n}, who had not sent it", seen.seq, seen.by)
    };
    findings.broken(Rule::Phantom, what, &[(at, seen.seq.get()).into()]);
}

/// An ack of what nobody has sent.
pub(in crate::check) fn acked_unsent(findings: &mut Findings, at: At, ack: &Ack) {
    findings.looked(Rule::Phantom);
    let what = || format!("clientSeq {} of device {} is acked and had not been sent", ack.n, ack.device);
    findings.broken(Rule::Phantom, what, &[at.into()]);
}

/// A message is acked.
pub(in crate::check) fn acked(known: &mut Known, findings: &mut Findings, number: u32, seq: u64, at: At) {
    stands(known, findings, number, seq, at);
    known.sents[number as usize].acked.get_or_insert((seq, at));
}

/// A message is seen.
pub(in crate::check) fn seen(known: &mut Known, findings: &mut Findings, number: u32, seen: &Seen, at: At) {
    findings.looked(Rule::Phantom);
    let sent = &known.sents[number as usize];
    if seen.body != Some(sent.body) {
        let altered = known.log(sent.convo).altered.get(&seen.seq.get());
        let may_be = altered.is_some_and(|altered| altered.contains(&seen.body));
        if !may_be {
            let shown = seen.body.map_or_else(|| "no text".to_owned(), |body| body.to_string());
            let what = || format!("entry {} shows {shown}, and {} was sent", seen.seq, sent.body);
            findings.broken(Rule::Phantom, what, &[sent.begun_at.into(), (at, seen.seq.get()).into()]);
        }
    }
    stands(known, findings, number, seen.seq.get(), at);
}

fn stands(known: &mut Known, findings: &mut Findings, number: u32, seq: u64, at: At) {
    findings.looked(Rule::Duplicate);
    let sent = &mut known.sents[number as usize];
    if sent.seq == 0 {
        sent.seq = seq;
        return;
    }
    if sent.seq != seq {
        let (sent, first) = (&known.sents[number as usize], known.sents[number as usize].seq);
        let log = known.log(sent.convo);
        let shown = log.index.get(&first).map_or(sent.begun_at, |place| log.facts[*place as usize].at);
        let what = || format!("clientSeq {} of one device stands at {first} and at {seq}", sent.n);
        findings.broken(Rule::Duplicate, what, &[(shown, first).into(), (at, seq).into()]);
    }
}

/// What was refused each time, and is there all the same.
pub(in crate::check) fn refused_for_good(known: &Known, findings: &mut Findings) {
    for sent in known.sents.iter().filter(|sent| sent.seq > 0 && sent.attempts > 0) {
        let Some(refused_at) = sent.trouble.filter(|_| sent.refused >= sent.attempts) else { continue };
        let Some(fact) = known.log(sent.convo).fact(sent.seq) else { continue };
        let what = || format!("clientSeq {} was refused for good and stands at {}", sent.n, sent.seq);
        findings.broken(Rule::Phantom, what, &[refused_at.into(), (fact.at, fact.seq).into()]);
    }
}
