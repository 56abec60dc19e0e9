//! What those are told who follow the logs.

use tertulia_domain::log::Commit;
use tertulia_protocol::{ConvoId, Seq, UserId};
use tokio_postgres::Row;

use crate::postgres::error::Failure;
use crate::postgres::pool::Pool;
use crate::postgres::types::{Id, RowExt as _, integer};
use crate::{JournalRow, Touched};

/// Below the horizon of its own moment: no row will come between those that it gives.
const JOURNAL: &str = "
    SELECT f.before, j.commit_no, j.convos, j.firsts, j.lasts
    FROM journal_forgotten f LEFT JOIN LATERAL (
        SELECT k.* FROM journal k, lineage l
        WHERE k.commit_no >= $1
            AND k.commit_no < pg_snapshot_xmin(pg_current_snapshot())::text::bigint + l.base
        ORDER BY k.commit_no LIMIT $2
    ) j ON true ORDER BY j.commit_no";

/// What was told to the other nodes, a while ago: a node whose link was broken reads it here. Not many at a time, for
/// whatever waits for the horizon.
const FORGET: &str = "
    WITH old AS (
        SELECT j.node, j.lane, j.commit_no FROM journal j JOIN published p ON p.node = j.node AND p.lane = j.lane
        WHERE j.commit_no < $1 AND j.commit_no <= p.commit_no AND j.at < clock_timestamp() - interval '10 minutes'
        ORDER BY j.commit_no LIMIT 5000
    ), gone AS (
        DELETE FROM journal j USING old
        WHERE j.node = old.node AND j.lane = old.lane AND j.commit_no = old.commit_no
        RETURNING j.commit_no
    )
    UPDATE journal_forgotten SET before = greatest(before, (SELECT max(commit_no) + 1 FROM gone))
    WHERE EXISTS (SELECT FROM gone)";

/// `None`: some of it is forgotten.
pub(in super::super) async fn journal(
    pool: &Pool,
    since: Commit,
    limit: usize,
) -> Result<Option<Vec<JournalRow>>, Failure> {
    let found = pool.rows(JOURNAL, &[&integer(since.get()), &integer(limit)]).await?;
    let forgotten =
        found.first().ok_or_else(|| Failure::Row("the journal's bounds are gone".into()))?.count(0)?;
    if since.get() < forgotten {
        return Ok(None);
    }
    // One row without a commit, where there is none.
    let is_commit = |row: &&Row| !matches!(row.value::<Option<i64>>(1), Ok(None));
    let rows = found.iter().filter(is_commit).map(journal_row);
    rows.collect::<Result<_, _>>().map(Some)
}

fn journal_row(row: &Row) -> Result<JournalRow, Failure> {
    let convos: Vec<Id> = row.value(2)?;
    let (firsts, lasts): (Vec<i64>, Vec<i64>) = (row.value(3)?, row.value(4)?);
    let (mut ranges, mut quiet) = (Vec::new(), Vec::new());
    for (convo, (first, last)) in convos.into_iter().zip(firsts.into_iter().zip(lasts)) {
        if first <= last {
            let seq = |seq: i64| Seq::new(seq.cast_unsigned());
            ranges.push(Touched { convo: convo.into(), first: seq(first), last: seq(last) });
        } else {
            quiet.push(convo.into());
        }
    }
    Ok(JournalRow { commit: Commit::new(row.count(1)?), ranges, quiet })
}

pub(in super::super) async fn forget_journal(pool: &Pool, before: Commit) -> Result<(), Failure> {
    pool.rows(FORGET, &[&integer(before.get())]).await.map(drop)
}

/// All conversations with their newest entries, by id.
pub(in super::super) async fn logs(
    pool: &Pool,
    after: Option<ConvoId>,
    limit: usize,
) -> Result<Vec<(ConvoId, Seq)>, Failure> {
    // No conversation has the id of zeros.
    let after = after.map_or(Id([0; 16]), Id::from);
    let sql = "SELECT id, last_seq FROM conversations WHERE id > $1 ORDER BY id LIMIT $2";
    let found = pool.rows(sql, &[&after, &integer(limit)]).await?;
    found.iter().map(|row| Ok((row.id(0)?, row.seq(1)?))).collect()
}

/// The conversations that a user is in, or `only` that one, each with the first entry that he may see.
pub(in super::super) async fn visible_from(
    pool: &Pool,
    user: UserId,
    only: Option<ConvoId>,
) -> Result<Vec<(ConvoId, Seq)>, Failure> {
    // A range, so that one conversation is found by the index as well as all are.
    let (first, last) = only.map_or((Id([0; 16]), Id([0xff; 16])), |convo| (convo.into(), convo.into()));
    let sql = "SELECT convo, visible_from FROM participants
        WHERE user_id = $1 AND convo BETWEEN $2 AND $3 AND left_commit IS NULL";
    let found = pool.rows(sql, &[&Id::from(user), &first, &last]).await?;
    found.iter().map(|row| Ok((row.id(0)?, row.seq(1)?))).collect()
}
