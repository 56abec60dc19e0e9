//! What is told of commits, for metrics.

use std::sync::{Arc, Mutex};

use tertulia_protocol::Timestamp;

use super::database::{Database, options};
use crate::Store;
use crate::postgres::{Postgres, PostgresOptions};
use crate::testsuite::world::{ANA, convo, create_group, mark, send};

const NOW: Timestamp = Timestamp::from_millis(1_795_563_466_000);

#[tokio::test]
async fn of_each_commit_is_told_how_many_were_decided_together() {
    let database = Database::new().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let on_append: crate::AppendObserver = Arc::new(move |stats| told.lock().unwrap().push(stats.intents));
    let options = PostgresOptions { on_append: Some(on_append), ..options() };
    let store = Postgres::open(&database.url(), &options).await.unwrap();
    let tea = convo(1);
    for intents in [
        vec![create_group(tea, &[ANA], Default::default())],
        (1..=3).map(|number| send(tea, ANA, number, "x")).collect(),
        // Nothing moves.
        vec![mark(tea, ANA, 1, 1)],
    ] {
        store.append(intents, NOW).await.unwrap();
    }
    assert_eq!(*seen.lock().unwrap(), [1, 3]);
}
