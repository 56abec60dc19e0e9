//! What may be dropped: typing and presence, and how they end.

use super::*;

#[test]
fn typing_goes_to_the_others_and_ends_by_itself() {
    let mut world = World::new(Limits::default());
    let (ana, bo) = (world.connect(ANA), world.connect(BO));
    assert!(world.hub.typing(&ana, CONVO, true, world.now));
    assert!(
        !world.hub.typing(&ana, ConvoId::from_bytes([4; 16]), true, world.now),
        "not where one is no member"
    );
    assert_eq!((got(&ana), got(&bo)), (vec![], vec!["typing true".to_owned()]));
    world.now = world.now.plus(Duration::from_secs(9));
    world.hub.sweep(world.now);
    assert_eq!(got(&bo), ["typing false"]);
}

#[test]
fn of_what_may_be_dropped_the_latest_stays_and_the_oldest_goes() {
    let mut world = World::new(Limits { ephemeral: 1, ..Limits::default() });
    let (ana, bo) = (world.connect(ANA), world.connect(BO));
    world.hub.typing(&ana, CONVO, true, world.now);
    world.hub.typing(&ana, CONVO, false, world.now);
    assert_eq!(got(&bo), ["typing false"], "the newer value took the place of the older");
    assert!(world.watch(&bo, ANA));
    got(&bo);
    world.hub.typing(&ana, CONVO, true, world.now);
    world.hub.set_presence(&ana, OwnPresence::Away, world.now);
    assert_eq!(got(&bo), ["Away"], "there was room for one");
}

#[test]
fn a_message_is_written_before_what_may_be_dropped() {
    let mut world = World::new(Limits::default());
    let (ana, bo) = (world.connect(ANA), world.connect(BO));
    world.hub.typing(&ana, CONVO, true, world.now);
    world.send("hola", Some(&ana));
    assert_eq!(got(&bo), ["1 hola @1", "typing true"]);
}

#[test]
fn presence_is_told_to_those_who_watch_and_ends_with_the_last_connection() {
    let mut world = World::new(Limits::default());
    let bo = world.connect(BO);
    assert!(world.watch(&bo, ANA));
    assert_eq!(got(&bo), ["Offline with last seen"]);
    let (phone, laptop) = (world.connect(ANA), world.connect(ANA));
    assert_eq!(got(&bo), ["Online"]);
    assert_eq!(world.hub.unregister(&phone, world.now), None);
    world.hub.set_presence(&laptop, OwnPresence::Away, world.now);
    assert_eq!(got(&bo), ["Away"]);
    let departed = world.hub.unregister(&laptop, world.now).map(|departed| departed.user);
    assert_eq!((departed, got(&bo)), (Some(ANA), vec!["Offline with last seen".to_owned()]));
}

#[test]
fn a_user_is_what_is_seen_of_him_here_and_elsewhere() {
    use Presence::{Away, Offline, Online};
    let mut world = World::of_many();
    let bo = world.connect(BO);
    assert!(world.watch(&bo, ANA));
    assert_eq!(got(&bo), ["Offline with last seen"]);
    let elsewhere =
        |world: &World, presence| world.hub.seen_elsewhere([sighting(ANA, presence, Some(world.now))]);
    elsewhere(&world, Away);
    assert_eq!(got(&bo), ["Away"]);
    let ana = world.connect(ANA);
    assert_eq!(got(&bo), ["Online"]);
    elsewhere(&world, Online);
    world.hub.unregister(&ana, world.now);
    assert_eq!(got(&bo), [""; 0], "he is still online elsewhere");
    elsewhere(&world, Offline);
    assert_eq!(got(&bo), ["Offline with last seen"]);
    elsewhere(&world, Online);
    assert!(world.watch(&bo, ANA));
    assert_eq!(got(&bo), ["Online"], "once, not as a change and as the answer");
    world.hub.forget_elsewhere();
    assert_eq!(got(&bo), ["Offline"]);
    world.hub.unwatch(&bo, &[ANA]);
    elsewhere(&world, Online);
    assert_eq!((got(&bo), world.hub.watched([ANA])), (vec![], vec![]));
}

#[test]
fn what_is_seen_here_is_for_the_other_nodes_the_last_of_each_user() {
    let mut world = World::of_many();
    let hides = Privacy { last_seen: Audience::Nobody, ..Privacy::default() };
    let (ana, bo) = (world.connect(ANA), world.connect_with(BO, hides));
    let taken = |world: &World| {
        let mut taken = world.hub.take_sightings();
        taken.sort_by_key(|sighting| sighting.user);
        taken
    };
    let online = |user| sighting(user, Presence::Online, None);
    assert_eq!(taken(&world), [online(ANA), online(BO)]);
    world.hub.set_presence(&ana, OwnPresence::Away, world.now);
    world.hub.unregister(&ana, world.now);
    world.hub.unregister(&bo, world.now);
    let gone = [sighting(ANA, Presence::Offline, Some(world.now)), sighting(BO, Presence::Offline, None)];
    assert_eq!(taken(&world), gone, "and when he was last there is for those to whom he shows it");
    assert_eq!(taken(&world), []);
    let mut alone = World::new(Limits::default());
    alone.connect(ANA);
    assert_eq!(taken(&alone), [], "there is nobody to tell");
}

#[test]
fn who_watches_somebody_who_was_removed_may_share_no_conversation_any_more() {
    let mut world = World::of_many();
    let (ana, bo) = (world.connect(ANA), world.connect(BO));
    world.watch(&ana, BO);
    assert!(world.hub.take_unsure().is_empty());
    let (outcome, commit) = world.remove_bo();
    world.hand_over(commit, Committed { outcome: &outcome, origin: None, shows_read: true });
    let unsure = world.hub.take_unsure();
    assert!(unsure.len() == 1 && Arc::ptr_eq(&unsure[0], &ana), "bo watches nobody");
    drop(bo);
}

#[test]
fn who_shares_no_conversation_with_whom_he_watches_is_told_nothing_and_looked_at() {
    let mut world = World::new(Limits::default());
    let (ana, bo) = (world.connect(ANA), world.connect(BO));
    world.watch(&ana, BO);
    world.hub.set_presence(&bo, OwnPresence::Away, world.now);
    assert_eq!(got(&ana), ["Online", "Away"]);
    assert!(world.hub.take_unsure().is_empty());
    let removal = world.remove_bo();
    world.deliver(&removal);
    got(&ana);
    world.hub.set_presence(&bo, OwnPresence::Online, world.now);
    assert_eq!(got(&ana), [""; 0]);
    let unsure = world.hub.take_unsure();
    assert!(unsure.len() == 1 && Arc::ptr_eq(&unsure[0], &ana));
    world.hub.unwatch(&ana, &[BO]);
    world.hub.set_presence(&bo, OwnPresence::Away, world.now);
    assert!(world.hub.take_unsure().is_empty() && ana.watching().is_empty());
}

#[test]
fn two_with_20_000_conversations_each_come_and_change_without_comparing_all_with_all() {
    const CONVOS: u128 = 20_000;
    const CHANGES: u32 = 50;
    // Every other conversation of this row, which are so in the order of coming, too.
    let heads = |from: u128| -> Vec<Head> {
        let convos = (0..CONVOS).map(|n| ConvoId::from_bytes((2 * n + from + 1).to_be_bytes()));
        convos.map(|convo| Head { convo, last_seq: Seq::new(1), member_count: 2 }).collect()
    };
    let world = World::new(Limits::default());
    let all: Vec<Head> = heads(0).into_iter().zip(heads(1)).flat_map(|(one, other)| [one, other]).collect();
    let keeper = world.connect_in(CY, &all);
    let (ana, bo) = (world.connect_in(ANA, &heads(0)), world.connect_in(BO, &heads(1)));
    world.watch(&ana, BO);
    world.watch(&keeper, BO);
    got(&ana);
    for _ in 0..CHANGES {
        world.hub.set_presence(&bo, OwnPresence::Away, world.now);
        world.hub.set_presence(&bo, OwnPresence::Online, world.now);
    }
    assert_eq!(got(&ana), [""; 0]);
    assert_eq!(got(&keeper), ["Online", "Online"], "the answer, and the latest");
    assert!(world.hub.typing(&bo, heads(1)[0].convo, true, world.now));
    assert!(!world.hub.typing(&bo, heads(0)[0].convo, true, world.now));
    for connection in [bo, ana, keeper] {
        world.hub.unregister(&connection, world.now);
    }
    let routes = world.hub.routes();
    assert_eq!((routes.users.len(), routes.convos.len()), (0, 0));
}

#[test]
fn whoever_was_put_out_while_his_conversations_were_read_is_not_in_again() {
    let mut world = World::new(Limits::default());
    world.text("1 hola");
    let who = (BO, DeviceId::from_bytes([9; 16]));
    let bo = world.hub.register(Mode::Socket, who, Privacy::default(), at(1), world.now).0;
    let read = Head { convo: CONVO, last_seq: Seq::new(1), member_count: 2 };
    let removal = world.remove_bo();
    world.deliver(&removal);
    let other = ConvoId::from_bytes([5; 16]);
    // Twice, as nobody should tell.
    world.hub.attach(BO, &[read, Head { convo: other, ..read }, Head { convo: other, ..read }]);
    assert!(!world.hub.typing(&bo, CONVO, true, world.now));
    assert!(world.hub.typing(&bo, other, true, world.now));
    assert_eq!(world.hub.routes().convo(other).map(|convo| convo.here.len()), Some(1));
}

#[test]
fn a_silent_connection_is_pinged_then_closed_and_its_user_is_gone_within_the_ttl() {
    let mut world = World::new(Limits::default());
    let ana = world.connect(ANA);
    world.now = world.now.plus(Duration::from_secs(25));
    world.hub.sweep(world.now);
    let taken = ana.take();
    assert_eq!((taken.outbox.frames(), taken.close), (1, None), "a ping");
    world.now = world.now.plus(Duration::from_secs(25));
    world.hub.sweep(world.now);
    assert_eq!(ana.take().close.map(|close| close.reason), Some(CloseReason::HeartbeatMissed));
    world.now = world.now.plus(Duration::from_secs(10));
    let departed = world.hub.sweep(world.now);
    assert_eq!(
        departed.iter().map(|departed| departed.user).collect::<Vec<_>>(),
        [ANA],
        "60 s after the last sign"
    );
    assert_eq!(world.hub.present().users, 1, "the connection itself is for its task to end");
}
