//! What a ready socket hears, and what is done about it. The same rules as over REST, in the same code.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tertulia_domain::hub::{Connection, Status, encode};
use tertulia_protocol::event::{ClientEvent, CloseReason, ServerEvent};
use tertulia_protocol::rest::{Audience, Mark, SendMessage};
use tertulia_protocol::rules::PRESENCE_SUBSCRIPTIONS_MAX;
use tertulia_protocol::{ClientSeq, Code, ConvoId, UserId};

use crate::accounts::Identity;
use crate::app::App;
use crate::lane::Submission;
use crate::limits::Bucket;
use crate::messages;
use crate::rest::problem::ApiError;

/// When this many more frames were refused because they came too fast than were let through, the socket is closed.
/// (Some are always let through, however fast they come.)
const REFUSALS_MAX: u32 = 200;

/// A frame that was read and is to be dealt with.
pub enum Heard {
    /// An event, and how many bytes its frame had.
    Event(ClientEvent, u32),
    /// A frame that is no event; the problem is told, and the connection stays.
    Malformed(ServerEvent),
    /// A WebSocket ping: answered with what it carried.
    Ping(Vec<u8>),
}

/// Reads a text frame.
pub fn parse(text: &str) -> Heard {
    match ClientEvent::parse(text) {
        Ok(event) => Heard::Event(event, u32::try_from(text.len()).unwrap_or(u32::MAX)),
        Err(error) => Heard::Malformed(malformed(text, &error)),
    }
}

/// What to say of a frame that is no event; with its conversation and number, if it had them.
fn malformed(text: &str, error: &serde_json::Error) -> ServerEvent {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named {
        #[serde(default)]
        convo_id: serde_json::Value,
        #[serde(default)]
        client_seq: serde_json::Value,
    }
    let named: Option<Named> = serde_json::from_str(text).ok();
    let (convo, number) = named.map(|named| (named.convo_id, named.client_seq)).unzip();
    ServerEvent::Error {
        code: Code::Invalid,
        detail: format!("this frame is no event of the contract: {error}"),
        convo_id: convo.as_ref().and_then(|convo| convo.as_str()).and_then(|convo| convo.parse().ok()),
        client_seq: number.as_ref().and_then(serde_json::Value::as_u64).map(ClientSeq::new),
        retry_after_ms: None,
    }
}

/// The limits of one connection.
pub struct Pace {
    sends: Bucket,
    bytes: Bucket,
    events: Bucket,
    refused: u32,
}

impl Pace {
    /// The limits of a new connection of a device.
    pub fn new(app: &App, identity: Identity) -> Self {
        Self {
            sends: app.limits.sends.bucket(identity.device),
            bytes: app.limits.bytes.bucket(identity.device),
            events: app.limits.events(),
            refused: 0,
        }
    }

    fn check(&mut self, event: &ClientEvent, bytes: u32, now: Duration) -> Result<(), Duration> {
        let checked = match event {
            ClientEvent::SendMessage { .. } => self.sends.check(now),
            // Each of them is looked for, and answered or let go.
            ClientEvent::PresenceSubscribe { user_ids } | ClientEvent::PresenceUnsubscribe { user_ids } => {
                self.events.check_cost(1 + u32::try_from(user_ids.len() / 10).unwrap_or(u32::MAX), now)
            }
            _ => self.events.check(now),
        };
        self.counted(checked.and_then(|()| self.bytes.check_cost(bytes, now)))
    }

    /// For frames that are no events.
    fn check_frame(&mut self, now: Duration) -> Result<(), Duration> {
        let checked = self.events.check(now);
        self.counted(checked)
    }

    fn counted(&mut self, checked: Result<(), Duration>) -> Result<(), Duration> {
        self.refused = if checked.is_ok() { self.refused.saturating_sub(1) } else { self.refused + 1 };
        checked
    }

    /// An answer to whoever goes on although he was told to wait is a waste.
    const fn is_exhausted(&self) -> bool {
        self.refused > REFUSALS_MAX
    }
}

/// What a connection said at one moment, while it is dealt with.
///
/// What is to be appended is gathered, and [submitted](Self::submit) at once.
pub struct Hearing<'a> {
    app: &'a App,
    connection: &'a Arc<Connection>,
    pace: &'a mut Pace,
    now: Duration,
    gathered: Vec<Submission>,
}

impl<'a> Hearing<'a> {
    /// Begins with at most so many things that were heard at `now`. `pace` begins with the first of all.
    pub fn new(
        app: &'a App,
        connection: &'a Arc<Connection>,
        pace: &'a mut Option<Box<Pace>>,
        now: Duration,
        at_most: usize,
    ) -> Self {
        let identity = Identity { user: connection.user, device: connection.device };
        let pace = pace.get_or_insert_with(|| Box::new(Pace::new(app, identity)));
        Self { app, connection, pace, now, gathered: Vec::with_capacity(at_most) }
    }

    /// Deals with the next thing. `Err` closes the socket; what came before is to be submitted all the same.
    ///
    /// # Errors
    /// The reason to close.
    pub async fn hear(&mut self, heard: Heard) -> Result<(), CloseReason> {
        let Self { connection, pace, now, .. } = self;
        let (event, bytes) = match heard {
            Heard::Event(event, bytes) => (event, bytes),
            Heard::Malformed(problem) => {
                // Told in any case; but whoever goes on and on is closed.
                let _ = pace.check_frame(*now);
                connection.push(encode(&problem));
                return if pace.is_exhausted() { Err(CloseReason::RateLimited) } else { Ok(()) };
            }
            Heard::Ping(payload) => {
                // Pings that come too fast need no pong each (RFC 6455 section 5.5.3).
                if pace.check_frame(*now).is_ok() {
                    connection.push(tertulia_websocket::Frame::pong(&payload));
                }
                return if pace.is_exhausted() { Err(CloseReason::RateLimited) } else { Ok(()) };
            }
        };
        let (convo, client_seq) = named(&event);
        let result = match pace.check(&event, bytes, *now) {
            Ok(()) => self.act(event).await,
            Err(_) if pace.is_exhausted() => return Err(CloseReason::RateLimited),
            Err(wait) => Err(Failure::Problem(ApiError::rate_limited(wait))),
        };
        match result {
            Ok(()) => Ok(()),
            Err(Failure::Close(reason)) => Err(reason),
            Err(Failure::Problem(problem)) => {
                self.app.metrics.problem(problem.code());
                self.app.note_refused(&problem);
                self.connection.push(encode(&error_event(&problem, convo, client_seq)));
                Ok(())
            }
        }
    }

    /// Submits what is to be appended, in the order in which it came.
    pub async fn submit(&mut self) {
        self.app.lanes.submit(self.connection, &mut self.gathered, self.now).await;
    }

    /// Does what an event asks for. What is not gathered itself comes behind what is.
    async fn act(&mut self, event: ClientEvent) -> Result<(), Failure> {
        let Self { app, connection, .. } = *self;
        let user = connection.user;
        if !matches!(event, ClientEvent::SendMessage { .. } | ClientEvent::Mark { .. }) {
            self.submit().await;
        }
        match event {
            ClientEvent::SendMessage { convo_id, client_seq, body, media_ids, reply_to } => {
                let identity = Identity { user, device: connection.device };
                let message = SendMessage { client_seq, body, reply_to, media_ids };
                let intent = messages::send_intent(identity, convo_id, message)?;
                self.gathered.push(Submission { intent, client_seq: Some(client_seq), shows_read: true });
            }
            ClientEvent::Mark { convo_id, delivered_seq, read_seq } => {
                let mark = Mark { delivered_seq, read_seq };
                let intent = messages::mark_intent(user, convo_id, mark)?;
                let shows_read = messages::shows_read(app, user).await?;
                self.gathered.push(Submission { intent, client_seq: None, shows_read });
            }
            ClientEvent::Typing { convo_id, active } => {
                if !app.hub.typing(connection, convo_id, active, app.steady_now()) {
                    return Err(ApiError::from(tertulia_domain::log::Refusal::NotFound).into());
                }
            }
            ClientEvent::PresenceSet { status } => {
                app.hub.set_presence(connection, status, app.steady_now());
            }
            ClientEvent::PresenceSubscribe { user_ids } => subscribe(app, connection, user_ids).await?,
            ClientEvent::PresenceUnsubscribe { user_ids } => app.hub.unwatch(connection, &user_ids),
            ClientEvent::Ping {} => {
                let position = app.hub.position_of(connection);
                connection.push(encode(&ServerEvent::Pong { position }));
            }
            // Only ever the first frame.
            ClientEvent::Connect { .. } | ClientEvent::Resume { .. } => {
                return Err(Failure::Close(CloseReason::Protocol));
            }
        }
        Ok(())
    }
}

enum Failure {
    Problem(ApiError),
    Close(CloseReason),
}

impl<E: Into<ApiError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Problem(error.into())
    }
}

const fn named(event: &ClientEvent) -> (Option<ConvoId>, Option<ClientSeq>) {
    match event {
        ClientEvent::SendMessage { convo_id, client_seq, .. } => (Some(*convo_id), Some(*client_seq)),
        ClientEvent::Mark { convo_id, .. } | ClientEvent::Typing { convo_id, .. } => (Some(*convo_id), None),
        _ => (None, None),
    }
}

/// A problem as an event.
pub fn error_event(
    problem: &ApiError,
    convo_id: Option<ConvoId>,
    client_seq: Option<ClientSeq>,
) -> ServerEvent {
    ServerEvent::Error {
        code: problem.code(),
        detail: problem.detail().to_owned(),
        convo_id,
        client_seq,
        // Rounded up: who comes back on time is not refused again.
        retry_after_ms: problem
            .retry_after()
            .and_then(|wait| u64::try_from(wait.as_micros().div_ceil(1_000)).ok()),
    }
}

async fn subscribe(app: &App, connection: &Arc<Connection>, mut users: Vec<UserId>) -> Result<(), ApiError> {
    users.sort_unstable();
    users.dedup();
    let too_many = || {
        let detail =
            format!("a connection watches at most {PRESENCE_SUBSCRIPTIONS_MAX} users; unsubscribe from some");
        ApiError::new(Code::Invalid, detail)
    };
    if users.len() > PRESENCE_SUBSCRIPTIONS_MAX {
        return Err(too_many());
    }
    let sharing = app.store.sharing(connection.user, &users).await?;
    let last_seen = app.accounts.last_seen_of(&sharing).await?;
    let mut statuses = Vec::with_capacity(users.len());
    for user in users {
        let allowed = sharing.contains(&user);
        let shows = allowed && app.accounts.privacy(user).await?.last_seen == Audience::Everyone;
        let elsewhere = app.cluster.as_ref().and_then(|cluster| cluster.presences.last_seen(user));
        let last_seen = last_seen.get(&user).copied().max(elsewhere).filter(|_| shows);
        statuses.push(Status { user, allowed, last_seen });
    }
    if !app.hub.watch(connection, &statuses) {
        return Err(too_many());
    }
    let allowed = statuses.iter().filter(|status| status.allowed).map(|status| status.user);
    if let Some(cluster) = app.cluster.as_ref().filter(|_| !sharing.is_empty()) {
        // Should nobody know now, he is told what is seen here, and the rest when it is known.
        cluster.presences.ask(allowed).await;
    }
    app.hub.tell_statuses(connection, &statuses);
    Ok(())
}
