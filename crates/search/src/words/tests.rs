//! What a text is found by.

use proptest::prelude::*;

use super::*;

fn texts(text: &str) -> Vec<String> {
    words(text).into_iter().map(|word| word.text).collect()
}

#[test]
fn words_are_parted_at_what_is_neither_letter_nor_digit() {
    for (text, expected) in [
        ("Hola, ¿qué tal?", vec!["hola", "que", "tal"]),
        ("don't l'avion 3.14 foo_bar", vec!["don", "t", "l", "avion", "3", "14", "foo", "bar"]),
        ("https://example.com/a?b=1", vec!["https", "example", "com", "a", "b", "1"]),
        ("🎉 … --- 🫖", vec![]),
        ("", vec![]),
        ("½ and ﷺ", vec!["1", "2", "and", "صلى", "الله", "عليه", "وسلم"]),
        ("שלום עולם", vec!["שלום", "עולם"]),
        ("नमस्ते दुनिया", vec!["नमस्ते", "दुनिया"]),
        ("한국어 문장", vec!["한국어", "문장"]),
    ] {
        assert_eq!(texts(text), expected, "{text}");
    }
}

#[test]
fn scripts_without_spaces_give_overlapping_pairs_and_their_last_character() {
    for (text, expected) in [
        ("我在上海。", vec!["我在", "在上", "上海", "海"]),
        ("上", vec!["上"]),
        ("去 tea 上海", vec!["去", "tea", "上海", "海"]),
        ("iPhone用ケース", vec!["iphone", "用ケ", "ケー", "ース", "ス"]),
        ("東京tokyo2024年", vec!["東京", "京", "tokyo2024", "年"]),
        ("ｶﾞｷ", vec!["ガキ", "キ"]),
        ("กาแฟ", vec!["กา", "าแ", "แฟ", "ฟ"]),
    ] {
        assert_eq!(texts(text), expected, "{text}");
    }
}

#[test]
fn a_word_says_where_it_stands() {
    let text = "Ça va, 上海？";
    let found: Vec<_> = words(text).into_iter().map(|word| (&text[word.range], word.kind)).collect();
    let end = text.find('海').unwrap();
    assert_eq!(
        found,
        [("Ça", Kind::Whole), ("va", Kind::Whole), ("上海", Kind::Pair(end)), ("海", Kind::Last)]
    );
}

#[test]
fn long_words_and_long_texts_are_known_by_their_beginning() {
    assert_eq!(texts(&"x".repeat(1_000)), ["x".repeat(WORD_CHARS_MAX)]);
    assert_eq!(texts(&"ж".repeat(1_000)), ["ж".repeat(WORD_CHARS_MAX)]);
    assert_eq!(words(&"a ".repeat(WORDS_MAX + 5)).len(), WORDS_MAX);
    assert_eq!(words(&"上".repeat(WORDS_MAX + 5)).len(), WORDS_MAX);
}

/// Texts as people write them, and as nobody does.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,60}",
        "\\PC{0,60}",
        "[a-zéßŁ上海市がカーกาแຂျក ,.'_\u{301}\u{3099}\u{200d}0-9-]{0,60}",
        ".{0,60}",
    ]
}

proptest! {
    #[test]
    fn words_hold_nothing_that_parts_them(text in any_text()) {
        let mut start = 0;
        for Word { text: word, range, .. } in words(&text) {
            prop_assert!(word.chars().all(|c| c.is_alphanumeric() || is_mark(c)), "{word:?}");
            prop_assert!(is_word(&word));
            prop_assert!(text.get(range.clone()).is_some_and(|it| !it.is_empty()));
            prop_assert!(range.start >= start, "in their order");
            start = range.start;
        }
    }

    #[test]
    fn words_of_words_are_the_same(text in any_text()) {
        for word in words(&text).into_iter().filter(|word| word.kind == Kind::Whole) {
            let again = texts(&word.text);
            prop_assert_eq!(again, [word.text]);
        }
    }

    #[test]
    fn the_short_way_through_ascii_gives_what_the_long_one_does(text in "[ -~\\n\\t]{0,80}") {
        // A character of another script behind it takes the long way.
        let long = texts(&format!("{text} ж"));
        prop_assert_eq!(&long[..long.len() - 1], texts(&text));
    }
}
