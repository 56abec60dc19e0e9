//! What input may look like: sizes, characters, ranges. Checked once, at the edge.

use crate::{ClientSeq, Code};

/// The largest body of a message, in bytes of UTF-8.
pub const BODY_BYTES_MAX: usize = 65_536;
/// The largest socket frame of a client, in bytes: a full body whose every byte is escaped once, and more.
pub const FRAME_BYTES_MAX: usize = 131_072;
/// The most entries, conversations, members or users that one page holds.
pub const PAGE_MAX: usize = 200;
/// The size of a page when no `limit` is given.
pub const PAGE_DEFAULT: usize = 50;
/// The most users that one call adds.
pub const MEMBERS_PER_CALL_MAX: usize = 1_000;
/// The longest title of a group, in characters.
pub const TITLE_CHARS_MAX: usize = 128;
/// The longest description of a user or group, in characters.
pub const ABOUT_CHARS_MAX: usize = 1_024;
/// The most users that one `presence_subscribe` names, and that one connection watches.
pub const PRESENCE_SUBSCRIPTIONS_MAX: usize = 1_000;

/// Input that breaks a rule; the text says which and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Violation {
    /// `invalid` or `too_large`.
    pub code: Code,
    /// What is wrong and what is allowed.
    pub detail: String,
}

impl Violation {
    /// A violation with the code `invalid`.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self { code: Code::Invalid, detail: detail.into() }
    }
}

/// Checks the body of a message; it is kept byte for byte.
///
/// # Errors
/// `too_large` over 65,536 bytes; `invalid` if it is blank or holds NUL.
pub fn body(text: &str) -> Result<(), Violation> {
    if text.len() > BODY_BYTES_MAX {
        let detail = format!(
            "the body has {} bytes; at most {BODY_BYTES_MAX} are allowed: split it into several messages",
            text.len()
        );
        return Err(Violation { code: Code::TooLarge, detail });
    }
    if text.contains('\0') {
        return Err(Violation::invalid("the body holds a NUL character; remove it"));
    }
    if text.chars().all(char::is_whitespace) {
        return Err(Violation::invalid("the body is blank; write something"));
    }
    Ok(())
}

/// How many bytes a text takes in JSON at the most, without its quotes: six times its own if it is all control characters.
pub fn json_bytes_max(text: &str) -> usize {
    // Sums that fit into a byte, of so many that the compiler takes them together: a tenth of the time.
    const CHUNK: usize = 32;
    let more = |&byte: &u8| 5 * u8::from(byte < 0x20) + u8::from((byte == b'"') | (byte == b'\\'));
    let (chunks, rest) = text.as_bytes().as_chunks::<CHUNK>();
    let of_chunk = |chunk: &[u8; CHUNK]| usize::from(chunk.iter().map(more).sum::<u8>());
    text.len() + chunks.iter().map(of_chunk).sum::<usize>() + usize::from(rest.iter().map(more).sum::<u8>())
}

/// Checks a client's number of a message.
///
/// # Errors
/// `invalid` outside 1 … 2^53 - 1.
pub fn client_seq(number: ClientSeq) -> Result<(), Violation> {
    if number.is_valid() {
        return Ok(());
    }
    Err(Violation::invalid("clientSeq must be an integer from 1 to 9007199254740991"))
}

/// Checks a username and folds it to lower case.
///
/// # Errors
/// `invalid` unless it has 3 to 32 characters of `a-z 0-9 . _ -` (capitals are folded).
pub fn username(text: &str) -> Result<String, Violation> {
    let folded = text.to_ascii_lowercase();
    let allowed = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    if !(3..=32).contains(&folded.len()) || !folded.bytes().all(allowed) {
        return Err(Violation::invalid("a username has 3 to 32 characters of a-z 0-9 . _ -"));
    }
    Ok(folded)
}

/// Checks a display name.
///
/// # Errors
/// `invalid` unless it has 1 to 64 characters, is not blank and holds no control characters.
pub fn display_name(text: &str) -> Result<(), Violation> {
    if !(1..=64).contains(&text.chars().count()) || is_blank_or_control(text) {
        return Err(Violation::invalid(
            "a display name has 1 to 64 characters of any script, without control characters",
        ));
    }
    Ok(())
}

/// Checks a password.
///
/// # Errors
/// `invalid` unless it has 8 to 256 characters.
pub fn password(text: &str) -> Result<(), Violation> {
    if !(8..=256).contains(&text.chars().count()) {
        return Err(Violation::invalid("a password has 8 to 256 characters"));
    }
    Ok(())
}

/// Checks the title of a group.
///
/// # Errors
/// `invalid` unless it has 1 to 128 characters, is not blank and holds no control characters.
pub fn title(text: &str) -> Result<(), Violation> {
    if !(1..=TITLE_CHARS_MAX).contains(&text.chars().count()) || is_blank_or_control(text) {
        return Err(Violation::invalid(format!(
            "a title has 1 to {TITLE_CHARS_MAX} characters, without control characters"
        )));
    }
    Ok(())
}

/// Checks the description of a user or group; it may be empty and have line breaks.
///
/// # Errors
/// `invalid` over 1,024 characters or with NUL.
pub fn about(text: &str) -> Result<(), Violation> {
    if text.chars().count() > ABOUT_CHARS_MAX || text.contains('\0') {
        return Err(Violation::invalid(format!(
            "a description has at most {ABOUT_CHARS_MAX} characters, without NUL"
        )));
    }
    Ok(())
}

/// Checks the name or platform of a device.
///
/// # Errors
/// `invalid` over 64 characters or with control characters.
pub fn device_text(text: &str) -> Result<(), Violation> {
    if text.chars().count() > 64 || text.chars().any(char::is_control) {
        return Err(Violation::invalid(
            "a device's name and platform have at most 64 characters, without control characters",
        ));
    }
    Ok(())
}

/// The size of a page: `limit` or the default.
///
/// # Errors
/// `invalid` outside 1 … 200.
pub fn page_limit(limit: Option<usize>) -> Result<usize, Violation> {
    match limit {
        None => Ok(PAGE_DEFAULT),
        Some(limit) if (1..=PAGE_MAX).contains(&limit) => Ok(limit),
        Some(_) => Err(Violation::invalid(format!("limit must be from 1 to {PAGE_MAX}"))),
    }
}

fn is_blank_or_control(text: &str) -> bool {
    text.chars().all(char::is_whitespace) || text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_takes_no_more_in_json_than_is_said_however_long_it_is() {
        for piece in ["a", "\u{1}", "\"", "\\", "\n", "\u{1f}", " ", "é", "a\u{1}\"\\é"] {
            for count in 0..70 {
                let text = piece.repeat(count);
                let (said, written) =
                    (json_bytes_max(&text), serde_json::to_string(&text).unwrap().len() - 2);
                // Some control characters have a short form.
                let is_exact = piece == "\n" || said == written;
                assert!(
                    written <= said && is_exact,
                    "{count} times {piece:?}: {written} bytes, {said} were said"
                );
            }
        }
    }

    #[test]
    fn a_body_is_bounded_in_bytes_and_not_blank() {
        assert_eq!(body(&"x".repeat(BODY_BYTES_MAX)), Ok(()));
        assert_eq!(body(&"x".repeat(BODY_BYTES_MAX + 1)).map_err(|v| v.code), Err(Code::TooLarge));
        for blank in ["", " ", "\n\t", "\u{3000}"] {
            assert_eq!(body(blank).map_err(|v| v.code), Err(Code::Invalid), "{blank:?}");
        }
        assert_eq!(body("a\0b").map_err(|v| v.code), Err(Code::Invalid));
        assert_eq!(body(" kept as it is "), Ok(()));
    }

    #[test]
    fn usernames_are_folded_to_lower_case() {
        assert_eq!(username("Ana.B-1_").as_deref(), Ok("ana.b-1_"));
        for bad in ["ab", "with space", "ümlaut", "", &"x".repeat(33)] {
            assert!(username(bad).is_err(), "{bad:?}");
        }
    }
}
