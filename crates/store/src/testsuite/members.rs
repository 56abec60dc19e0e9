//! Who is in a conversation, who may do what, and who sees what.

use tertulia_domain::log::{Intent, Outcome, Refusal};
use tertulia_protocol::entry::{ConversationType, HistoryPolicy, Posting, Role};
use tertulia_protocol::{Code, ConvoId, EntryKind};

use super::StoreUnderTest;
use super::world::*;
use crate::StoreError;

pub async fn a_direct_conversation_is_created_once<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let talk = world.direct(ANA, BO).await;
    assert_eq!(world.one(create_direct(ANA, BO)).await, Outcome::Unchanged);
    assert_eq!(world.one(create_direct(BO, ANA)).await, Outcome::Unchanged);
    assert_eq!(world.log(BO, talk).await, "1 new ana bo");
    assert_eq!(world.members(BO, talk).await, "ana bo");
    let seen = world.see(BO, talk).await;
    assert_eq!((seen.kind, seen.member_count), (ConversationType::Direct, 2));
}

pub async fn one_alone_keeps_notes<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let notes = world.direct(ANA, ANA).await;
    assert_eq!(notes, ConvoId::direct(ANA, ANA));
    world.say(notes, ANA, "buy tea").await;
    assert_eq!(world.log(ANA, notes).await, "1 new ana, 2 ana: buy tea");
    assert_eq!(world.members(ANA, notes).await, "ana");
    assert_eq!(world.unread(ANA, notes).await, (0, 2, 2));
}

pub async fn a_direct_conversation_is_never_left_renamed_or_joined<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let convo = world.direct(ANA, BO).await;
    let intents = [
        Intent::RemoveMember { convo, by: ANA, user: ANA },
        Intent::RemoveMember { convo, by: ANA, user: BO },
        Intent::AddMembers { convo, by: ANA, users: vec![CY] },
        set_role(convo, ANA, BO, Role::Admin),
        rename(convo, BO, "us"),
        set_posting(convo, ANA, Posting::Admins),
    ];
    for intent in intents {
        let refusal = world.refused(intent).await;
        assert_eq!((&refusal, refusal.code()), (&Refusal::Direct, Code::Forbidden));
    }
}

pub async fn a_block_closes_a_direct_conversation_for_sends_alone<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let talk = world.direct(ANA, BO).await;
    world.say(talk, ANA, "hi").await;
    world.one(Intent::SetBlock { convo: talk, by: BO, blocked: true }).await;
    for sender in [ANA, BO] {
        assert_eq!(world.refused(send(talk, sender, 9, "ho")).await, Refusal::Blocked);
    }
    assert!(matches!(world.mark(talk, BO, 0, 2).await, Outcome::Marked(_)));
    assert_eq!(world.log(ANA, talk).await, "1 new ana bo, 2 ana: hi");
    // While both block each other, one of them taking it back opens nothing.
    world.one(Intent::SetBlock { convo: talk, by: ANA, blocked: true }).await;
    world.one(Intent::SetBlock { convo: talk, by: BO, blocked: false }).await;
    assert_eq!(world.refused(send(talk, BO, 9, "ho")).await, Refusal::Blocked);
    world.one(Intent::SetBlock { convo: talk, by: ANA, blocked: false }).await;
    assert_eq!(world.entry(send(talk, BO, 9, "ho")).await.seq, seq(3));
}

pub async fn a_block_without_a_conversation_does_nothing<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let talk = ConvoId::direct(ANA, BO);
    let outcome = world.one(Intent::SetBlock { convo: talk, by: ANA, blocked: true }).await;
    assert_eq!(outcome, Outcome::Unchanged);
    assert_eq!(world.log(ANA, talk).await, "-");
}

pub async fn a_block_survives_a_restart<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let talk = world.direct(ANA, BO).await;
    world.one(Intent::SetBlock { convo: talk, by: ANA, blocked: true }).await;
    world.reopen().await;
    assert_eq!(world.refused(send(talk, BO, 1, "hi")).await, Refusal::Blocked);
}

pub async fn the_creator_owns_a_group<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[BO, ANA, CY]).await;
    assert_eq!(world.members(CY, tea).await, "bo* ana cy");
    assert_eq!(world.see(BO, tea).await.role, Role::Owner);
    assert_eq!(world.see(ANA, tea).await.role, Role::Member);
}

pub async fn a_group_id_is_used_once<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    let stolen = create_group(tea, &[CY], HistoryPolicy::SinceJoined);
    assert_eq!(world.refused(stolen).await, Refusal::Exists);
    // The same call again, because its answer was lost.
    let again = create_group(tea, &[ANA, BO], HistoryPolicy::SinceJoined);
    assert_eq!(world.one(again).await, Outcome::Unchanged);
    assert_eq!(world.log(ANA, tea).await, "1 new ana bo");
}

pub async fn adding_who_is_a_member_is_no_entry<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    assert_eq!(world.add(tea, ANA, &[BO, ANA]).await, Outcome::Unchanged);
    let outcome = world.add(tea, ANA, &[BO, DI, CY]).await;
    let Outcome::Appended { entry, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(entry.kind, EntryKind::MemberAdded { user_ids: vec![DI, CY] });
    assert_eq!(world.members(ANA, tea).await, "ana* bo di cy");
    assert_eq!(world.see(ANA, tea).await.member_count, 4);
}

pub async fn a_new_member_sees_from_his_own_entry_on<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    world.say(tea, ANA, "secret").await;
    world.add(tea, ANA, &[CY]).await;
    world.say(tea, ANA, "hi cy").await;
    assert_eq!(world.log(CY, tea).await, "3 +cy, 4 ana: hi cy");
    let seen = world.see(CY, tea).await;
    assert_eq!((seen.visible_from_seq, seen.last_seq), (seq(3), seq(4)));
    assert_eq!(world.unread(CY, tea).await, (1, 3, 3));
    assert_eq!(world.slice(CY, tea, crate::Slice::Before(seq(3)), 9).await, "");
}

pub async fn with_history_all_a_new_member_sees_everything<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group_with(&[ANA, BO], HistoryPolicy::All).await;
    world.say(tea, ANA, "welcome").await;
    world.add(tea, ANA, &[CY]).await;
    assert_eq!(world.log(CY, tea).await, "1 new ana bo, 2 ana: welcome, 3 +cy");
    // What was before he came is not unread.
    assert_eq!(world.unread(CY, tea).await, (0, 3, 3));
}

pub async fn the_history_policy_when_he_was_added_counts<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    world.add(tea, ANA, &[CY]).await;
    world.entry(set_history(tea, ANA, HistoryPolicy::All)).await;
    world.add(tea, ANA, &[DI]).await;
    assert_eq!(world.log(CY, tea).await, "2 +cy, 3 settings, 4 +di");
    assert_eq!(world.log(DI, tea).await, "1 new ana bo, 2 +cy, 3 settings, 4 +di");
}

pub async fn a_removal_ends_all_reads<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    world.say(tea, ANA, "hi").await;
    // Many times: a read that looks at what was a moment ago would be caught.
    for _ in 0..20 {
        world.remove(tea, ANA, BO).await;
        let store = world.store();
        assert_eq!(store.history(BO, tea, crate::Slice::Newest, 9).await.unwrap(), None);
        assert_eq!(store.conversation(BO, tea).await.unwrap(), None);
        assert!(store.members(BO, tea, None, 9).await.unwrap().is_none());
        assert_eq!(store.message_receipts(BO, tea, seq(2), None, 9).await.unwrap(), None);
        assert!(store.inbox(BO, None, 9).await.unwrap().items.is_empty());
        assert_eq!(store.heads(BO).await.unwrap(), []);
        assert_eq!(world.refused(send(tea, BO, 1, "hi")).await, Refusal::NotFound);
        assert_eq!(world.refused(mark(tea, BO, 0, 1)).await, Refusal::NotFound);
        world.add(tea, ANA, &[BO]).await;
        assert_eq!(world.log(BO, tea).await.split(' ').nth(1), Some("+bo"));
    }
}

pub async fn added_again_he_starts_anew<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO, CY]).await;
    world.entry(set_role(tea, ANA, BO, Role::Admin)).await;
    world.one(set_own(tea, BO, own_muted())).await;
    world.say(tea, ANA, "one").await;
    world.remove(tea, BO, BO).await;
    world.say(tea, ANA, "two").await;
    world.add(tea, ANA, &[BO]).await;
    world.say(tea, ANA, "three").await;
    assert_eq!(world.log(BO, tea).await, "6 +bo, 7 ana: three");
    assert_eq!(world.members(BO, tea).await, "ana* cy bo");
    let seen = world.see(BO, tea).await;
    assert!(!seen.settings.muted);
    assert_eq!(world.unread(BO, tea).await, (1, 6, 6));
    world.reopen().await;
    assert_eq!(world.log(BO, tea).await, "6 +bo, 7 ana: three");
    assert_eq!(world.refused(reply(tea, BO, 1, "re", Some(seq(2)))).await, Refusal::NoSuchTarget(seq(2)));
}

fn own_muted() -> tertulia_protocol::rest::MemberSettingsPatch {
    tertulia_protocol::rest::MemberSettingsPatch { muted: Some(true), ..Default::default() }
}

pub async fn added_again_with_history_all_he_sees_everything<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group_with(&[ANA, BO], HistoryPolicy::All).await;
    world.remove(tea, BO, BO).await;
    world.say(tea, ANA, "alone").await;
    world.add(tea, ANA, &[BO]).await;
    assert_eq!(world.log(BO, tea).await, "1 new ana bo, 2 -bo, 3 ana: alone, 4 +bo");
    assert_eq!(world.unread(BO, tea).await, (0, 4, 4));
}

pub async fn removing_who_is_no_member_says_so<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    let refusal = world.refused(Intent::RemoveMember { convo: tea, by: ANA, user: CY }).await;
    assert_eq!((&refusal, refusal.code()), (&Refusal::NoSuchMember, Code::NotFound));
    assert_eq!(world.refused(set_role(tea, ANA, CY, Role::Admin)).await, Refusal::NoSuchMember);
}

pub async fn members_may_not_do_what_admins_may<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let convo = world.group(&[ANA, BO, CY]).await;
    let intents = [
        Intent::AddMembers { convo, by: BO, users: vec![DI] },
        Intent::RemoveMember { convo, by: BO, user: CY },
        set_role(convo, BO, BO, Role::Owner),
        rename(convo, BO, "mine"),
        set_posting(convo, BO, Posting::Admins),
    ];
    for intent in intents {
        let refusal = world.refused(intent).await;
        assert!(matches!(refusal, Refusal::Role(_)) && refusal.code() == Code::Forbidden, "{refusal:?}");
    }
    assert_eq!(world.log(BO, convo).await, "1 new ana bo cy");
}

pub async fn admins_remove_members_but_nobody_of_their_rank<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO, CY, DI]).await;
    world.entry(set_role(tea, ANA, BO, Role::Admin)).await;
    world.entry(set_role(tea, ANA, CY, Role::Admin)).await;
    for user in [ANA, CY] {
        let refusal = world.refused(Intent::RemoveMember { convo: tea, by: BO, user }).await;
        assert!(matches!(refusal, Refusal::Role(_)), "{refusal:?}");
    }
    assert!(matches!(world.remove(tea, BO, DI).await, Outcome::Appended { .. }));
    assert!(matches!(world.remove(tea, ANA, CY).await, Outcome::Appended { .. }));
    assert_eq!(world.members(ANA, tea).await, "ana* bo+");
}

pub async fn owners_give_roles<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO, CY]).await;
    world.entry(set_role(tea, ANA, BO, Role::Owner)).await;
    world.entry(set_role(tea, BO, CY, Role::Admin)).await;
    assert_eq!(world.one(set_role(tea, BO, CY, Role::Admin)).await, Outcome::Unchanged);
    let refusal = world.refused(set_role(tea, CY, CY, Role::Owner)).await;
    assert_eq!(refusal, Refusal::Role("owners"));
    world.entry(set_role(tea, BO, ANA, Role::Member)).await;
    assert_eq!(world.members(CY, tea).await, "ana bo* cy+");
    assert_eq!(world.log(CY, tea).await, "1 new ana bo cy, 2 bo=owner, 3 cy=admin, 4 ana=member");
}

pub async fn the_last_owner_cannot_step_down<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    let refusal = world.refused(set_role(tea, ANA, ANA, Role::Admin)).await;
    assert_eq!((&refusal, refusal.code()), (&Refusal::LastOwner, Code::Conflict));
    world.entry(set_role(tea, ANA, BO, Role::Owner)).await;
    world.entry(set_role(tea, ANA, ANA, Role::Admin)).await;
    assert_eq!(world.refused(set_role(tea, BO, BO, Role::Member)).await, Refusal::LastOwner);
}

pub async fn when_the_last_owner_leaves_the_longest_standing_admin_follows<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO, CY, DI]).await;
    // The later admin joined earlier.
    world.entry(set_role(tea, ANA, DI, Role::Admin)).await;
    world.entry(set_role(tea, ANA, CY, Role::Admin)).await;
    world.remove(tea, ANA, ANA).await;
    assert_eq!(world.members(BO, tea).await, "bo cy* di+");
    world.crash().await;
    assert_eq!(world.members(BO, tea).await, "bo cy* di+");
    world.entry(rename(tea, CY, "mine now")).await;
    world.entry(set_role(tea, CY, BO, Role::Admin)).await;
    assert_eq!(
        world.log(BO, tea).await,
        "1 new ana bo cy di, 2 di=admin, 3 cy=admin, 4 -ana, 5 \"mine now\", 6 bo=admin"
    );
}

pub async fn without_admins_the_longest_standing_member_follows<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO, CY]).await;
    world.remove(tea, BO, BO).await;
    world.add(tea, ANA, &[BO]).await;
    world.remove(tea, ANA, ANA).await;
    assert_eq!(world.members(BO, tea).await, "cy* bo");
    // One of two owners who leaves makes nobody an owner.
    world.entry(set_role(tea, CY, BO, Role::Owner)).await;
    world.add(tea, CY, &[DI]).await;
    world.remove(tea, CY, CY).await;
    assert_eq!(world.members(BO, tea).await, "bo* di");
}

pub async fn the_last_member_may_leave<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA]).await;
    assert!(matches!(world.remove(tea, ANA, ANA).await, Outcome::Appended { .. }));
    assert_eq!(world.log(ANA, tea).await, "-");
    assert_eq!(world.refused(send(tea, ANA, 1, "hi")).await, Refusal::NotFound);
    world.reopen().await;
    assert_eq!(world.refused(send(tea, ANA, 1, "hi")).await, Refusal::NotFound);
}

pub async fn a_rename_says_what_all_share<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    let outcome = world.one(rename(tea, ANA, "tea")).await;
    let Outcome::Appended { entry, shared: Some(shared) } = outcome else { panic!("{outcome:?}") };
    assert_eq!((entry.seq, shared.id, shared.title.as_deref()), (seq(2), tea, Some("tea")));
    assert_eq!(world.one(rename(tea, ANA, "tea")).await, Outcome::Unchanged);
    assert_eq!(world.see(BO, tea).await.title.as_deref(), Some("tea"));
}

pub async fn a_change_of_settings_is_an_entry_of_what_changed<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA, BO]).await;
    let change = |about: &str, posting, history| Intent::ChangeSettings {
        convo: tea,
        by: ANA,
        about: Some(about.into()),
        posting: Some(posting),
        history: Some(history),
    };
    let entry = world.entry(change("for friends", Posting::All, HistoryPolicy::All)).await;
    let expected = EntryKind::SettingsChanged {
        about: Some("for friends".into()),
        posting: None,
        history: Some(HistoryPolicy::All),
    };
    assert_eq!(entry.kind, expected);
    let outcome = world.one(change("for friends", Posting::All, HistoryPolicy::All)).await;
    assert_eq!(outcome, Outcome::Unchanged);
    let outcome = world.one(change("", Posting::Admins, HistoryPolicy::All)).await;
    let Outcome::Appended { shared: Some(shared), .. } = outcome else { panic!("{outcome:?}") };
    world.reopen().await;
    let seen = world.see(BO, tea).await;
    assert_eq!((seen.about.as_str(), seen.posting, seen.history), ("", Posting::Admins, HistoryPolicy::All));
    assert_eq!((&seen.about, seen.posting, seen.history), (&shared.about, shared.posting, shared.history));
}

pub async fn members_are_paged_in_the_order_of_joining<S: StoreUnderTest>() {
    let mut world = World::<S>::new().await;
    let tea = world.group(&[ANA]).await;
    let others: Vec<_> = (100..125).rev().map(user).collect();
    world.add(tea, ANA, &others).await;
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = world.store().members(ANA, tea, cursor.as_deref(), 10).await.unwrap().unwrap();
        assert!(page.items.len() == 10 || page.next_cursor.is_none());
        found.extend(page.items.iter().map(|member| member.user_id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found[0], ANA);
    assert_eq!(found[1..], others);
    let garbage = world.store().members(ANA, tea, Some("garbage"), 10).await;
    assert!(matches!(garbage, Err(StoreError::InvalidCursor)), "{garbage:?}");
}
