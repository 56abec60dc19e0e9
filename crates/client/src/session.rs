//! A login that keeps itself fresh.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::Method;
use tertulia_protocol::rest::{self, DeviceInfo, Gateway};
use tertulia_protocol::{DeviceId, Timestamp, UserId};
use tokio::sync::{Mutex, watch};

use crate::error::{Error, SessionLost};
use crate::route::Route;
use crate::server::Server;

/// A token that ends sooner than this is refreshed before it is used.
const MARGIN: Duration = Duration::from_secs(30);

/// How long it may take to find out to which node to go.
const FIND_NODE_MAX: Duration = Duration::from_secs(5);
/// A node that does not say it for so long is passed over while there are others.
const PASSED_OVER_AFTER: Duration = Duration::from_secs(2);

/// What logs in again when a session is lost; only programs that know the password have it.
#[derive(Clone)]
pub struct Password {
    /// The user.
    pub username: String,
    /// His password.
    pub password: String,
    /// What the new login calls itself.
    pub device: DeviceInfo,
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Password({})", self.username)
    }
}

/// A session of one device: gives an access token that is good now, and refreshes it when it is not.
///
/// However many tasks ask, one refresh is under way at a time, and all get its result. Refresh tokens work
/// once, and a second use revokes the device. So a refresh whose answer is lost is never repeated: the session
/// logs in again if it knows the password, and is [`SessionLost`] if not. Clones share one session.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
}

struct Shared {
    route: Route,
    password: Option<Password>,
    tokens: watch::Sender<Arc<rest::Session>>,
    /// Held for as long as a refresh takes.
    refresh: Mutex<Refreshing>,
}

#[derive(Default)]
struct Refreshing {
    /// The refresh token was sent and no answer came: it may be spent.
    uncertain: bool,
    lost: Option<SessionLost>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({})", self.shared.tokens.borrow().user.username)
    }
}

impl Session {
    /// Goes on with what a registration, a login or an earlier run has left.
    pub fn new(server: Server, tokens: rest::Session, password: Option<Password>) -> Self {
        Self {
            shared: Arc::new(Shared {
                route: Route::new(server),
                password,
                tokens: watch::Sender::new(Arc::new(tokens)),
                refresh: Mutex::default(),
            }),
        }
    }

    /// The server that it is a session on: of a cluster the node that it speaks with now.
    pub fn server(&self) -> Server {
        self.shared.route.current()
    }

    /// How many nodes there are to try.
    pub(crate) fn nodes(&self) -> usize {
        self.shared.route.len()
    }

    /// A node does not answer: the next one to try.
    pub(crate) fn server_after(&self, failed: &Server) -> Server {
        self.shared.route.after(failed)
    }

    /// Asks to which node to go. Nothing is lost if nobody can say.
    pub(crate) async fn find_node(&self) {
        // A token is not renewed for this: should the answer be lost, so would the session be.
        let (token, ends) = self.present();
        if ends <= timestamp(SystemTime::now()).plus(MARGIN) {
            return;
        }
        let (count, mut server) = (self.nodes(), self.server());
        let patience = if count > 1 { PASSED_OVER_AFTER } else { FIND_NODE_MAX };
        for _ in 0..count {
            let asking = server.call_as::<Gateway>(&token, Method::GET, &["gateway"], &(), None::<&()>);
            match tokio::time::timeout(patience, asking).await {
                Ok(Ok(gateway)) => return self.shared.route.take(&gateway),
                Ok(Err(error)) if !error.is_temporary() => {
                    tracing::debug!(%error, "to which node to go is not known");
                    return;
                }
                Ok(Err(error)) => tracing::debug!(%error, "a node cannot say to which one to go"),
                Err(_) => tracing::debug!("a node does not say in time to which one to go"),
            }
            // Whoever cannot even say this is no good for a socket either.
            server = self.server_after(&server);
        }
    }

    /// A call to the node that the session is with; while no connection can be made, to the next ones.
    pub(crate) async fn on_some_node<T, F>(&self, call: impl Fn(Server) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut server = self.server();
        for _ in 1..self.nodes() {
            match call(server.clone()).await {
                Err(Error::NotConnected(_)) => server = self.server_after(&server),
                outcome => return outcome,
            }
        }
        call(server).await
    }

    /// Whose it is.
    pub fn user_id(&self) -> UserId {
        self.shared.tokens.borrow().user.id
    }

    /// The device that it is now; a new login makes another.
    pub fn device_id(&self) -> DeviceId {
        self.shared.tokens.borrow().device_id
    }

    /// The present tokens, and each new pair: whoever keeps them in a file watches here and writes at once,
    /// because an old refresh token must not be used again.
    pub fn watch(&self) -> watch::Receiver<Arc<rest::Session>> {
        self.shared.tokens.subscribe()
    }

    /// An access token that is good for at least half a minute, as far as the clock of this machine can tell.
    ///
    /// # Errors
    /// [`Error::SessionLost`] for good; other errors are those of the refresh and may pass.
    pub async fn access_token(&self) -> Result<String, Error> {
        let (token, ends) = self.present();
        if ends > timestamp(SystemTime::now()).plus(MARGIN) {
            return Ok(token);
        }
        self.renew(&token).await
    }

    /// Another access token than the one that the server has just refused.
    ///
    /// # Errors
    /// As [`access_token`](Self::access_token).
    pub async fn renew(&self, refused: &str) -> Result<String, Error> {
        let mut state = self.shared.refresh.lock().await;
        let (present, _) = self.present();
        if present != refused {
            return Ok(present);
        }
        if let Some(lost) = state.lost {
            return Err(lost.into());
        }
        let outcome = self.fresh(&mut state).await;
        self.take(outcome, &mut state)
    }

    /// As [`renew`](Self::renew), but by a login: a token that was fresh has been refused too.
    pub(crate) async fn log_in_again(&self, refused: &str) -> Result<String, Error> {
        let mut state = self.shared.refresh.lock().await;
        let (present, _) = self.present();
        if present != refused {
            return Ok(present);
        }
        let outcome = self.login(SessionLost::Expired).await;
        self.take(outcome, &mut state)
    }

    fn take(&self, outcome: Result<rest::Session, Error>, state: &mut Refreshing) -> Result<String, Error> {
        match outcome {
            Ok(tokens) => {
                let token = tokens.access_token.clone();
                self.shared.tokens.send_replace(Arc::new(tokens));
                *state = Refreshing::default();
                Ok(token)
            }
            Err(error) => {
                if let Error::SessionLost(lost) = error {
                    state.lost = Some(lost);
                }
                Err(error)
            }
        }
    }

    fn present(&self) -> (String, Timestamp) {
        let tokens = self.shared.tokens.borrow();
        (tokens.access_token.clone(), tokens.expires_at)
    }

    async fn fresh(&self, state: &mut Refreshing) -> Result<rest::Session, Error> {
        if state.uncertain {
            return self.login(SessionLost::RefreshUncertain).await;
        }
        let refresh_token = self.shared.tokens.borrow().refresh_token.clone();
        // Set before the call and cleared by a definite answer: whoever is dropped half-way leaves it set.
        state.uncertain = true;
        let refresh_token = refresh_token.as_str();
        let outcome = self.on_some_node(|server| async move { server.refresh(refresh_token).await }).await;
        match outcome {
            Ok(tokens) => Ok(tokens),
            Err(error) if error.is_uncertain() => self.login(SessionLost::RefreshUncertain).await,
            Err(error) if error.is_temporary() => {
                state.uncertain = false;
                Err(error)
            }
            Err(_) => self.login(SessionLost::Expired).await,
        }
    }

    /// The last resort.
    async fn login(&self, lost: SessionLost) -> Result<rest::Session, Error> {
        let Some(Password { username, password, device }) = &self.shared.password else {
            return Err(lost.into());
        };
        let login = |server: Server| async move { server.login(username, password, device.clone()).await };
        match self.on_some_node(login).await {
            Err(Error::Refused { code: tertulia_protocol::Code::Unauthenticated, .. }) => {
                Err(SessionLost::LoginRefused.into())
            }
            outcome => outcome,
        }
    }
}

/// A moment of the system's clock as the contract writes it.
pub fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
