//! What tokenizer, parser and snippets owe for any text: an answer, never a panic, and what stands in a text finds it.
//!
//! The fuzz targets call these with texts that are grown for hours; the tests of each module draw theirs.

use crate::words::{WORD_CHARS_MAX, WORDS_MAX, words};
use crate::{Place, Query, Term, find, snippet};

/// The words of a text: each finds it, and is marked in its snippet.
///
/// # Panics
/// If a promise is broken, as all of these.
pub fn tokens(text: &str) {
    let found = words(text);
    assert!(found.len() <= WORDS_MAX);
    for word in found.iter().take(100) {
        assert!(word.text.chars().count() <= WORD_CHARS_MAX);
        let own = &text[word.range.clone()];
        let Some(term) = Term::of(own) else { panic!("{own:?} is a word, and none by itself") };
        let marks = find(&[term], &found);
        let Some(marks) = marks else { panic!("{own:?} does not find the text that it is of") };
        assert!(!snippet(text, &marks).marks.is_empty());
    }
}

/// A query, as a user writes it, and a message that it is sought in.
pub fn query(query: &str, text: &str) {
    let Ok(query) = Query::parse(query) else { return };
    if let Some(marks) = find(&query.terms, &words(text)) {
        let snippet = snippet(text, &marks);
        let units = u32::try_from(snippet.text.encode_utf16().count()).unwrap_or(u32::MAX);
        let mut end = 0;
        for [from, to] in snippet.marks {
            assert!(end <= from && from < to && to <= units);
            end = to;
        }
    }
}

/// A place, of which a server made the cursor of a search.
pub fn place(bytes: &[u8]) {
    if let Some(place) = Place::from_bytes(bytes) {
        assert_eq!(place.to_bytes(), bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["\\PC{0,120}", ".{0,80}", "[a-zé上海カーกาㅎ한ﷺ½ ,.'_\u{301}\u{3099}\u{200d}0-9-]{0,300}"]
    }

    proptest! {
        #[test]
        fn any_text_is_found_by_its_words(text in text()) {
            tokens(&text);
        }

        #[test]
        fn any_query_is_answered_or_refused(sought in "\\PC{0,12}|[a-z上海\" ]{1,6}", text in text()) {
            query(&sought, &text);
        }

        #[test]
        fn any_bytes_are_a_place_or_none(mut bytes in prop::collection::vec(any::<u8>(), 0..30), kind in "[nr]?") {
            bytes.splice(..0, kind.bytes());
            place(&bytes);
        }
    }
}
