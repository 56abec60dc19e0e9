//! The limits as an operator writes them.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;
use tertulia_domain::limits::Quota;

/// The `[limits]` of the configuration file; what is absent has its default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Messages of a device: 20 a second, 60 at once.
    pub sends: Rate,
    /// REST calls of a device that only read: 50 a second, 200 at once.
    pub reads: Rate,
    /// REST calls of a device that change something: 50 a second, 200 at once.
    pub writes: Rate,
    /// Events of a connection other than sends: 50 a second, 200 at once.
    pub events: Rate,
    /// Bytes that a device sends: 1 MiB a second, 8 MiB at once.
    pub bytes: Rate,
    /// Bytes of answers to a device, which may be in debt for one: 4 MiB a second, 64 MiB at once.
    pub answers: Rate,
    /// Logins of a user from an address: 10 a minute; and ten times that from all addresses together.
    pub logins_per_user: Rate,
    /// Logins from an address: 60 a minute.
    pub logins_per_address: Rate,
    /// Registrations from an address: 20 an hour.
    pub registrations: Rate,
    /// New connections from an address: 60 a minute.
    pub connections: Rate,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            sends: Rate::of(20, Period::Second, 60),
            reads: Rate::of(50, Period::Second, 200),
            writes: Rate::of(50, Period::Second, 200),
            events: Rate::of(50, Period::Second, 200),
            bytes: Rate::of(1 << 20, Period::Second, 8 << 20),
            answers: Rate::of(4 << 20, Period::Second, 64 << 20),
            logins_per_user: Rate::of(10, Period::Minute, 10),
            logins_per_address: Rate::of(60, Period::Minute, 60),
            registrations: Rate::of(20, Period::Hour, 20),
            connections: Rate::of(60, Period::Minute, 60),
        }
    }
}

/// So many in each period, and so many at once: `{ count = 20, per = "second", burst = 60 }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many in each period, in the long run.
    pub count: NonZeroU32,
    /// Which period.
    pub per: Period,
    /// How many at once; as many as `count` when absent.
    #[serde(default)]
    pub burst: Option<NonZeroU32>,
}

impl Rate {
    /// For defaults: a zero counts as one.
    const fn of(count: u32, per: Period, burst: u32) -> Self {
        const fn at_least_one(number: u32) -> NonZeroU32 {
            match NonZeroU32::new(number) {
                Some(number) => number,
                None => NonZeroU32::MIN,
            }
        }
        Self { count: at_least_one(count), per, burst: Some(at_least_one(burst)) }
    }

    /// Ten times as many.
    #[must_use]
    pub fn tenfold(self) -> Self {
        let tenfold = |number: NonZeroU32| number.saturating_mul(const { NonZeroU32::new(10).unwrap() });
        Self { count: tenfold(self.count), per: self.per, burst: self.burst.map(tenfold) }
    }

    /// The rate as the algorithm wants it.
    pub fn quota(self) -> Quota {
        Quota::new(self.count, self.per.duration(), self.burst.unwrap_or(self.count))
    }
}

/// A period of a [`Rate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// One second.
    Second,
    /// One minute.
    Minute,
    /// One hour.
    Hour,
}

impl Period {
    const fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_has_its_default() {
        let text = r#"{"sends": {"count": 5, "per": "minute"}}"#;
        let config: LimitsConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.sends.quota(), Rate::of(5, Period::Minute, 5).quota());
        assert_eq!(LimitsConfig { sends: LimitsConfig::default().sends, ..config }, LimitsConfig::default());
    }

    #[test]
    fn what_is_misspelt_or_zero_is_refused() {
        for text in [
            r#"{"send": {"count": 5, "per": "minute"}}"#,
            r#"{"sends": {"count": 5, "per": "minute", "bursts": 9}}"#,
            r#"{"sends": {"count": 0, "per": "minute"}}"#,
            r#"{"sends": {"count": 5, "per": "fortnight"}}"#,
            r#"{"sends": {"count": 5}}"#,
        ] {
            assert!(serde_json::from_str::<LimitsConfig>(text).is_err(), "{text}");
        }
    }
}
