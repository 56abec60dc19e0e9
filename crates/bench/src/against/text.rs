//! The comparison for people.

use std::fmt::{self, Display, Formatter};

use indicatif::HumanFloatCount;

use super::{COMPARED, Comparison};

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (number, round) in self.rounds.iter().enumerate() {
            writeln!(f, "round {} of {}, the server: {}\n", number + 1, self.rounds.len(), round.server)?;
            writeln!(
                f,
                "round {} of {}, {}: {}\n",
                number + 1,
                self.rounds.len(),
                self.against,
                round.other
            )?;
        }
        writeln!(f, "{} against {}", self.scenario, self.against)?;
        writeln!(f, "  {:30}{:>14}{:>14}{:>9}", "", "server", self.against, "ratio")?;
        for (name, words, _) in COMPARED {
            if let Some(figure) = self.figures.get(name) {
                let [server, other] = [figure.server, figure.other].map(rounded);
                writeln!(f, "  {words:30}{server:>14}{other:>14}{:>9.2}", figure.ratio)?;
            }
        }
        let verdict = match (self.valid, self.rested) {
            (true, _) => "valid",
            (false, true) => "not valid: see the problems above",
            (false, false) => "not valid: the server was still at work while the other was measured",
        };
        write!(f, "  {:30}{verdict}", "run")
    }
}

/// With three digits that matter, or all before the point.
fn rounded(value: f64) -> String {
    if value >= 100.0 { HumanFloatCount(value.round()).to_string() } else { format!("{value:.2}") }
}
