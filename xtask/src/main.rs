//! The project's own commands, run as `cargo xtask <command>`.
//!
//! It orchestrates: what a service is and how it is started is in `idem-test-services`, and what a
//! test checks is in the tests. Its own words go to standard error, so that standard output is what
//! cargo printed, or the lines that `services status` is asked for.

mod bench;
mod commands;
mod interrupt;
mod licences;
mod lint;
mod services;
mod step;
mod test;

use std::env;
use std::process::ExitCode;

use commands::Command;
use interrupt::Interrupts;
use step::Outcome;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let command = match commands::parse(&arguments) {
        Ok(command) => command,
        Err(message) => {
            step::say(&format!("error: {message}\n\n{}", commands::USAGE));
            return ExitCode::from(2);
        }
    };
    match run(command) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            step::say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<Outcome, Box<dyn std::error::Error>> {
    let interrupts = Interrupts::install()?;
    match command {
        Command::Help => {
            step::print(commands::USAGE);
            Ok(Outcome::Success)
        }
        Command::ServicesUp => services::up(),
        Command::ServicesDown => services::down(),
        Command::ServicesStatus => services::status(),
        Command::Lint => lint::run(&interrupts),
        Command::Bench { options } => bench::run(&interrupts, &options),
        Command::Test { extra } => test::run(&interrupts, &extra),
        // The tests last: the closing lines of cargo test are the closing lines of the run.
        Command::Ci => match lint::run(&interrupts)? {
            Outcome::Success => test::run(&interrupts, &[]),
            failure => Ok(failure),
        },
    }
}
