//! A record: a stretch of a log by its conversation, or the word that something was passed over.
//!
//! As JSON, and the key as the id is written everywhere: others can follow the topic, too. It is a handful of bytes, and
//! records of a batch are compressed together.

use serde::{Deserialize, Serialize};
use tertulia_protocol::{ConvoId, Seq};
use tertulia_store::Touched;

/// More entries come with no commit; who says so means something else.
const ENTRIES_MAX: u64 = 1 << 24;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    /// New entries.
    Came(Touched),
    /// What came before it may not have been published.
    Missed,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Value {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first: Option<Seq>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<Seq>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    missed: bool,
}

impl Record {
    /// Its key.
    pub(super) fn key(self) -> Option<String> {
        match self {
            Self::Came(touched) => Some(touched.convo.to_string()),
            Self::Missed => None,
        }
    }

    /// Its value.
    pub(super) fn value(self) -> String {
        let value = match self {
            Self::Came(Touched { first, last, .. }) => {
                Value { first: Some(first), last: Some(last), missed: false }
            }
            Self::Missed => Value { missed: true, ..Value::default() },
        };
        // Numbers: there is nothing in it that JSON cannot say.
        serde_json::to_string(&value).unwrap_or_default()
    }

    /// What key and value say; `None`: nothing that we say.
    pub(super) fn parse(key: Option<&[u8]>, value: Option<&[u8]>) -> Option<Self> {
        match serde_json::from_slice(value?).ok()? {
            Value { missed: true, .. } => Some(Self::Missed),
            Value { first: Some(first), last: Some(last), .. } => {
                let convo: ConvoId = str::from_utf8(key?).ok()?.parse().ok()?;
                let count = last.get().checked_sub(first.get())?;
                let is_stretch = first.get() > 0 && count < ENTRIES_MAX;
                is_stretch.then_some(Self::Came(Touched { convo, first, last }))
            }
            Value { .. } => None,
        }
    }
}

/// What the decoder owes for any bytes: what it reads is what it would have written.
#[cfg(any(test, feature = "fuzzing"))]
pub fn any_record(key: &[u8], value: &[u8]) {
    if let Some(record) = Record::parse(Some(key), Some(value)) {
        let again =
            Record::parse(record.key().as_deref().map(str::as_bytes), Some(record.value().as_bytes()));
        assert_eq!(again, Some(record));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONVO: ConvoId = ConvoId::from_bytes([7; 16]);

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let touched = Touched { convo: CONVO, first: Seq::new(12), last: Seq::new(15) };
        let record = Record::Came(touched);
        assert_eq!(record.key().as_deref(), Some("07070707-0707-0707-0707-070707070707"));
        assert_eq!(record.value(), r#"{"first":12,"last":15}"#);
        assert_eq!(Record::Missed.value(), r#"{"missed":true}"#);
        for record in [record, Record::Missed] {
            let (key, value) = (record.key(), record.value());
            let read = Record::parse(key.as_deref().map(str::as_bytes), Some(value.as_bytes()));
            assert_eq!(read, Some(record));
        }
    }

    #[test]
    fn what_says_no_stretch_is_none() {
        let key = CONVO.to_string();
        let parse = |key: &str, value: &str| Record::parse(Some(key.as_bytes()), Some(value.as_bytes()));
        assert!(parse(&key, r#"{"first":1,"last":1,"more":2}"#).is_some());
        for value in ["", "{}", "[]", r#"{"first":2,"last":1}"#, r#"{"first":0,"last":1}"#, r#"{"first":1}"#]
        {
            assert_eq!(parse(&key, value), None, "{value}");
        }
        assert_eq!(parse(&key, r#"{"first":1,"last":9007199254740991}"#), None);
        assert_eq!(parse("nobody", r#"{"first":1,"last":1}"#), None);
        assert_eq!(Record::parse(None, Some(br#"{"first":1,"last":1}"#)), None);
        assert_eq!(Record::parse(Some(key.as_bytes()), None), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_are_not(key: Vec<u8>, value: Vec<u8>, numbers: (u64, u64)) {
            any_record(&key, &value);
            let value = format!(r#"{{"first":{},"last":{}}}"#, numbers.0, numbers.1);
            any_record(CONVO.to_string().as_bytes(), value.as_bytes());
        }
    }
}
