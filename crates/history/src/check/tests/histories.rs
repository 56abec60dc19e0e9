//! A history that is right, and what breaks a rule of it.

use tertulia_protocol::{Code, Seq};

use super::story::*;
use crate::check::{Rule, Verdict};
use crate::event::*;

/// Ana (1, on connection 1) and Bo (2, on 2) talk; Cy (3) is added, is away for a while, resumes, is removed.
fn base() -> Story {
    let all = entries();
    let mut story = Story::default();
    for number in 1..=3 {
        story.tell("", login(number));
        story.tell(&format!("open {number}"), connect(number.into(), number));
    }
    story
        .tell("1 to ana", push(1, &all[0], Some("a1")))
        .tell("1 to bo", push(2, &all[0], Some("b1")))
        .tell("send 2", send(Some(1), 1, 1))
        .tell("ack 2", ack(Some(1), 1, 1, 2))
        .tell("2 to bo", push(2, &all[1], Some("b2")))
        .tell("send 3", send(Some(1), 1, 2))
        .tell("ack 3", ack(Some(1), 1, 2, 3))
        .tell("3 to bo", push(2, &all[2], Some("b3")))
        .tell("add", change(1, Kind::MemberAdded, 3))
        .tell("4 to ana", push(1, &all[3], Some("a4")))
        .tell("4 to bo", push(2, &all[3], Some("b4")))
        .tell("4 to cy", push(3, &all[3], Some("c4")))
        .tell("added", Done { op: 1 })
        .tell("send 5", send(Some(2), 2, 1))
        .tell("ack 5", ack(Some(2), 2, 1, 5))
        .tell("5 to ana", push(1, &all[4], Some("a5")))
        .tell("5 to cy", push(3, &all[4], Some("c5")))
        .tell("close 3", Close { c: 3, why: None })
        .tell("send 6", send(Some(1), 1, 3))
        .tell("ack 6", ack(Some(1), 1, 3, 6))
        .tell("6 to bo", push(2, &all[5], Some("b6")))
        .tell("resume", resume(4, 3, "c5"))
        .tell("6 to cy", push(4, &all[5], Some("c6")))
        .tell("remove", change(2, Kind::MemberRemoved, 3))
        .tell("7 to ana", push(1, &all[6], Some("a7")))
        .tell("7 to bo", push(2, &all[6], Some("b7")))
        .tell("7 to cy", push(4, &all[6], Some("c7")))
        .tell("removed", Done { op: 2 })
        .tell("cy reads", read(3, 3, 3))
        .tell("not found", Fail { op: 3, code: Some(Code::NotFound) })
        .tell("send 8", send(Some(1), 1, 4))
        .tell("ack 8", ack(Some(1), 1, 4, 8))
        .tell("8 to bo", push(2, &all[7], Some("b8")))
        .tell("bo's inbox", ReadInbox { op: 4, device: device(2) })
        .tell("bo has 2", inbox(4, 8, 5, 2))
        .tell("mark", mark(5, 8))
        .tell("marked", Done { op: 5 })
        .tell("receipt", receipt(8))
        .tell("bo's inbox again", ReadInbox { op: 6, device: device(2) })
        .tell("bo has 0", inbox(6, 8, 8, 0))
        .tell("final", Final {})
        .tell("ana reads", read(7, 1, 0))
        .tell("ana's page", page(7, &all))
        .tell("bo reads", read(8, 2, 0))
        .tell("bo's page", page(8, &all));
    story
}

fn entries() -> Vec<Seen> {
    vec![
        created(&[1, 2]),
        text(2, 1, 1),
        text(3, 1, 2),
        members(4, Kind::MemberAdded, 3),
        text(5, 2, 1),
        text(6, 1, 3),
        members(7, Kind::MemberRemoved, 3),
        text(8, 1, 4),
    ]
}

fn mark(op: u64, read: u64) -> Mark {
    Mark { op, device: device(2), convo: CONVO, delivered: None, read: Some(Seq::new(read)) }
}

fn receipt(read: u64) -> Receipt {
    let read = Seq::new(read);
    Receipt { c: 1, convo: CONVO, user: user(2), delivered: read, read: Some(read) }
}

/// Two send by REST, and in the end all is read.
fn by_rest(sends: &[(&str, Event)], in_the_end: &[Seen]) -> Story {
    let mut story = Story::default();
    story.tell("", login(1)).tell("", login(2));
    for (label, event) in sends {
        story.tell(label, event.clone());
    }
    let all = [&[created(&[1, 2])], in_the_end].concat();
    story.tell("final", Final {}).tell("read", read(1, 1, 0)).tell("page", page(1, &all));
    story
}

#[test]
fn a_history_that_is_right_breaks_no_rule_and_every_rule_has_something_to_judge() {
    let report = base().check(5);
    assert_eq!((report.verdict, &report.invalid[..]), (Verdict::Holds, &[][..]), "{report}");
    assert!(report.rules.iter().all(|rule| rule.judged > 0), "{report}");
    assert_eq!((report.counts.acked, report.counts.resumes, report.counts.failures), (5, 1, 1));
}

#[test]
fn an_acked_message_that_is_gone_in_the_end() {
    let gone = |page: &mut Vec<Seen>| drop(page.pop());
    let story = base().edit_page("ana's page", gone).edit_page("bo's page", gone);
    story.breaks(Rule::AckedLoss, &["ack 8", "ana reads", "ana's page"]);
}

#[test]
fn a_text_that_nobody_sent() {
    let other = Seen { body: Some(body(1, 99)), ..text(8, 1, 4) };
    base().replace("8 to bo", push(2, &other, None)).breaks(Rule::Phantom, &["send 8", "8 to bo"]);
}

#[test]
fn a_message_that_nobody_sent() {
    let story = base().remove("send 8").remove("ack 8");
    story.breaks(Rule::Phantom, &["8 to bo"]);
    let acked = base().insert_before("final", "ack 9", ack(Some(1), 1, 9, 9));
    acked.breaks(Rule::Phantom, &["ack 9"]);
}

#[test]
fn a_message_that_was_refused_for_good_and_is_there() {
    let refused = refuse(Some(1), 1, 4, Code::Forbidden);
    base().replace("ack 8", refused).breaks(Rule::Phantom, &["ack 8", "8 to bo"]);
    let unavailable = refuse(Some(1), 1, 4, Code::Unavailable);
    assert_eq!(base().replace("ack 8", unavailable).broken(), [], "it may be stored");
}

#[test]
fn an_edited_text_is_right_once_the_edit_was_begun_and_a_deleted_one_is_gone() {
    let edited = Seen { body: Some(body(1, 99)), ..text(8, 1, 4) };
    let gone = Seen { body: None, ..text(8, 1, 4) };
    let edit = |kind, body| Change {
        op: 90,
        device: device(1),
        convo: CONVO,
        kind,
        users: vec![],
        target: Some(Seq::new(8)),
        body,
    };
    let shown = |seen: Seen| base().edit_page("bo's page", move |page| page[7] = seen);
    assert_eq!(shown(edited.clone()).insert_before("final", "", edit(Kind::Edit, edited.body)).broken(), []);
    assert_eq!(shown(gone.clone()).insert_before("final", "", edit(Kind::Delete, None)).broken(), []);
    shown(edited).breaks(Rule::Phantom, &["send 8", "bo's page"]);
    shown(gone).breaks(Rule::Phantom, &["send 8", "bo's page"]);
}

#[test]
fn a_message_that_is_there_twice() {
    let twice = text(9, 1, 4);
    let add = |page: &mut Vec<Seen>| page.push(text(9, 1, 4));
    let story = base().insert_before("bo's inbox", "9 to bo", push(2, &twice, None));
    let inboxes = story.replace("bo has 2", inbox(4, 9, 5, 3)).replace("bo has 0", inbox(6, 9, 8, 1));
    let story = inboxes.edit_page("ana's page", add).edit_page("bo's page", add);
    story.breaks(Rule::Duplicate, &["ack 8", "9 to bo"]);
}

#[test]
fn one_ack_here_and_another_there() {
    let story = base().insert_before("final", "", send(None, 1, 4));
    assert_eq!(story.clone().insert_before("final", "", ack(None, 1, 4, 8)).broken(), [], "a retry");
    story.insert_before("final", "ack 7", ack(None, 1, 4, 7)).check(1).violations.iter().for_each(|found| {
        assert!([Rule::Duplicate, Rule::OneOrder].contains(&found.rule), "{found:?}");
    });
}

#[test]
fn an_entry_that_is_not_the_same_to_all() {
    let other = members(7, Kind::MemberRemoved, 2);
    base().replace("7 to bo", push(2, &other, None)).breaks(Rule::OneOrder, &["7 to ana", "7 to bo"]);
}

#[test]
fn a_page_with_a_hole() {
    base().edit_page("ana's page", |page| drop(page.remove(3))).breaks(Rule::OneOrder, &["ana's page"]);
    base()
        .edit_page("bo's page", |page| drop(page.remove(0)))
        .breaks(Rule::OneOrder, &["bo reads", "bo's page"]);
}

#[test]
fn who_came_later_reads_from_there() {
    let from_joining = |read_from| {
        base().insert_before("remove", "", read(50, 3, read_from)).insert_before(
            "remove",
            "",
            page(50, &entries()[3..6]),
        )
    };
    assert_eq!(from_joining(0).broken(), []);
    assert_eq!(from_joining(3).broken(), []);
}

#[test]
fn what_was_acked_before_another_was_sent_stands_below_it() {
    let sends = [
        ("send a", send(None, 1, 1)),
        ("ack a", ack(None, 1, 1, 3)),
        ("send b", send(None, 2, 1)),
        ("ack b", ack(None, 2, 1, 2)),
    ];
    let story = by_rest(&sends, &[text(2, 2, 1), text(3, 1, 1)]);
    story.breaks(Rule::RealTime, &["ack a", "send b", "ack b"]);
    let [a, acked, b, b_acked] = sends;
    let at_once = by_rest(&[a, b, acked, b_acked], &[text(2, 2, 1), text(3, 1, 1)]);
    assert_eq!(at_once.broken(), [], "neither was before the other");
}

#[test]
fn what_a_connection_sent_is_stored_in_that_order() {
    let sends = [
        ("open", connect(1, 1)),
        ("send a", send(Some(1), 1, 1)),
        ("send b", send(Some(1), 1, 2)),
        ("ack b", ack(Some(1), 1, 2, 2)),
        ("ack a", ack(Some(1), 1, 1, 3)),
    ];
    let story = by_rest(&sends, &[text(2, 1, 2), text(3, 1, 1)]);
    story.breaks(Rule::SenderOrder, &["send a", "send b", "ack b", "ack a"]);
    let retried = story.insert_before("ack b", "", refuse(Some(1), 1, 1, Code::RateLimited)).insert_before(
        "ack b",
        "",
        send(Some(1), 1, 1),
    );
    assert_eq!(retried.broken(), [], "it was refused, and tried again behind the other");
}

#[test]
fn whoever_was_acked_does_not_read_it() {
    let story = base().insert_before("final", "early", read(50, 1, 0)).insert_before(
        "final",
        "short page",
        page(50, &entries()[..7]),
    );
    story.breaks(Rule::OwnWrites, &["ack 8", "early", "short page"]);
}

#[test]
fn who_has_come_in_again_need_not_see_what_is_below_that() {
    let again = members(9, Kind::MemberAdded, 3);
    let reads = |before| {
        let (device, before) = (device(3), Some(Seq::new(before)));
        Read { op: 50, device, convo: CONVO, after: None, before, limit: 200 }
    };
    let story = |before| {
        base()
            .insert_before("final", "", change(49, Kind::MemberAdded, 3))
            .insert_before("final", "9 to cy", push(4, &again, Some("c9")))
            .insert_before("final", "", Done { op: 49 })
            .insert_before("final", "reads", reads(before))
            .insert_before("final", "empty", page(50, &[]))
            .edit_page("ana's page", |entries| entries.push(again.clone()))
            .edit_page("bo's page", |entries| entries.push(again.clone()))
    };
    assert_eq!(story(8).broken(), [], "he saw 7, which was of the time before");
    story(10).breaks(Rule::MonotonicReads, &["9 to cy", "reads", "empty"]);
}

#[test]
fn what_was_seen_is_not_seen_again() {
    let story = base().insert_before("final", "early", read(50, 2, 0)).insert_before(
        "final",
        "short page",
        page(50, &entries()[..7]),
    );
    story.breaks(Rule::MonotonicReads, &["8 to bo", "early", "short page"]);
    let inbox = base().replace("bo has 2", inbox(4, 7, 5, 1));
    inbox.breaks(Rule::MonotonicReads, &["8 to bo", "bo's inbox", "bo has 2"]);
}

#[test]
fn an_entry_that_is_left_out_and_not_named() {
    base().remove("3 to bo").breaks(Rule::LiveOrder, &["2 to bo", "ack 3", "4 to bo"]);
    let named = Gap { c: 2, convo: CONVO, from: Seq::new(3), to: Seq::new(3) };
    assert_eq!(base().replace("3 to bo", named).broken(), []);
}

#[test]
fn an_entry_that_comes_twice_or_late() {
    base()
        .insert_before("add", "again", push(2, &text(3, 1, 2), None))
        .breaks(Rule::LiveOrder, &["3 to bo", "again"]);
}

#[test]
fn what_was_sent_after_the_connection_stood_comes_first() {
    let story = base().remove("1 to bo").remove("2 to bo");
    story.breaks(Rule::LiveOrder, &["open 2", "ack 2", "3 to bo"]);
}

#[test]
fn what_was_there_before_and_is_seen_late_is_not_owed() {
    let story = base().remove("1 to ana").remove("1 to bo").insert_before("send 2", "", read(50, 1, 0));
    assert_eq!(story.insert_before("send 2", "", page(50, &entries()[..1])).broken(), []);
}

#[test]
fn a_resume_that_leaves_something_out() {
    base().remove("6 to cy").breaks(Rule::Resume, &["5 to cy", "ack 6", "resume", "7 to cy"]);
    let named = Gap { c: 4, convo: CONVO, from: Seq::new(6), to: Seq::new(6) };
    assert_eq!(base().replace("6 to cy", named).broken(), []);
    let again = base().insert_before("6 to cy", "", push(4, &text(5, 2, 1), None));
    assert_eq!(again.broken(), [], "an entry may come a second time");
}

#[test]
fn a_resume_that_has_settled_without_what_was_missed() {
    let story = base().remove("6 to cy").remove("7 to cy");
    assert_eq!(story.broken(), [], "it may be on its way");
    let settled = story.insert_before("remove", "settled", Settled { c: 4 });
    settled.breaks(Rule::Resume, &["5 to cy", "ack 6", "resume", "settled"]);
}

#[test]
fn who_was_removed_while_he_was_away_is_owed_nothing_of_it() {
    // Nobody but he has been told of the removal by then.
    let away = base().remove("6 to cy").remove("7 to cy").remove("7 to ana").remove("7 to bo");
    let told = away.insert_before("removed", "left", Left { c: 4, convo: CONVO });
    let settled = told.insert_before("removed", "settled", Settled { c: 4 });
    assert_eq!(settled.clone().remove("8 to bo").broken(), []);
    settled.remove("8 to bo").remove("left").breaks(Rule::Resume, &["5 to cy", "ack 6", "resume", "settled"]);
}

#[test]
fn what_was_seen_first_after_a_connection_stood_may_have_been_there_before() {
    let story = base().remove("1 to ana").remove("1 to bo");
    let read = story.insert_before("send 2", "", read(40, 1, 0));
    let seen = read.insert_before("send 2", "", page(40, &[created(&[1, 2])]));
    let settled = seen.insert_before("send 2", "", Settled { c: 2 });
    assert_eq!(settled.broken(), []);
}

#[test]
fn a_position_is_not_ahead_of_what_was_handed_over() {
    let other = |event: Event| match event {
        Event::Send(send) => Send { convo: OTHER, ..send }.into(),
        Event::Ack(ack) => Ack { convo: OTHER, ..ack }.into(),
        Event::Push(push) => Push { convo: OTHER, ..push }.into(),
        Event::Read(read) => Read { convo: OTHER, ..read }.into(),
        event => event,
    };
    const OTHER: tertulia_protocol::ConvoId = tertulia_protocol::ConvoId::from_bytes([0xCC; 16]);
    let whole = [created(&[1, 2]), text(2, 1, 70)];
    let story = base().insert_before("send 8", "", other(send(Some(1), 1, 70))).insert_before(
        "send 8",
        "ack of the other",
        other(ack(Some(1), 1, 70, 2)),
    );
    let mut story = story;
    story.tell("", other(read(60, 1, 0))).tell("", other(page(60, &whole)));
    story.breaks(Rule::LiveOrder, &["open 2", "ack of the other", "send 8", "8 to bo"]);
    let late = story.clone().insert_before("open 1", "", Nodes { count: 3 });
    assert_eq!(late.broken(), [], "a node may not yet be sure of the position that it tells");
    let settled = late.insert_before("final", "settled", Settled { c: 2 });
    settled.breaks(Rule::LiveOrder, &["open 2", "ack of the other", "settled"]);
    let on_its_way = story.replace("8 to bo", push(2, &text(8, 1, 4), None));
    assert_eq!(on_its_way.broken(), [], "without a position nothing is claimed");
}

#[test]
fn watermarks_that_fall() {
    base().insert_before("final", "lower", receipt(5)).breaks(Rule::Watermarks, &["receipt", "lower"]);
    base()
        .replace("bo has 0", inbox(6, 8, 5, 2))
        .breaks(Rule::Watermarks, &["marked", "bo's inbox again", "bo has 0"]);
    base().replace("bo has 0", inbox(6, 8, 9, 0)).breaks(Rule::Watermarks, &["bo has 0"]);
    base()
        .replace("bo has 2", inbox(4, 8, 4, 2))
        .breaks(Rule::Watermarks, &["ack 5", "bo's inbox", "bo has 2"]);
}

#[test]
fn a_removed_one_who_is_told_more() {
    let story = base().insert_before("bo's inbox", "8 to cy", push(4, &text(8, 1, 4), None));
    story.breaks(Rule::Removal, &["7 to ana", "8 to cy"]);
}

#[test]
fn a_removed_one_who_reads_on() {
    let story = base().replace("not found", page(3, &entries()[3..7]));
    story.breaks(Rule::Removal, &["removed", "cy reads", "not found"]);
    let meanwhile = story.remove("cy reads").insert_before("removed", "", read(3, 3, 3));
    assert_eq!(meanwhile.broken(), [], "he asked before the removal was answered");
}

#[test]
fn one_who_came_later_is_told_what_was_before() {
    let story = base().insert_before("4 to cy", "3 to cy", push(3, &text(3, 1, 2), None));
    story.breaks(Rule::Removal, &["4 to ana", "3 to cy"]);
}

#[test]
fn an_unread_count_that_is_wrong() {
    base().replace("bo has 2", inbox(4, 8, 5, 3)).breaks(Rule::Unread, &["bo's inbox", "bo has 2"]);
}

#[test]
fn a_run_that_says_too_little_is_invalid() {
    let few = base().check(6);
    assert_eq!(few.verdict, Verdict::Invalid);
    assert_eq!(few.invalid, ["only 5 acked messages, and at least 6 are wanted"]);
    let unfinished = base().remove("final").check(1);
    assert_eq!(unfinished.verdict, Verdict::Invalid);
    assert!(unfinished.invalid[0].starts_with("there is no final reading"), "{unfinished}");
    let reads = ["ana reads", "ana's page", "bo reads", "bo's page"];
    let unread = reads.iter().fold(base(), |story, label| story.remove(label)).check(1);
    assert!(unread.invalid[0].starts_with("5 acked messages were not read back"), "{unread}");
}

#[test]
fn what_the_driver_did_is_shown_with_the_evidence() {
    let story = base().remove("3 to bo").insert_before("add", "", Note { text: "killed".into() });
    let story = story.insert_before("final", "", Note { text: "much later".into() });
    let report = story.check(1).to_string();
    assert!(report.contains("killed") && !report.contains("much later"), "{report}");
}
