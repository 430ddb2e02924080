//! Charts as SVG, drawn on the server: they scale with the page and hold no text, which stands beside them as HTML. Each page
//! gives the same numbers as a table too.

use std::fmt;

use askama::filters::HtmlSafe;

use crate::event::time::Timestamp;

/// The drawing's own units; the page stretches it.
const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 200.0;
/// What of a bar's place is the bar.
const BAR: f64 = 0.72;

/// A value over time as a line with the area below it.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// When it begins and ends.
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    /// The values, the oldest first.
    pub(super) points: Vec<(Timestamp, f64)>,
    /// The upper end.
    pub(super) top: f64,
    /// What it shows, for those who do not see it.
    pub(super) label: String,
}

impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = self.to.millis_since(self.from).max(1) as f64;
        let x = |at: Timestamp| at.millis_since(self.from) as f64 / span * WIDTH;
        let y = |value: f64| HEIGHT - value / self.top.max(1.0) * HEIGHT;
        open(formatter, "chart curve", &self.label)?;
        grid(formatter)?;
        if let [(at, value)] = self.points.as_slice() {
            // One point has no length: a line as short as can be, with round ends.
            let (x, y) = (x(*at), y(*value));
            return write!(formatter, "<path class=\"point\" d=\"M{x:.1} {y:.1}h.01\"/></svg>");
        }
        let mut path = String::new();
        for (at, value) in &self.points {
            let command = if path.is_empty() { 'M' } else { 'L' };
            path += &format!("{command}{:.1} {:.1}", x(*at), y(*value));
        }
        if let (Some((first, _)), Some((last, _))) = (self.points.first(), self.points.last()) {
            write!(
                formatter,
                "<path class=\"area\" d=\"{path}L{:.1} {HEIGHT}L{:.1} {HEIGHT}Z\"/>",
                x(*last),
                x(*first)
            )?;
            write!(formatter, "<path class=\"stroke\" d=\"{path}\"/>")?;
        }
        formatter.write_str("</svg>")
    }
}

impl HtmlSafe for Line {}

/// One bar for each of several days, its parts one above the other.
#[derive(Clone, Debug)]
pub(super) struct Bars {
    /// For each bar what it stands for, and how high each part is, the lowest first.
    pub(super) bars: Vec<(String, [u64; 3])>,
    /// The classes of the parts.
    pub(super) classes: [&'static str; 3],
    /// The upper end.
    pub(super) top: u64,
    /// What it shows, for those who do not see it.
    pub(super) label: String,
}

impl fmt::Display for Bars {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = WIDTH / self.bars.len().max(1) as f64;
        open(formatter, "chart columns", &self.label)?;
        grid(formatter)?;
        for (number, (name, parts)) in self.bars.iter().enumerate() {
            let x = place * (number as f64 + (1.0 - BAR) / 2.0);
            let mut bottom = HEIGHT;
            write!(formatter, "<g><title>{}</title>", Escaped(name))?;
            for (part, class) in parts.iter().zip(self.classes).filter(|(part, _)| **part > 0) {
                let height = *part as f64 / self.top.max(1) as f64 * HEIGHT;
                bottom -= height;
                write!(
                    formatter,
                    "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{bottom:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>",
                    place * BAR
                )?;
            }
            formatter.write_str("</g>")?;
        }
        formatter.write_str("</svg>")
    }
}

impl HtmlSafe for Bars {}

/// Parts of a whole, side by side.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    /// How large each part is, and its class.
    pub(super) parts: Vec<(u64, &'static str)>,
    /// What it shows, for those who do not see it.
    pub(super) label: String,
}

impl fmt::Display for Parts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole: u64 = self.parts.iter().map(|(part, _)| part).sum();
        write!(
            formatter,
            "<svg class=\"chart parts\" viewBox=\"0 0 {WIDTH} 20\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">",
            Escaped(&self.label)
        )?;
        let mut x = 0.0;
        for (part, class) in self.parts.iter().filter(|(part, _)| *part > 0) {
            let width = *part as f64 / whole as f64 * WIDTH;
            write!(formatter, "<rect class=\"{class}\" x=\"{x:.2}\" width=\"{width:.2}\" height=\"20\"/>")?;
            x += width;
        }
        formatter.write_str("</svg>")
    }
}

impl HtmlSafe for Parts {}

fn open(formatter: &mut fmt::Formatter<'_>, class: &str, label: &str) -> fmt::Result {
    write!(
        formatter,
        "<svg class=\"{class}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">",
        Escaped(label)
    )
}

/// Lines at the upper end, in the middle and at nought.
fn grid(formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(formatter, "<path class=\"rule\" d=\"M0 0H{WIDTH}M0 {}H{WIDTH}M0 {HEIGHT}H{WIDTH}\"/>", HEIGHT / 2.0)
}

/// The least of 1, 2, 4, 5, 10, 20 … that is not below a number, so that half of it is a plain number too.
pub(super) fn nice_top(number: u64) -> u64 {
    let mut unit: u64 = 1;
    loop {
        for step in [2, 4, 6, 10] {
            let top = unit.saturating_mul(step);
            if top >= number {
                return top;
            }
        }
        unit = unit.saturating_mul(10);
    }
}

/// Text within an attribute or an element.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            match char {
                '&' => formatter.write_str("&amp;")?,
                '<' => formatter.write_str("&lt;")?,
                '>' => formatter.write_str("&gt;")?,
                '"' => formatter.write_str("&quot;")?,
                _ => fmt::Write::write_char(formatter, char)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::start_of_hour(hour)
    }

    #[test]
    fn a_line_goes_through_its_points() {
        let line =
            |points| Line { from: at(0), to: at(10), points, top: 100.0, label: "a \"b\" <c>".into() }.to_string();
        let two = line(vec![(at(0), 0.0), (at(5), 50.0), (at(10), 100.0)]);
        assert!(two.contains("d=\"M0.0 200.0L500.0 100.0L1000.0 0.0\""), "{two}");
        assert!(two.contains("aria-label=\"a &quot;b&quot; &lt;c&gt;\""), "{two}");
        assert!(line(vec![(at(5), 50.0)]).contains("M500.0 100.0h.01"));
        assert!(!line(vec![]).contains("stroke"));
    }

    #[test]
    fn bars_stand_on_each_other() {
        let bars = Bars {
            bars: vec![("x".into(), [1, 0, 3])],
            classes: ["low", "medium", "high"],
            top: 4,
            label: String::new(),
        };
        let text = bars.to_string();
        assert!(
            text.contains("<rect class=\"low\" x=\"140.0\" y=\"150.0\" width=\"720.0\" height=\"50.0\"/>"),
            "{text}"
        );
        assert!(
            text.contains("<rect class=\"high\" x=\"140.0\" y=\"0.0\" width=\"720.0\" height=\"150.0\"/>"),
            "{text}"
        );
        assert!(!text.contains("medium"));
    }

    #[test]
    fn the_upper_end_is_a_plain_number_whose_half_is_one() {
        for (number, top) in [(0, 2), (1, 2), (3, 4), (5, 6), (7, 10), (10, 10), (11, 20), (61, 100), (41_000, 60_000)]
        {
            assert_eq!(nice_top(number), top);
        }
        assert!(nice_top(u64::MAX) == u64::MAX);
    }
}
