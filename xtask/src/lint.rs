//! `cargo xtask lint`: everything that is checked without running the code.

use std::process::Stdio;

use idem_test_services::ensure_build_tools;

use crate::interrupt::Interrupts;
use crate::licences;
use crate::step::{self, Outcome};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const FORMAT: &[&str] = &["fmt", "--all", "--check"];
// Not `--all-features`: `kafka-ssl` needs OpenSSL's headers. The workspace as a whole turns every
// other feature on.
const CLIPPY: &[&str] = &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
const DOC: &[&str] = &["doc", "--workspace", "--no-deps"];
const DENY: &[&str] = &["deny", "check"];

/// Runs the checks until one fails.
pub(crate) fn run(interrupts: &Interrupts) -> Result<Outcome> {
    // Clippy builds librdkafka, too.
    ensure_build_tools()?;
    let mut checks = vec![FORMAT, CLIPPY, DOC];
    if has_cargo_deny() {
        checks.push(DENY);
    } else {
        step::say("\n==> SKIPPED: cargo deny check (cargo-deny is not installed)");
    }
    licences::check()?;
    for check in checks {
        let mut command = step::cargo(check.iter().copied());
        if check == DOC {
            command.env("RUSTDOCFLAGS", "--deny warnings");
        }
        let outcome = step::run(interrupts, &mut command)?;
        if outcome != Outcome::Success {
            return Ok(outcome);
        }
    }
    Ok(Outcome::Success)
}

fn has_cargo_deny() -> bool {
    let mut version = step::cargo(["deny", "--version"]);
    version.stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}
