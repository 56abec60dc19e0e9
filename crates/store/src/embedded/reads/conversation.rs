//! Conversations as one of their members sees them.

use rusqlite::{Connection, Row};
use tertulia_protocol::rest::Conversation;
use tertulia_protocol::{ConvoId, Entry, Seq, UserId};

use super::super::log;
use super::super::readers::ReadError;
use super::super::rows::{self, Key, get_count, get_seq, get_time};

/// For `participants p JOIN conversations c`; read by [`get`].
pub(super) const COLUMNS: &str = "c.key, c.id, c.kind, c.title, c.about, c.posting, c.history, c.created_at,
    c.last_ts, c.last_seq, c.last_message_no, c.last_message_seq, c.member_count, p.role, p.visible_from,
    p.delivered_seq, p.read_seq, p.read_no, p.muted, p.muted_until, p.pinned, p.archived";

/// `None`: the user is not in it.
pub(in super::super) fn read(
    db: &Connection,
    user: UserId,
    convo: ConvoId,
) -> Result<Option<Conversation>, ReadError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM conversations c
         JOIN participants p ON p.convo = c.key AND p.user = (SELECT key FROM ids WHERE id = ?2)
         WHERE c.id = ?1 AND p.left_commit IS NULL"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let mut found = statement.query((convo.as_bytes(), user.as_bytes()))?;
    match found.next()? {
        Some(row) => Ok(Some(get(db, row)?.1)),
        None => Ok(None),
    }
}

/// A conversation out of [`COLUMNS`], with the newest message that its reader may see.
pub(super) fn get(db: &Connection, row: &Row<'_>) -> Result<(Key, Conversation), ReadError> {
    let key: Key = row.get(0)?;
    let id = rows::get_convo_id(row, 1)?;
    let (last_message_no, last_message) = (get_count(row, 10)?, get_seq(row, 11)?);
    let visible_from_seq = get_seq(row, 14)?;
    // Entries below the newest message are older: if that one is hidden from him, all are.
    let last_message = if last_message > Seq::default() && last_message >= visible_from_seq {
        Some(entry(db, id, key, last_message)?)
    } else {
        None
    };
    let conversation = Conversation {
        id,
        kind: rows::get_code(row, 2)?,
        title: row.get(3)?,
        about: row.get(4)?,
        posting: rows::get_code(row, 5)?,
        history: rows::get_code(row, 6)?,
        created_at: get_time(row, 7)?,
        updated_at: get_time(row, 8)?,
        last_seq: get_seq(row, 9)?,
        last_message,
        visible_from_seq,
        delivered_seq: get_seq(row, 15)?,
        read_seq: get_seq(row, 16)?,
        // His own messages are behind his watermark, for sending moves it: the rest are of others.
        unread_count: last_message_no.saturating_sub(get_count(row, 17)?),
        role: rows::get_code(row, 13)?,
        member_count: get_count(row, 12)?,
        settings: rows::get_settings(row, 18)?,
        members: None,
        members_next_cursor: None,
    };
    Ok((key, conversation))
}

fn entry(db: &Connection, convo: ConvoId, key: Key, seq: Seq) -> Result<Entry, ReadError> {
    log::look(db, key, seq, |line| line.entry(convo))?
        .ok_or_else(|| ReadError::Row(format!("entry {seq} of conversation {convo} is not there")))
}
