//! Errors: RFC 9457 problem documents with a stable `code`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What went wrong, for programs; stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Who asks is not known: log in, or refresh the session.
    Unauthenticated,
    /// Known, but not allowed.
    Forbidden,
    /// Not there, or not for the one who asks: the two cannot be told apart.
    NotFound,
    /// The request itself is wrong; sending it again will not help.
    Invalid,
    /// It contradicts what is there already.
    Conflict,
    /// Too much too fast; `Retry-After` says when to come back.
    RateLimited,
    /// Larger than the limit.
    TooLarge,
    /// The service cannot do it now; trying again later helps.
    Unavailable,
}

impl Code {
    /// All codes, in the order of the contract.
    pub const ALL: [Self; 8] = [
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::Invalid,
        Self::Conflict,
        Self::RateLimited,
        Self::TooLarge,
        Self::Unavailable,
    ];

    /// The code as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Invalid => "invalid",
            Self::Conflict => "conflict",
            Self::RateLimited => "rate_limited",
            Self::TooLarge => "too_large",
            Self::Unavailable => "unavailable",
        }
    }

    /// The HTTP status that goes with it.
    pub const fn status(self) -> u16 {
        match self {
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Invalid => 400,
            Self::Conflict => 409,
            Self::RateLimited => 429,
            Self::TooLarge => 413,
            Self::Unavailable => 503,
        }
    }

    /// The status in words: the `title` of the problem document.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Unauthenticated => "Not authenticated",
            Self::Forbidden => "Not allowed",
            Self::NotFound => "Not found",
            Self::Invalid => "Invalid request",
            Self::Conflict => "Conflict",
            Self::RateLimited => "Too many requests",
            Self::TooLarge => "Too large",
            Self::Unavailable => "Temporarily unavailable",
        }
    }
}

/// A problem document, `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Always `about:blank`: the `code` tells problems apart.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// For programs.
    pub code: Code,
    /// For people: what is wrong and what to do.
    pub detail: String,
    /// Milliseconds to wait before trying again, where waiting helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Problem {
    /// A problem with its code and a text that says what to do.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".into(),
            title: code.title().into(),
            status: code.status(),
            code,
            detail: detail.into(),
            retry_after_ms: None,
        }
    }
}
