//! `GET /api/gateway`: to which node a session best goes.

use axum::extract::State;
use axum::http::header::HOST;
use axum::http::{HeaderMap, Uri};
use tertulia_fabric::nodes::order_for;
use tertulia_protocol::rest::Gateway;

use super::extract::{Auth, Json};
use super::problem::ApiError;
use crate::app::App;

pub(super) async fn find(
    State(app): State<App>,
    Auth(identity): Auth,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<Gateway>, ApiError> {
    let nodes = match &app.cluster {
        Some(cluster) => cluster.known_nodes().await,
        None => Vec::new(),
    };
    let order = order_for(identity.device.as_bytes(), &nodes);
    let mut urls = order.into_iter().map(|node| &node.description.url).filter(|url| !url.is_empty()).cloned();
    let first = urls.next().or_else(|| app.config.public_url.clone());
    let url = first.unwrap_or_else(|| asked_at(&uri, &headers));
    Ok(Json(Gateway { url, others: urls.collect() }))
}

/// The address by which a request came.
fn asked_at(uri: &Uri, headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = uri.authority().map(axum::http::uri::Authority::as_str).or_else(|| text(HOST.as_str()));
    // Only a proxy has TLS; whoever says so himself is answered accordingly.
    let scheme =
        text("x-forwarded-proto").filter(|scheme| ["http", "https"].contains(scheme)).unwrap_or("http");
    format!("{scheme}://{}", host.unwrap_or("localhost"))
}
