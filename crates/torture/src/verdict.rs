//! What the history of a run says about the guarantees.

use std::path::Path;
use std::time::Duration;

use tertulia_history::check::{self, Options};

use crate::error::Error;
use crate::report::Verdict;

/// A crowd in which everybody is always kept from sending says nothing: acked messages for each second of the load.
const ACKED_A_SECOND_MIN: u64 = 2;

/// Checks a history.
pub(crate) fn of(history: &Path, load: Duration) -> Result<Verdict, Error> {
    let options = Options { min_operations: load.as_secs().max(10) * ACKED_A_SECOND_MIN };
    let report = check::check(&[history.to_owned()], options)?;
    Ok(Verdict { holds: report.verdict == check::Verdict::Holds, text: report.to_string() })
}
