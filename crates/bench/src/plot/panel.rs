//! Axes, and what is between them.

use super::scale::{Kind, Scale, short};
use super::svg::{Anchor, BODY, HEAD, LABEL, Svg, width};

/// Between the parts of a legend.
const LEGEND_GAP: f64 = 16.0;
const LEGEND_LINE: f64 = 17.0;
const SWATCH: f64 = 18.0;
/// Room for the numbers at the left, and for those below.
const LEFT: f64 = 58.0;
const BELOW: f64 = 42.0;

/// A chart of one thing.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    /// Lines over an axis.
    Lines { x: Axis, y: Axis, lines: Vec<Line> },
    /// Bars that lie, one row for each name and in it one bar for each series.
    Bars { unit: String, rows: Vec<String>, series: Vec<(String, Vec<Option<f64>>)> },
}

#[derive(Debug)]
pub(super) struct Axis {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) colour: usize,
    pub(super) is_dashed: bool,
    /// Whether its points are measured one by one, and few.
    pub(super) has_dots: bool,
    pub(super) points: Vec<(f64, f64)>,
}

/// A place on the image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Panel {
    /// Whether there is anything to see.
    pub(super) fn is_empty(&self) -> bool {
        match &self.body {
            Body::Lines { lines, .. } => lines.iter().all(|line| line.points.is_empty()),
            Body::Bars { series, .. } => series.iter().all(|(_, values)| values.iter().all(Option::is_none)),
        }
    }

    /// How high it wants to be.
    pub(super) fn height(&self, width: f64) -> f64 {
        match &self.body {
            Body::Lines { lines, .. } => 270.0 + legend_height(&legend_of_lines(lines), width),
            Body::Bars { rows, series, .. } => {
                let row = row_height(series.len());
                60.0 + rows.len() as f64 * row + legend_height(&legend_of_bars(series), width)
            }
        }
    }

    pub(super) fn draw(&self, svg: &mut Svg, frame: Frame) {
        svg.text(frame.x, frame.y + 14.0, Anchor::Start, HEAD, &self.title);
        let mut inner = Frame { y: frame.y + 22.0, height: frame.height - 22.0, ..frame };
        let legend = match &self.body {
            Body::Lines { lines, .. } => legend_of_lines(lines),
            Body::Bars { series, .. } => legend_of_bars(series),
        };
        let used = draw_legend(svg, &legend, inner);
        inner.y += used;
        inner.height -= used;
        match &self.body {
            Body::Lines { x, y, lines } => draw_lines(svg, inner, x, y, lines),
            Body::Bars { unit, rows, series } => draw_bars(svg, inner, unit, rows, series),
        }
    }
}

type Legend = Vec<(String, usize, bool)>;

fn legend_of_lines(lines: &[Line]) -> Legend {
    let named = lines.iter().filter(|line| !line.name.is_empty());
    named.map(|line| (line.name.clone(), line.colour, line.is_dashed)).collect()
}

fn legend_of_bars(series: &[(String, Vec<Option<f64>>)]) -> Legend {
    let named = series.iter().enumerate().filter(|(_, (name, _))| !name.is_empty());
    named.map(|(colour, (name, _))| (name.clone(), colour, false)).collect()
}

/// The places of its parts, line by line.
fn legend_places(legend: &Legend, room: f64) -> Vec<(f64, f64)> {
    let (mut x, mut line) = (0.0, 0.0);
    let place = |(name, ..): &(String, usize, bool)| {
        let wide = SWATCH + 6.0 + width(name, BODY);
        if x > 0.0 && x + wide > room {
            (x, line) = (0.0, line + 1.0);
        }
        let place = (x, line);
        x += wide + LEGEND_GAP;
        place
    };
    legend.iter().map(place).collect()
}

fn legend_height(legend: &Legend, room: f64) -> f64 {
    legend_places(legend, room).last().map_or(0.0, |(_, line)| (line + 1.0) * LEGEND_LINE)
}

fn draw_legend(svg: &mut Svg, legend: &Legend, frame: Frame) -> f64 {
    for ((name, colour, is_dashed), (x, line)) in legend.iter().zip(legend_places(legend, frame.width)) {
        let (x, y) = (frame.x + x, frame.y + line * LEGEND_LINE + 13.0);
        svg.line(&[(x, y - 4.0), (x + SWATCH, y - 4.0)], *colour, *is_dashed);
        svg.text(x + SWATCH + 6.0, y, Anchor::Start, BODY, name);
    }
    legend_height(legend, frame.width)
}

fn draw_lines(svg: &mut Svg, frame: Frame, x: &Axis, y: &Axis, lines: &[Line]) {
    let (left, right) = (frame.x + LEFT, frame.x + frame.width - 10.0);
    let (top, bottom) = (frame.y + 26.0, frame.y + frame.height - BELOW);
    let points = || lines.iter().flat_map(|line| &line.points);
    let across = Scale::new(x.kind, points().map(|point| point.0), left, right);
    let up = Scale::new(y.kind, points().map(|point| point.1), bottom, top);
    svg.text(frame.x, frame.y + 14.0, Anchor::Start, LABEL, y.name);
    for (place, name) in up.ticks() {
        svg.rule((left, place), (right, place), "grid");
        svg.text(left - 7.0, place + 4.0, Anchor::End, LABEL, &name);
    }
    let mut free_from = f64::NEG_INFINITY;
    for (place, name) in across.ticks() {
        let half = width(&name, LABEL) / 2.0;
        svg.rule((place, bottom), (place, bottom + 4.0), "axis");
        // Two that would touch: the first stays.
        if place - half > free_from {
            svg.text(place, bottom + 17.0, Anchor::Middle, LABEL, &name);
            free_from = place + half + 4.0;
        }
    }
    svg.rule((left, bottom), (right, bottom), "axis");
    svg.text((left + right) / 2.0, bottom + 34.0, Anchor::Middle, LABEL, x.name);
    for line in lines {
        let places: Vec<(f64, f64)> =
            line.points.iter().map(|&(x, y)| (across.place(x), up.place(y))).collect();
        svg.line(&places, line.colour, line.is_dashed);
        if line.has_dots || places.len() == 1 {
            places.iter().for_each(|&place| svg.dot(place, line.colour));
        }
    }
}

fn row_height(series: usize) -> f64 {
    series as f64 * 15.0 + 12.0
}

fn draw_bars(
    svg: &mut Svg,
    frame: Frame,
    unit: &str,
    rows: &[String],
    series: &[(String, Vec<Option<f64>>)],
) {
    let names = rows.iter().map(|name| width(name, BODY)).fold(0.0, f64::max) + 4.0;
    let left = frame.x + names + 10.0;
    // The numbers stand behind the bars.
    let right = frame.x + frame.width - 62.0;
    let values = series.iter().flat_map(|(_, values)| values.iter().flatten().copied());
    let across = Scale::new(Kind::Linear, values, left, right);
    svg.text(frame.x, frame.y + 14.0, Anchor::Start, LABEL, unit);
    let (top, row) = (frame.y + 24.0, row_height(series.len()));
    let bottom = top + rows.len() as f64 * row;
    let zero = across.place(0.0);
    for (place, name) in rows.iter().enumerate() {
        let y = top + place as f64 * row + 6.0;
        let middle = y + (row - 12.0) / 2.0 + 4.0;
        svg.text(left - 10.0, middle, Anchor::End, BODY, name);
        for (number, (_, values)) in series.iter().enumerate() {
            let Some(Some(value)) = values.get(place) else { continue };
            let (end, y) = (across.place(*value), y + number as f64 * 15.0);
            svg.bar(zero.min(end), y, (end - zero).abs().max(1.0), 12.0, number);
            svg.text(zero.max(end) + 6.0, y + 10.5, Anchor::Start, LABEL, &short(*value));
        }
    }
    svg.rule((zero, top), (zero, bottom), "axis");
}
