//! The command line: words in, [`Options`] out.

use std::path::PathBuf;
use std::time::Duration;

use crate::catalog::{ALL, Contender};

/// What is printed when the words are not understood.
pub(crate) const USAGE: &str = "\
usage: idem-bench [OPTIONS]

  --quick           a smoke run: little data, one round
  --events N        messages for the set-based contenders; others read a part (1000000)
  --markers N       measure marker tables with N rows in them, too (0: do not)
  --windows A,B     measure how lanes with so many packed markers are taken over: 10 is 10 million,
                    10k ten thousand (0: do not)
  --rounds N        how often everything is done; medians are shown (3)
  --latency N       seconds at 2000 events a second (10; 0: do not)
  --wait N          seconds to wait, before each measurement, until others leave the machine
                    alone (0)
  --only A,B        only these contenders
  --out DIR         where latest.json and latest.svg are written (bench in the target directory)

The services are named by KAFKA_BOOTSTRAP and DATABASE_URL, or are those that are up. Latency needs
a PostgreSQL with track_commit_timestamp = on; `cargo xtask bench` starts one.";

/// What to do.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) events: u64,
    pub(crate) markers: u64,
    /// How many packed markers the windows have.
    pub(crate) windows: Vec<u64>,
    pub(crate) rounds: usize,
    pub(crate) latency_seconds: u64,
    pub(crate) wait: Duration,
    pub(crate) contenders: Vec<&'static Contender>,
    pub(crate) out: Option<PathBuf>,
}

impl Options {
    fn full() -> Self {
        Self {
            events: 1_000_000,
            markers: 0,
            windows: Vec::new(),
            rounds: 3,
            latency_seconds: 10,
            wait: Duration::ZERO,
            contenders: ALL.iter().collect(),
            out: None,
        }
    }

    fn quick() -> Self {
        Self {
            events: 20_000,
            markers: 1_000,
            windows: vec![10_000],
            rounds: 1,
            latency_seconds: 1,
            ..Self::full()
        }
    }

    /// # Errors
    /// A sentence about the first word that is not understood.
    pub(crate) fn parse(words: &[String]) -> Result<Self, String> {
        let quick = words.iter().any(|word| word == "--quick");
        let mut options = if quick { Self::quick() } else { Self::full() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--quick" {
                continue;
            }
            let mut value = || words.next().ok_or_else(|| format!("`{word}` needs a value"));
            match word.as_str() {
                "--events" => options.events = number(word, value()?)?.max(1_000),
                "--markers" => options.markers = number(word, value()?)?,
                "--windows" => options.windows = windows(word, value()?)?,
                "--rounds" => {
                    let rounds = number(word, value()?)?.max(1);
                    options.rounds = usize::try_from(rounds).map_err(|it| it.to_string())?;
                }
                "--latency" => options.latency_seconds = number(word, value()?)?,
                "--wait" => options.wait = Duration::from_secs(number(word, value()?)?),
                "--only" => options.contenders = named(value()?)?,
                "--out" => options.out = Some(value()?.into()),
                _ => return Err(format!("`{word}` is not known")),
            }
        }
        Ok(options)
    }
}

fn number(word: &str, value: &str) -> Result<u64, String> {
    value.replace('_', "").parse().map_err(|_| format!("`{word}` needs a number, not `{value}`"))
}

/// Sizes of windows: in millions, or in thousands with a `k`.
fn windows(word: &str, list: &str) -> Result<Vec<u64>, String> {
    let size = |size: &str| match size.strip_suffix('k') {
        Some(thousands) => Ok(number(word, thousands)?.saturating_mul(1_000)),
        None => Ok(number(word, size)?.saturating_mul(1_000_000)),
    };
    let sizes: Result<Vec<u64>, String> = list.split(',').map(str::trim).map(size).collect();
    Ok(sizes?.into_iter().filter(|size| *size > 0).collect())
}

fn named(list: &str) -> Result<Vec<&'static Contender>, String> {
    let find = |name: &str| {
        Contender::find(name).ok_or_else(|| {
            let names: Vec<_> = ALL.iter().map(|it| it.name).collect();
            format!("no contender is called `{name}`; there are {}", names.join(", "))
        })
    };
    list.split(',').map(str::trim).map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, String> {
        let words: Vec<String> = line.split_whitespace().map(String::from).collect();
        Options::parse(&words)
    }

    #[test]
    fn what_is_said_beside_quick_wins_wherever_it_stands() {
        for line in ["--quick --events 3000", "--events 3_000 --quick"] {
            let options = parsed(line).unwrap();
            assert_eq!((options.events, options.rounds), (3_000, 1), "{line}");
        }
    }

    #[test]
    fn windows_are_given_in_millions_or_thousands() {
        let windows = |line: &str| parsed(line).unwrap().windows;
        assert_eq!(windows("--windows 1,10k"), [1_000_000, 10_000]);
        assert_eq!(windows("--quick --windows 0"), [0; 0]);
        assert!(parsed("--windows some").unwrap_err().contains("`some`"));
    }

    #[test]
    fn a_word_that_is_not_understood_is_named() {
        assert!(parsed("--event 3").unwrap_err().contains("`--event`"));
        assert!(parsed("--events").unwrap_err().contains("needs a value"));
        assert!(parsed("--rounds many").unwrap_err().contains("`many`"));
        let error = parsed("--only idem-plain,nobody").unwrap_err();
        assert!(error.contains("`nobody`") && error.contains("hand-batch"), "{error}");
    }
}
