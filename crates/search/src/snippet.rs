//! A piece of a message with what was sought in it marked.

use std::ops::Range;

use tertulia_protocol::rest::Snippet;
use unicode_segmentation::UnicodeSegmentation as _;

/// About how many characters, as people count them, a snippet has at most.
const CHARACTERS_MAX: usize = 160;
/// How many of them stand before the first mark.
const BEFORE_MAX: usize = 40;
/// What stands for what was left out.
const LEFT_OUT: &str = "…";

/// The snippet of a text with these marks, which are in order and do not overlap.
///
/// A text that is short is whole; of a long one the piece with the first mark, cut between words where it can be.
pub fn snippet(text: &str, marks: &[Range<usize>]) -> Snippet {
    let piece = piece(text, marks.first().map_or(0, |mark| mark.start));
    let mut cut = String::new();
    if piece.start > 0 {
        cut.push_str(LEFT_OUT);
    }
    let mut shown = Vec::new();
    let (mut at, mut place) = (piece.start, units(&cut));
    for mark in marks {
        let mark = mark.start.max(piece.start)..mark.end.min(piece.end);
        if mark.is_empty() {
            continue;
        }
        place += units(&text[at..mark.start]);
        let end = place + units(&text[mark.clone()]);
        shown.push([place, end]);
        (at, place) = (mark.end, end);
    }
    cut.push_str(&text[piece.clone()]);
    if piece.end < text.len() {
        cut.push_str(LEFT_OUT);
    }
    Snippet { text: cut, marks: shown }
}

/// The stretch of the text to show, so that what begins at `mark` is in it.
fn piece(text: &str, mark: usize) -> Range<usize> {
    if text.graphemes(true).nth(CHARACTERS_MAX).is_none() {
        return 0..text.len();
    }
    // Back from the mark, so that the cost does not grow with what is before it.
    let mut start =
        text[..mark].grapheme_indices(true).rev().take(BEFORE_MAX).last().map_or(mark, |(at, _)| at);
    if start > 0 {
        start = after_space(text, start, mark);
    }
    let rest = &text[start..];
    let Some((end, _)) = rest.grapheme_indices(true).nth(CHARACTERS_MAX) else { return start..text.len() };
    let end = start + end;
    start..before_space(text, mark.max(start), end)
}

/// The first place in `from..to` where a word begins; `from` if there is none.
fn after_space(text: &str, from: usize, to: usize) -> usize {
    let mut chars = text[from..to].char_indices().skip_while(|(_, c)| !c.is_whitespace());
    chars.find(|(_, c)| !c.is_whitespace()).map_or(from, |(at, _)| from + at)
}

/// The last place in the second half of `from..to` where a word ends; `to` if there is none.
fn before_space(text: &str, from: usize, to: usize) -> usize {
    let end = text[from..to].rfind(char::is_whitespace).map_or(to, |at| from + at);
    if end - from > (to - from) / 2 { end } else { to }
}

/// The length of a text as browsers count it: in units of UTF-16.
fn units(text: &str) -> u32 {
    u32::try_from(text.encode_utf16().count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::term::{Term, find};
    use crate::words::words;

    fn of(text: &str, sought: &str) -> Snippet {
        let terms: Vec<_> = sought.split(' ').map(|word| Term::of(word).unwrap()).collect();
        snippet(text, &find(&terms, &words(text)).unwrap())
    }

    /// As a browser would show it.
    fn shown(snippet: &Snippet) -> String {
        let units: Vec<u16> = snippet.text.encode_utf16().collect();
        let part = |from: u32, to: u32| String::from_utf16(&units[from as usize..to as usize]).unwrap();
        let (mut text, mut at) = (String::new(), 0);
        for &[start, end] in &snippet.marks {
            text += &format!("{}[{}]", part(at, start), part(start, end));
            at = end;
        }
        text + &part(at, u32::try_from(units.len()).unwrap())
    }

    #[test]
    fn a_short_text_is_whole_and_its_marks_count_as_browsers_do() {
        assert_eq!(of("🫖 Té for two", "te"), Snippet { text: "🫖 Té for two".into(), marks: vec![[3, 5]] });
        assert_eq!(shown(&of("👩‍👩‍👧 上海 tea", "tea 海")), "👩‍👩‍👧 上[海] [tea]");
    }

    #[test]
    fn of_a_long_text_the_piece_with_the_first_mark_is_shown() {
        let text = format!("{}the kettle boils {}", "lorem ipsum ".repeat(50), "dolor sit ".repeat(50));
        let snippet = of(&text, "kettle");
        assert_eq!(shown(&snippet).matches("[kettle]").count(), 1);
        assert!(snippet.text.starts_with("…ipsum ") || snippet.text.starts_with("…lorem "), "{snippet:?}");
        assert!(snippet.text.ends_with("dolor…") || snippet.text.ends_with("sit…"), "{snippet:?}");
        let long = "上".repeat(500) + "海";
        assert!(shown(&of(&long, "海")).ends_with("上[海]"));
    }

    proptest! {
        #[test]
        fn marks_are_what_was_sought_wherever_the_text_is_cut(
            before in "\\PC{0,200}", after in "\\PC{0,200}", blank in "[ \n]{0,3}",
        ) {
            let text = format!("{before} kettle{blank} {after}");
            let snippet = of(&text, "kettle");
            prop_assert!(snippet.text.graphemes(true).count() <= CHARACTERS_MAX + 2);
            prop_assert!(shown(&snippet).contains("[kettle]"));
        }
    }
}
