//! What a refusal looks like from outside: RFC 9457 problem documents with a stable `code`.
//!
//! Every typed error becomes an [`ApiError`] here, case by case. What it says is for the client; causes inside
//! go to the log: that the store is away, once ([`outage`](crate::outage)).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tertulia_protocol::Code;
use tertulia_protocol::problem::Problem;
use tertulia_protocol::rules::Violation;
use tertulia_store::StoreError;

use crate::accounts::{
    AuthError, BlockError, LoginError, ProfileError, RefreshError, RegisterError, RevokeError, SearchError,
    Trouble,
};
use crate::clock::RandomError;

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
/// When trying again makes sense, where nothing tells better.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// A refusal, for REST and socket alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    code: Code,
    detail: Cow<'static, str>,
    retry_after: Option<Duration>,
    /// Where HTTP has a status of its own; else that of the code.
    status: Option<StatusCode>,
    /// Why the store could not do it; not told outside.
    refused: Option<Refused>,
}

/// Why the store could not do what a call needed: goes with the answer to those who count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub Arc<str>);

impl ApiError {
    /// A refusal with a text that says what is wrong and what to do.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), retry_after: None, status: None, refused: None }
    }

    /// Too much too fast; when to come back.
    pub fn rate_limited(retry_after: Duration) -> Self {
        let detail = format!("too much at once; try again in {:.1} s", retry_after.as_secs_f64().max(0.1));
        Self { retry_after: Some(retry_after), ..Self::new(Code::RateLimited, detail) }
    }

    /// Not now; when to come back.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(Code::Unavailable, detail) }
    }

    /// Something in here is not as it should be; the log says what.
    pub fn fault() -> Self {
        Self::unavailable("the server has a fault", Duration::from_secs(60))
    }

    /// Not known who asks.
    pub fn unauthenticated(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unauthenticated, detail)
    }

    /// The same refusal under a status that only HTTP has.
    #[must_use]
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status: Some(status), ..self }
    }

    /// For programs.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// For people.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// When to come back, where that helps.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Why the store could not do it, if that is what is the matter.
    pub const fn refused(&self) -> Option<&Refused> {
        self.refused.as_ref()
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        let of_code =
            || StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        self.status.unwrap_or_else(of_code)
    }

    /// The document.
    pub fn problem(&self) -> Problem {
        Problem {
            status: self.status().as_u16(),
            retry_after_ms: self.retry_after.map(millis_up),
            ..Problem::new(self.code, &*self.detail)
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        // A struct of texts and numbers: there is nothing in it that JSON cannot say.
        let body = serde_json::to_vec(&self.problem()).unwrap_or_default();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM_JSON);
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(secs_up(wait)));
        }
        if self.code == Code::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // For those who count.
        response.extensions_mut().insert(self.code);
        if let Some(refused) = self.refused {
            response.extensions_mut().insert(refused);
        }
        response
    }
}

/// Whole seconds, rounded up: who comes then does not come too early.
fn secs_up(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

fn millis_up(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Answers what no route is for.
pub async fn not_found(uri: Uri) -> ApiError {
    // The path alone: what stands behind it may be a secret.
    ApiError::new(Code::NotFound, format!("there is nothing at {}", shortened(uri.path())))
}

/// Answers a call by a method that its path does not know; `Allow` says which it does.
pub async fn method_not_allowed(method: Method) -> ApiError {
    let detail = format!("{} is not possible here; see the Allow header", shortened(method.as_str()));
    ApiError::new(Code::Invalid, detail).with_status(StatusCode::METHOD_NOT_ALLOWED)
}

fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

impl From<Violation> for ApiError {
    fn from(violation: Violation) -> Self {
        Self::new(violation.code, violation.detail)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { reason, retry_after } => {
                let refused = Some(Refused(reason.into()));
                Self { refused, ..Self::unavailable("the store does not answer; try again", retry_after) }
            }
            StoreError::InvalidCursor => Self::new(Code::Invalid, StoreError::InvalidCursor.to_string()),
            StoreError::Damaged(what) => {
                tracing::error!(what, "the store is damaged; restore a backup");
                Self::unavailable("the store has a fault; its operator must look", Duration::from_secs(60))
            }
            StoreError::Closed => Self::unavailable("this node is going down; try again", TRY_AGAIN),
        }
    }
}

impl From<RandomError> for ApiError {
    fn from(error: RandomError) -> Self {
        tracing::error!(%error, "nothing secret can be made");
        Self::unavailable("the server cannot make ids and tokens now; try again", TRY_AGAIN)
    }
}

impl From<Trouble> for ApiError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Store(error) => error.into(),
            Trouble::Random(error) => error.into(),
            Trouble::Busy { retry_after } => Self::unavailable(trouble.to_string(), retry_after),
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Unauthenticated => Self::unauthenticated(error.to_string()),
            AuthError::Store(error) => error.into(),
        }
    }
}

impl From<RegisterError> for ApiError {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::Invalid(violation) => violation.into(),
            RegisterError::UsernameTaken(_) => Self::new(Code::Conflict, error.to_string()),
            RegisterError::Limited(wait) => limited(error.to_string(), wait),
            RegisterError::Trouble(trouble) => trouble.into(),
        }
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Invalid(violation) => violation.into(),
            LoginError::WrongCredentials => Self::unauthenticated(error.to_string()),
            LoginError::Limited(wait) => limited(error.to_string(), wait),
            LoginError::Trouble(trouble) => trouble.into(),
        }
    }
}

impl From<RefreshError> for ApiError {
    fn from(error: RefreshError) -> Self {
        match error {
            RefreshError::Unauthenticated | RefreshError::Reused => Self::unauthenticated(error.to_string()),
            RefreshError::Limited(wait) => limited(error.to_string(), wait),
            RefreshError::Trouble(trouble) => trouble.into(),
        }
    }
}

impl From<RevokeError> for ApiError {
    fn from(error: RevokeError) -> Self {
        match error {
            RevokeError::NotFound => Self::new(Code::NotFound, error.to_string()),
            RevokeError::Store(error) => error.into(),
        }
    }
}

impl From<ProfileError> for ApiError {
    fn from(error: ProfileError) -> Self {
        match error {
            ProfileError::Invalid(violation) => violation.into(),
            ProfileError::NotFound => Self::new(Code::NotFound, error.to_string()),
            ProfileError::Store(error) => error.into(),
        }
    }
}

impl From<SearchError> for ApiError {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Invalid(violation) => violation.into(),
            SearchError::Store(error) => error.into(),
        }
    }
}

impl From<BlockError> for ApiError {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::Oneself => Self::new(Code::Invalid, error.to_string()),
            BlockError::NotFound => Self::new(Code::NotFound, error.to_string()),
            BlockError::Store(error) => error.into(),
        }
    }
}

fn limited(detail: String, wait: Duration) -> ApiError {
    ApiError { retry_after: Some(wait), ..ApiError::new(Code::RateLimited, detail) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_told_in_whole_seconds_that_are_never_too_short() {
        for (millis, secs) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2"), (90_000, "90")] {
            let error = ApiError::rate_limited(Duration::from_millis(millis));
            assert_eq!(error.problem().retry_after_ms, Some(millis));
            assert_eq!(error.into_response().headers()[RETRY_AFTER], secs);
        }
    }

    #[test]
    fn what_happens_inside_is_not_told_outside() {
        for error in [
            StoreError::Unavailable { reason: "/var/secret".into(), retry_after: TRY_AGAIN },
            StoreError::Damaged("/var/secret".into()),
        ] {
            let problem = ApiError::from(error);
            assert_eq!(problem.code(), Code::Unavailable);
            assert!(!problem.detail().contains("secret") && problem.retry_after().is_some());
            assert!(!serde_json::to_string(&problem.problem()).unwrap().contains("secret"));
        }
    }
}
