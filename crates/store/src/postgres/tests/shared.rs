//! What the nodes share beside the logs.

use super::database::{Database, options};
use crate::dead_letters::{self, DeadLetters as _};
use crate::leases;
use crate::postgres::{PostgresDeadLetters, PostgresLeases};

async fn leases(database: &Database) -> PostgresLeases {
    PostgresLeases::open(&database.url(), &options(), "a node".to_owned()).await.unwrap()
}

async fn letters(database: &Database) -> PostgresDeadLetters {
    PostgresDeadLetters::open(&database.url(), &options()).await.unwrap()
}

#[tokio::test]
async fn one_holds_a_lease_at_a_time() {
    let database = Database::new().await;
    leases::testsuite::one_holds_a_lease_at_a_time(&leases(&database).await).await;
}

#[tokio::test]
async fn who_is_late_holds_it_no_longer_and_notes_nothing() {
    let database = Database::new().await;
    leases::testsuite::who_is_late_holds_it_no_longer_and_notes_nothing(&leases(&database).await).await;
}

#[tokio::test]
async fn an_entry_is_laid_with_the_dead_letters_once_and_goes_when_it_was_taken() {
    let database = Database::new().await;
    let (letters, command) = (letters(&database).await, letters(&database).await);
    dead_letters::testsuite::an_entry_is_laid_here_once_and_goes_when_it_was_taken(&letters, &command).await;
}

#[tokio::test]
async fn a_dead_letter_that_is_asked_for_is_given_to_one_node() {
    use tertulia_protocol::{ConvoId, Seq, Timestamp};
    let database = Database::new().await;
    let (one, other) = (letters(&database).await, letters(&database).await);
    for seq in 1..=3 {
        let convo = ConvoId::from_bytes([7; 16]);
        one.put("search", convo, Seq::new(seq), "odd\0", Timestamp::from_millis(1)).await.unwrap();
    }
    one.ask_again(None).await.unwrap();
    assert_eq!(one.asked("search", 2).await.unwrap().len(), 2);
    assert_eq!(other.asked("search", 2).await.unwrap().len(), 1);
    assert_eq!(other.asked("search", 2).await.unwrap(), []);
}

#[tokio::test]
async fn where_no_node_was_are_no_dead_letters() {
    let database = Database::new().await;
    let open = async || PostgresDeadLetters::open_existing(&database.url(), &options()).await.unwrap();
    assert!(open().await.is_some());
    super::database::connect(&database.url()).await.run("DROP TABLE dead_letters").await.unwrap();
    assert!(open().await.is_none());
    super::database::connect(&database.url())
        .await
        .run("DROP TABLE leases; DELETE FROM migrations WHERE number = 4")
        .await
        .unwrap();
    letters(&database).await;
}
