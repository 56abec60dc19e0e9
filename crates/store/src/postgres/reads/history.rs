//! A stretch of a conversation's log.

use tertulia_domain::log::HistorySlice;
use tertulia_protocol::{ConvoId, Seq, UserId};

use crate::codes::CHANGE;
use crate::port::changes_members;
use crate::postgres::error::Failure;
use crate::postgres::pool::Pool;
use crate::postgres::rows::{self, entry_columns};
use crate::postgres::types::{Id, RowExt as _, integer};
use crate::{Logged, Slice, Touched};

/// From the entry $3 on.
const AFTER: &str = concat!(
    "SELECT p.visible_from, c.last_seq, ",
    entry_columns!(),
    " FROM participants p JOIN conversations c ON c.id = p.convo
      LEFT JOIN LATERAL (
        SELECT * FROM messages n WHERE n.convo = p.convo AND n.seq >= greatest($3, p.visible_from)
        ORDER BY n.seq LIMIT $4
      ) m ON true
      WHERE p.convo = $1 AND p.user_id = $2 AND p.left_commit IS NULL ORDER BY m.seq"
);

/// Up to the entry $3.
const BEFORE: &str = concat!(
    "SELECT p.visible_from, c.last_seq, ",
    entry_columns!(),
    " FROM participants p JOIN conversations c ON c.id = p.convo
      LEFT JOIN LATERAL (
        SELECT * FROM messages n WHERE n.convo = p.convo AND n.seq <= $3 AND n.seq >= p.visible_from
        ORDER BY n.seq DESC LIMIT $4
      ) m ON true
      WHERE p.convo = $1 AND p.user_id = $2 AND p.left_commit IS NULL ORDER BY m.seq"
);

/// Of conversations that have had another entry than a message since then; where there was none, no log is looked into.
const MEMBER_CHANGES: &str = concat!(
    "SELECT a.convo, ",
    entry_columns!(),
    " FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS a(convo, first, last)
      JOIN conversations c ON c.id = a.convo AND c.last_change_seq >= a.first
      JOIN LATERAL (
        SELECT * FROM messages n WHERE n.convo = a.convo AND n.seq >= a.first
            AND n.seq <= least(a.last, c.last_change_seq) AND n.kind = $4
        OFFSET 0 -- Else the log is read from its beginning.
      ) m ON true
      ORDER BY a.convo, m.seq"
);

/// The entries that change members, of each of these stretches.
pub(in super::super) async fn member_changes(pool: &Pool, among: &[Touched]) -> Result<Vec<Logged>, Failure> {
    let convos: Vec<_> = among.iter().map(|touched| Id::from(touched.convo)).collect();
    let firsts: Vec<_> = among.iter().map(|touched| rows::seq(touched.first)).collect();
    let lasts: Vec<_> = among.iter().map(|touched| rows::seq(touched.last)).collect();
    let found = pool.rows(MEMBER_CHANGES, &[&convos, &firsts, &lasts, &CHANGE]).await?;
    let entries = found.iter().map(|row| rows::entry(row.id(0)?, row, 1));
    let is_wanted = |entry: &Result<Logged, Failure>| {
        entry.as_ref().map_or(true, |(entry, _)| changes_members(&entry.kind))
    };
    entries.filter(is_wanted).collect()
}

/// `None`: the user is not in the conversation.
pub(in super::super) async fn read(
    pool: &Pool,
    user: UserId,
    convo: ConvoId,
    slice: Slice,
    limit: usize,
) -> Result<Option<HistorySlice>, Failure> {
    let (sql, from) = match slice {
        Slice::Newest => (BEFORE, i64::MAX),
        Slice::After(seq) => (AFTER, rows::seq(seq).saturating_add(1)),
        Slice::Before(seq) => (BEFORE, rows::seq(seq.previous())),
    };
    let found = pool.rows(sql, &[&Id::from(convo), &Id::from(user), &from, &integer(limit)]).await?;
    let Some(first) = found.first() else { return Ok(None) };
    let (visible_from, last): (Seq, Seq) = (first.seq(0)?, first.seq(1)?);
    // One row without an entry, where there is none in the stretch.
    let is_entry = |row: &&tokio_postgres::Row| !matches!(row.value::<Option<i64>>(2), Ok(None));
    let entries: Vec<Logged> =
        found.iter().filter(is_entry).map(|row| rows::entry(convo, row, 2)).collect::<Result<_, _>>()?;
    let has_more = match (slice, entries.first(), entries.last()) {
        (Slice::After(_), _, Some((newest, _))) => newest.seq < last,
        (Slice::Newest | Slice::Before(_), Some((oldest, _)), _) => oldest.seq > visible_from,
        _ => false,
    };
    Ok(Some(HistorySlice { entries, has_more }))
}

/// The entries from `from` on, whoever may see them.
pub(in super::super) async fn entries(
    pool: &Pool,
    convo: ConvoId,
    from: Seq,
    limit: usize,
) -> Result<Vec<Logged>, Failure> {
    let sql = concat!(
        "SELECT ",
        entry_columns!(),
        " FROM messages m WHERE m.convo = $1 AND m.seq >= $2 ORDER BY m.seq LIMIT $3"
    );
    let found = pool.rows(sql, &[&Id::from(convo), &rows::seq(from), &integer(limit)]).await?;
    found.iter().map(|row| rows::entry(convo, row, 0)).collect()
}

/// The entries of several ranges, in one statement.
pub(in super::super) async fn ranges(pool: &Pool, ranges: &[Touched]) -> Result<Vec<Vec<Logged>>, Failure> {
    let sql = concat!(
        "SELECT w.at, ",
        entry_columns!(),
        " FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS w(convo, first, last, at)
          JOIN messages m ON m.convo = w.convo AND m.seq BETWEEN w.first AND w.last ORDER BY w.at, m.seq"
    );
    let mut lists = vec![Vec::new(); ranges.len()];
    if ranges.is_empty() {
        return Ok(lists);
    }
    let convos: Vec<Id> = ranges.iter().map(|range| range.convo.into()).collect();
    let firsts: Vec<i64> = ranges.iter().map(|range| rows::seq(range.first)).collect();
    let lasts: Vec<i64> = ranges.iter().map(|range| rows::seq(range.last)).collect();
    for row in pool.rows(sql, &[&convos, &firsts, &lasts]).await? {
        let place = usize::try_from(row.count(0)?).unwrap_or(0).wrapping_sub(1);
        let (Some(range), Some(list)) = (ranges.get(place), lists.get_mut(place)) else {
            return Err(Failure::Row("an entry of no range".into()));
        };
        list.push(rows::entry(range.convo, &row, 1)?);
    }
    Ok(lists)
}
