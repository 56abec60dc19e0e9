//! The query language: words, `"phrases"`, and `from:`, `in:`, `before:`, `after:`.

use tertulia_protocol::rules::Violation;
use tertulia_protocol::{ConvoId, Timestamp, UserId, rules};

use crate::term::Term;

/// The longest query, in bytes.
pub const QUERY_BYTES_MAX: usize = 1_024;
/// The most words of a query; a pair of a script without spaces is one.
pub const QUERY_WORDS_MAX: usize = 64;

/// What somebody seeks: all of it must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Words and phrases.
    pub terms: Vec<Term>,
    /// Who wrote it.
    pub from: Option<Author>,
    /// Where it stands.
    pub convo: Option<ConvoId>,
    /// It is older than this.
    pub before: Option<Timestamp>,
    /// It is of this moment, or newer.
    pub after: Option<Timestamp>,
}

/// Whom `from:` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Author {
    /// The one who asks: `me`, which is too short for a username.
    Me,
    /// By id.
    Id(UserId),
    /// By username, in lower case.
    Name(String),
}

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// `invalid`, with what to do, if there is nothing in it to seek, a filter does not say what it must or stands there
    /// twice, a quotation is not closed, or it is too long.
    pub fn parse(text: &str) -> Result<Self, Violation> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(Violation::invalid(format!(
                "the query has {} bytes; at most {QUERY_BYTES_MAX} are allowed: seek fewer words",
                text.len()
            )));
        }
        let mut query = Self::default();
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let behind = if is_quote(first) {
                let inside = &rest[first.len_utf8()..];
                let Some((phrase, behind)) = inside.split_once(is_quote) else {
                    return Err(Violation::invalid(
                        "a phrase is not closed: put a quotation mark at its end, or none at its beginning",
                    ));
                };
                query.terms.extend(Term::of(phrase));
                behind
            } else {
                let end = rest.find(|c: char| c.is_whitespace() || is_quote(c)).unwrap_or(rest.len());
                let (word, behind) = rest.split_at(end);
                if !query.filter(word)? {
                    query.terms.extend(Term::of(word));
                }
                behind
            };
            rest = behind.trim_start();
        }
        query.checked()
    }

    /// Takes a word that is a filter; `false` if it is none.
    fn filter(&mut self, word: &str) -> Result<bool, Violation> {
        let Some((key, value)) = word.split_once(':') else { return Ok(false) };
        match key.to_ascii_lowercase().as_str() {
            "from" => set(&mut self.from, "from:", author(value)?)?,
            "in" => {
                let convo = value.parse().map_err(|_| {
                    Violation::invalid(
                        "in: takes the id of a conversation, as in in:0198f3a2-7c4e-7b1a-9d3e-5f6a7b8c9d0e",
                    )
                })?;
                set(&mut self.convo, "in:", convo)?;
            }
            "before" => set(&mut self.before, "before:", moment("before:", value)?)?,
            "after" => set(&mut self.after, "after:", moment("after:", value)?)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn checked(self) -> Result<Self, Violation> {
        if self.terms.is_empty() && self.from.is_none() {
            return Err(Violation::invalid(
                "there is nothing to seek: name at least one word of letters or digits, or from:USERNAME",
            ));
        }
        let words: usize = self.terms.iter().map(|term| term.words().len()).sum();
        if words > QUERY_WORDS_MAX {
            return Err(Violation::invalid(format!(
                "the query has {words} words; at most {QUERY_WORDS_MAX} are allowed: seek fewer"
            )));
        }
        Ok(self)
    }
}

/// Keyboards of phones write the curved ones by themselves.
const fn is_quote(c: char) -> bool {
    matches!(c, '"' | '“' | '”' | '„')
}

fn set<T>(slot: &mut Option<T>, key: &str, value: T) -> Result<(), Violation> {
    if slot.replace(value).is_some() {
        return Err(Violation::invalid(format!("{key} stands there twice; a message can only fit one")));
    }
    Ok(())
}

fn author(value: &str) -> Result<Author, Violation> {
    let value = value.strip_prefix('@').unwrap_or(value);
    if value.eq_ignore_ascii_case("me") {
        return Ok(Author::Me);
    }
    if let Ok(id) = value.parse() {
        return Ok(Author::Id(id));
    }
    rules::username(value)
        .map(Author::Name)
        .map_err(|_| Violation::invalid("from: takes a username, the id of a user, or me"))
}

fn moment(key: &str, value: &str) -> Result<Timestamp, Violation> {
    let as_date = || format!("{value}T00:00:00Z").parse().ok().filter(|_| value.len() == 10);
    value.to_ascii_uppercase().parse().ok().or_else(as_date).ok_or_else(|| {
        Violation::invalid(format!(
            "{key} takes a day or a moment in UTC, as in {key}2026-11-24 or {key}2026-11-24T23:37:46Z"
        ))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Query {
        Query::parse(text).unwrap()
    }

    fn terms(text: &str) -> Vec<String> {
        parse(text).terms.iter().map(|term| term.words().join(" ")).collect()
    }

    #[test]
    fn words_and_phrases() {
        assert_eq!(terms("  Tea   COFFEE "), ["tea", "coffee"]);
        assert_eq!(terms(r#"more "Tea for two"please"#), ["more", "tea for two", "please"]);
        assert_eq!(terms("“Tea for” „two“ 上海"), ["tea for", "two", "上海"]);
        assert_eq!(terms("don't http://example.com ok"), ["don t", "http example com", "ok"]);
        assert_eq!(terms(r#""from:ana" 🎉 -- tea"#), ["from ana", "tea"]);
    }

    #[test]
    fn filters_narrow_it() {
        let id = "0198f3a2-7c4e-7b1a-9d3e-5f6a7b8c9d0e";
        let query = parse(&format!("tea from:@Ana in:{id} before:2026-11-24 After:2025-01-02T03:04:05.006Z"));
        assert_eq!(query.from, Some(Author::Name("ana".into())));
        assert_eq!(query.convo, id.parse().ok());
        assert_eq!(query.before, "2026-11-24T00:00:00Z".parse().ok());
        assert_eq!(query.after, "2025-01-02T03:04:05.006Z".parse().ok());
        assert_eq!(query.terms.len(), 1);
        assert_eq!(parse(&format!("from:{id}")).from, id.parse().ok().map(Author::Id));
        assert_eq!(parse("from:me").from, Some(Author::Me));
    }

    #[test]
    fn what_cannot_be_meant_says_what_to_do() {
        for (text, advice) in [
            ("", "at least one word"),
            (" 🎉 !!! ", "at least one word"),
            (r#""""#, "at least one word"),
            ("before:2026-11-24", "at least one word"),
            (r#"tea "for two"#, "quotation mark at its end"),
            ("from:a", "username"),
            ("from:", "username"),
            ("tea in:here", "id of a conversation"),
            ("tea before:yesterday", "before:2026-11-24"),
            ("tea after:2026-02-30", "after:2026-11-24"),
            ("tea after:2026-11-24T10:00:00+02:00", "UTC"),
            ("from:ana from:bob", "twice"),
            (&"x".repeat(QUERY_BYTES_MAX + 1), "fewer"),
            (&"x ".repeat(QUERY_WORDS_MAX + 1), "fewer"),
        ] {
            let violation = Query::parse(text).unwrap_err();
            assert_eq!(violation.code, tertulia_protocol::Code::Invalid);
            assert!(violation.detail.contains(advice), "{text}: {}", violation.detail);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_query_or_is_refused(
            text in prop_oneof!["\\PC{0,80}", "((from|in|before|after|x)[: \"“]?[a-z上0-9:TZ.\"-]{0,12} ?){0,6}"],
        ) {
            if let Ok(query) = Query::parse(&text) {
                let words: usize = query.terms.iter().map(|term| term.words().len()).sum();
                prop_assert!(words <= QUERY_WORDS_MAX);
                prop_assert!(words > 0 || query.from.is_some());
            }
        }
    }
}
