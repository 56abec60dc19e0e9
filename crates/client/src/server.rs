//! Where the service is: an address, and the connections to it that all clients of a process share.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode, Url, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tertulia_protocol::problem::Problem;
use tertulia_protocol::rest::{DeviceInfo, Login, Refresh, Register, Session};

use crate::error::{Error, chain};

/// How long one REST call may take, the answer included.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may take to stand.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection without a call is kept. Less than a server does, in ordinary times and when it goes: one that
/// it closes may be closed under a call, of which nobody then knows what became.
const IDLE_MAX: Duration = Duration::from_secs(2);
/// The largest answer that is read: a page of 200 entries with the largest bodies, every byte escaped.
const ANSWER_BYTES_MAX: u64 = 96 * 1024 * 1024;

/// An address that cannot be one of the service.
#[derive(Debug, thiserror::Error)]
pub enum InvalidServer {
    /// It is no address at all, or not one of HTTP.
    #[error("{0:?} is not an address of a server: write http://HOST:PORT or https://HOST")]
    Address(String),
    /// The HTTP client could not be set up.
    #[error("set up HTTP: {0}")]
    Setup(String),
}

/// A server, with one pool of HTTP connections; clones share it.
#[derive(Debug, Clone)]
pub struct Server {
    shared: Arc<Shared>,
    place: Arc<Place>,
}

/// Where it is.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    api: Url,
    socket: String,
}

#[derive(Debug)]
struct Shared {
    http: reqwest::Client,
    #[cfg(feature = "tls")]
    tls: Arc<rustls::ClientConfig>,
}

impl Server {
    /// A server by its address, such as `http://127.0.0.1:8080`; a path before `/api` is kept.
    ///
    /// # Errors
    /// If the address is not one of `http` or `https`, or if TLS cannot be set up. It is not tried out.
    pub fn new(address: &str) -> Result<Self, InvalidServer> {
        let place = Arc::new(Place::new(address)?);
        #[cfg(feature = "tls")]
        let tls = Arc::new(tls_config()?);
        let http = reqwest::Client::builder()
            .timeout(CALL_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("tertulia/", env!("CARGO_PKG_VERSION")));
        #[cfg(feature = "tls")]
        let http = http.tls_backend_preconfigured((*tls).clone());
        let http = http.build().map_err(|error| InvalidServer::Setup(chain(&error)))?;
        let shared = Shared {
            http,
            #[cfg(feature = "tls")]
            tls,
        };
        Ok(Self { shared: Arc::new(shared), place })
    }

    /// Another node of the same service, as a node has named it; with the same pool. `None` for what is no address, and
    /// for one without TLS where this one has it.
    pub(crate) fn at(&self, address: &str) -> Option<Self> {
        let place = Place::new(address).ok()?;
        let is_as_safe = place.api.scheme() == self.place.api.scheme() || place.api.scheme() == "https";
        is_as_safe.then(|| Self { shared: Arc::clone(&self.shared), place: Arc::new(place) })
    }

    /// Whether both are at one address.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.place == other.place
    }

    /// The address of the socket.
    pub(crate) fn socket_url(&self) -> &str {
        &self.place.socket
    }

    #[cfg(feature = "tls")]
    pub(crate) fn tls(&self) -> Arc<rustls::ClientConfig> {
        Arc::clone(&self.shared.tls)
    }

    /// Makes an account and logs this device in on it.
    ///
    /// # Errors
    /// `conflict` if the username is taken, `invalid` if it or the password breaks the rules. After an
    /// uncertain error the account may exist: [`login`](Self::login) tells.
    pub async fn register(&self, new: &Register) -> Result<Session, Error> {
        self.call(Method::POST, &["users"], |request| request.json(new)).await
    }

    /// Logs a device in.
    ///
    /// # Errors
    /// `unauthenticated` if the user is unknown or the password is wrong: the two cannot be told apart.
    pub async fn login(&self, username: &str, password: &str, device: DeviceInfo) -> Result<Session, Error> {
        let login = Login { username: username.into(), password: password.into(), device: Some(device) };
        self.call(Method::POST, &["sessions"], |request| request.json(&login)).await
    }

    /// Trades a refresh token for the next pair. It works once, and using it twice revokes the device: callers
    /// go through [`session::Session`](crate::session::Session), which knows when not to.
    pub(crate) async fn refresh(&self, refresh_token: &str) -> Result<Session, Error> {
        let refresh = Refresh { refresh_token: refresh_token.into() };
        self.call(Method::POST, &["sessions", "refresh"], |request| request.json(&refresh)).await
    }

    /// One call without a session; `path` is below `/api`, its parts are escaped.
    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<T, Error> {
        read(with(self.request(method, path)).send().await).await
    }

    /// One call as a user; [`Api`](crate::api::Api) brings the token.
    pub(crate) async fn call_as<T: DeserializeOwned>(
        &self,
        token: &str,
        method: Method,
        path: &[&str],
        query: &impl Serialize,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, Error> {
        let mut request = self.request(method, path).bearer_auth(token).query(query);
        if let Some(body) = body {
            request = request.json(body);
        }
        read(request.send().await).await
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.place.api.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        self.shared.http.request(method, url)
    }
}

impl Place {
    fn new(address: &str) -> Result<Self, InvalidServer> {
        let wrong = || InvalidServer::Address(address.to_owned());
        let base: Url = address.parse().map_err(|_| wrong())?;
        let socket_scheme = match base.scheme() {
            "http" => "ws",
            "https" if cfg!(feature = "tls") => "wss",
            _ => return Err(wrong()),
        };
        if base.host_str().is_none() || base.query().is_some() || base.fragment().is_some() {
            return Err(wrong());
        }
        let api: Url =
            format!("{}/api/", base.as_str().trim_end_matches('/')).parse().map_err(|_| wrong())?;
        let mut socket = api.join("ws").map_err(|_| wrong())?;
        socket.set_scheme(socket_scheme).map_err(|()| wrong())?;
        Ok(Self { api, socket: socket.into() })
    }
}

#[cfg(feature = "tls")]
fn tls_config() -> Result<rustls::ClientConfig, InvalidServer> {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| InvalidServer::Setup(chain(&error)))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Reads an answer: what was asked for, or the problem document, or what can be said of anything else.
async fn read<T: DeserializeOwned>(sent: reqwest::Result<reqwest::Response>) -> Result<T, Error> {
    let response = sent.map_err(|error| {
        let was_sent = !error.is_connect();
        let text = chain(&error.without_url());
        if was_sent { Error::Unreachable(text) } else { Error::NotConnected(text) }
    })?;
    let status = response.status();
    if response.content_length().is_some_and(|length| length > ANSWER_BYTES_MAX) {
        return Err(Error::Unexpected { status: status.as_u16(), detail: "the answer is too large".into() });
    }
    let header_wait = retry_after_header(response.headers());
    let bytes = response.bytes().await.map_err(|error| Error::Unreachable(chain(&error.without_url())))?;
    if status.is_success() {
        // A call that answers 204 is read as `()`, which is JSON's `null`.
        let json = if status == StatusCode::NO_CONTENT || bytes.is_empty() { &b"null"[..] } else { &bytes };
        return serde_json::from_slice(json)
            .map_err(|error| Error::Unexpected { status: status.as_u16(), detail: error.to_string() });
    }
    Err(match serde_json::from_slice::<Problem>(&bytes) {
        Ok(problem) => Error::Refused {
            code: problem.code,
            detail: problem.detail,
            retry_after: problem.retry_after_ms.map(Duration::from_millis).or(header_wait),
        },
        Err(_) => Error::Unexpected { status: status.as_u16(), detail: excerpt(&bytes) },
    })
}

/// `Retry-After` in seconds; its other form, a date, is not used by this service.
pub(crate) fn retry_after_header(headers: &header::HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The beginning of an answer that is none of ours, safe to show.
fn excerpt(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes).chars().take(120).collect();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_http_are_accepted_and_keep_their_path() {
        let socket = |address| Server::new(address).map(|server| server.socket_url().to_owned()).ok();
        assert_eq!(socket("http://127.0.0.1:8080").as_deref(), Some("ws://127.0.0.1:8080/api/ws"));
        assert_eq!(socket("http://host/chat/").as_deref(), Some("ws://host/chat/api/ws"));
        #[cfg(feature = "tls")]
        assert_eq!(socket("https://chat.example").as_deref(), Some("wss://chat.example/api/ws"));
    }

    #[test]
    fn other_addresses_are_refused_with_the_form_to_write() {
        for address in ["", "127.0.0.1:8080", "ftp://host", "http://host?x=1"] {
            let refused = Server::new(address).err().map(|error| error.to_string());
            assert!(refused.is_some_and(|text| text.contains("http://HOST:PORT")), "{address:?}");
        }
    }
}
