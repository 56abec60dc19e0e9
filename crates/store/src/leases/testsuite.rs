//! What every adapter of the port must do.

use super::*;

/// Longer than anything here may take.
const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(50);
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) async fn one_holds_a_lease_at_a_time(leases: &dyn Leases) {
    let first = leases.take("relay", LONG).await.unwrap().unwrap();
    assert_eq!((first.name.as_str(), first.note.as_deref()), ("relay", None));
    assert_eq!(leases.take("relay", LONG).await.unwrap(), None);
    let other = leases.take("backfill", LONG).await.unwrap().unwrap();
    assert!(leases.keep(&first, Some("7")).await.unwrap());
    assert!(leases.keep(&first, None).await.unwrap());
    leases.give_up(&first).await.unwrap();
    assert!(!leases.keep(&first, Some("8")).await.unwrap(), "it was given up");

    let second = leases.take("relay", LONG).await.unwrap().unwrap();
    assert!(second.term > first.term);
    assert_eq!(second.note.as_deref(), Some("7"));
    // Who held it before changes nothing.
    assert!(!leases.keep(&first, Some("6")).await.unwrap());
    leases.give_up(&first).await.unwrap();
    assert!(leases.keep(&second, None).await.unwrap());
    leases.give_up(&second).await.unwrap();
    let third = leases.take("relay", LONG).await.unwrap().unwrap();
    assert_eq!(third.note.as_deref(), Some("7"));
    assert!(leases.keep(&other, Some("x")).await.unwrap());
}

pub(crate) async fn who_is_late_holds_it_no_longer_and_notes_nothing(leases: &dyn Leases) {
    let late = leases.take("relay", SHORT).await.unwrap().unwrap();
    let taken = async {
        loop {
            if let Some(lease) = leases.take("relay", LONG).await.unwrap() {
                break lease;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let next = tokio::time::timeout(DEADLINE, taken).await.unwrap();
    assert!(!leases.keep(&late, Some("late")).await.unwrap());
    leases.give_up(&late).await.unwrap();
    assert!(leases.keep(&next, None).await.unwrap());
    assert_eq!(next.note, None);
}
