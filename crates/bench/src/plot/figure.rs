//! Title, panels in two columns, and under which conditions.

use super::panel::{Frame, Panel};
use super::svg::{Anchor, BODY, SMALL, Svg, TITLE, Type, width};

const WIDTH: f64 = 1_000.0;
const MARGIN: f64 = 28.0;
const GAP: f64 = 34.0;

/// A whole image.
pub(super) struct Figure {
    pub(super) title: String,
    pub(super) subtitle: String,
    pub(super) panels: Vec<Panel>,
    pub(super) small_print: Vec<String>,
}

impl Figure {
    /// The image as SVG.
    pub(super) fn draw(&self) -> String {
        let mut svg = Svg::default();
        svg.text(MARGIN, 38.0, Anchor::Start, TITLE, &self.title);
        let mut y = paragraph(&mut svg, 60.0, BODY, &self.subtitle) + 14.0;
        let columns = if self.panels.len() == 1 { 1 } else { 2 };
        let column = (WIDTH - 2.0 * MARGIN - GAP * (columns - 1) as f64) / columns as f64;
        for row in self.panels.chunks(columns) {
            let height = row.iter().map(|panel| panel.height(column)).fold(0.0, f64::max);
            for (place, panel) in row.iter().enumerate() {
                let x = MARGIN + place as f64 * (column + GAP);
                panel.draw(&mut svg, Frame { x, y, width: column, height });
            }
            y += height + 18.0;
        }
        for line in &self.small_print {
            y = paragraph(&mut svg, y + 10.0, SMALL, line);
        }
        svg.finish(WIDTH, y + 12.0, &self.title)
    }
}

/// Text over as many lines as it needs; gives where the next begins.
fn paragraph(svg: &mut Svg, mut y: f64, style: Type, text: &str) -> f64 {
    for line in wrap(text, WIDTH - 2.0 * MARGIN, style) {
        svg.text(MARGIN, y, Anchor::Start, style, &line);
        y += style.size * 1.45;
    }
    y
}

fn wrap(text: &str, room: f64, style: Type) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && width(&lines[last], style) + width(word, style) > room {
            lines.push(word.to_owned());
            continue;
        }
        if !lines[last].is_empty() {
            lines[last].push(' ');
        }
        lines[last].push_str(word);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_lose_none() {
        let text = "one two three four five six seven eight nine ten";
        let lines = wrap(text, 80.0, BODY);
        assert!(lines.len() > 2 && lines.iter().all(|line| width(line, BODY) <= 90.0), "{lines:?}");
        assert_eq!(lines.join(" "), text);
    }
}
