//! Curves as a picture: one panel a run, memory over time, with the bound as a line.

use std::fmt;

const WIDTH: f64 = 860.0;
const PANEL: f64 = 190.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 48.0;
/// Above and below the curves of a panel.
const HEAD: f64 = 34.0;
const FOOT: f64 = 26.0;
/// More points than this no eye can tell apart.
const POINTS: usize = 400;

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    pub(crate) what: String,
    /// Seconds since the beginning, and MiB.
    pub(crate) samples: Vec<(f64, f64)>,
    pub(crate) peak: f64,
    /// What the settings allow, in MiB.
    pub(crate) bound: f64,
}

/// Several runs below each other, as SVG.
pub(crate) struct Picture {
    pub(crate) title: &'static str,
    pub(crate) runs: Vec<Curve>,
}

impl fmt::Display for Picture {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let height = TOP + PANEL * self.runs.len() as f64;
        writeln!(
            out,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">"#
        )?;
        writeln!(out, "<title>{}</title>", self.title)?;
        writeln!(out, r##"<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>"##)?;
        writeln!(out, r##"<text x="{LEFT}" y="28" font-size="16" fill="#1f2933">{}</text>"##, self.title)?;
        for (place, run) in self.runs.iter().enumerate() {
            run.draw(TOP + PANEL * place as f64, out)?;
        }
        writeln!(out, "</svg>")
    }
}

impl Curve {
    fn draw(&self, top: f64, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.samples.last().map_or(1.0, |sample| sample.0.max(1.0));
        let most = (self.bound.max(self.peak) * 1.15 / 50.0).ceil() * 50.0;
        let (floor, room) = (top + PANEL - FOOT, PANEL - HEAD - FOOT);
        let x = |seconds: f64| LEFT + seconds / end * (WIDTH - LEFT - RIGHT);
        let y = |mib: f64| floor - mib / most * room;
        let heading = format!("{}: {}; peak {:.0} MiB, bound {:.0} MiB", self.name, self.what, self.peak, self.bound);
        writeln!(out, r##"<text x="{LEFT}" y="{:.1}" fill="#1f2933">{heading}</text>"##, top + 18.0)?;
        for step in 0..=2 {
            let value = most / 2.0 * f64::from(step);
            let height = y(value);
            writeln!(
                out,
                r##"<line x1="{LEFT}" x2="{:.1}" y1="{height:.1}" y2="{height:.1}" stroke="#e4e7eb"/><text x="{:.1}" y="{:.1}" text-anchor="end" fill="#52606d">{value:.0} MiB</text>"##,
                WIDTH - RIGHT,
                LEFT - 8.0,
                height + 4.0
            )?;
        }
        let bound = y(self.bound);
        writeln!(
            out,
            r##"<line x1="{LEFT}" x2="{:.1}" y1="{bound:.1}" y2="{bound:.1}" stroke="#ba2525" stroke-dasharray="6 4"/>"##,
            WIDTH - RIGHT
        )?;
        let every = self.samples.len().div_ceil(POINTS).max(1);
        let points: Vec<String> =
            self.samples.iter().step_by(every).map(|(at, mib)| format!("{:.1},{:.1}", x(*at), y(*mib))).collect();
        writeln!(
            out,
            r##"<polyline points="{}" fill="none" stroke="#2166ac" stroke-width="1.5"/>"##,
            points.join(" ")
        )?;
        for step in 0..=4 {
            let seconds = end / 4.0 * f64::from(step);
            let label = if end >= 300.0 { format!("{:.0} min", seconds / 60.0) } else { format!("{seconds:.0} s") };
            writeln!(
                out,
                r##"<text x="{:.1}" y="{:.1}" text-anchor="middle" fill="#52606d">{label}</text>"##,
                x(seconds),
                floor + 17.0
            )?;
        }
        Ok(())
    }
}
