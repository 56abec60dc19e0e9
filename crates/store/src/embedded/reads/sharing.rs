//! Who shares a conversation with whom.

use rusqlite::Connection;
use tertulia_protocol::UserId;

use super::super::readers::ReadError;
use super::super::rows;

pub(in super::super) fn read(
    db: &Connection,
    user: UserId,
    others: &[UserId],
) -> Result<Vec<UserId>, ReadError> {
    let me = rows::user_key(db, user)?;
    let mut statement = db.prepare_cached(
        // From the other's conversations into the table: the first that both are in ends the search.
        "SELECT EXISTS (
            SELECT 1 FROM participants b INDEXED BY participants_by_user
            CROSS JOIN participants a ON a.convo = b.convo AND a.user = ?1 AND a.left_commit IS NULL
            WHERE b.user = ?2 AND b.left_commit IS NULL)",
    )?;
    let mut sharing = Vec::new();
    for &other in others {
        let shares = match (me, rows::user_key(db, other)?) {
            _ if other == user => true,
            (Some(me), Some(other)) => statement.query_row((me, other), |row| row.get(0))?,
            _ => false,
        };
        if shares {
            sharing.push(other);
        }
    }
    Ok(sharing)
}
