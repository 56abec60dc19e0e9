//! Going down without anybody noticing: not ready, sockets sent away in slices, the rest finished.
//!
//! A node of several says first that it is not ready, and serves on for a moment: whoever sends clients to it looks only
//! now and then, and a connection on which a client may be about to call must not be closed, but be given up by the
//! client, who is told so with each answer.

use std::time::Duration;

use tertulia_domain::hub::Close;
use tertulia_protocol::event::CloseReason;
use tokio::time::Instant;

use crate::app::App;
use crate::clock::Random;

/// How long a node of several serves on when it is no longer ready: longer than clients keep a connection without a call.
const NOTICE: Duration = Duration::from_secs(3);
/// Sockets are told to go in this many slices.
const SLICES: usize = 10;
/// The pause between two slices, at most: few sockets go at once.
const PAUSE: Duration = Duration::from_millis(100);
/// The least wait before a client comes back.
const COME_BACK_MIN: Duration = Duration::from_millis(250);
/// How much more it is for every socket that comes back, too.
const COME_BACK_PER_SOCKET: Duration = Duration::from_micros(200);

/// Stops taking new work, sends the sockets away, and waits until they and all requests are done, at most as
/// long as configured. Returns until when that is.
pub(crate) async fn drain(app: &App) -> Instant {
    app.leaving.cancel();
    if let Some(cluster) = &app.cluster {
        tracing::info!("leaving");
        // First, so that those who are sent away are not sent back.
        cluster.drain();
        tokio::time::sleep(NOTICE).await;
    }
    app.draining.cancel();
    let until = Instant::now() + app.config.drain;
    let connections = app.hub.connections();
    tracing::info!(connections = connections.len(), "draining");
    let least = COME_BACK_MIN + COME_BACK_PER_SOCKET * u32::try_from(connections.len()).unwrap_or(u32::MAX);
    for slice in connections.chunks(connections.len().div_ceil(SLICES).max(100)) {
        for connection in slice {
            connection.close(come_back(&app.random, least));
        }
        if slice.len() < connections.len() {
            tokio::time::sleep(PAUSE).await;
        }
    }
    // The lane is one of the tracked tasks: it goes on until the last of the others has let go of it.
    let others_done = async {
        while app.hub.present().sockets + app.hub.present().polls > 0 || app.lanes.depth() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(app.config.drain, others_done).await.is_err() {
        tracing::warn!("some connections did not end in time");
    }
    until
}

/// Waits for the HTTP connections on which something is under way, no longer than `until`: then cuts those that are left. A
/// client who says a part of a call, or does not read his answer, holds nothing up. To be called when nobody is accepted
/// any more.
pub(crate) async fn end_http(app: &App, until: Instant) {
    app.http.close();
    if tokio::time::timeout_at(until, app.http.wait()).await.is_err() {
        tracing::warn!(connections = app.http.len(), "some HTTP connections did not end in time");
    }
    app.over.cancel();
}

/// The close of a socket that has only begun.
pub(crate) fn farewell(app: &App) -> Close {
    come_back(&app.random, COME_BACK_MIN)
}

/// The close of a socket whose client is to come back, after `least` to twice that.
pub(crate) fn come_back(random: &Random, least: Duration) -> Close {
    Close { reason: CloseReason::Draining, text: retry_after(random.jitter(least)) }
}

/// What a close says of when to come back.
pub(crate) fn retry_after(wait: Duration) -> String {
    format!(r#"{{"retryAfterMs":{}}}"#, wait.as_millis())
}
