//! The text of an SVG.

use std::fmt::{Display, Write as _};

/// The colours of series: distinct on white and on near-black, and for most who see colours differently.
const COLOURS: [&str; 8] =
    ["#3b82d6", "#e0782f", "#2f9e6e", "#9a63c9", "#c94f6d", "#8a8f2f", "#3aa3ad", "#8b8b8b"];
/// What everything else looks like, by the reader's preference.
const STYLE: &str = "\
text{font-family:system-ui,'Segoe UI','DejaVu Sans',sans-serif;fill:#24292f}\
.ground{fill:#ffffff}.dim{fill:#636c76}.grid{stroke:#d8dee4;stroke-width:1}.axis{stroke:#8c959f;stroke-width:1}\
.line{fill:none;stroke-width:2;stroke-linejoin:round}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.ground{fill:#0d1117}.dim{fill:#9198a1}\
.grid{stroke:#2b323b}.axis{stroke:#6e7681}}";

/// Where a text is, relative to its place.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Type {
    pub(super) size: f64,
    pub(super) is_bold: bool,
    pub(super) is_dim: bool,
}

/// What titles, panels, legends and small print look like.
pub(super) const TITLE: Type = Type { size: 19.0, is_bold: true, is_dim: false };
pub(super) const HEAD: Type = Type { size: 13.5, is_bold: true, is_dim: false };
pub(super) const BODY: Type = Type { size: 12.0, is_bold: false, is_dim: false };
pub(super) const LABEL: Type = Type { size: 11.5, is_bold: false, is_dim: true };
pub(super) const SMALL: Type = Type { size: 10.5, is_bold: false, is_dim: true };

/// An image that grows.
#[derive(Debug, Default)]
pub(super) struct Svg(String);

/// The colour of a series.
pub(super) fn colour(series: usize) -> &'static str {
    COLOURS[series % COLOURS.len()]
}

/// About how wide a text is. Nobody knows the reader's font: this is on the wide side.
pub(super) fn width(text: &str, style: Type) -> f64 {
    text.chars().count() as f64 * style.size * if style.is_bold { 0.60 } else { 0.56 }
}

/// Text as it may stand in an SVG.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            // XML knows no other control characters, not even escaped.
            letter if letter.is_control() => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}

impl Svg {
    /// Writing to a string does not fail.
    fn put(&mut self, element: impl Display) {
        let _ = writeln!(self.0, "{element}");
    }

    pub(super) fn text(&mut self, x: f64, y: f64, anchor: Anchor, style: Type, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let weight = if style.is_bold { r#" font-weight="600""# } else { "" };
        let class = if style.is_dim { r#" class="dim""# } else { "" };
        self.put(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" font-size="{}" text-anchor="{anchor}"{weight}{class}>{}</text>"#,
            style.size,
            escape(text)
        ));
    }

    pub(super) fn rule(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.put(format_args!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" class="{class}"/>"#
        ));
    }

    pub(super) fn line(&mut self, points: &[(f64, f64)], series: usize, is_dashed: bool) {
        let mut path = String::new();
        for (x, y) in points {
            let _ = write!(path, "{x:.1},{y:.1} ");
        }
        let dashes = if is_dashed { r#" stroke-dasharray="5 4""# } else { "" };
        let colour = colour(series);
        self.put(format_args!(
            r#"<polyline points="{}" class="line" stroke="{colour}"{dashes}/>"#,
            path.trim_end()
        ));
    }

    pub(super) fn dot(&mut self, (x, y): (f64, f64), series: usize) {
        self.put(format_args!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{}"/>"#, colour(series)));
    }

    pub(super) fn bar(&mut self, x: f64, y: f64, width: f64, height: f64, series: usize) {
        self.put(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="1.5" fill="{}"/>"#,
            colour(series)
        ));
    }

    /// The whole image.
    pub(super) fn finish(self, width: f64, height: f64, title: &str) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"ground\" width=\"{width:.0}\" height=\"{height:.0}\"/>\n{}</svg>\n",
            escape(title),
            self.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_meaning_in_xml_is_escaped() {
        assert_eq!(escape("a<b>&\"c\"\u{0}→ms"), "a&lt;b&gt;&amp;&quot;c&quot; →ms");
    }
}
