//! What is seen of each request: an id, a line in the log, counters. No bodies, no tokens.

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::time::Duration;
use tertulia_protocol::Code;
use tracing::Instrument as _;

use crate::answers::{self, Asking};
use crate::app::App;
use crate::gateway::upgrade::check_origin;
use crate::rest::extract::ClientAddress;
use crate::rest::problem::{ApiError, Refused};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken over from a client or proxy.
const REQUEST_ID_BYTES_MAX: usize = 64;
/// How long a request may take, the longest long-poll included.
const REQUEST_MAX: Duration = Duration::from_secs(75);

/// Goes around every request.
pub(crate) async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let began = app.clock.monotonic();
    let method = method_name(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    let id = request_id(&app, request.headers());
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or(""), method, route);
    let mut response = answer(&app, request, next).instrument(span.clone()).await;
    response.headers_mut().insert(REQUEST_ID, id);
    let status = response.status().as_u16();
    let took = app.clock.monotonic().saturating_sub(began);
    app.metrics.answered(method, &route, status, took);
    if let Some(code) = response.extensions().get::<Code>() {
        app.metrics.problem(*code);
    }
    if let Some(Refused(why)) = response.extensions().get() {
        span.in_scope(|| app.store_outage.refused(1, why));
    }
    span.in_scope(|| tracing::debug!(status, micros = took.as_micros(), "answered"));
    response
}

async fn answer(app: &App, mut request: Request, next: Next) -> Response {
    if let Err(refused) = check_origin(app, request.headers()) {
        return refused.into_response();
    }
    // A page of an origin on the list may ask, and read the answers; the server's own needs no permission.
    let other_origin = request.headers().get(ORIGIN).filter(|origin| is_listed(app, origin)).cloned();
    let is_preflight = other_origin.is_some() && request.method() == Method::OPTIONS;
    let mut response = if is_preflight {
        StatusCode::NO_CONTENT.into_response()
    } else {
        let from = request.extensions().get().map(|ClientAddress(from)| (*from).into());
        let asking = Asking::new(from, request.extensions_mut().remove().unwrap_or_default());
        request.extensions_mut().insert(asking.clone());
        match tokio::time::timeout(REQUEST_MAX, next.run(request)).await {
            Ok(response) => answers::let_out(app, &asking, response).await,
            Err(_) => {
                ApiError::unavailable("this took too long; try again", Duration::from_secs(1)).into_response()
            }
        }
    };
    if let Some(origin) = other_origin {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(VARY, HeaderValue::from_static("origin"));
        let exposed = HeaderValue::from_static("retry-after, x-request-id");
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        if is_preflight {
            let methods = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
            headers.insert(
                ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static("authorization, content-type"),
            );
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
        }
    }
    response
}

fn is_listed(app: &App, origin: &HeaderValue) -> bool {
    let origin = origin.to_str().unwrap_or("");
    app.config.allowed_origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
}

/// The id that came with the request, if it is one, or a new one.
fn request_id(app: &App, headers: &HeaderMap) -> HeaderValue {
    let is_id = |value: &&HeaderValue| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&value.len())
            && value.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    };
    if let Some(id) = headers.get(REQUEST_ID).filter(is_id) {
        return id.clone();
    }
    let number = app.random.bytes().map_or(0, u64::from_be_bytes);
    HeaderValue::from_str(&format!("{number:016x}")).unwrap_or(HeaderValue::from_static("0"))
}

/// One of few: a label of metrics may not be what a client makes up.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
