//! The one tokenizer: what a text is found by, for index, query and snippet alike.
//!
//! A word is what Unicode calls one (UAX #29), parted again at everything that is neither letter nor digit, and folded:
//! `Café-Con-Leche` is `cafe`, `con`, `leche`. Scripts that do not part words give each pair of neighbours, and the last
//! character by itself: `上海市` is `上海`, `海市`, `市`. So what is sought in such a text is a row of its pairs, and a
//! single character is the beginning of one.

mod fold;
mod script;

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation as _;

use self::fold::fold_into;
use self::script::{is_mark, is_unspaced};

/// The longest word, in characters; what is longer is known by its beginning.
pub const WORD_CHARS_MAX: usize = 64;
/// The most words that a text is found by: its first ones.
pub const WORDS_MAX: usize = 16_000;

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Folded: letters and digits alone.
    pub text: String,
    /// Where it stands, in bytes.
    pub range: Range<usize>,
    /// What it is.
    pub kind: Kind,
}

/// What a [`Word`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A word by itself.
    Whole,
    /// Two neighbours of a script without spaces; the first ends here.
    Pair(usize),
    /// The last character before something else.
    Last,
}

/// The words of a text, at most [`WORDS_MAX`].
pub fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    each_word(text, |text, range, kind| {
        words.push(Word { text: text.to_owned(), range, kind });
    });
    words
}

/// Hands over the words of a text, in their order, at most [`WORDS_MAX`].
pub fn each_word(text: &str, take: impl FnMut(&str, Range<usize>, Kind)) {
    let mut cutter = Cutter { text, take, left: WORDS_MAX, folded: String::new(), neighbour: None };
    if text.is_ascii() {
        return cutter.ascii();
    }
    for (at, word) in text.unicode_word_indices() {
        cutter.word(at, word);
        if cutter.left == 0 {
            return;
        }
    }
    cutter.end_run();
}

struct Cutter<'a, F> {
    text: &'a str,
    take: F,
    left: usize,
    folded: String,
    /// The character of a script without spaces that came last.
    neighbour: Option<Unit>,
}

/// A character with its marks.
struct Unit {
    folded: String,
    range: Range<usize>,
}

impl<F: FnMut(&str, Range<usize>, Kind)> Cutter<'_, F> {
    /// In ASCII a word is a row of letters and digits; this is how most texts go.
    fn ascii(&mut self) {
        let bytes = self.text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let start = at;
            while bytes.get(at).is_some_and(u8::is_ascii_alphanumeric) {
                at += 1;
            }
            if at > start {
                self.piece(start..at);
            }
            at += 1;
        }
    }

    /// A word of Unicode's, which stands at `at`.
    fn word(&mut self, at: usize, word: &str) {
        let mut piece = at..at;
        let mut chars = word.char_indices().peekable();
        while let Some((offset, c)) = chars.next() {
            let mut end = at + offset + c.len_utf8();
            while let Some((offset, mark)) = chars.next_if(|&(_, c)| is_mark(c)) {
                end = at + offset + mark.len_utf8();
            }
            let unit = at + offset..end;
            if is_unspaced(c) {
                self.piece(piece);
                piece = end..end;
                self.unit(unit);
            } else if c.is_alphanumeric() || is_mark(c) {
                piece.end = end;
            } else {
                self.piece(piece);
                piece = end..end;
            }
        }
        self.piece(piece);
    }

    /// A row of letters and digits.
    fn piece(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        self.end_run();
        let mut folded = std::mem::take(&mut self.folded);
        folded.clear();
        fold_into(&self.text[range.clone()], &mut folded);
        // Some characters are several words, or none.
        for word in folded.split(|c: char| !c.is_alphanumeric() && !is_mark(c)).filter(|word| is_word(word)) {
            // A mark without a letter before it marks nothing.
            self.give(word.trim_start_matches(is_mark), range.clone(), Kind::Whole);
        }
        self.folded = folded;
    }

    /// A character of a script without spaces.
    fn unit(&mut self, range: Range<usize>) {
        let mut folded = String::new();
        fold_into(&self.text[range.clone()], &mut folded);
        folded.retain(|c| c.is_alphanumeric() || is_mark(c));
        if !is_word(&folded) {
            return self.end_run();
        }
        match self.neighbour.take() {
            Some(before) if before.range.end == range.start => {
                let pair = format!("{}{folded}", before.folded);
                self.give(&pair, before.range.start..range.end, Kind::Pair(before.range.end));
            }
            before => {
                self.neighbour = before;
                self.end_run();
            }
        }
        self.neighbour = Some(Unit { folded, range });
    }

    /// What comes next, if anything, is no neighbour.
    fn end_run(&mut self) {
        if let Some(Unit { folded, range }) = self.neighbour.take() {
            self.give(&folded, range, Kind::Last);
        }
    }

    fn give(&mut self, word: &str, range: Range<usize>, kind: Kind) {
        if self.left > 0 {
            self.left -= 1;
            let end = word.char_indices().nth(WORD_CHARS_MAX).map_or(word.len(), |(end, _)| end);
            (self.take)(&word[..end], range, kind);
        }
    }
}

/// Whether there is anything but marks.
fn is_word(text: &str) -> bool {
    text.chars().any(|c| c.is_alphanumeric() && !is_mark(c))
}

#[cfg(test)]
mod tests;
