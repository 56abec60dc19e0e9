//! The conformance suite of the port [`Accounts`]: what every adapter must do.
//!
//! An adapter implements [`AccountsUnderTest`] in its tests and says [`accounts_suite!`](crate::accounts_suite)
//! with that type; the suite runs in tokio's tests.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests, whose names say what they test")]

use std::collections::HashSet;
use std::time::Duration;

use tertulia_protocol::rest::{Audience, Privacy, PrivacyPatch, UserPatch};
use tertulia_protocol::{DeviceId, Timestamp, UserId};

use super::{
    Accounts, Creation, DEVICES_PER_USER_MAX, NewDevice, NewUser, Presented, Rotation, TokenHash, Tokens,
};
use crate::StoreError;

/// An adapter as the suite needs it.
#[expect(async_fn_in_trait, reason = "called in tests alone, where the type is known")]
pub trait AccountsUnderTest: Sized {
    /// A new one, empty, that shares nothing with others.
    async fn open() -> Self;
    /// Closes it, and opens it again on the same data.
    async fn reopen(self) -> Self;
    /// The port.
    fn accounts(&self) -> &dyn Accounts;
}

/// A `#[tokio::test]` for each rule of the port.
#[macro_export]
macro_rules! accounts_suite {
    ($adapter:ty) => {
        $crate::accounts_suite! { @ $adapter:
            the_signing_key_is_the_same_for_ever
            a_username_belongs_to_the_first_who_takes_it
            of_two_who_take_a_username_at_once_one_gets_it
            credentials_are_found_by_username
            a_password_hash_is_replaced_only_if_it_is_the_one_that_was_read
            users_and_privacies_give_those_who_exist
            a_patch_changes_what_it_has
            a_search_finds_beginnings_of_usernames_and_display_names
            a_search_folds_case_in_any_script
            a_changed_display_name_is_found_and_the_old_one_is_not
            pages_of_a_search_make_up_the_whole
            what_is_special_in_patterns_is_not_in_a_search
            a_garbage_cursor_is_refused
            an_access_token_says_whose_it_is_and_when_it_ends
            a_rotation_needs_the_newest_token_and_keeps_access_tokens
            a_device_keeps_its_newest_four_access_tokens
            a_used_refresh_token_removes_its_device
            of_two_rotations_with_one_token_one_is_a_reuse
            another_token_of_the_same_generation_is_a_reuse
            a_token_of_a_later_generation_is_unknown
            a_device_that_has_ended_does_not_rotate
            devices_are_listed_by_login_until_they_end
            the_lives_of_devices_are_told_of_those_that_are_there
            a_device_is_removed_by_its_user_alone
            a_new_device_takes_the_place_of_the_one_not_seen_for_longest
            a_device_of_nobody_is_not_added
            devices_that_have_ended_are_swept_a_few_at_a_time
            touches_move_only_forward
            a_block_holds_one_way_until_it_is_lifted
            a_block_needs_two_users
            everything_is_there_after_a_restart
            nothing_is_done_after_close
        }
    };
    (@ $adapter:ty: $($rule:ident)*) => {
        $(
            #[tokio::test]
            async fn $rule() {
                $crate::accounts::testsuite::$rule::<$adapter>().await;
            }
        )*
    };
}

const HOUR: Duration = Duration::from_secs(3_600);

fn start() -> Timestamp {
    Timestamp::from_millis(1_767_225_600_000)
}

fn user_id(number: u8) -> UserId {
    UserId::from_bytes([number; 16])
}

fn device_id(number: u8) -> DeviceId {
    DeviceId::from_bytes([number; 16])
}

fn hash(device: DeviceId, generation: u64, kind: u8) -> TokenHash {
    let mut bytes = [kind; 32];
    bytes[..16].copy_from_slice(device.as_bytes());
    bytes[16..24].copy_from_slice(&generation.to_be_bytes());
    TokenHash::new(bytes)
}

/// The pair of a generation, made at `now`: 15 minutes and 90 days.
fn tokens(device: DeviceId, generation: u64, now: Timestamp) -> Tokens {
    Tokens {
        access: hash(device, generation, b'a'),
        access_expires_at: now.plus(HOUR / 4),
        refresh: hash(device, generation, b'r'),
        generation,
        refresh_expires_at: now.plus(24 * 90 * HOUR),
    }
}

fn presented(device: DeviceId, generation: u64) -> Presented {
    Presented { device, generation, hash: hash(device, generation, b'r') }
}

fn new_device(id: DeviceId, user: UserId, created_at: Timestamp) -> NewDevice {
    let tokens = tokens(id, 1, created_at);
    NewDevice { id, user, name: "Ana's phone".into(), platform: "android".into(), tokens, created_at }
}

fn new_user(number: u8, username: &str, display_name: &str) -> NewUser {
    NewUser {
        id: user_id(number),
        username: username.into(),
        display_name: display_name.into(),
        password_hash: format!("$hash of {username}"),
        created_at: start(),
    }
}

async fn create(accounts: &dyn Accounts, number: u8, username: &str, display_name: &str) -> UserId {
    let user = new_user(number, username, display_name);
    let device = new_device(device_id(number), user.id, start());
    assert_eq!(accounts.create_user(user, device).await.unwrap(), Creation::Created);
    user_id(number)
}

async fn found(accounts: &dyn Accounts, prefix: &str) -> Vec<String> {
    let page = accounts.search(prefix, None, 100).await.unwrap();
    assert_eq!(page.next_cursor, None);
    page.items.into_iter().map(|user| user.username).collect()
}

pub async fn the_signing_key_is_the_same_for_ever<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let key = *under_test.accounts().signing_key().as_bytes();
    let under_test = under_test.reopen().await;
    assert_eq!(under_test.accounts().signing_key().as_bytes(), &key);
}

pub async fn a_username_belongs_to_the_first_who_takes_it<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    create(accounts, 1, "ana", "Ana").await;
    let second =
        accounts.create_user(new_user(2, "ana", "Other"), new_device(device_id(2), user_id(2), start()));
    assert_eq!(second.await.unwrap(), Creation::UsernameTaken);
    assert_eq!(accounts.users(&[user_id(2)]).await.unwrap(), []);
    assert_eq!(accounts.device(device_id(2)).await.unwrap(), None);
    assert_eq!(accounts.credentials("ana").await.unwrap().unwrap().user, user_id(1));
}

pub async fn of_two_who_take_a_username_at_once_one_gets_it<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    let take = |number: u8| {
        accounts.create_user(
            new_user(number, "ana", "Ana"),
            new_device(device_id(number), user_id(number), start()),
        )
    };
    let (one, two) = tokio::join!(take(1), take(2));
    let outcomes = [one.unwrap(), two.unwrap()];
    assert_eq!(outcomes.iter().filter(|&&outcome| outcome == Creation::Created).count(), 1);
}

pub async fn credentials_are_found_by_username<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    create(accounts, 1, "ana", "Ana").await;
    let credentials = accounts.credentials("ana").await.unwrap().unwrap();
    assert_eq!((credentials.user, credentials.password_hash.as_str()), (user_id(1), "$hash of ana"));
    assert!(accounts.credentials("an").await.unwrap().is_none());
    assert!(accounts.credentials("anab").await.unwrap().is_none());
}

pub async fn a_password_hash_is_replaced_only_if_it_is_the_one_that_was_read<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    let ana = create(accounts, 1, "ana", "Ana").await;
    assert!(!accounts.replace_password_hash(ana, "$another", "$new").await.unwrap());
    assert!(accounts.replace_password_hash(ana, "$hash of ana", "$new").await.unwrap());
    assert!(!accounts.replace_password_hash(ana, "$hash of ana", "$newer").await.unwrap());
    assert_eq!(accounts.credentials("ana").await.unwrap().unwrap().password_hash, "$new");
}

pub async fn users_and_privacies_give_those_who_exist<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    create(accounts, 1, "ana", "Ana").await;
    create(accounts, 2, "bo", "Bo").await;
    let ids = [user_id(2), user_id(9), user_id(1)];
    let users = accounts.users(&ids).await.unwrap();
    let names: HashSet<_> = users.iter().map(|user| user.username.as_str()).collect();
    assert_eq!(names, HashSet::from(["ana", "bo"]));
    let ana = users.iter().find(|user| user.id == user_id(1)).unwrap();
    assert_eq!((ana.display_name.as_str(), ana.about.as_str()), ("Ana", ""));
    assert_eq!((ana.created_at, ana.last_seen_at), (start(), None));
    assert_eq!(ana.privacy, Privacy::default());
    let privacies: HashSet<_> =
        accounts.privacies(&ids).await.unwrap().into_iter().map(|(user, _)| user).collect();
    assert_eq!(privacies, HashSet::from([user_id(1), user_id(2)]));
    assert_eq!(accounts.users(&[]).await.unwrap(), []);
}

pub async fn a_patch_changes_what_it_has<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    let ana = create(accounts, 1, "ana", "Ana").await;
    let about = UserPatch { about: Some("hello".into()), ..UserPatch::default() };
    let hide = PrivacyPatch { read_receipts: Some(Audience::Nobody), last_seen: None };
    let privacy = UserPatch { privacy: Some(hide), ..UserPatch::default() };
    let patched = accounts.update_user(ana, about).await.unwrap().unwrap();
    assert_eq!((patched.display_name.as_str(), patched.about.as_str()), ("Ana", "hello"));
    let patched = accounts.update_user(ana, privacy).await.unwrap().unwrap();
    assert_eq!(patched.about, "hello");
    assert_eq!(patched.privacy, Privacy { last_seen: Audience::Everyone, read_receipts: Audience::Nobody });
    assert_eq!(accounts.privacies(&[ana]).await.unwrap(), [(ana, patched.privacy)]);
    assert_eq!(accounts.update_user(ana, UserPatch::default()).await.unwrap(), Some(patched));
    assert_eq!(accounts.update_user(user_id(9), UserPatch::default()).await.unwrap(), None);
}

pub async fn a_search_finds_beginnings_of_usernames_and_display_names<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    create(accounts, 1, "zoe", "Ana Zoe").await;
    create(accounts, 2, "ana", "Ana").await;
    create(accounts, 3, "bo", "Banana").await;
    create(accounts, 4, "anb", "Someone").await;
    assert_eq!(found(accounts, "an").await, ["ana", "anb", "zoe"]);
    assert_eq!(found(accounts, "ana").await, ["ana", "zoe"]);
    assert_eq!(found(accounts, "ana z").await, ["zoe"]);
    assert_eq!(found(accounts, "nobody").await, [""; 0]);
}

pub async fn a_search_folds_case_in_any_script<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    create(accounts, 1, "ana", "Örjan").await;
    create(accounts, 2, "bo", "ДМИТРИЙ").await;
    create(accounts, 3, "cy", "Οδυσσεύς").await;
    create(accounts, 4, "dee", "明日香").await;
    assert_eq!(found(accounts, "ANA").await, ["ana"]);
    assert_eq!(found(accounts, "öR").await, ["ana"]);
    assert_eq!(found(accounts, "дмит").await, ["bo"]);
    assert_eq!(found(accounts, "ΟΔΥΣΣΕΎΣ").await, ["cy"]);
    assert_eq!(found(accounts, "明").await, ["dee"]);
}

pub async fn a_changed_display_name_is_found_and_the_old_one_is_not<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    let ana = create(accounts, 1, "ana", "Old").await;
    let patch = UserPatch { display_name: Some("NEW".into()), ..UserPatch::default() };
    accounts.update_user(ana, patch).await.unwrap();
    assert_eq!(found(accounts, "old").await, [""; 0]);
    assert_eq!(found(accounts, "new").await, ["ana"]);
}

pub async fn pages_of_a_search_make_up_the_whole<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    // Found by the username, by the display name, by both.
    for number in 0..30 {
        let (username, display_name) = match number % 3 {
            0 => (format!("x{number:02}"), "Someone".to_owned()),
            1 => (format!("n{number:02}"), format!("X {number}")),
            _ => (format!("x{number:02}"), format!("x{}", 99 - number)),
        };
        create(accounts, number, &username, &display_name).await;
    }
    let whole = found(accounts, "x").await;
    assert_eq!(whole.len(), 30);
    assert!(whole.is_sorted());
    for limit in [1, 7, 10, 29, 30] {
        let (mut paged, mut cursor) = (Vec::new(), None);
        loop {
            let page = accounts.search("X", cursor.as_deref(), limit).await.unwrap();
            assert!(page.items.len() == limit || page.next_cursor.is_none());
            paged.extend(page.items.into_iter().map(|user| user.username));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(paged, whole, "in pages of {limit}");
    }
}

pub async fn what_is_special_in_patterns_is_not_in_a_search<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    create(accounts, 1, "ana", "100% Ana").await;
    create(accounts, 2, "b_o", "[Bo]").await;
    for (prefix, usernames) in [
        ("%", &[][..]),
        ("_", &[]),
        ("*", &[]),
        ("'", &[]),
        ("100%", &["ana"]),
        ("b_", &["b_o"]),
        ("[b", &["b_o"]),
    ] {
        assert_eq!(found(accounts, prefix).await, usernames, "{prefix}");
    }
}

pub async fn a_garbage_cursor_is_refused<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    create(accounts, 1, "ana", "Ana").await;
    for cursor in ["", "ana", "%", "00000000"] {
        let refused = accounts.search("a", Some(cursor), 10).await;
        assert!(matches!(refused, Err(StoreError::InvalidCursor)), "{cursor}");
    }
}

pub async fn an_access_token_says_whose_it_is_and_when_it_ends<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    let ana = create(accounts, 1, "ana", "Ana").await;
    let first = tokens(device_id(1), 1, start());
    let access = accounts.access(first.access).await.unwrap().unwrap();
    assert_eq!((access.user, access.device), (ana, device_id(1)));
    assert_eq!(access.expires_at, first.access_expires_at);
    assert_eq!(accounts.access(first.refresh).await.unwrap(), None);
}

pub async fn a_rotation_needs_the_newest_token_and_keeps_access_tokens<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    let ana = create(accounts, 1, "ana", "Ana").await;
    let device = device_id(1);
    for generation in 1..3 {
        let now = start().plus(HOUR / 12);
        let next = tokens(device, generation + 1, now);
        let rotation = accounts.rotate(presented(device, generation), next, now).await.unwrap();
        let Rotation::Rotated(user) = rotation else { panic!("{rotation:?}") };
        assert_eq!((user.id, user.username.as_str()), (ana, "ana"));
    }
    let record = accounts.device(device).await.unwrap().unwrap();
    assert_eq!((record.created_at, record.last_seen_at), (start(), start().plus(HOUR / 12)));
    assert_eq!(record.expires_at, start().plus(HOUR / 12 + 24 * 90 * HOUR));
    for generation in 1..=3 {
        assert!(accounts.access(hash(device, generation, b'a')).await.unwrap().is_some(), "{generation}");
    }
}

pub async fn a_device_keeps_its_newest_four_access_tokens<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    create(accounts, 1, "ana", "Ana").await;
    let device = device_id(1);
    for generation in 1..10 {
        let now = start().plus(Duration::from_secs(generation));
        accounts
            .rotate(presented(device, generation), tokens(device, generation + 1, now), now)
            .await
            .unwrap();
    }
    for generation in 1..=10 {
        let access = accounts.access(hash(device, generation, b'a')).await.unwrap();
        assert_eq!(access.is_some(), generation > 6, "{generation}");
    }
}

pub async fn a_used_refresh_token_removes_its_device<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    let ana = create(accounts, 1, "ana", "Ana").await;
    let device = device_id(1);
    for generation in 1..4 {
        let next = tokens(device, generation + 1, start());
        accounts.rotate(presented(device, generation), next, start()).await.unwrap();
    }
    let reuse = accounts.rotate(presented(device, 2), tokens(device, 3, start()), start()).await.unwrap();
    assert_eq!(reuse, Rotation::Reused(ana));
    assert_eq!(accounts.device(device).await.unwrap(), None);
    assert_eq!(accounts.access(hash(device, 4, b'a')).await.unwrap(), None);
    let newest = accounts.rotate(presented(device, 4), tokens(device, 5, start()), start()).await.unwrap();
    assert_eq!(newest, Rotation::Unknown);
}

pub async fn of_two_rotations_with_one_token_one_is_a_reuse<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    let ana = create(accounts, 1, "ana", "Ana").await;
    let device = device_id(1);
    let rotate = || accounts.rotate(presented(device, 1), tokens(device, 2, start()), start());
    let (one, two) = tokio::join!(rotate(), rotate());
    let outcomes = [one.unwrap(), two.unwrap()];
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Rotation::Rotated(_))).count(), 1);
    assert!(outcomes.contains(&Rotation::Reused(ana)));
}

pub async fn another_token_of_the_same_generation_is_a_reuse<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    let ana = create(accounts, 1, "ana", "Ana").await;
    let other = Presented { hash: TokenHash::new([7; 32]), ..presented(device_id(1), 1) };
    let reuse = accounts.rotate(other, tokens(device_id(1), 2, start()), start()).await.unwrap();
    assert_eq!(reuse, Rotation::Reused(ana));
}

pub async fn a_token_of_a_later_generation_is_unknown<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    create(accounts, 1, "ana", "Ana").await;
    for generation in [2, u64::MAX] {
        let later = presented(device_id(1), generation);
        let rotation = accounts.rotate(later, tokens(device_id(1), 2, start()), start()).await.unwrap();
        assert_eq!(rotation, Rotation::Unknown);
    }
    assert!(accounts.device(device_id(1)).await.unwrap().is_some());
}

pub async fn a_device_that_has_ended_does_not_rotate<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    create(accounts, 1, "ana", "Ana").await;
    let end = start().plus(24 * 90 * HOUR);
    let rotation = accounts.rotate(presented(device_id(1), 1), tokens(device_id(1), 2, end), end).await;
    assert_eq!(rotation.unwrap(), Rotation::Unknown);
}

pub async fn devices_are_listed_by_login_until_they_end<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    let ana = create(accounts, 5, "ana", "Ana").await;
    create(accounts, 6, "bo", "Bo").await;
    accounts.add_device(new_device(device_id(1), ana, start().plus(2 * HOUR))).await.unwrap();
    accounts.add_device(new_device(device_id(3), ana, start().plus(HOUR))).await.unwrap();
    let listed = async |now: Timestamp| -> Vec<DeviceId> {
        accounts.devices(ana, now).await.unwrap().into_iter().map(|device| device.id).collect()
    };
    assert_eq!(listed(start()).await, [device_id(5), device_id(3), device_id(1)]);
    assert_eq!(listed(start().plus(24 * 90 * HOUR)).await, [device_id(3), device_id(1)]);
    let device = accounts.device(device_id(3)).await.unwrap().unwrap();
    assert_eq!((device.name.as_str(), device.platform.as_str()), ("Ana's phone", "android"));
    assert_eq!((device.user, device.last_seen_at), (ana, start().plus(HOUR)));
}

pub async fn the_lives_of_devices_are_told_of_those_that_are_there<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    let ana = create(accounts, 5, "ana", "Ana").await;
    let bo = create(accounts, 6, "bo", "Bo").await;
    accounts.add_device(new_device(device_id(1), ana, start().plus(HOUR))).await.unwrap();
    accounts.remove_device(ana, device_id(5)).await.unwrap();
    let mut lives = accounts.lives(&[1, 5, 6, 7].map(device_id)).await.unwrap();
    lives.sort_unstable();
    let ninety_days = 24 * 90 * HOUR;
    let expected = [
        (device_id(1), ana, start().plus(HOUR + ninety_days)),
        (device_id(6), bo, start().plus(ninety_days)),
    ];
    assert_eq!(lives, expected);
    assert_eq!(accounts.lives(&[]).await.unwrap(), []);
}

pub async fn a_device_is_removed_by_its_user_alone<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    let ana = create(accounts, 1, "ana", "Ana").await;
    let bo = create(accounts, 2, "bo", "Bo").await;
    assert!(!accounts.remove_device(bo, device_id(1)).await.unwrap());
    assert!(accounts.access(hash(device_id(1), 1, b'a')).await.unwrap().is_some());
    assert!(accounts.remove_device(ana, device_id(1)).await.unwrap());
    assert!(!accounts.remove_device(ana, device_id(1)).await.unwrap());
    assert_eq!(accounts.device(device_id(1)).await.unwrap(), None);
    assert_eq!(accounts.access(hash(device_id(1), 1, b'a')).await.unwrap(), None);
}

pub async fn a_new_device_takes_the_place_of_the_one_not_seen_for_longest<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    let ana = create(accounts, 0, "ana", "Ana").await;
    for number in 1..DEVICES_PER_USER_MAX {
        let number = u8::try_from(number).unwrap();
        let at = start().plus(Duration::from_secs(u64::from(number)));
        let gone = accounts.add_device(new_device(device_id(number), ana, at)).await.unwrap();
        assert_eq!(gone, Some(vec![]));
    }
    let later = start().plus(HOUR);
    accounts.touch(vec![(device_id(0), later)], vec![]).await.unwrap();
    let gone = accounts.add_device(new_device(device_id(255), ana, later)).await.unwrap();
    assert_eq!(gone, Some(vec![device_id(1)]));
    assert_eq!(accounts.access(hash(device_id(1), 1, b'a')).await.unwrap(), None);
    assert_eq!(accounts.devices(ana, later).await.unwrap().len(), DEVICES_PER_USER_MAX);
}

pub async fn a_device_of_nobody_is_not_added<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    let added = accounts.add_device(new_device(device_id(1), user_id(9), start())).await.unwrap();
    assert_eq!(added, None);
    assert_eq!(accounts.device(device_id(1)).await.unwrap(), None);
}

pub async fn devices_that_have_ended_are_swept_a_few_at_a_time<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    let ana = create(accounts, 1, "ana", "Ana").await;
    for number in 2..=4 {
        let at = start().plus(u32::from(number) * HOUR);
        accounts.add_device(new_device(device_id(number), ana, at)).await.unwrap();
    }
    let now = start().plus(24 * 90 * HOUR + 3 * HOUR);
    assert_eq!(accounts.remove_ended(now, 2).await.unwrap(), [(ana, device_id(1)), (ana, device_id(2))]);
    assert_eq!(accounts.remove_ended(now, 2).await.unwrap(), [(ana, device_id(3))]);
    assert_eq!(accounts.remove_ended(now, 2).await.unwrap(), []);
    assert!(accounts.device(device_id(4)).await.unwrap().is_some());
}

pub async fn touches_move_only_forward<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    let ana = create(accounts, 1, "ana", "Ana").await;
    for (hours, seen) in [(2, 2), (1, 2), (3, 3)] {
        let at = start().plus(hours * HOUR);
        let devices = vec![(device_id(1), at), (device_id(9), at)];
        accounts.touch(devices, vec![(user_id(9), at), (ana, at)]).await.unwrap();
        let seen = start().plus(seen * HOUR);
        assert_eq!(accounts.device(device_id(1)).await.unwrap().unwrap().last_seen_at, seen);
        assert_eq!(accounts.users(&[ana]).await.unwrap()[0].last_seen_at, Some(seen));
    }
}

pub async fn a_block_holds_one_way_until_it_is_lifted<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    let (ana, bo) = (create(accounts, 1, "ana", "Ana").await, create(accounts, 2, "bo", "Bo").await);
    for blocked in [true, true, false, false] {
        assert!(accounts.set_block(ana, bo, blocked).await.unwrap());
        assert_eq!(accounts.blocks(ana, bo).await.unwrap(), blocked);
        assert!(!accounts.blocks(bo, ana).await.unwrap());
    }
}

pub async fn a_block_needs_two_users<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    let ana = create(accounts, 1, "ana", "Ana").await;
    assert!(!accounts.set_block(ana, user_id(9), true).await.unwrap());
    assert!(!accounts.set_block(user_id(9), ana, true).await.unwrap());
    assert!(!accounts.blocks(ana, user_id(9)).await.unwrap());
}

pub async fn everything_is_there_after_a_restart<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    let (ana, bo) = (create(accounts, 1, "ana", "Ana").await, create(accounts, 2, "bo", "Bo").await);
    accounts.rotate(presented(device_id(1), 1), tokens(device_id(1), 2, start()), start()).await.unwrap();
    accounts.set_block(ana, bo, true).await.unwrap();
    accounts.touch(vec![], vec![(ana, start())]).await.unwrap();
    let before = accounts.users(&[ana]).await.unwrap();

    let under_test = under_test.reopen().await;
    let accounts = under_test.accounts();
    assert_eq!(accounts.users(&[ana]).await.unwrap(), before);
    assert!(accounts.blocks(ana, bo).await.unwrap());
    assert!(accounts.access(hash(device_id(1), 2, b'a')).await.unwrap().is_some());
    let next = tokens(device_id(1), 3, start());
    let rotation = accounts.rotate(presented(device_id(1), 2), next, start()).await.unwrap();
    assert!(matches!(rotation, Rotation::Rotated(_)));
}

pub async fn nothing_is_done_after_close<A: AccountsUnderTest>() {
    let under_test = A::open().await;
    let accounts = under_test.accounts();
    let ana = create(accounts, 1, "ana", "Ana").await;
    accounts.close().await;
    assert!(matches!(accounts.users(&[ana]).await, Err(StoreError::Closed)));
    assert!(matches!(accounts.set_block(ana, ana, true).await, Err(StoreError::Closed)));
    accounts.close().await;
}
