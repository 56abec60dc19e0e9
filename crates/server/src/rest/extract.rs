//! What handlers take out of a request. Whatever cannot be taken is refused with a problem document of ours.

use std::error::Error;
use std::net::IpAddr;

use axum::extract::rejection::{BytesRejection, FailedToBufferBody, JsonRejection};
use axum::extract::{FromRef, FromRequest, FromRequestParts, Request};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tertulia_protocol::Code;

use super::problem::ApiError;
use crate::accounts::{AccountsService, Identity};
use crate::answers::Asking;
use crate::clock::Clock;
use crate::gateway::slow::TooSlow;
use crate::limits::Limits;

/// The largest body of a call: room for a thousand ids, and for the longest message with every byte of it written
/// as `\u00xx`.
pub const BODY_BYTES_MAX: usize = 512 * 1_024;

/// A body in JSON, of a request or an answer.
///
/// A request must say `application/json` and be no larger than the route's limit
/// ([`axum::extract::DefaultBodyLimit`]).
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match axum::Json::from_request(request, state).await {
            Ok(axum::Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(refused_body(&rejection)),
        }
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

fn refused_body(rejection: &JsonRejection) -> ApiError {
    match rejection {
        rejection if is_too_slow(rejection) => {
            ApiError::new(Code::Invalid, "the body did not come in time; send it again, and sooner")
                .with_status(StatusCode::REQUEST_TIMEOUT)
        }
        JsonRejection::JsonDataError(error) => {
            ApiError::new(Code::Invalid, format!("the body is not as it must be: {}", cause(error)))
        }
        JsonRejection::JsonSyntaxError(error) => {
            ApiError::new(Code::Invalid, format!("the body is not JSON: {}", cause(error)))
        }
        JsonRejection::MissingJsonContentType(_) => {
            ApiError::new(Code::Invalid, "send a JSON body, and the header Content-Type: application/json")
        }
        JsonRejection::BytesRejection(BytesRejection::FailedToBufferBody(
            FailedToBufferBody::LengthLimitError(_),
        )) => ApiError::new(Code::TooLarge, "the body is larger than this call takes; send less at once"),
        // The connection broke in the middle, or a rejection that this version of axum does not have yet.
        _ => ApiError::new(Code::Invalid, "the body did not arrive whole; send it again"),
    }
}

fn is_too_slow(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<TooSlow>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The innermost cause: what and where, without the words of the layers around it.
fn cause(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The query of a URL.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                let detail = format!("the query is not as it must be: {}", rejection.body_text());
                Err(ApiError::new(Code::Invalid, detail))
            }
        }
    }
}

/// What stands in a path. A malformed id names nothing, so it is answered like one that is not there.
#[derive(Debug, Clone, Copy)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match <axum::extract::Path<T> as FromRequestParts<S>>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(_) => Err(ApiError::new(Code::NotFound, "there is nothing of this name")),
        }
    }
}

/// Who asks, by his access token; a call of a device that calls too often does not come through.
#[derive(Debug, Clone, Copy)]
pub struct Auth(pub Identity);

impl<S> FromRequestParts<S> for Auth
where
    S: Send + Sync,
    AccountsService: FromRef<S>,
    Limits: FromRef<S>,
    Clock: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let token = bearer(&parts.headers).ok_or_else(|| {
            ApiError::unauthenticated("this call needs the header Authorization: Bearer, and an access token")
        })?;
        let identity = AccountsService::from_ref(state).authenticate(token).await?;
        let (limits, now) = (Limits::from_ref(state), Clock::from_ref(state).monotonic());
        let reads = matches!(parts.method, Method::GET | Method::HEAD);
        let bucket = if reads { &limits.reads } else { &limits.writes };
        bucket.check(identity.device, now).map_err(ApiError::rate_limited)?;
        if reads {
            // Whoever has read too much pays for that first.
            limits.may_read(identity.device, now)?;
        }
        if let Some(asking) = parts.extensions.get::<Asking>() {
            asking.is(identity);
        }
        Ok(Self(identity))
    }
}

/// The token of `Authorization: Bearer <token>`; the scheme in any case (RFC 9110 section 11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' '))
}

/// From where a request came; whoever accepts connections puts it into the extensions of each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get().copied().ok_or_else(|| {
            tracing::error!("a request came without the address of its client; the listener has a bug");
            ApiError::fault()
        })
    }
}
