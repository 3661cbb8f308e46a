//! The command line: words in, a [`Command`] out.

/// What `cargo xtask help` prints.
pub(crate) const USAGE: &str = "\
usage: cargo xtask <command>

  test [-- ARGS]    run all tests against a real Kafka and a real PostgreSQL, which are started and
                    stopped, and those of the pipeline once more with packed markers; ARGS go to cargo
                    test, which is run once then. A service whose variable (KAFKA_BOOTSTRAP,
                    DATABASE_URL) is set, or that is up, is used as it is.
  lint              check format, lints, docs and, if cargo-deny is installed, dependencies
  ci                lint, then test
  bench [OPTIONS]   measure idem beside what is written by hand, on a Kafka and a PostgreSQL of its own:
                    --quick (a smoke run), --events N, --markers N, --rounds N, --latency SECONDS,
                    --wait SECONDS (for a calm machine), --only NAME,.., --out DIR,
                    --durable (commits wait for the disk)
  services up       keep Kafka and PostgreSQL running, so that plain `cargo test` works
  services status   print their addresses as NAME=VALUE lines
  services down     stop them and delete their data
  help              print this

Missing programs (Java, Maven, PostgreSQL) are installed with apt-get when run as root.";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    ServicesUp,
    ServicesDown,
    ServicesStatus,
    Lint,
    Test {
        /// Arguments for `cargo test`.
        extra: Vec<String>,
    },
    Ci,
    Bench {
        /// Arguments for the benchmark.
        options: Vec<String>,
    },
}

/// # Errors
///
/// A sentence about the first word that is not understood.
pub(crate) fn parse(arguments: &[String]) -> Result<Command, String> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["help" | "--help" | "-h"] => Ok(Command::Help),
        ["services", "up"] => Ok(Command::ServicesUp),
        ["services", "down"] => Ok(Command::ServicesDown),
        ["services", "status"] => Ok(Command::ServicesStatus),
        ["services", ..] => Err("`services` takes one of up, down, status".into()),
        ["lint"] => Ok(Command::Lint),
        ["ci"] => Ok(Command::Ci),
        ["test"] => Ok(Command::Test { extra: vec![] }),
        ["test", "--", extra @ ..] => {
            Ok(Command::Test { extra: extra.iter().map(ToString::to_string).collect() })
        }
        ["test", word, ..] => {
            Err(format!("`test` does not know `{word}`: arguments for cargo test come after `--`"))
        }
        ["bench", options @ ..] => {
            Ok(Command::Bench { options: options.iter().map(ToString::to_string).collect() })
        }
        ["lint" | "ci" | "help", word, ..] => Err(format!("unexpected argument `{word}`")),
        [word, ..] => Err(format!("no command is called `{word}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        let words: Vec<String> = line.split_whitespace().map(String::from).collect();
        parse(&words)
    }

    #[test]
    fn what_follows_the_dashes_goes_to_cargo_test() {
        let extra = vec!["-p".into(), "idem-test-services".into(), "--".into(), "one".into()];
        let line = "test -- -p idem-test-services -- one";
        assert_eq!(parsed(line), Ok(Command::Test { extra }));
    }

    #[test]
    fn an_unknown_word_is_named() {
        assert!(parsed("tset").unwrap_err().contains("`tset`"));
        assert!(parsed("test --release").unwrap_err().contains("after `--`"));
        assert!(parsed("services start").unwrap_err().contains("up, down"));
        assert!(parsed("ci fast").unwrap_err().contains("`fast`"));
    }
}
