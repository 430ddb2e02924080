//! A score over time as SVG: bands of the levels, steps, what happened, and what silence would do next.
//!
//! Only positions are worked out here; colors and lines stand in the style, words in the template beside it.

use crate::{
    engine::{checkpoint::Level, replay::Step, score::ForecastStep},
    event::time::Timestamp,
};

const DAY_MILLIS: i64 = 86_400_000;
/// The whole picture and its margins, in units of the picture.
pub(super) const WIDTH: i64 = 880;
pub(super) const HEIGHT: i64 = 270;
const LEFT: i64 = 34;
const RIGHT: i64 = 14;
const TOP: i64 = 26;
const BOTTOM: i64 = 44;
/// How much is shown at the least and at the most, before now and after.
const LEAST_DAYS: i64 = 14;
const MOST_DAYS: i64 = 120;
const MOST_AHEAD_DAYS: i64 = 45;
const MARKS_AT_MOST: usize = 150;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) at: Timestamp,
    /// `alert`, `held`, `intervention` or `event`.
    pub(super) kind: &'static str,
    /// What it is, for whoever points at it.
    pub(super) title: String,
}

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drawn<'a> {
    /// Worked out from the archive, up to the first stored score.
    pub(super) before: &'a [Step],
    /// As it was stored, the oldest first; the last one is as of now.
    pub(super) stored: &'a [Step],
    pub(super) forecast: &'a [ForecastStep],
    pub(super) events: &'a [Event],
    pub(super) now: Timestamp,
    /// Where the levels begin.
    pub(super) medium: u8,
    pub(super) high: u8,
}

/// The picture.
#[derive(Clone, Debug, Default)]
pub(super) struct Chart {
    pub(super) bands: Vec<Band>,
    pub(super) days: Vec<Tick>,
    /// Paths of the three lines; empty where there is nothing.
    pub(super) before: String,
    pub(super) stored: String,
    pub(super) forecast: String,
    pub(super) marks: Vec<Mark>,
    /// Where now is, and the score there.
    pub(super) now_x: i64,
    pub(super) now_y: i64,
}

#[derive(Clone, Debug)]
pub(super) struct Band {
    pub(super) level: Level,
    pub(super) y: i64,
    pub(super) height: i64,
    pub(super) label_y: i64,
}

#[derive(Clone, Debug)]
pub(super) struct Tick {
    pub(super) x: i64,
    pub(super) text: String,
}

#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) kind: &'static str,
    pub(super) x: i64,
    pub(super) title: String,
}

/// The stretch of time that is shown.
#[derive(Clone, Copy, Debug)]
struct Frame {
    from: Timestamp,
    until: Timestamp,
}

impl Frame {
    fn of(drawn: &Drawn<'_>) -> Self {
        let days = |days: i64| drawn.now.plus_millis(days * DAY_MILLIS);
        let first = drawn.before.first().or(drawn.stored.first()).map_or(drawn.now, |step| step.at);
        let events = drawn.events.iter().map(|event| event.at).min().unwrap_or(drawn.now);
        let from = first.min(events).max(days(-MOST_DAYS)).min(days(-LEAST_DAYS));
        let last = drawn.forecast.last().map_or(days(3), |step| step.silent_until.plus_millis(3 * DAY_MILLIS));
        Self { from, until: last.min(days(MOST_AHEAD_DAYS)).max(days(3)) }
    }

    fn x(&self, at: Timestamp) -> i64 {
        let (all, part) = (self.until.millis_since(self.from).max(1), at.millis_since(self.from));
        LEFT + ((WIDTH - LEFT - RIGHT) * part / all).clamp(0, WIDTH - LEFT - RIGHT)
    }

    fn shows(&self, at: Timestamp) -> bool {
        at >= self.from && at <= self.until
    }
}

fn y(score: u8) -> i64 {
    TOP + (HEIGHT - TOP - BOTTOM) * (100 - i64::from(score.min(100))) / 100
}

impl Chart {
    /// Works out where everything is.
    pub(super) fn draw(drawn: &Drawn<'_>) -> Self {
        let frame = Frame::of(drawn);
        let now_score = drawn.stored.last().map_or(0, |step| step.score);
        let begun = drawn.stored.first().map_or(drawn.now, |step| step.at);
        let ahead: Vec<Step> = std::iter::once(Step { at: drawn.now, score: now_score, level: Level::Low })
            .chain(drawn.forecast.iter().map(|step| Step {
                at: step.silent_until,
                score: step.score,
                level: step.level,
            }))
            .collect();
        // The last ones matter most: they are drawn above, and left out least.
        let marks = drawn.events.iter().rev().filter(|event| frame.shows(event.at)).take(MARKS_AT_MOST);
        let mark = |event: &Event| Mark { kind: event.kind, x: frame.x(event.at), title: event.title.clone() };
        let mut marks: Vec<Mark> = marks.map(mark).collect();
        marks.reverse();
        Self {
            bands: bands(drawn.medium, drawn.high),
            days: days(&frame),
            before: path(&frame, drawn.before, begun),
            stored: path(&frame, drawn.stored, drawn.now),
            forecast: path(&frame, &ahead, frame.until),
            marks,
            now_x: frame.x(drawn.now),
            now_y: y(now_score),
        }
    }

    pub(super) fn left(&self) -> i64 {
        LEFT
    }

    pub(super) fn right(&self) -> i64 {
        WIDTH - RIGHT
    }

    pub(super) fn top(&self) -> i64 {
        TOP
    }

    pub(super) fn bottom(&self) -> i64 {
        HEIGHT - BOTTOM
    }
}

fn bands(medium: u8, high: u8) -> Vec<Band> {
    let band = |level, from: u8, to: u8| Band { level, y: y(to), height: y(from) - y(to), label_y: y(to) + 14 };
    vec![band(Level::High, high, 100), band(Level::Medium, medium, high), band(Level::Low, 0, medium)]
}

/// A line of steps: each score holds until the next one, the last until `end`.
fn path(frame: &Frame, steps: &[Step], end: Timestamp) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let mut write = |part: std::fmt::Arguments<'_>| text.write_fmt(part).expect("a text takes whatever is written");
    // What held when the picture begins is the last step before.
    let first = steps.iter().rposition(|step| step.at <= frame.from).unwrap_or(0);
    let shown = steps[first..].iter().filter(|step| step.at <= frame.until && step.at <= end);
    let mut count = 0;
    for step in shown {
        let (x, y) = (frame.x(step.at), y(step.score));
        if count == 0 {
            write(format_args!("M{x} {y}"))
        } else {
            write(format_args!("H{x}V{y}"))
        }
        count += 1;
    }
    if count > 0 {
        write(format_args!("H{}", frame.x(end)));
    }
    text
}

/// Some days along the bottom, at UTC midnight.
fn days(frame: &Frame) -> Vec<Tick> {
    let all = frame.until.millis_since(frame.from) / DAY_MILLIS;
    let apart = [1, 2, 7, 14, 28].into_iter().find(|apart| all / apart <= 9).unwrap_or(28);
    let first = frame.from.day() + 1;
    (first..=frame.until.day())
        .step_by(usize::try_from(apart).unwrap_or(1))
        .filter_map(|day| {
            let at = Timestamp::start_of_day(day);
            let text = jiff::Timestamp::from_millisecond(at.millis()).ok()?.strftime("%-d %b").to_string();
            let x = frame.x(at);
            (x > LEFT + 12 && x < WIDTH - RIGHT - 12).then_some(Tick { x, text })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: i64) -> Timestamp {
        Timestamp::start_of_day(20_000 + day)
    }

    fn step(day: i64, score: u8) -> Step {
        Step { at: at(day), score, level: Level::Low }
    }

    fn drawn<'a>(before: &'a [Step], stored: &'a [Step], events: &'a [Event]) -> Drawn<'a> {
        Drawn { before, stored, forecast: &[], events, now: at(0), medium: 40, high: 70 }
    }

    #[test]
    fn a_score_holds_until_the_next_one_and_the_last_until_now() {
        let chart = Chart::draw(&drawn(&[step(-20, 0)], &[step(-10, 40), step(-5, 100)], &[]));
        let frame = Frame { from: at(-20), until: at(3) };
        let x = |day| frame.x(at(day));
        assert_eq!(chart.before, format!("M{} {}H{}", x(-20), y(0), x(-10)));
        assert_eq!(chart.stored, format!("M{} {}H{}V{}H{}", x(-10), y(40), x(-5), y(100), x(0)));
        assert_eq!((chart.now_x, chart.now_y), (x(0), y(100)));
        assert_eq!((y(100), y(0)), (TOP, HEIGHT - BOTTOM));
    }

    #[test]
    fn nothing_leaves_the_picture() {
        let events = [Event { at: at(-400), kind: "event", title: String::new() }];
        let forecast = [ForecastStep { silent_until: at(80), score: 30, level: Level::Low }];
        let stored = [step(-500, 90), step(-300, 10), step(-1, 20)];
        let all = Drawn { forecast: &forecast, ..drawn(&[], &stored, &events) };
        let chart = Chart::draw(&all);
        assert!(chart.marks.is_empty() && chart.stored.starts_with(&format!("M{LEFT} {}", y(10))), "{}", chart.stored);
        assert!(chart.forecast.ends_with(&format!("H{}", WIDTH - RIGHT)), "{}", chart.forecast);
        assert!(chart.days.len() <= 10 && !chart.days.is_empty());
        assert!(Chart::draw(&drawn(&[], &[], &[])).before.is_empty());
    }
}
