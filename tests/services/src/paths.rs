//! Where the services keep what outlives one run: the broker's jars and the state of
//! `cargo xtask services up`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;

/// The directory of what outlives one run; it is created if it is missing.
///
/// `IDEM_SERVICES_CACHE` if that is set, else `services` in the workspace's target directory.
///
/// # Errors
///
/// When it cannot be created.
pub fn services_dir() -> Result<PathBuf, Error> {
    let path = match (set("IDEM_SERVICES_CACHE"), set("CARGO_TARGET_DIR")) {
        (Some(cache), _) => cache,
        // Cargo reads a relative one from where it was called, which is not where a test runs.
        (None, Some(target)) => workspace().join(target).join("services"),
        (None, None) => workspace().join("target/services"),
    };
    fs::create_dir_all(&path).map_err(Error::io(format!(
        "create {} (set IDEM_SERVICES_CACHE to a directory that you may write to)",
        path.display()
    )))?;
    Ok(path)
}

fn set(name: &str) -> Option<PathBuf> {
    let value = env::var_os(name)?;
    (!value.is_empty()).then(|| value.into())
}

/// The workspace's root, two levels above this package.
fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or_else(|| Path::new("."))
}

/// Holds the lock `name` until the file is dropped; other processes wait for it.
pub(crate) fn lock(name: &str) -> Result<fs::File, Error> {
    let path = services_dir()?.join(format!("{name}.lock"));
    fs::File::create(&path)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(Error::io(format!("lock {}", path.display())))
}
