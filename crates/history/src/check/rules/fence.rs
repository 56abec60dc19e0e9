//! Removal holds.
//!
//! *By place*: nobody is pushed, or reads, an entry of a place at which he was no member: after the entry that
//! removed him, before the one that let him in again; nor one before he came where later ones see nothing.
//!
//! *By time*: a page or an inbox that was asked for after the removal was answered, and that came before anybody
//! asked to add him again, does not show him the conversation.

use std::collections::HashMap;

use super::{Findings, Rule};
use crate::check::known::{Known, Sight};
use crate::check::source::At;

/// Who was removed.
#[derive(Debug, Default)]
pub(in crate::check) struct Fence {
    /// (conversation, user): the line that answers the removal, and its time.
    removed: HashMap<(u32, u32), (At, u64)>,
    /// Calls that add him and have not been refused: he may be in it again.
    adding: HashMap<(u32, u32), u32>,
}

impl Fence {
    pub(in crate::check) fn adds(&mut self, convo: u32, user: u32) {
        *self.adding.entry((convo, user)).or_default() += 1;
        self.removed.remove(&(convo, user));
    }

    /// A call that adds him is over; if nobody knows how, he may be in it for ever.
    pub(in crate::check) fn has_added(&mut self, convo: u32, user: u32) {
        if let Some(adding) = self.adding.get_mut(&(convo, user)) {
            *adding = adding.saturating_sub(1);
        }
    }

    pub(in crate::check) fn has_removed(&mut self, convo: u32, user: u32, at: At, t: u64) {
        if self.adding.get(&(convo, user)).is_none_or(|adding| *adding == 0) {
            self.removed.insert((convo, user), (at, t));
        }
    }

    /// He sees an entry.
    pub(in crate::check) fn sees(
        &self,
        known: &Known,
        findings: &mut Findings,
        (convo, user): (u32, u32),
        seq: u64,
        at: At,
    ) {
        findings.looked(Rule::Removal);
        let log = known.log(convo);
        if log.sight(user, seq) != Sight::Stranger {
            return;
        }
        let spans = log.spans.get(&user).map_or(&[][..], Vec::as_slice);
        let left = spans.iter().filter_map(|span| span.left).filter(|left| *left < seq).max();
        let joined = spans.iter().map(|span| span.joined).filter(|joined| *joined > seq).min();
        let who = known.user(user);
        let what = || match (left, joined) {
            (Some(left), _) => format!("{who} was removed at {left} and is told entry {seq}"),
            (None, Some(joined)) => format!("{who} came at {joined} and is told entry {seq}"),
            (None, None) => format!("{who} was never a member and is told entry {seq}"),
        };
        let shown = left.or(joined).and_then(|seq| log.fact(seq)).map(|fact| (fact.at, fact.seq).into());
        let proof: Vec<_> = shown.into_iter().chain([(at, seq).into()]).collect();
        findings.broken(Rule::Removal, what, &proof);
    }

    /// He is shown the conversation, as an answer to what was asked at `asked`.
    pub(in crate::check) fn is_shown(
        &self,
        known: &Known,
        findings: &mut Findings,
        (convo, user): (u32, u32),
        (asked_at, asked): (At, u64),
        at: At,
    ) {
        findings.looked(Rule::Removal);
        if let Some((removed_at, removed)) = self.removed.get(&(convo, user))
            && *removed < asked
        {
            let what =
                || format!("{} was removed from {} and reads it", known.user(user), known.convo(convo));
            findings.broken(Rule::Removal, what, &[(*removed_at).into(), asked_at.into(), at.into()]);
        }
    }
}
