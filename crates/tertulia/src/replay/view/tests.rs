//! A view is right only if it has every entry once, in order, byte for byte and from the right sender.

use tertulia_protocol::entry::{ConversationType, HistoryPolicy};
use tertulia_protocol::{ClientSeq, Timestamp};

use super::*;
use crate::replay::log::parse;
use crate::replay::plan::Plan;

const CONVO: ConvoId = ConvoId::from_bytes([9; 16]);
const ANA: UserId = UserId::from_bytes([1; 16]);
const BO: UserId = UserId::from_bytes([2; 16]);
const CY: UserId = UserId::from_bytes([3; 16]);

/// Ana begins a group with Bo, adds Cy, and these are the lines at 3 to 7.
fn expected() -> Expected {
    let text =
        "[10:00] <ana> one\n[10:00] <bo> two\n[10:00] <bo> three\n[10:00] <cy> four\n[10:00] <ana> five\n";
    let mut plan = Plan::new(vec![parse("log".into(), text.as_bytes())], "tag");
    Expected::new(CONVO, plan.scripts.remove(0), Arc::new([ANA, BO, CY]), vec![vec![BO, ANA], vec![CY]])
}

fn entry(seq: u64, sender_id: UserId, kind: EntryKind) -> Entry {
    let client_seq = kind.is_message().then_some(ClientSeq::new(seq));
    Entry { convo_id: CONVO, seq: Seq::new(seq), sender_id, client_seq, ts: Timestamp::from_millis(0), kind }
}

fn said(seq: u64, sender: UserId, body: &str) -> Entry {
    entry(seq, sender, EntryKind::Text { body: body.into(), reply_to: None })
}

/// What everybody has to see.
fn all() -> Vec<Entry> {
    let created = EntryKind::Created {
        conversation_type: ConversationType::Group,
        title: Some("log (tag.1)".into()),
        user_ids: vec![ANA, BO],
        history: HistoryPolicy::All,
    };
    vec![
        entry(1, ANA, created),
        entry(2, ANA, EntryKind::MemberAdded { user_ids: vec![CY] }),
        said(3, ANA, "one"),
        said(4, BO, "two"),
        said(5, BO, "three"),
        said(6, CY, "four"),
        said(7, ANA, "five"),
    ]
}

/// The differences of a view of these entries.
#[track_caller]
fn check(seen: &[Entry], differences: &[&str]) {
    let (expected, mut view, mut found) = (expected(), View::new(), Vec::new());
    seen.iter()
        .for_each(|entry| view.take(&expected, entry, |difference| found.push(difference.to_string())));
    found.extend(view.finish(&expected).err().map(|difference| difference.to_string()));
    assert_eq!(found, differences);
}

#[test]
fn all_of_it_in_order_is_right() {
    check(&all(), &[]);
}

#[test]
fn what_is_missing_is_found() {
    let mut seen = all();
    seen.drain(3..5);
    check(&seen, &["entries 4 to 5 are missing"]);
    check(&all()[..6], &["entry 7 is missing"]);
    check(&[], &["entries 1 to 7 are missing"]);
}

#[test]
fn what_came_twice_is_found() {
    let mut seen = all();
    seen.insert(5, seen[4].clone());
    check(&seen, &["entry 5 came again or too late: 6 was due"]);
}

#[test]
fn what_came_in_another_order_is_found() {
    let mut seen = all();
    seen.swap(3, 4);
    check(&seen, &["entry 4 is missing", "entry 4 came again or too late: 6 was due"]);
}

#[test]
fn lines_that_were_stored_in_another_order_are_found() {
    let mut seen = all();
    (seen[3], seen[4]) = (said(4, BO, "three"), said(5, BO, "two"));
    check(
        &seen,
        &["entry 4 is \"three\" where \"two\" was sent", "entry 5 is \"two\" where \"three\" was sent"],
    );
}

#[test]
fn a_byte_that_was_altered_is_found() {
    let mut seen = all();
    seen[5] = said(6, CY, "four ");
    check(&seen, &["entry 6 is \"four \" where \"four\" was sent"]);
}

#[test]
fn a_line_in_the_name_of_another_is_found() {
    let mut seen = all();
    seen[5] = said(6, BO, "four");
    check(&seen, &["entry 6 is in the name of another"]);
}

#[test]
fn an_entry_of_another_conversation_is_found_and_changes_nothing_else() {
    let mut seen = all();
    let foreign = Entry { convo_id: ConvoId::from_bytes([8; 16]), ..said(4, BO, "two") };
    seen.insert(3, foreign);
    check(&seen, &["an entry of conversation 08080808-0808-0808-0808-080808080808, which is none of his"]);
}

#[test]
fn an_entry_that_nobody_has_written_is_found() {
    let mut seen = all();
    seen.push(said(8, ANA, "six"));
    check(&seen, &["entry 8 was written by nobody here"]);
    let mut seen = all();
    seen[1] = entry(2, ANA, EntryKind::MemberAdded { user_ids: vec![BO] });
    check(&seen, &["entry 2 was written by nobody here"]);
}

#[test]
fn unread_are_the_messages_of_others_after_ones_own_last() {
    let expected = expected();
    assert_eq!([0, 1, 2].map(|person| expected.last_of(person).get()), [7, 5, 6]);
    assert_eq!([0, 1, 2].map(|person| expected.unread_of(person)), [0, 2, 1]);
}
