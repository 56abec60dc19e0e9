//! How the state looks: a pure function from [`App`] to a screen.

use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph};
use tertulia_protocol::entry::{ConversationType, EntryKind, Role};
use tertulia_protocol::event::Presence;
use tertulia_protocol::{Entry, Timestamp, UserId};
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use super::app::{App, Convo, Link, Overlay, PendingState, Tick};
use super::command::HELP;
use super::safe;

mod results;

/// The list of conversations; on a narrow screen there is none.
const LIST_COLUMNS: u16 = 28;
const NARROW_COLUMNS: u16 = 64;
/// What is typed takes at most so many lines.
const EDITOR_LINES_MAX: usize = 5;
/// The continuation of a message is set in by so many columns.
const INDENT: &str = "      ";

/// What lies over the messages is at most so wide.
const OVERLAY_COLUMNS: u16 = 76;

const DIM: Style = Style::new().fg(Color::DarkGray);

/// What only the view knows, for the state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Drawn {
    /// How far up the messages can be scrolled.
    pub(super) scroll_max: usize,
    /// How far up the message is that is sought, if it is here.
    pub(super) found_at: Option<usize>,
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, app: &App, now: Instant) -> Drawn {
    let area = frame.area();
    let [main, status] = Layout::vertical([Constraint::Fill(1), Constraint::Length(1)]).areas(area);
    let list_columns = if area.width < NARROW_COLUMNS { 0 } else { LIST_COLUMNS };
    let [list, right] =
        Layout::horizontal([Constraint::Length(list_columns), Constraint::Fill(1)]).areas(main);
    if list_columns > 0 {
        draw_list(frame, list, app);
    }
    let drawn = draw_convo(frame, right, app);
    draw_status(frame, status, app, now);
    if let Some(overlay) = app.overlay {
        draw_overlay(frame, main, app, overlay);
    }
    drawn
}

fn draw_list(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let block = Block::new().borders(Borders::RIGHT).border_style(DIM);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let convos = app.inbox();
    let height = usize::from(inner.height);
    let at = convos.iter().position(|convo| Some(convo.id) == app.open).unwrap_or(0);
    let first = (at + 1).saturating_sub(height);
    let lines: Vec<Line<'_>> =
        convos.iter().skip(first).take(height).map(|convo| list_line(app, convo, inner.width)).collect();
    if lines.is_empty() {
        let text =
            if app.inbox_known { "Nobody here yet.\n/direct USER\n/group TITLE USER…" } else { "…" };
        return frame.render_widget(Paragraph::new(text).style(DIM), inner);
    }
    frame.render_widget(Paragraph::new(lines), inner);
}

fn list_line(app: &App, convo: &Convo, columns: u16) -> Line<'static> {
    let unread = if convo.unread > 0 { format!(" {}", convo.unread) } else { String::new() };
    let room = usize::from(columns).saturating_sub(3 + unread.width());
    let title = cut(&safe::line(&app.title(convo)), room);
    let gap = " ".repeat(room.saturating_sub(title.width()));
    let sign = match (convo.kind, convo.peer(app.me)) {
        (ConversationType::Direct, Some(peer)) => presence_sign(app, peer),
        (ConversationType::Direct, None) => Span::raw("  "),
        (ConversationType::Group, _) => Span::styled("# ", DIM),
    };
    let line = Line::from(vec![
        sign,
        Span::raw(title),
        Span::raw(gap),
        unread.bold().fg(Color::Yellow),
        Span::raw(" "),
    ]);
    if Some(convo.id) == app.open {
        line.reversed()
    } else if convo.unread > 0 {
        line.bold()
    } else {
        line
    }
}

fn presence_sign(app: &App, user: UserId) -> Span<'static> {
    match app.person(user).and_then(|person| person.presence) {
        Some((Presence::Online, _)) => Span::styled("● ", Color::Green),
        Some((Presence::Away, _)) => Span::styled("◐ ", Color::Yellow),
        Some((Presence::Offline, _)) | None => Span::styled("○ ", DIM),
    }
}

fn draw_convo(frame: &mut Frame<'_>, area: Rect, app: &App) -> Drawn {
    let columns = usize::from(area.width).saturating_sub(2).max(1);
    let (typed, cursor) = editor_lines(app, columns);
    let typed_height = u16::try_from(typed.len().min(EDITOR_LINES_MAX)).unwrap_or(1);
    let [head, body, typing, editor] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
        Constraint::Length(typed_height),
    ])
    .areas(area);

    let Some(convo) = app.opened() else {
        frame.render_widget(Paragraph::new("Tertulia").style(DIM), head);
        draw_editor(frame, editor, &typed, cursor);
        return Drawn::default();
    };
    frame.render_widget(Paragraph::new(head_line(app, convo)), head);
    let drawn = draw_messages(frame, body, app, convo);
    frame.render_widget(Paragraph::new(typing_line(app, convo)).style(DIM.italic()), typing);
    draw_editor(frame, editor, &typed, cursor);
    drawn
}

fn head_line(app: &App, convo: &Convo) -> Line<'static> {
    let title = safe::line(&app.title(convo)).into_owned();
    let more = match (convo.kind, convo.peer(app.me)) {
        (ConversationType::Group, _) => match convo.member_count {
            1 => "  you alone".into(),
            count => format!("  {count} members"),
        },
        (ConversationType::Direct, None) => String::new(),
        (ConversationType::Direct, Some(peer)) => match app.person(peer) {
            Some(person) => {
                let name = format!("  @{}", safe::line(&person.username));
                match person.presence {
                    Some((Presence::Online, _)) => format!("{name}  online"),
                    Some((Presence::Away, _)) => format!("{name}  away"),
                    Some((Presence::Offline, Some(seen))) => {
                        format!("{name}  last seen {} {} UTC", day(seen), time(seen))
                    }
                    Some((Presence::Offline, None)) => format!("{name}  offline"),
                    None => name,
                }
            }
            None => String::new(),
        },
    };
    Line::from(vec![title.bold(), Span::styled(more, DIM)])
}

fn typing_line(app: &App, convo: &Convo) -> String {
    let mut names: Vec<String> = convo
        .typing
        .keys()
        .filter(|id| **id != app.me)
        .map(|id| safe::line(&app.name(*id)).into_owned())
        .collect();
    names.sort_unstable();
    match names.as_slice() {
        [] => String::new(),
        [one] => format!("{one} is typing…"),
        [one, two] => format!("{one} and {two} are typing…"),
        [one, more @ ..] => format!("{one} and {} others are typing…", more.len()),
    }
}

/// Draws the messages, the newest at the bottom.
fn draw_messages(frame: &mut Frame<'_>, area: Rect, app: &App, convo: &Convo) -> Drawn {
    let columns = usize::from(area.width).saturating_sub(1);
    let mut lines: Vec<Line<'static>> = Vec::new();
    if convo.loading {
        lines.push(Line::styled("…", DIM));
    } else if convo.complete && convo.loaded {
        lines.push(Line::styled("This is the beginning.", DIM));
    }
    let mut last_day = String::new();
    let mut sought_line = None;
    for entry in convo.entries.values() {
        let day = day(entry.ts);
        if day != last_day {
            lines.push(Line::styled(format!("── {day} ──"), DIM));
            last_day = day;
        }
        let begin = lines.len();
        entry_lines(app, convo, entry, columns, &mut lines);
        if convo.shown == Some(entry.seq) {
            for line in &mut lines[begin..] {
                *line = std::mem::take(line).on_dark_gray();
            }
        }
        if convo.sought.is_some_and(|(seq, _)| seq == entry.seq) {
            sought_line = Some(begin);
        }
    }
    for pending in &convo.pending {
        let (sign, style) = match &pending.state {
            PendingState::Sending => ("…".to_owned(), DIM),
            PendingState::Failed(why) => (format!("✗ {}", safe::line(why)), Style::new().fg(Color::Red)),
        };
        let head = vec![Span::styled("  …   ", DIM), "You ".bold()];
        message_lines(
            head,
            &pending.body,
            Some(Span::styled(format!(" {sign}"), style)),
            columns,
            &mut lines,
        );
    }
    let height = usize::from(area.height);
    let scroll_max = lines.len().saturating_sub(height);
    // What is sought stands in the upper half.
    let found_at = sought_line.map(|line| lines.len().saturating_sub(line + height * 2 / 3).min(scroll_max));
    let scroll = found_at.unwrap_or(convo.scroll).min(scroll_max);
    let end = lines.len() - scroll;
    let shown = lines[end.saturating_sub(height)..end].to_vec();
    let above = u16::try_from(height.saturating_sub(shown.len())).unwrap_or(0);
    let bottom = Rect { y: area.y + above, height: area.height - above, ..area };
    frame.render_widget(Paragraph::new(shown), bottom);
    if scroll > 0 {
        let note = format!(" {scroll} more lines below: Esc ");
        let width = u16::try_from(note.width()).unwrap_or(0).min(area.width);
        let corner = Rect { x: area.right() - width, y: area.bottom().saturating_sub(1), width, height: 1 };
        frame.render_widget(Paragraph::new(note).style(Style::new().reversed()), corner);
    }
    Drawn { scroll_max, found_at }
}

fn entry_lines(app: &App, convo: &Convo, entry: &Entry, columns: usize, lines: &mut Vec<Line<'static>>) {
    let own = entry.sender_id == app.me;
    let name = if own { "You".into() } else { safe::line(&app.name(entry.sender_id)).into_owned() };
    let stamp = Span::styled(format!("{} ", time(entry.ts)), DIM);
    let EntryKind::Text { body, reply_to } = &entry.kind else {
        let text = format!("{name} {}", change(app, &entry.kind));
        return message_lines(vec![stamp], &text, None, columns, lines);
    };
    if let Some(seq) = reply_to {
        let quoted = match convo.entries.get(seq) {
            Some(Entry { sender_id, kind: EntryKind::Text { body, .. }, .. }) => {
                format!("{}: {}", safe::line(&app.name(*sender_id)), safe::line(body))
            }
            _ => String::new(),
        };
        let quoted = cut(&format!("{INDENT}↳ #{seq} {quoted}"), columns);
        lines.push(Line::styled(quoted, DIM));
    }
    let tick = own.then(|| match convo.tick(entry.seq, app.me) {
        Tick::Sent => Span::styled(" ✓", DIM),
        Tick::Delivered => Span::styled(" ✓✓", DIM),
        Tick::Read => Span::styled(" ✓✓ read", Color::Cyan),
    });
    let color = if own { Color::Cyan } else { color_of(entry.sender_id) };
    let head =
        vec![stamp, format!("{name} ").bold().fg(color), Span::styled(format!("#{} ", entry.seq), DIM)];
    message_lines(head, body, tick, columns, lines);
}

/// What a change entry says, after the name of who did it.
fn change(app: &App, kind: &EntryKind) -> String {
    let people = |ids: &[UserId]| {
        let names: Vec<String> =
            ids.iter().take(5).map(|id| if *id == app.me { "you".into() } else { app.name(*id) }).collect();
        let more = ids.len().saturating_sub(5);
        let names = names.join(", ");
        if more > 0 { format!("{names} and {more} others") } else { names }
    };
    match kind {
        EntryKind::Created { conversation_type: ConversationType::Direct, .. } => {
            "began this conversation".into()
        }
        EntryKind::Created { title, .. } => {
            format!("founded the group {}", title.as_deref().unwrap_or_default())
        }
        EntryKind::MemberAdded { user_ids } => format!("added {}", people(user_ids)),
        EntryKind::MemberRemoved { user_ids } => format!("removed {}, or left", people(user_ids)),
        EntryKind::RoleChanged { user_id, role } => {
            let role = match role {
                Role::Member => "a member",
                Role::Admin => "an admin",
                Role::Owner => "an owner",
            };
            format!("made {} {role}", people(&[*user_id]))
        }
        EntryKind::Renamed { title } => format!("named the group {title}"),
        EntryKind::SettingsChanged { .. } => "changed the settings".into(),
        EntryKind::Text { body, .. } => body.clone(),
    }
}

/// Wraps a text after its head; `tail` comes after its end.
fn message_lines(
    head: Vec<Span<'static>>,
    text: &str,
    tail: Option<Span<'static>>,
    columns: usize,
    lines: &mut Vec<Line<'static>>,
) {
    let indented = columns.saturating_sub(INDENT.len());
    let beside_head = columns.saturating_sub(head.iter().map(Span::width).sum());
    let (mut spans, mut begun) = (head, false);
    for text in safe::lines(text) {
        for part in wrap(&text, if begun { indented } else { beside_head }, indented) {
            if begun {
                lines.push(Line::from(std::mem::replace(&mut spans, vec![Span::raw(INDENT)])));
            }
            spans.push(Span::raw(part));
            begun = true;
        }
    }
    let width: usize = spans.iter().map(Span::width).sum();
    if let Some(tail) = tail {
        if width + tail.width() > columns {
            lines.push(Line::from(std::mem::replace(&mut spans, vec![Span::raw(INDENT)])));
        }
        spans.push(tail);
    }
    lines.push(Line::from(spans));
}

/// Breaks a line into parts of at most `columns`, the first of at most `first`; between words where it can.
fn wrap(text: &str, first: usize, columns: usize) -> Vec<String> {
    // The widest character takes two.
    let (columns, mut room) = (columns.max(2), first.max(2));
    let (mut parts, mut part, mut width) = (Vec::new(), String::new(), 0);
    for word in text.split_word_bounds() {
        let word_width = word.width();
        if width + word_width > room && width > 0 {
            parts.push(std::mem::take(&mut part));
            (width, room) = (0, columns);
            if word.trim().is_empty() {
                continue;
            }
        }
        if word_width <= room {
            part.push_str(word);
            width += word_width;
            continue;
        }
        for piece in word.graphemes(true) {
            if width + piece.width() > room {
                parts.push(std::mem::take(&mut part));
                (width, room) = (0, columns);
            }
            part.push_str(piece);
            width += piece.width();
        }
    }
    parts.push(part);
    parts
}

/// What is typed, wrapped, and where the cursor is in it: column and line.
fn editor_lines(app: &App, columns: usize) -> (Vec<String>, (usize, usize)) {
    let grid = |text: &str| {
        let mut lines = vec![String::new()];
        for (number, line) in text.split('\n').enumerate() {
            if number > 0 {
                lines.push(String::new());
            }
            for piece in safe::line(line).graphemes(true) {
                let full = lines.last().is_some_and(|last| last.width() + piece.width() > columns);
                if full {
                    lines.push(String::new());
                }
                if let Some(last) = lines.last_mut() {
                    last.push_str(piece);
                }
            }
        }
        lines
    };
    let before = grid(app.editor.before_cursor());
    let cursor = (before.last().map_or(0, |line| line.width()), before.len() - 1);
    (grid(app.editor.text()), cursor)
}

fn draw_editor(frame: &mut Frame<'_>, area: Rect, typed: &[String], (column, line): (usize, usize)) {
    let height = usize::from(area.height);
    let first = (line + 1).saturating_sub(height.max(1));
    let lines: Vec<Line<'_>> = typed
        .iter()
        .enumerate()
        .skip(first)
        .take(height)
        .map(|(number, text)| {
            Line::from(vec![
                Span::styled(if number == 0 { "> " } else { "  " }, DIM),
                Span::raw(text.as_str()),
            ])
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), area);
    let offset = |at: usize| u16::try_from(at).unwrap_or(0);
    let x = area.x + offset(2 + column).min(area.width.saturating_sub(1));
    frame.set_cursor_position(Position { x, y: area.y + offset(line - first) });
}

fn draw_status(frame: &mut Frame<'_>, area: Rect, app: &App, now: Instant) {
    let (text, color) = match &app.link {
        Link::Connecting => ("connecting…".to_owned(), Color::Yellow),
        Link::Up => ("connected".to_owned(), Color::Green),
        Link::Down { why, until } => {
            let seconds = until.saturating_duration_since(now).as_secs_f64().ceil();
            let when =
                if seconds > 0.0 { format!("again in {seconds:.0} s") } else { "connecting…".into() };
            (format!("not connected, {when} ({})", safe::line(why)), Color::Yellow)
        }
        Link::Lost(why) => (safe::line(why).into_owned(), Color::Red),
    };
    let mut spans = vec![Span::styled("● ", color), Span::raw(text)];
    if let Some(notice) = &app.notice {
        spans.push(Span::styled(format!("  {}", safe::line(notice)), Color::Yellow));
    } else {
        let unread = app.unread();
        if unread > 0 {
            spans.push(format!("  {unread} unread").bold());
        }
        if app.link == Link::Up {
            spans.push(Span::styled("  Tab: next  PgUp: older  /help", DIM));
        }
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
}

fn draw_overlay(frame: &mut Frame<'_>, area: Rect, app: &App, overlay: Overlay) {
    let (title, lines) = match overlay {
        Overlay::Help => {
            let commands = HELP
                .iter()
                .map(|(form, what)| Line::from(vec![format!("{form:<22}").bold(), Span::raw(*what)]));
            let keys = [
                ("Tab, Shift-Tab", "next conversation, the one before"),
                ("PgUp, PgDn, Esc", "older, newer, to the end"),
                ("Alt-Enter", "a new line; times are UTC"),
            ];
            let keys = keys
                .iter()
                .map(|(key, what)| Line::from(vec![format!("{key:<22}").bold(), Span::raw(*what)]));
            (" Help ".to_owned(), commands.chain(keys).collect())
        }
        Overlay::Who => {
            (" Who is here ".to_owned(), app.opened().map_or_else(Vec::new, |convo| who(app, convo)))
        }
        Overlay::Results => match &app.results {
            Some(found) => (results::title(found), results::lines(app, found, area)),
            None => return,
        },
    };
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let width = area.width.min(OVERLAY_COLUMNS);
    let place =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(title)), place);
}

fn who(app: &App, convo: &Convo) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> = convo
        .members
        .iter()
        .map(|(id, member)| {
            let role = match member.role {
                Role::Owner => "  owner",
                Role::Admin => "  admin",
                Role::Member => "",
            };
            let username =
                app.person(*id).map_or_else(String::new, |person| format!("  @{}", person.username));
            let text = format!("{}{username}{role}", app.name(*id));
            Line::from(vec![presence_sign(app, *id), Span::raw(safe::line(&text).into_owned())])
        })
        .collect();
    let more = convo.member_count.saturating_sub(convo.members.len() as u64);
    if more > 0 {
        lines.push(Line::styled(format!("and {more} more"), DIM));
    }
    lines
}

/// A text of at most so many columns; `…` says that there was more.
fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let (mut kept, mut width) = (String::new(), 1);
    for piece in text.graphemes(true) {
        width += piece.width();
        if width > columns {
            break;
        }
        kept.push_str(piece);
    }
    if columns > 0 {
        kept.push('…');
    }
    kept
}

/// One of six colours, always the same for a user.
fn color_of(user: UserId) -> Color {
    const COLORS: [Color; 6] =
        [Color::Green, Color::Yellow, Color::Blue, Color::Magenta, Color::LightRed, Color::LightGreen];
    let sum: usize = user.as_bytes().iter().map(|byte| usize::from(*byte)).sum();
    COLORS[sum % COLORS.len()]
}

/// `2026-11-24`
fn day(ts: Timestamp) -> String {
    ts.to_string().chars().take(10).collect()
}

/// `23:37`
fn time(ts: Timestamp) -> String {
    ts.to_string().chars().skip(11).take(5).collect()
}

#[cfg(test)]
mod tests;
