//! The horizon: late, never wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tertulia_domain::log::{Commit, Intent, Outcome};
use tertulia_protocol::Timestamp;

use super::database::{Database, connect, options};
use crate::Store;
use crate::postgres::Postgres;
use crate::postgres::types::RowExt as _;
use crate::testsuite::world::{ANA, BO, convo, create_group, send};

const NOW: Timestamp = Timestamp::from_millis(1_795_563_466_000);

async fn commit(store: &Arc<Postgres>, intent: Intent) -> Commit {
    let batch = store.append(vec![intent], NOW).await.unwrap();
    assert!(matches!(batch.outcomes[..], [Outcome::Appended { .. }]), "{batch:?}");
    batch.commit.unwrap()
}

/// Waits until the horizon has passed a commit.
async fn passed(store: &Arc<Postgres>, commit: Commit) {
    let waiting = async {
        while !store.horizon().await.unwrap().has(commit) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), waiting).await.expect("it does not pass");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_stays_open_holds_it_until_its_end() {
    let database = Database::new().await;
    let store = Postgres::open(&database.url(), &options()).await.unwrap();
    commit(&store, create_group(convo(1), &[ANA], Default::default())).await;
    let stalled = connect(&database.url()).await;
    stalled.run("BEGIN").await.unwrap();
    let number = "SELECT pg_current_xact_id()::text::bigint";
    let number = stalled.row(number, &[]).await.unwrap().unwrap().count(0).unwrap();
    for round in 1..20 {
        let told = commit(&store, send(convo(1), ANA, round, "x")).await;
        let horizon = store.horizon().await.unwrap().of_part(0);
        assert!(
            horizon.get() <= number && horizon < told,
            "{horizon:?} went past {number}, which may still commit"
        );
    }
    stalled.run("ROLLBACK").await.unwrap();
    let told = commit(&store, send(convo(1), ANA, 20, "x")).await;
    passed(&store, told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_conversation_does_not_hold_it() {
    let database = Database::new().await;
    let store = Postgres::open(&database.url(), &options()).await.unwrap();
    // Of two lanes.
    let (one, other) = (convo(1), convo(2));
    assert_ne!(store.lane_of(one), store.lane_of(other));
    for convo in [one, other] {
        commit(&store, create_group(convo, &[ANA], Default::default())).await;
    }
    // As a node that was stopped between its lock and its commit.
    let stopped = connect(&database.url()).await;
    stopped.run("BEGIN").await.unwrap();
    let key = crate::postgres::lane::lock(one);
    stopped.rows("SELECT count(pg_advisory_xact_lock($1))", &[&key]).await.unwrap();
    let waits = tokio::spawn({
        let store = Arc::clone(&store);
        async move { commit(&store, send(one, ANA, 1, "x")).await }
    });
    let queued = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let session = connect(&database.url()).await;
    while session.row(queued, &[]).await.unwrap().unwrap().count(0).unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    for round in 1..5 {
        let told = commit(&store, send(other, ANA, round, "x")).await;
        passed(&store, told).await;
    }
    stopped.run("ROLLBACK").await.unwrap();
    passed(&store, waits.await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_comes_below_it_while_many_write() {
    let database = Database::new().await;
    let mut writers = tokio::task::JoinSet::new();
    let done = Arc::new(AtomicBool::new(false));
    let mut stores = Vec::new();
    for node in 0..2_u16 {
        let store = Postgres::open(&database.url(), &options()).await.unwrap();
        for number in 1..=4 {
            let convo = convo(node * 100 + number);
            commit(&store, create_group(convo, &[ANA, BO], Default::default())).await;
            let store = Arc::clone(&store);
            writers.spawn(async move {
                for round in 1..=60 {
                    commit(&store, send(convo, ANA, round, "x")).await;
                }
            });
        }
        stores.push(store);
    }
    // Transactions that get a number early and end late, or not at all.
    for end in ["COMMIT", "ROLLBACK"] {
        let (session, done) = (connect(&database.url()).await, Arc::clone(&done));
        writers.spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let work = format!("BEGIN; SELECT pg_current_xact_id(); SELECT pg_sleep(0.005); {end}");
                session.run(&work).await.unwrap();
            }
        });
    }
    let count = "SELECT count(*) FROM messages WHERE commit_no < $1";
    let session = connect(&database.url()).await;
    let below = async |horizon: Commit| -> u64 {
        let number = i64::try_from(horizon.get()).unwrap();
        session.row(count, &[&number]).await.unwrap().unwrap().count(0).unwrap()
    };
    let (mut looks, mut last) = (Vec::new(), Commit::default());
    while writers.len() > 2 {
        let horizon = stores[looks.len() % 2].horizon().await.unwrap().of_part(0);
        assert!(horizon >= last, "it went back");
        last = horizon;
        looks.push((horizon, below(horizon).await));
        while let Some(ended) = writers.try_join_next() {
            ended.unwrap();
        }
    }
    done.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    assert!(looks.len() > 10, "only {} looks", looks.len());
    for (horizon, found) in looks {
        assert_eq!(below(horizon).await, found, "something came below {horizon:?} after it was told");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_that_was_restored_counts_on_above_what_it_brought_along() {
    let database = Database::new().await;
    let store = Postgres::open(&database.url(), &options()).await.unwrap();
    commit(&store, create_group(convo(1), &[ANA], Default::default())).await;
    let position = store.position(store.horizon().await.unwrap());
    store.close().await;
    // Restored, it lies in another server, whose transactions have lower numbers.
    let session = connect(&database.url()).await;
    let lift = "UPDATE lineage SET system = 1; UPDATE conversations SET last_commit = last_commit + 1000000;
        UPDATE messages SET commit_no = commit_no + 1000000";
    session.run(lift).await.unwrap();
    let newest = "SELECT max(last_commit) FROM conversations";
    let newest = Commit::new(session.row(newest, &[]).await.unwrap().unwrap().count(0).unwrap());
    let store = Postgres::open(&database.url(), &options()).await.unwrap();
    assert!(store.horizon().await.unwrap().has(newest));
    assert_eq!(store.parse_position(&position).await.unwrap(), None);
    let told = commit(&store, send(convo(1), ANA, 1, "x")).await;
    assert!(told > newest);
    passed(&store, told).await;
    let page = store.entries(convo(1), tertulia_protocol::Seq::new(1), 10).await.unwrap();
    assert!(page.is_sorted_by_key(|&(_, commit)| commit), "{page:?}");
}
