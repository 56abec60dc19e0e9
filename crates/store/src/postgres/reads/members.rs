//! Who is in a conversation, and how each of them stands to one message.

use tertulia_protocol::rest::{Member, MessageReceipt};
use tertulia_protocol::{ConvoId, Seq, Timestamp, UserId};
use tokio_postgres::Row;

use crate::cursor::MembersCursor;
use crate::postgres::error::Failure;
use crate::postgres::pool::Pool;
use crate::postgres::rows;
use crate::postgres::types::{Id, RowExt as _, integer};
use crate::{MemberPage, ReceiptPage, StoreError};

/// Of `participants q`; read by [`get`].
macro_rules! member_columns {
    () => {
        "q.user_id, q.role, q.delivered_seq, q.read_seq"
    };
}
pub(super) use member_columns;

pub(super) fn get(row: &Row, at: usize) -> Result<Member, Failure> {
    Ok(Member {
        user_id: row.id(at)?,
        role: rows::code(row, at + 1)?,
        delivered_seq: row.seq(at + 2)?,
        read_seq: Some(row.seq(at + 3)?),
    })
}

const PAGE: &str = concat!(
    "SELECT q.joined_no, ",
    member_columns!(),
    " FROM participants p LEFT JOIN LATERAL (
        SELECT * FROM participants r WHERE r.convo = p.convo AND r.left_commit IS NULL AND r.joined_no > $3
        ORDER BY r.joined_no LIMIT $4
      ) q ON true
      WHERE p.convo = $1 AND p.user_id = $2 AND p.left_commit IS NULL ORDER BY q.joined_no"
);

/// `None`: the user is not in the conversation.
pub(in super::super) async fn read(
    pool: &Pool,
    user: UserId,
    convo: ConvoId,
    cursor: Option<&str>,
    limit: usize,
) -> Result<Option<MemberPage>, StoreError> {
    let after =
        cursor.map(MembersCursor::decode).transpose()?.map_or(0, |MembersCursor(joined_no)| joined_no);
    let count = integer(limit.saturating_add(1));
    let found = pool.rows(PAGE, &[&Id::from(convo), &Id::from(user), &integer(after), &count]).await?;
    if found.is_empty() {
        return Ok(None);
    }
    let (mut items, mut last, mut has_more) = (Vec::new(), 0, false);
    for row in &found {
        // One row without a member, where none is left.
        let Some(joined_no) = row.value::<Option<i64>>(0)? else { break };
        has_more = items.len() == limit;
        if has_more {
            break;
        }
        items.push(get(row, 1)?);
        last = joined_no.cast_unsigned();
    }
    let next_cursor = (has_more && !items.is_empty()).then(|| MembersCursor(last).encode());
    Ok(Some(MemberPage { items, next_cursor }))
}

/// Those who may see the message but its sender, by the time they joined.
const RECEIPTS: &str = "
    SELECT q.joined_no, q.user_id, q.joined_seq, q.joined_at, q.delivered_seq, q.read_seq,
        CASE WHEN q.delivered_seq >= $3 AND q.joined_seq <= $3 THEN (
            SELECT r.delivered_at FROM receipts r WHERE r.convo = q.convo AND r.user_id = q.user_id
                AND r.seq >= $3 AND r.delivered_at IS NOT NULL ORDER BY r.seq LIMIT 1) END,
        CASE WHEN q.read_seq >= $3 AND q.joined_seq <= $3 THEN (
            SELECT r.seen_at FROM receipts r WHERE r.convo = q.convo AND r.user_id = q.user_id
                AND r.seq >= $3 AND r.seen_at IS NOT NULL ORDER BY r.seq LIMIT 1) END
    FROM participants p JOIN messages m ON m.convo = p.convo AND m.seq = $3 AND m.kind = 0
    LEFT JOIN LATERAL (
        SELECT * FROM participants r WHERE r.convo = p.convo AND r.left_commit IS NULL AND r.joined_no > $4
            AND r.user_id <> m.sender AND r.visible_from <= $3
        ORDER BY r.joined_no LIMIT $5
      ) q ON true
    WHERE p.convo = $1 AND p.user_id = $2 AND p.left_commit IS NULL AND p.visible_from <= $3
    ORDER BY q.joined_no";

/// Who joined after the message counts as having received and read it when he joined: his watermarks began there.
///
/// `None`: the user is not in the conversation, or the entry is no message that he may see.
pub(in super::super) async fn receipts(
    pool: &Pool,
    (user, convo, seq): (UserId, ConvoId, Seq),
    cursor: Option<&str>,
    limit: usize,
) -> Result<Option<ReceiptPage>, StoreError> {
    let after =
        cursor.map(MembersCursor::decode).transpose()?.map_or(0, |MembersCursor(joined_no)| joined_no);
    let count = integer(limit.saturating_add(1));
    let (convo, user, message) = (Id::from(convo), Id::from(user), rows::seq(seq));
    let found = pool.rows(RECEIPTS, &[&convo, &user, &message, &integer(after), &count]).await?;
    if found.is_empty() {
        return Ok(None);
    }
    let (mut items, mut last) = (Vec::new(), after);
    for row in &found {
        // One row without a member, where nobody else sees it.
        let Some(joined_no) = row.value::<Option<i64>>(0)? else { break };
        if items.len() == limit {
            return Ok(Some(ReceiptPage { items, next_cursor: Some(MembersCursor(last).encode()) }));
        }
        items.push(receipt(row, seq)?);
        last = joined_no.cast_unsigned();
    }
    Ok(Some(ReceiptPage { items, next_cursor: None }))
}

fn receipt(row: &Row, seq: Seq) -> Result<MessageReceipt, Failure> {
    let (joined_seq, joined_at): (Seq, Timestamp) = (row.seq(2)?, row.time(3)?);
    let passed_at = |watermark: Seq, at: usize| -> Result<Option<Timestamp>, Failure> {
        if watermark < seq {
            Ok(None)
        } else if joined_seq > seq {
            Ok(Some(joined_at))
        } else {
            Ok(row.value::<Option<i64>>(at)?.map(Timestamp::from_millis))
        }
    };
    Ok(MessageReceipt {
        user_id: row.id(1)?,
        delivered_at: passed_at(row.seq(4)?, 6)?,
        seen_at: passed_at(row.seq(5)?, 7)?,
    })
}
