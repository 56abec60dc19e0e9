//! The cursor of a long-poll, as clients hold it.
//!
//! `POSITION`, or while a long list is given in pieces `POSITION~POSITION~CONVERSATION~SEQ`. What a position is the
//! store knows.

use tertulia_domain::log::Position;
use tertulia_protocol::{ConvoId, Seq};

/// How far a long-poll is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Everything below it has been given.
    pub(crate) since: Position,
    /// In the middle of a list: what was committed from here on belongs to the next one.
    pub(crate) until: Option<Part>,
}

/// A list of events that is given in pieces, ordered by conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) until: Position,
    pub(crate) convo: ConvoId,
    /// The next entry of it to give; 0: nothing of it has been given.
    pub(crate) next: Seq,
}

impl Cursor {
    /// The positions in what may be a cursor.
    pub(crate) fn positions(text: &str) -> impl Iterator<Item = &str> {
        text.split('~').take(2)
    }

    /// Reads a cursor; `position` reads the positions in it.
    pub(crate) fn parse(text: &str, position: impl Fn(&str) -> Option<Position>) -> Option<Self> {
        let mut fields = text.split('~');
        let since = position(fields.next()?)?;
        let until = match (fields.next(), fields.next(), fields.next()) {
            (None, None, None) => None,
            (Some(until), Some(convo), Some(next)) => Some(Part {
                until: position(until)?,
                convo: convo.parse().ok()?,
                next: Seq::new(next.parse().ok()?),
            }),
            _ => return None,
        };
        fields.next().is_none().then_some(Self { since, until })
    }

    /// Writes it; `position` writes the positions in it.
    pub(crate) fn write(self, position: impl Fn(Position) -> String) -> String {
        let since = position(self.since);
        match self.until {
            None => since,
            Some(Part { until, convo, next }) => format!("{since}~{}~{convo}~{next}", position(until)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tertulia_domain::log::Commit;

    use super::*;

    const fn at(number: u64) -> Position {
        Position::before(Commit::new(number))
    }

    fn parse(text: &str) -> Option<Cursor> {
        Cursor::parse(text, |text| text.parse().ok().map(at))
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let part = Part { until: at(9), convo: ConvoId::from_bytes([7; 16]), next: Seq::new(3) };
        for until in [None, Some(part), Some(Part { next: Seq::default(), ..part })] {
            let cursor = Cursor { since: at(5), until };
            assert_eq!(parse(&cursor.write(|position| position.of_part(0).get().to_string())), Some(cursor));
        }
    }

    #[test]
    fn what_is_incomplete_or_goes_on_is_no_cursor() {
        let whole = "5~9~07070707-0707-0707-0707-070707070707~3";
        assert!(parse(whole).is_some());
        for garbage in
            ["", "~", "5~", "5~9", "5~9~07070707-0707-0707-0707-070707070707", "x~9", &format!("{whole}~")]
        {
            assert_eq!(parse(garbage), None, "{garbage:?}");
        }
    }
}
