//! The adapter in PostgreSQL: tables beside those of the store, which all nodes share.
//!
//! A message's words are a `tsvector` with a GIN index, and in front of them stand its conversation and its sender as
//! words of their own, as in the embedded index: a question names them like any other word.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tertulia_protocol::{ConvoId, Seq};
use tertulia_store::StoreError;
use tertulia_store::postgres::parts::{
    Connector, Failure, Id, Parameters, Pool, RowExt as _, Session, integer,
};
use tertulia_store::postgres::{OpenError, PostgresOptions};

use crate::port::{
    Change, Found, Hit, IndexError, Order, Place, RANKED_MAX, Search, SearchIndex, first_id, rank,
};

/// The number of the tables' form, which `schema.sql` writes down.
const VERSION: i32 = 2;
const SCHEMA: &str = include_str!("schema.sql");
/// Held while one program makes the tables.
const LOCK: &str = "SELECT pg_advisory_xact_lock(1952806516, 3)";
const EXISTS: &str = "SELECT to_regclass('search_meta') IS NOT NULL";
const FOUND: &str = "SELECT version FROM search_meta";
const DROP: &str = "DROP TABLE search_meta, search_documents; DROP FUNCTION search_apply_1";

const CURSOR: &str = "SELECT cursor FROM search_meta";
const MOVE: &str = "UPDATE search_meta SET cursor = $2 WHERE cursor IS NOT DISTINCT FROM $1 RETURNING one";
const APPLY: &str = "SELECT search_apply_1($1, $2, $3, $4, $5, $6)";
/// What fits, by the words first, whatever the planner thinks of it (`+ 0`: nor by the time, which mostly is all there
/// is); then what may be seen.
const NEWEST: &str = "
    WITH fitting AS MATERIALIZED (
        SELECT id, convo, seq FROM search_documents WHERE text @@ $1::text::tsquery AND id + 0 >= $2 AND id + 0 < $3
    )
    SELECT f.id, f.convo, f.seq FROM fitting f JOIN unnest($4::uuid[], $5::bigint[]) AS v(convo, first)
        ON v.convo = f.convo AND f.seq >= v.first
    ORDER BY f.id DESC LIMIT $6";
const RANKED: &str = "
    WITH fitting AS MATERIALIZED (
        SELECT id, convo, seq, rank FROM search_documents WHERE text @@ $1::text::tsquery AND id + 0 >= $2 AND id + 0 < $3
    ), newest AS MATERIALIZED (
        SELECT f.id, f.convo, f.seq, f.rank
        FROM fitting f JOIN unnest($4::uuid[], $5::bigint[]) AS v(convo, first)
            ON v.convo = f.convo AND f.seq >= v.first
        ORDER BY f.id DESC LIMIT $6
    ), whole AS MATERIALIZED (
        SELECT max(id) AS id FROM newest
    )
    SELECT n.id, n.convo, n.seq, n.rank, w.id FROM newest n CROSS JOIN whole w
    WHERE $7::bigint IS NULL OR (n.rank, n.id) < ($7, $8)
    ORDER BY n.rank DESC, n.id DESC LIMIT $9";

/// The index that all nodes share.
pub struct Postgres {
    pool: Pool,
}

impl Postgres {
    /// Opens the index of a database, and makes its tables. Those of an older version go: they are filled again.
    ///
    /// # Errors
    /// The database does not answer, or is not one that the service can use, or a newer version has made the tables.
    pub async fn open(url: &str, options: &PostgresOptions) -> Result<Self, OpenError> {
        let pool = Pool::new(Arc::new(Connector::new(url, options)?), options.readers, options.wait_max);
        let session = pool.lend().await?;
        session.check().await?;
        make(&session).await?;
        drop(session);
        Ok(Self { pool })
    }

    async fn newest(&self, search: &Search, question: &Question) -> Result<Found, Failure> {
        let below = match search.from {
            Some(Place::Newest { id }) => question.below.min(id),
            _ => question.below,
        };
        let limit = integer(search.limit) + 1;
        let Question { text, from, convos, firsts, .. } = question;
        let rows = self.pool.rows(NEWEST, &[text, from, &below, convos, firsts, &limit]).await?;
        let hits = rows.iter().map(|row| {
            Ok(Hit { convo: row.id(1)?, seq: row.seq(2)?, place: Place::Newest { id: row.value(0)? } })
        });
        Ok(page(hits.collect::<Result<_, Failure>>()?, search.limit))
    }

    async fn ranked(&self, search: &Search, question: &Question) -> Result<Found, Failure> {
        let (below, behind) = match search.from {
            Some(Place::Rank { newest, rank, id }) => {
                (question.below.min(newest.saturating_add(1)), Some((rank, id)))
            }
            _ => (question.below, None),
        };
        let (rank, id) = behind.unzip();
        let (ranked, limit) = (integer(RANKED_MAX), integer(search.limit) + 1);
        let Question { text, from, convos, firsts, .. } = question;
        let parameters: Parameters<'_> = &[text, from, &below, convos, firsts, &ranked, &rank, &id, &limit];
        let rows = self.pool.rows(RANKED, parameters).await?;
        let hits = rows.iter().map(|row| {
            let place = Place::Rank { newest: row.value(4)?, rank: row.value(3)?, id: row.value(0)? };
            Ok(Hit { convo: row.id(1)?, seq: row.seq(2)?, place })
        });
        Ok(page(hits.collect::<Result<_, Failure>>()?, search.limit))
    }
}

/// Makes the tables, unless they are there.
async fn make(session: &Session) -> Result<(), OpenError> {
    session.run(&format!("BEGIN; {LOCK}")).await?;
    let made = async {
        let exists: bool = session.row(EXISTS, &[]).await?.map_or(Ok(false), |row| row.value(0))?;
        let found = if exists { session.row(FOUND, &[]).await? } else { None };
        let found: Option<i32> = found.map(|row| row.value(0)).transpose()?;
        match found {
            Some(found) if found > VERSION => return Err(OpenError::Newer { found, known: VERSION }),
            Some(VERSION) => {}
            Some(_) => session.run(&format!("{DROP}; {SCHEMA}")).await?,
            None => session.run(SCHEMA).await?,
        }
        Ok(())
    };
    let made = made.await;
    // The first error is the one to tell.
    let ended = session.run(if made.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
    made.and(ended.map_err(OpenError::from))
}

/// One hit more than was asked for says that there are more.
fn page(mut hits: Vec<Hit>, limit: usize) -> Found {
    let has_more = hits.len() > limit;
    hits.truncate(limit);
    let next = hits.last().map(|hit| hit.place).filter(|_| has_more);
    Found { hits, next }
}

/// A search in the language of `tsquery`, and where to look.
struct Question {
    text: String,
    from: i64,
    below: i64,
    convos: Vec<Id>,
    firsts: Vec<i64>,
}

/// Up to so many conversations are named in the question.
const NAMED_MAX: usize = 16;

impl Question {
    /// `None`: nothing can fit. Words hold neither quotation marks nor backslashes.
    fn new(search: &Search) -> Option<Self> {
        let mut parts = Vec::new();
        for term in &search.terms {
            let mut words: Vec<_> = term.words().iter().map(|word| format!("'{word}'")).collect();
            if let (Some(last), true) = (words.last_mut(), term.is_open()) {
                last.push_str(":*");
            }
            parts.push(format!("({})", words.join(" <-> ")));
        }
        if let Some(sender) = search.sender {
            parts.push(format!("'~u{sender}'"));
        }
        if parts.is_empty() || search.convos.is_empty() {
            return None;
        }
        if search.convos.len() <= NAMED_MAX {
            let named: Vec<_> = search.convos.keys().map(|convo| format!("'~c{convo}'")).collect();
            parts.push(format!("({})", named.join(" | ")));
        }
        let (convos, firsts) =
            search.convos.iter().map(|(&convo, &first)| (Id::from(convo), integer(first.get()))).unzip();
        Some(Self {
            text: parts.join(" & "),
            from: search.after.map_or(i64::MIN, first_id),
            below: search.before.map_or(i64::MAX, first_id),
            convos,
            firsts,
        })
    }
}

#[async_trait]
impl SearchIndex for Postgres {
    async fn cursor(&self) -> Result<Option<String>, IndexError> {
        let row = self.pool.row(CURSOR, &[]).await.map_err(|failure| told(&failure))?;
        row.map_or(Ok(None), |row| row.value(0).map_err(|failure| told(&failure)))
    }

    async fn apply(&self, batch: Vec<Change>, cursor: Option<&str>) -> Result<(), IndexError> {
        // Of two changes of one message the later one counts, in the place of the first.
        let mut places: HashMap<(ConvoId, Seq), usize> = HashMap::with_capacity(batch.len());
        let mut changes: Vec<Change> = Vec::with_capacity(batch.len());
        for change in batch {
            let key = match &change {
                Change::Put(document) => (document.convo, document.seq),
                Change::Remove { convo, seq, .. } => (*convo, *seq),
            };
            match places.get(&key) {
                Some(&place) => changes[place] = change,
                None => {
                    places.insert(key, changes.len());
                    changes.push(change);
                }
            }
        }
        let columns = move || {
            let mut columns = Columns::default();
            changes.iter().for_each(|change| columns.push(change));
            columns
        };
        // Thousands of messages take a while: not on a thread that serves others.
        let columns = tokio::task::spawn_blocking(columns).await;
        let columns = columns.map_err(|error| IndexError::Refused(format!("the words of it: {error}")))?;
        let Columns { convos, seqs, firsts, ranks, texts } = &columns;
        let applied = self.pool.rows(APPLY, &[convos, seqs, firsts, ranks, texts, &cursor]).await;
        applied.map(drop).map_err(|failure| told(&failure))
    }

    async fn move_cursor(&self, from: Option<&str>, to: &str) -> Result<bool, IndexError> {
        let moved = self.pool.row(MOVE, &[&from, &to]).await;
        moved.map(|row| row.is_some()).map_err(|failure| told(&failure))
    }

    async fn sync(&self) -> Result<(), IndexError> {
        // Each batch was synced with its commit.
        Ok(())
    }

    async fn clear(&self) -> Result<(), IndexError> {
        const CLEAR: &str =
            "WITH gone AS (DELETE FROM search_documents) UPDATE search_meta SET cursor = NULL";
        self.pool.rows(CLEAR, &[]).await.map(drop).map_err(|failure| told(&failure))
    }

    async fn search(&self, search: Search) -> Result<Found, IndexError> {
        let Some(question) = Question::new(&search) else { return Ok(Found::default()) };
        let found = match search.order {
            Order::Newest => self.newest(&search, &question).await,
            Order::Rank => self.ranked(&search, &question).await,
        };
        found.map_err(|failure| told(&failure))
    }

    fn figures(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

/// A batch, a column each.
#[derive(Default)]
struct Columns {
    convos: Vec<Id>,
    seqs: Vec<i64>,
    firsts: Vec<i64>,
    ranks: Vec<i64>,
    texts: Vec<Option<String>>,
}

impl Columns {
    fn push(&mut self, change: &Change) {
        let (convo, seq, ts, weight, text) = match change {
            Change::Remove { convo, seq, ts } => (convo, seq, ts, 0, None),
            Change::Put(document) => {
                let (words, count) = document.words();
                let weight = rank(document.ts, count);
                let mut text = format!("'~c{}' '~u{}'", document.convo, document.sender);
                for (place, word) in (1_u32..).zip(words.split_ascii_whitespace()) {
                    // To a text it can always be written.
                    let _ = write!(text, " '{word}':{place}");
                }
                (&document.convo, &document.seq, &document.ts, weight, Some(text))
            }
        };
        self.convos.push(Id::from(*convo));
        self.seqs.push(integer(seq.get()));
        self.firsts.push(first_id(*ts));
        self.ranks.push(weight);
        self.texts.push(text);
    }
}

fn told(failure: &Failure) -> IndexError {
    // What was to be written is at fault: it is no date, too long, or there already.
    if failure.is_of_class(&["22", "23", "54"]) {
        return IndexError::Refused(failure.to_string());
    }
    match failure.told() {
        StoreError::Closed => IndexError::Closed,
        StoreError::Unavailable { reason, retry_after } => IndexError::Unavailable { reason, retry_after },
        other => IndexError::Unavailable { reason: other.to_string(), retry_after: Duration::from_secs(5) },
    }
}
