//! What is aimed at, as ratios of numbers of one run. It judges nothing: a shared machine is noisy.

use crate::numbers::short;
use crate::results::{Report, Variant};
use crate::windows::Takeover;

/// The hand-written ways with a transaction for each event, whatever its effect is.
const PER_EVENT: [&str; 2] = ["tx-per-event", "tx-per-event-16"];

/// A line for each target whose rows were measured.
pub(crate) fn lines(report: &Report) -> Vec<String> {
    let rate = |name: &str| report.rate(name);
    let best = PER_EVENT.iter().filter_map(|name| rate(name)).reduce(f64::max);
    let mut lines: Vec<String> = [
        ratio("idem-plain to check, do, mark", rate("idem-plain"), rate("check-do-mark"), 8.0),
        ratio("idem-plain to the best transaction an event", rate("idem-plain"), best, 4.0),
        ratio("idem-plain to claim and effect fused", rate("idem-plain"), rate("tx-fused-16"), 4.0),
        ratio("idem-batch to hand-batch", rate("idem-batch"), rate("hand-batch"), 1.0),
        ratio("idem-batch to its statements alone", rate("idem-batch"), rate("bare-idem"), 0.7),
        ratio(
            "idem-batch-offset to hand-batch",
            rate("idem-batch-offset"),
            rate("hand-batch"),
            2.5,
        ),
    ]
    .into_iter()
    .chain(packed(report))
    .flatten()
    .collect();
    lines.extend(report.takeovers.iter().filter_map(loading));
    for row in report.rows.iter().filter(|row| row.name.starts_with("idem-")) {
        let name = &row.name;
        let this = rate(name);
        let variants = report.rows.iter().filter_map(|other| {
            let rest = other.name.strip_prefix(&format!("{name} "))?;
            Some((rest, rate(&other.name)))
        });
        for (variant, other) in variants {
            let wanted = if variant == Variant::Replay.name_of("").trim() { 2.0 } else { 0.9 };
            lines.extend(ratio(&format!("{name}, {variant} to first pass"), other, this, wanted));
        }
        if let Some(p99) = row.p99() {
            lines.push(at_most(&format!("{name}, p99 in ms"), p99.median, 50.0));
        }
        if let Some(rss) = row.rss() {
            lines.push(at_most(&format!("{name}, MB of memory"), rss.most, 100.0));
        }
    }
    lines
}

/// Packed markers beside the other forms.
fn packed(report: &Report) -> [Option<String>; 5] {
    let rate = |name: &str| report.rate(name);
    let bytes = |name: &str| Some(report.row(name)?.table_bytes()?.median);
    let (batch, plain) = ("idem-batch-packed", "idem-plain-packed");
    [
        ratio(&format!("{batch} to hand-batch"), rate(batch), rate("hand-batch"), 2.0),
        rate(batch).map(|it| at_least(&format!("{batch}, events a second"), it, 300_000.0)),
        ratio(
            &format!("{batch} to idem-batch-offset"),
            rate(batch),
            rate("idem-batch-offset"),
            0.85,
        ),
        ratio(&format!("{plain} to idem-plain"), rate(plain), rate("idem-plain"), 1.0),
        bytes(batch).map(|it| at_most(&format!("{batch}, bytes of tables a message"), it, 24.0)),
    ]
}

/// Ten million packed markers are to be loaded in two seconds, where there is memory for them.
fn loading(takeover: &Takeover) -> Option<String> {
    let Takeover { digests, memory, loaded_ms, what, .. } = takeover;
    let what = format!(
        "{} packed markers loaded into {:.0} MB ({what}), in ms",
        short(*digests),
        *memory as f64 / 1e6
    );
    (*digests == 10_000_000).then(|| at_most(&what, *loaded_ms, 2_000.0))
}

fn ratio(what: &str, this: Option<f64>, other: Option<f64>, wanted: f64) -> Option<String> {
    let ratio = this? / other?;
    let verdict = verdict(ratio >= wanted);
    Some(format!("{verdict} {what}: {ratio:.2} (at least {wanted})"))
}

fn at_least(what: &str, found: f64, wanted: f64) -> String {
    format!("{} {what}: {found:.0} (at least {wanted:.0})", verdict(found >= wanted))
}

fn at_most(what: &str, found: f64, wanted: f64) -> String {
    format!("{} {what}: {found:.1} (at most {wanted})", verdict(found <= wanted))
}

fn verdict(met: bool) -> &'static str {
    if met { "met   " } else { "missed" }
}
