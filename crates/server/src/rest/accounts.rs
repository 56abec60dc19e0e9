//! Users and sessions.

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef, State};
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};
use serde::Deserialize;
use tertulia_protocol::rest::{Device, Login, Page, Refresh, Register, Session, User, UserAnswer, UserPatch};
use tertulia_protocol::{DeviceId, UserId};

use super::extract::{Auth, BODY_BYTES_MAX, ClientAddress, Json, Path, Query};
use super::problem::ApiError;
use crate::accounts::AccountsService;
use crate::clock::Clock;
use crate::limits::Limits;

/// The calls on users and sessions, below `/api`.
pub fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    AccountsService: FromRef<S>,
    Limits: FromRef<S>,
    Clock: FromRef<S>,
{
    Router::new()
        .route("/users", post(register).get(search))
        .route("/users/me", get(me).patch(patch_me))
        .route("/users/{id}", get(user))
        .route("/sessions", post(login).get(sessions))
        .route("/sessions/refresh", post(refresh))
        .route("/sessions/current", delete(logout))
        .route("/sessions/{deviceId}", delete(revoke))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// `?query=&limit=&cursor=`.
#[derive(Deserialize)]
struct SearchQuery {
    #[serde(default)]
    query: String,
    limit: Option<usize>,
    cursor: Option<String>,
}

async fn register(
    State(accounts): State<AccountsService>,
    ClientAddress(from): ClientAddress,
    Json(body): Json<Register>,
) -> Result<impl IntoResponse, ApiError> {
    Ok((StatusCode::CREATED, secret(accounts.register(body, from).await?)))
}

async fn login(
    State(accounts): State<AccountsService>,
    ClientAddress(from): ClientAddress,
    Json(body): Json<Login>,
) -> Result<impl IntoResponse, ApiError> {
    Ok((StatusCode::CREATED, secret(accounts.login(body, from).await?)))
}

async fn refresh(
    State(accounts): State<AccountsService>,
    Json(body): Json<Refresh>,
) -> Result<impl IntoResponse, ApiError> {
    Ok(secret(accounts.refresh(&body).await?))
}

/// Tokens, which no cache may keep (RFC 6749 section 5.1).
fn secret(session: Session) -> impl IntoResponse {
    ([(CACHE_CONTROL, "no-store")], Json(session))
}

async fn sessions(
    State(accounts): State<AccountsService>,
    Auth(identity): Auth,
) -> Result<Json<Page<Device>>, ApiError> {
    Ok(Json(accounts.sessions(identity).await?))
}

async fn logout(
    State(accounts): State<AccountsService>,
    Auth(identity): Auth,
) -> Result<StatusCode, ApiError> {
    accounts.logout(identity).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn revoke(
    State(accounts): State<AccountsService>,
    Auth(identity): Auth,
    Path(device): Path<DeviceId>,
) -> Result<StatusCode, ApiError> {
    accounts.revoke(identity, device).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn me(
    State(accounts): State<AccountsService>,
    Auth(identity): Auth,
) -> Result<Json<UserAnswer>, ApiError> {
    Ok(Json(UserAnswer { user: accounts.me(identity.user).await? }))
}

async fn patch_me(
    State(accounts): State<AccountsService>,
    Auth(identity): Auth,
    Json(patch): Json<UserPatch>,
) -> Result<Json<UserAnswer>, ApiError> {
    Ok(Json(UserAnswer { user: accounts.update(identity.user, patch).await? }))
}

async fn user(
    State(accounts): State<AccountsService>,
    Auth(identity): Auth,
    Path(id): Path<UserId>,
) -> Result<Json<UserAnswer>, ApiError> {
    let user = if id == identity.user { accounts.me(id).await? } else { accounts.user(id).await? };
    Ok(Json(UserAnswer { user }))
}

async fn search(
    State(accounts): State<AccountsService>,
    Auth(_): Auth,
    Query(query): Query<SearchQuery>,
) -> Result<Json<Page<User>>, ApiError> {
    Ok(Json(accounts.search(&query.query, query.limit, query.cursor.as_deref()).await?))
}

#[cfg(test)]
mod tests;
