//! The last half hour as lines, drawn by the server: they are there without a script, and say in words what they show.

use super::super::status::percent;
use crate::observe::history::{Point, STEP};
use crate::observe::tally::BOUNDS;
use std::fmt::{self, Display, Write};

/// How high a chart is, in its own units; it is as wide as there are steps, but not less than this many.
const HEIGHT: f64 = 40.0;
const NARROWEST: usize = 30;
/// What took longer is drawn as that, in seconds.
const LONGEST: f64 = BOUNDS[BOUNDS.len() - 1];

/// One line of a chart.
struct Line {
    label: &'static str,
    /// How it looks.
    class: &'static str,
    /// `None` where there is nothing to draw.
    values: Vec<Option<f64>>,
}

struct Chart {
    title: &'static str,
    unit: &'static str,
    lines: [Line; 2],
    /// The highest value there can be, if there is one: the lowest that is drawn is then what there was. Otherwise it is from 0 up.
    most: Option<f64>,
}

/// All of them.
pub(super) fn write(out: &mut String, history: &[Point]) -> fmt::Result {
    out.push_str("<section id=\"charts\" aria-labelledby=\"h-charts\"><h2 id=\"h-charts\">The last half hour</h2>");
    if history.is_empty() {
        write!(
            out,
            "<p>The first lines are drawn {} s after the start.</p></section>",
            STEP.as_secs()
        )?;
        return Ok(());
    }
    out.push_str("<div class=\"charts\">");
    let line = |label, class, value: &dyn Fn(&Point) -> Option<f64>| Line {
        label,
        class,
        values: history.iter().map(value).collect(),
    };
    let percent = |share: Option<f64>| share.map(percent);
    let milli = |seconds: Option<f64>| seconds.map(|s| s.min(LONGEST) * 1000.0);
    #[allow(clippy::cast_precision_loss)]
    let per_second = |count: u64| Some(count as f64 / STEP.as_secs_f64());
    let charts = [
        Chart {
            title: "Success",
            unit: "%",
            lines: [
                line("clients", "first", &|p| percent(p.count.seen())),
                line("upstreams", "second", &|p| percent(p.count.answered())),
            ],
            most: Some(100.0),
        },
        Chart {
            title: "Requests",
            unit: "/s",
            lines: [
                line("all", "first", &|p| per_second(p.count.requests)),
                line("failed", "second", &|p| per_second(p.count.failed)),
            ],
            most: None,
        },
        Chart {
            title: "Latency, at most",
            unit: "ms",
            lines: [
                line("half", "first", &|p| milli(p.p50)),
                line("99 of 100", "second", &|p| milli(p.p99)),
            ],
            most: None,
        },
        Chart {
            title: "Retries",
            unit: "/s",
            lines: [
                line("saved requests", "first", &|p| {
                    per_second(p.count.saved.sum())
                }),
                line("retries", "second", &|p| per_second(p.retries)),
            ],
            most: None,
        },
    ];
    for chart in &charts {
        write!(out, "{chart}")?;
    }
    out.push_str("</div></section>");
    Ok(())
}

impl Display for Chart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let drawn = || {
            self.lines
                .iter()
                .flat_map(|line| line.values.iter().flatten().copied())
        };
        let (least, most) = match self.most {
            // Something has to be between them.
            Some(most) => (drawn().fold(most - 1.0, f64::min).floor(), most),
            None => (0.0, drawn().fold(0.0, f64::max)),
        };
        let unit = self.unit;
        let width = self.lines[0].values.len().max(NARROWEST);
        write!(
            f,
            "<figure class=\"chart\"><figcaption><strong>{}</strong>",
            self.title
        )?;
        for line in &self.lines {
            let now = line.values.last().copied().flatten();
            let now = now.map_or_else(|| "–".to_string(), |now| format!("{} {unit}", short(now)));
            write!(
                f,
                " <span class=\"key {}\">{} {now}</span>",
                line.class, line.label
            )?;
        }
        write!(
            f,
            "</figcaption><svg viewBox=\"0 -1 {width} {}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}",
            HEIGHT + 2.0,
            self.title
        )?;
        for line in &self.lines {
            let values = || line.values.iter().flatten().copied();
            if values().next().is_some() {
                let (low, high) = (
                    values().fold(f64::INFINITY, f64::min),
                    values().fold(0.0, f64::max),
                );
                write!(
                    f,
                    "; {}: between {} and {} {unit}",
                    line.label,
                    short(low),
                    short(high)
                )?;
            } else {
                write!(f, "; {}: nothing", line.label)?;
            }
        }
        f.write_str("\">")?;
        for line in self.lines.iter().rev() {
            for (first, run) in runs(&line.values) {
                write!(f, "<polyline class=\"{}\" points=\"", line.class)?;
                let from = width - line.values.len() + first;
                for (step, value) in run.iter().enumerate() {
                    let y = match most > least {
                        true => HEIGHT * (1.0 - (value - least) / (most - least)),
                        false => HEIGHT,
                    };
                    write!(f, "{},{} ", from + step, short(y))?;
                    if run.len() == 1 {
                        // One point alone has no length, and would not be seen.
                        write!(f, "{},{} ", from + step + 1, short(y))?;
                    }
                }
                f.write_str("\"/>")?;
            }
        }
        write!(
            f,
            "</svg><p class=\"scale\"><span>{} {unit}</span><span>{} {unit}</span></p></figure>",
            short(most),
            short(least)
        )
    }
}

/// The runs of values without a gap, each with where it begins.
fn runs(values: &[Option<f64>]) -> Vec<(usize, Vec<f64>)> {
    let mut runs: Vec<(usize, Vec<f64>)> = Vec::new();
    let mut before = false;
    for (place, value) in values.iter().enumerate() {
        match (value, runs.last_mut()) {
            (Some(value), Some((_, run))) if before => run.push(*value),
            (Some(value), _) => runs.push((place, vec![*value])),
            (None, _) => {}
        }
        before = value.is_some();
    }
    runs
}

/// A number that fits: to hundredths, rounded down, so that only what never failed is 100 %.
fn short(number: f64) -> f64 {
    // A little more, since 2.3 times 100 is 229.999… in binary fractions.
    (number * 100.0 + 1e-6).floor() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::success::Count;

    #[test]
    fn numbers_that_fit() {
        for (number, shown) in [
            (2.3, 2.3),
            (64.1, 64.1),
            (99.995, 99.99),
            (100.0, 100.0),
            (0.004, 0.0),
        ] {
            assert_eq!(short(number), shown);
        }
    }

    #[test]
    fn what_there_is_not_is_a_gap() {
        let values = [None, Some(1.0), Some(2.0), None, Some(3.0)];
        assert_eq!(runs(&values), [(1, vec![1.0, 2.0]), (4, vec![3.0])]);
    }

    #[test]
    fn the_charts_say_in_words_what_they_show() {
        let point = |requests, failed| Point {
            count: Count {
                requests,
                failed,
                ..Count::default()
            },
            p99: Some(0.025),
            ..Point::default()
        };
        let mut out = String::new();
        write(&mut out, &[point(100, 0), point(200, 20)]).unwrap();
        for said in [
            "aria-label=\"Success; clients: between 90 and 100 %; upstreams: nothing\"",
            "aria-label=\"Requests; all: between 10 and 20 /s; failed: between 0 and 2 /s\"",
            "<span class=\"key second\">99 of 100 25 ms</span>",
            "<polyline class=\"first\" points=\"28,0 29,40 \"/>",
        ] {
            assert!(out.contains(said), "{said} is not in {out}");
        }
        out.clear();
        write(&mut out, &[]).unwrap();
        assert!(out.contains("10 s after the start"));
    }
}
