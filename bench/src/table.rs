//! The table: Markdown that is also legible as it is.

use crate::numbers::{short, thousands};
use crate::results::{Report, Row, Spread};
use crate::windows::Takeover;

const HEADINGS: [&str; 12] = [
    "contender",
    "events/s",
    "spread",
    "x hand-batch",
    "x check-do-mark",
    "CPU µs/event",
    "PostgreSQL CPU µs/event",
    "p50 ms",
    "p99 ms",
    "RSS MB",
    "table B/event",
    "WAL B/event",
];

const OF_TAKEOVERS: [&str; 6] =
    ["packed markers", "memory MB", "taken over", "loaded in ms", "first event after ms", "RSS MB"];

/// The table of a report.
pub(crate) fn render(report: &Report) -> String {
    let baselines = ["hand-batch", "check-do-mark"].map(|name| report.rate(name));
    let rows: Vec<_> = report.rows.iter().map(|row| cells(row, baselines)).collect();
    markdown(HEADINGS, &rows)
}

/// The table of lanes with large windows that were taken over.
pub(crate) fn of_takeovers(takeovers: &[Takeover]) -> String {
    let rows: Vec<_> = takeovers
        .iter()
        .map(|it| {
            [
                short(it.digests),
                format!("{:.0}", it.memory as f64 / 1e6),
                it.what.clone(),
                format!("{:.0}", it.loaded_ms),
                format!("{:.0}", it.first_ms),
                format!("{:.0}", it.peak_rss_bytes as f64 / 1e6),
            ]
        })
        .collect();
    markdown(OF_TAKEOVERS, &rows)
}

fn markdown<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = line(&headings.map(str::to_owned), widths);
    text.push('|');
    for (column, width) in widths.iter().enumerate() {
        // The first column to the left, numbers to the right.
        let (left, right) = if column == 0 { (":", "") } else { ("", ":") };
        text.push_str(&format!(" {left}{}{right} |", "-".repeat(width - 1)));
    }
    text.push('\n');
    rows.iter().for_each(|row| text.push_str(&line(row, widths)));
    text
}

fn cells(row: &Row, [by_hand, one_at_a_time]: [Option<f64>; 2]) -> [String; 12] {
    let rate = row.rate();
    let ratio = |to: Option<f64>| {
        let ratio = rate.zip(to).map(|(rate, to)| rate.median / to);
        ratio.map_or_else(dash, |ratio| format!("{ratio:.2}"))
    };
    let median =
        |spread: Option<Spread>| spread.map_or_else(dash, |spread| format!("{:.1}", spread.median));
    let whole =
        |spread: Option<Spread>| spread.map_or_else(dash, |spread| format!("{:.0}", spread.median));
    [
        if row.is_disturbed() { format!("{} (!)", row.name) } else { row.name.clone() },
        rate.map_or_else(dash, |rate| thousands(rate.median)),
        rate.map_or_else(dash, |it| format!("{}-{}", thousands(it.least), thousands(it.most))),
        ratio(by_hand),
        ratio(one_at_a_time),
        median(row.cpu()),
        median(row.postgres_cpu()),
        median(row.p50()),
        median(row.p99()),
        row.rss().map_or_else(dash, |rss| format!("{:.0}", rss.most)),
        whole(row.table_bytes()),
        whole(row.wal_bytes()),
    ]
}

fn line<const N: usize>(cells: &[String; N], widths: [usize; N]) -> String {
    let mut line = String::from("|");
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let padding = " ".repeat(width - cell.chars().count());
        line.push_str(&match column {
            0 => format!(" {cell}{padding} |"),
            _ => format!(" {padding}{cell} |"),
        });
    }
    line.push('\n');
    line
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_as_wide_as_the_heading() {
        let widths = HEADINGS.map(|heading| heading.chars().count());
        let heading = line(&HEADINGS.map(str::to_owned), widths);
        let empty = line(&HEADINGS.map(|_| dash()), widths);
        assert_eq!(heading.chars().count(), empty.chars().count());
    }
}
