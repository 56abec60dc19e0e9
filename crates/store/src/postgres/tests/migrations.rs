//! Migrations: applied once, by whoever comes first, and never over what a newer program made.

use super::database::{Database, connect};
use crate::postgres::connect::Session;
use crate::postgres::error::OpenError;
use crate::postgres::migrate::{MIGRATIONS, Migration, migrate};

const ONE: Migration = Migration { name: "one", sql: "CREATE TABLE one (x int)", breaks: true };
const TWO: Migration = Migration { name: "two", sql: "CREATE TABLE two (x int)", breaks: false };
const THREE: Migration = Migration { name: "three", sql: "DROP TABLE one", breaks: true };
const OLD: &[Migration] = &[ONE];
const EXPANDED: &[Migration] = &[ONE, TWO];
const CONTRACTED: &[Migration] = &[ONE, TWO, THREE];
const EDITED: &[Migration] = &[Migration { sql: "CREATE TABLE one (x int, y int)", ..ONE }];

/// A database without any tables.
async fn empty(database: &Database) -> Session {
    let session = connect(&database.url()).await;
    session.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await.unwrap();
    session
}

#[tokio::test]
async fn of_several_who_come_at_once_one_migrates_and_the_others_find_it_done() {
    let database = Database::new().await;
    empty(&database).await;
    let come = async || {
        let session = connect(&database.url()).await;
        migrate(&session, CONTRACTED).await.unwrap();
        migrate(&session, CONTRACTED).await.unwrap();
    };
    tokio::join!(come(), come(), come(), come());
}

#[tokio::test]
async fn an_older_program_goes_on_after_a_newer_one_has_added_and_not_after_it_took_away() {
    let database = Database::new().await;
    let session = empty(&database).await;
    migrate(&session, OLD).await.unwrap();
    migrate(&session, EXPANDED).await.unwrap();
    migrate(&session, OLD).await.unwrap();
    migrate(&session, CONTRACTED).await.unwrap();
    let refused = migrate(&session, OLD).await.unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found: 3, known: 1 }), "{refused}");
}

#[tokio::test]
async fn a_migration_that_was_edited_after_it_was_applied_is_refused() {
    let database = Database::new().await;
    let session = empty(&database).await;
    migrate(&session, OLD).await.unwrap();
    let refused = migrate(&session, EDITED).await.unwrap_err();
    assert!(matches!(refused, OpenError::Edited { number: 1, .. }), "{refused}");
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing_and_can_be_done_again() {
    const BROKEN: &[Migration] =
        &[ONE, Migration { name: "two", sql: "CREATE TABLE two (x int); SELECT 1 / 0", breaks: false }];
    let database = Database::new().await;
    let session = empty(&database).await;
    migrate(&session, BROKEN).await.unwrap_err();
    migrate(&session, EXPANDED).await.unwrap();
}

#[tokio::test]
async fn the_migrations_make_what_the_template_has() {
    let database = Database::new().await;
    let session = empty(&database).await;
    migrate(&session, MIGRATIONS).await.unwrap();
}
