//! `GET /api/ws`: from a request to a socket.

use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, HOST, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tertulia_protocol::Code;
use tertulia_websocket::{HandshakeError, UpgradeHeaders, check_request};

use super::slow::Patient;
use super::socket;
use crate::app::App;
use crate::rest::extract::ClientAddress;
use crate::rest::problem::ApiError;

/// Answers the handshake of RFC 6455 section 4.2, and serves the socket once the answer is out.
///
/// # Errors
/// 426 or 400 if it is no handshake; 403 for an `Origin` that is not allowed; 429 for too many handshakes from
/// one address; 503 while draining.
pub async fn upgrade(
    State(app): State<App>,
    ClientAddress(from): ClientAddress,
    mut request: Request,
) -> Result<Response, Response> {
    check_origin(&app, request.headers()).map_err(IntoResponse::into_response)?;
    if app.draining.is_cancelled() {
        let wait = app.random.jitter(std::time::Duration::from_secs(1));
        return Err(ApiError::unavailable("this node is going down; connect again", wait).into_response());
    }
    let accept = check_request(&UpgradeHeaders {
        upgrade: joined(request.headers(), &UPGRADE).as_deref(),
        connection: joined(request.headers(), &CONNECTION).as_deref(),
        version: joined(request.headers(), &SEC_WEBSOCKET_VERSION).as_deref(),
        key: joined(request.headers(), &SEC_WEBSOCKET_KEY).as_deref(),
    })
    .map_err(refuse)?;
    let Ok(accept) = HeaderValue::from_str(&accept) else {
        return Err(refuse(HandshakeError::BadKey));
    };
    if let Err(wait) = app.limits.connections.check(from, app.clock.monotonic()) {
        app.metrics.connection_refused();
        return Err(ApiError::rate_limited(wait).into_response());
    }
    let upgraded = hyper::upgrade::on(&mut request);
    let tasks = app.tasks.clone();
    tasks.spawn(async move {
        match upgraded.await.map(Upgraded::downcast::<TokioIo<Patient>>) {
            Ok(Ok(parts)) => socket::serve(app, parts.io.into_inner().into_inner(), parts.read_buf).await,
            Ok(Err(_)) => tracing::error!("an upgraded connection is not the TCP stream that it began as"),
            Err(error) => tracing::debug!(%error, "a client went away during the handshake"),
        }
    });
    let headers = [
        (UPGRADE, HeaderValue::from_static("websocket")),
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (SEC_WEBSOCKET_ACCEPT, accept),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

fn refuse(error: HandshakeError) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let problem = ApiError::new(Code::Invalid, format!("no WebSocket handshake: {error}"));
    let mut response = problem.with_status(status).into_response();
    if response.status() == StatusCode::UPGRADE_REQUIRED {
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    response
}

/// All lines of a header as one (RFC 9110 section 5.3).
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join(","))
}

/// A browser says from which page a request comes; no other page may use its user's session.
///
/// # Errors
/// `forbidden` if there is an `Origin` that is neither the server's own nor on the list.
pub fn check_origin(app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or("");
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let own = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let is_own = own.is_some_and(|own| !own.is_empty() && own.eq_ignore_ascii_case(host));
    let is_listed = app.config.allowed_origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin));
    if is_own || is_listed {
        return Ok(());
    }
    Err(ApiError::new(
        Code::Forbidden,
        "this web page may not use this server: its origin is neither the server's own nor in allowed_origins",
    ))
}
