//! Whoever comes back gets what he missed, or has it named.

use super::*;

#[test]
fn who_missed_more_than_a_thousand_gets_the_newest_and_a_gap() {
    let mut world = World::new(Limits { frames: 4_096, ..Limits::default() });
    let (connection, _) = {
        let who = (BO, DeviceId::from_bytes([9; 16]));
        world.hub.register(Mode::Socket, who, Privacy::default(), at(1), world.now)
    };
    world.hub.attach(BO, &[Head { convo: CONVO, last_seq: Seq::default(), member_count: 2 }]);
    let missed = MISSED_MAX + 1;
    for _ in 0..missed {
        world.send("x", None);
    }
    world.hub.finish_resume(&connection, changed(missed_from(1, missed)), &HashSet::new());
    world.catch_up(&connection);
    let got = got(&connection);
    assert_eq!(got[0], format!("gap 1-{}", missed - MISSED_KEPT));
    assert_eq!(got.len() as u64, 1 + MISSED_KEPT);
    assert!(!connection.is_lagging());
}

/// What Bo missed since the first commit: all there is, and it came along.
fn missed_all(world: &World) -> Missed {
    let entries = world.log.clone();
    let last_seq = entries.last().map_or(Seq::default(), |(entry, _)| entry.seq);
    let change = missed_from(1, last_seq.get());
    Missed { changes: vec![change], pages: vec![(CONVO, HistorySlice { entries, has_more: false })] }
}

/// As a connection's task does it, whose client reads nothing: gives him pages until no more is wanted, and says how many
/// entries were read.
fn catch_up_without_reading(world: &World, connection: &Arc<Connection>) -> usize {
    let mut read = 0;
    while let Some(step) = world.hub.next_step(connection) {
        let Step::Page { convo, after, limit } = step else { panic!("no news here: {step:?}") };
        let lacking = world.log.iter().filter(|(entry, _)| entry.seq > after);
        let entries: Vec<_> = lacking.clone().take(limit).cloned().collect();
        read += entries.len();
        let has_more = lacking.count() > entries.len();
        world.hub.give_page(connection, convo, &HistorySlice { entries, has_more });
    }
    read
}

#[test]
fn a_page_fills_no_outbox_beyond_its_bound_and_what_found_no_room_comes_later() {
    let limits = Limits { bytes: 8_000, ..Limits::default() };
    let (short, half, long) = ("x".repeat(10), "x".repeat(3_000), "\u{1}".repeat(3_000));
    for (lengths, comes_along) in [
        (vec![&short; 150], true),
        (vec![&half; 150], true),
        (vec![&half; 150], false),
        (vec![&long; 20], true),
        (vec![&long; 20], false),
        ([&short, &long, &half, &long, &long, &short].repeat(10), true),
        ([&half, &half, &short, &long].repeat(10), false),
    ] {
        let mut world = World::new(limits);
        let bo = if comes_along { returning(&world) } else { world.begin_resume(1) };
        lengths.iter().for_each(|body| world.send(body, None));
        let sent = lengths.len() as u64;
        let missed = if comes_along { missed_all(&world) } else { changed(missed_from(1, sent)) };
        world.hub.finish_resume(&bo, missed, &HashSet::new());
        let (mut all, mut read) = (Vec::new(), 0);
        loop {
            read += catch_up_without_reading(&world, &bo);
            let outbox = bo.take().outbox;
            let (frames, bytes) = (outbox.frames(), outbox.bytes());
            if frames == 0 {
                break;
            }
            assert!(bytes <= limits.bytes || frames == 1, "{frames} frames of {bytes} bytes");
            all.extend(said(&outbox));
        }
        let expected: Vec<_> =
            lengths.iter().zip(1..=sent).map(|(body, seq)| format!("{seq} {body}")).collect();
        assert_eq!(all.len(), expected.len());
        let (last, others) = all.split_last().unwrap();
        assert_eq!(others, &expected[..expected.len() - 1]);
        assert_eq!(*last, format!("{} @{}", expected.last().unwrap(), sent + 1), "live again");
        assert!(!bo.is_lagging());
        assert!(read as u64 <= 3 * sent + PAGE_MAX as u64, "{read} were read to give {sent}");
    }
}

#[test]
fn an_entry_that_found_no_room_comes_next_however_much_comes_elsewhere_meanwhile() {
    let mut world = World::new(Limits { bytes: 8_000, ..Limits::default() });
    let bo = returning(&world);
    world.send("a", None);
    world.send(&"x".repeat(7_000), None);
    world.hub.finish_resume(&bo, changed(missed_from(1, 2)), &HashSet::new());
    let elsewhere = encode(&ServerEvent::Pong { position: "1".to_owned() });
    let mut rounds = 0;
    let mut all = Vec::new();
    while bo.is_lagging() {
        let Some(Step::Page { convo, .. }) = world.hub.next_step(&bo) else { panic!("an empty outbox") };
        // While the page is read something else comes to fill the outbox.
        (0..300).for_each(|_| bo.push(elsewhere.clone()));
        let entries = world.log.clone();
        world.hub.give_page(&bo, convo, &HistorySlice { entries, has_more: false });
        all.extend(got(&bo).into_iter().filter(|event| !event.starts_with("Pong")));
        rounds += 1;
        assert!(rounds < 5);
    }
    assert_eq!(all.len(), 2);
}

fn returning(world: &World) -> Arc<Connection> {
    let who = (BO, DeviceId::from_bytes([9; 16]));
    let (connection, _) = world.hub.register(Mode::Socket, who, Privacy::default(), at(1), world.now);
    world.hub.attach(BO, &[Head { convo: CONVO, last_seq: Seq::default(), member_count: 2 }]);
    connection
}

#[test]
fn what_was_missed_and_came_along_is_given_at_once_and_the_last_says_how_far() {
    let mut world = World::new(Limits::default());
    let bo = returning(&world);
    assert_eq!(world.hub.next_step(&bo), Some(Step::Missed { since: at(1) }));
    world.send("a", None);
    world.send("b", None);
    assert!(got(&bo).is_empty(), "nothing is live before it is known what was missed");
    world.hub.finish_resume(&bo, missed_all(&world), &HashSet::new());
    assert_eq!(got(&bo), ["1 a", "2 b @3"]);
    assert_eq!(world.hub.next_step(&bo), None);
    world.send("c", None);
    assert_eq!(got(&bo), ["3 c @3"]);
}

#[test]
fn what_came_after_what_came_along_is_read() {
    let mut world = World::new(Limits::default());
    let bo = returning(&world);
    world.send("a", None);
    let missed = missed_all(&world);
    world.send("b", None);
    world.hub.finish_resume(&bo, missed, &HashSet::new());
    assert_eq!(got(&bo), ["1 a"]);
    world.catch_up(&bo);
    assert_eq!(got(&bo), ["2 b @3"]);
}

#[test]
fn who_was_put_out_after_it_was_read_gets_nothing_of_what_came_along() {
    let mut world = World::new(Limits::default());
    let bo = returning(&world);
    world.send("a", None);
    let missed = missed_all(&world);
    let removal = world.remove_bo();
    world.deliver(&removal);
    bo.take();
    world.hub.finish_resume(&bo, missed, &HashSet::new());
    assert!(bo.take().outbox.is_empty());
}

#[test]
fn what_cannot_be_read_now_comes_after_what_is_lacking_elsewhere() {
    let world = World::of_many();
    let convos = [3, 5, 7].map(|number| ConvoId::from_bytes([number; 16]));
    let who = (BO, DeviceId::from_bytes([9; 16]));
    let (bo, _) = world.hub.register(Mode::Socket, who, Privacy::default(), at(1), world.now);
    let (first, last_seq) = (Seq::new(5), Seq::new(9));
    world.hub.attach(BO, &convos.map(|convo| Head { convo, last_seq, member_count: 2 }));
    let change = |convo| Change::In {
        convo,
        joined: false,
        first_missed: Some(first),
        last_seq,
        shared: None,
        own: None,
        receipts: Vec::new(),
    };
    let missed = Missed { changes: convos.map(change).into(), pages: Vec::new() };
    world.hub.finish_resume(&bo, missed, &HashSet::new());
    for convo in convos.into_iter().chain(convos) {
        let step = world.hub.next_step(&bo).unwrap();
        assert_eq!(step, Step::Page { convo, after: first.previous(), limit: PAGE_MAX });
        world.hub.put_off(&bo, step);
    }
}
