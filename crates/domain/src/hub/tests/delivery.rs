//! What is committed reaches those who are here, in order, and only whoever is slow is made to lag.

use super::*;

#[test]
fn the_sender_gets_the_ack_and_everybody_else_the_entry() {
    let mut world = World::new(Limits::default());
    let (ana, anas_other, bo) = (world.connect(ANA), world.connect(ANA), world.connect(BO));
    world.send("hola", Some(&ana));
    assert_eq!(got(&ana), ["ack 7=1"]);
    assert_eq!(got(&anas_other), ["1 hola @1"]);
    assert_eq!(got(&bo), ["1 hola @1"]);
}

#[test]
fn a_full_outbox_makes_its_reader_lag_and_nobody_else() {
    let mut world = World::new(Limits { frames: 2, ..Limits::default() });
    let (quick, slow) = (world.connect(BO), world.connect(BO));
    for body in ["a", "b", "c", "d"] {
        world.send(body, None);
        assert_eq!(got(&quick).len(), 1);
    }
    assert_eq!(got(&slow), ["1 a @1", "2 b @2"]);
    assert!(slow.is_lagging() && !quick.is_lagging());
    world.catch_up(&slow);
    // The last of what was missed says how far the reader is; before it there is no position.
    assert_eq!(got(&slow), ["3 c", "4 d @5"]);
    world.send("e", None);
    assert_eq!(got(&slow), ["5 e @5"]);
}

#[test]
fn while_a_reader_lags_its_position_stands_still() {
    let mut world = World::new(Limits { frames: 1, ..Limits::default() });
    let slow = world.connect(BO);
    world.send("a", None);
    world.send("b", None);
    world.send("c", None);
    assert_eq!(world.hub.position_of(&slow), "2", "everything below commit 2 is in the outbox");
    assert_eq!(world.hub.position(), at(4));
}

#[test]
fn what_comes_twice_is_delivered_once() {
    let mut world = World::new(Limits::default());
    let bo = world.connect(BO);
    let (outcome, commit) = world.text("a");
    for _ in 0..2 {
        world.hand_over(commit, Committed { outcome: &outcome, origin: None, shows_read: true });
    }
    assert_eq!(got(&bo), ["1 a @1"]);
}

#[test]
fn nothing_remains_of_those_who_have_gone() {
    let mut world = World::new(Limits::default());
    let (ana, bo) = (world.connect(ANA), world.connect(BO));
    world.watch(&ana, BO);
    world.hub.seen_elsewhere([sighting(BO, Presence::Away, None)]);
    world.hub.unregister(&ana, world.now);
    world.hub.unregister(&bo, world.now);
    let routes = world.hub.routes();
    assert_eq!((routes.users.len(), routes.convos.len()), (0, 0));
    assert_eq!((routes.watchers.len(), routes.elsewhere.len(), routes.unsure.len()), (0, 0, 0));
}

/// There may be very many of them, and nearly all are idle. With the counters of their `Arc` it is 224 bytes, which
/// the allocator hands out as they are.
#[test]
fn an_idle_connection_is_small() {
    let bytes = size_of::<Connection>() + 2 * size_of::<usize>();
    assert!(bytes <= 224, "{bytes}: what is seldom needed can be boxed");
    let routes = (size_of::<super::super::routes::User>(), size_of::<super::super::routes::Convo>());
    assert!(routes <= (128, 56), "{routes:?}: a user who is here, and a conversation");
}
