//! Answering searches.
//!
//! Messages with all the words come from the newest on, and whoever has enough does not ask for the rest. To find those
//! that may be seen there are two ways. Looked through: each is asked for its conversation; good where many may be seen,
//! or where there are few. Named: the conversations stand in the question; good where most may not be seen. Who is in
//! more than a few conversations takes the first way for a while, and then whichever has proved the better.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;

use rusqlite::{CachedStatement, Connection, OptionalExtension as _};
use tertulia_protocol::{ConvoId, Seq, Timestamp};

use crate::port::{Found, Hit, NUMBER_BITS, Order, Place, RANKED_MAX, Search, first_id, rank};

/// Up to so many conversations are named at once.
const FEW: usize = 4;
/// How many messages are looked through before conversations are named.
const LOOKED_THROUGH: usize = 2_000;
/// The most conversations that are named: each costs with every message. Who is in more finds enough among all.
const NAMED_MAX: usize = 256;
/// How many messages with all the words one search looks at.
const EXAMINED_MAX: usize = 20_000;

/// A message with all the words.
struct Candidate {
    id: i64,
    /// If it may be seen.
    convo: Option<ConvoId>,
    seq: Seq,
    words: u32,
}

pub(super) fn ask(db: &Connection, search: &Search) -> rusqlite::Result<Found> {
    // One moment for all of it.
    let tx = db.unchecked_transaction()?;
    let Some(asking) = Asking::new(&tx, search)? else { return Ok(Found::default()) };
    match search.order {
        Order::Newest => newest(search, &asking),
        Order::Rank => ranked(search, asking),
    }
}

fn newest(search: &Search, asking: &Asking<'_>) -> rusqlite::Result<Found> {
    let mut hits: Vec<Hit> = Vec::new();
    let end = asking.run(|Candidate { id, convo, seq, .. }| {
        if convo.is_some() && hits.len() == search.limit {
            return ControlFlow::Break(());
        }
        hits.extend(convo.map(|convo| Hit { convo, seq, place: Place::Newest { id } }));
        ControlFlow::Continue(())
    })?;
    let next = match end {
        End::Whole => None,
        // Not of those behind it that may not be seen.
        End::Enough => hits.last().map(|hit| hit.place),
        End::Before(id) => Some(Place::Newest { id }),
    };
    Ok(Found { hits, next })
}

fn ranked(search: &Search, mut asking: Asking<'_>) -> rusqlite::Result<Found> {
    let (newest, behind) = match search.from {
        Some(Place::Rank { newest, rank, id }) => (newest, Some((rank, id))),
        _ => {
            let mut newest = None;
            asking.run(|Candidate { id, convo, .. }| {
                newest = convo.map(|_| id);
                if newest.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            let Some(newest) = newest else { return Ok(Found::default()) };
            // All pages begin here, also the first: so all rank the same messages.
            asking.below = newest.saturating_add(1);
            (newest, None)
        }
    };
    let (mut weighed, mut ranked) = (Vec::new(), 0);
    asking.run(|Candidate { id, convo, seq, words }| {
        let Some(convo) = convo else { return ControlFlow::Continue(()) };
        let weight = (rank(Timestamp::from_millis(id >> NUMBER_BITS), words), id);
        if behind.is_none_or(|behind| weight < behind) {
            weighed.push((weight, convo, seq));
        }
        ranked += 1;
        if ranked == RANKED_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    weighed.sort_unstable_by_key(|&(weight, ..)| Reverse(weight));
    let has_more = weighed.len() > search.limit;
    weighed.truncate(search.limit);
    let hit = |((rank, id), convo, seq)| Hit { convo, seq, place: Place::Rank { newest, rank, id } };
    let hits: Vec<Hit> = weighed.into_iter().map(hit).collect();
    let next = hits.last().map(|hit| hit.place).filter(|_| has_more);
    Ok(Found { hits, next })
}

/// A search in the language of FTS5.
struct Asking<'a> {
    db: &'a Connection,
    search: &'a Search,
    /// Words, phrases and the sender.
    what: String,
    /// The conversations, where they are named.
    named: Option<String>,
    /// Whether some may be looked through first.
    looks_through: bool,
    from: i64,
    below: i64,
}

impl<'a> Asking<'a> {
    /// `None`: nothing can fit. Words hold neither quotation marks nor spaces.
    fn new(db: &'a Connection, search: &'a Search) -> rusqlite::Result<Option<Self>> {
        let mut what = Vec::new();
        for term in &search.terms {
            let sign = if term.is_open() { " *" } else { "" };
            what.push(format!("\"{}\"{sign}", term.words().join(" ")));
        }
        let mut key = db.prepare_cached("SELECT key FROM names WHERE id = ?1")?;
        let mut key_of = |id: &[u8; 16]| key.query_row([id], |row| row.get::<_, i64>(0)).optional();
        if let Some(sender) = search.sender {
            let Some(key) = key_of(sender.as_bytes())? else { return Ok(None) };
            what.push(format!("\"~u{key}\""));
        }
        let named = if search.convos.len() <= NAMED_MAX {
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
            Some(named)
        } else {
            None
        };
        let below = search.before.map_or(i64::MAX, first_id);
        Ok((!what.is_empty()).then(|| Self {
            db,
            search,
            what: what.join(" AND "),
            named,
            looks_through: search.convos.len() > FEW,
            from: search.after.map_or(i64::MIN, first_id),
            below: match search.from {
                None => below,
                Some(Place::Newest { id }) => below.min(id),
                Some(Place::Rank { newest, .. }) => below.min(newest.saturating_add(1)),
            },
        }))
    }

    /// Hands over the messages, from the newest on, until `take` has enough.
    fn run(&self, mut take: impl FnMut(Candidate) -> ControlFlow<()>) -> rusqlite::Result<End> {
        let mut seen = Seen { search: self.search, by_key: HashMap::new(), visible: 0 };
        let (mut left, mut below) = (EXAMINED_MAX, self.below);
        if self.looks_through {
            let few = if self.named.is_some() { LOOKED_THROUGH } else { EXAMINED_MAX };
            left -= few;
            match self.stretch(&self.what, below, few, &mut seen, &mut take)? {
                End::Before(id) => below = id,
                end => return Ok(end),
            }
        }
        let question = match &self.named {
            None => return Ok(End::Before(below)),
            // Most may be seen: looking through is the cheaper way.
            Some(_) if self.looks_through && seen.visible * 4 >= LOOKED_THROUGH => self.what.clone(),
            Some(named) => format!("{} AND ({named})", self.what),
        };
        self.stretch(&question, below, left, &mut seen, &mut take)
    }

    fn stretch(
        &self,
        question: &str,
        below: i64,
        examined_max: usize,
        seen: &mut Seen<'_>,
        take: &mut impl FnMut(Candidate) -> ControlFlow<()>,
    ) -> rusqlite::Result<End> {
        let mut statement = self.db.prepare_cached(
            "SELECT d.id, d.convo, d.seq, d.words FROM texts CROSS JOIN documents d ON d.id = texts.rowid
             WHERE texts MATCH ?1 AND texts.rowid >= ?2 AND texts.rowid < ?3 ORDER BY texts.rowid DESC",
        )?;
        let mut name = self.db.prepare_cached("SELECT id FROM names WHERE key = ?1")?;
        let mut rows = statement.query((question, self.from, below))?;
        let (mut examined, mut last) = (0, below);
        while let Some(row) = rows.next()? {
            if examined == examined_max {
                return Ok(End::Before(last));
            }
            let (id, key) = (row.get(0)?, row.get(1)?);
            let seq = Seq::new(row.get::<_, i64>(2)?.cast_unsigned());
            let convo =
                seen.visible(&mut name, key)?.filter(|&(_, from)| seq >= from).map(|(convo, _)| convo);
            seen.visible += usize::from(convo.is_some());
            if take(Candidate { id, convo, seq, words: row.get(3)? }).is_break() {
                return Ok(End::Enough);
            }
            (examined, last) = (examined + 1, id);
        }
        Ok(End::Whole)
    }
}

/// How looking at messages ended.
enum End {
    /// With the last there is.
    Whole,
    /// With as many as were wanted.
    Enough,
    /// With this one, which may not be one to be seen: as many were looked at as may be.
    Before(i64),
}

/// Conversations as the index knows them, as they are met.
struct Seen<'a> {
    search: &'a Search,
    by_key: HashMap<i64, Option<(ConvoId, Seq)>>,
    /// How many messages of those that were looked at may be seen.
    visible: usize,
}

impl Seen<'_> {
    /// The conversation, and the first entry that may be seen of it; `None`: none may.
    fn visible(
        &mut self,
        name: &mut CachedStatement<'_>,
        key: i64,
    ) -> rusqlite::Result<Option<(ConvoId, Seq)>> {
        if let Some(&known) = self.by_key.get(&key) {
            return Ok(known);
        }
        let convo = name.query_row([key], |row| row.get(0).map(ConvoId::from_bytes))?;
        let visible = self.search.convos.get(&convo).map(|&from| (convo, from));
        self.by_key.insert(key, visible);
        Ok(visible)
    }
}
