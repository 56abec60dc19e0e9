//! The servers that stand beside a cluster's nodes, for tests and development.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use tertulia_services::shared;

/// Starts those that do not run yet, and says where they are.
pub(crate) fn start(root: &Path) -> Result<ExitCode> {
    for (kind, url) in shared::start(root)? {
        println!("{kind:<9} {url}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Stops them; what they have stored stays.
pub(crate) fn stop(root: &Path) -> Result<ExitCode> {
    for kind in shared::stop(root)? {
        println!("{kind} stopped");
    }
    Ok(ExitCode::SUCCESS)
}

/// Stops them and removes what they have stored.
pub(crate) fn reset(root: &Path) -> Result<ExitCode> {
    shared::reset(root)?;
    Ok(ExitCode::SUCCESS)
}
