//! How members stand to one message.

use rusqlite::{Connection, Row};
use tertulia_protocol::rest::MessageReceipt;
use tertulia_protocol::{ConvoId, Seq, Timestamp, UserId};

use super::super::log;
use super::super::readers::ReadError;
use super::super::rows::{self, get_count, get_seq, get_time};
use super::history::access;
use crate::ReceiptPage;
use crate::cursor::MembersCursor;

/// Those who may see the message but its sender. Who joined after it counts as having received and read it when
/// he joined: his watermarks began there.
///
/// `None`: the user is not in the conversation, or the entry is no message that he may see.
pub(in super::super) fn read(
    db: &Connection,
    (user, convo, seq): (UserId, ConvoId, Seq),
    cursor: Option<MembersCursor>,
    limit: usize,
) -> Result<Option<ReceiptPage>, ReadError> {
    let Some((key, visible_from, _)) = access(db, user, convo)? else { return Ok(None) };
    if seq < visible_from {
        return Ok(None);
    }
    let sender = log::look(db, key, seq, |line| Ok(line.is_message().then_some(line.sender)))?.flatten();
    let Some(sender) = sender else { return Ok(None) };
    // He was a member when he wrote.
    let sender = rows::user_key(db, sender)?.ok_or_else(|| {
        ReadError::Row(format!("the sender of entry {seq} of conversation {convo} is nobody"))
    })?;
    let mut statement = db.prepare_cached(
        "SELECT p.joined_no, u.id, p.joined_seq, p.joined_at, p.delivered_seq, p.read_seq,
            CASE WHEN p.delivered_seq >= ?3 AND p.joined_seq <= ?3 THEN (
                SELECT r.delivered_at FROM receipts r WHERE r.convo = p.convo AND r.user = p.user AND r.seq >= ?3
                    AND r.delivered_at IS NOT NULL ORDER BY r.seq LIMIT 1) END,
            CASE WHEN p.read_seq >= ?3 AND p.joined_seq <= ?3 THEN (
                SELECT r.seen_at FROM receipts r WHERE r.convo = p.convo AND r.user = p.user AND r.seq >= ?3
                    AND r.seen_at IS NOT NULL ORDER BY r.seq LIMIT 1) END
         FROM participants p INDEXED BY participants_by_joining JOIN ids u ON u.key = p.user
         WHERE p.convo = ?1 AND p.left_commit IS NULL AND p.joined_no > ?4 AND p.user <> ?2 AND p.visible_from <= ?3
         ORDER BY p.joined_no LIMIT ?5",
    )?;
    let after = cursor.map_or(0, |MembersCursor(joined_no)| joined_no);
    let count = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
    let mut found = statement.query((key, sender, rows::seq(seq), rows::count(after), count))?;
    let (mut items, mut last) = (Vec::new(), after);
    while let Some(row) = found.next()? {
        if items.len() == limit {
            return Ok(Some(ReceiptPage { items, next_cursor: Some(MembersCursor(last).encode()) }));
        }
        items.push(receipt(row, seq)?);
        last = get_count(row, 0)?;
    }
    Ok(Some(ReceiptPage { items, next_cursor: None }))
}

fn receipt(row: &Row<'_>, seq: Seq) -> rusqlite::Result<MessageReceipt> {
    let (joined_seq, joined_at) = (get_seq(row, 2)?, get_time(row, 3)?);
    let passed_at = |watermark: Seq, at: usize| -> rusqlite::Result<Option<Timestamp>> {
        if watermark < seq {
            Ok(None)
        } else if joined_seq > seq {
            Ok(Some(joined_at))
        } else {
            Ok(row.get::<_, Option<i64>>(at)?.map(Timestamp::from_millis))
        }
    };
    Ok(MessageReceipt {
        user_id: rows::get_user_id(row, 1)?,
        delivered_at: passed_at(get_seq(row, 4)?, 6)?,
        seen_at: passed_at(get_seq(row, 5)?, 7)?,
    })
}
