//! What reading has cost.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use indicatif::HumanFloatCount;
use serde::Serialize;

use crate::histogram::{Histogram, Latency};

/// All kinds of pages.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryFigures {
    /// Entries of the conversation.
    pub entries: u64,
    /// Each kind.
    pub pages: Vec<PageFigures>,
}

/// One kind of page.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PageFigures {
    /// Which.
    pub page: &'static str,
    /// Pages, a second.
    pub per_second: f64,
    /// From the request to the last byte.
    pub latency: Option<Latency>,
    /// Bytes of an answer, on average.
    pub bytes: f64,
    /// CPU of the server for one, in microseconds.
    pub server_micros: Option<f64>,
    /// CPU of the generator for one, in microseconds.
    pub generator_micros: Option<f64>,
    /// Answers that were not 200.
    pub refused: u64,
}

impl PageFigures {
    pub(super) fn new(
        page: &'static str,
        latency: &Histogram,
        refused: u64,
        bytes: u64,
        seconds: Duration,
        cpu: [Option<Duration>; 2],
    ) -> Self {
        let latency = latency.summary();
        let count = latency.map_or(0, |latency| latency.count).max(1) as f64;
        let [server_micros, generator_micros] = cpu.map(|cpu| Some(cpu?.as_secs_f64() * 1e6 / count));
        Self {
            page,
            per_second: latency.map_or(0, |latency| latency.count) as f64 / seconds.as_secs_f64(),
            latency,
            bytes: bytes as f64 / count,
            server_micros,
            generator_micros,
            refused,
        }
    }
}

impl Display for HistoryFigures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "  history        {} entries", indicatif::HumanCount(self.entries))?;
        self.pages.iter().try_for_each(|page| write!(f, "{page}"))
    }
}

impl Display for PageFigures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let per_second = HumanFloatCount(self.per_second.round());
        write!(f, "  {:<18} {per_second}/s of {:.1} kB", self.page, self.bytes / 1e3)?;
        if let Some(latency) = &self.latency {
            write!(f, ": {latency}")?;
        }
        for (name, micros) in [("server", self.server_micros), ("generator", self.generator_micros)] {
            if let Some(micros) = micros {
                write!(f, "; {name} {micros:.0} µs")?;
            }
        }
        writeln!(f)
    }
}
