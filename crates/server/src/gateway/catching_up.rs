//! Beside a socket: the reads of what its reader lacks, one piece after the other.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tertulia_domain::hub::{Connection, Step};
use tokio::time::Sleep;

use super::joining;
use crate::app::App;
use crate::rest::problem::ApiError;

/// How long to wait before a read that failed is tried again, at least.
const RETRY_MIN: Duration = Duration::from_millis(500);
/// For how long a client is not heard while a piece is read: mostly what he says is answered after what came before it. A part
/// of the store that is stalled takes longer, and he may speak to conversations in another.
const UNHEARD_MAX: Duration = Duration::from_millis(500);

/// What is read for one reader; next to nothing while he lacks nothing.
#[derive(Default)]
pub(super) struct CatchingUp {
    reading: Option<Box<Reading>>,
    retry: Option<Pin<Box<Sleep>>>,
}

struct Reading {
    step: Step,
    read: BoxFuture<'static, Result<(), ApiError>>,
    unheard: Pin<Box<Sleep>>,
}

impl CatchingUp {
    /// Goes on, or begins with the next piece if it `may_begin`. Ready each time that a piece has come to the outbox, or could
    /// not be had.
    pub(super) fn poll(
        &mut self,
        app: &App,
        connection: &Arc<Connection>,
        may_begin: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let Self { reading, retry } = self;
        if let Some(sleep) = retry {
            ready!(sleep.as_mut().poll(cx));
            *retry = None;
        }
        if reading.is_none()
            && may_begin
            && let Some(step) = app.hub.next_step(connection)
        {
            *reading = Some(Box::new(Reading::begin(app.clone(), Arc::clone(connection), step)));
        }
        let Some(Reading { step, read, .. }) = reading.as_deref_mut() else { return Poll::Pending };
        if let Err(error) = ready!(read.as_mut().poll(cx)) {
            app.hub.put_off(connection, *step);
            app.note_refused(&error);
            tracing::debug!(detail = error.detail(), "a reader could not catch up; trying again");
            *retry = Some(Box::pin(tokio::time::sleep(app.random.jitter(RETRY_MIN))));
        }
        *reading = None;
        Poll::Ready(())
    }

    /// Ready if the client is to be heard now.
    pub(super) fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.reading.as_mut().map_or(Poll::Ready(()), |reading| reading.unheard.as_mut().poll(cx))
    }
}

impl Reading {
    fn begin(app: App, connection: Arc<Connection>, step: Step) -> Self {
        let read = async move { joining::catch_up_step(&app, &connection, step).await };
        Self { step, read: Box::pin(read), unheard: Box::pin(tokio::time::sleep(UNHEARD_MAX)) }
    }
}
