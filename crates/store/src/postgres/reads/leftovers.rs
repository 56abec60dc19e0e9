//! Commits that the other nodes were not told of, because whoever appended them has died, or does not know of them.

use std::time::Duration;

use tertulia_protocol::Seq;
use tokio_postgres::Row;

use crate::postgres::error::Failure;
use crate::postgres::pool::Pool;
use crate::postgres::rows;
use crate::postgres::types::{Id, RowExt as _, integer};
use crate::{Leftover, Touched};

/// Of each lane in its order, so that none is passed over.
const UNPUBLISHED: &str = "SELECT j.node, j.lane, j.commit_no, j.convos, j.firsts, j.lasts
    FROM published p CROSS JOIN LATERAL (
        SELECT * FROM journal k WHERE k.node = p.node AND k.lane = p.lane AND k.commit_no > p.commit_no
        ORDER BY k.commit_no LIMIT $2
    ) j
    WHERE j.at < clock_timestamp() - $1 * interval '1 millisecond' ORDER BY j.commit_no LIMIT $2";

/// Nobody may have noted more meanwhile.
const TAKE_OVER: &str = "UPDATE published p SET commit_no = t.commit_no
    FROM unnest($1::int[], $2::int[], $3::bigint[]) AS t(node, lane, commit_no)
    WHERE p.node = t.node AND p.lane = t.lane AND p.commit_no < t.commit_no";

pub(in super::super) async fn read(
    pool: &Pool,
    longer_than: Duration,
    limit: usize,
) -> Result<Vec<Leftover>, Failure> {
    let milliseconds = longer_than.as_secs_f64() * 1_000.0;
    let found = pool.rows(UNPUBLISHED, &[&milliseconds, &integer(limit)]).await?;
    found.iter().map(leftover).collect()
}

fn leftover(row: &Row) -> Result<Leftover, Failure> {
    let (convos, firsts, lasts): (Vec<Id>, Vec<i64>, Vec<i64>) =
        (row.value(3)?, row.value(4)?, row.value(5)?);
    let seq = |seq: i64| Seq::new(seq.cast_unsigned());
    let touched = convos.into_iter().zip(firsts.into_iter().zip(lasts));
    let touched = touched.map(|(convo, (first, last))| Touched {
        convo: convo.into(),
        first: seq(first),
        last: seq(last),
    });
    Ok(Leftover {
        node: row.value(0)?,
        lane: row.value(1)?,
        commit: rows::commit(row, 2)?,
        touched: touched.collect(),
    })
}

pub(in super::super) async fn take_over(pool: &Pool, leftovers: &[Leftover]) -> Result<(), Failure> {
    // One row a lane, the newest.
    let mut newest = std::collections::BTreeMap::new();
    for Leftover { node, lane, commit, .. } in leftovers {
        let known = newest.entry((*node, *lane)).or_insert(*commit);
        *known = (*known).max(*commit);
    }
    let (nodes, lanes): (Vec<i32>, Vec<i32>) = newest.keys().copied().unzip();
    let commits: Vec<i64> = newest.values().map(|commit| integer(commit.get())).collect();
    pool.rows(TAKE_OVER, &[&nodes, &lanes, &commits]).await.map(drop)
}
