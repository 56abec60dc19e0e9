//! Chance, for waits.

/// A number drawn evenly from 0 to 1 from the system's generator; 0.5 should that ever fail.
pub(crate) fn roll() -> f64 {
    getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}
