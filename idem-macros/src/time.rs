//! Times as people write them: `"200ms"`, `"1.5s"`, `"10m"`, and `"200ms..30s"`.

use std::time::Duration;

use quote::ToTokens as _;
use syn::parse::ParseStream;
use syn::{Expr, ExprLit, Lit};

use crate::forms::{expr, literal, ungroup};

/// A length of time, longer than nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(Duration);

/// The units, each in nanoseconds, and what else people call them.
const UNITS: &[(&str, u64, &[&str])] = &[
    ("ms", 1_000_000, &["msec", "msecs", "millis", "millisecond", "milliseconds"]),
    ("s", 1_000_000_000, &["sec", "secs", "second", "seconds"]),
    ("m", 60_000_000_000, &["min", "mins", "minute", "minutes"]),
    ("h", 3_600_000_000_000, &["hr", "hrs", "hour", "hours"]),
    ("d", 86_400_000_000_000, &["day", "days"]),
];

/// A longer time is a slip: nobody waits so long for an event.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

const FORM: &str =
    "a time is a number and `ms`, `s`, `m`, `h` or `d`, such as \"200ms\" or \"1.5s\"";

/// Reads `"30s"`. A time of nothing is a mistake, for which `zero` is the advice.
pub(crate) fn time(input: ParseStream<'_>, zero: &str) -> syn::Result<Time> {
    text(input, FORM, |text| parse(text, FORM, zero))
}

/// Reads `"200ms..30s"`, or `"1s"` for a range of one time.
pub(crate) fn range(input: ParseStream<'_>, zero: &str) -> syn::Result<(Time, Time)> {
    const RANGE: &str = "pauses are the first and the longest, such as \"200ms..30s\", or one time, \
                         \"1s\", when all are the same";
    text(input, RANGE, |text| {
        let Some((first, longest)) = text.split_once("..") else {
            let time = parse(text, RANGE, zero)?;
            return Ok((time, time));
        };
        let (first, longest) = (first.trim(), longest.trim());
        let pauses = (parse(first, RANGE, zero)?, parse(longest, RANGE, zero)?);
        if pauses.0 > pauses.1 {
            return Err(format!(
                "the first pause is longer than the longest; did you mean \"{longest}..{first}\"?"
            ));
        }
        Ok(pauses)
    })
}

/// Reads a string literal.
fn text<T>(
    input: ParseStream<'_>,
    form: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> syn::Result<T> {
    let expr = expr(input, form)?;
    let wrong = |message| syn::Error::new_spanned(&expr, message);
    if let Some(text) = literal(&expr) {
        return parse(&text.value()).map_err(wrong);
    }
    // `30`, or `30s`, which is one token, or `200ms..30s`.
    match ungroup(&expr) {
        Expr::Lit(ExprLit { lit: Lit::Int(_) | Lit::Float(_), .. }) | Expr::Range(_) => {
            let text = expr.to_token_stream().to_string().replace(' ', "");
            let quoted = parse(&text).and_then(|_| Err(format!("write it in quotes: \"{text}\"")));
            quoted.map_err(wrong)
        }
        _ => Err(wrong(form.to_owned())),
    }
}

fn parse(text: &str, form: &str, zero: &str) -> Result<Time, String> {
    let unknown = || format!("\"{text}\" is not a time; {form}");
    let digits = text.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(unknown());
    }
    if unit.trim().is_empty() {
        return Err(format!("{number} of what? Write \"{number}s\" for seconds; {form}"));
    }
    let Some((_, nanos, _)) = UNITS.iter().find(|(name, ..)| *name == unit) else {
        let called = unit.trim().to_lowercase();
        let meant = UNITS.iter().find(|(name, _, others)| {
            *name == called || others.iter().any(|other| *other == called)
        });
        return Err(meant.map_or_else(unknown, |(name, ..)| {
            format!("\"{text}\" is not a time; did you mean \"{number}{name}\"?")
        }));
    };
    match exactly(whole, fraction, *nanos) {
        Some(Duration::ZERO) => Err(format!("\"{text}\" is no time at all; {zero}")),
        Some(time) if time <= LONGEST => Ok(Time(time)),
        _ => Err(format!("\"{text}\" is too long; a time is at most a year, \"365d\"")),
    }
}

/// The time to the nanosecond; `None` when it cannot be counted.
fn exactly(whole: &str, fraction: &str, unit: u64) -> Option<Duration> {
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    let mut tenth = unit / 10;
    let mut part = 0;
    for digit in fraction.bytes() {
        part += u64::from(digit - b'0') * tenth;
        tenth /= 10;
    }
    whole.checked_add(part).map(Duration::from_nanos)
}

impl Time {
    /// The largest unit of `Duration` that says the time exactly, and how many of it.
    pub(crate) fn in_largest_unit(self) -> (&'static str, u64) {
        let (seconds, nanos) = (self.0.as_secs(), u64::from(self.0.subsec_nanos()));
        match nanos {
            0 => ("from_secs", seconds),
            _ if nanos % 1_000_000 == 0 => ("from_millis", seconds * 1_000 + nanos / 1_000_000),
            _ if nanos % 1_000 == 0 => ("from_micros", seconds * 1_000_000 + nanos / 1_000),
            _ => ("from_nanos", seconds * 1_000_000_000 + nanos),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> Duration {
        parse(text, FORM, "").expect(text).0
    }

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        for (text, millis_) in [
            ("200ms", 200),
            ("30s", 30_000),
            ("1.5s", 1_500),
            ("10m", 600_000),
            ("0.25h", 900_000),
            ("7d", 604_800_000),
            ("8760h", 31_536_000_000),
        ] {
            assert_eq!(millis(text), Duration::from_millis(millis_), "{text}");
        }
        assert_eq!(millis("0.5ms"), Duration::from_micros(500));
    }

    #[test]
    fn what_is_no_time_is_said_with_the_fix() {
        for (text, part) in [
            ("", "is not a time"),
            ("s", "is not a time"),
            ("30", "\"30s\" for seconds"),
            ("30 s", "did you mean \"30s\"?"),
            ("5 Minutes", "did you mean \"5m\"?"),
            ("1w", "`ms`, `s`, `m`, `h` or `d`"),
            ("7 days", "did you mean \"7d\"?"),
            ("-1s", "is not a time"),
            (".5s", "is not a time"),
            ("1.s", "is not a time"),
            ("1.2.3s", "is not a time"),
            ("0s", "no time at all"),
            ("0.0ms", "no time at all"),
            ("366d", "too long"),
            ("99999999999999999999h", "too long"),
            ("999999999999999999ms", "too long"),
        ] {
            let error = parse(text, FORM, "").expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_time_is_written_in_its_largest_unit() {
        for (text, written) in [
            ("2m", ("from_secs", 120)),
            ("1500ms", ("from_millis", 1_500)),
            ("0.5ms", ("from_micros", 500)),
            ("0.0005ms", ("from_nanos", 500)),
        ] {
            assert_eq!(parse(text, FORM, "").expect(text).in_largest_unit(), written, "{text}");
        }
    }
}
