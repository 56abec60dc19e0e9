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
            // Each of them is answered.
            ClientEvent::PresenceSubscribe { user_ids } => {
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

/// Deals with one thing that was heard at `now`. `Err` closes the socket. `pace` begins with the first thing.
///
/// # Errors
/// The reason to close.
pub async fn handle(
    app: &App,
    connection: &Arc<Connection>,
    pace: &mut Option<Box<Pace>>,
    heard: Heard,
    now: Duration,
) -> Result<(), CloseReason> {
    let pace = pace.get_or_insert_with(|| {
        Box::new(Pace::new(app, Identity { user: connection.user, device: connection.device }))
    });
    let (event, bytes) = match heard {
        Heard::Event(event, bytes) => (event, bytes),
        Heard::Malformed(problem) => {
            // Told in any case; but whoever goes on and on is closed.
            let _ = pace.check_frame(now);
            connection.push(encode(&problem));
            return if pace.is_exhausted() { Err(CloseReason::RateLimited) } else { Ok(()) };
        }
        Heard::Ping(payload) => {
            // Pings that come too fast need no pong each (RFC 6455 section 5.5.3).
            if pace.check_frame(now).is_ok() {
                connection.push(tertulia_websocket::Frame::pong(&payload));
            }
            return if pace.is_exhausted() { Err(CloseReason::RateLimited) } else { Ok(()) };
        }
    };
    let (convo, client_seq) = named(&event);
    let result = match pace.check(&event, bytes, now) {
        Ok(()) => act(app, connection, event, now).await,
        Err(_) if pace.is_exhausted() => return Err(CloseReason::RateLimited),
        Err(wait) => Err(Failure::Problem(ApiError::rate_limited(wait))),
    };
    match result {
        Ok(()) => Ok(()),
        Err(Failure::Close(reason)) => Err(reason),
        Err(Failure::Problem(problem)) => {
            app.metrics.problem(problem.code());
            app.note_refused(&problem);
            connection.push(encode(&error_event(&problem, convo, client_seq)));
            Ok(())
        }
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

async fn act(
    app: &App,
    connection: &Arc<Connection>,
    event: ClientEvent,
    now: Duration,
) -> Result<(), Failure> {
    let identity = Identity { user: connection.user, device: connection.device };
    match event {
        ClientEvent::SendMessage { convo_id, client_seq, body, media_ids, reply_to } => {
            let intent = messages::send_intent(
                identity,
                convo_id,
                SendMessage { client_seq, body, reply_to, media_ids },
            )?;
            app.lanes.submit(intent, (connection, Some(client_seq)), true, now).await;
        }
        ClientEvent::Mark { convo_id, delivered_seq, read_seq } => {
            let mark = Mark { delivered_seq, read_seq };
            let intent = messages::mark_intent(identity.user, convo_id, mark)?;
            let shows_read = messages::shows_read(app, identity.user).await?;
            app.lanes.submit(intent, (connection, None), shows_read, now).await;
        }
        ClientEvent::Typing { convo_id, active } => {
            if !app.hub.typing(connection, convo_id, active, app.steady_now()) {
                return Err(ApiError::from(tertulia_domain::log::Refusal::NotFound).into());
            }
        }
        ClientEvent::PresenceSet { status } => app.hub.set_presence(connection, status, app.steady_now()),
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
