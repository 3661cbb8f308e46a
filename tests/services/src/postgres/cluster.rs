//! A database cluster and its settings.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::unistd::User;

use super::account;
use crate::{Error, Lifetime, random, spawn};

pub(super) const SUPERUSER: &str = "idem";
pub(super) const DATABASE: &str = "postgres";

/// Initializes `data` and returns the superuser's password.
pub(super) fn init(
    dir: &Path,
    data: &Path,
    bin: &Path,
    user: Option<&User>,
) -> Result<String, Error> {
    let password = random::text(24)?;
    let password_file = dir.join("postgres-password");
    let mut options = fs::OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&password_file)
        .and_then(|mut file| file.write_all(password.as_bytes()))
        .and_then(|()| account::give(&password_file, user))
        .map_err(Error::io(format!("write {}", password_file.display())))?;

    let mut command = spawn::command(bin.join("initdb"), Lifetime::WithParent, user);
    command.arg("-D").arg(data).arg("--pwfile").arg(&password_file);
    command.args(["--username", SUPERUSER, "--auth", "scram-sha-256"]);
    // The same order of text on every machine; no sync, because nothing here survives the machine.
    command.args(["--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"]);
    let output = command.output().map_err(Error::io("run initdb"));
    let _ = fs::remove_file(&password_file);
    let output = output?;
    if output.status.success() {
        return Ok(password);
    }
    Err(Error::new(format!("initdb failed ({})", output.status))
        .with_details(&String::from_utf8_lossy(&output.stderr)))
}

/// The settings as arguments of the server; `overrides` come last and win.
pub(super) fn settings(port: u16, overrides: &[(String, String)]) -> Vec<String> {
    let port = port.to_string();
    let own = [
        // TCP only: a socket's path would have to be short and writable for the server's user.
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("port", &port),
        // What a killed server has written is in the kernel's memory and survives it. Only a crash
        // of the machine would lose it, and no test crashes the machine.
        ("fsync", "off"),
        // Many tests at once.
        ("max_connections", "200"),
        // Two-phase commit is off by default, and idem does not need it.
        ("max_prepared_transactions", "0"),
        // Inside the data directory, so that a killed server leaves nothing behind elsewhere.
        ("dynamic_shared_memory_type", "mmap"),
        // To standard error, which goes to the file of the log.
        ("logging_collector", "off"),
        ("log_line_prefix", "%m [%p] %q%u@%d %a "),
        ("lc_messages", "C"),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
    ];
    let own = own.iter().map(|(name, value)| (*name, *value));
    let overrides = overrides.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    own.chain(overrides)
        .flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")])
        .collect()
}
