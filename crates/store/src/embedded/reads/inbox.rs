//! The inbox: one's conversations, newest activity first.

use rusqlite::Connection;
use tertulia_protocol::entry::ConversationType;
use tertulia_protocol::{Timestamp, UserId};

use super::super::readers::ReadError;
use super::super::rows::{self, Key};
use super::{conversation, members};
use crate::InboxPage;
use crate::cursor::InboxCursor;

pub(in super::super) fn read(
    db: &Connection,
    user: UserId,
    cursor: Option<InboxCursor>,
    limit: usize,
) -> Result<InboxPage, ReadError> {
    let Some(user) = rows::user_key(db, user)? else {
        return Ok(InboxPage { items: Vec::new(), next_cursor: None });
    };
    // Two steps: all his conversations are sorted, but only those of the page are read.
    let keys = keys(db, user, cursor, limit.saturating_add(1))?;
    let sql = format!(
        "SELECT {} FROM conversations c JOIN participants p ON p.convo = c.key AND p.user = ?2 WHERE c.key = ?1",
        conversation::COLUMNS
    );
    let mut statement = db.prepare_cached(&sql)?;
    let mut items = Vec::with_capacity(keys.len().min(limit));
    for &key in keys.iter().take(limit) {
        let mut found = statement.query((key, user))?;
        let Some(row) = found.next()? else { continue };
        let (key, mut item) = conversation::get(db, row)?;
        if item.kind == ConversationType::Direct {
            item.members =
                Some(members::page(db, key, 0, 2)?.into_iter().map(|(_, member)| member).collect());
        }
        items.push(item);
    }
    let next_cursor = match items.last() {
        Some(last) if keys.len() > limit => {
            Some(InboxCursor { ts: last.updated_at, convo: last.id }.encode())
        }
        _ => None,
    };
    Ok(InboxPage { items, next_cursor })
}

fn keys(
    db: &Connection,
    user: Key,
    cursor: Option<InboxCursor>,
    limit: usize,
) -> Result<Vec<Key>, ReadError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // Before any page: beyond all times. `zeroblob` is below every id, but no time is as large.
    let (ts, id) = cursor.map_or((i64::MAX, [0; 16]), |InboxCursor { ts, convo }| {
        (Timestamp::as_millis(ts), *convo.as_bytes())
    });
    let mut statement = db.prepare_cached(
        "SELECT c.key FROM participants p INDEXED BY participants_by_user
         JOIN conversations c ON c.key = p.convo
         WHERE p.user = ?1 AND p.left_commit IS NULL AND (c.last_ts, c.id) < (?2, ?3)
         ORDER BY c.last_ts DESC, c.id DESC LIMIT ?4",
    )?;
    let keys = statement.query_map((user, ts, id, limit), |row| row.get(0))?;
    Ok(keys.collect::<Result<_, _>>()?)
}
