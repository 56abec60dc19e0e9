//! Loads: how long messages took, and how rates, CPU and memory went over time.

use super::panel::{Axis, Body, Line, Panel};
use super::scale::Kind;
use super::{Run, fields, points};

const MIB: f64 = 1024.0 * 1024.0;

/// `pairs`, `group`, `rooms`, and whatever has a load.
pub(super) fn load(runs: &[Run]) -> Vec<Panel> {
    let is_one = runs.len() == 1;
    let mut panels = vec![latencies(runs)];
    let named = |run: &Run| if is_one { String::new() } else { run.name.clone() };
    for (title, y, kind) in [
        ("Deliveries", "a second", Over::Rate),
        ("CPU of the server", "cores", Over::Cores),
        ("Memory of the server", "MiB (resident)", Over::Memory),
    ] {
        let lines = runs.iter().enumerate().map(|(colour, run)| Line {
            name: named(run),
            colour,
            is_dashed: false,
            has_dots: false,
            points: kind.points(run),
        });
        panels.push(over_time(title, y, lines.collect()));
    }
    panels.retain(|panel| !panel.is_empty());
    panels
}

/// A chart over seconds.
pub(super) fn over_time(title: &str, y: &'static str, lines: Vec<Line>) -> Panel {
    let (x, y) = (Axis { name: "seconds", kind: Kind::Linear }, Axis { name: y, kind: Kind::Linear });
    Panel { title: title.to_owned(), body: Body::Lines { x, y, lines } }
}

enum Over {
    Rate,
    Cores,
    Memory,
}

impl Over {
    fn points(&self, run: &Run) -> Vec<(f64, f64)> {
        match self {
            Self::Rate => {
                let counts =
                    run.report.pointer("/load/deliveriesBySecond").and_then(|counts| counts.as_array());
                let counts = counts.into_iter().flatten().filter_map(|count| count.as_f64());
                counts.enumerate().map(|(second, count)| (second as f64 + 0.5, count)).collect()
            }
            Self::Cores => fields(&run.report, "/load/samples", "/seconds", "/serverCores"),
            Self::Memory => {
                let bytes = fields(&run.report, "/load/samples", "/seconds", "/serverBytes");
                bytes.into_iter().map(|(second, bytes)| (second, bytes / MIB)).collect()
            }
        }
    }
}

fn latencies(runs: &[Run]) -> Panel {
    let curves =
        [("send→ack", "/load/sendToAckCurve", false), ("send→receive", "/load/sendToReceiveCurve", true)];
    let lines = runs.iter().enumerate().flat_map(|(place, run)| {
        curves.iter().enumerate().map(move |(number, (name, path, is_dashed))| Line {
            name: if runs.len() == 1 { (*name).to_owned() } else { format!("{}, {name}", run.name) },
            colour: if runs.len() == 1 { number } else { place },
            is_dashed: *is_dashed,
            has_dots: false,
            points: points(&run.report, path)
                .into_iter()
                .map(|(share, micros)| (share, micros / 1e3))
                .collect(),
        })
    });
    let x = Axis { name: "percent of messages that took at most this long", kind: Kind::Nines };
    let y = Axis { name: "milliseconds", kind: Kind::Log };
    Panel { title: "Latency".to_owned(), body: Body::Lines { x, y, lines: lines.collect() } }
}
