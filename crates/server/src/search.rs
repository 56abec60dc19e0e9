//! Search: the index says where something stands, and the store says whether the one who asks may see it now, and what
//! it says now.

pub(crate) mod cursor;

use std::sync::Arc;

use futures_util::future::join_all;
use tertulia_domain::log::Refusal;
use tertulia_protocol::rest::FoundMessage;
use tertulia_protocol::{Entry, EntryKind, UserId};
use tertulia_search::words::words;
use tertulia_search::{Author, Hit, IndexError, Order, Place, Query, Search, Term, find, snippet};
use tertulia_store::{Slice, StoreError};

use crate::app::App;
use crate::rest::problem::ApiError;

/// How often the index is asked for one page, where hits turned out not to be for the one who asks.
const ROUNDS_MAX: usize = 4;

/// What somebody wants to find.
pub(crate) struct Wanted {
    pub(crate) sought: Query,
    pub(crate) order: Order,
    pub(crate) from: Option<Place>,
    pub(crate) limit: usize,
}

/// A page of what was found.
#[derive(Default)]
pub(crate) struct Finds {
    pub(crate) items: Vec<FoundMessage>,
    /// Where to go on, if there may be more. Not for the eyes of the one who asks: see [`cursor`].
    pub(crate) next: Option<Place>,
}

/// Finds a page of messages.
///
/// # Errors
/// `not_found` for a conversation that he is not in; `rate_limited` if too many searches of his wait; `unavailable` if store
/// or index cannot do it now.
pub(crate) async fn search(app: &App, user: UserId, wanted: Wanted) -> Result<Finds, ApiError> {
    let Wanted { sought, order, mut from, limit } = wanted;
    let mut turn = app.searching.next(user).await?;
    let convos = turn.wait_for(app.store.visible_from(user, sought.convo)).await?;
    if convos.is_empty() && sought.convo.is_some() {
        return Err(Refusal::NotFound.into());
    }
    let sender = match sought.from {
        None => None,
        Some(Author::Me) => Some(user),
        Some(Author::Id(id)) => Some(id),
        Some(Author::Name(name)) => match app.accounts.named(&name).await? {
            Some(id) => Some(id),
            // Who does not exist has written nothing.
            None => return Ok(Finds::default()),
        },
    };
    let convos = convos.into_iter().collect();
    let search = Search {
        terms: sought.terms,
        convos,
        sender,
        before: sought.before,
        after: sought.after,
        order,
        from,
        limit,
    };
    let terms = Arc::new(search.terms.clone());
    let mut items = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let limit = limit - items.len();
        let found = app.search.search(Search { from, limit, ..search.clone() }).await?;
        items.extend(present(app, user, &terms, found.hits).await?);
        from = found.next;
        if from.is_none() || items.len() == search.limit {
            break;
        }
    }
    Ok(Finds { items, next: from })
}

/// What was found as it is now: without what he may no longer see, and what no longer says what he seeks.
async fn present(
    app: &App,
    user: UserId,
    terms: &Arc<Vec<Term>>,
    hits: Vec<Hit>,
) -> Result<Vec<FoundMessage>, ApiError> {
    let reads: Vec<_> = hits.into_iter().map(|hit| read(app, user, hit)).collect();
    let mut entries = Vec::new();
    for entry in join_all(reads).await {
        entries.extend(entry?);
    }
    let terms = Arc::clone(terms);
    // Long bodies take a while: not on a thread that serves others.
    let found = tokio::task::spawn_blocking(move || {
        let message = |entry: Arc<Entry>| {
            let EntryKind::Text { body, .. } = &entry.kind else { return None };
            let snippet = snippet(body, &find(&terms, &words(body))?);
            Some(FoundMessage { message: Arc::unwrap_or_clone(entry), snippet })
        };
        entries.into_iter().filter_map(message).collect()
    });
    found.await.map_err(|error| {
        tracing::error!(%error, "a search has panicked");
        ApiError::fault()
    })
}

async fn read(app: &App, user: UserId, hit: Hit) -> Result<Option<Arc<Entry>>, StoreError> {
    let page = app.store.history(user, hit.convo, Slice::After(hit.seq.previous()), 1).await?;
    let entry = page.and_then(|page| page.entries.into_iter().next());
    Ok(entry.map(|(entry, _)| entry).filter(|entry| entry.seq == hit.seq))
}

impl From<IndexError> for ApiError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Unavailable { reason, retry_after } => {
                tracing::warn!(reason, "a search could not be answered");
                Self::unavailable(
                    "this cannot be searched for now; try again, or seek rarer words",
                    retry_after,
                )
            }
            IndexError::Refused(why) => {
                tracing::error!(why, "the search index refuses a question");
                Self::fault()
            }
            IndexError::Closed => {
                Self::unavailable("the server is going down; try again", std::time::Duration::from_secs(1))
            }
        }
    }
}
