//! Where figures come from: without it they mean nothing.

use std::fs;
use std::path::PathBuf;
use std::thread::available_parallelism;

use serde::Serialize;

use crate::process::Process;

/// The machine, and both programs.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Conditions {
    /// What the processor calls itself.
    pub machine: Option<String>,
    /// How many cores this process may use.
    pub cores: usize,
    /// All of the machine's memory.
    pub memory_bytes: Option<u64>,
    /// The system and its release.
    pub kernel: Option<String>,
    /// How many threads wanted to run, on average over the minute before, without ours: on a busy machine figures
    /// are those of the neighbours, too.
    pub load_before: Option<f64>,
    /// The version of the generator.
    pub version: &'static str,
    /// Whether it was built to be fast.
    pub build: &'static str,
    /// What it was built of; of release builds in a repository.
    pub commit: Option<&'static str>,
    /// Threads of the generator.
    pub threads: usize,
    /// The server.
    pub server: ServerConditions,
    /// The history that the generator has written; it costs time, and rates are lower by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<PathBuf>,
}

/// What is known of the server.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerConditions {
    /// Its address.
    pub url: String,
    /// The version that it says it is.
    pub version: Option<String>,
    /// Its process, if it is one of this machine.
    pub pid: Option<u32>,
    /// What it was started with.
    pub command: Option<String>,
}

impl Conditions {
    pub(crate) fn new(threads: usize, url: &str, metrics: &str, server: Option<Process>) -> Self {
        let of_info = |text: Option<String>, name: &str| {
            let line = text?.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned))?;
            Some(line.trim_start_matches([' ', '\t', ':']).trim().to_owned())
        };
        let read = |path: &str| fs::read_to_string(path).ok();
        let kib =
            of_info(read("/proc/meminfo"), "MemTotal").and_then(|line| line.split(' ').next()?.parse().ok());
        Self {
            machine: of_info(read("/proc/cpuinfo"), "model name"),
            cores: available_parallelism().map_or(1, usize::from),
            memory_bytes: kib.map(|kib: u64| kib * 1024),
            kernel: read("/proc/sys/kernel/osrelease").map(|release| format!("Linux {}", release.trim())),
            load_before: read("/proc/loadavg").and_then(|load| load.split(' ').next()?.parse().ok()),
            version: env!("CARGO_PKG_VERSION"),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            commit: option_env!("TERTULIA_COMMIT"),
            threads,
            server: ServerConditions {
                url: url.to_owned(),
                version: version(metrics).map(str::to_owned),
                pid: server.map(|server| server.pid),
                command: server.and_then(Process::command),
            },
            history: None,
        }
    }
}

/// The version in `…build_info{version="0.1.0"} 1`.
fn version(metrics: &str) -> Option<&str> {
    let line = metrics.lines().find(|line| !line.starts_with('#') && line.contains("build_info{"))?;
    line.split_once("version=\"")?.1.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn the_version_is_that_of_build_info() {
        let metrics = "# HELP tertulia_build_info x.\ntertulia_build_info{version=\"1.2.3\"} 1\n# EOF\n";
        assert_eq!(version(metrics), Some("1.2.3"));
        assert_eq!(version(""), None);
    }
}
