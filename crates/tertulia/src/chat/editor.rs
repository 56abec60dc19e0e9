//! The line that is being typed.

use unicode_segmentation::UnicodeSegmentation;

/// A text with a cursor between two of its characters, as people count them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Editor {
    text: String,
    /// In bytes; always between two grapheme clusters.
    cursor: usize,
}

impl Editor {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// What stands before the cursor.
    pub(super) fn before_cursor(&self) -> &str {
        &self.text[..self.cursor]
    }

    /// Replaces everything; the cursor is at the end.
    pub(super) fn set(&mut self, text: String) {
        self.cursor = text.len();
        self.text = text;
    }

    /// Takes the text out.
    pub(super) fn take(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut self.text)
    }

    pub(super) fn insert(&mut self, text: &str) {
        self.text.insert_str(self.cursor, text);
        self.cursor += text.len();
    }

    pub(super) fn backspace(&mut self) {
        let from = self.left_of_cursor();
        self.text.replace_range(from..self.cursor, "");
        self.cursor = from;
    }

    pub(super) fn delete(&mut self) {
        let to = self.right_of_cursor();
        self.text.replace_range(self.cursor..to, "");
    }

    /// Deletes back to the beginning of a word.
    pub(super) fn delete_word(&mut self) {
        let before = self.before_cursor().trim_end();
        let from = before
            .rfind(char::is_whitespace)
            .map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
        self.text.replace_range(from..self.cursor, "");
        self.cursor = from;
    }

    /// Deletes back to the beginning.
    pub(super) fn delete_to_start(&mut self) {
        self.text.replace_range(..self.cursor, "");
        self.cursor = 0;
    }

    pub(super) fn left(&mut self) {
        self.cursor = self.left_of_cursor();
    }

    pub(super) fn right(&mut self) {
        self.cursor = self.right_of_cursor();
    }

    pub(super) fn home(&mut self) {
        self.cursor = 0;
    }

    pub(super) fn end(&mut self) {
        self.cursor = self.text.len();
    }

    fn left_of_cursor(&self) -> usize {
        self.before_cursor().grapheme_indices(true).next_back().map_or(0, |(at, _)| at)
    }

    fn right_of_cursor(&self) -> usize {
        let next = self.text[self.cursor..].graphemes(true).next();
        self.cursor + next.map_or(0, str::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_move_and_delete_by_what_people_see_as_a_character() {
        let mut editor = Editor::default();
        editor.insert("a👩‍👩‍👧e\u{301}");
        editor.backspace();
        assert_eq!(editor.text(), "a👩‍👩‍👧");
        editor.left();
        editor.insert("b");
        assert_eq!((editor.text(), editor.before_cursor()), ("ab👩‍👩‍👧", "ab"));
        editor.delete();
        editor.delete();
        assert_eq!(editor.text(), "ab");
        editor.home();
        editor.backspace();
        editor.right();
        editor.insert("-");
        assert_eq!(editor.text(), "a-b");
    }

    #[test]
    fn words_and_lines_are_deleted_backwards() {
        let mut editor = Editor::default();
        editor.set("one two\u{3000}three ".into());
        editor.delete_word();
        assert_eq!(editor.text(), "one two\u{3000}");
        editor.delete_word();
        assert_eq!(editor.text(), "one ");
        editor.delete_to_start();
        assert_eq!(editor.take(), "");
    }
}
