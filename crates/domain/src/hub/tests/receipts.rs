//! Watermarks only rise, and nobody is told more of them than he may know and needs.

use super::*;

fn mark(user: UserId, upto: u64) -> Receipt {
    let (seq, ts) = (Seq::new(upto), Timestamp::default());
    Receipt { convo: CONVO, user, delivered: seq, read: seq, ts, delivered_at: Some(ts) }
}

const HIDES: Privacy = Privacy { last_seen: Audience::Everyone, read_receipts: Audience::Nobody };

fn tell(world: &World, receipt: Receipt, shows_read: bool) {
    let outcome = Outcome::Marked(receipt);
    world.hub.deliver([Committed { outcome: &outcome, origin: None, shows_read }]);
}

/// Ana has received so much, and read so much; what she received moved now or did not.
fn ana_at(delivered: u64, read: u64, moved: bool) -> Receipt {
    let (delivered, read) = (Seq::new(delivered), Seq::new(read));
    Receipt { delivered, read, delivered_at: moved.then(Timestamp::default), ..mark(ANA, 0) }
}

#[test]
fn a_watermark_that_comes_behind_a_higher_one_is_told_to_nobody() {
    let mut world = World::of_many();
    let bo = world.connect(BO);
    for upto in [3, 2, 4] {
        let outcome = Outcome::Marked(mark(ANA, upto));
        world.hub.deliver([Committed { outcome: &outcome, origin: None, shows_read: true }]);
    }
    assert_eq!(got(&bo), ["receipt 3 3", "receipt 4 4"]);
    // Each of the two may be ahead.
    let outcome = Outcome::Marked(Receipt { delivered: Seq::new(6), read: Seq::new(1), ..mark(ANA, 0) });
    world.hub.deliver([Committed { outcome: &outcome, origin: None, shows_read: true }]);
    assert_eq!(got(&bo), ["receipt 6 4"]);
}

#[test]
fn a_watermark_that_somebody_has_read_is_told_to_all_and_none_below_it_to_anybody() {
    let mut world = World::of_many();
    let (bo, cy) = (world.connect(BO), world.connect(CY));
    world.hub.lacks_news(CONVO, Some(Commit::new(1)));
    let change = Change::In {
        convo: CONVO,
        joined: false,
        first_missed: None,
        last_seq: Seq::new(0),
        shared: None,
        own: None,
        receipts: vec![mark(ANA, 3)],
    };
    assert!(matches!(world.hub.next_step(&bo), Some(Step::News { .. })));
    world.hub.give_news(&bo, CONVO, None, Some(change), &HashSet::new());
    world.catch_up(&bo);
    // Who lags too is told it at once; when he has read it himself, both are live.
    assert_eq!((got(&bo), got(&cy)), (vec!["receipt 3 3".to_owned()], vec!["receipt 3 3".to_owned()]));
    world.catch_up_with_news(&cy);
    let later = world.connect(CY);
    for upto in [2, 3, 4] {
        let outcome = Outcome::Marked(mark(ANA, upto));
        world.hub.deliver([Committed { outcome: &outcome, origin: None, shows_read: true }]);
    }
    for reader in [&bo, &cy, &later] {
        assert_eq!(got(reader), ["receipt 4 4"]);
    }
}

#[test]
fn who_lags_is_told_a_watermark_at_once_and_reads_nothing_more_for_it() {
    let mut world = World::of_many();
    let cy = world.connect(CY);
    let marked = |world: &World, upto| {
        let outcome = Outcome::Marked(mark(ANA, upto));
        world.hub.deliver([Committed { outcome: &outcome, origin: None, shows_read: true }]);
    };
    world.hub.lacks_news(CONVO, Some(Commit::new(1)));
    assert!(matches!(world.hub.next_step(&cy), Some(Step::News { .. })));
    marked(&world, 3);
    assert_eq!(got(&cy), ["receipt 3 3"]);
    // What he was reading meanwhile is older.
    let change = Change::In {
        convo: CONVO,
        joined: false,
        first_missed: None,
        last_seq: Seq::new(0),
        shared: None,
        own: None,
        receipts: vec![mark(ANA, 2)],
    };
    world.hub.give_news(&cy, CONVO, None, Some(change), &HashSet::new());
    assert_eq!(got(&cy), ["receipt 3 3"]);
    assert!(matches!(world.hub.next_step(&cy), Some(Step::Page { .. })));
    marked(&world, 4);
    assert_eq!(got(&cy), ["receipt 4 4"]);
    world.catch_up(&cy);
    assert_eq!((world.hub.next_step(&cy), cy.is_lagging(), got(&cy)), (None, false, vec![]));
}

#[test]
fn how_far_a_sender_has_read_is_news_to_nobody_who_has_what_he_sent() {
    let mut world = World::of_many();
    let (bo, cy) = (world.connect(BO), world.connect(CY));
    let said = world.text("a");
    world.deliver(&said);
    assert_eq!((got(&bo).len(), got(&cy).len()), (1, 1));
    // Bo reads the store, where what Ana has sent has moved her watermarks, and Cy lags meanwhile.
    world.hub.lacks_news(CONVO, Some(Commit::new(1)));
    let change = Change::In {
        convo: CONVO,
        joined: false,
        first_missed: None,
        last_seq: Seq::new(1),
        shared: None,
        own: None,
        receipts: vec![mark(ANA, 1)],
    };
    world.catch_up_with_news(&cy);
    assert!(matches!(world.hub.next_step(&bo), Some(Step::News { .. })));
    world.hub.give_news(&bo, CONVO, None, Some(change), &HashSet::new());
    world.catch_up(&bo);
    assert_eq!(got(&bo), ["receipt 1 1"]);
    assert_eq!((world.hub.next_step(&cy), cy.is_lagging(), got(&cy)), (None, false, vec![]));
}

#[test]
fn who_hides_what_he_has_read_shows_none_and_sees_none() {
    let receipt = |user| Receipt { user, ..ana_at(2, 1, true) };
    let mut world = World::new(Limits::default());
    let (ana, bo) = (world.connect(ANA), world.connect_with(BO, HIDES));
    for (user, shows_read) in [(ANA, true), (BO, false)] {
        let outcome = Outcome::Marked(receipt(user));
        world.hand_over(Commit::new(1), Committed { outcome: &outcome, origin: None, shows_read });
    }
    assert_eq!(got(&ana), ["receipt 2 1", "receipt 2 hidden"]);
    assert_eq!(got(&bo), ["receipt 2 hidden", "receipt 2 1"]);
}

#[test]
fn a_receipt_of_what_was_read_alone_is_none_to_whom_that_is_hidden() {
    for mut world in [World::new(Limits::default()), World::of_many()] {
        // Cy hides what he has read, and so sees nothing of others.
        let (bo, cy) = (world.connect(BO), world.connect_with(CY, HIDES));
        tell(&world, ana_at(5, 1, true), true);
        tell(&world, ana_at(5, 5, false), true);
        assert_eq!(got(&bo), ["receipt 5 1", "receipt 5 5"]);
        assert_eq!(got(&cy), ["receipt 5 hidden"]);
        // Ana hides, too.
        tell(&world, ana_at(7, 5, true), false);
        tell(&world, ana_at(7, 7, false), false);
        assert_eq!((got(&bo), got(&cy)), (vec!["receipt 7 hidden".into()], vec!["receipt 7 hidden".into()]));
        world.hub.lacks_news(CONVO, Some(Commit::new(1)));
        let change = |receipt| Change::In {
            convo: CONVO,
            joined: false,
            first_missed: None,
            last_seq: Seq::new(0),
            shared: None,
            own: None,
            receipts: vec![receipt],
        };
        for (receipt, expected) in
            [(ana_at(7, 7, false), vec![]), (ana_at(7, 7, true), vec!["receipt 7 hidden".to_owned()])]
        {
            world.hub.lacks_news(CONVO, Some(Commit::new(1)));
            world.hub.give_news(&cy, CONVO, None, Some(change(receipt)), &HashSet::new());
            world.catch_up(&cy);
            assert_eq!(got(&cy), expected);
        }
    }
}

#[test]
fn what_was_received_is_told_also_behind_what_was_read_later() {
    let mut world = World::of_many();
    let (bo, cy) = (world.connect(BO), world.connect_with(CY, HIDES));
    tell(&world, ana_at(5, 5, false), true);
    assert_eq!((got(&bo), got(&cy)), (vec!["receipt 5 5".to_owned()], vec![]));
    // The letter that came too late: to those who see all it is nothing new.
    tell(&world, ana_at(5, 1, true), true);
    assert_eq!((got(&bo), got(&cy)), (vec![], vec!["receipt 5 hidden".to_owned()]));
    tell(&world, ana_at(5, 1, true), true);
    assert_eq!((got(&bo), got(&cy)), (vec![], vec![]));
}
