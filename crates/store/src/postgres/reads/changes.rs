//! What changed for a user since a commit.

use std::sync::Arc;

use tertulia_domain::conversation::RECEIPTS_MEMBERS_MAX;
use tertulia_domain::log::{Change, Commit, HistorySlice, Missed};
use tertulia_protocol::event::SharedSettings;
use tertulia_protocol::{ConvoId, Seq, UserId};
use tokio_postgres::Row;

use crate::postgres::error::Failure;
use crate::postgres::pool::Pool;
use crate::postgres::rows::{self, EntryColumns};
use crate::postgres::types::{Id, RowExt as _, integer};

const CHANGES: &str = "SELECT what, convo, joined, first_missed, last_seq, is_shared, title, about, posting, history,
    is_own, muted, muted_until, pinned, archived, user_id, delivered, read, ts, delivered_at, kind, client_seq, reply_to,
    body, commit_no FROM changes_2($1, $2, $3, $4, $5)";

/// Kinds of rows.
const LEFT: i16 = 0;
const IN: i16 = 1;
const RECEIPT: i16 = 2;
const ENTRY: i16 = 3;

/// Where the entry stands in a row of its kind.
const COLUMNS: EntryColumns =
    EntryColumns { seq: 4, kind: 20, sender: 15, client_seq: 21, ts: 18, reply_to: 22, body: 23, commit: 24 };

/// What changed, in all conversations or in `only`, and the entries where few were missed: `entries_max` at most.
pub(in super::super) async fn read(
    pool: &Pool,
    user: UserId,
    since: Commit,
    only: Option<ConvoId>,
    entries_max: usize,
) -> Result<Missed, Failure> {
    let (user, only) = (Id::from(user), only.map(Id::from));
    // Commits begin at 1; in the rows 0 says never.
    let since = integer(since.get()).max(1);
    let (entries_max, members_max) = (integer(entries_max), integer(RECEIPTS_MEMBERS_MAX));
    let found = pool.rows(CHANGES, &[&user, &since, &only, &entries_max, &members_max]).await?;
    let mut missed = Missed::default();
    for row in &found {
        let convo = row.id(1)?;
        match row.value(0)? {
            LEFT => missed.changes.push(Change::Left(convo)),
            IN => missed.changes.push(change(convo, row)?),
            RECEIPT => {
                if let Some(Change::In { receipts, .. }) = missed.changes.last_mut() {
                    receipts.push(rows::receipt(convo, row, 15)?);
                }
            }
            ENTRY => {
                let entry = COLUMNS.get(convo, row)?;
                match missed.pages.last_mut() {
                    Some((last, slice)) if *last == convo => slice.entries.push(entry),
                    _ => missed.pages.push((convo, HistorySlice { entries: vec![entry], has_more: false })),
                }
            }
            other => return Err(Failure::Row(format!("no kind of change has the number {other}"))),
        }
    }
    missed.changes.retain(is_something);
    Ok(missed)
}

fn change(convo: ConvoId, row: &Row) -> Result<Change, Failure> {
    let shared = if row.value(5)? {
        Some(Arc::new(SharedSettings {
            id: convo,
            title: row.value(6)?,
            about: row.value(7)?,
            posting: rows::code(row, 8)?,
            history: rows::code(row, 9)?,
        }))
    } else {
        None
    };
    let own = if row.value(10)? { Some(rows::settings(row, 11)?) } else { None };
    let first_missed = row.value::<Option<i64>>(3)?.map(|seq| Seq::new(seq.cast_unsigned()));
    let (joined, last_seq) = (row.value(2)?, row.seq(4)?);
    Ok(Change::In { convo, joined, first_missed, last_seq, shared, own, receipts: Vec::new() })
}

/// Whether what changed in the conversation is anything to this member.
fn is_something(change: &Change) -> bool {
    match change {
        Change::Left(_) => true,
        Change::In { joined, first_missed, shared, own, receipts, .. } => {
            *joined || first_missed.is_some() || shared.is_some() || own.is_some() || !receipts.is_empty()
        }
    }
}
