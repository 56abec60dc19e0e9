//! Rows as what they stand for.

use std::sync::Arc;

use tertulia_domain::log::{Commit, Receipt};
use tertulia_protocol::rest::MemberSettings;
use tertulia_protocol::{ClientSeq, ConvoId, Entry, EntryKind, Seq, Timestamp};
use tokio_postgres::Row;

use super::error::Failure;
use super::types::{Id, RowExt as _, integer};
use crate::Logged;
use crate::codes::{CHANGE, Code, TEXT};

/// The columns of [`entry`], of `messages m`.
macro_rules! entry_columns {
    () => {
        "m.seq, m.kind, m.sender, m.client_seq, m.ts, m.reply_to, m.body, m.commit_no"
    };
}
pub(super) use entry_columns;

/// A value that stands in the row as its number.
pub(super) fn code<C: Code>(row: &Row, at: usize) -> Result<C, Failure> {
    let code = row.value(at)?;
    C::of(code).ok_or_else(|| Failure::Row(format!("no {} has the number {code}", C::NAME)))
}

pub(super) fn commit(row: &Row, at: usize) -> Result<Commit, Failure> {
    row.count(at).map(Commit::new)
}

/// Four columns: muted, muted_until, pinned, archived.
pub(super) fn settings(row: &Row, at: usize) -> Result<MemberSettings, Failure> {
    Ok(MemberSettings {
        muted: row.value(at)?,
        muted_until: row.value::<Option<i64>>(at + 1)?.map(Timestamp::from_millis),
        pinned: row.value(at + 2)?,
        archived: row.value(at + 3)?,
    })
}

/// A member's watermarks: his id, delivered_seq, read_seq, when they moved, and when `delivered` did, or null.
pub(super) fn receipt(convo: ConvoId, row: &Row, at: usize) -> Result<Receipt, Failure> {
    let (delivered, read) = (row.seq(at + 1)?, row.seq(at + 2)?);
    let delivered_at = row.value::<Option<i64>>(at + 4)?.map(Timestamp::from_millis);
    Ok(Receipt { convo, user: row.id(at)?, delivered, read, ts: row.time(at + 3)?, delivered_at })
}

/// What stands in the columns of an entry, from wherever they are.
pub(super) struct EntryColumns {
    pub(super) seq: usize,
    pub(super) kind: usize,
    pub(super) sender: usize,
    pub(super) client_seq: usize,
    pub(super) ts: usize,
    pub(super) reply_to: usize,
    pub(super) body: usize,
    pub(super) commit: usize,
}

impl EntryColumns {
    /// In the order of `entry_columns!`.
    pub(super) const fn from(at: usize) -> Self {
        Self {
            seq: at,
            kind: at + 1,
            sender: at + 2,
            client_seq: at + 3,
            ts: at + 4,
            reply_to: at + 5,
            body: at + 6,
            commit: at + 7,
        }
    }

    /// The entry, and its commit.
    pub(super) fn get(&self, convo: ConvoId, row: &Row) -> Result<Logged, Failure> {
        let body: &str = row.value(self.body)?;
        let kind = match row.value(self.kind)? {
            TEXT => {
                let reply_to = row.value::<Option<i64>>(self.reply_to)?;
                EntryKind::Text {
                    body: body.to_owned(),
                    reply_to: reply_to.map(|seq| Seq::new(seq.cast_unsigned())),
                }
            }
            CHANGE => serde_json::from_str(body).map_err(|error| Failure::Row(error.to_string()))?,
            other => return Err(Failure::Row(format!("no kind of entry has the number {other}"))),
        };
        let client_seq = row.value::<Option<i64>>(self.client_seq)?;
        let entry = Entry {
            convo_id: convo,
            seq: row.seq(self.seq)?,
            sender_id: row.id(self.sender)?,
            client_seq: client_seq.map(|number| ClientSeq::new(number.cast_unsigned())),
            ts: row.time(self.ts)?,
            kind,
        };
        Ok((Arc::new(entry), commit(row, self.commit)?))
    }
}

/// An entry out of `entry_columns!`, and its commit.
pub(super) fn entry(convo: ConvoId, row: &Row, at: usize) -> Result<Logged, Failure> {
    EntryColumns::from(at).get(convo, row)
}

pub(super) fn seq(seq: Seq) -> i64 {
    integer(seq.get())
}

pub(super) fn ids<I: Copy + Into<Id>>(ids: &[I]) -> Vec<Id> {
    ids.iter().map(|&id| id.into()).collect()
}
