//! A stretch of a conversation's log.

use std::ops::RangeInclusive;

use rusqlite::{Connection, OptionalExtension};
use tertulia_domain::conversation::Record;
use tertulia_domain::log::HistorySlice;
use tertulia_protocol::{ConvoId, Seq, UserId};

use super::super::log;
use super::super::readers::ReadError;
use super::super::rows::{Key, get_seq};
use super::super::tail::{Found, Stretch};

/// What a member may see: the conversation's key, his first entry, the newest settled one.
pub(in super::super) fn access(
    db: &Connection,
    user: UserId,
    convo: ConvoId,
) -> Result<Option<(Key, Seq, Seq)>, ReadError> {
    Ok(db
        .prepare_cached(
            "SELECT c.key, p.visible_from, c.last_seq FROM conversations c
             JOIN participants p ON p.convo = c.key AND p.user = (SELECT key FROM ids WHERE id = ?2)
             WHERE c.id = ?1 AND p.left_commit IS NULL",
        )?
        .query_row((convo.as_bytes(), user.as_bytes()), |row| {
            Ok((row.get(0)?, get_seq(row, 1)?, get_seq(row, 2)?))
        })
        .optional()?)
}

/// The same for who reads on behalf of nobody: all of it.
fn whole(db: &Connection, convo: ConvoId) -> Result<Option<(Key, Seq, Seq)>, ReadError> {
    Ok(db
        .prepare_cached("SELECT key, last_seq FROM conversations WHERE id = ?1")?
        .query_row([convo.as_bytes()], |row| Ok((row.get(0)?, Seq::new(1), get_seq(row, 1)?)))
        .optional()?)
}

/// What came of a read.
pub(in super::super) enum Read {
    /// `None`: the user is not in the conversation.
    Page(Option<HistorySlice>),
    /// What he may see begins here, later than he asked for: the tail is to be asked anew.
    BeginsAt(Seq),
}

/// `found`: what the tail had of `stretch` before. Without a user all of the log is read.
pub(in super::super) fn read(
    db: &Connection,
    user: Option<UserId>,
    convo: ConvoId,
    stretch: Stretch,
    limit: usize,
    found: &Found,
) -> Result<Read, ReadError> {
    let access = match user {
        Some(user) => access(db, user, convo)?,
        None => whole(db, convo)?,
    };
    let Some((key, visible_from, settled)) = access else { return Ok(Read::Page(None)) };
    if let (Stretch::From(from), Some(_)) = (stretch, found.range)
        && from < visible_from
    {
        // The tail counted the page from where he asked.
        return Ok(Read::BeginsAt(visible_from));
    }
    // The tail's front was not settled when it was found, and may be now: below it everything is.
    let (in_rows, newest) = match found.range {
        Some((first, newest)) => (first.previous(), newest),
        None => (settled, settled),
    };
    // Entries are dense, so the page is known before anything is read.
    let page = page(stretch, limit, visible_from, newest);
    let mut entries = Vec::with_capacity(page.clone().map_or(0, |page| length(&page)));
    let mut has_more = false;
    if let Some(page) = page {
        has_more = match stretch {
            Stretch::From(_) => *page.end() < newest,
            Stretch::Before(_) => *page.start() > visible_from,
        };
        let below = *page.start()..=in_rows.min(*page.end());
        if below.start() <= below.end() {
            log::read(db, convo, key, &below, &mut entries)?;
        }
        for (seq, pending) in found.entries.iter().filter(|(seq, _)| page.contains(seq)) {
            match pending.read()? {
                Record::Entry { entry, .. } if entry.seq == *seq => entries.push((entry, pending.commit)),
                _ => return Err(ReadError::Row(format!("no entry {seq} where the journal is to have it"))),
            }
        }
        if entries.len() != length(&page) {
            return Err(ReadError::Row(format!("entries of conversation {convo} are missing in {page:?}")));
        }
    }
    Ok(Read::Page(Some(HistorySlice { entries, has_more })))
}

/// The first and last entry of the page, if there is one at all.
fn page(stretch: Stretch, limit: usize, visible_from: Seq, newest: Seq) -> Option<RangeInclusive<Seq>> {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let (first, last) = match stretch {
        Stretch::From(from) => {
            let first = from.max(visible_from);
            (first, Seq::new(first.get().saturating_add(limit).saturating_sub(1)).min(newest))
        }
        Stretch::Before(to) => {
            let last = to.previous().min(newest);
            (Seq::new((last.get() + 1).saturating_sub(limit)).max(visible_from), last)
        }
    };
    (limit > 0 && first <= last).then_some(first..=last)
}

fn length(page: &RangeInclusive<Seq>) -> usize {
    usize::try_from(page.end().get() - page.start().get() + 1).unwrap_or(usize::MAX)
}
