//! What goes wrong with one of two servers, and what goes on all the same.

use std::sync::Arc;
use std::time::Duration;

use tertulia_domain::log::{Commit, Intent, Outcome, Position};
use tertulia_protocol::{ConvoId, Timestamp};
use tertulia_services::{Fault, Kind, Proxy, Server};

use super::open;
use crate::postgres::PostgresOptions;
use crate::postgres::tests::database::{Database, SECOND, SHARED, connect, options};
use crate::testsuite::world::{ANA, BO, convo, create_group, send};
use crate::{Sharded, Slice, Store, StoreError};

const NOW: Timestamp = Timestamp::from_millis(1_795_563_466_000);
/// How long a test waits for what comes by itself.
const DEADLINE: Duration = Duration::from_secs(60);

/// Two servers, the second one a test's own, to which there is a way that breaks.
struct World {
    server: Server,
    proxy: Proxy,
    first: Database,
    store: Arc<Sharded>,
    /// A conversation on each.
    convos: [ConvoId; 2],
}

impl World {
    async fn new() -> Self {
        let server = Server::temporary(Kind::Postgres).unwrap();
        let proxy = Proxy::to(server.address()).unwrap();
        let first = Database::at(&SHARED).await;
        let options = PostgresOptions { statement_max: Duration::from_secs(1), ..options() };
        let urls = [first.url(), Kind::Postgres.url(proxy.address().port())];
        let store = open(&urls, &options).await;
        let convos = convos(&store);
        for convo in convos {
            append(&store, create_group(convo, &[ANA, BO], Default::default())).await.unwrap();
        }
        Self { server, proxy, first, store, convos }
    }
}

/// A conversation of each part.
fn convos(store: &Sharded) -> [ConvoId; 2] {
    [0, 1].map(|part| (1..100).map(convo).find(|convo| store.part_of(*convo) == part).unwrap())
}

async fn append(store: &Sharded, intent: Intent) -> Result<Outcome, StoreError> {
    Ok(store.append(vec![intent], NOW).await?.outcomes.remove(0))
}

/// The number of an entry.
async fn commit(store: &Sharded, intent: Intent) -> Commit {
    store.append(vec![intent], NOW).await.unwrap().commit.unwrap()
}

/// Waits until it is so.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.expect("it does not come");
}

fn is_unavailable<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable { .. }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_server_is_away_the_conversations_of_the_other_go_on() {
    for fault in [Some(Fault::Stalled), Some(Fault::Refused), None] {
        let mut world = World::new().await;
        let [here, there] = world.convos;
        let before = world.store.ceiling().await.unwrap();
        match fault {
            Some(fault) => {
                world.proxy.set(fault);
                if fault == Fault::Refused {
                    world.proxy.cut();
                }
            }
            None => tokio::task::block_in_place(|| world.server.kill().unwrap()),
        }
        let store = &world.store;
        // What is of the conversation alone.
        let newest = commit(store, send(here, ANA, 1, "1")).await;
        assert!(is_unavailable(&append(store, send(there, ANA, 1, "1")).await));
        let page = store.history(BO, here, Slice::Newest, 10).await.unwrap().unwrap();
        assert_eq!(page.entries.last().map(|(_, commit)| *commit), Some(newest));
        store.conversation(ANA, here).await.unwrap().unwrap();
        assert_eq!(store.changes(BO, Position::default(), Some(here)).await.unwrap().len(), 1);
        // Positions of the part move, those of the other stay where they were.
        until(async || store.horizon().await.unwrap().has(newest)).await;
        assert!(store.horizon().await.unwrap().of_part(1) <= before.of_part(1));
        store.published(store.lane_of(here), newest);
        until(async || store.barrier_horizon().await.unwrap().has(newest)).await;
        // Who follows is told of them.
        let rows = store.journal(Position::default(), 100).await.unwrap().unwrap();
        assert!(rows.iter().all(|row| row.commit.part() == 0));
        assert_eq!(rows.last().map(|row| row.commit), Some(newest));
        let mut passed = before;
        passed.pass(newest);
        assert!(is_unavailable(&store.journal(passed, 100).await), "that there is no more nobody knows");
        // What has to be whole is not told.
        assert!(is_unavailable(&store.heads(ANA).await));
        assert!(is_unavailable(&store.inbox(ANA, None, 10).await));
        assert!(is_unavailable(&store.missed(ANA, before, 10).await));
        assert!(is_unavailable(&store.ceiling().await));
        // Back again, all is as if nothing had been.
        world.proxy.set(Fault::None);
        if fault.is_none() {
            tokio::task::block_in_place(|| world.server.restart().unwrap());
        }
        let store = &world.store;
        until(async || append(store, send(there, ANA, 1, "1")).await.is_ok()).await;
        until(async || store.heads(ANA).await.is_ok_and(|heads| heads.len() == 2)).await;
        let ceiling = store.ceiling().await.unwrap();
        until(async || store.horizon().await.is_ok_and(|horizon| horizon.covers(&ceiling))).await;
        drop(world.first);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_which_one_server_lost_the_answer_is_a_duplicate_when_it_comes_again() {
    let world = World::new().await;
    let batch = |number| world.convos.iter().map(|convo| send(*convo, ANA, number, "1")).collect::<Vec<_>>();
    // The first one also prepares.
    world.store.append(batch(1), NOW).await.unwrap();
    let batch = batch(2);
    world.proxy.set(Fault::AnswersLost);
    let cut = async {
        tokio::task::block_in_place(|| world.proxy.wait_for_lost());
        world.proxy.set(Fault::None);
        world.proxy.cut();
    };
    let (lost, ()) = tokio::join!(biased; world.store.append(batch.clone(), NOW), cut);
    assert!(is_unavailable(&lost));
    until(async || {
        let again = world.store.append(batch.clone(), NOW).await;
        again.is_ok_and(|again| {
            let is_again =
                |outcome: &Outcome| matches!(outcome, Outcome::Duplicate(entry) if entry.seq.get() == 3);
            assert!(again.outcomes.iter().all(is_again), "{again:?}");
            true
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_stays_open_holds_up_the_positions_of_its_server_alone() {
    let databases = [Database::at(&SHARED).await, Database::at(&SECOND).await];
    let store = open(&databases.each_ref().map(Database::url), &options()).await;
    let [here, there] = convos(&store);
    for convo in [here, there] {
        commit(&store, create_group(convo, &[ANA, BO], Default::default())).await;
    }
    let stalled = connect(&databases[1].url()).await;
    stalled.run("BEGIN").await.unwrap();
    stalled.rows("SELECT pg_current_xact_id()::text", &[]).await.unwrap();
    let held = commit(&store, send(there, ANA, 1, "x")).await;
    for number in 1..4 {
        let newest = commit(&store, send(here, ANA, number, "x")).await;
        until(async || store.horizon().await.unwrap().has(newest)).await;
        assert!(!store.horizon().await.unwrap().has(held));
    }
    // Who is told such a position, and comes back, misses nothing.
    let position = store.horizon().await.unwrap();
    let known = store.parse_position(&store.position(position)).await.unwrap();
    assert_eq!(known, Some(position));
    let changes = store.changes(BO, position, None).await.unwrap();
    assert_eq!(changes.len(), 1, "of the one that is held up: {changes:?}");
    stalled.run("ROLLBACK").await.unwrap();
    until(async || store.horizon().await.unwrap().has(held)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_of_another_set_of_servers_are_unknown() {
    let databases = [Database::at(&SHARED).await, Database::at(&SECOND).await];
    let store = open(&databases.each_ref().map(Database::url), &options()).await;
    let single = Database::at(&SHARED).await;
    let single = crate::postgres::Postgres::open(&single.url(), &options()).await.unwrap();
    let position = store.position(store.horizon().await.unwrap());
    let of_one = single.position(single.horizon().await.unwrap());
    assert!(store.parse_position(&position).await.unwrap().is_some());
    assert_eq!(single.parse_position(&position).await.unwrap(), None);
    let mut parts = position.splitn(3, '.').map(str::to_owned).collect::<Vec<_>>();
    let second = parts.pop().unwrap();
    let first = parts.join(".");
    for of_others in [
        of_one.clone(),
        format!("{of_one}.{of_one}"),
        format!("{first}.{of_one}"),
        format!("{of_one}.{second}"),
        format!("{second}.{first}"),
        format!("{position}.{of_one}"),
        first,
    ] {
        assert_eq!(store.parse_position(&of_others).await.unwrap(), None, "{of_others}");
    }
}
