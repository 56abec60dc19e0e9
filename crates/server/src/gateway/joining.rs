//! How a reader begins, whether it connects, resumes or polls: it is registered first, then reads what it
//! missed, so that nothing falls between.

use std::collections::HashSet;
use std::sync::Arc;

use tertulia_domain::hub::{Connection, Mode, Step};
use tertulia_domain::log::{Change, Head, Missed, Position};
use tertulia_fabric::live::Topic;
use tertulia_protocol::{ConvoId, UserId};
use tertulia_store::{Slice, StoreError};
use tokio::sync::OwnedSemaphorePermit;

use crate::accounts::Identity;
use crate::app::App;
use crate::cluster::Cluster;
use crate::rest::problem::ApiError;
use crate::views;

/// How many of those who come in or go are worked for at one time: the head of a request, who somebody is, his
/// registration, its end. The others wait in the order in which they came. So when thousands are cut and come back at
/// once, those who are here find the threads as busy as by [`ARRIVALS_MAX`] tasks, not by thousands.
pub const ARRIVALS_MAX: usize = 16;

/// A place among those who come in or go, until it is dropped.
pub type Turn = Option<OwnedSemaphorePermit>;

/// Waits for a turn to come in, or to go. Nobody keeps one while he is waited for himself.
pub async fn turn(app: &App) -> Turn {
    // The semaphore is never closed.
    Arc::clone(&app.arrivals).acquire_owned().await.ok()
}

/// How many entries one catch-up read takes.
const PAGE: usize = 200;

/// Registers a reader who has everything below `since`; he lags until his first step is done.
///
/// # Errors
/// If the user's settings cannot be read.
pub async fn register(
    app: &App,
    mode: Mode,
    identity: Identity,
    since: Position,
) -> Result<Arc<Connection>, ApiError> {
    let privacy = app.accounts.privacy(identity.user).await?;
    let who = (identity.user, identity.device);
    let (connection, attach) = app.hub.register(mode, who, privacy, since, app.steady_now());
    if attach {
        match heads(app, identity.user).await {
            Ok(heads) => app.hub.attach(identity.user, &heads),
            Err(error) => {
                unregister(app, &connection);
                return Err(error.into());
            }
        }
    }
    Ok(connection)
}

/// In which conversations a user is. Of what is told of them from here on this node hears; who missed what was told
/// before reads it.
async fn heads(app: &App, user: UserId) -> Result<Vec<Head>, StoreError> {
    if let Some(Cluster { topics, .. }) = &app.cluster {
        topics.hear(vec![Topic::User(user)]).await;
    }
    let heads = app.store.heads(user).await?;
    if let Some(Cluster { topics, .. }) = &app.cluster {
        topics.hear(heads.iter().map(|head| Topic::Conversation(head.convo)).collect()).await;
    }
    Ok(heads)
}

/// Lets a reader go.
pub fn unregister(app: &App, connection: &Arc<Connection>) {
    let departed = app.hub.unregister(connection, app.steady_now());
    app.note_departed(departed);
}

/// Reads one piece of what a lagging reader lacks, and gives it to him.
///
/// # Errors
/// If the store does not answer; the piece is still lacking then.
pub async fn catch_up_step(app: &App, connection: &Arc<Connection>, step: Step) -> Result<(), ApiError> {
    match step {
        Step::Missed { since } => {
            // Nothing was committed meanwhile: nothing to read. Where others append, more may be committed than the
            // horizon tells.
            let missed = if app.store.is_sole_writer() && since.covers(&app.store.horizon().await?) {
                Missed::default()
            } else {
                app.store.missed(connection.user, since, PAGE).await?
            };
            let hiding = hiding(app, &missed.changes).await?;
            app.hub.finish_resume(connection, missed, &hiding);
            ask_for_repair(app);
        }
        Step::News { convo, since, whole } => {
            let conversation = if whole {
                let Some(conversation) = views::whole(app, connection.user, convo).await? else {
                    forget(app, connection, convo);
                    return Ok(());
                };
                Some(conversation)
            } else {
                None
            };
            let change = match since {
                Some(since) => {
                    let since = Position::before(since);
                    app.store.changes(connection.user, since, Some(convo)).await?.into_iter().next()
                }
                None => None,
            };
            let hiding = hiding(app, change.as_slice()).await?;
            app.hub.give_news(connection, convo, conversation, change, &hiding);
        }
        Step::Page { convo, after } => {
            match app.store.history(connection.user, convo, Slice::After(after), PAGE).await? {
                Some(page) => app.hub.give_page(connection, convo, &page),
                None => forget(app, connection, convo),
            }
        }
    }
    Ok(())
}

/// He is out of it, in the store. The hub may still have to hear of it.
fn forget(app: &App, connection: &Arc<Connection>, convo: ConvoId) {
    app.hub.forget(connection, convo);
    ask_for_repair(app);
}

/// Where others append, what the store says and what has come here may contradict each other.
fn ask_for_repair(app: &App) {
    if !app.store.is_sole_writer() && app.hub.needs_repair() {
        app.repairs.notify_one();
    }
}

/// Those among the owners of moved watermarks who hide what they have read.
async fn hiding(app: &App, changes: &[Change]) -> Result<HashSet<UserId>, ApiError> {
    let receipts = changes.iter().flat_map(|change| match change {
        Change::In { receipts, .. } => receipts.as_slice(),
        Change::Left(_) => &[],
    });
    let users: Vec<UserId> = receipts.map(|receipt| receipt.user).collect();
    if users.is_empty() {
        return Ok(HashSet::new());
    }
    Ok(app.accounts.hiding_read(&users).await?)
}
