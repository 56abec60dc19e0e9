//! Several servers as one store: which they are, and which of them is the first.
//!
//! A conversation is looked for by the number of servers and the place of each. So each server remembers of how many it
//! is one, and at which place; the order in which somebody names them does not matter. Whoever names others is refused.
//!
//! The set is made when no server has anything yet: each notes its place, and once all have, each notes that it is agreed.
//! Only then anything is served. What breaks off before is made anew, what breaks off later is gone on with.

use futures_util::future::{join_all, try_join_all};
use serde::{Deserialize, Serialize};
use tertulia_domain::log::PARTS_MAX;

use super::connect::{Connector, Session};
use super::error::{Failure, OpenError};
use super::migrate::{MIGRATIONS, migrate};
use super::options::PostgresOptions;
use super::types::RowExt as _;

/// Which database it is, whatever address it is reached by.
const WHICH: &str = "SELECT concat_ws('/', s.system_identifier, d.oid)
    FROM pg_control_system() s, pg_database d WHERE d.datname = current_database()";

/// Held, on each server, while a set is made. It ends with the connection.
const LOCK: &str = "SELECT pg_advisory_lock(1952806516, 3)";

const READ: &str = "SELECT (SELECT value FROM meta WHERE name = 'servers'),
    NOT EXISTS (SELECT FROM conversations) AND NOT EXISTS (SELECT FROM users)";

const WRITE: &str = "INSERT INTO meta (name, value) VALUES ('servers', $1)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value";

/// What a server remembers of the set that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// Random: which set.
    set: u64,
    /// How many are in it.
    servers: usize,
    /// Its own place among them.
    place: usize,
    /// Whether all of them had noted theirs.
    agreed: bool,
}

/// What is found on a server.
#[derive(Debug, Clone, Copy)]
struct Found {
    mark: Option<Mark>,
    is_empty: bool,
}

/// Why these servers are not one store. Servers are counted as they were named, from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotOneStore {
    /// A set has one to [`PARTS_MAX`] servers.
    #[error("{0} stores are given; 1 to {PARTS_MAX} are possible")]
    Count(usize),
    /// Two addresses of one database.
    #[error("store {0} and store {1} are the same database")]
    Same(usize, usize),
    /// The data was made with fewer or more of them.
    #[error(
        "{given} are given, and the data was made with {made_with}: give all of those. Conversations cannot be moved to \
         another number of servers yet"
    )]
    OtherCount {
        /// How many are given.
        given: usize,
        /// How many there are.
        made_with: usize,
    },
    /// It belongs to others, or to none.
    #[error("store {0} is not one of those that the data of the others was made with; is its address right?")]
    Stranger(usize),
    /// A copy of another one.
    #[error("store {0} and store {1} are copies of the same one")]
    Copies(usize, usize),
    /// It was used by itself before there was a set.
    #[error(
        "store {0} has conversations or users that were made without the others; take an empty database beside others"
    )]
    HasData(usize),
}

/// Finds out which place each of these servers has, or gives them one where they are new, in this order. Gives the
/// addresses by place: the first keeps the accounts.
///
/// # Errors
/// One of them does not answer or cannot be used, or they are not one store.
pub async fn agree(urls: &[String], options: &PostgresOptions) -> Result<Vec<String>, OpenError> {
    if !(1..=PARTS_MAX).contains(&urls.len()) {
        return Err(NotOneStore::Count(urls.len()).into());
    }
    let opened = join_all(urls.iter().map(|url| open(url, options))).await;
    let (mut sessions, mut names) = (Vec::new(), Vec::<String>::new());
    for (number, opened) in opened.into_iter().enumerate() {
        let (session, name) = opened.map_err(|error| error.of_server(number + 1, urls.len()))?;
        if let Some(known) = names.iter().position(|known| *known == name) {
            return Err(NotOneStore::Same(known + 1, number + 1).into());
        }
        sessions.push(session);
        names.push(name);
    }
    let found = find(&sessions).await?;
    let agreed = |found: &[Found]| found.iter().all(|found| found.mark.is_some_and(|mark| mark.agreed));
    if !agreed(&found) {
        // In an order that everybody has, so that two who begin wait for each other on the first alone.
        let mut order: Vec<_> = names.iter().zip(&sessions).collect();
        order.sort_unstable_by_key(|(name, _)| *name);
        for (_, session) in order {
            session.rows(LOCK, &[]).await?;
        }
        let found = find(&sessions).await?;
        if !agreed(&found) {
            make(&sessions, &found).await?;
        }
    }
    let places = places(&find(&sessions).await?)?.unwrap_or_default();
    let mut by_place: Vec<_> = places.into_iter().zip(urls).collect();
    by_place.sort_unstable_by_key(|(place, _)| *place);
    Ok(by_place.into_iter().map(|(_, url)| url.clone()).collect())
}

async fn open(url: &str, options: &PostgresOptions) -> Result<(Session, String), OpenError> {
    let session = Connector::new(url, options)?.connect().await?;
    session.check().await?;
    migrate(&session, MIGRATIONS).await?;
    let row = session.row(WHICH, &[]).await?.ok_or_else(|| Failure::Row("no database".into()))?;
    let name = row.value(0)?;
    Ok((session, name))
}

async fn find(sessions: &[Session]) -> Result<Vec<Found>, OpenError> {
    let found = sessions.iter().map(async |session| {
        let row = session.row(READ, &[]).await?.ok_or_else(|| Failure::Row("no answer".into()))?;
        let mark = row.value::<Option<Vec<u8>>>(0)?;
        let mark = mark.map(|mark| serde_json::from_slice(&mark)).transpose();
        let mark = mark.map_err(|error| Failure::Row(format!("its place among the servers: {error}")))?;
        Ok(Found { mark, is_empty: row.value(1)? })
    });
    try_join_all(found).await
}

/// Notes places, and then that all have one.
async fn make(sessions: &[Session], found: &[Found]) -> Result<(), OpenError> {
    let places = match places(found)? {
        Some(places) => places,
        None => {
            let set = getrandom::u64()?;
            let places: Vec<usize> = (0..sessions.len()).collect();
            let mark = |place| Mark { set, servers: sessions.len(), place, agreed: false };
            note(sessions, places.iter().map(|place| mark(*place))).await?;
            places
        }
    };
    let marks: Vec<_> = find(sessions).await?.into_iter().filter_map(|found| found.mark).collect();
    debug_assert_eq!(marks.len(), places.len(), "all have been noted");
    note(sessions, marks.into_iter().map(|mark| Mark { agreed: true, ..mark })).await
}

async fn note(sessions: &[Session], marks: impl Iterator<Item = Mark>) -> Result<(), OpenError> {
    for (session, mark) in sessions.iter().zip(marks) {
        let mark = serde_json::to_vec(&mark).map_err(|error| Failure::Row(error.to_string()))?;
        session.rows(WRITE, &[&mark]).await?;
    }
    Ok(())
}

/// The place of each, if a set was agreed; `None` if there is none yet, and these may become one.
fn places(found: &[Found]) -> Result<Option<Vec<usize>>, NotOneStore> {
    let Some(agreed) = found.iter().filter_map(|found| found.mark).find(|mark| mark.agreed) else {
        let used = found.iter().position(|found| !found.is_empty).filter(|_| found.len() > 1);
        return used.map_or(Ok(None), |used| Err(NotOneStore::HasData(used + 1)));
    };
    if agreed.servers != found.len() {
        return Err(NotOneStore::OtherCount { given: found.len(), made_with: agreed.servers });
    }
    let mut places = Vec::<usize>::new();
    for (number, found) in found.iter().enumerate() {
        let mark = found.mark.filter(|mark| (mark.set, mark.servers) == (agreed.set, agreed.servers));
        let mark = mark.ok_or(NotOneStore::Stranger(number + 1))?;
        if let Some(known) = places.iter().position(|known| *known == mark.place) {
            return Err(NotOneStore::Copies(known + 1, number + 1));
        }
        places.push(mark.place);
    }
    Ok(Some(places))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Found = Found { mark: None, is_empty: true };
    const USED: Found = Found { mark: None, is_empty: false };

    const fn at(set: u64, servers: usize, place: usize, agreed: bool) -> Found {
        Found { mark: Some(Mark { set, servers, place, agreed }), is_empty: false }
    }

    #[test]
    fn servers_are_one_store_only_if_all_of_them_say_so() {
        let [first, second] = [0, 1].map(|place| at(7, 2, place, true));
        let other = at(8, 2, 1, true);
        for (found, expected) in [
            (vec![NEW], Ok(None)),
            (vec![NEW, NEW, NEW], Ok(None)),
            (vec![USED], Ok(None)),
            (vec![NEW, USED], Err(NotOneStore::HasData(2))),
            (vec![first, second], Ok(Some(vec![0, 1]))),
            (vec![second, first], Ok(Some(vec![1, 0]))),
            (vec![first], Err(NotOneStore::OtherCount { given: 1, made_with: 2 })),
            (vec![first, second, NEW], Err(NotOneStore::OtherCount { given: 3, made_with: 2 })),
            (vec![first, NEW], Err(NotOneStore::Stranger(2))),
            (vec![USED, second], Err(NotOneStore::Stranger(1))),
            (vec![first, other], Err(NotOneStore::Stranger(2))),
            (vec![first, first], Err(NotOneStore::Copies(1, 2))),
            (vec![at(9, 1, 0, true)], Ok(Some(vec![0]))),
            (vec![at(9, 1, 0, true), NEW], Err(NotOneStore::OtherCount { given: 2, made_with: 1 })),
        ] {
            assert_eq!(places(&found), expected, "{found:?}");
        }
    }

    #[test]
    fn what_broke_off_before_it_was_agreed_is_made_anew_and_what_broke_off_later_is_gone_on_with() {
        let begun = |place| Found { is_empty: true, ..at(7, 2, place, false) };
        assert_eq!(places(&[begun(0), NEW]), Ok(None));
        assert_eq!(places(&[begun(0), begun(1)]), Ok(None));
        assert_eq!(places(&[begun(1), at(7, 2, 0, true)]), Ok(Some(vec![1, 0])));
    }
}
