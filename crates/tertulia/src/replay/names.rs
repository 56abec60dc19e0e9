//! Usernames for nicks: valid, the same in every run, and no two nicks share one.

use std::collections::{BTreeSet, HashSet};

use tertulia_protocol::rules;

/// The longest tag, in characters.
pub(super) const TAG_CHARS_MAX: usize = 12;
/// The longest username.
const USERNAME_CHARS_MAX: usize = 32;
/// What is kept of a nick beside its mark, so that with the longest tag both fit into a username.
const PART_CHARS_MAX: usize = 12;

/// The usernames of these nicks, in their order; each ends in `.tag`, so that runs do not meet each other's users.
///
/// A nick that is valid as it is stays readable. Of others, what is not allowed becomes `-`, and a mark made
/// of the whole nick keeps them apart: `zcat[1]` and `zcat{1}`, `Ana` and `ana`.
pub(super) fn assign(nicks: &BTreeSet<String>, tag: &str) -> Vec<String> {
    let room = USERNAME_CHARS_MAX - 1 - tag.len();
    let mut taken = HashSet::new();
    let mut name = |nick: &String| {
        let folded = nick.to_ascii_lowercase();
        let valid: String = folded.chars().map(|c| if is_allowed(c) { c } else { '-' }).collect();
        let plain = format!("{valid}.{tag}");
        if valid == folded && valid.len() <= room && taken.insert(plain.clone()) {
            return plain;
        }
        let part: String = valid.chars().take(PART_CHARS_MAX).collect();
        let mut salt = 0;
        loop {
            let marked = format!("{part}-{:06x}.{tag}", mark(nick, salt));
            if taken.insert(marked.clone()) {
                return marked;
            }
            salt += 1;
        }
    };
    nicks.iter().map(&mut name).collect()
}

/// A nick as a display name: at most 64 characters, none of them control characters.
pub(super) fn display_name(nick: &str) -> String {
    let name: String = nick.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(64).collect();
    if rules::display_name(&name).is_ok() { name } else { "nobody".into() }
}

fn is_allowed(c: char) -> bool {
    matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-')
}

/// 24 bits of FNV-1a; two nicks that share one are told apart by the salt.
fn mark(nick: &str, salt: u32) -> u32 {
    let bytes = nick.bytes().chain(salt.to_le_bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash >> 8) ^ (hash & 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nick_gets_a_valid_name_of_its_own_and_always_the_same() {
        let long = "x".repeat(200);
        let odd = ["Ana", "ana", "zcat[1]", "zcat{1}", "|", "||", "a", "ümlaut", "юзер", "юзар", &long, "_", "^^"];
        let nicks: BTreeSet<String> = odd.iter().map(|nick| (*nick).to_owned()).collect();
        let names = assign(&nicks, "longesttag12");
        assert_eq!(names, assign(&nicks, "longesttag12"));
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), nicks.len(), "{names:?}");
        for name in &names {
            assert_eq!(rules::username(name).as_ref(), Ok(name));
        }
        assert_eq!(names[0], "ana.longesttag12");
    }

    #[test]
    fn the_nick_stays_as_the_display_name() {
        assert_eq!(display_name("[A]ndy80"), "[A]ndy80");
        assert_eq!(display_name("a\u{1b}b"), "a\u{fffd}b");
    }
}
