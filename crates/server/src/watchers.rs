//! Ends what connections watch that they may not watch any more: they share no conversation with whom they watch.

use std::sync::Arc;
use std::time::Duration;

use tertulia_domain::backoff::Backoff;
use tertulia_domain::hub::{Connection, Hub};
use tertulia_protocol::UserId;
use tertulia_store::{Store, StoreError};

use crate::clock::Random;
use crate::retry::Retry;

/// How often it is looked who may watch somebody no longer.
const EVERY: Duration = Duration::from_millis(100);
/// When it is looked again, while the store does not answer.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(400), Duration::from_secs(5));

/// Looks after those of whom the hub is not sure, for ever.
pub(crate) async fn keep(hub: Arc<Hub>, store: Arc<dyn Store>, random: Random) {
    let mut retry = Retry::new(BACKOFF, random.clone());
    let mut unsure = Vec::new();
    loop {
        unsure.extend(hub.take_unsure());
        let wait = match look(&hub, &*store, &mut unsure).await {
            Ok(()) => {
                retry.succeeded();
                random.jitter(EVERY)
            }
            Err(error) => {
                let wait = retry.failed(Duration::ZERO);
                if retry.is_first() {
                    tracing::warn!(%error, "cannot find out who may watch whom now; trying again");
                } else {
                    tracing::debug!(%error, "still cannot find out who may watch whom");
                }
                wait
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn look(hub: &Hub, store: &dyn Store, unsure: &mut Vec<Arc<Connection>>) -> Result<(), StoreError> {
    while let Some(connection) = unsure.last() {
        let watching = connection.watching();
        if !watching.is_empty() {
            let sharing = store.sharing(connection.user, &watching).await?;
            let ended: Vec<UserId> = watching.into_iter().filter(|user| !sharing.contains(user)).collect();
            hub.unwatch(connection, &ended);
        }
        unsure.pop();
    }
    Ok(())
}
