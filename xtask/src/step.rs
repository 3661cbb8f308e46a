//! One step of a run: a heading, a command whose output is streamed as it is, and the time it took.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks")]

use std::env;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Instant;

use crate::interrupt::Interrupts;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    /// Never 0.
    Failure(u8),
}

impl Outcome {
    /// A program that a signal ended has 128 and the signal's number as its status, as in a shell.
    pub(crate) fn of_signal(signal: i32) -> Self {
        Self::Failure(u8::try_from(128 + signal).unwrap_or(1))
    }
}

impl Outcome {
    /// Of two commands: the first failure, if there is one.
    pub(crate) fn and(self, next: Self) -> Self {
        match self {
            Self::Success => next,
            Self::Failure(_) => self,
        }
    }
}

impl From<ExitStatus> for Outcome {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(0), _) => Self::Success,
            (Some(code), _) => Self::Failure(u8::try_from(code).unwrap_or(1)),
            (None, Some(signal)) => Self::of_signal(signal),
            (None, None) => Self::Failure(1),
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::SUCCESS,
            Outcome::Failure(code) => Self::from(code),
        }
    }
}

/// A message of this program.
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// A result that was asked for.
pub(crate) fn print(text: &str) {
    println!("{text}");
}

/// Cargo with these arguments, in the workspace's root.
pub(crate) fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    command.current_dir(package.parent().unwrap_or(package));
    command.args(arguments);
    command
}

/// Runs `command` under a heading.
///
/// # Errors
///
/// When the command cannot be started.
pub(crate) fn run(interrupts: &Interrupts, command: &mut Command) -> io::Result<Outcome> {
    let shown: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    let heading = format!("cargo {}", shown.join(" "));
    say(&format!("\n==> {heading}"));
    let started = Instant::now();
    let mut outcome = Outcome::from(interrupts.run(command)?);
    if let Some(signal) = interrupts.received() {
        outcome = Outcome::of_signal(signal);
    }
    let verdict = match outcome {
        Outcome::Success => "ok",
        Outcome::Failure(_) => "FAILED",
    };
    let seconds = started.elapsed().as_secs_f32();
    say(&format!("==> {heading}: {verdict} after {seconds:.1} s"));
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_passed_on_and_a_signal_is_never_success() {
        let outcome = |raw| Outcome::from(ExitStatus::from_raw(raw));
        assert_eq!(outcome(0), Outcome::Success);
        assert_eq!(outcome(101 << 8), Outcome::Failure(101));
        assert_eq!(outcome(15), Outcome::Failure(143));
    }

    #[test]
    fn of_two_commands_the_first_failure_counts() {
        let (good, bad, worse) = (Outcome::Success, Outcome::Failure(1), Outcome::Failure(2));
        assert_eq!(good.and(good), good);
        assert_eq!((bad.and(good), good.and(worse), bad.and(worse)), (bad, worse, bad));
    }
}
