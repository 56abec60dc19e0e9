//! How the state looks.

use std::time::Duration;

use crossterm::event::KeyCode;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use tertulia_client::event::{Disconnect, Event};
use tertulia_protocol::Seq;

use super::super::app::tests::{ANA, BO, Bench, CY, TEA, WITH_BO, text};
use super::*;

/// The screen as lines, without the spaces at their ends.
fn screen(bench: &Bench, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| {
            draw(frame, &bench.app, bench.now);
        })
        .unwrap();
    let buffer = terminal.backend().buffer();
    (0..height)
        .map(|y| {
            let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
            line.trim_end().to_owned()
        })
        .collect()
}

#[track_caller]
fn check(bench: &Bench, width: u16, height: u16, expected: &str) {
    let seen = screen(bench, width, height).join("\n");
    assert_eq!(seen.trim_end(), expected.trim_matches('\n'), "\n{seen}\n");
}

#[test]
fn a_conversation_with_ticks_replies_and_a_message_on_its_way() {
    let mut bench = Bench::new();
    bench.push(text(TEA, 2, ANA, "hello"));
    for user_id in [BO, CY] {
        bench.client(Event::Receipt {
            convo_id: TEA,
            user_id,
            delivered_seq: Seq::new(2),
            read_seq: None,
            ts: Timestamp::from_millis(0),
        });
    }
    let mut reply = text(TEA, 3, CY, "two\nlines");
    reply.kind = EntryKind::Text { body: "two\nlines".into(), reply_to: Some(Seq::new(2)) };
    bench.push(reply);
    bench.push(text(WITH_BO, 2, BO, "psst"));
    bench.enter("on its way");
    bench.client(Event::Typing { convo_id: TEA, user_id: BO, active: true });
    check(
        &bench,
        72,
        12,
        "
# tea                      │tea  3 members
○ Bo                     1 │This is the beginning.
                           │── 1970-01-01 ──
                           │00:01 Bo #1 first
                           │00:02 You #2 hello ✓✓
                           │      ↳ #2 Ana: hello
                           │00:03 Cy #3 two
                           │      lines
                           │  …   You on its way …
                           │Bo is typing…
                           │>
● connected  1 unread  Tab: next  PgUp: older  /help
",
    );
}

#[test]
fn a_lost_connection_says_when_it_tries_again_and_why() {
    let mut bench = Bench::new();
    let reason = Disconnect::Broken("the connection was closed".into());
    bench.client(Event::Disconnected { reason, retry_in: Duration::from_secs(3) });
    let status = screen(&bench, 80, 8).pop().unwrap();
    assert_eq!(status, "● not connected, again in 3 s (the connection was closed)");
}

#[test]
fn nothing_of_a_body_a_name_or_a_title_is_obeyed_by_the_terminal() {
    let evil = "\x1b]0;owned\x07\x1b[2J\u{9b}31m\u{202e}abc\r";
    let mut bench = Bench::new();
    bench.push(text(TEA, 2, BO, evil));
    let mut renamed = text(TEA, 3, BO, "");
    renamed.kind = EntryKind::Renamed { title: evil.into() };
    bench.push(renamed);
    bench.done(super::super::app::Done::User(super::super::app::tests::user(BO, evil)));
    bench.client(Event::Typing { convo_id: TEA, user_id: BO, active: true });
    bench.take(super::super::app::Input::Paste(evil.into()));
    bench.press(KeyCode::Left);
    let seen = screen(&bench, 100, 20).join("");
    assert!(seen.contains("␛]0;owned␇"));
    assert!(!seen.chars().any(|c| c.is_control() || c == '\u{202e}'), "{seen:?}");
}

#[test]
fn a_narrow_screen_shows_the_open_conversation_alone() {
    let bench = Bench::new();
    check(
        &bench,
        30,
        6,
        "
tea  3 members
── 1970-01-01 ──
00:01 Bo #1 first

>
● connected  Tab: next  PgUp:
",
    );
}

#[test]
fn any_size_can_be_drawn() {
    let mut bench = Bench::new();
    bench.push(text(TEA, 2, BO, &"漢字 and words ".repeat(50)));
    bench.take(super::super::app::Input::Paste("x\n".repeat(9)));
    for overlay in [None, Some(Overlay::Help), Some(Overlay::Who)] {
        bench.app.overlay = overlay;
        for width in [1, 2, 5, 20, 63, 64, 200] {
            for height in [1, 2, 3, 5, 40] {
                assert_eq!(screen(&bench, width, height).len(), usize::from(height));
            }
        }
    }
}

#[test]
fn who_is_in_a_conversation_can_be_seen() {
    let mut bench = Bench::new();
    bench.enter("/who");
    let seen = screen(&bench, 80, 12).join("\n");
    for person in ["Ana  @ana", "Bo  @bo", "Cy  @cy"] {
        assert!(seen.contains(person), "{seen}");
    }
}

#[test]
fn lines_break_between_words_and_where_they_must() {
    assert_eq!(wrap("one two three", 7, 7), ["one two", "three"]);
    assert_eq!(wrap("one two", 4, 9), ["one ", "two"]);
    assert_eq!(wrap("incomprehensibilities", 8, 8), ["incompre", "hensibil", "ities"]);
    assert_eq!(wrap("漢字漢字", 5, 5), ["漢字", "漢字"]);
    assert_eq!(wrap("", 5, 5), [""]);
}

#[test]
fn what_is_cut_says_so() {
    assert_eq!(cut("tea", 3), "tea");
    assert_eq!(cut("teapot", 4), "tea…");
    assert_eq!(cut("漢字漢字", 4), "漢…");
}

#[test]
fn results_stand_over_the_messages_with_what_was_sought_marked() {
    let mut bench = Bench::new();
    bench.enter("/search tea");
    bench.found("tea", super::super::app::tests::results(&[(TEA, 1), (WITH_BO, 1)], None));
    let seen = screen(&bench, 80, 14).join("\n");
    for expected in
        ["tea: 2", "1  1970-01-01 00:01 Bo tea #1", "2  1970-01-01 00:01 Bo Bo #1", "more tea", "Esc: back"]
    {
        assert!(seen.contains(expected), "{expected}:\n{seen}");
    }
    let mut terminal = Terminal::new(TestBackend::new(80, 14)).unwrap();
    terminal
        .draw(|frame| {
            draw(frame, &bench.app, bench.now);
        })
        .unwrap();
    let buffer = terminal.backend().buffer();
    let marked: String =
        buffer.content().iter().filter(|cell| cell.bg == Color::Yellow).map(|cell| cell.symbol()).collect();
    assert_eq!(marked, "teatea");
}

#[test]
fn the_message_that_is_gone_to_is_in_view() {
    let mut bench = Bench::new();
    for seq in 2..=100 {
        bench.push(text(TEA, seq, BO, &format!("number {seq}")));
    }
    bench.enter("/search x");
    bench.found("x", super::super::app::tests::results(&[(TEA, 30)], None));
    bench.press(KeyCode::Enter);
    let mut terminal = Terminal::new(TestBackend::new(80, 14)).unwrap();
    let mut drawn = Drawn::default();
    terminal.draw(|frame| drawn = draw(frame, &bench.app, bench.now)).unwrap();
    bench.app.scrolled(drawn);
    let seen = screen(&bench, 80, 14).join("\n");
    assert!(seen.contains("number 30\n") && seen.contains("more lines below"), "{seen}");
    bench.press(KeyCode::Esc);
    assert!(screen(&bench, 80, 14).join("\n").contains("number 100"));
}
