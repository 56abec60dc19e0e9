//! Who is in a conversation.

use rusqlite::Connection;
use tertulia_protocol::rest::Member;
use tertulia_protocol::{ConvoId, UserId};

use super::super::readers::ReadError;
use super::super::rows::{self, Key, get_count, get_seq};
use super::history::access;
use crate::MemberPage;
use crate::cursor::MembersCursor;

/// `None`: the user is not in the conversation.
pub(in super::super) fn read(
    db: &Connection,
    user: UserId,
    convo: ConvoId,
    cursor: Option<MembersCursor>,
    limit: usize,
) -> Result<Option<MemberPage>, ReadError> {
    let Some((key, ..)) = access(db, user, convo)? else { return Ok(None) };
    let after = cursor.map_or(0, |MembersCursor(joined_no)| joined_no);
    let mut found = page(db, key, after, limit.saturating_add(1))?;
    let has_more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = match found.last() {
        Some(&(joined_no, _)) if has_more => Some(MembersCursor(joined_no).encode()),
        _ => None,
    };
    let items = found.into_iter().map(|(_, member)| member).collect();
    Ok(Some(MemberPage { items, next_cursor }))
}

/// Members who joined after the number `after`, each with his own number.
pub(super) fn page(
    db: &Connection,
    convo: Key,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, Member)>, ReadError> {
    let mut statement = db.prepare_cached(
        "SELECT p.joined_no, u.id, p.role, p.delivered_seq, p.read_seq
         FROM participants p INDEXED BY participants_by_joining JOIN ids u ON u.key = p.user
         WHERE p.convo = ?1 AND p.left_commit IS NULL AND p.joined_no > ?2
         ORDER BY p.joined_no LIMIT ?3",
    )?;
    let mut found = statement.query((convo, rows::count(after), i64::try_from(limit).unwrap_or(i64::MAX)))?;
    let mut members = Vec::new();
    while let Some(row) = found.next()? {
        let member = Member {
            user_id: rows::get_user_id(row, 1)?,
            role: rows::get_code(row, 2)?,
            delivered_seq: get_seq(row, 3)?,
            read_seq: Some(get_seq(row, 4)?),
        };
        members.push((get_count(row, 0)?, member));
    }
    Ok(members)
}
