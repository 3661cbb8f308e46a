//! Finds the programs that the services consist of. It installs nothing; `install` does.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::Error;

/// What Kafka 4 runs on.
const OLDEST_JAVA: u32 = 17;
/// Where Debian keeps server programs, which it leaves out of `PATH`.
const DEBIAN_POSTGRES: &str = "/usr/lib/postgresql";
const DEBIAN_JVMS: &str = "/usr/lib/jvm";

/// A Java that is new enough.
pub(crate) fn java() -> Result<PathBuf, Error> {
    // Asking a Java for its version costs as much as starting it, so an answer is kept.
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    if let Some(java) = FOUND.get() {
        return Ok(java.clone());
    }
    let home = env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    let installed = subdirectories(DEBIAN_JVMS).into_iter().map(|jvm| jvm.join("bin/java"));
    home.into_iter()
        .chain(program("java"))
        .chain(installed)
        .find(|java| java_version(java).is_some_and(|version| version >= OLDEST_JAVA))
        .map(|java| FOUND.get_or_init(|| java).clone())
        .ok_or_else(|| missing(&format!("Java {OLDEST_JAVA} or newer"), "openjdk-17-jre-headless"))
}

pub(crate) fn maven() -> Result<PathBuf, Error> {
    program("mvn").ok_or_else(|| missing("Maven (mvn)", "maven"))
}

/// The directory that holds `initdb`, `postgres` and `psql`, of the newest PostgreSQL if there are
/// several and none is on `PATH`.
pub(crate) fn postgres_bin() -> Result<PathBuf, Error> {
    // On PATH there may be links to single programs only, so look where they point.
    let on_path = program("initdb")
        .and_then(|initdb| initdb.canonicalize().ok()?.parent().map(Path::to_owned));
    let mut packaged = subdirectories(DEBIAN_POSTGRES);
    packaged.sort_by_key(|directory| {
        let version = directory.file_name().and_then(|name| name.to_str());
        version.and_then(|version| version.parse::<u32>().ok())
    });
    on_path
        .into_iter()
        .chain(packaged.into_iter().rev().map(|version| version.join("bin")))
        .find(|bin| ["initdb", "postgres", "psql"].iter().all(|name| bin.join(name).is_file()))
        .ok_or_else(|| missing("a PostgreSQL server (initdb, postgres, psql)", "postgresql"))
}

/// The first file of this name on `PATH`.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

fn missing(what: &str, package: &str) -> Error {
    Error::new(format!(
        "{what} is not installed: install it (Debian's package is {package}), or run \
         `cargo xtask test` as root, which does that"
    ))
}

fn subdirectories(path: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn java_version(java: &Path) -> Option<u32> {
    let output = Command::new(java).arg("-version").output().ok()?;
    parse_java_version(&String::from_utf8_lossy(&output.stderr))
}

/// The feature release in `openjdk version "17.0.15" 2025-04-15`; Java 8 calls itself 1.8.
fn parse_java_version(text: &str) -> Option<u32> {
    let version = text.split('"').nth(1)?;
    version.split(['.', '-', '+']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_versions_old_and_new_are_understood() {
        assert_eq!(parse_java_version("openjdk version \"17.0.15\" 2025"), Some(17));
        assert_eq!(parse_java_version("openjdk version \"25-ea\" 2025"), Some(25));
        assert_eq!(parse_java_version("java version \"1.8.0_292\""), Some(1));
        assert_eq!(parse_java_version("command not found"), None);
    }

    #[test]
    fn a_missing_program_is_reported_with_its_package() {
        assert!(program("no-such-program-at-all").is_none());
        let error = missing("Maven (mvn)", "maven").to_string();
        assert!(error.contains("Debian's package is maven"), "{error}");
    }
}
