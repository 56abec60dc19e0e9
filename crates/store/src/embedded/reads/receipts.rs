//! How each member stands to one message.

use rusqlite::{CachedStatement, Connection, OptionalExtension};
use tertulia_protocol::rest::MessageReceipt;
use tertulia_protocol::{ConvoId, Seq, UserId};

use super::super::log;
use super::super::readers::ReadError;
use super::super::rows::{self, Key, get_seq, get_time};
use super::history::access;

/// Those who may see the message but its sender. Who joined after it counts as having received and read it when
/// he joined: his watermarks began there.
///
/// `None`: the user is not in the conversation, or the entry is no message that he may see.
pub(in super::super) fn read(
    db: &Connection,
    user: UserId,
    convo: ConvoId,
    seq: Seq,
) -> Result<Option<Vec<MessageReceipt>>, ReadError> {
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
    let mut delivered_at = db.prepare_cached(
        "SELECT delivered_at FROM receipts WHERE convo = ?1 AND user = ?2 AND seq >= ?3
            AND delivered_at IS NOT NULL ORDER BY seq LIMIT 1",
    )?;
    let mut seen_at = db.prepare_cached(
        "SELECT seen_at FROM receipts WHERE convo = ?1 AND user = ?2 AND seq >= ?3
            AND seen_at IS NOT NULL ORDER BY seq LIMIT 1",
    )?;
    let mut members = db.prepare_cached(
        "SELECT p.user, u.id, p.joined_seq, p.joined_at, p.delivered_seq, p.read_seq
         FROM participants p INDEXED BY participants_by_joining JOIN ids u ON u.key = p.user
         WHERE p.convo = ?1 AND p.left_commit IS NULL AND p.user <> ?2 AND p.visible_from <= ?3
         ORDER BY p.joined_no",
    )?;
    let mut found = members.query((key, sender, rows::seq(seq)))?;
    let mut receipts = Vec::new();
    while let Some(row) = found.next()? {
        let member: Key = row.get(0)?;
        let (joined_seq, joined_at) = (get_seq(row, 2)?, get_time(row, 3)?);
        let passed_at = |statement: &mut CachedStatement<'_>, watermark: Seq| {
            if watermark < seq {
                Ok(None)
            } else if joined_seq > seq {
                Ok(Some(joined_at))
            } else {
                let found = statement.query_row((key, member, rows::seq(seq)), |row| get_time(row, 0));
                found.optional()
            }
        };
        receipts.push(MessageReceipt {
            user_id: rows::get_user_id(row, 1)?,
            delivered_at: passed_at(&mut delivered_at, get_seq(row, 4)?)?,
            seen_at: passed_at(&mut seen_at, get_seq(row, 5)?)?,
        });
    }
    Ok(Some(receipts))
}
