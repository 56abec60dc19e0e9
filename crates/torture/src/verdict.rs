//! What the history of a run says about the guarantees.

use std::path::Path;

use crate::error::Error;
use crate::report::Verdict;

/// Checks a history.
pub(crate) fn of(history: &Path) -> Result<Verdict, Error> {
    let text = format!("checker      not there yet: {}", history.display());
    Ok(Verdict { holds: true, text })
}
