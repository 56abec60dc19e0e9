//! What the other nodes were told of: the barrier waits for it, and of a dead node somebody else tells it.

use std::sync::Arc;
use std::time::Duration;

use tertulia_domain::log::{Commit, Intent, Position};
use tertulia_protocol::{ConvoId, Timestamp};

use super::database::{Database, connect, options};
use crate::postgres::Postgres;
use crate::postgres::types::RowExt as _;
use crate::testsuite::world::{ANA, BO, convo, create_group, mark, send, seq};
use crate::{Leftover, Store, Touched};

const NOW: Timestamp = Timestamp::from_millis(1_795_563_466_000);
const DEADLINE: Duration = Duration::from_secs(60);

async fn commit(store: &Arc<Postgres>, intents: Vec<Intent>) -> Commit {
    store.append(intents, NOW).await.unwrap().commit.unwrap()
}

fn tell(store: &Arc<Postgres>, convo: ConvoId, commit: Commit) {
    store.published(store.lane_of(convo), commit);
}

async fn horizon_beyond(store: &Arc<Postgres>, commit: Commit) {
    let beyond = async { while !store.horizon().await.unwrap().has(commit) {} };
    tokio::time::timeout(DEADLINE, beyond).await.expect("the horizon does not pass it");
}

async fn barrier_beyond(store: &Arc<Postgres>, commit: Commit) {
    let beyond = async { while !store.barrier_horizon().await.unwrap().has(commit) {} };
    tokio::time::timeout(DEADLINE, beyond).await.expect("the barrier does not pass it");
}

async fn leftovers(store: &Arc<Postgres>) -> Vec<Leftover> {
    store.unpublished(Duration::ZERO, 100).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_barrier_waits_until_the_other_nodes_are_told() {
    let database = Database::new().await;
    let store = Postgres::open(&database.url(), &options()).await.unwrap();
    let first = commit(&store, vec![create_group(convo(1), &[ANA, BO], Default::default())]).await;
    let second = commit(&store, vec![send(convo(1), ANA, 1, "1")]).await;
    horizon_beyond(&store, second).await;
    assert_eq!(store.barrier_horizon().await.unwrap(), Position::before(first));
    tell(&store, convo(1), first);
    barrier_beyond(&store, first).await;
    assert_eq!(store.barrier_horizon().await.unwrap(), Position::before(second));
    // Along with the next append, which is itself one that waits.
    tell(&store, convo(1), second);
    let third = commit(&store, vec![send(convo(1), ANA, 2, "2")]).await;
    horizon_beyond(&store, third).await;
    barrier_beyond(&store, second).await;
    assert_eq!(store.barrier_horizon().await.unwrap(), Position::before(third));
    tell(&store, convo(1), third);
    barrier_beyond(&store, third).await;
    assert_eq!(leftovers(&store).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_node_did_not_tell_another_finds_and_tells() {
    let database = Database::new().await;
    let dead = Postgres::open(&database.url(), &options()).await.unwrap();
    let created = commit(&dead, vec![create_group(convo(1), &[ANA, BO], Default::default())]).await;
    tell(&dead, convo(1), created);
    let sent = commit(&dead, vec![send(convo(1), ANA, 1, "1"), send(convo(1), ANA, 2, "2")]).await;
    let marked = commit(&dead, vec![mark(convo(1), BO, 0, 3)]).await;
    drop(dead);

    let alive = Postgres::open(&database.url(), &options()).await.unwrap();
    let own = commit(&alive, vec![send(convo(1), BO, 1, "3")]).await;
    tell(&alive, convo(1), own);
    horizon_beyond(&alive, own).await;
    // Its own word is no other's.
    assert_eq!(alive.barrier_horizon().await.unwrap(), Position::before(sent));
    let found: Vec<_> = leftovers(&alive).await;
    let touched = |first, last| vec![Touched { convo: convo(1), first: seq(first), last: seq(last) }];
    let of_dead: Vec<_> = found.iter().filter(|left| left.commit < own).collect();
    assert_eq!(
        of_dead.iter().map(|left| (left.commit, left.touched.clone())).collect::<Vec<_>>(),
        [(sent, touched(2, 3)), (marked, touched(4, 3))]
    );
    alive.take_over(&found).await.unwrap();
    barrier_beyond(&alive, own).await;
    assert_eq!(leftovers(&alive).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_over_before_its_time() {
    let database = Database::new().await;
    let store = Postgres::open(&database.url(), &options()).await.unwrap();
    commit(&store, vec![create_group(convo(1), &[ANA, BO], Default::default())]).await;
    assert_eq!(store.unpublished(Duration::from_secs(3_600), 100).await.unwrap(), []);
    assert_eq!(leftovers(&store).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_nobody_used_for_long_goes_and_one_that_was_only_silent_comes_again() {
    let database = Database::new().await;
    let silent = Postgres::open(&database.url(), &options()).await.unwrap();
    let created = commit(&silent, vec![create_group(convo(1), &[ANA, BO], Default::default())]).await;
    tell(&silent, convo(1), created);
    barrier_beyond(&silent, created).await;
    let session = connect(&database.url()).await;
    session.run("UPDATE published SET at = at - interval '2 days'").await.unwrap();
    // Another comes, and takes a number.
    let other = Postgres::open(&database.url(), &options()).await.unwrap();
    let sent = commit(&other, vec![send(convo(1), BO, 1, "1")]).await;
    tell(&other, convo(1), sent);
    barrier_beyond(&other, sent).await;
    let count = "SELECT count(*) FROM published";
    assert_eq!(session.row(count, &[]).await.unwrap().unwrap().count(0).unwrap(), 1);
    let sent = commit(&silent, vec![send(convo(1), ANA, 1, "2")]).await;
    horizon_beyond(&silent, sent).await;
    assert_eq!(silent.barrier_horizon().await.unwrap(), Position::before(sent));
    tell(&silent, convo(1), sent);
    barrier_beyond(&silent, sent).await;
}
