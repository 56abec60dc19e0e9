//! Text as it is compared in searches.

/// Folds case in any script, and drops the spaces at the beginning.
///
/// Each character goes to upper case and then to lower case, so that those with more than one lower-case
/// form meet in one (`Σ`, `σ` and `ς`; `ß` and `SS`). It works character by character: the fold of a
/// beginning of a text is a beginning of the fold of the text.
pub fn fold(text: &str) -> String {
    text.trim_start().chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// The first text that is greater than every text that begins with `prefix`; `None`: there is none.
pub(crate) fn after_prefix(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        // The next character, over the gap of the surrogates.
        let next = u32::from(last) + 1;
        let next = if next == 0xd800 { 0xe000 } else { next };
        if let Some(next) = char::from_u32(next) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn case_is_folded_in_every_script() {
        for (a, b) in [
            ("ANA", "ana"),
            ("ΟΔΟΣ", "οδος"),
            ("STRASSE", "Straße"),
            ("Привет", "ПРИВЕТ"),
            ("  ana ", "ana "),
        ] {
            assert_eq!(fold(a), fold(b));
        }
        assert_ne!(fold("ana"), fold("anna"));
    }

    #[test]
    fn after_a_prefix_comes_the_next_text_that_does_not_begin_with_it() {
        assert_eq!(after_prefix("ab").as_deref(), Some("ac"));
        assert_eq!(after_prefix("\u{d7ff}").as_deref(), Some("\u{e000}"));
        assert_eq!(after_prefix("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(after_prefix("\u{10ffff}"), None);
    }

    proptest! {
        #[test]
        fn exactly_what_begins_with_a_prefix_lies_before_its_end(prefix in ".{1,3}", text in ".{0,5}") {
            let inside = |text: &str| {
                text >= prefix.as_str() && after_prefix(&prefix).is_none_or(|end| text < end.as_str())
            };
            prop_assert_eq!(inside(&text), text.starts_with(&prefix));
            let longer = format!("{prefix}{text}");
            prop_assert!(inside(&longer));
        }

        #[test]
        fn the_fold_of_a_beginning_is_a_beginning_of_the_fold(head in ".{0,5}", tail in ".{0,5}") {
            let whole = format!("{head}{tail}");
            prop_assert!(fold(&whole).starts_with(&fold(&head)));
        }
    }
}
