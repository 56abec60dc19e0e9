//! A shelf, by what is laid on it and what is taken.

use tertulia_protocol::{ConvoId, Seq};
use tertulia_store::Touched;

use super::*;
use crate::kafka::begin::Why;

fn came(first: u64, last: u64) -> Option<Record> {
    let convo = ConvoId::from_bytes([7; 16]);
    Some(Record::Came(Touched { convo, first: Seq::new(first), last: Seq::new(last) }))
}

/// A partition that was just assigned.
fn new_shelf() -> Shelf {
    let mut shelf = Shelf::default();
    shelf.assign(0);
    assert_eq!(shelf.unknown(), [0]);
    shelf
}

/// One partition, in which a consumer was up to record 15.
fn shelf() -> Shelf {
    let mut shelf = new_shelf();
    assert!(shelf.found(0, Found::At(15)).is_empty());
    assert!(shelf.unknown().is_empty());
    shelf
}

fn offsets(news: &News) -> Vec<i64> {
    news.place.offsets.iter().map(|offset| offset.next).collect()
}

#[test]
fn what_was_fetched_is_given_once_and_its_place_is_behind_it() {
    let mut shelf = shelf();
    shelf.put(0, 15, Some(1_000), came(1, 3));
    shelf.put(0, 16, Some(2_000), came(4, 4));
    // 17, 18 and 19 are not fetched yet.
    shelf.ends(0, 20);
    assert_eq!(shelf.lag(), [Lag { partition: 0, entries: 4 + 3, since_ms: Some(1_000) }]);
    let news = shelf.next();
    assert_eq!((news.came.len(), news.missed, news.more), (2, false, false));
    let place = Offset { partition: 0, turn: 1, next: 17 };
    assert_eq!(news.place.offsets, [place]);
    assert!(shelf.is_in_hand(0));
    assert_eq!(shelf.taken(&news.place), Taken { soon: vec![place], now: vec![] });
    assert!(!shelf.is_in_hand(0));
    let nothing = shelf.next();
    assert!(nothing.came.is_empty() && nothing.place.offsets.is_empty());
    shelf.ends(0, 17);
    assert_eq!(shelf.lag()[0].entries, 3, "an end never goes back");
}

#[test]
fn nothing_is_given_before_it_is_known_where_the_group_is() {
    let mut shelf = new_shelf();
    for offset in 10..18 {
        shelf.put(0, offset, None, came(1, 1));
    }
    let news = shelf.next();
    assert!(news.came.is_empty() && !news.missed && news.place.offsets.is_empty());
    // What was fetched of what the group has taken is not told again.
    shelf.found(0, Found::At(15));
    let news = shelf.next();
    assert_eq!((news.came.len(), news.missed, offsets(&news)), (3, false, vec![18]));
}

#[test]
fn who_begins_anew_is_told_once_and_begins_when_the_group_has_noted_where() {
    let mut shelf = new_shelf();
    let places = vec![(0, 12), (1, 7)];
    assert!(shelf.found(0, Found::Anew(places.clone(), Why::New)).is_empty());
    for offset in 10..14 {
        shelf.put(0, offset, None, came(1, 1));
    }
    let news = shelf.next();
    assert!(news.missed && news.came.is_empty());
    assert!(shelf.is_in_hand(0));
    assert!(!shelf.next().missed);
    // It takes its time.
    assert!(shelf.found(0, Found::Anew(vec![(0, 14)], Why::New)).is_empty());
    assert_eq!(shelf.taken(&news.place), Taken { soon: vec![], now: places.clone() });
    assert!(!shelf.is_in_hand(0));
    // It was noted in vain, and is noted again, as it was.
    assert_eq!(shelf.found(0, Found::Anew(vec![(0, 14)], Why::New)), places);
    assert!(shelf.next().came.is_empty());
    shelf.found(0, Found::At(12));
    let news = shelf.next();
    assert_eq!((news.came.len(), news.missed, offsets(&news)), (2, false, vec![14]));
}

#[test]
fn a_hole_in_the_offsets_and_a_record_of_others_show_that_something_was_missed() {
    let mut shelf = shelf();
    let missed = |shelf: &mut Shelf, offset, record| {
        shelf.put(0, offset, None, record);
        let news = shelf.next();
        assert_eq!(offsets(&news), [offset + 1]);
        news.missed
    };
    assert!(!missed(&mut shelf, 15, came(1, 1)));
    assert!(missed(&mut shelf, 17, came(2, 2)));
    assert!(missed(&mut shelf, 18, None));
    assert!(!missed(&mut shelf, 19, came(3, 3)));
    assert!(missed(&mut shelf, 20, Some(Record::Missed)));
    // The topic was made anew.
    assert!(missed(&mut shelf, 0, came(3, 3)));
    assert!(!missed(&mut shelf, 1, came(3, 3)));
}

#[test]
fn a_hole_where_the_reader_begins_shows_as_well() {
    // Fetched before it is known where he begins, or after that.
    for is_first in [true, false] {
        for (offset, is_missed) in [(14, false), (15, false), (16, true)] {
            let mut shelf = new_shelf();
            if is_first {
                shelf.put(0, offset, None, came(1, 1));
                shelf.put(0, offset + 1, None, came(2, 2));
            }
            shelf.found(0, Found::At(15));
            if !is_first {
                shelf.put(0, offset, None, came(1, 1));
                shelf.put(0, offset + 1, None, came(2, 2));
            }
            let news = shelf.next();
            assert_eq!((news.missed, offsets(&news)), (is_missed, vec![offset + 2]), "{offset}");
            assert_eq!(news.came.len(), 2 - usize::from(offset == 14));
        }
    }
}

#[test]
fn what_is_anothers_by_now_is_not_noted() {
    let mut shelf = shelf();
    shelf.put(0, 15, None, came(1, 1));
    let news = shelf.next();
    shelf.withdraw(0);
    shelf.revoke(0);
    assert!(!shelf.is_in_hand(0));
    assert_eq!(shelf.taken(&news.place), Taken::default());
    // Also when it came back meanwhile.
    shelf.assign(0);
    shelf.found(0, Found::At(15));
    assert_eq!(shelf.taken(&news.place), Taken::default());
    // What comes for a partition that is another's goes.
    shelf.put(5, 1, None, came(1, 1));
    assert!(shelf.next().came.is_empty());
}

#[test]
fn who_loses_a_partition_before_he_is_told_that_he_missed_something_is_not_told() {
    let mut shelf = shelf();
    shelf.put(0, 17, None, came(2, 2));
    shelf.assign(1);
    shelf.found(1, Found::Anew(vec![(1, 20)], Why::New));
    shelf.withdraw(0);
    shelf.withdraw(1);
    let news = shelf.next();
    assert!(!news.missed && news.place.offsets.is_empty(), "whoever has it next finds the same");
    assert!(!shelf.is_in_hand(1));
}

#[test]
fn a_partition_with_much_on_the_shelf_is_paused_until_there_is_room() {
    let mut shelf = shelf();
    let records = KEPT_MAX as i64;
    for number in 0..records {
        shelf.put(0, 15 + number, None, came(1, 1));
    }
    assert_eq!(shelf.rooms(), (vec![0], vec![]));
    assert_eq!(shelf.rooms(), (vec![], vec![]));
    assert!(shelf.next().more);
    assert_eq!(shelf.rooms(), (vec![], vec![]));
    while shelf.next().more {}
    assert_eq!(shelf.rooms(), (vec![], vec![0]));
}
