//! Search.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use tertulia_protocol::rest::{FoundMessage, Page, SearchOrder};
use tertulia_protocol::rules::{self, Violation};
use tertulia_protocol::{ConvoId, Entry};
use tertulia_search::Order;

use super::extract::{Auth, Query};
use super::problem::ApiError;
use crate::answers::Asking;
use crate::app::App;
use crate::search::cursor::Asked;
use crate::search::{self, Finds, Wanted};

/// `?q=`, `&convoId=`, `&order=`, `&limit=`, `&cursor=`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SearchQuery {
    q: String,
    convo_id: Option<ConvoId>,
    #[serde(default)]
    order: SearchOrder,
    limit: Option<usize>,
    cursor: Option<String>,
}

pub(super) async fn search(
    State(app): State<App>,
    Auth(identity): Auth,
    Query(query): Query<SearchQuery>,
    Extension(asking): Extension<Asking>,
) -> Result<Response, ApiError> {
    let limit = rules::page_limit(query.limit)?;
    let mut sought = tertulia_search::Query::parse(&query.q)?;
    if let Some(convo) = query.convo_id
        && sought.convo.replace(convo).is_some_and(|other| other != convo)
    {
        return Err(Violation::invalid("convoId and in: name two conversations; name one").into());
    }
    let order = match query.order {
        SearchOrder::Newest => Order::Newest,
        SearchOrder::Rank => Order::Rank,
    };
    let asked = Asked { user: identity.user, q: &query.q, convo: sought.convo, order };
    let signer = app.accounts.signer();
    let from = match query.cursor.as_deref().map(|cursor| asked.open(signer, cursor)) {
        None => None,
        Some(Some(place)) => Some(place),
        Some(None) => {
            let detail = "this cursor is not one that was given out for this search; begin without one";
            return Err(Violation::invalid(detail).into());
        }
    };
    let Finds { items, next } =
        search::search(&app, identity.user, Wanted { sought, order, from, limit }).await?;
    let next_cursor = match next {
        None => None,
        Some(place) => Some(asked.seal(signer, app.random.bytes()?, place).ok_or_else(ApiError::fault)?),
    };
    let sum = |items: &Vec<FoundMessage>, of: fn(&Entry) -> usize| {
        items.iter().map(|found| of(&found.message)).sum()
    };
    asking.answer(&app, items, sum, |items| Page { items, next_cursor }).await
}
