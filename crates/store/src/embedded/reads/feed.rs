//! What those read who follow the logs: what came, and which logs there are.

use rusqlite::Connection;
use tertulia_domain::log::Commit;
use tertulia_protocol::{ConvoId, Seq, UserId};

use super::super::readers::ReadError;
use super::super::rows::{get_commit, get_convo_id, get_seq, sql};
use super::super::{rows, touched};
use crate::JournalRow;

/// `None`: not all of it is known any more.
pub(in super::super) fn journal(
    db: &Connection,
    since: Commit,
    limit: usize,
) -> Result<Option<Vec<JournalRow>>, ReadError> {
    let known_from =
        db.prepare_cached("SELECT touched_from FROM meta")?.query_row((), |row| get_commit(row, 0))?;
    if since < known_from {
        return Ok(None);
    }
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = db.prepare_cached(
        "SELECT commit_no, ranges FROM touched WHERE commit_no >= ?1 ORDER BY commit_no LIMIT ?2",
    )?;
    let mut found = statement.query((sql(since), limit))?;
    let mut journal = Vec::new();
    while let Some(row) = found.next()? {
        let ranges = touched::decode(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?;
        journal.push(JournalRow { commit: get_commit(row, 0)?, ranges, quiet: Vec::new() });
    }
    Ok(Some(journal))
}

pub(in super::super) fn logs(
    db: &Connection,
    after: Option<ConvoId>,
    limit: usize,
) -> Result<Vec<(ConvoId, Seq)>, ReadError> {
    let after = after.as_ref().map_or(&[][..], |convo| convo.as_bytes());
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement =
        db.prepare_cached("SELECT id, last_seq FROM conversations WHERE id > ?1 ORDER BY id LIMIT ?2")?;
    let logs = statement.query_map((after, limit), |row| Ok((get_convo_id(row, 0)?, get_seq(row, 1)?)))?;
    Ok(logs.collect::<Result<_, _>>()?)
}

pub(in super::super) fn visible_from(
    db: &Connection,
    user: UserId,
    only: Option<ConvoId>,
) -> Result<Vec<(ConvoId, Seq)>, ReadError> {
    let Some(user) = rows::user_key(db, user)? else { return Ok(Vec::new()) };
    let get = |row: &rusqlite::Row<'_>| Ok((get_convo_id(row, 0)?, get_seq(row, 1)?));
    let found = match only {
        Some(convo) => db
            .prepare_cached(
                "SELECT c.id, p.visible_from FROM conversations c
                 JOIN participants p ON p.convo = c.key AND p.user = ?1
                 WHERE c.id = ?2 AND p.left_commit IS NULL",
            )?
            .query_map((user, convo.as_bytes()), get)?
            .collect::<Result<_, _>>()?,
        None => db
            .prepare_cached(
                "SELECT c.id, p.visible_from
                 FROM participants p INDEXED BY participants_by_user JOIN conversations c ON c.key = p.convo
                 WHERE p.user = ?1 AND p.left_commit IS NULL",
            )?
            .query_map([user], get)?
            .collect::<Result<_, _>>()?,
    };
    Ok(found)
}
