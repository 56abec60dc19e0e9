//! One time of day for all nodes: that of the database, to which a node sets its clock.
//!
//! Tokens end at a time that one node has set and another one judges. A node whose machine is an hour off would else
//! refuse everybody, or give out what has ended already; and what it appends would bear times that nobody understands.

use std::sync::Arc;
use std::time::Duration;

use tertulia_store::accounts::Accounts;

use crate::clock::{Clock, Random};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(10);
/// Two clocks that differ by less are as good as one.
const NEGLIGIBLE: Duration = Duration::from_millis(100);
/// An answer that takes longer says nothing.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Sets the clock now and then, for ever.
pub(crate) async fn keep(accounts: Arc<dyn Accounts>, clock: Clock, random: Random) {
    loop {
        tokio::time::sleep(random.jitter(EVERY)).await;
        set(&*accounts, &clock).await;
    }
}

/// Sets the clock to the time that is shared, if there is one and it is known.
pub(crate) async fn set(accounts: &dyn Accounts, clock: &Clock) {
    let asked = clock.monotonic();
    let time = match accounts.time().await {
        Ok(Some(time)) => time,
        Ok(None) => return,
        Err(error) => {
            tracing::debug!(%error, "the time of the database is not known now");
            return;
        }
    };
    let took = clock.monotonic().saturating_sub(asked);
    if took > ANSWER_MAX {
        return;
    }
    // The answer was made somewhere between the question and now.
    let off_by = time.plus(took / 2).as_millis().saturating_sub(clock.now().as_millis());
    if off_by.unsigned_abs() > (NEGLIGIBLE + took).as_millis() as u64 {
        tracing::warn!(
            milliseconds = off_by,
            "the clock of this machine is not that of the database, which counts"
        );
        clock.correct(off_by);
    }
}
