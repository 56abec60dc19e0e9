//! What is worth seeing of scenarios that are no steady load.

use serde_json::Value;

use super::of_load::over_time;
use super::panel::{Axis, Body, Line, Panel};
use super::scale::{Kind, short};
use super::{Run, fields, number, points, text};

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * 1024.0;

/// Finds a curve in a report.
type Curve<'a> = dyn Fn(&Value, &str) -> Vec<(f64, f64)> + 'a;

/// Memory of a connection, and of the server from moment to moment.
pub(super) fn idle(runs: &[Run]) -> Vec<Panel> {
    let series = |get: &dyn Fn(&Run) -> Vec<Option<f64>>| {
        runs.iter().map(|run| (name(run, runs), get(run))).collect::<Vec<_>>()
    };
    let a_connection = series(&|run| {
        ["/idle/bytesPerConnection", "/idle/bytesPerConnectionAfterLoad"]
            .map(|path| number(&run.report, path).map(|bytes| bytes / KIB))
            .to_vec()
    });
    let moments = ["before", "idle", "after load", "after they left"];
    let memory = series(&|run| {
        let points = run.report.pointer("/memory").and_then(Value::as_array);
        let of = |moment: &str| {
            let point = points?.iter().find(|point| text(point, "/when") == Some(moment))?;
            Some(number(point, "/server/pssBytes")? / MIB)
        };
        moments.map(of).to_vec()
    });
    shown(vec![
        bars("Memory of a connection", "KiB (PSS)", &["idle", "after load"], a_connection),
        bars("Memory of the server", "MiB (PSS)", &moments, memory),
    ])
}

/// How many were back when, and what those noticed who had stayed.
pub(super) fn storm(runs: &[Run]) -> Vec<Panel> {
    let over = |paths: &[(&str, &str, bool)], get: &Curve<'_>| {
        let mut lines = Vec::new();
        for (place, run) in runs.iter().enumerate() {
            for (number, (what, path, is_dashed)) in paths.iter().enumerate() {
                lines.push(Line {
                    name: label(run, runs, what),
                    colour: if runs.len() == 1 { number } else { place },
                    is_dashed: *is_dashed && runs.len() > 1,
                    has_dots: false,
                    points: get(&run.report, path),
                });
            }
        }
        lines
    };
    let seconds = |report: &Value, path: &str| -> Vec<(f64, f64)> {
        points(report, path).into_iter().map(|(millis, value)| (millis / 1e3, value)).collect()
    };
    let samples = |field: &'static str, unit: f64| {
        move |report: &Value, path: &str| -> Vec<(f64, f64)> {
            let samples = fields(report, path, "/seconds", field);
            samples.into_iter().map(|(second, value)| (second, value / unit)).collect()
        }
    };
    let back = [("ready", "/storm/readyCurve", true), ("caught up", "/storm/caughtUpCurve", false)];
    let x = || Axis { name: "seconds since the others may come back", kind: Kind::Span };
    let stayers = over(&[("", "/storm/stayersMaxCurve", false)], &seconds);
    shown(vec![
        Panel {
            title: "Connections that are back".into(),
            body: Body::Lines {
                x: Axis { name: "seconds since they may come back", kind: Kind::Linear },
                y: Axis { name: "connections", kind: Kind::Linear },
                lines: over(&back, &seconds),
            },
        },
        Panel {
            title: "Those who stayed: slowest send→ack of each ¼ s".into(),
            body: Body::Lines { x: x(), y: Axis { name: "milliseconds", kind: Kind::Log }, lines: stayers },
        },
        over_time(
            "CPU of the server, from the cut on",
            "cores",
            over(&[("", "/storm/samples", false)], &samples("/serverCores", 1.0)),
        ),
        over_time(
            "Memory of the server, from the cut on",
            "MiB (resident)",
            over(&[("", "/storm/samples", false)], &samples("/serverBytes", MIB)),
        ),
    ])
}

/// Time and bytes by what was missed, one line for each kind of history.
pub(super) fn catchup(runs: &[Run]) -> Vec<Panel> {
    let lines = |y: &str, unit: f64| {
        let mut lines: Vec<Line> = Vec::new();
        for run in runs {
            let cases = run.report.pointer("/catchup/cases").and_then(Value::as_array);
            for case in cases.into_iter().flatten() {
                let number = |path: &str| number(case, path);
                let (Some(missed), Some(value)) = (number("/missed"), number(y)) else { continue };
                let (convos, history) = (number("/conversations"), number("/history").unwrap_or(0.0));
                let kind = format!(
                    "{} conversation{}, {}",
                    short(convos.unwrap_or(1.0)),
                    if convos == Some(1.0) { "" } else { "s" },
                    if history > 0.0 { format!("after {}", short(history)) } else { "no history".into() }
                );
                let name = label(run, runs, &kind);
                let point = (missed, value / unit);
                match lines.iter_mut().find(|line| line.name == name) {
                    Some(line) => line.points.push(point),
                    None => {
                        let colour = lines.len();
                        let is_dashed = history > 0.0;
                        lines.push(Line { name, colour, is_dashed, has_dots: true, points: vec![point] });
                    }
                }
            }
        }
        lines
    };
    let panel = |title: &str, y: &'static str, lines: Vec<Line>| Panel {
        title: title.into(),
        body: Body::Lines {
            x: Axis { name: "entries that were missed", kind: Kind::Log },
            y: Axis { name: y, kind: Kind::Log },
            lines,
        },
    };
    shown(vec![
        panel("From resume to caught up (median)", "milliseconds", lines("/took/p50Millis", 1.0)),
        panel("Bytes read", "kB", lines("/bytes", 1e3)),
    ])
}

/// Rates, latencies and CPU of each kind of page.
pub(super) fn history(runs: &[Run]) -> Vec<Panel> {
    rows_of(
        runs,
        "/history/pages",
        "/page",
        &[],
        &[
            ("Pages a second", "pages a second", &[("", "/perSecond", 1.0)]),
            (
                "Latency",
                "milliseconds",
                &[("p50", "/latency/p50Micros", 1e3), ("p99", "/latency/p99Micros", 1e3)],
            ),
            (
                "CPU of a page",
                "microseconds",
                &[("server", "/serverMicros", 1.0), ("generator", "/generatorMicros", 1.0)],
            ),
            ("Bytes of a page", "kB", &[("", "/bytes", 1e3)]),
        ],
    )
}

/// Messages beside typing, and what became of the typing.
pub(super) fn typing(runs: &[Run]) -> Vec<Panel> {
    let latency = |percentile: &'static str| {
        let mut series = Vec::new();
        for run in runs {
            for (what, paths) in [
                ("without typing", ["/typing/quietSendToAck", "/typing/quietSendToReceive"]),
                ("with typing", ["/typing/sendToAck", "/typing/sendToReceive"]),
            ] {
                let of = |path: &str| number(&run.report, &format!("{path}/{percentile}")).map(|us| us / 1e3);
                series.push((label(run, runs, what), paths.map(of).to_vec()));
            }
        }
        series
    };
    let events = runs.iter().map(|run| {
        let of = |path: &str| number(&run.report, path);
        (name(run, runs), ["/typing/sent", "/typing/possible", "/typing/heard"].map(of).to_vec())
    });
    let messages = runs.iter().map(|run| {
        let of = |path: &str| number(&run.report, path);
        (name(run, runs), ["/typing/messages", "/typing/messagesLost"].map(of).to_vec())
    });
    let rows = ["send→ack", "send→receive"];
    shown(vec![
        bars("Messages, p50", "milliseconds", &rows, latency("p50Micros")),
        bars("Messages, p99", "milliseconds", &rows, latency("p99Micros")),
        bars("Typing events", "", &["sent", "could have come", "came"], events.collect()),
        bars("Messages to those who type", "", &["came", "did not come"], messages.collect()),
    ])
}

/// What each kind of hostility cost the others.
pub(super) fn abuse(runs: &[Run]) -> Vec<Panel> {
    rows_of(
        runs,
        "/abuse/kinds",
        "/kind",
        &[("alone", "/abuse/alone"), ("alone again", "/abuse/aloneAgain")],
        &[
            (
                "send→ack of the well behaved",
                "milliseconds",
                &[("p50", "/sendToAck/p50Micros", 1e3), ("p99", "/sendToAck/p99Micros", 1e3)],
            ),
            ("Memory of the server: growth", "MiB (resident)", &[("", "/serverGrownBytes", MIB)]),
            ("CPU of the server", "cores", &[("", "/serverCores", 1.0)]),
        ],
    )
}

/// The title of a panel, its unit, and of each series its name, where it is in an element, and its unit.
type Column<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str, f64)]);

/// One row for each element of an array; before them some with names of their own, and where they are.
fn rows_of(
    runs: &[Run],
    array: &str,
    row_name: &str,
    before: &[(&str, &str)],
    columns: &[Column<'_>],
) -> Vec<Panel> {
    let elements =
        |run: &Run| run.report.pointer(array).and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(first) = runs.first() else { return Vec::new() };
    let of_elements =
        elements(first).into_iter().filter_map(|element| Some(text(&element, row_name)?.to_owned()));
    let rows: Vec<String> = before.iter().map(|(name, _)| (*name).to_owned()).chain(of_elements).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let panels = columns.iter().map(|(title, unit, series)| {
        let mut values = Vec::new();
        for run in runs {
            for (what, path, scale) in *series {
                let ahead = before.iter().map(|(_, place)| number(&run.report, &format!("{place}{path}")));
                let elements = elements(run);
                let of_rows = ahead.chain(elements.iter().map(|element| number(element, path)));
                let scaled = of_rows.map(|value| value.map(|value| value / scale)).collect();
                values.push((label(run, runs, what), scaled));
            }
        }
        bars(title, unit, &rows, values)
    });
    shown(panels.collect())
}

fn bars(title: &str, unit: &str, rows: &[&str], series: Vec<(String, Vec<Option<f64>>)>) -> Panel {
    let rows = rows.iter().map(|&row| row.to_owned()).collect();
    Panel { title: title.to_owned(), body: Body::Bars { unit: unit.to_owned(), rows, series } }
}

fn shown(mut panels: Vec<Panel>) -> Vec<Panel> {
    panels.retain(|panel| !panel.is_empty());
    panels
}

/// The name of a run, where there are several.
fn name(run: &Run, runs: &[Run]) -> String {
    if runs.len() == 1 { String::new() } else { run.name.clone() }
}

/// What is shown, and of which run where there are several.
fn label(run: &Run, runs: &[Run], what: &str) -> String {
    match (runs.len(), what) {
        (1, what) => what.to_owned(),
        (_, "") => run.name.clone(),
        (_, what) => format!("{}, {what}", run.name),
    }
}
