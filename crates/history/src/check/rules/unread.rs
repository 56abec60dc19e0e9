//! Unread equals a recount.
//!
//! `unreadCount` of a conversation in an inbox is the number of messages of others in `(readSeq, lastSeq]`, as
//! the same answer tells these two, that the user may see. Deleted messages count, changes do not. What nobody
//! has seen whole is not counted and not judged.

use super::{Findings, Rule};
use crate::check::known::{Known, Sight};
use crate::check::source::At;
use crate::event::Item;

pub(in crate::check) fn recount(
    known: &Known,
    findings: &mut Findings,
    (convo, user): (u32, u32),
    item: &Item,
    asked_at: At,
    at: At,
) {
    let log = known.log(convo);
    let (read, last) = (item.read.get(), item.last.get());
    let visible = item.visible.map(|seq| seq.get()).or_else(|| match log.sight(user, last) {
        Sight::Member(span) => span.visible,
        Sight::Stranger | Sight::Unknown => None,
    });
    let Some(counted) = log.unread(user, read, last, visible.unwrap_or(1)) else { return };
    findings.looked(Rule::Unread);
    if counted != item.unread {
        let what =
            || format!("{} are unread by {}, and {counted} are counted", item.unread, known.user(user));
        findings.broken(Rule::Unread, what, &[asked_at.into(), (at, last).into()]);
    }
}
