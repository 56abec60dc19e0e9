//! Charts of reports, as SVG: one file, no fonts and no scripts to load, legible on light and on dark ground.
//!
//! Reading order: `svg` (text that is drawn), `scale` (from values to places), `panel` (axes and what is between
//! them), `figure` (panels, title, conditions), `of_*` (what is worth seeing of each scenario). Charts are made from
//! reports as JSON, so that those of earlier runs can be drawn, too, and beside each other.

mod svg;

mod scale;

mod panel;

mod figure;

mod of_load;
mod of_others;

use serde_json::Value;

use crate::error::Error;
use figure::Figure;
use panel::Panel;

/// A report, and what it is called where there are several.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its name in the legend.
    pub name: String,
    /// A report as `--json` prints it.
    pub report: Value,
}

/// Draws the chart of a run, or of several of one scenario beside each other.
///
/// # Errors
/// If there is nothing to draw, or the reports are of different scenarios.
pub fn plot(runs: &[Run]) -> Result<String, Error> {
    let wrong = |why: &str| Error::Arguments(format!("there is nothing to draw: {why}"));
    let first = runs.first().ok_or_else(|| wrong("no report"))?;
    let scenario = text(&first.report, "/scenario").ok_or_else(|| wrong("no report of a bench"))?;
    if runs.iter().any(|run| text(&run.report, "/scenario") != Some(scenario)) {
        return Err(wrong("reports of different scenarios do not fit on one chart"));
    }
    let panels = panels(scenario, runs);
    if panels.is_empty() {
        return Err(wrong("the report has no figures"));
    }
    let figure = Figure {
        title: format!("tertulia bench {scenario}"),
        subtitle: arguments(runs),
        panels,
        small_print: runs.iter().map(|run| conditions(run, runs.len() > 1)).collect(),
    };
    Ok(figure.draw())
}

fn panels(scenario: &str, runs: &[Run]) -> Vec<Panel> {
    match scenario {
        "idle" => of_others::idle(runs),
        "storm" => of_others::storm(runs),
        "catchup" => of_others::catchup(runs),
        "history" => of_others::history(runs),
        "typing" => of_others::typing(runs),
        "abuse" => of_others::abuse(runs),
        _ => of_load::load(runs),
    }
}

/// The arguments of the first run; those of others differ, which their names should say.
fn arguments(runs: &[Run]) -> String {
    let arguments = runs.first().and_then(|run| run.report.pointer("/arguments")?.as_object());
    let words = arguments.into_iter().flatten().map(|(name, value)| match value {
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(plain).collect();
            format!("{} {}", spaced(name), values.join(", "))
        }
        value => format!("{} {}", spaced(name), plain(value)),
    });
    words.collect::<Vec<_>>().join(" · ")
}

fn plain(value: &Value) -> String {
    match (value.as_str(), value.as_f64()) {
        (Some(text), _) => text.to_owned(),
        // 100.0 is 100.
        (None, Some(number)) => number.to_string(),
        (None, None) => value.to_string(),
    }
}

/// `connectionsPerUser` as one says it.
fn spaced(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

fn conditions(run: &Run, is_one_of_many: bool) -> String {
    let of = |path: &str| text(&run.report, path).unwrap_or("unknown");
    let number = |path: &str| number(&run.report, path);
    let name = if is_one_of_many { format!("{}: ", run.name) } else { String::new() };
    let gib = number("/conditions/memoryBytes").unwrap_or(0.0) / f64::from(1 << 30);
    let valid = match run.report.pointer("/valid") {
        Some(Value::Bool(true)) => "",
        // First, where no end of a line comes between.
        _ => "NOT VALID, these figures say nothing: ",
    };
    format!(
        "{valid}{name}{} × {}, {gib:.0} GiB, {}; load {} before; generator {} {} on the same machine with {} threads; server {}",
        number("/conditions/cores").unwrap_or(0.0),
        of("/conditions/machine"),
        of("/conditions/kernel"),
        number("/conditions/loadBefore").unwrap_or(0.0),
        of("/conditions/version"),
        of("/conditions/build"),
        number("/conditions/threads").unwrap_or(0.0),
        of("/conditions/server/version"),
    )
}

fn text<'a>(report: &'a Value, path: &str) -> Option<&'a str> {
    report.pointer(path)?.as_str()
}

fn number(report: &Value, path: &str) -> Option<f64> {
    report.pointer(path)?.as_f64()
}

/// The pairs of numbers of a curve.
fn points(report: &Value, path: &str) -> Vec<(f64, f64)> {
    let pairs = report.pointer(path).and_then(Value::as_array).into_iter().flatten();
    pairs.filter_map(|pair| Some((pair.get(0)?.as_f64()?, pair.get(1)?.as_f64()?))).collect()
}

/// Two fields of each element of an array.
fn fields(report: &Value, path: &str, x: &str, y: &str) -> Vec<(f64, f64)> {
    let elements = report.pointer(path).and_then(Value::as_array).into_iter().flatten();
    elements.filter_map(|element| Some((number(element, x)?, number(element, y)?))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(report: Value) -> Run {
        Run { name: "a <b> & c".into(), report }
    }

    fn pairs() -> Value {
        json!({
            "scenario": "pairs", "arguments": {"pairs": 2, "bodyBytes": 100}, "valid": true,
            "load": {
                "deliveriesBySecond": [10, 12, 11],
                "sendToAckCurve": [[0.0, 100.0], [50.0, 200.0], [99.0, 900.0], [100.0, 5_000.0]],
                "samples": [{"seconds": 0.25, "serverCores": 0.5, "serverBytes": 1_048_576}],
            },
        })
    }

    #[test]
    fn a_chart_has_title_arguments_and_no_markup_of_strangers() {
        let chart = plot(&[run(pairs()), run(pairs())]).unwrap();
        assert!(chart.starts_with("<svg ") && chart.trim_end().ends_with("</svg>"));
        for part in ["tertulia bench pairs", "pairs 2", "body bytes 100", "a &lt;b&gt; &amp; c"] {
            assert!(chart.contains(part), "{part} in {chart}");
        }
        assert!(!chart.contains("<b>") && !chart.contains("NaN") && !chart.contains("inf"), "{chart}");
    }

    #[test]
    fn a_run_that_is_not_valid_says_so_on_its_chart() {
        let mut report = pairs();
        report["valid"] = json!(false);
        assert!(plot(&[run(report)]).unwrap().contains("NOT VALID"));
    }

    #[test]
    fn what_does_not_fit_together_is_not_drawn() {
        assert!(plot(&[]).is_err());
        assert!(plot(&[run(json!({"some": "file"}))]).is_err());
        assert!(plot(&[run(json!({"scenario": "pairs"}))]).is_err());
        assert!(plot(&[run(pairs()), run(json!({"scenario": "idle"}))]).is_err());
    }
}
