//! How the results of a search look.

use std::borrow::Cow;

use ratatui::layout::Rect;
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Span};
use tertulia_protocol::rest::{FoundMessage, Snippet};
use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

use super::{DIM, OVERLAY_COLUMNS, cut, day, safe, time};
use crate::chat::app::{App, Results};

/// What was sought.
const MARKED: Style = Style::new().fg(Color::Black).bg(Color::Yellow);
/// A snippet is set in by so many columns.
const INDENT: &str = "    ";

/// What stands over them.
pub(super) fn title(found: &Results) -> String {
    let q = cut(&safe::line(&found.q), 40);
    match (found.items.len(), found.loading, found.has_more()) {
        (0, true, _) => format!(" {q}: … "),
        (0, false, _) => format!(" {q}: nothing "),
        (count, _, false) => format!(" {q}: {count} "),
        (count, _, true) => format!(" {q}: {count} and more "),
    }
}

/// As many results as there is room for, the chosen one among them.
pub(super) fn lines(app: &App, found: &Results, area: Rect) -> Vec<Line<'static>> {
    const LINES_EACH: usize = 2;
    let columns = usize::from(area.width.min(OVERLAY_COLUMNS)).saturating_sub(2);
    // The frame, and the line of keys.
    let room = (usize::from(area.height).saturating_sub(3) / LINES_EACH).max(1);
    let chosen = found.at % crate::chat::app::RESULTS_SHOWN;
    let first = (chosen + 1).saturating_sub(room);
    let mut lines = Vec::new();
    for (digit, item) in found.shown().skip(first).take(room) {
        let head = head(app, digit, item, columns);
        lines.push(if digit == chosen + 1 { head.reversed() } else { head });
        lines.push(snippet(&item.snippet, columns));
    }
    let keys = if found.items.is_empty() {
        "Esc: back"
    } else {
        "1-9, Enter: go there  ↑↓ PgDn: others  Esc: back"
    };
    lines.push(Line::styled(keys, DIM));
    lines
}

fn head(app: &App, digit: usize, item: &FoundMessage, columns: usize) -> Line<'static> {
    let message = &item.message;
    let when = format!("{} {} ", day(message.ts), time(message.ts));
    let who = format!("{} ", safe::line(&app.name(message.sender_id)));
    let room = columns.saturating_sub(3 + when.width() + who.width());
    let place = app.convos.get(&message.convo_id).map_or_else(String::new, |convo| app.title(convo));
    let place = cut(&format!("{} #{}", safe::line(&place), message.seq), room);
    Line::from(vec![format!("{digit}  ").bold(), Span::raw(when), who.bold(), Span::styled(place, DIM)])
}

/// One line of it: what was sought is near its beginning.
fn snippet(snippet: &Snippet, columns: usize) -> Line<'static> {
    let mut spans = vec![Span::raw(INDENT)];
    let mut room = columns.saturating_sub(INDENT.len());
    for (place, (part, is_marked)) in snippet.parts().into_iter().enumerate() {
        let mut shown = String::new();
        let part = safe::line(part);
        let part = if place == 0 && !is_marked && !snippet.marks.is_empty() {
            end_of(&part, room / 2)
        } else {
            Cow::Borrowed(&*part)
        };
        for piece in part.graphemes(true) {
            if piece.width() > room {
                room = 0;
                break;
            }
            room -= piece.width();
            shown.push_str(piece);
        }
        spans.push(Span::styled(shown, if is_marked { MARKED } else { Style::new() }));
        if room == 0 {
            break;
        }
    }
    Line::from(spans)
}

/// The end of a text, of at most so many columns: what is marked behind it is to be seen.
fn end_of(text: &str, columns: usize) -> Cow<'_, str> {
    if text.width() <= columns {
        return Cow::Borrowed(text);
    }
    let (mut start, mut width) = (text.len(), 1);
    for (at, piece) in text.grapheme_indices(true).rev() {
        width += piece.width();
        if width > columns {
            break;
        }
        start = at;
    }
    Cow::Owned(format!("…{}", &text[start..]))
}
