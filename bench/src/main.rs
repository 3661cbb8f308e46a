//! The benchmark: idem beside what is written by hand and beside what the services can do at all, on
//! a genuine Kafka and a genuine PostgreSQL, on the same data, in one run.
//!
//! This process loads the topics, starts each contender in a process of its own, looks into the
//! database whether every effect is there once, and shows what came out. Not here: the services,
//! which `cargo xtask bench` starts. `LEDGER.md` says what is measured and what was found.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks")]

mod calm;
mod catalog;
mod child;
mod contenders;
mod data;
mod database;
mod gauge;
mod latency;
mod machine;
mod numbers;
mod options;
mod plot;
mod results;
mod run;
mod table;
mod targets;
mod task;
mod topic;
mod usage;
mod windows;

use std::path::PathBuf;
use std::process::ExitCode;

use idem::BoxError;
use idem_test_services::Endpoints;

use catalog::Contender;
use options::{Options, USAGE};
use results::Report;

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["contender", name] => contend(name).await,
        ["window"] => windows::work().await,
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(true)
        }
        _ => match Options::parse(&words) {
            Ok(options) => bench(&options).await,
            Err(message) => {
                say(&format!("error: {message}\n\n{USAGE}"));
                return ExitCode::from(2);
            }
        },
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Works as one of the contenders and prints what was measured.
async fn contend(name: &str) -> Result<bool, BoxError> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    tracing_subscriber::fmt()
        // A rewind is warned of; here it is asked for.
        .with_env_filter(
            filter.unwrap_or_else(|_| "warn,idem_runtime::pipeline::take=error".into()),
        )
        .with_ansi(false)
        // Standard output is for the result.
        .with_writer(std::io::stderr)
        .init();
    let contender = Contender::find(name).ok_or_else(|| format!("no contender `{name}`"))?;
    println!("{}", serde_json::to_string(&child::work(contender).await?)?);
    Ok(true)
}

/// Runs everything; answers whether every effect was there once.
async fn bench(options: &Options) -> Result<bool, BoxError> {
    let endpoints = Endpoints::discover()?;
    let report = run::run(options, &endpoints.kafka_bootstrap, &endpoints.database_url).await?;
    println!("\n{}\n", report.machine.describe());
    println!("{}", table::render(&report));
    if !report.takeovers.is_empty() {
        println!("{}", table::of_takeovers(&report.takeovers));
    }
    if report.rows.iter().any(results::Row::is_disturbed) {
        println!("(!) others used the machine in every round: worse than it is\n");
    }
    for line in targets::lines(&report) {
        println!("{line}");
    }
    write(&report, options)?;
    for wrong in &report.wrong {
        println!("{wrong}");
    }
    Ok(report.wrong.is_empty())
}

fn write(report: &Report, options: &Options) -> Result<(), BoxError> {
    let directory = match &options.out {
        Some(directory) => directory.clone(),
        None => target_directory()?.join("bench"),
    };
    std::fs::create_dir_all(&directory)?;
    let (json, svg) = (directory.join("latest.json"), directory.join("latest.svg"));
    std::fs::write(&json, serde_json::to_string_pretty(report)?)?;
    std::fs::write(&svg, plot::render(report))?;
    println!("\n{} and {}", json.display(), svg.display());
    Ok(())
}

/// Cargo's, two levels above this program.
fn target_directory() -> Result<PathBuf, BoxError> {
    let program = std::env::current_exe()?;
    Ok(program.ancestors().nth(2).ok_or("this program is in no target directory")?.to_owned())
}

/// A word about what is going on.
fn say(text: &str) {
    eprintln!("{text}");
}
