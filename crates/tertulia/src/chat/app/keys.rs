//! What the keys do.

use std::time::Instant;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{App, Effect, Overlay};

use crate::chat::view::Drawn;

/// Lines that a page key scrolls.
const PAGE_LINES: usize = 10;

impl App {
    pub(super) fn key(&mut self, key: KeyEvent, now: Instant) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        if self.overlay == Some(Overlay::Results) && !control && !alt && self.result_key(key, now) {
            return;
        }
        if self.overlay.take().is_some()
            && matches!(key.code, KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q'))
        {
            return;
        }
        match key.code {
            KeyCode::Char('c') if control => self.quit(now),
            KeyCode::Char('n') if control => self.go(1),
            KeyCode::Char('p') if control => self.go(-1),
            KeyCode::Tab => self.go(1),
            KeyCode::BackTab => self.go(-1),
            KeyCode::Down if alt => self.go(1),
            KeyCode::Up if alt => self.go(-1),
            KeyCode::PageUp => self.scroll_up(PAGE_LINES),
            KeyCode::PageDown => self.scroll_down(PAGE_LINES),
            KeyCode::Up => self.scroll_up(1),
            KeyCode::Down => self.scroll_down(1),
            KeyCode::Esc => self.scroll_down(usize::MAX),
            KeyCode::Enter if alt => self.edit(|editor| editor.insert("\n")),
            KeyCode::Char('j') if control => self.edit(|editor| editor.insert("\n")),
            KeyCode::Enter => self.enter(now),
            KeyCode::Left => self.editor.left(),
            KeyCode::Right => self.editor.right(),
            KeyCode::Home => self.editor.home(),
            KeyCode::End => self.editor.end(),
            KeyCode::Char('a') if control => self.editor.home(),
            KeyCode::Char('e') if control => self.editor.end(),
            KeyCode::Char('u') if control => self.edit(super::Editor::delete_to_start),
            KeyCode::Char('w') if control => self.edit(super::Editor::delete_word),
            KeyCode::Backspace => self.edit(super::Editor::backspace),
            KeyCode::Delete => self.edit(super::Editor::delete),
            KeyCode::Char(c) if !control && !alt => {
                self.edit(|editor| editor.insert(c.encode_utf8(&mut [0; 4])));
            }
            _ => {}
        }
    }

    fn edit(&mut self, change: impl FnOnce(&mut super::Editor)) {
        change(&mut self.editor);
        self.typed();
    }

    /// To the next conversation of the list, or the one before.
    fn go(&mut self, by: isize) {
        let ids: Vec<_> = self.inbox().iter().map(|convo| convo.id).collect();
        let Ok(count) = isize::try_from(ids.len()) else { return };
        if count == 0 {
            return;
        }
        let place = ids.iter().position(|id| Some(*id) == self.open).and_then(|at| isize::try_from(at).ok());
        let next = place.map_or(0, |place| (place + by).rem_euclid(count));
        self.open(usize::try_from(next).ok().and_then(|next| ids.get(next).copied()));
    }

    fn scroll_up(&mut self, lines: usize) {
        let Some(convo) = self.open.and_then(|id| self.convos.get_mut(&id)) else { return };
        convo.scroll = convo.scroll.saturating_add(lines);
        self.want_older();
    }

    fn scroll_down(&mut self, lines: usize) {
        let Some(convo) = self.open.and_then(|id| self.convos.get_mut(&id)) else { return };
        convo.scroll = convo.scroll.saturating_sub(lines);
        if convo.scroll == 0 {
            convo.shown = None;
            let id = convo.id;
            self.read(id);
        }
    }

    /// The view knows how long the text is: it tells how far up one can be, and where the message is that is sought.
    pub(in crate::chat) fn scrolled(&mut self, drawn: Drawn) {
        if let Some(convo) = self.open.and_then(|id| self.convos.get_mut(&id)) {
            if let Some(scroll) = drawn.found_at {
                convo.scroll = scroll;
                convo.sought = None;
            }
            convo.scroll = convo.scroll.min(drawn.scroll_max);
        }
    }

    /// Whoever scrolls up reads on, one page at a time.
    fn want_older(&mut self) {
        let Some(convo) = self.open.and_then(|id| self.convos.get_mut(&id)) else { return };
        // A page before it is needed.
        let near_top = convo.scroll + 4 * PAGE_LINES > convo.entries.len();
        if near_top && convo.loaded && !convo.complete && !convo.loading {
            convo.loading = true;
            let effect = Effect::LoadHistory { convo: convo.id, before: convo.first_seq() };
            self.effects.push(effect);
        }
    }
}
