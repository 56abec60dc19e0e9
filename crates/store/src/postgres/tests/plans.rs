//! No statement reads a whole table, whatever PostgreSQL thinks of how large that is.

use std::time::Duration;

use tertulia_domain::log::{Intent, Position};
use tertulia_protocol::Timestamp;

use super::database::{Database, connect, options};
use crate::postgres::Postgres;
use crate::postgres::types::RowExt as _;
use crate::testsuite::world::*;
use crate::{Slice, Store, Touched};

const NOW: Timestamp = Timestamp::from_millis(1_795_563_466_000);

/// Everything that the port can do, once or twice.
async fn everything(store: &Postgres) {
    let (tea, talk) = (convo(7), create_direct(ANA, BO).convo());
    let append = async |intents: Vec<Intent>| store.append(intents, NOW).await.unwrap();
    append(vec![create_group(tea, &[ANA, BO, CY], Default::default()), create_direct(ANA, BO)]).await;
    for number in 1..20 {
        append(vec![send(tea, ANA, number, "x"), send(talk, BO, number, "x"), mark(tea, BO, number, 0)])
            .await;
    }
    append(vec![send(tea, ANA, 3, "x"), rename(tea, ANA, "tea")]).await;
    append(vec![mark(tea, CY, 9, 4), set_own(tea, CY, Default::default())]).await;
    append(vec![Intent::RemoveMember { convo: tea, by: ANA, user: CY }]).await;
    append(vec![Intent::AddMembers { convo: tea, by: ANA, users: vec![DI] }]).await;
    append(vec![Intent::SetBlock { convo: talk, by: ANA, blocked: true }]).await;
    for user in [ANA, BO, CY, DI] {
        for slice in [Slice::Newest, Slice::After(seq(3)), Slice::Before(seq(9))] {
            store.history(user, tea, slice, 5).await.unwrap();
        }
        store.conversation(user, talk).await.unwrap();
        store.inbox(user, None, 10).await.unwrap();
        store.members(user, tea, None, 10).await.unwrap();
        store.message_receipts(user, tea, seq(4), None, 10).await.unwrap();
        store.heads(user).await.unwrap();
        store.changes(user, Position::default(), Some(tea)).await.unwrap();
        store.missed(user, store.horizon().await.unwrap(), 100).await.unwrap();
        store.missed(user, Position::default(), 100).await.unwrap();
        store.sharing(user, &[ANA, BO, CY, DI]).await.unwrap();
        store.visible_from(user, None).await.unwrap();
    }
    store.entries(tea, seq(2), 10).await.unwrap();
    let range = |convo, first, last| Touched { convo, first: seq(first), last: seq(last) };
    store.ranges(&[range(tea, 2, 9), range(talk, 1, 3)]).await.unwrap();
    store.member_changes(&[range(tea, 1, 30), range(talk, 1, 3)]).await.unwrap();
    store.journal(Position::default(), 100).await.unwrap();
    store.logs(None, 10).await.unwrap();
    store.barrier_horizon().await.unwrap();
    let leftovers = store.unpublished(Duration::ZERO, 100).await.unwrap();
    store.take_over(&leftovers).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_and_no_append_goes_through_a_whole_table() {
    let database = Database::new().await;
    // The first opening looks once for the newest commit of what a dump may have brought along.
    Postgres::open(&database.url(), &options()).await.unwrap().close().await;
    let session = connect(&database.url()).await;
    let counted = "SELECT relname::text, seq_scan FROM pg_stat_user_tables
        WHERE relname IN ('conversations', 'participants', 'messages', 'receipts', 'journal')";
    // Connections that end tell what they have counted.
    let count = async || {
        let alone = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        while session.row(alone, &[]).await.unwrap().unwrap().count(0).unwrap() > 0 {
            tokio::task::yield_now().await;
        }
        let mut scans = Vec::new();
        for row in session.rows(counted, &[]).await.unwrap() {
            scans.push((row.value::<String>(0).unwrap(), row.count(1).unwrap()));
        }
        scans.sort();
        scans
    };
    let before = count().await;
    assert_eq!(before.len(), 5);
    let store = Postgres::open(&database.url(), &options()).await.unwrap();
    everything(&store).await;
    store.close().await;
    drop(store);
    assert_eq!(count().await, before);
}
