//! The table: what was measured, beside what it should be.

use std::fmt;

/// Lines of a table, in the order in which they were measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    what: String,
    value: String,
    target: Option<(String, bool)>,
}

/// What a value should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Report {
    /// A value without a target.
    pub(crate) fn tell(&mut self, what: impl Into<String>, value: impl Into<String>) {
        self.lines.push(Line { what: what.into(), value: value.into(), target: None });
    }

    /// A value that should be large or small enough.
    pub(crate) fn judge(&mut self, what: impl Into<String>, value: f64, unit: &str, target: Target) {
        let (sign, bound, met) = match target {
            Target::AtLeast(bound) => ("≥", bound, value >= bound),
            Target::AtMost(bound) => ("≤", bound, value <= bound),
        };
        let text = |value| format!("{} {unit}", number(value)).trim_end().to_owned();
        let target = Some((format!("{sign} {}", text(bound)), met));
        self.lines.push(Line { what: what.into(), value: text(value), target });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |of: fn(&Line) -> &str| self.lines.iter().map(|line| of(line).chars().count()).max().unwrap_or(0);
        let (what, value) = (width(|line| &line.what), width(|line| &line.value));
        writeln!(formatter, "| {:what$} | {:>value$} | target", "measured", "value")?;
        writeln!(formatter, "|-{:-<what$}-|-{:->value$}:|---", "", "")?;
        for line in &self.lines {
            let target = match &line.target {
                Some((target, true)) => format!("{target} met"),
                Some((target, false)) => format!("{target} MISSED"),
                None => String::new(),
            };
            writeln!(formatter, "| {:what$} | {:>value$} | {target}", line.what, line.value)?;
        }
        Ok(())
    }
}

/// Whole numbers with their thousands apart, small ones with two decimals.
pub(crate) fn number(value: f64) -> String {
    if value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The middle one of some values, 0 of none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
