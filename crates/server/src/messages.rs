//! From what a client says to an intent, and from an outcome to an answer: the same for socket and REST.

use std::sync::Arc;

use tertulia_domain::log::{Intent, Outcome, Refusal};
use tertulia_protocol::rest::{Audience, Mark, SendMessage};
use tertulia_protocol::rules::{self, Violation};
use tertulia_protocol::{Code, ConvoId, Entry, UserId};

use crate::accounts::Identity;
use crate::app::App;
use crate::rest::problem::ApiError;

/// A message as an intent.
///
/// # Errors
/// What [`rules`] refuse.
pub fn send_intent(identity: Identity, convo: ConvoId, message: SendMessage) -> Result<Intent, Violation> {
    rules::client_seq(message.client_seq)?;
    rules::body(&message.body)?;
    if !message.media_ids.is_empty() {
        return Err(Violation::invalid("this server does not take files yet; send without mediaIds"));
    }
    Ok(Intent::Send {
        convo,
        sender: identity.user,
        device: identity.device,
        client_seq: message.client_seq,
        body: message.body,
        reply_to: message.reply_to,
    })
}

/// A mark as an intent.
///
/// # Errors
/// `invalid` if it marks nothing.
pub fn mark_intent(user: UserId, convo: ConvoId, mark: Mark) -> Result<Intent, Violation> {
    if mark.delivered_seq.is_none() && mark.read_seq.is_none() {
        return Err(Violation::invalid("name deliveredSeq, readSeq or both"));
    }
    Ok(Intent::Mark { convo, user, delivered: mark.delivered_seq, read: mark.read_seq })
}

/// Whether a user shows others what he has read.
///
/// # Errors
/// If his settings cannot be read.
pub async fn shows_read(app: &App, user: UserId) -> Result<bool, ApiError> {
    Ok(app.accounts.privacy(user).await?.read_receipts == Audience::Everyone)
}

/// What a `send` gave.
pub struct Sent {
    /// The message in its present state.
    pub message: Arc<Entry>,
    /// Whether it is new.
    pub is_new: bool,
}

/// Sends a message and waits until it is durable.
///
/// # Errors
/// What [`rules`] and the conversation refuse; `unavailable` if nobody knows whether it is stored: send it
/// again with the same `clientSeq`.
pub async fn send(
    app: &App,
    identity: Identity,
    convo: ConvoId,
    message: SendMessage,
) -> Result<Sent, ApiError> {
    match app.lanes.append(send_intent(identity, convo, message)?, true).await? {
        Outcome::Appended { entry, .. } => Ok(Sent { message: entry, is_new: true }),
        Outcome::Duplicate(entry) => Ok(Sent { message: entry, is_new: false }),
        other => Err(unexpected(other)),
    }
}

/// Appends an intent whose success needs no answer; tells whether it changed anything.
///
/// # Errors
/// What the conversation refuses.
pub async fn append(app: &App, intent: Intent) -> Result<bool, ApiError> {
    let shows_read = match &intent {
        Intent::Mark { user, .. } => shows_read(app, *user).await?,
        _ => true,
    };
    match app.lanes.append(intent, shows_read).await? {
        Outcome::Refused(refusal) => Err(refusal.into()),
        Outcome::Unchanged => Ok(false),
        Outcome::Appended { .. }
        | Outcome::Duplicate(_)
        | Outcome::Marked(_)
        | Outcome::OwnChanged { .. } => Ok(true),
    }
}

fn unexpected(outcome: Outcome) -> ApiError {
    match outcome {
        Outcome::Refused(refusal) => refusal.into(),
        other => {
            tracing::error!(?other, "the store answered a send with what is no answer to it");
            ApiError::new(
                Code::Unavailable,
                "the message could not be stored; send it again with the same clientSeq",
            )
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal.retry_after() {
            Some(wait) => Self::unavailable(refusal.to_string(), wait),
            None => Self::new(refusal.code(), refusal.to_string()),
        }
    }
}
