//! What changed for a user since a commit.

use std::sync::Arc;

use rusqlite::{Connection, Row};
use tertulia_domain::conversation::RECEIPTS_MEMBERS_MAX;
use tertulia_domain::log::{Change, Commit, HistorySlice, Missed, Receipt};
use tertulia_protocol::event::SharedSettings;
use tertulia_protocol::{ConvoId, Seq, UserId};

use super::super::log;
use super::super::newest::{self, Newest, NewestCache};
use super::super::readers::ReadError;
use super::super::rows::{self, Key, get_convo_id, get_count, get_seq, get_settings};
use super::super::rows::{get_commit, sql};

/// What changed, in all conversations or in `only`.
pub(in super::super) fn read(
    db: &Connection,
    newest: &NewestCache,
    user: UserId,
    since: Commit,
    only: Option<ConvoId>,
) -> Result<Vec<Change>, ReadError> {
    let only = match only {
        None => None,
        Some(convo) => match rows::convo_key(db, convo)? {
            Some(key) => Some(key),
            None => return Ok(Vec::new()),
        },
    };
    Ok(changed(db, newest, user, since, only)?.into_iter().map(|changed| changed.change).collect())
}

/// What changed, and the entries where few were missed: at most `entries_max` in all.
pub(in super::super) fn missed(
    db: &Connection,
    newest: &NewestCache,
    user: UserId,
    since: Commit,
    entries_max: usize,
) -> Result<Missed, ReadError> {
    let mut missed = Missed::default();
    let mut room = entries_max;
    for Changed { convo, change, newest: known } in changed(db, newest, user, since, None)? {
        if let Change::In { joined: false, first_missed: Some(first), last_seq, .. } = &change {
            let count = usize::try_from(last_seq.get() - first.get() + 1).unwrap_or(usize::MAX);
            if count <= room
                && let Some((key, known)) = known
            {
                let entries = newest.entries(db, (key, convo), &known, *first, *last_seq)?;
                missed.pages.push((convo, HistorySlice { entries, has_more: false }));
                room -= count;
            }
        }
        missed.changes.push(change);
    }
    Ok(missed)
}

fn changed(
    db: &Connection,
    newest: &NewestCache,
    user: UserId,
    since: Commit,
    only: Option<Key>,
) -> Result<Vec<Changed>, ReadError> {
    let Some(user) = rows::user_key(db, user)? else { return Ok(Vec::new()) };
    // Commits begin at 1; in the rows 0 says never.
    let since = since.max(Commit::new(1));
    let mut changes = left(db, user, since, only)?;
    changes.extend(stayed(db, newest, user, since, only)?);
    changes.sort_unstable_by_key(|changed| changed.convo);
    Ok(changes)
}

struct Changed {
    convo: ConvoId,
    change: Change,
    /// Where he still is.
    newest: Option<(Key, Arc<Newest>)>,
}

fn left(db: &Connection, user: Key, since: Commit, only: Option<Key>) -> Result<Vec<Changed>, ReadError> {
    let mut statement = db.prepare_cached(
        "SELECT c.id FROM participants p INDEXED BY participants_gone JOIN conversations c ON c.key = p.convo
         WHERE p.user = ?1 AND p.left_commit >= ?2 AND (?3 IS NULL OR p.convo = ?3)",
    )?;
    let left = statement.query_map((user, sql(since), only), |row| {
        let convo = get_convo_id(row, 0)?;
        Ok(Changed { convo, change: Change::Left(convo), newest: None })
    })?;
    Ok(left.collect::<Result<_, _>>()?)
}

fn stayed(
    db: &Connection,
    newest: &NewestCache,
    user: Key,
    since: Commit,
    only: Option<Key>,
) -> Result<Vec<Changed>, ReadError> {
    let mut statement = db.prepare_cached(
        "SELECT c.key, c.id, c.last_seq, c.member_count, c.shared_commit, c.title, c.about, c.posting, c.history,
            p.joined_commit, p.joined_seq, p.own_commit, p.muted, p.muted_until, p.pinned, p.archived, c.last_commit
         FROM participants p INDEXED BY participants_by_user JOIN conversations c ON c.key = p.convo
         WHERE p.user = ?1 AND p.convo BETWEEN ?3 AND ?4 AND p.left_commit IS NULL AND c.last_commit >= ?2",
    )?;
    // A range, so that one conversation is found by the index as well as all are.
    let (first, last) = only.map_or((Key::MIN, Key::MAX), |key| (key, key));
    let mut found = statement.query((user, sql(since), first, last))?;
    let mut changes = Vec::new();
    while let Some(row) = found.next()? {
        let (key, convo): (Key, _) = (row.get(0)?, get_convo_id(row, 1)?);
        let is_small = get_count(row, 3)? <= RECEIPTS_MEMBERS_MAX as u64;
        let newest = newest.get(db, (key, convo), get_commit(row, 16)?, get_seq(row, 2)?, is_small)?;
        if let Some(change) = change(db, &newest, row, user, since)? {
            changes.push(Changed { convo, change, newest: Some((key, newest)) });
        }
    }
    Ok(changes)
}

/// `None`: what changed in the conversation is nothing to this member.
fn change(
    db: &Connection,
    known: &Newest,
    row: &Row<'_>,
    user: Key,
    since: Commit,
) -> Result<Option<Change>, ReadError> {
    let (key, convo, last_seq): (Key, _, _) = (row.get(0)?, get_convo_id(row, 1)?, get_seq(row, 2)?);
    let joined = get_commit(row, 9)? >= since;
    // What was before he came he did not miss, also where he may look at it.
    let joined_seq = get_seq(row, 10)?;
    let first_missed = match known.first_since(since, joined_seq) {
        Some(known) => known,
        None => first_since(db, key, since, joined_seq, last_seq)?,
    };
    let shared = if get_commit(row, 4)? >= since {
        Some(Arc::new(SharedSettings {
            id: convo,
            title: row.get(5)?,
            about: row.get(6)?,
            posting: rows::get_code(row, 7)?,
            history: rows::get_code(row, 8)?,
        }))
    } else {
        None
    };
    let own = if get_commit(row, 11)? >= since { Some(get_settings(row, 12)?) } else { None };
    let receipts: Vec<Receipt> = match &known.receipts {
        Some(receipts) => receipts.iter().filter_map(|watermarks| watermarks.since(since)).collect(),
        // In a large conversation everybody is told of his own watermarks alone.
        None => {
            let own = newest::read_watermarks(db, (key, convo), user)?;
            own.and_then(|watermarks| watermarks.since(since)).into_iter().collect()
        }
    };
    if !joined && first_missed.is_none() && shared.is_none() && own.is_none() && receipts.is_empty() {
        return Ok(None);
    }
    Ok(Some(Change::In { convo, joined, first_missed, last_seq, shared, own, receipts }))
}

/// The first entry from `first` to `last` that was committed at or after `since`; commits rise with `seq`.
fn first_since(
    db: &Connection,
    convo: Key,
    since: Commit,
    first: Seq,
    last: Seq,
) -> Result<Option<Seq>, ReadError> {
    let mut statement = log::statement(db)?;
    let mut is_since = |seq: u64| -> Result<bool, ReadError> {
        let commit = log::look_with(&mut statement, convo, Seq::new(seq), |line| Ok(line.commit))?;
        Ok(commit.ok_or(rusqlite::Error::QueryReturnedNoRows)? >= since)
    };
    // Steps that double, back from the end: the cost grows with what was missed.
    let (first, mut found) = (first.get(), last.get());
    if found < first || !is_since(found)? {
        return Ok(None);
    }
    let mut step = 1;
    let mut before = loop {
        let probe = found.saturating_sub(step).max(first);
        if probe == found {
            return Ok(Some(Seq::new(found)));
        }
        if !is_since(probe)? {
            break probe;
        }
        found = probe;
        step *= 2;
    };
    while found - before > 1 {
        let middle = before + (found - before) / 2;
        if is_since(middle)? { found = middle } else { before = middle }
    }
    Ok(Some(Seq::new(found)))
}
