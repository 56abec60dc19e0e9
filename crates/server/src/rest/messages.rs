//! Messages, history and receipts.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tertulia_domain::log::{HistorySlice, Refusal};
use tertulia_protocol::rest::{HistoryPage, Mark, MessageAnswer, MessageReceipt, Page, SendMessage};
use tertulia_protocol::rules::{self, PAGE_MAX, Violation};
use tertulia_protocol::{Code, ConvoId, Entry, Seq, UserId};
use tertulia_store::{ReceiptPage, Slice};

use super::conversations::PageQuery;
use super::extract::{Auth, Json, Path, Query};
use super::problem::ApiError;
use crate::answers::Asking;
use crate::app::App;
use crate::messages;
use crate::views::Mask;

/// `?after=seq` or `?before=seq`, `&limit=`.
#[derive(Deserialize)]
pub(super) struct HistoryQuery {
    after: Option<Seq>,
    before: Option<Seq>,
    limit: Option<usize>,
}

pub(super) async fn send(
    State(app): State<App>,
    Auth(identity): Auth,
    Path(convo): Path<ConvoId>,
    Json(message): Json<SendMessage>,
) -> Result<impl IntoResponse, ApiError> {
    let now = app.clock.monotonic();
    let bytes = u32::try_from(message.body.len()).unwrap_or(u32::MAX);
    let sends = app.limits.sends.check(identity.device, now);
    sends
        .and_then(|()| app.limits.bytes.check_cost(identity.device, bytes, now))
        .map_err(ApiError::rate_limited)?;
    let sent = messages::send(&app, identity, convo, message).await?;
    let status = if sent.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(MessageAnswer { message: sent.message.as_ref().clone() })))
}

pub(super) async fn history(
    State(app): State<App>,
    Auth(identity): Auth,
    Path(convo): Path<ConvoId>,
    Query(query): Query<HistoryQuery>,
    Extension(asking): Extension<Asking>,
) -> Result<Response, ApiError> {
    let limit = rules::page_limit(query.limit)?;
    let slice = match (query.after, query.before) {
        (None, None) => Slice::Newest,
        (Some(after), None) => Slice::After(after),
        (None, Some(before)) => Slice::Before(before),
        (Some(_), Some(_)) => return Err(Violation::invalid("name after or before, not both").into()),
    };
    let mut turn = asking.turn(&app, app.pages.of_part(app.store.part_of(convo)), identity).await?;
    let page = turn.wait_for(app.store.history(identity.user, convo, slice, limit)).await?;
    drop(turn);
    let Some(slice) = page else {
        return Err(Refusal::NotFound.into());
    };
    let sum = |slice: &HistorySlice, of: fn(&Entry) -> usize| {
        slice.entries.iter().map(|(entry, _)| of(entry)).sum()
    };
    let page = |HistorySlice { entries, has_more }| {
        let items = entries.into_iter().map(|(entry, _)| Arc::unwrap_or_clone(entry)).collect();
        HistoryPage { items, has_more }
    };
    asking.answer(&app, slice, sum, page).await
}

pub(super) async fn mark(
    State(app): State<App>,
    Auth(identity): Auth,
    Path(convo): Path<ConvoId>,
    Json(mark): Json<Mark>,
) -> Result<StatusCode, ApiError> {
    messages::append(&app, messages::mark_intent(identity.user, convo, mark)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn receipts(
    State(app): State<App>,
    Auth(identity): Auth,
    Path((convo, seq)): Path<(ConvoId, Seq)>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<MessageReceipt>>, ApiError> {
    // As many as members are shown at once.
    let limit = rules::page_limit(Some(query.limit.unwrap_or(PAGE_MAX)))?;
    let cursor = query.cursor.as_deref();
    let page = app.store.message_receipts(identity.user, convo, seq, cursor, limit).await?;
    let Some(ReceiptPage { mut items, next_cursor }) = page else {
        return Err(ApiError::new(Code::NotFound, "there is no such message, or you may not see it"));
    };
    let users: Vec<UserId> = items.iter().map(|receipt| receipt.user_id).collect();
    Mask::new(&app, identity.user, &users).await?.receipts(&mut items);
    Ok(Json(Page { items, next_cursor }))
}
