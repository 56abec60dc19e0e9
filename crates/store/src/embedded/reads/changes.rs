//! What changed for a user since a commit.

use std::sync::Arc;

use rusqlite::{Connection, Row};
use tertulia_domain::conversation::RECEIPTS_MEMBERS_MAX;
use tertulia_domain::log::{Change, Commit, Receipt};
use tertulia_protocol::event::SharedSettings;
use tertulia_protocol::{ConvoId, Seq, UserId};

use super::super::readers::ReadError;
use super::super::rows::{self, Key, get_convo_id, get_count, get_seq, get_settings, get_time};
use super::super::rows::{get_commit, sql};

pub(in super::super) fn read(
    db: &Connection,
    user: UserId,
    since: Commit,
    only: Option<ConvoId>,
) -> Result<Vec<Change>, ReadError> {
    let Some(user) = rows::user_key(db, user)? else { return Ok(Vec::new()) };
    // Commits begin at 1; in the rows 0 says never.
    let since = since.max(Commit::new(1));
    let only = match only {
        None => None,
        Some(convo) => match rows::convo_key(db, convo)? {
            Some(key) => Some(key),
            None => return Ok(Vec::new()),
        },
    };
    let mut changes = left(db, user, since, only)?;
    changes.extend(stayed(db, user, since, only)?);
    changes.sort_unstable_by_key(|(id, _)| *id);
    Ok(changes.into_iter().map(|(_, change)| change).collect())
}

type Changed = (ConvoId, Change);

fn left(db: &Connection, user: Key, since: Commit, only: Option<Key>) -> Result<Vec<Changed>, ReadError> {
    let mut statement = db.prepare_cached(
        "SELECT c.id FROM participants p INDEXED BY participants_gone JOIN conversations c ON c.key = p.convo
         WHERE p.user = ?1 AND p.left_commit >= ?2 AND (?3 IS NULL OR p.convo = ?3)",
    )?;
    let left = statement.query_map((user, sql(since), only), |row| get_convo_id(row, 0))?;
    Ok(left.map(|id| id.map(|id| (id, Change::Left(id)))).collect::<Result<_, _>>()?)
}

fn stayed(db: &Connection, user: Key, since: Commit, only: Option<Key>) -> Result<Vec<Changed>, ReadError> {
    let mut statement = db.prepare_cached(
        "SELECT c.key, c.id, c.last_seq, c.member_count, c.shared_commit, c.title, c.about, c.posting, c.history,
            p.joined_commit, p.joined_seq, p.own_commit, p.muted, p.muted_until, p.pinned, p.archived
         FROM participants p INDEXED BY participants_by_user JOIN conversations c ON c.key = p.convo
         WHERE p.user = ?1 AND p.convo BETWEEN ?3 AND ?4 AND p.left_commit IS NULL AND c.last_commit >= ?2",
    )?;
    // A range, so that one conversation is found by the index as well as all are.
    let (first, last) = only.map_or((Key::MIN, Key::MAX), |key| (key, key));
    let mut found = statement.query((user, sql(since), first, last))?;
    let mut changes = Vec::new();
    while let Some(row) = found.next()? {
        if let Some(change) = change(db, row, user, since)? {
            changes.push((get_convo_id(row, 1)?, change));
        }
    }
    Ok(changes)
}

/// `None`: what changed in the conversation is nothing to this member.
fn change(db: &Connection, row: &Row<'_>, user: Key, since: Commit) -> Result<Option<Change>, ReadError> {
    let (key, convo, last_seq): (Key, _, _) = (row.get(0)?, get_convo_id(row, 1)?, get_seq(row, 2)?);
    let joined = get_commit(row, 9)? >= since;
    // What was before he came he did not miss, also where he may look at it.
    let first_missed = first_since(db, key, since, get_seq(row, 10)?, last_seq)?;
    let shared = if get_commit(row, 4)? >= since {
        Some(Arc::new(SharedSettings {
            id: convo,
            title: row.get(5)?,
            about: row.get(6)?,
            posting: rows::get_posting(row, 7)?,
            history: rows::get_history(row, 8)?,
        }))
    } else {
        None
    };
    let own = if get_commit(row, 11)? >= since { Some(get_settings(row, 12)?) } else { None };
    let is_small = get_count(row, 3)? <= RECEIPTS_MEMBERS_MAX as u64;
    let receipts = receipts(db, key, convo, since, (!is_small).then_some(user))?;
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
    let mut statement = db.prepare_cached("SELECT commit_no FROM messages WHERE convo = ?1 AND seq = ?2")?;
    let mut is_since = |seq: u64| -> Result<bool, ReadError> {
        Ok(statement.query_row((convo, rows::count(seq)), |row| get_commit(row, 0))? >= since)
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

/// `only`: of this member.
fn receipts(
    db: &Connection,
    key: Key,
    convo: ConvoId,
    since: Commit,
    only: Option<Key>,
) -> Result<Vec<Receipt>, ReadError> {
    let mut statement = db.prepare_cached(
        "SELECT u.id, p.delivered_seq, p.read_seq, p.marked_at
         FROM participants p JOIN ids u ON u.key = p.user
         WHERE p.convo = ?1 AND p.left_commit IS NULL AND p.marked_commit >= ?2",
    )?;
    let mut one = db.prepare_cached(
        "SELECT u.id, p.delivered_seq, p.read_seq, p.marked_at
         FROM participants p JOIN ids u ON u.key = p.user
         WHERE p.convo = ?1 AND p.left_commit IS NULL AND p.marked_commit >= ?2
            AND p.user = ?3",
    )?;
    let get = |row: &Row<'_>| {
        let (delivered, read) = (get_seq(row, 1)?, get_seq(row, 2)?);
        Ok(Receipt { convo, user: rows::get_user_id(row, 0)?, delivered, read, ts: get_time(row, 3)? })
    };
    let receipts: Result<Vec<_>, _> = match only {
        None => statement.query_map((key, sql(since)), get)?.collect(),
        Some(user) => one.query_map((key, sql(since), user), get)?.collect(),
    };
    Ok(receipts?)
}
