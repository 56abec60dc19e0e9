//! Text of others, made safe for a terminal.
//!
//! A body is kept byte for byte by the server, so it may hold what a terminal obeys: escape sequences that
//! move the cursor, change the title or answer as if the user had typed. And it may hold marks that turn the
//! direction of the text around, so that it reads as something else. None of that reaches the terminal:
//! everything that came from elsewhere goes through here before it is shown.

use std::borrow::Cow;

/// One line of text: what a terminal would obey is shown as a picture of it, a line break too.
pub(super) fn line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| stand_in(c).is_some()) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| stand_in(c).unwrap_or(c)).collect())
}

/// The lines of a text, each safe; a tab is four spaces.
pub(super) fn lines(text: &str) -> impl Iterator<Item = String> {
    text.split('\n').map(|text| {
        let text = text.strip_suffix('\r').unwrap_or(text).replace('\t', "    ");
        line(&text).into_owned()
    })
}

fn stand_in(c: char) -> Option<char> {
    match c {
        '\n' => Some('⏎'),
        // The control pictures of Unicode.
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)),
        '\x7f' => Some('␡'),
        // C1: some terminals take U+009B for an escape sequence.
        '\u{80}'..='\u{9f}'
        // Direction marks, embeddings, overrides and isolates; separators of lines and paragraphs.
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        // Tags and other characters that nobody can see.
        | '\u{feff}' | '\u{e0000}'..='\u{e007f}' => Some('\u{fffd}'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let all: String = (0..=0x0001_ffff).filter_map(char::from_u32).collect();
        assert!(!line(&all).chars().any(char::is_control));
        for text in lines(&all) {
            assert!(!text.chars().any(char::is_control));
        }
        assert_eq!(line("\x1b]0;title\x07"), "␛]0;title␇");
        assert_eq!(line("a\u{9b}31mb\u{202e}c"), "a\u{fffd}31mb\u{fffd}c");
    }

    #[test]
    fn text_of_any_script_stays_as_it_is() {
        for text in ["hello", "ünï", "こんにちは", "שלום", "👩‍👩‍👧 ok"] {
            assert_eq!(line(text), text);
        }
    }

    #[test]
    fn lines_are_split_and_tabs_widened() {
        assert_eq!(lines("a\r\n\tb\n").collect::<Vec<_>>(), ["a", "    b", ""]);
        assert_eq!(line("a\nb"), "a⏎b");
    }
}
