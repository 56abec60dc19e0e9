//! Folding: what is written in two ways and sought in either is one.

use unicode_normalization::UnicodeNormalization as _;

use super::script::is_dropped;

/// Appends a text without case, accents and forms of presentation: `Ǆ` and `dž`, `Ｃafé` and `cafe`, `ﬁ` and `fi` are
/// the same. Folded again it stays as it is.
pub(super) fn fold_into(text: &str, folded: &mut String) {
    if text.is_ascii() {
        folded.extend(text.chars().map(|c| c.to_ascii_lowercase()));
        return;
    }
    // Apart, so that accents stand by themselves; together again, so that what is no accent (the voice of a kana, the
    // parts of a syllable of Hangul) is one character as everybody writes it.
    let mut apart = String::with_capacity(text.len());
    for c in text.nfkd().flat_map(char::to_lowercase).filter(|&c| !is_dropped(c)) {
        match as_letters(c) {
            Some(letters) => apart.push_str(letters),
            None => apart.push(c),
        }
    }
    folded.extend(apart.nfc());
}

/// Letters that Unicode does not take apart, and people do.
const fn as_letters(c: char) -> Option<&'static str> {
    Some(match c {
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'ø' => "o",
        'ł' => "l",
        'đ' | 'ð' => "d",
        'ħ' => "h",
        'ŧ' => "t",
        'þ' => "th",
        'ı' => "i",
        'ς' => "σ",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fold(text: &str) -> String {
        let mut folded = String::new();
        fold_into(text, &mut folded);
        folded
    }

    #[test]
    fn case_accents_and_forms_are_one() {
        for (text, folded) in [
            ("HOLA", "hola"),
            ("Čeština", "cestina"),
            ("cafe\u{301}", "cafe"),
            ("Straße", "strasse"),
            ("STRASSE", "strasse"),
            ("ΟΔΟΣ", "οδοσ"),
            ("οδός", "οδοσ"),
            ("Ёлка", "елка"),
            ("İstanbul", "istanbul"),
            ("ısparta", "isparta"),
            ("Øre", "ore"),
            ("Łódź", "lodz"),
            ("ﬁn", "fin"),
            ("Ｔｅａ", "tea"),
            ("مُحَمَّد", "محمد"),
            ("שָׁלוֹם", "שלום"),
            ("ｶﾞｷﾞ", "ガギ"),
            ("한국어", "한국어"),
            ("葛\u{E0100}", "葛"),
            ("so\u{AD}fá", "sofa"),
        ] {
            assert_eq!(fold(text), folded, "{text}");
        }
    }

    #[test]
    fn marks_that_are_letters_of_their_script_stay() {
        for (one, other) in [("か", "が"), ("कल", "कुल"), ("กา", "ก้า"), ("ของ", "ข่อง")]
        {
            assert_ne!(fold(one), fold(other));
        }
    }

    #[test]
    fn every_character_folded_is_folded_for_good() {
        for c in '\0'..=char::MAX {
            let once = fold(c.encode_utf8(&mut [0; 4]));
            assert_eq!(fold(&once), once, "{c:?} {:x}", u32::from(c));
        }
    }

    proptest! {
        #[test]
        fn what_is_folded_stays_as_it_is(text in "\\PC{0,40}") {
            let once = fold(&text);
            prop_assert_eq!(fold(&once), once);
        }

        #[test]
        fn composed_and_decomposed_are_the_same(text in "[\\p{L}\\p{M}]{0,20}") {
            prop_assert_eq!(fold(&text.nfc().collect::<String>()), fold(&text.nfd().collect::<String>()));
        }
    }
}
