//! Kafka's jars: resolved by Maven once, then shared by every broker and every process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, paths, tools};

const POM: &str = include_str!("../../kafka/pom.xml");
/// A registry has bad moments; a second attempt goes on where the first stopped.
const ATTEMPTS: usize = 2;

/// The directory of the jars, which are downloaded if this `pom.xml` never was resolved here.
pub(super) fn ensure() -> Result<PathBuf, Error> {
    let services = paths::services_dir()?;
    let libs = services.join(format!("kafka-libs-{:016x}", fingerprint(POM)));
    if libs.is_dir() {
        return Ok(libs);
    }
    let _lock = paths::lock("kafka-libs")?;
    // Whoever held the lock before may have been resolving the same.
    if !libs.is_dir() {
        // A directory that is there is complete: it gets its name only after Maven has finished.
        let partial = services.join("kafka-libs.partial");
        let _ = fs::remove_dir_all(&partial);
        resolve(&partial)?;
        fs::rename(partial.join("libs"), &libs)
            .map_err(Error::io(format!("create {}", libs.display())))?;
        let _ = fs::remove_dir_all(&partial);
    }
    Ok(libs)
}

fn resolve(partial: &Path) -> Result<(), Error> {
    let maven = tools::maven()?;
    let pom = partial.join("pom.xml");
    fs::create_dir_all(partial)
        .and_then(|()| fs::write(&pom, POM))
        .map_err(Error::io(format!("write {}", pom.display())))?;
    let mut attempt = 1;
    loop {
        let output = Command::new(&maven)
            .args(["-q", "-B", "-f"])
            .arg(&pom)
            .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
            .arg(format!("-DoutputDirectory={}", partial.join("libs").display()))
            .output()
            .map_err(Error::io("run mvn"))?;
        if output.status.success() {
            return Ok(());
        }
        if attempt == ATTEMPTS {
            let printed = String::from_utf8_lossy(&output.stdout);
            return Err(Error::new(format!(
                "maven could not download kafka ({}): check the network, and the mirror in \
                 ~/.m2/settings.xml if one is needed",
                output.status
            ))
            .with_details(&printed));
        }
        attempt += 1;
    }
}

/// FNV-1a: a name that changes with the file, the same in every build.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
