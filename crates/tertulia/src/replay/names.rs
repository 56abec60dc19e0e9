//! Nicks become usernames: valid, as like the nick as can be, and never two nicks with one name.

use std::collections::{BTreeSet, HashSet};

/// The longest username of the contract.
const USERNAME_CHARS_MAX: usize = 32;
/// The longest display name of the contract.
const DISPLAY_NAME_CHARS_MAX: usize = 64;
/// The longest tag: it leaves room for a nick, and for a number where nicks look alike.
pub(super) const TAG_CHARS_MAX: usize = 12;

/// Gives each nick a username: what is valid of it in lower case, a number where that is taken, and the tag.
///
/// The same nicks with the same tag always get the same names; they come in the order of the nicks.
pub(super) fn assign(nicks: &BTreeSet<String>, tag: &str) -> Vec<String> {
    let mut taken = HashSet::new();
    let mut name = |nick: &String| {
        let folded: String = nick.chars().map(fold).collect();
        let mut end = format!(".{tag}");
        let mut number = 1;
        loop {
            let room = USERNAME_CHARS_MAX.saturating_sub(end.len());
            let name = format!("{}{end}", &folded[..folded.len().min(room)]);
            if taken.insert(name.clone()) {
                return name;
            }
            number += 1;
            end = format!("-{number}.{tag}");
        }
    };
    nicks.iter().map(&mut name).collect()
}

/// The nick for people to see: its first 64 characters, control characters replaced.
pub(super) fn display_name(nick: &str) -> String {
    let visible = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    nick.chars().map(visible).take(DISPLAY_NAME_CHARS_MAX).collect()
}

/// One character of a username for one of a nick; always ASCII.
fn fold(c: char) -> char {
    match c.to_ascii_lowercase() {
        valid @ ('a'..='z' | '0'..='9' | '.' | '_' | '-') => valid,
        _ => '-',
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tertulia_protocol::rules;

    use super::*;

    fn assign_to(nicks: &[&str], tag: &str) -> HashMap<String, String> {
        let nicks = nicks.iter().map(|&nick| nick.to_owned()).collect();
        let names = assign(&nicks, tag);
        nicks.into_iter().zip(names).collect()
    }

    #[test]
    fn a_name_is_the_nick_in_lower_case_with_the_tag() {
        let names = assign_to(&["Seveas", "a", "ShapeShifter499|", "Müller"], "abcdef");
        assert_eq!(names["Seveas"], "seveas.abcdef");
        assert_eq!(names["a"], "a.abcdef");
        assert_eq!(names["ShapeShifter499|"], "shapeshifter499-.abcdef");
        assert_eq!(names["Müller"], "m-ller.abcdef");
    }

    #[test]
    fn nicks_that_look_alike_are_numbered_in_the_same_way_every_time() {
        let names = assign_to(&["james", "James", "JAMES", "james-2"], "x");
        assert_eq!(names, assign_to(&["james-2", "JAMES", "james", "James"], "x"));
        let of = |nick: &str| names[nick].as_str();
        assert_eq!(
            [of("JAMES"), of("James"), of("james"), of("james-2")],
            ["james.x", "james-2.x", "james-3.x", "james-2-2.x"]
        );
    }

    #[test]
    fn every_nick_gets_a_valid_name_of_its_own() {
        let alphabet = ["a", "A", "|", "^", "-", "2", "é", "\u{1}", "日"];
        let mut nicks: BTreeSet<String> = alphabet.iter().map(|&letter| letter.to_owned()).collect();
        for _ in 0..2 {
            let longer =
                nicks.iter().flat_map(|nick| alphabet.iter().map(move |letter| format!("{nick}{letter}")));
            nicks = nicks.iter().cloned().chain(longer).collect();
        }
        nicks.extend((0..100).map(|number| format!("{}{number}", "long".repeat(30))));
        for tag in ["x", "abcdef", &"z".repeat(TAG_CHARS_MAX)] {
            let names = assign(&nicks, tag);
            assert_eq!(names.iter().collect::<HashSet<_>>().len(), nicks.len());
            for (nick, name) in nicks.iter().zip(&names) {
                assert_eq!(rules::username(name).as_ref(), Ok(name), "{nick:?}");
                assert_eq!(rules::display_name(&display_name(nick)), Ok(()), "{nick:?}");
            }
        }
    }

    #[test]
    fn a_display_name_is_the_nick_as_far_as_the_contract_allows() {
        assert_eq!(display_name("|Müller|"), "|Müller|");
        assert_eq!(display_name("a\u{1}b"), "a\u{fffd}b");
        assert_eq!(display_name(&"ü".repeat(70)).chars().count(), 64);
    }
}
