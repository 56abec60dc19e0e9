//! Conversations, their members and their settings.

use std::collections::HashSet;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tertulia_domain::conversation::GROUP_MEMBERS_MAX;
use tertulia_domain::log::{Intent, Outcome};
use tertulia_protocol::entry::ConversationType;
use tertulia_protocol::rest::{
    AddMembers, Conversation, ConversationAnswer, ConversationPatch, MemberSettingsPatch, NewConversation,
    Page, RolePatch,
};
use tertulia_protocol::rules::{self, MEMBERS_PER_CALL_MAX, PAGE_MAX, Violation};
use tertulia_protocol::{Code, ConvoId, Entry, UserId};
use tertulia_store::InboxPage;

use super::extract::{Auth, Json, Path, Query};
use super::problem::ApiError;
use crate::answers::Asking;
use crate::app::App;
use crate::messages::append;
use crate::views::{Mask, masked};

/// `?cursor=&limit=`.
#[derive(Deserialize)]
pub(super) struct PageQuery {
    pub(super) cursor: Option<String>,
    pub(super) limit: Option<usize>,
}

/// `?membersCursor=&membersLimit=`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MembersQuery {
    members_cursor: Option<String>,
    members_limit: Option<usize>,
}

pub(super) async fn create(
    State(app): State<App>,
    Auth(identity): Auth,
    Json(new): Json<NewConversation>,
) -> Result<impl IntoResponse, ApiError> {
    let by = identity.user;
    let mut seen = HashSet::from([by]);
    let others = new.members.into_iter().filter(|member| seen.insert(*member));
    let members: Vec<_> = std::iter::once(by).chain(others).collect();
    if members.len() > MEMBERS_PER_CALL_MAX + 1 {
        let detail =
            format!("name at most {MEMBERS_PER_CALL_MAX} members here, and add the others afterwards");
        return Err(Violation::invalid(detail).into());
    }
    known(&app, &members).await?;
    match new.kind {
        ConversationType::Direct => {
            if new.title.is_some() || new.history.is_some() || members.len() > 2 {
                let detail = "a direct conversation has exactly one other member (or only yourself), no title and no history policy";
                return Err(Violation::invalid(detail).into());
            }
            create_direct(&app, by, members).await
        }
        ConversationType::Group => {
            if let Some(title) = &new.title {
                rules::title(title)?;
            }
            let convo = ConvoId::new(app.clock.now(), app.random.bytes()?);
            let history = new.history.unwrap_or_default();
            append(&app, Intent::Create { convo, by, kind: new.kind, title: new.title, members, history })
                .await?;
            Ok((StatusCode::CREATED, Json(answer(&app, by, convo, MembersQuery::first()).await?)))
        }
    }
}

async fn create_direct(
    app: &App,
    by: UserId,
    members: Vec<UserId>,
) -> Result<(StatusCode, Json<ConversationAnswer>), ApiError> {
    let other = members.last().copied().unwrap_or(by);
    let convo = ConvoId::direct(by, other);
    if let Some(known) = app.store.conversation(by, convo).await? {
        return Ok((
            StatusCode::OK,
            Json(ConversationAnswer {
                conversation: with_members(app, by, known, MembersQuery::first()).await?,
            }),
        ));
    }
    let blocked = Violation {
        code: Code::Forbidden,
        detail: "one of you has blocked the other; no conversation can be started".into(),
    };
    if app.accounts.blocked_between(by, other).await? {
        return Err(blocked.into());
    }
    let kind = ConversationType::Direct;
    let create = Intent::Create { convo, by, kind, title: None, members, history: Default::default() };
    let own = app.clone();
    let creating = async move {
        let is_new = append(&own, create).await?;
        // A block that came in between found no conversation to close.
        for (by, other) in [(by, other), (other, by)] {
            if own.accounts.blocks_now(by, other).await? {
                follow_block(&own, by, other).await?;
            }
        }
        Ok::<_, ApiError>(is_new)
    };
    let status = if app.accounts.to_the_end(creating).await? { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(answer(app, by, convo, MembersQuery::first()).await?)))
}

/// Closes the direct conversation of two users for sends if `by` blocks `other`, and opens it if he does not.
async fn follow_block(app: &App, by: UserId, other: UserId) -> Result<(), ApiError> {
    let mut blocked = app.accounts.blocks_now(by, other).await?;
    loop {
        append(app, Intent::SetBlock { convo: ConvoId::direct(by, other), by, blocked }).await?;
        // If he changed his mind meanwhile, what was appended for that may have come before this. Whoever appends last
        // looks last, so that both say the same in the end.
        let now = app.accounts.blocks_now(by, other).await?;
        if now == blocked {
            return Ok(());
        }
        blocked = now;
    }
}

pub(super) async fn block(
    State(app): State<App>,
    Auth(identity): Auth,
    Path(other): Path<UserId>,
) -> Result<StatusCode, ApiError> {
    set_block(&app, identity.user, other, true).await
}

pub(super) async fn unblock(
    State(app): State<App>,
    Auth(identity): Auth,
    Path(other): Path<UserId>,
) -> Result<StatusCode, ApiError> {
    set_block(&app, identity.user, other, false).await
}

async fn set_block(app: &App, by: UserId, other: UserId, blocked: bool) -> Result<StatusCode, ApiError> {
    if by == other {
        return Err(Violation::invalid("you cannot block yourself").into());
    }
    app.accounts.user(other).await?;
    let own = app.clone();
    let setting = async move {
        own.accounts.set_block(by, other, blocked).await?;
        match follow_block(&own, by, other).await {
            // They have no conversation yet; starting one asks the accounts.
            Err(error) if error.code() == Code::NotFound => Ok(()),
            followed => followed,
        }
    };
    app.accounts.to_the_end(setting).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn inbox(
    State(app): State<App>,
    Auth(identity): Auth,
    Query(query): Query<PageQuery>,
    Extension(asking): Extension<Asking>,
) -> Result<Response, ApiError> {
    let limit = rules::page_limit(query.limit)?;
    let mut turn = asking.turn(&app, app.pages.of_all_parts(), identity).await?;
    let read = app.store.inbox(identity.user, query.cursor.as_deref(), limit);
    let InboxPage { mut items, next_cursor } = turn.wait_for(read).await?;
    let users: Vec<UserId> =
        items.iter().flat_map(|item| item.members.iter().flatten()).map(|member| member.user_id).collect();
    let mask = Mask::new(&app, identity.user, &users).await?;
    drop(turn);
    for members in items.iter_mut().filter_map(|item| item.members.as_mut()) {
        mask.members(members);
    }
    let sum = |items: &Vec<Conversation>, of: fn(&Entry) -> usize| {
        items.iter().filter_map(|item| item.last_message.as_ref()).map(of).sum()
    };
    asking.answer(&app, items, sum, |items| Page { items, next_cursor }).await
}

pub(super) async fn get(
    State(app): State<App>,
    Auth(identity): Auth,
    Path(convo): Path<ConvoId>,
    Query(query): Query<MembersQuery>,
) -> Result<Json<ConversationAnswer>, ApiError> {
    Ok(Json(answer(&app, identity.user, convo, query).await?))
}

pub(super) async fn patch(
    State(app): State<App>,
    Auth(identity): Auth,
    Path(convo): Path<ConvoId>,
    Json(patch): Json<ConversationPatch>,
) -> Result<Json<ConversationAnswer>, ApiError> {
    let by = identity.user;
    if let Some(title) = &patch.title {
        rules::title(title)?;
    }
    if let Some(about) = &patch.about {
        rules::about(about)?;
    }
    if patch == ConversationPatch::default() {
        return Err(Violation::invalid("name what is to change: title, about, posting, history").into());
    }
    if let Some(title) = patch.title {
        append(&app, Intent::Rename { convo, by, title }).await?;
    }
    if patch.about.is_some() || patch.posting.is_some() || patch.history.is_some() {
        let (about, posting, history) = (patch.about, patch.posting, patch.history);
        append(&app, Intent::ChangeSettings { convo, by, about, posting, history }).await?;
    }
    Ok(Json(answer(&app, by, convo, MembersQuery::first()).await?))
}

pub(super) async fn add_members(
    State(app): State<App>,
    Auth(identity): Auth,
    Path(convo): Path<ConvoId>,
    Json(add): Json<AddMembers>,
) -> Result<Json<ConversationAnswer>, ApiError> {
    let mut users = add.user_ids;
    users.sort_unstable();
    users.dedup();
    if !(1..=MEMBERS_PER_CALL_MAX).contains(&users.len()) {
        return Err(Violation::invalid(format!("name 1 to {MEMBERS_PER_CALL_MAX} users in userIds")).into());
    }
    // Whoever is not in the conversation learns nothing about users by asking here.
    if app.store.conversation(identity.user, convo).await?.is_none() {
        return Err(tertulia_domain::log::Refusal::NotFound.into());
    }
    known(&app, &users).await?;
    append(&app, Intent::AddMembers { convo, by: identity.user, users }).await?;
    Ok(Json(answer(&app, identity.user, convo, MembersQuery::first()).await?))
}

pub(super) async fn remove_member(
    State(app): State<App>,
    Auth(identity): Auth,
    Path((convo, user)): Path<(ConvoId, UserId)>,
) -> Result<StatusCode, ApiError> {
    append(&app, Intent::RemoveMember { convo, by: identity.user, user }).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn set_role(
    State(app): State<App>,
    Auth(identity): Auth,
    Path((convo, user)): Path<(ConvoId, UserId)>,
    Json(patch): Json<RolePatch>,
) -> Result<Json<ConversationAnswer>, ApiError> {
    append(&app, Intent::SetRole { convo, by: identity.user, user, role: patch.role }).await?;
    Ok(Json(answer(&app, identity.user, convo, MembersQuery::first()).await?))
}

pub(super) async fn set_own(
    State(app): State<App>,
    Auth(identity): Auth,
    Path(convo): Path<ConvoId>,
    Json(patch): Json<MemberSettingsPatch>,
) -> Result<Json<ConversationAnswer>, ApiError> {
    match app.lanes.append(Intent::SetOwn { convo, user: identity.user, patch }, true).await? {
        Outcome::Refused(refusal) => return Err(refusal.into()),
        Outcome::Appended { .. } | Outcome::Duplicate(_) | Outcome::Marked(_) => {}
        Outcome::OwnChanged { .. } | Outcome::Unchanged => {}
    }
    Ok(Json(answer(&app, identity.user, convo, MembersQuery::first()).await?))
}

impl MembersQuery {
    /// The first page of members, as large as it may be.
    const fn first() -> Self {
        Self { members_cursor: None, members_limit: Some(PAGE_MAX) }
    }
}

async fn answer(
    app: &App,
    user: UserId,
    convo: ConvoId,
    query: MembersQuery,
) -> Result<ConversationAnswer, ApiError> {
    let Some(conversation) = app.store.conversation(user, convo).await? else {
        return Err(tertulia_domain::log::Refusal::NotFound.into());
    };
    Ok(ConversationAnswer { conversation: with_members(app, user, conversation, query).await? })
}

async fn with_members(
    app: &App,
    user: UserId,
    mut conversation: Conversation,
    query: MembersQuery,
) -> Result<Conversation, ApiError> {
    let limit = rules::page_limit(Some(query.members_limit.unwrap_or(PAGE_MAX)))?;
    let cursor = query.members_cursor.as_deref();
    let Some(page) = app.store.members(user, conversation.id, cursor, limit).await? else {
        return Err(tertulia_domain::log::Refusal::NotFound.into());
    };
    conversation.members = Some(page.items);
    conversation.members_next_cursor = page.next_cursor;
    masked(app, user, conversation).await
}

async fn known(app: &App, users: &[UserId]) -> Result<(), ApiError> {
    debug_assert!(users.len() <= GROUP_MEMBERS_MAX, "checked by the caller");
    match app.accounts.missing(users).await?.first() {
        None => Ok(()),
        Some(user) => Err(ApiError::new(Code::NotFound, format!("there is no user {user}"))),
    }
}
