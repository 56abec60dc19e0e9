//! How many sockets a device has.

use super::*;

fn open(world: &World, mode: Mode, device: u8) -> Arc<Connection> {
    let who = (ANA, DeviceId::from_bytes([device; 16]));
    world.hub.register(mode, who, Privacy::default(), world.hub.position(), world.now).0
}

/// Why it is to be closed, if it is.
fn close_of(connection: &Connection) -> Option<CloseReason> {
    connection.take().close.map(|close| close.reason)
}

#[test]
fn one_socket_too_many_has_the_one_close_that_was_silent_the_longest() {
    let mut world = World::new(Limits::default());
    let sockets: Vec<_> = (0..SOCKETS_MAX).map(|_| open(&world, Mode::Socket, 1)).collect();
    // What is no socket, or of another device, has nothing to do with it.
    let others = [open(&world, Mode::Poll, 1), open(&world, Mode::Poll, 1), open(&world, Mode::Socket, 2)];
    world.now = world.now.plus(Duration::from_secs(1));
    for heard in [0, 2, 3] {
        world.hub.alive(&sockets[heard], world.now);
    }
    let newest = open(&world, Mode::Socket, 1);
    let closed = |connection: &Arc<Connection>| close_of(connection).is_some();
    assert_eq!(sockets.iter().map(closed).collect::<Vec<_>>(), [false, true, false, false]);
    assert!(!closed(&newest) && !others.iter().any(closed));
    // It is not gone yet, and no longer counts.
    let more = [open(&world, Mode::Socket, 1), open(&world, Mode::Socket, 1)];
    assert_eq!(close_of(&sockets[0]), Some(CloseReason::RateLimited), "of two of one moment the older one");
    assert!(closed(&sockets[2]));
    for gone in [&sockets[0], &sockets[1], &sockets[2], &sockets[3]] {
        world.hub.unregister(gone, world.now);
    }
    let last = open(&world, Mode::Socket, 1);
    assert!(![&newest, &more[0], &more[1], &last].into_iter().any(closed), "there was room");
}

#[test]
fn who_is_here_and_who_lags_is_counted_as_they_come_and_go() {
    let mut world = World::new(Limits { frames: 1, ..Limits::default() });
    let counts = |world: &World| {
        let Present { sockets, polls, users, conversations, lagging } = world.hub.present();
        [sockets, polls, users, conversations, lagging]
    };
    assert_eq!(counts(&world), [0; 5]);
    let bo = world.connect(BO);
    let poll = open(&world, Mode::Poll, 1);
    assert_eq!(counts(&world), [1, 1, 2, 1, 1], "who has just come does not know what he missed");
    world.hub.attach(ANA, &[]);
    world.hub.finish_resume(&poll, Missed::default(), &HashSet::new());
    let second = open(&world, Mode::Socket, 2);
    world.hub.finish_resume(&second, Missed::default(), &HashSet::new());
    assert_eq!(counts(&world), [2, 1, 2, 1, 0]);
    for body in ["a", "b"] {
        world.send(body, None);
    }
    assert_eq!(counts(&world), [2, 1, 2, 1, 1]);
    assert_eq!(got(&bo).len(), 1);
    world.catch_up(&bo);
    assert_eq!(counts(&world), [2, 1, 2, 1, 0]);
    for body in ["c", "d"] {
        world.send(body, None);
    }
    // Gone while it lags; and who says twice that he goes, goes once.
    for gone in [&bo, &bo, &poll] {
        world.hub.unregister(gone, world.now);
    }
    assert_eq!(counts(&world)[..3], [1, 0, 1]);
    assert_eq!(counts(&world)[4], 0);
    world.hub.unregister(&second, world.now);
    assert_eq!(counts(&world)[..3], [0; 3]);
}
