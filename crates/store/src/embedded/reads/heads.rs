//! All of one's conversations, and their heads.

use rusqlite::Connection;
use tertulia_domain::log::Head;
use tertulia_protocol::{ConvoId, UserId};

use super::super::readers::ReadError;
use super::super::rows::{get_convo_id, get_count, get_seq};

pub(in super::super) fn read(db: &Connection, user: UserId) -> Result<Vec<Head>, ReadError> {
    let mut statement = db.prepare_cached(
        "SELECT c.id, c.last_seq, c.member_count
         FROM participants p INDEXED BY participants_by_user JOIN conversations c ON c.key = p.convo
         WHERE p.user = (SELECT key FROM ids WHERE id = ?1) AND p.left_commit IS NULL",
    )?;
    let heads = statement.query_map([user.as_bytes()], |row| {
        let (convo, last_seq) = (get_convo_id(row, 0)?, get_seq(row, 1)?);
        Ok(Head { convo, last_seq, member_count: get_count(row, 2)? })
    })?;
    Ok(heads.collect::<Result<_, _>>()?)
}

/// Those in which a user is, without a look at what is in them.
pub(in super::super) fn convos(db: &Connection, user: UserId) -> Result<Vec<ConvoId>, ReadError> {
    let mut statement = db.prepare_cached(
        "SELECT c.id FROM participants p INDEXED BY participants_by_user JOIN conversations c ON c.key = p.convo
         WHERE p.user = (SELECT key FROM ids WHERE id = ?1) AND p.left_commit IS NULL",
    )?;
    let convos = statement.query_map([user.as_bytes()], |row| get_convo_id(row, 0))?;
    Ok(convos.collect::<Result<_, _>>()?)
}
