//! Conversations as one of their members sees them: one, the inbox, the heads of all.

use std::sync::Arc;

use tertulia_domain::log::Head;
use tertulia_protocol::rest::Conversation;
use tertulia_protocol::{ConvoId, Seq, Timestamp, UserId};
use tokio_postgres::Row;

use super::members;
use crate::cursor::InboxCursor;
use crate::postgres::error::Failure;
use crate::postgres::pool::Pool;
use crate::postgres::rows::{self, entry_columns};
use crate::postgres::types::{Id, RowExt as _, integer};
use crate::{InboxPage, StoreError};

/// For `participants p`, `conversations c` and the newest visible message `m`; read by [`get`].
macro_rules! columns {
    () => {
        concat!(
            "c.id, c.kind, c.title, c.about, c.posting, c.history, c.created_at, c.last_ts, c.last_seq,
             c.last_message_no, c.member_count, p.role, p.visible_from, p.delivered_seq, p.read_seq, p.read_no,
             p.muted, p.muted_until, p.pinned, p.archived, ",
            entry_columns!()
        )
    };
}
/// How many columns there are before those of the entry, and behind it.
const ENTRY: usize = 20;
const BEHIND: usize = ENTRY + 8;

/// Entries below the newest message are older: if that one is hidden from him, all are.
macro_rules! newest_message {
    () => {
        "LEFT JOIN messages m ON m.convo = c.id AND m.seq = c.last_message_seq AND m.seq >= p.visible_from"
    };
}

/// `None`: the user is not in it.
pub(in super::super) async fn read(
    pool: &Pool,
    user: UserId,
    convo: ConvoId,
) -> Result<Option<Conversation>, Failure> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM participants p JOIN conversations c ON c.id = p.convo ",
        newest_message!(),
        " WHERE p.convo = $1 AND p.user_id = $2 AND p.left_commit IS NULL"
    );
    pool.row(sql, &[&Id::from(convo), &Id::from(user)]).await?.as_ref().map(get).transpose()
}

fn get(row: &Row) -> Result<Conversation, Failure> {
    let id = row.id(0)?;
    let last_message = match row.value::<Option<i64>>(ENTRY)? {
        Some(_) => Some(Arc::unwrap_or_clone(rows::entry(id, row, ENTRY)?.0)),
        None => None,
    };
    Ok(Conversation {
        id,
        kind: rows::code(row, 1)?,
        title: row.value(2)?,
        about: row.value(3)?,
        posting: rows::code(row, 4)?,
        history: rows::code(row, 5)?,
        created_at: row.time(6)?,
        updated_at: row.time(7)?,
        last_seq: row.seq(8)?,
        last_message,
        visible_from_seq: row.seq(12)?,
        delivered_seq: row.seq(13)?,
        read_seq: row.seq(14)?,
        // His own messages are behind his watermark, for sending moves it: the rest are of others.
        unread_count: row.count(9)?.saturating_sub(row.count(15)?),
        role: rows::code(row, 11)?,
        member_count: row.count(10)?,
        settings: rows::settings(row, 16)?,
        members: None,
        members_next_cursor: None,
    })
}

/// All his conversations are sorted, but only those of the page are read; direct ones with their members, a row each.
const INBOX: &str = concat!(
    "WITH page AS MATERIALIZED (
        SELECT c.id, c.last_ts FROM participants p JOIN conversations c ON c.id = p.convo
        WHERE p.user_id = $1 AND p.left_commit IS NULL AND (c.last_ts, c.id) < ($2, $3)
        ORDER BY c.last_ts DESC, c.id DESC LIMIT $4
     )
     SELECT ",
    columns!(),
    ", q.joined_no, ",
    members::member_columns!(),
    " FROM page JOIN conversations c ON c.id = page.id
      JOIN participants p ON p.convo = c.id AND p.user_id = $1 ",
    newest_message!(),
    " LEFT JOIN participants q ON c.kind = 0 AND q.convo = c.id AND q.left_commit IS NULL
      ORDER BY page.last_ts DESC, page.id DESC, q.joined_no"
);

pub(in super::super) async fn inbox(
    pool: &Pool,
    user: UserId,
    cursor: Option<&str>,
    limit: usize,
) -> Result<InboxPage, StoreError> {
    // Before any page: beyond all times.
    let before = cursor.map(InboxCursor::decode).transpose()?;
    let before = before.map_or((i64::MAX, Id([0; 16])), |InboxCursor { ts, convo }| {
        (Timestamp::as_millis(ts), convo.into())
    });
    let count = integer(limit.saturating_add(1));
    let found = pool.rows(INBOX, &[&Id::from(user), &before.0, &before.1, &count]).await?;
    let (mut items, mut has_more) = (Vec::<Conversation>::with_capacity(limit.min(found.len())), false);
    for row in &found {
        let id: ConvoId = row.id(0)?;
        if items.last().is_none_or(|last| last.id != id) {
            has_more = items.len() == limit;
            if has_more {
                break;
            }
            items.push(get(row)?);
        }
        if let (Some(_), Some(item)) = (row.value::<Option<i64>>(BEHIND)?, items.last_mut()) {
            item.members.get_or_insert_default().push(members::get(row, BEHIND + 1)?);
        }
    }
    let last = items.last().filter(|_| has_more);
    let next_cursor = last.map(|last| InboxCursor { ts: last.updated_at, convo: last.id }.encode());
    Ok(InboxPage { items, next_cursor })
}

pub(in super::super) async fn heads(pool: &Pool, user: UserId) -> Result<Vec<Head>, Failure> {
    let sql =
        "SELECT c.id, c.last_seq, c.member_count FROM participants p JOIN conversations c ON c.id = p.convo
        WHERE p.user_id = $1 AND p.left_commit IS NULL";
    let found = pool.rows(sql, &[&Id::from(user)]).await?;
    let head = |row: &Row| -> Result<Head, Failure> {
        let (convo, last_seq): (_, Seq) = (row.id(0)?, row.seq(1)?);
        Ok(Head { convo, last_seq, member_count: row.count(2)? })
    };
    found.iter().map(head).collect()
}

/// Those of `others` who are in a conversation with `user`; he himself always is.
pub(in super::super) async fn sharing(
    pool: &Pool,
    user: UserId,
    others: &[UserId],
) -> Result<Vec<UserId>, Failure> {
    // From the other's conversations into the table: the first that both are in ends the search.
    let sql = "SELECT u.id FROM unnest($2::uuid[]) WITH ORDINALITY AS u(id, no)
        WHERE u.id = $1 OR EXISTS (
            SELECT 1 FROM participants b
            JOIN participants a ON a.convo = b.convo AND a.user_id = $1 AND a.left_commit IS NULL
            WHERE b.user_id = u.id AND b.left_commit IS NULL)
        ORDER BY u.no";
    let found = pool.rows(sql, &[&Id::from(user), &rows::ids(others)]).await?;
    found.iter().map(|row| row.id(0)).collect()
}
