//! Moments, written as RFC 3339 in UTC with milliseconds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment in milliseconds since 1970-01-01T00:00:00Z, from year 0 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// A text that is not an RFC 3339 moment in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a time: expected UTC as in 2026-11-24T23:37:46.123Z")]
pub struct InvalidTimestamp;

const MILLIS_PER_DAY: i64 = 86_400_000;
/// 0000-01-01 and 9999-12-31T23:59:59.999Z: beyond them RFC 3339 has no form.
const RANGE: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

impl Timestamp {
    /// A moment from milliseconds since the epoch; what RFC 3339 cannot write is brought into its range.
    pub const fn from_millis(millis: i64) -> Self {
        if millis < *RANGE.start() {
            Self(*RANGE.start())
        } else if millis > *RANGE.end() {
            Self(*RANGE.end())
        } else {
            Self(millis)
        }
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This moment moved forward.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// How long after `earlier` this moment is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }

    /// The 24 ASCII characters of `YYYY-MM-DDThh:mm:ss.mmmZ`.
    pub fn to_rfc3339(self) -> [u8; 24] {
        let (days, millis) = (self.0.div_euclid(MILLIS_PER_DAY), self.0.rem_euclid(MILLIS_PER_DAY));
        let (year, month, day) = civil_from_days(days);
        // All of these are in range; small numbers are divided faster, and this is done twice a message.
        let [year, month, day, millis] =
            [year, month, day, millis].map(|part| u32::try_from(part).unwrap_or_default());
        let (seconds, millis) = (millis / 1_000, millis % 1_000);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let pairs = [
            (0, year / 100),
            (2, year % 100),
            (5, month),
            (8, day),
            (11, seconds / 3_600),
            (14, seconds / 60 % 60),
            (17, seconds % 60),
            (20, millis / 10),
        ];
        for (at, pair) in pairs {
            (text[at], text[at + 1]) = (digit(pair / 10), digit(pair));
        }
        text[22] = digit(millis);
        text
    }
}

/// The last digit of a number.
const fn digit(number: u32) -> u8 {
    b'0' + (number % 10) as u8
}

/// Days since the epoch to (year, month, day); Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil_from_days`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.to_rfc3339()).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    /// Reads `YYYY-MM-DDThh:mm:ss[.fraction](Z|+00:00)`; digits after the milliseconds are dropped.
    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let (head, tail) = text.as_bytes().split_at_checked(19).ok_or(InvalidTimestamp)?;
        let number = |at: usize, width: usize| -> Result<i64, InvalidTimestamp> {
            head[at..at + width].iter().try_fold(0, |sum, digit| match digit {
                b'0'..=b'9' => Ok(sum * 10 + i64::from(digit - b'0')),
                _ => Err(InvalidTimestamp),
            })
        };
        let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
        if separators.iter().any(|&(at, byte)| head[at] != byte) {
            return Err(InvalidTimestamp);
        }
        let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
        let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
        let days = days_from_civil(year, month, day);
        if !(1..=12).contains(&month) || civil_from_days(days) != (year, month, day) {
            return Err(InvalidTimestamp);
        }
        if hour > 23 || minute > 59 || second > 59 {
            return Err(InvalidTimestamp);
        }
        let (fraction, zone) = match tail {
            [b'.', rest @ ..] => {
                let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                if digits == 0 {
                    return Err(InvalidTimestamp);
                }
                rest.split_at(digits)
            }
            _ => (&[][..], tail),
        };
        if zone != b"Z" && zone != b"+00:00" {
            return Err(InvalidTimestamp);
        }
        let millis =
            (0..3).fold(0, |sum, at| sum * 10 + fraction.get(at).map_or(0, |digit| i64::from(digit - b'0')));
        Ok(Self(days * MILLIS_PER_DAY + hour * 3_600_000 + minute * 60_000 + second * 1_000 + millis))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.to_rfc3339();
        serializer.serialize_str(std::str::from_utf8(&text).map_err(serde::ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time", "description": "RFC 3339, UTC, milliseconds" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(millis: i64, text: &str) {
        assert_eq!(Timestamp::from_millis(millis).to_string(), text);
        assert_eq!(text.parse(), Ok(Timestamp::from_millis(millis)));
    }

    #[test]
    fn known_moments_are_written_as_rfc_3339() {
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(1_795_563_466_123, "2026-11-24T23:37:46.123Z");
        check(-1, "1969-12-31T23:59:59.999Z");
        check(253_402_300_799_999, "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "2026-11-24",
            "2026-02-29T00:00:00Z",
            "2026-11-24T24:00:00Z",
            "2026-11-24T23:37:46",
            "2026-11-24T23:37:46.Z",
            "2026-13-01T00:00:00Z",
            "2026-11-24T23:37:46+01:00",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(InvalidTimestamp), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_moment_is_read_back_as_written(millis in RANGE) {
            let moment = Timestamp::from_millis(millis);
            prop_assert_eq!(moment.to_string().parse(), Ok(moment));
        }
    }
}
