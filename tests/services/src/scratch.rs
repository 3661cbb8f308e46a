//! Directories for the files of test servers: below the system's temporary directory, not below the
//! checkout, because PostgreSQL runs as another user when the tests run as root, and that user may
//! not be able to enter the checkout.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Error, random};

const PREFIX: &str = "idem-test-";
/// A lock file younger than this may belong to a process that is about to lock it.
const SETTLED: Duration = Duration::from_secs(60);

/// A new directory that is removed when this is dropped, or, if the process was killed, when a later
/// process makes a `Scratch`. It is kept when it is dropped by a panic: the logs in it are wanted.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    lock_path: PathBuf,
    // Held, not read: the kernel releases it when this process ends, however it ends.
    _lock: File,
}

impl Scratch {
    /// Makes an empty directory with `name` in its name.
    ///
    /// # Errors
    ///
    /// When the temporary directory (`TMPDIR`) cannot be written to.
    pub fn new(name: &str) -> Result<Self, Error> {
        sweep();
        let (path, lock_path) = new_path(name)?;
        let lock = File::create(&lock_path)
            .and_then(|file| file.lock().map(|()| file))
            .map_err(Error::io(format!("lock {}", lock_path.display())))?;
        create(&path)?;
        Ok(Self { path, lock_path, _lock: lock })
    }

    /// Makes a directory that stays until it is removed by hand, for [`Lifetime::Detached`] servers.
    ///
    /// # Errors
    ///
    /// When the temporary directory (`TMPDIR`) cannot be written to.
    ///
    /// [`Lifetime::Detached`]: crate::Lifetime::Detached
    pub fn permanent(name: &str) -> Result<PathBuf, Error> {
        let (path, _) = new_path(name)?;
        create(&path)?;
        Ok(path)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Whoever reads the panic wants the logs next. Not `eprintln!`: that panics when standard
            // error is closed, and a second panic would abort.
            let kept = self.path.display();
            let _ = writeln!(io::stderr(), "the services' files are kept in {kept}");
        } else {
            let _ = fs::remove_dir_all(&self.path);
        }
        // A kept directory has no lock any more, so no sweep removes it.
        let _ = fs::remove_file(&self.lock_path);
    }
}

fn new_path(name: &str) -> Result<(PathBuf, PathBuf), Error> {
    let stem = format!("{PREFIX}{name}-{}", random::text(12)?);
    let base = std::env::temp_dir();
    Ok((base.join(&stem), base.join(format!("{stem}.lock"))))
}

// Others may enter, so that a server of another user reaches its own directory inside, but not look
// around.
fn create(path: &Path) -> Result<(), Error> {
    let doing =
        || format!("create {}: set TMPDIR to a directory that you may write to", path.display());
    DirBuilder::new().mode(0o711).create(path).map_err(Error::io(doing()))?;
    // Once more, because the process's umask may have taken bits away.
    fs::set_permissions(path, fs::Permissions::from_mode(0o711)).map_err(Error::io(doing()))
}

/// Removes what killed processes left behind. Nothing here may fail: others sweep at the same time.
fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for lock_path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = lock_path.file_name().and_then(|name| name.to_str());
        let Some(stem) = name.and_then(|name| name.strip_suffix(".lock")) else {
            continue;
        };
        if stem.starts_with(PREFIX) && is_abandoned(&lock_path) {
            let _ = fs::remove_dir_all(lock_path.with_file_name(stem));
            let _ = fs::remove_file(&lock_path);
        }
    }
}

fn is_abandoned(lock_path: &Path) -> bool {
    let age = fs::metadata(lock_path)
        .and_then(|metadata| metadata.modified())
        .ok()
        .and_then(|modified| modified.elapsed().ok());
    age.is_some_and(|age| age > SETTLED)
        && File::open(lock_path).is_ok_and(|file| file.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    /// Makes a lock look old enough for a sweep.
    fn age(lock_path: &Path) {
        let file = File::options().write(true).open(lock_path).unwrap();
        file.set_modified(SystemTime::now() - 2 * SETTLED).unwrap();
    }

    #[test]
    fn a_sweep_spares_the_living_and_removes_what_the_dead_left() {
        let living = Scratch::new("living").unwrap();
        age(&living.lock_path);
        let (dead, dead_lock) = new_path("dead").unwrap();
        File::create(&dead_lock).unwrap();
        create(&dead).unwrap();
        age(&dead_lock);

        sweep();

        assert!(living.path().exists());
        assert!(!dead.exists() && !dead_lock.exists());
    }

    #[test]
    fn a_dropped_directory_is_gone_with_its_lock() {
        let scratch = Scratch::new("dropped").unwrap();
        let (path, lock) = (scratch.path.clone(), scratch.lock_path.clone());
        fs::write(path.join("file"), "content").unwrap();
        drop(scratch);
        assert!(!path.exists() && !lock.exists());
    }
}
