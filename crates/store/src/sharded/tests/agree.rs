//! Which servers are one store.

use crate::postgres::tests::database::{Database, SECOND, SHARED, connect, options};
use crate::postgres::{OpenError, servers::NotOneStore, servers::agree};

async fn refused(urls: &[&String]) -> NotOneStore {
    let urls: Vec<_> = urls.iter().map(|url| (*url).clone()).collect();
    match agree(&urls, &options()).await {
        Err(OpenError::NotOneStore(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_the_same_in_whatever_order_its_servers_are_named_and_no_other_is_it() {
    let [a, b] = [Database::at(&SECOND).await, Database::at(&SHARED).await];
    let (one, other) = (a.url(), b.url());
    let places = vec![one.clone(), other.clone()];
    for named in [[&one, &other], [&other, &one], [&one, &other]] {
        assert_eq!(
            agree(&named.map(Clone::clone), &options()).await.unwrap(),
            places,
            "the first stays the first"
        );
    }
    let stranger = Database::at(&SHARED).await.url();
    assert_eq!(refused(&[&one]).await, NotOneStore::OtherCount { given: 1, made_with: 2 });
    assert_eq!(refused(&[&one, &stranger]).await, NotOneStore::Stranger(2));
    assert_eq!(refused(&[&stranger, &other]).await, NotOneStore::Stranger(1));
    assert_eq!(refused(&[&one, &other, &stranger]).await, NotOneStore::OtherCount { given: 3, made_with: 2 });
    assert_eq!(refused(&[&one, &one]).await, NotOneStore::Same(1, 2));
    assert_eq!(refused(&[]).await, NotOneStore::Count(0));
    agree(std::slice::from_ref(&stranger), &options()).await.unwrap();
    assert_eq!(refused(&[&stranger, &one]).await, NotOneStore::OtherCount { given: 2, made_with: 1 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_begins_at_the_same_time_finds_the_same_store() {
    let databases = [Database::at(&SECOND).await, Database::at(&SHARED).await];
    let urls = databases.each_ref().map(Database::url);
    let nodes = (0..4).map(async |node| {
        let mut urls = urls.clone();
        urls.rotate_left(node % 2);
        agree(&urls, &options()).await.unwrap()
    });
    let found = futures_util::future::join_all(nodes).await;
    assert!(found.iter().all(|places| *places == found[0]), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_used_by_itself_is_no_part_of_a_new_store() {
    let databases = [Database::at(&SECOND).await, Database::at(&SHARED).await];
    let urls = databases.each_ref().map(Database::url);
    let user = "INSERT INTO users VALUES (gen_random_uuid(), 'ana', '', '', '', '', false, false, 0, NULL)";
    connect(&urls[1]).await.run(user).await.unwrap();
    assert_eq!(refused(&[&urls[0], &urls[1]]).await, NotOneStore::HasData(2));
    // By itself it goes on, and the other one is as good as new.
    agree(&urls[1..], &options()).await.unwrap();
    agree(&urls[..1], &options()).await.unwrap();
}
