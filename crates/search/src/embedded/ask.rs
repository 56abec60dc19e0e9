//! Answering searches.

use std::cmp::Reverse;
use std::fmt::Write as _;

use rusqlite::{Connection, OptionalExtension as _, Row};
use tertulia_protocol::{ConvoId, Seq, Timestamp};

use super::{NUMBER_BITS, first_id};
use crate::port::{Found, Hit, Order, Place, RANKED_MAX, Search, rank};

/// Up to so many conversations are named in the question. Of more the answers are looked through instead: who is in so
/// many finds enough among the newest of all.
const CONVOS_NAMED_MAX: usize = 256;
/// How many messages with all the words one search looks at, to find those that may be seen.
const EXAMINED_MAX: usize = 20_000;

/// A message with all the words.
struct Candidate {
    id: i64,
    convo: ConvoId,
    seq: Seq,
    words: u32,
}

pub(super) fn ask(db: &Connection, search: &Search) -> rusqlite::Result<Found> {
    // One moment for all of it.
    let tx = db.unchecked_transaction()?;
    let Some(question) = question(&tx, search)? else { return Ok(Found::default()) };
    let from = search.after.map_or(i64::MIN, first_id);
    let below = search.before.map_or(i64::MAX, first_id);
    let below = match search.from {
        None => below,
        Some(Place::Newest { id }) => below.min(id),
        Some(Place::Rank { newest, .. }) => below.min(newest.saturating_add(1)),
    };
    let mut statement = tx.prepare_cached(
        // From the newest on; whoever has enough does not ask for the rest.
        "SELECT d.id, n.id, d.seq, d.words FROM texts
         CROSS JOIN documents d ON d.id = texts.rowid
         CROSS JOIN names n ON n.key = d.convo
         WHERE texts MATCH ?1 AND texts.rowid >= ?2 AND texts.rowid < ?3 ORDER BY texts.rowid DESC",
    )?;
    let candidates = statement.query_map((question, from, below), candidate)?;
    match search.order {
        Order::Newest => newest(search, candidates),
        Order::Rank => ranked(search, candidates),
    }
}

fn candidate(row: &Row<'_>) -> rusqlite::Result<Candidate> {
    Ok(Candidate {
        id: row.get(0)?,
        convo: ConvoId::from_bytes(row.get(1)?),
        seq: Seq::new(row.get::<_, i64>(2)?.cast_unsigned()),
        words: row.get(3)?,
    })
}

/// The question in the language of FTS5; `None`: nothing can fit. Words hold neither quotation marks nor spaces.
fn question(db: &Connection, search: &Search) -> rusqlite::Result<Option<String>> {
    let mut question = String::new();
    for term in &search.terms {
        let sign = if term.is_open() { " *" } else { "" };
        and(&mut question, format_args!("\"{}\"{sign}", term.words().join(" ")));
    }
    let mut key = db.prepare_cached("SELECT key FROM names WHERE id = ?1")?;
    let mut key_of = |id: &[u8; 16]| key.query_row([id], |row| row.get::<_, i64>(0)).optional();
    if let Some(sender) = search.sender {
        let Some(key) = key_of(sender.as_bytes())? else { return Ok(None) };
        and(&mut question, format_args!("\"~u{key}\""));
    }
    if search.convos.len() <= CONVOS_NAMED_MAX {
        let mut named = String::new();
        for convo in search.convos.keys() {
            if let Some(key) = key_of(convo.as_bytes())? {
                let or = if named.is_empty() { "" } else { " OR " };
                // To a text it can always be written.
                let _ = write!(named, "{or}\"~c{key}\"");
            }
        }
        if named.is_empty() {
            return Ok(None);
        }
        and(&mut question, format_args!("({named})"));
    }
    Ok((!question.is_empty()).then_some(question))
}

fn and(question: &mut String, what: std::fmt::Arguments<'_>) {
    let and = if question.is_empty() { "" } else { " AND " };
    let _ = write!(question, "{and}{what}");
}

fn may_be_seen(search: &Search, candidate: &Candidate) -> bool {
    search.convos.get(&candidate.convo).is_some_and(|&visible_from| candidate.seq >= visible_from)
}

fn newest(
    search: &Search,
    candidates: impl Iterator<Item = rusqlite::Result<Candidate>>,
) -> rusqlite::Result<Found> {
    let mut found = Found::default();
    let mut examined_last = None;
    for (examined, candidate) in candidates.enumerate() {
        let candidate = candidate?;
        let is_hit = may_be_seen(search, &candidate);
        if examined == EXAMINED_MAX || is_hit && found.hits.len() == search.limit {
            found.next = examined_last;
            break;
        }
        let place = Place::Newest { id: candidate.id };
        examined_last = Some(place);
        if is_hit {
            found.hits.push(Hit { convo: candidate.convo, seq: candidate.seq, place });
        }
    }
    Ok(found)
}

fn ranked(
    search: &Search,
    candidates: impl Iterator<Item = rusqlite::Result<Candidate>>,
) -> rusqlite::Result<Found> {
    let mut newest = match search.from {
        Some(Place::Rank { newest, .. }) => Some(newest),
        _ => None,
    };
    let behind = match search.from {
        Some(Place::Rank { rank, id, .. }) => Some((rank, id)),
        _ => None,
    };
    let mut weighed = Vec::new();
    let mut ranked = 0;
    for candidate in candidates.take(EXAMINED_MAX) {
        let candidate = candidate?;
        newest.get_or_insert(candidate.id);
        if !may_be_seen(search, &candidate) {
            continue;
        }
        let weight =
            (rank(Timestamp::from_millis(candidate.id >> NUMBER_BITS), candidate.words), candidate.id);
        if behind.is_none_or(|behind| weight < behind) {
            weighed.push((weight, candidate));
        }
        ranked += 1;
        if ranked == RANKED_MAX {
            break;
        }
    }
    weighed.sort_unstable_by_key(|&(weight, _)| Reverse(weight));
    let has_more = weighed.len() > search.limit;
    weighed.truncate(search.limit);
    let hits: Vec<Hit> = weighed
        .into_iter()
        .map(|((rank, id), Candidate { convo, seq, .. })| {
            let place = Place::Rank { newest: newest.unwrap_or(id), rank, id };
            Hit { convo, seq, place }
        })
        .collect();
    let next = hits.last().map(|hit| hit.place).filter(|_| has_more);
    Ok(Found { hits, next })
}
