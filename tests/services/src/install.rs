//! Installs what a fresh Debian machine lacks, if it may; else says what to install.
//!
//! Only missing packages are installed, and nothing that is there is upgraded or configured.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Command;

use nix::unistd::geteuid;

use crate::{Error, paths, tools};

/// Java releases that run the broker, the oldest first; a Debian release packages one or two.
const JAVA_PACKAGES: [&str; 3] =
    ["openjdk-17-jre-headless", "openjdk-21-jre-headless", "openjdk-25-jre-headless"];
const CLUSTER_CONFIG: &str = "/etc/postgresql-common/createcluster.conf";

/// Makes sure that Java, Maven and PostgreSQL's server are installed.
///
/// When some are missing, it installs them with `apt-get` if this process is root and has it.
///
/// # Errors
///
/// When something is missing and cannot be installed; the message names the packages.
pub fn ensure_installed() -> Result<(), Error> {
    let missing = || {
        let mut packages = Vec::new();
        if tools::java().is_err() {
            packages.push("java");
        }
        if tools::maven().is_err() {
            packages.push("maven");
        }
        if tools::postgres_bin().is_err() {
            packages.push("postgresql");
        }
        packages
    };
    ensure(missing)
}

/// Makes sure that a C and a C++ compiler and `make` are installed: rdkafka builds librdkafka, zlib
/// and zstd from source with them. It needs nothing else; zlib's headers are used if they are there.
///
/// # Errors
///
/// When something is missing and cannot be installed; the message names the package.
pub fn ensure_build_tools() -> Result<(), Error> {
    let missing = || {
        let wanted = ["cc", "c++", "make"];
        let complete = wanted.iter().all(|name| tools::program(name).is_some());
        if complete { vec![] } else { vec!["build-essential"] }
    };
    ensure(missing)
}

/// Makes sure that there is a Python that can make environments with packages of their own.
///
/// # Errors
///
/// When it is missing and cannot be installed; the message names the package.
pub fn ensure_python() -> Result<(), Error> {
    let missing = || {
        let mut python = Command::new("python3");
        // Debian has the second in a package of its own.
        python.args(["-c", "import venv, ensurepip"]);
        let works = python.output().is_ok_and(|output| output.status.success());
        if works { vec![] } else { vec!["python3-venv"] }
    };
    ensure(missing)
}

fn ensure(missing: impl Fn() -> Vec<&'static str>) -> Result<(), Error> {
    if missing().is_empty() {
        return Ok(());
    }
    // Somebody else may be installing the same; then there is nothing left to do after the wait.
    let _lock = paths::lock("install")?;
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    install(&packages)?;
    let still = missing();
    if still.is_empty() {
        Ok(())
    } else {
        Err(Error::new(format!(
            "apt-get installed {}, but {} still cannot be found",
            packages.join(" "),
            still.join(" ")
        )))
    }
}

fn install(packages: &[&'static str]) -> Result<(), Error> {
    if !geteuid().is_root() || tools::program("apt-get").is_none() {
        return Err(instructions(packages));
    }
    apt_get(&["update"])?;
    let packages: Vec<&str> = packages.iter().map(|name| package_for(name)).collect();
    if packages.contains(&"postgresql") {
        forbid_main_cluster()?;
    }
    apt_get(&[&["install", "-y", "--no-install-recommends"], packages.as_slice()].concat())
}

fn instructions(packages: &[&str]) -> Error {
    let names: Vec<&str> =
        packages.iter().map(|name| if *name == "java" { JAVA_PACKAGES[0] } else { name }).collect();
    Error::new(format!(
        "the tests need programs that are not installed; as root, run \
         `apt-get install --no-install-recommends {}` (or your system's equivalent)",
        names.join(" ")
    ))
}

/// The package to ask apt for: itself, except that `java` is the first that this system has.
fn package_for(name: &'static str) -> &'static str {
    if name != "java" {
        return name;
    }
    let exists = |package: &&str| {
        let mut show = Command::new("apt-cache");
        show.args(["show", "--quiet", package]);
        show.output().is_ok_and(|output| output.status.success())
    };
    let known = JAVA_PACKAGES.into_iter().find(exists);
    known.unwrap_or(JAVA_PACKAGES[0])
}

fn apt_get(arguments: &[&str]) -> Result<(), Error> {
    let shown = format!("apt-get {}", arguments.join(" "));
    // Its output is progress, not a result: keep it away from our standard output.
    let output = Command::new("apt-get")
        .args(["-q", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .map_err(Error::io(format!("run `{shown}`")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::new(format!("`{shown}` failed ({})", output.status))
        .with_details(&String::from_utf8_lossy(&output.stderr)))
}

/// Debian's package makes and starts a database server of its own unless told not to. A file that is
/// already there is somebody's decision and stays.
fn forbid_main_cluster() -> Result<(), Error> {
    let doing = || Error::io(format!("write {CLUSTER_CONFIG}"));
    if let Some(directory) = Path::new(CLUSTER_CONFIG).parent() {
        fs::create_dir_all(directory).map_err(doing())?;
    }
    match OpenOptions::new().write(true).create_new(true).open(CLUSTER_CONFIG) {
        Ok(mut file) => file.write_all(b"create_main_cluster = false\n").map_err(doing()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(doing()(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_name_packages_that_exist() {
        let text = instructions(&["java", "postgresql"]).to_string();
        assert!(text.contains("openjdk-17-jre-headless postgresql`"), "{text}");
    }
}
