//! Every form of line that occurs, and the bytes that nobody expects.

use super::*;

/// The one line of a log: who sends what, or nothing.
#[track_caller]
fn check(text: &str, sent: Option<(&str, &str)>) {
    let log = parse("log".into(), text.as_bytes());
    let read = log.lines.first().map(|line| (line.nick.as_str(), line.body.as_str()));
    assert_eq!(read, sent, "{text:?}");
    assert_eq!(log.counts.sent(), sent.map_or(0, |_| 1));
}

#[test]
fn speech_is_sent_as_it_is() {
    check("[00:07] <v1ru5> now i booted, no errors", Some(("v1ru5", "now i booted, no errors")));
    check("[02:21] <nadira>  Depends: libc6-dev ", Some(("nadira", " Depends: libc6-dev ")));
    check("[02:21] <a> if x > y <b> z", Some(("a", "if x > y <b> z")));
    check("[02:21] <a|b\\c^`{}_-> hi", Some(("a|b\\c^`{}_-", "hi")));
}

#[test]
fn an_action_keeps_its_star_and_its_nick() {
    check("[11:44]  * erUSUL is having a deja vu", Some(("erUSUL", "* erUSUL is having a deja vu")));
    check("[01:41]  * woods123", Some(("woods123", "* woods123")));
}

#[test]
fn a_notice_is_sent_by_its_nick() {
    check("[01:26] -yqitx:#ubuntu- All you - ladies", Some(("yqitx", "All you - ladies")));
}

#[test]
fn a_status_line_is_sent_by_the_nick_that_it_is_about() {
    for (nick, body) in [
        ("unai", "unai [~unai@129.Red-80-36-3.pooles.rima-tde.net]  has joined #ubuntu"),
        ("s1ck", "s1ck [n=s1ck@dsl-220.example]  has left #ubuntu [\"Leaving\"] "),
        ("_Tsukasa", "_Tsukasa is now known as Tsukasa"),
        ("jsec[AFK]", "jsec[AFK] is now known as jsec"),
        ("michael__", "michael__ reads the topic"),
        ("Tonren", "Tonren : Bringing #ubuntu-offtopic to #ubuntu since 2006."),
        ("eyequeue", "eyequeue smokes d00by until he reads :)"),
    ] {
        check(&format!("=== {body}"), Some((nick, body)));
    }
}

#[test]
fn a_change_of_modes_is_sent_by_who_made_it() {
    let body = "mode/#ubuntu [+b %Aggro-berlin_4ev!*@*]  by Seveas";
    check(&format!("=== {body}"), Some(("Seveas", body)));
}

#[test]
fn spaces_that_a_logger_put_into_a_nick_are_taken_out() {
    check("[11:14] <zcat[1] > jadewolf: hm", Some(("zcat[1]", "jadewolf: hm")));
    let body = "[A] ndy80 [n=wettreyw@host.example]  has joined #ubuntu";
    check(&format!("=== {body}"), Some(("[A]ndy80", body)));
    let body = "[Chaos|Krieger]  [n=krieger@thinkinsoft.org]  has left #ubuntu [\"Verlassend\"]";
    check(&format!("=== {body}"), Some(("[Chaos|Krieger]", body)));
}

#[test]
fn what_is_not_sent_is_counted_by_its_reason() {
    let text = "\n  \n[11:26] <pirate> \n[11:26] <pirate>\n[11:26] <a> b\0c\n[11:26] <> who?\n=== \n===\n\
                === mode/#ubuntu [+o x]\n[25:00] <a> no such hour\n[11:26] --- log ends ---\nfree text\n";
    let long = format!("{text}[11:26] <a> {}\n[11:27] <a> {}", "x".repeat(65_537), "x".repeat(65_536));
    let counts = parse("log".into(), long.as_bytes()).counts;
    assert_eq!(counts, Counts { speech: 1, blank: 2, refused: 4, nameless: 7, ..Counts::default() });
}

#[test]
fn what_is_not_utf_8_is_replaced_once_and_counted() {
    let log = parse(
        "log".into(),
        b"[00:01] <a> caf\xe9 \xe2\x82 \xc3\xbc\n[00:02] <\xff> hi\n[00:03] <b> \xef\xbf\xbd\n",
    );
    let read: Vec<_> = log.lines.iter().map(|line| (line.nick.as_str(), line.body.as_str())).collect();
    assert_eq!(read, [("a", "caf\u{fffd} \u{fffd} ü"), ("\u{fffd}", "hi"), ("b", "\u{fffd}")]);
    assert_eq!((log.counts.repaired_lines, log.counts.repaired_bytes), (2, 4));
}

#[test]
fn the_ends_of_lines_are_no_part_of_them_and_other_controls_are() {
    let log = parse("log".into(), b"[00:01] <a> one\r\n[00:02] <a> Xubun\x15 box");
    let bodies: Vec<_> = log.lines.iter().map(|line| line.body.as_str()).collect();
    assert_eq!(bodies, ["one", "Xubun\u{15} box"]);
    assert_eq!(log.counts.blank, 0);
}

#[test]
fn a_line_without_a_time_has_that_of_the_line_before() {
    let log = parse("log".into(), b"=== a waves\n[23:59] <a> x\n=== a waves\n[00:01] <a> y\n=== a waves\n");
    let minutes: Vec<_> = log.lines.iter().map(|line| line.minute).collect();
    assert_eq!(minutes, [1_439, 1_439, 1_439, 1, 1]);
}

#[test]
fn the_channel_is_that_of_the_first_line_that_names_one() {
    let channel = |text: &str| parse("log".into(), text.as_bytes()).channel;
    assert_eq!(channel("=== a [b@c]  has joined #ubuntu\n").as_deref(), Some("#ubuntu"));
    assert_eq!(channel("=== a [b@c]  has left #Ubuntu [\"bye\"]\n").as_deref(), Some("#Ubuntu"));
    assert_eq!(channel("=== mode/#ubuntu [+o a]  by b\n").as_deref(), Some("#ubuntu"));
    assert_eq!(channel("[01:26] -a:#ubuntu-es- hi\n").as_deref(), Some("#ubuntu-es"));
    assert_eq!(channel("[01:26] <a> who has joined #ubuntu?\n"), None);
}
