//! What does not come, or too early, is read from the log once for all readers.

use super::*;

#[test]
fn what_comes_too_early_waits_for_what_is_before_it() {
    let mut world = World::of_many();
    let (ana, bo) = (world.connect(ANA), world.connect(BO));
    let late = world.text("late");
    world.send("early", Some(&ana));
    assert_eq!((got(&ana), got(&bo)), (vec!["ack 7=2".to_owned()], Vec::new()), "an ack waits for nobody");
    world.deliver(&late);
    assert_eq!(
        (got(&ana), got(&bo)),
        (vec!["1 late @2".to_owned()], vec!["1 late @2".to_owned(), "2 early @2".to_owned()])
    );
    assert_eq!((world.hub.overdue(), bo.is_lagging()), (Vec::new(), false));
    assert_eq!(world.hub.position(), at(3), "nothing is missing any more");
}

#[test]
fn what_does_not_come_is_read_from_the_log_once_for_all() {
    let mut world = World::of_many();
    let (bo, cy) = (world.connect(BO), world.connect(CY));
    let lost = [world.text("lost on its way here"), world.text("this one, too")];
    world.send("c", None);
    assert_eq!(world.hub.overdue(), [], "it may still come");
    let hole = Hole { convo: CONVO, from: Seq::new(1), last: Seq::new(3) };
    assert_eq!(world.hub.overdue(), [hole]);
    assert_eq!(world.hub.overdue(), [hole], "until it is filled");
    for entry in &lost {
        world.deliver(entry);
    }
    assert_eq!(world.hub.overdue(), []);
    for reader in [bo, cy] {
        assert_eq!(got(&reader), ["1 lost on its way here @3", "2 this one, too @3", "3 c @3"]);
    }
}

/// Bo comes with a head that was read before another entry was delivered, to nobody.
#[test]
fn where_nobody_else_appends_what_did_not_come_is_read_at_once() {
    let mut world = World::new(Limits::default());
    let lost = world.text("told before anybody was here");
    let bo = world.connect_in(BO, &[Head { convo: CONVO, last_seq: Seq::new(0), member_count: 2 }]);
    world.send("b", None);
    assert_eq!(world.hub.overdue(), [Hole { convo: CONVO, from: Seq::new(1), last: Seq::new(2) }]);
    world.deliver(&lost);
    assert_eq!(got(&bo), ["1 told before anybody was here @3", "2 b @3"]);
}

#[test]
fn what_is_known_to_be_there_and_did_not_come_is_a_hole_at_once() {
    let mut world = World::new(Limits::default());
    let bo = world.connect(BO);
    world.hub.has_come_to(CONVO, Seq::new(0));
    assert_eq!(world.hub.overdue(), []);
    let lost = world.text("lost");
    world.hub.has_come_to(CONVO, Seq::new(1));
    assert_eq!(world.hub.overdue(), [Hole { convo: CONVO, from: Seq::new(1), last: Seq::new(1) }]);
    world.deliver(&lost);
    assert_eq!((got(&bo), world.hub.overdue()), (vec!["1 lost @1".to_owned()], Vec::new()));
}

#[test]
fn no_more_waits_behind_a_hole_than_fits_and_the_rest_is_read_too() {
    let mut world = World::of_many();
    let bo = world.connect(BO);
    let lost = world.text("lost");
    for _ in 0..600 {
        world.send("x", None);
    }
    world.hub.overdue();
    world.deliver(&lost);
    let first = got(&bo).len();
    assert!((2..600).contains(&first), "{first}");
    let [Hole { from, last, .. }] = world.hub.overdue()[..] else { panic!("the rest is still missing") };
    assert_eq!((from, last), (Seq::new(first as u64 + 1), Seq::new(601)));
    for (entry, _) in world.log.clone().split_off(first) {
        world.hub.deliver([Committed {
            outcome: &Outcome::Appended { entry, shared: None },
            origin: None,
            shows_read: true,
        }]);
    }
    assert_eq!((got(&bo).len(), world.hub.overdue()), (601 - first, Vec::new()));
}

/// He has read what the hub has still to deliver, and news came between that page and the next, which is empty.
#[test]
fn who_has_read_ahead_takes_nothing_from_others_when_news_come_in_between() {
    let mut world = World::new(Limits::default());
    let bo = world.connect(BO);
    world.send("a", None);
    let late = world.text("b");
    assert_eq!(got(&bo).len(), 1);
    world.hub.lacks_news(CONVO, Some(Commit::new(1)));
    for page in [vec![world.log[1].clone()], Vec::new()] {
        assert!(matches!(world.hub.next_step(&bo), Some(Step::News { .. })));
        world.hub.give_news(&bo, CONVO, None, None, &HashSet::new());
        assert!(matches!(world.hub.next_step(&bo), Some(Step::Page { .. })));
        if !page.is_empty() {
            world.hub.lacks_news(CONVO, Some(Commit::new(1)));
        }
        world.hub.give_page(&bo, CONVO, &HistorySlice { entries: page, has_more: false });
    }
    assert_eq!((world.hub.next_step(&bo), got(&bo)), (None, vec!["2 b".to_owned()]));
    let cy = world.connect(CY);
    world.deliver(&late);
    world.hub.caught_up(at(3));
    assert_eq!((got(&cy), got(&bo)), (vec!["2 b @2".to_owned()], Vec::new()));
    world.send("c", None);
    assert_eq!((got(&cy), got(&bo)), (vec!["3 c @3".to_owned()], vec!["3 c @3".to_owned()]));
}

/// A hint makes a reader read by himself what the hub also reads for all.
#[test]
fn who_has_read_what_is_missing_here_gets_it_once() {
    let mut world = World::of_many();
    let bo = world.connect(BO);
    let lost: Vec<_> = (0..3).map(|_| world.text("x")).collect();
    world.hub.caught_up(at(9));
    world.hub.has_come_to(CONVO, Seq::new(3));
    world.hub.lacks_news(CONVO, Some(Commit::new(1)));
    world.catch_up_with_news(&bo);
    assert_eq!((got(&bo).len(), world.hub.next_step(&bo)), (3, None));
    for entry in &lost {
        world.hub.deliver([Committed { outcome: &entry.0, origin: None, shows_read: true }]);
    }
    assert_eq!((got(&bo), bo.is_lagging()), (Vec::new(), false));
}

#[test]
fn news_that_were_not_told_here_are_read_by_the_readers() {
    let mut world = World::new(Limits::default());
    let bo = world.connect(BO);
    world.send("a", None);
    assert_eq!(got(&bo), ["1 a @1"]);
    world.hub.lacks_news(CONVO, Some(Commit::new(1)));
    let news = Step::News { convo: CONVO, since: Some(Commit::new(1)), whole: false };
    assert_eq!(world.hub.next_step(&bo), Some(news));
}
