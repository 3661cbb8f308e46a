//! Putting a server back into an earlier state: what a fail-over to a replica that lagged, or a
//! restored backup, looks like to its clients.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Postgres;
use crate::{Error, random};

/// A copy of a server's data, which is deleted when this is dropped.
#[derive(Debug)]
pub struct Snapshot {
    path: PathBuf,
}

impl Postgres {
    /// Stops the server, copies its data and starts it again on the same port.
    ///
    /// # Errors
    ///
    /// When the data cannot be copied or the server not be started again.
    pub fn snapshot(&mut self) -> Result<Snapshot, Error> {
        self.stop()?;
        let snapshot = self.copy_data()?;
        self.launch()?;
        Ok(snapshot)
    }

    /// Copies the data of the running server, whose connections stay open.
    ///
    /// The server is frozen for that moment, so the copy is what a kill at that moment would have
    /// left, and restoring it includes a crash recovery.
    ///
    /// # Errors
    ///
    /// When the server cannot be frozen or its data not be copied; it goes on in any case.
    pub fn snapshot_running(&self) -> Result<Snapshot, Error> {
        let snapshot = self.pause().and_then(|()| self.copy_data());
        self.resume()?;
        snapshot
    }

    /// Kills the server, puts the data of `snapshot` in the place of its own, and starts it again on
    /// the same port: what was committed since is lost. A snapshot may be restored several times.
    ///
    /// # Errors
    ///
    /// When the data cannot be replaced or the server not be started on it.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        self.kill()?;
        // The directory itself stays: PostgreSQL finds and frees the shared memory of the server
        // that was killed by the directory's inode.
        clear(&self.data).map_err(Error::io(format!("empty {}", self.data.display())))?;
        copy(&snapshot.path, &self.data)?;
        self.launch()
    }

    fn copy_data(&self) -> Result<Snapshot, Error> {
        let path = self.dir.join(format!("snapshot-{}", random::text(8)?));
        fs::create_dir(&path).map_err(Error::io(format!("create {}", path.display())))?;
        let snapshot = Snapshot { path };
        copy(&self.data, &snapshot.path)?;
        // Of a running server; a restored one must not believe that this process still runs.
        let _ = fs::remove_file(snapshot.path.join("postmaster.pid"));
        Ok(snapshot)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn clear(directory: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Copies what is in `from` into `to`, owners and modes included.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let output = Command::new("cp")
        .args(["-a", "--reflink=auto"])
        .arg(from.join("."))
        .arg(to)
        .output()
        .map_err(Error::io("run cp"))?;
    if output.status.success() {
        return Ok(());
    }
    let what = format!("could not copy {} to {}", from.display(), to.display());
    Err(Error::new(what).with_details(&String::from_utf8_lossy(&output.stderr)))
}
