//! What is sought: words that stand beside each other, as the index knows them.

use std::ops::Range;

use crate::words::{Kind, Word, words};

/// One or more words that must stand beside each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// In their order; never empty.
    words: Vec<String>,
    /// Whether the last one is sought by its beginning alone: a single character of a script without spaces is found
    /// wherever a pair begins with it.
    open: bool,
}

impl Term {
    /// The term of a text: a word of one who seeks, or a phrase. `None`: there is no word in it.
    pub fn of(text: &str) -> Option<Self> {
        let found = words(text);
        let mut open = false;
        let mut len = found.len();
        if let [.., before, Word { kind: Kind::Last, .. }] = found.as_slice()
            && matches!(before.kind, Kind::Pair(_))
        {
            // The pair has it already, and in the text that is sought something may follow.
            len -= 1;
        } else if let [.., Word { kind: Kind::Last, .. }] = found.as_slice() {
            open = true;
        }
        let words: Vec<String> = found.into_iter().take(len).map(|word| word.text).collect();
        (!words.is_empty()).then_some(Self { words, open })
    }

    /// The words, in their order.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Whether the last word is sought by its beginning.
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// Where it begins in `text`; in bytes, what is to be marked of each occurrence.
    fn find<'a>(&'a self, text: &'a [Word]) -> impl Iterator<Item = Range<usize>> + 'a {
        text.windows(self.words.len()).filter_map(|window| {
            let (last, before) = window.split_last()?;
            let (sought, sought_before) = self.words.split_last()?;
            let fits = before.iter().zip(sought_before).all(|(word, sought)| word.text == *sought);
            let start = window[0].range.start;
            if !fits {
                None
            } else if last.text == *sought {
                Some(start..last.range.end)
            } else if self.open && last.text.starts_with(sought.as_str()) {
                // Of a pair its first character.
                let end = if let Kind::Pair(end) = last.kind { end } else { last.range.end };
                Some(start..end)
            } else {
                None
            }
        })
    }
}

/// Where all of the terms stand in a text, in order and without overlaps; `None` if one of them does not.
pub fn find(terms: &[Term], text: &[Word]) -> Option<Vec<Range<usize>>> {
    let mut marks: Vec<Range<usize>> = Vec::new();
    for term in terms {
        let before = marks.len();
        marks.extend(term.find(text));
        if marks.len() == before {
            return None;
        }
    }
    marks.sort_unstable_by_key(|mark| (mark.start, mark.end));
    marks.dedup_by(|next, mark| {
        let joins = next.start <= mark.end;
        if joins {
            mark.end = mark.end.max(next.end);
        }
        joins
    });
    Some(marks)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marked<'a>(sought: &[&str], text: &'a str) -> Option<Vec<&'a str>> {
        let terms: Vec<_> = sought.iter().map(|text| Term::of(text).unwrap()).collect();
        let marks = find(&terms, &words(text))?;
        Some(marks.into_iter().map(|mark| &text[mark]).collect())
    }

    #[test]
    fn all_terms_must_be_there_and_each_occurrence_is_marked() {
        assert_eq!(marked(&["te"], "Té y té, tea"), Some(vec!["Té", "té"]));
        assert_eq!(marked(&["tea", "time"], "time for TEA"), Some(vec!["time", "TEA"]));
        assert_eq!(marked(&["tea", "coffee"], "time for tea"), None);
    }

    #[test]
    fn a_phrase_is_words_beside_each_other() {
        assert_eq!(marked(&["for tea"], "time for tea, for two teas"), Some(vec!["for tea"]));
        assert_eq!(marked(&["don't"], "I don't; a don of t"), Some(vec!["don't"]));
        assert_eq!(marked(&["tea for"], "time for tea"), None);
    }

    #[test]
    fn scripts_without_spaces_are_found_in_the_middle_of_a_sentence() {
        assert_eq!(marked(&["上海"], "我在上海工作"), Some(vec!["上海"]));
        assert_eq!(marked(&["海"], "我在上海工作，海"), Some(vec!["海", "海"]));
        assert_eq!(marked(&["作"], "我在上海工作"), Some(vec!["作"]));
        assert_eq!(marked(&["在上海工"], "我在上海工作"), Some(vec!["在上海工"]));
        assert_eq!(marked(&["上工"], "我在上海工作"), None);
        assert_eq!(marked(&["กาแฟ"], "ดื่มกาแฟเย็น"), Some(vec!["กาแฟ"]));
        assert_eq!(marked(&["tea 上"], "tea 上海"), Some(vec!["tea 上"]));
        assert_eq!(marked(&["去上海 today"], "我去上海 today"), Some(vec!["去上海 today"]));
        assert_eq!(marked(&["ケース"], "iPhone用ｹｰｽ"), Some(vec!["ｹｰｽ"]));
    }

    #[test]
    fn marks_that_touch_are_one() {
        assert_eq!(marked(&["上海", "海市"], "上海市"), Some(vec!["上海市"]));
        assert_eq!(marked(&["one two", "two three"], "one two three"), Some(vec!["one two three"]));
    }

    proptest! {
        #[test]
        fn every_word_of_a_text_finds_it(text in prop_oneof!["\\PC{0,60}", "[a-zé上海市がกา ,.]{0,60}"]) {
            let found = words(&text);
            for word in text.split_whitespace().filter_map(Term::of) {
                prop_assert!(find(&[word], &found).is_some());
            }
            for word in &found {
                let term = Term::of(&text[word.range.clone()]).unwrap();
                prop_assert!(find(&[term], &found).is_some(), "{word:?}");
            }
        }

        #[test]
        fn every_stretch_of_a_text_without_spaces_finds_it(
            text in "[上海市がカー]{1,20}", from in 0_usize..20, len in 1_usize..8,
        ) {
            let part: String = text.chars().skip(from % text.chars().count()).take(len).collect();
            prop_assert!(find(&[Term::of(&part).unwrap()], &words(&text)).is_some());
        }

        #[test]
        fn marks_stand_in_the_text_one_after_the_other(text in "\\PC{0,60}", sought in "\\PC{1,8}") {
            let Some(term) = Term::of(&sought) else { return Ok(()) };
            let mut end = None;
            for mark in find(&[term], &words(&text)).into_iter().flatten() {
                prop_assert!(text.get(mark.clone()).is_some_and(|it| !it.is_empty()));
                prop_assert!(end < Some(mark.start));
                end = Some(mark.end);
            }
        }
    }
}
