//! Connections that are lent, one call at a time each.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::Row;

use super::connect::{Connector, Parameters, Session};
use super::error::Failure;

/// A bounded number of connections; they are made when they are first needed, and again when they broke.
pub struct Pool {
    connector: Arc<Connector>,
    idle: Arc<Mutex<Vec<Session>>>,
    /// How many may be lent at a time. Closed: none any more.
    places: Arc<Semaphore>,
    size: u32,
    wait_max: Duration,
}

impl Pool {
    /// So many at most; whoever waits longer than `wait_max` for one is told so.
    pub fn new(connector: Arc<Connector>, size: usize, wait_max: Duration) -> Self {
        let size = u32::try_from(size.clamp(1, 1_000)).unwrap_or(1);
        Self {
            connector,
            idle: Arc::default(),
            places: Arc::new(Semaphore::new(size as usize)),
            size,
            wait_max,
        }
    }

    /// A connection, once one is free.
    ///
    /// # Errors
    /// None was free in time, or none can be made.
    pub async fn lend(&self) -> Result<Lent, Failure> {
        let place = tokio::time::timeout(self.wait_max, Arc::clone(&self.places).acquire_owned()).await;
        let place = place.map_err(|_| Failure::Busy)?.map_err(|_| Failure::Closed)?;
        let idle = || {
            let mut idle = lock(&self.idle);
            // The newest first: those that are not needed grow old, and the system closes them.
            std::iter::from_fn(|| idle.pop()).find(|session| !session.is_closed())
        };
        let session = match idle() {
            Some(session) => session,
            None => self.connector.connect().await?,
        };
        Ok(Lent { session: Some(session), idle: Arc::clone(&self.idle), place: Some(place) })
    }

    /// What one statement gives.
    ///
    /// # Errors
    /// No connection can be had, or the statement failed.
    pub async fn rows(&self, sql: &'static str, parameters: Parameters<'_>) -> Result<Vec<Row>, Failure> {
        let mut lent = self.lend().await?;
        let result = lent.rows(sql, parameters).await;
        lent.settle(result)
    }

    /// What one statement gives, if that is a row.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub async fn row(&self, sql: &'static str, parameters: Parameters<'_>) -> Result<Option<Row>, Failure> {
        Ok(self.rows(sql, parameters).await?.into_iter().next())
    }

    /// Waits for what is under way, and lends nothing any more.
    pub async fn close(&self) {
        // All places together are there when nobody has one; an error says that it was closed before.
        if let Ok(all) = self.places.acquire_many(self.size).await {
            self.places.close();
            drop(all);
        }
        lock(&self.idle).clear();
    }
}

fn lock(idle: &Mutex<Vec<Session>>) -> MutexGuard<'_, Vec<Session>> {
    // Nothing under this lock can panic half way.
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection on loan. It goes back when this is dropped, unless it is broken, or in the middle of a transaction or a
/// statement: then whoever had it does not wait for it any more. A transaction the server takes back, and a statement it is
/// told to end; its place is free when it has been.
pub struct Lent {
    session: Option<Session>,
    idle: Arc<Mutex<Vec<Session>>>,
    place: Option<OwnedSemaphorePermit>,
}

impl Lent {
    /// Passes on how something went; what breaks the connection, ends it.
    ///
    /// # Errors
    /// The one that is passed on.
    pub fn settle<T>(&mut self, result: Result<T, Failure>) -> Result<T, Failure> {
        if result.as_ref().is_err_and(Failure::breaks_connection) {
            self.session = None;
        }
        result
    }
}

impl Deref for Lent {
    type Target = Session;

    #[expect(clippy::expect_used, reason = "whoever has ended the connection does not go on with it")]
    fn deref(&self) -> &Session {
        self.session.as_ref().expect("a connection that broke is used again")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(session) = self.session.take().filter(|session| !session.is_closed()) else { return };
        if session.is_under_way() {
            let place = self.place.take();
            // Without a runtime the process is at its end.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move {
                    session.give_up().await;
                    drop(place);
                });
            }
        } else if !session.is_in_transaction() {
            lock(&self.idle).push(session);
        }
    }
}
