//! Liveness, readiness, metrics, and the two descriptions.

use std::sync::LazyLock;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::app::App;
use crate::metrics;

static OPENAPI: LazyLock<String> =
    LazyLock::new(|| tertulia_protocol::describe::openapi(crate::VERSION).to_string());
static ASYNCAPI: LazyLock<String> =
    LazyLock::new(|| tertulia_protocol::describe::asyncapi(crate::VERSION).to_string());

/// The process runs.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The node takes new clients; or why not, in a word that stays the same. Nobody is asked for this: what the node knows.
pub(super) async fn readyz(State(app): State<App>) -> (StatusCode, &'static str) {
    if app.leaving.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if app.cluster.as_ref().is_some_and(|cluster| !cluster.reaches_accounts()) {
        (StatusCode::SERVICE_UNAVAILABLE, "store_unreachable\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

pub(super) async fn metrics(State(app): State<App>) -> impl IntoResponse {
    let figures = app.store.figures().into_iter().chain(app.accounts.figures()).chain(app.search.figures());
    let figures = figures.chain(app.cluster.iter().flat_map(crate::cluster::Cluster::figures));
    let text = app.metrics.encode(
        &app.hub,
        figures,
        (&app.followers, app.relay.as_deref()),
        app.clock.now(),
        app.lanes.depth(),
    );
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text)
}

pub(super) async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], OPENAPI.as_str())
}

pub(super) async fn asyncapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], ASYNCAPI.as_str())
}
