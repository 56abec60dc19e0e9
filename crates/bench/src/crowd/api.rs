//! The few REST calls that a set-up needs.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tertulia_protocol::problem::Problem;
use tertulia_protocol::rest::{Conversation, HistoryPage, Page};
use tertulia_protocol::rules::PAGE_MAX;
use tertulia_protocol::{ConvoId, Seq};

use crate::error::Error;

/// How long one call may take: many wait in line while passwords are hashed.
const CALL_MAX: Duration = Duration::from_secs(60);

/// The server's REST calls.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    /// Without a slash at its end.
    server: String,
}

/// How a call went that the server may refuse.
pub(super) enum Answer<T> {
    Done(T),
    Refused(StatusCode, String),
}

impl Api {
    /// A server by its address, such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// If HTTP cannot be set up.
    pub(crate) fn new(server: &str) -> Result<Self, Error> {
        let unreachable = |error: reqwest::Error| unreachable("set up HTTP", &error);
        // Only plain HTTP is spoken, but a client that can speak TLS, for whomever else, does not begin without.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = tls.map_err(|error| Error::io("set up HTTP")(io::Error::other(error)))?;
        let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        let http = reqwest::Client::builder().timeout(CALL_MAX).tls_backend_preconfigured(tls);
        let http = http.build().map_err(unreachable)?;
        Ok(Self { http, server: server.trim_end_matches('/').to_owned() })
    }

    /// A text that is no JSON.
    ///
    /// # Errors
    /// If it cannot be had.
    pub(crate) async fn text(&self, path: &str) -> Result<String, Error> {
        let url = format!("{}{path}", self.server);
        let failed = |error: reqwest::Error| unreachable(path, &error);
        self.http.get(url).send().await.map_err(failed)?.text().await.map_err(failed)
    }

    /// A `POST`, and its answer.
    ///
    /// # Errors
    /// If the server cannot be reached, or says nonsense.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        token: Option<&str>,
        body: &impl Serialize,
    ) -> Result<Answer<T>, Error> {
        let failed = |error: reqwest::Error| unreachable(path, &error);
        let mut request = self.http.request(Method::POST, format!("{}/api{path}", self.server)).json(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(failed)?;
        if response.status().is_success() {
            return response.json().await.map(Answer::Done).map_err(failed);
        }
        Ok(Answer::Refused(response.status(), detail(response).await))
    }
}

impl Api {
    /// A `GET`, and its answer.
    ///
    /// # Errors
    /// If the server cannot be reached, or refuses.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str, token: &str) -> Result<T, Error> {
        let failed = |error: reqwest::Error| unreachable(path, &error);
        let request = self.http.get(format!("{}/api{path}", self.server)).bearer_auth(token);
        let response = request.send().await.map_err(failed)?;
        if response.status().is_success() {
            return response.json().await.map_err(failed);
        }
        let (status, detail) = (response.status(), detail(response).await);
        Answer::Refused(status, detail).done(path)
    }

    /// A page of an inbox.
    ///
    /// # Errors
    /// If it cannot be had.
    pub(crate) async fn inbox(&self, token: &str, cursor: Option<&str>) -> Result<Page<Conversation>, Error> {
        let cursor = cursor.map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
        self.get(&format!("/conversations?limit={PAGE_MAX}{cursor}"), token).await
    }

    /// A page of a conversation's entries, from the one that follows `after`.
    ///
    /// # Errors
    /// If it cannot be had.
    pub(crate) async fn entries(
        &self,
        token: &str,
        convo: ConvoId,
        after: Seq,
    ) -> Result<HistoryPage, Error> {
        self.get(&format!("/conversations/{convo}/messages?after={after}&limit={PAGE_MAX}"), token).await
    }
}

impl<T> Answer<T> {
    /// What was asked for.
    ///
    /// # Errors
    /// If it was refused.
    pub(super) fn done(self, what: &str) -> Result<T, Error> {
        match self {
            Self::Done(value) => Ok(value),
            Self::Refused(StatusCode::TOO_MANY_REQUESTS, _) => Err(Error::Refused {
                what: what.to_owned(),
                detail: "the server limits rates; start it with --limits off".to_owned(),
            }),
            Self::Refused(_, detail) => Err(Error::Refused { what: what.to_owned(), detail }),
        }
    }
}

/// What a refusal says for people.
async fn detail(response: Response) -> String {
    let status = response.status();
    response.json().await.map_or_else(|_| status.to_string(), |problem: Problem| problem.detail)
}

fn unreachable(what: &str, error: &reqwest::Error) -> Error {
    let mut cause = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        cause = error.to_string();
        source = error.source();
    }
    Error::Unreachable { what: what.to_owned(), cause }
}
