//! What goes wrong between a node and PostgreSQL, each with a server of the test's own.

use std::sync::Arc;
use std::time::Duration;

use tertulia_domain::log::{Intent, Outcome};
use tertulia_protocol::Timestamp;
use tertulia_services::{Fault, Kind, Proxy, Server};

use super::database::{connect, options};
use crate::postgres::connect::Connector;
use crate::postgres::pool::Pool;
use crate::postgres::types::RowExt as _;
use crate::postgres::{Postgres, PostgresOptions};
use crate::testsuite::world::{ANA, BO, convo, create_group, mark, rename, send, seq};
use crate::{Slice, Store, StoreError};

const NOW: Timestamp = Timestamp::from_millis(1_795_563_466_000);
/// How long a test waits for what comes by itself.
const DEADLINE: Duration = Duration::from_secs(60);

/// A server, a way to it, and a store at the end of that.
struct World {
    server: Server,
    proxy: Proxy,
    store: Arc<Postgres>,
    options: PostgresOptions,
}

impl World {
    /// With a group of Ana and Bo in which she has said something.
    async fn new() -> Self {
        let server = Server::temporary(Kind::Postgres).unwrap();
        let proxy = Proxy::to(server.address()).unwrap();
        let options = PostgresOptions { statement_max: Duration::from_secs(1), ..options() };
        let store = Postgres::open(&url(&proxy), &options).await.unwrap();
        let world = Self { server, proxy, store, options };
        world.append(create_group(convo(1), &[ANA, BO], Default::default())).await.unwrap();
        world.append(send(convo(1), ANA, 1, "1")).await.unwrap();
        world
    }

    async fn append(&self, intent: Intent) -> Result<Outcome, StoreError> {
        Ok(self.store.append(vec![intent], NOW).await?.outcomes.remove(0))
    }

    /// The same again and again, as one who was told to, until it is answered.
    async fn at_last<T>(&self, ask: impl AsyncFn() -> Result<T, StoreError>) -> T {
        let at_last = async {
            loop {
                match ask().await {
                    Ok(answer) => return answer,
                    Err(StoreError::Unavailable { retry_after, .. }) => tokio::time::sleep(retry_after).await,
                    Err(other) => panic!("{other}"),
                }
            }
        };
        tokio::time::timeout(DEADLINE, at_last).await.expect("it does not come back")
    }

    async fn append_at_last(&self, intent: Intent) -> Outcome {
        self.at_last(async || self.append(intent.clone()).await).await
    }

    /// The bodies of the group's messages, in their order.
    async fn bodies(&self) -> Vec<String> {
        let read = async || self.store.history(BO, convo(1), Slice::After(seq(1)), 1_000).await;
        let page = self.at_last(read).await.unwrap();
        let body = |entry: &tertulia_protocol::Entry| match &entry.kind {
            tertulia_protocol::EntryKind::Text { body, .. } => body.clone(),
            other => format!("{other:?}"),
        };
        let seqs: Vec<_> = page.entries.iter().map(|(entry, _)| entry.seq.get()).collect();
        assert_eq!(seqs, (2..2 + seqs.len() as u64).collect::<Vec<_>>());
        page.entries.iter().map(|(entry, _)| body(entry)).collect()
    }
}

fn url(proxy: &Proxy) -> String {
    Kind::Postgres.url(proxy.address().port())
}

fn is_unavailable(result: &Result<Outcome, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable { .. }))
}

/// Calls it while the server's answer is lost on the way.
async fn answer_lost(world: &World, intent: Intent) -> Result<Outcome, StoreError> {
    world.proxy.set(Fault::AnswersLost);
    let cut = async {
        tokio::task::block_in_place(|| world.proxy.wait_for_lost());
        world.proxy.set(Fault::None);
        world.proxy.cut();
    };
    let (result, ()) = tokio::join!(biased; world.append(intent), cut);
    result
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_answer_was_lost_is_a_duplicate_when_it_comes_again() {
    let world = World::new().await;
    let lost = answer_lost(&world, send(convo(1), ANA, 2, "2")).await;
    assert!(is_unavailable(&lost), "{lost:?}");
    let again = world.append_at_last(send(convo(1), ANA, 2, "2")).await;
    assert!(matches!(&again, Outcome::Duplicate(entry) if entry.seq == seq(3)), "{again:?}");
    assert_eq!(world.bodies().await, ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_whose_answer_was_lost_changes_nothing_when_it_comes_again() {
    let world = World::new().await;
    let lost = answer_lost(&world, mark(convo(1), BO, 0, 2)).await;
    assert!(is_unavailable(&lost), "{lost:?}");
    assert_eq!(world.append_at_last(mark(convo(1), BO, 0, 2)).await, Outcome::Unchanged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_answer_was_lost_is_there_once() {
    let world = World::new().await;
    let lost = answer_lost(&world, rename(convo(1), ANA, "tea")).await;
    assert!(is_unavailable(&lost), "{lost:?}");
    // It goes out in two round trips: what was lost may have been the answer to the first.
    let again = world.append_at_last(rename(convo(1), ANA, "tea")).await;
    assert!(matches!(again, Outcome::Unchanged | Outcome::Appended { .. }), "{again:?}");
    assert_eq!(world.bodies().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_killed_has_all_that_was_acked_and_everything_goes_on_by_itself() {
    let mut world = World::new().await;
    let before = world.store.horizon().await.unwrap();
    let position = world.store.position(before);
    for round in 0..3_u64 {
        world.append_at_last(send(convo(1), ANA, 10 * round + 2, "acked")).await;
        world.server.kill().unwrap();
        let refused = world.append(send(convo(1), ANA, 10 * round + 3, "in vain")).await;
        assert!(is_unavailable(&refused), "{refused:?}");
        let refused = world.store.heads(ANA).await;
        assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
        world.server.restart().unwrap();
        world.append_at_last(send(convo(1), BO, 10 * round + 4, "again")).await;
    }
    assert_eq!(world.bodies().await, ["1", "acked", "again", "acked", "again", "acked", "again"]);
    // A position outlives the server's restart.
    assert_eq!(world.store.parse_position(&position).await.unwrap(), Some(before));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_paused_server_was_asked_is_unavailable_and_stored_at_most_once() {
    let world = World::new().await;
    world.server.pause().unwrap();
    let refused = world.append(send(convo(1), ANA, 2, "2")).await;
    assert!(is_unavailable(&refused), "{refused:?}");
    let refused = world.store.conversation(ANA, convo(1)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    world.server.resume().unwrap();
    world.append_at_last(send(convo(1), ANA, 2, "2")).await;
    world.append_at_last(send(convo(1), ANA, 3, "3")).await;
    assert_eq!(world.bodies().await, ["1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_connect_is_refused_at_once_and_comes_in_later() {
    let world = World::new().await;
    world.proxy.set(Fault::Refused);
    world.proxy.cut();
    for number in 2..20 {
        let refused = world.append(send(convo(1), ANA, number, "in vain")).await;
        assert!(is_unavailable(&refused), "{refused:?}");
    }
    world.proxy.set(Fault::None);
    world.append_at_last(send(convo(1), ANA, 20, "2")).await;
    assert_eq!(world.bodies().await, ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_does_not_know_positions_of_its_lost_future() {
    let mut world = World::new().await;
    let early = world.store.position(world.store.horizon().await.unwrap());
    world.server.restart().unwrap();
    world.append_at_last(send(convo(1), ANA, 2, "2")).await;
    let late = world.store.position(world.store.horizon().await.unwrap());
    assert!(world.store.parse_position(&late).await.unwrap().is_some());
    // As a backup from before the restart would have it, started anew.
    let session = connect(&url(&world.proxy)).await;
    session.run("DELETE FROM epochs WHERE number = (SELECT max(number) FROM epochs)").await.unwrap();
    let restored = Postgres::open(&url(&world.proxy), &world.options).await.unwrap();
    assert!(restored.parse_position(&early).await.unwrap().is_some());
    assert_eq!(restored.parse_position(&late).await.unwrap(), None);
}

/// A store on a primary and a standby that has all that is acknowledged, and what has become of the primary.
async fn failover(what_happens: impl FnOnce(&mut Server)) {
    let mut primary = Server::temporary(Kind::Postgres).unwrap();
    let standby = primary.standby().unwrap();
    let (here, there) = (primary.address(), standby.address());
    let address = format!("postgres://postgres@{here},{there}/postgres");
    let limits = PostgresOptions {
        statement_max: Duration::from_secs(1),
        connect_max: Duration::from_secs(1),
        ..options()
    };
    let store = Postgres::open(&address, &limits).await.unwrap();
    let proxy = Proxy::to(there).unwrap();
    let mut world = World { server: standby, proxy, store, options: limits };
    world.append_at_last(create_group(convo(1), &[ANA, BO], Default::default())).await;
    for number in 1..=3 {
        world.append_at_last(send(convo(1), ANA, number, "acked")).await;
    }
    let before = world.store.horizon().await.unwrap();
    let position = world.store.position(before);

    what_happens(&mut primary);
    let refused = world.append(send(convo(1), ANA, 4, "while there is none")).await;
    assert!(is_unavailable(&refused), "{refused:?}");
    tokio::task::block_in_place(|| world.server.promote().unwrap());
    let again = world.append_at_last(send(convo(1), ANA, 3, "acked")).await;
    assert!(matches!(&again, Outcome::Duplicate(entry) if entry.seq == seq(4)), "{again:?}");
    world.append_at_last(send(convo(1), BO, 1, "after")).await;
    assert_eq!(world.bodies().await, ["acked", "acked", "acked", "after"]);
    // Who resumes from before is told what has come since.
    let known = world.store.parse_position(&position).await.unwrap().expect("the position is known");
    let missed = world.at_last(async || world.store.missed(BO, known, 100).await).await;
    let pages = missed.pages.iter().flat_map(|(_, page)| &page.entries);
    assert!(pages.map(|(entry, _)| entry.seq).any(|missed| missed == seq(5)), "{missed:?}");
    world.server.kill().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_everything_acked_is_there_and_goes_on() {
    failover(|primary| primary.kill().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_does_not_answer_hides_no_other() {
    failover(|primary| primary.pause().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_in_the_middle_of_a_transaction_leaves_nothing_of_it_to_the_next() {
    let world = World::new().await;
    let pool = Pool::new(
        Arc::new(Connector::new(&url(&world.proxy), &world.options).unwrap()),
        1,
        world.options.wait_max,
    );
    let lent = pool.lend().await.unwrap();
    lent.run("BEGIN; CREATE TABLE half_done (x int)").await.unwrap();
    drop(lent);
    let found = pool.row("SELECT to_regclass('half_done') IS NULL", &[]).await.unwrap().unwrap();
    assert!(found.value::<bool>(0).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_which_its_node_knows_nothing_is_left_for_others_to_tell() {
    let world = World::new().await;
    let lane = world.store.lane_of(convo(1));
    let lost = answer_lost(&world, send(convo(1), ANA, 2, "2")).await;
    assert!(is_unavailable(&lost), "{lost:?}");
    world.append_at_last(send(convo(1), ANA, 3, "3")).await;
    // What it tells now stands for what it knows.
    let told = world.store.append(vec![send(convo(1), ANA, 4, "4")], NOW).await.unwrap().commit.unwrap();
    world.store.published(lane, told);
    world.append_at_last(send(convo(1), ANA, 5, "5")).await;
    let left = world.store.unpublished(Duration::ZERO, 100).await.unwrap();
    let places: Vec<_> =
        left.iter().flat_map(|left| &left.touched).map(|touched| (touched.first, touched.last)).collect();
    assert!(places.contains(&(seq(3), seq(3))), "{left:?}");
    assert!(!places.contains(&(seq(5), seq(5))), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_whole_or_not_there_wherever_the_connection_breaks() {
    let world = World::new().await;
    for round in 0..20_u16 {
        // On a connection that is there; it breaks a little later in each round.
        world.append_at_last(mark(convo(1), BO, 0, 1)).await;
        let who = crate::testsuite::world::user(100 + round);
        let add = Intent::AddMembers { convo: convo(1), by: ANA, users: vec![who] };
        let cut = async {
            tokio::time::sleep(Duration::from_micros(200 * u64::from(round))).await;
            world.proxy.cut();
        };
        let (first, ()) = tokio::join!(biased; world.append(add.clone()), cut);
        if first.is_err() {
            world.append_at_last(add).await;
        }
    }
    // Each entry has its member, and each member his entry.
    let members = world.at_last(async || world.store.members(ANA, convo(1), None, 200).await).await;
    let added = world.bodies().await.iter().filter(|body| body.contains("MemberAdded")).count();
    assert_eq!((members.unwrap().items.len(), added), (22, 20));
}
