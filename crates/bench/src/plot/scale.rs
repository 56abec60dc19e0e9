//! From values to places, and which values stand at an axis.

/// How values are spread along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Evenly, from zero.
    Linear,
    /// Evenly, from the least.
    Span,
    /// Each power of ten is as long as another.
    Log,
    /// Percentiles: 90, 99 and 99.9 are as far from each other.
    Nines,
}

/// An axis: its values and its ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    kind: Kind,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

/// The percentiles that stand at an axis of them.
const NINES: [f64; 6] = [0.0, 90.0, 99.0, 99.9, 99.99, 100.0];
/// Where the greatest of all is drawn, as nines have no end.
const MAX_PLACE: f64 = 5.0;

impl Scale {
    /// An axis from `from` to `to` that has room for all of these values.
    pub(super) fn new(kind: Kind, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let fits = |value: &f64| value.is_finite() && (kind != Kind::Log || *value > 0.0);
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(fits) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (1.0, 1.0);
        }
        match kind {
            Kind::Nines => (low, high) = (0.0, 100.0),
            Kind::Log => {
                low = 10_f64.powf(low.log10().floor());
                high = 10_f64.powf(high.log10().ceil());
                if low >= high {
                    high = low * 10.0;
                }
            }
            Kind::Linear | Kind::Span => {
                if kind == Kind::Linear {
                    (low, high) = (low.min(0.0), high.max(0.0));
                }
                if low >= high {
                    high = low + 1.0;
                }
                if kind == Kind::Linear {
                    let step = step(high - low);
                    (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
                }
            }
        }
        Self { kind, low, high, from, to }
    }

    /// Where a value is.
    pub(super) fn place(&self, value: f64) -> f64 {
        let share = match self.kind {
            Kind::Linear | Kind::Span => (value - self.low) / (self.high - self.low),
            Kind::Log => {
                (value.max(self.low).log10() - self.low.log10()) / (self.high.log10() - self.low.log10())
            }
            Kind::Nines => nines(value) / MAX_PLACE,
        };
        self.from + (self.to - self.from) * share.clamp(0.0, 1.0)
    }

    /// What stands at the axis, and where.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let values: Vec<f64> = match self.kind {
            Kind::Linear | Kind::Span => {
                let step = step(self.high - self.low);
                let (first, last) = ((self.low / step).ceil() as i64, (self.high / step).floor() as i64);
                (first..=last).map(|tick| tick as f64 * step).collect()
            }
            Kind::Log => {
                let (first, last) = (self.low.log10().round() as i32, self.high.log10().round() as i32);
                (first..=last).map(|power| 10_f64.powi(power)).collect()
            }
            Kind::Nines => {
                let name = |percent: f64| {
                    if percent == 100.0 { "max".to_owned() } else { format!("{percent}") }
                };
                let middle = std::iter::once(50.0);
                return NINES[..1]
                    .iter()
                    .copied()
                    .chain(middle)
                    .chain(NINES[1..].iter().copied())
                    .map(|percent| (self.place(percent), name(percent)))
                    .collect();
            }
        };
        values.into_iter().map(|value| (self.place(value), short(value))).collect()
    }
}

fn nines(percent: f64) -> f64 {
    let rest = 1.0 - percent / 100.0;
    if rest <= 0.0 { MAX_PLACE } else { (-rest.log10()).min(MAX_PLACE) }
}

/// A step of 1, 2 or 5 times a power of ten, of which four to eight make the whole.
fn step(whole: f64) -> f64 {
    let rough = whole / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    power * steps.into_iter().find(|step| step * power >= rough * 0.999).unwrap_or(10.0)
}

/// A number in few characters: 1,200,000 is 1.2 M.
pub(super) fn short(value: f64) -> String {
    let size = value.abs();
    let (value, unit) = match size {
        1e9.. => (value / 1e9, " G"),
        1e6.. => (value / 1e6, " M"),
        1e4.. => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let digits = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        0.1.. => 3,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    let text = if text == "-0" { "0" } else { text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(scale: &Scale) -> Vec<String> {
        scale.ticks().into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn a_linear_axis_has_zero_and_round_steps() {
        let scale = Scale::new(Kind::Linear, [3.0, 930.0].into_iter(), 0.0, 100.0);
        assert_eq!(names(&scale), ["0", "200", "400", "600", "800", "1000"]);
        assert_eq!((scale.place(0.0), scale.place(500.0), scale.place(1_000.0)), (0.0, 50.0, 100.0));
    }

    #[test]
    fn a_log_axis_has_powers_of_ten_and_takes_no_zero() {
        let scale = Scale::new(Kind::Log, [0.0, 0.4, 30.0].into_iter(), 0.0, 90.0);
        assert_eq!(names(&scale), ["0.1", "1", "10", "100"]);
        assert!((scale.place(1.0) - 30.0).abs() < 1e-9);
        assert_eq!(scale.place(0.0), 0.0, "it is drawn at the end");
    }

    #[test]
    fn each_nine_is_as_long_as_another() {
        let scale = Scale::new(Kind::Nines, std::iter::empty(), 0.0, 500.0);
        assert!((scale.place(90.0) - 100.0).abs() < 1e-6 && (scale.place(99.9) - 300.0).abs() < 1e-6);
        assert_eq!(scale.place(100.0), 500.0);
        assert_eq!(names(&scale).last().map(String::as_str), Some("max"));
    }

    #[test]
    fn nothing_and_one_value_make_an_axis_too() {
        for kind in [Kind::Linear, Kind::Span, Kind::Log] {
            for values in [vec![], vec![0.0], vec![7.0], vec![f64::NAN]] {
                let scale = Scale::new(kind, values.into_iter(), 0.0, 10.0);
                assert!(scale.ticks().iter().all(|(place, _)| (0.0..=10.0).contains(place)));
                assert!(!scale.ticks().is_empty());
            }
        }
    }

    #[test]
    fn numbers_are_short() {
        let shorts = [0.0, 0.25, 7.0, 12.34, 1_500.0, 12_000.0, 1_250_000.0].map(short);
        assert_eq!(shorts, ["0", "0.25", "7", "12.3", "1500", "12 k", "1.25 M"]);
    }
}
