//! What catching up has cost.

use std::fmt::{self, Display, Formatter};

use indicatif::HumanCount;
use serde::Serialize;

use crate::report::Percentiles;

/// All cases, beside each other.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CatchupFigures {
    /// How often each was measured.
    pub rounds: usize,
    /// The cases.
    pub cases: Vec<CatchupCase>,
}

/// So much missed, in so many conversations, after such a history.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CatchupCase {
    /// Entries that were missed.
    pub missed: u64,
    /// In how many conversations they are.
    pub conversations: usize,
    /// Entries that were there before, all conversations together; of short ones, next to none.
    pub history: u64,
    /// From the `resume` until everything had come or was named by a gap.
    pub took: Option<Percentiles>,
    /// Bytes that were read, on average.
    pub bytes: f64,
    /// Entries that were pushed, on average.
    pub pushed: f64,
    /// Entries that gaps named, on average.
    pub named_by_gaps: f64,
    #[serde(skip)]
    times: Vec<f64>,
}

impl CatchupCase {
    pub(super) fn new(missed: u64, conversations: usize, is_long: bool, history: u64) -> Self {
        Self {
            missed,
            conversations,
            history: if is_long { history } else { 0 },
            took: None,
            bytes: 0.0,
            pushed: 0.0,
            named_by_gaps: 0.0,
            times: Vec::new(),
        }
    }

    /// Once more.
    pub(super) fn add(&mut self, millis: f64, bytes: u64, pushed: u64, named: u64) {
        self.times.push(millis);
        let weight = 1.0 / self.times.len() as f64;
        for (mean, value) in
            [(&mut self.bytes, bytes), (&mut self.pushed, pushed), (&mut self.named_by_gaps, named)]
        {
            *mean += (value as f64 - *mean) * weight;
        }
    }

    /// All rounds are over.
    pub(super) fn finish(&mut self) {
        self.took = Percentiles::of_millis(std::mem::take(&mut self.times));
    }
}

impl Display for CatchupFigures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "  missed  in convos  after history  pushed  by gaps   bytes      p50 ms   max ms")?;
        for case in &self.cases {
            let CatchupCase { missed, conversations, history, bytes, pushed, named_by_gaps, .. } = case;
            let [p50, max] = case.took.map_or([0.0; 2], |took| [took.p50_millis, took.max_millis]);
            writeln!(
                f,
                "  {missed:>6}  {conversations:>9}  {:>13}  {pushed:>6.0}  {named_by_gaps:>7.0}  {:>7.1} kB  {p50:>7.2}  {max:>7.2}",
                HumanCount(*history).to_string(),
                bytes / 1e3
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_the_mean_of_its_bytes_and_the_percentiles_of_its_times() {
        let mut case = CatchupCase::new(10, 1, false, 1_000);
        for (millis, bytes) in [(3.0, 100), (1.0, 200), (2.0, 300)] {
            case.add(millis, bytes, 10, 0);
        }
        case.finish();
        let took = case.took.unwrap();
        assert_eq!((took.p50_millis, took.max_millis), (2.0, 3.0));
        assert_eq!((case.bytes, case.pushed, case.history), (200.0, 10.0, 0));
    }
}
