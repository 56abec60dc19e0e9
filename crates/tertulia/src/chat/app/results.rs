//! What a search found, and what the keys do while it is shown.

use std::time::Instant;

use crossterm::event::{KeyCode, KeyEvent};
use tertulia_protocol::rest::{FoundMessage, Page};

use super::{App, Effect, Overlay};

/// How many results are shown at once: each has a digit.
pub(in crate::chat) const SHOWN: usize = 9;
/// How many pages of history are read to come to a result; what is further back is named, not shown.
pub(super) const PAGES_BACK_MAX: u8 = 20;

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::chat) struct Results {
    /// What was sought.
    pub(in crate::chat) q: String,
    /// As many as were asked for by now.
    pub(in crate::chat) items: Vec<FoundMessage>,
    /// The one that is chosen.
    pub(in crate::chat) at: usize,
    /// Whether more are being asked for.
    pub(in crate::chat) loading: bool,
    next: Option<String>,
}

impl Results {
    /// The results that are shown now, with their digits.
    pub(in crate::chat) fn shown(&self) -> impl Iterator<Item = (usize, &FoundMessage)> {
        let first = self.at / SHOWN * SHOWN;
        self.items.iter().enumerate().skip(first).take(SHOWN).map(move |(at, item)| (at - first + 1, item))
    }

    /// Whether there are more than are here.
    pub(in crate::chat) const fn has_more(&self) -> bool {
        self.next.is_some()
    }
}

impl App {
    pub(super) fn search(&mut self, q: String) {
        self.effects.push(Effect::Search { q: q.clone(), cursor: None });
        self.results = Some(Results { q, items: Vec::new(), at: 0, loading: true, next: None });
        self.overlay = Some(Overlay::Results);
    }

    /// Takes a page of results in, if it is still wanted.
    pub(super) fn found(&mut self, q: &str, page: Page<FoundMessage>) {
        let Some(results) = self.results.as_mut().filter(|results| results.q == q) else { return };
        let people: Vec<_> = page.items.iter().map(|item| item.message.sender_id).collect();
        results.loading = false;
        results.next = page.next_cursor;
        results.items.extend(page.items);
        self.want_more_results();
        for person in people {
            self.ask_for(person);
        }
    }

    /// A search could not be made.
    pub(super) fn not_found(&mut self, q: &str) {
        self.results.take_if(|results| results.q == q);
        if self.overlay == Some(Overlay::Results) {
            self.overlay = None;
        }
    }

    /// What a key does while results are shown; `false`: what it does otherwise.
    pub(super) fn result_key(&mut self, key: KeyEvent, now: Instant) -> bool {
        let Some(results) = &mut self.results else { return false };
        let last = results.items.len().saturating_sub(1);
        match key.code {
            KeyCode::Up => results.at = results.at.saturating_sub(1),
            KeyCode::Down => results.at = (results.at + 1).min(last),
            KeyCode::PageUp => results.at = (results.at / SHOWN * SHOWN).saturating_sub(SHOWN),
            KeyCode::PageDown => results.at = ((results.at / SHOWN + 1) * SHOWN).min(last),
            KeyCode::Home => results.at = 0,
            KeyCode::End => results.at = last,
            KeyCode::Enter => self.go_to_result(0, now),
            KeyCode::Char(digit @ '1'..='9') => {
                self.go_to_result(
                    digit.to_digit(10).and_then(|digit| usize::try_from(digit).ok()).unwrap_or(0),
                    now,
                );
            }
            KeyCode::Esc | KeyCode::Char('q') => self.overlay = None,
            _ => return false,
        }
        self.want_more_results();
        true
    }

    /// Asks for the next page when the last one is reached.
    fn want_more_results(&mut self) {
        let Some(results) = &mut self.results else { return };
        let near_end = results.at / SHOWN + 2 > results.items.len() / SHOWN;
        if near_end && !results.loading && results.next.is_some() {
            results.loading = true;
            self.effects.push(Effect::Search { q: results.q.clone(), cursor: results.next.clone() });
        }
    }

    /// To the conversation of a result: the one with this digit, or (0) the chosen one.
    fn go_to_result(&mut self, digit: usize, now: Instant) {
        let Some(results) = &mut self.results else { return };
        let at = if digit == 0 { results.at } else { results.at / SHOWN * SHOWN + digit - 1 };
        let Some(message) = results.items.get(at).map(|item| &item.message) else { return };
        results.at = at;
        let (convo, seq) = (message.convo_id, message.seq);
        if !self.convos.contains_key(&convo) {
            return self.say("you are no longer in this conversation".into(), now);
        }
        self.open(Some(convo));
        self.overlay = None;
        if let Some(convo) = self.convos.get_mut(&convo) {
            convo.seek(seq, PAGES_BACK_MAX);
        }
        self.seek_further(convo, now);
    }

    /// Reads back until the message that is sought is here.
    pub(super) fn seek_further(&mut self, convo: tertulia_protocol::ConvoId, now: Instant) {
        let Some(convo) = self.convos.get_mut(&convo) else { return };
        let Some((seq, pages_left)) = convo.sought else { return };
        if convo.entries.contains_key(&seq) || convo.loading || !convo.loaded {
            return;
        }
        if convo.complete || pages_left == 0 {
            convo.sought = None;
            return self.say(format!("message #{seq} is far back: PgUp goes there"), now);
        }
        convo.sought = Some((seq, pages_left - 1));
        convo.loading = true;
        let effect = Effect::LoadHistory { convo: convo.id, before: convo.first_seq() };
        self.effects.push(effect);
    }
}
