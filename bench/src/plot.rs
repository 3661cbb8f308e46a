//! The plot: a bar for each row, events in a second on a scale of powers of ten, as SVG.

use std::fmt::Write as _;

use crate::catalog::Kind;
use crate::numbers::thousands;
use crate::results::{Report, Row};

const WIDTH: f64 = 900.0;
const LABELS: f64 = 210.0;
/// Room for the number behind the longest bar.
const NUMBERS: f64 = 110.0;
const TOP: f64 = 78.0;
const BOTTOM: f64 = 56.0;
const STEP: f64 = 28.0;
const BAR: f64 = 18.0;

/// The plot of a report.
pub(crate) fn render(report: &Report) -> String {
    let rows: Vec<(&Row, f64)> =
        report.rows.iter().filter_map(|row| Some((row, row.rate()?.median))).collect();
    let scale = Scale::of(rows.iter().map(|(_, rate)| *rate));
    let height = TOP + STEP * rows.len() as f64 + BOTTOM;
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="Helvetica, Arial, sans-serif" font-size="13">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="16" y="26" font-size="17" font-weight="bold" fill="#1a1a1a">Events per second, claim and one effect row each</text>
<text x="16" y="46" fill="#555555">median of {} round(s); every step to the right is ten times as much</text>
"##,
        report.rounds
    );
    axis(&mut svg, &scale, height);
    for (index, (row, rate)) in rows.iter().enumerate() {
        bar(&mut svg, &scale, TOP + STEP * index as f64, row, *rate);
    }
    legend(&mut svg, height - 16.0);
    svg.push_str("</svg>\n");
    svg
}

/// From a power of ten below everything to one above.
struct Scale {
    first: i32,
    last: i32,
}

impl Scale {
    fn of(rates: impl Iterator<Item = f64> + Clone) -> Self {
        let least = rates.clone().reduce(f64::min).unwrap_or(1.0).max(1.0);
        let most = rates.reduce(f64::max).unwrap_or(10.0).max(1.0);
        let first = least.log10().floor() as i32;
        Self { first, last: (most.log10().ceil() as i32).max(first + 1) }
    }

    fn x(&self, rate: f64) -> f64 {
        let share =
            (rate.max(1.0).log10() - f64::from(self.first)) / f64::from(self.last - self.first);
        LABELS + share.clamp(0.0, 1.0) * (WIDTH - LABELS - NUMBERS)
    }
}

// Writing to a string does not fail: the results of `write!` below hold nothing.

fn axis(svg: &mut String, scale: &Scale, height: f64) {
    let (from, to) = (TOP - 6.0, height - BOTTOM + 2.0);
    for power in scale.first..=scale.last {
        let rate = 10_f64.powi(power);
        let x = scale.x(rate);
        let _ = writeln!(
            svg,
            r##"<line x1="{x:.1}" y1="{from:.1}" x2="{x:.1}" y2="{to:.1}" stroke="#dddddd"/><text x="{x:.1}" y="{:.1}" text-anchor="middle" font-size="11" fill="#777777">{}</text>"##,
            from - 4.0,
            thousands(rate)
        );
    }
}

fn bar(svg: &mut String, scale: &Scale, y: f64, row: &Row, rate: f64) {
    let end = scale.x(rate);
    let middle = y + BAR / 2.0 + 4.5;
    let _ = writeln!(
        svg,
        r##"<text x="{:.1}" y="{middle:.1}" text-anchor="end" fill="#1a1a1a">{}</text><rect x="{LABELS:.1}" y="{y:.1}" width="{:.1}" height="{BAR}" fill="{}"/><text x="{:.1}" y="{middle:.1}" fill="#1a1a1a">{}</text>"##,
        LABELS - 10.0,
        row.name,
        (end - LABELS).max(1.0),
        color(row.kind),
        end + 7.0,
        thousands(rate)
    );
}

fn legend(svg: &mut String, y: f64) {
    let kinds =
        [(Kind::ByHand, "by hand"), (Kind::Idem, "idem"), (Kind::Limit, "one service alone")];
    for (x, (kind, text)) in [LABELS, LABELS + 110.0, LABELS + 200.0].into_iter().zip(kinds) {
        let _ = writeln!(
            svg,
            r##"<rect x="{x}" y="{:.1}" width="12" height="12" fill="{}"/><text x="{}" y="{y:.1}" fill="#555555">{text}</text>"##,
            y - 10.5,
            color(kind),
            x + 18.0
        );
    }
}

fn color(kind: Kind) -> &'static str {
    match kind {
        Kind::ByHand => "#9aa5b1",
        Kind::Idem => "#1f77b4",
        Kind::Limit => "#d9c89e",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_times_as_much_is_always_as_far() {
        let scale = Scale::of([1_800.0, 240_000.0].into_iter());
        assert_eq!((scale.first, scale.last), (3, 6));
        let step = scale.x(10_000.0) - scale.x(1_000.0);
        assert!((scale.x(100_000.0) - scale.x(10_000.0) - step).abs() < 1e-6);
        assert!(scale.x(1e6) <= WIDTH - NUMBERS + 1e-6);
    }

    #[test]
    fn a_scale_of_nothing_or_of_one_has_a_width() {
        for rates in [vec![], vec![10.0]] {
            let scale = Scale::of(rates.into_iter());
            assert!(scale.first < scale.last);
        }
    }
}
