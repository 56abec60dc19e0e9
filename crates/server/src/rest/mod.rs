//! The REST calls under `/api`, and what is seen from outside.

pub mod accounts;
mod conversations;
pub mod extract;
mod gateway;
mod health;
mod messages;
pub mod problem;
mod search;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, patch, post, put};

use self::extract::BODY_BYTES_MAX;
use crate::app::App;
use crate::gateway::{long_poll, upgrade};
use crate::observe::observe;

/// All routes of a node.
pub fn router(app: App) -> Router {
    let api = accounts::routes::<App>()
        .route("/users/{id}/block", put(conversations::block).delete(conversations::unblock))
        .route("/conversations", post(conversations::create).get(conversations::inbox))
        .route("/conversations/{id}", get(conversations::get).patch(conversations::patch))
        .route("/conversations/{id}/members", post(conversations::add_members))
        .route(
            "/conversations/{id}/members/{userId}",
            delete(conversations::remove_member).patch(conversations::set_role),
        )
        .route("/conversations/{id}/settings", patch(conversations::set_own))
        .route("/conversations/{id}/messages", post(messages::send).get(messages::history))
        .route("/conversations/{id}/receipts", put(messages::mark))
        .route("/conversations/{id}/messages/{seq}/receipts", get(messages::receipts))
        .route("/search", get(search::search))
        .route("/events", get(long_poll::events))
        .route("/gateway", get(gateway::find))
        .route("/ws", get(upgrade::upgrade))
        .route("/openapi.json", get(health::openapi))
        .route("/asyncapi.json", get(health::asyncapi))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    Router::new()
        .nest("/api", api)
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(from_fn_with_state(app.clone(), observe))
        .with_state(app)
}
