//! The user that the server runs as: PostgreSQL refuses to run as root.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::{User, geteuid};

use crate::{Error, Lifetime, spawn};

/// Users to run the server as, the best first: the first belongs to PostgreSQL's package.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// The user to run the server as; `None` when it may run as the user of this process.
pub(super) fn server_user() -> Result<Option<User>, Error> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    CANDIDATES
        .into_iter()
        .find_map(|name| User::from_name(name).ok().flatten())
        .map(Some)
        .ok_or_else(|| {
            Error::new(
                "postgresql does not run as root, and there is neither a user `postgres` nor \
                 `nobody` to run it as: create one of them",
            )
        })
}

/// Creates the directory for the server's data, which the server insists on owning alone.
pub(super) fn create_data_dir(dir: &Path, user: Option<&User>) -> Result<PathBuf, Error> {
    let data = dir.join("postgres-data");
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&data)
        .and_then(|()| give(&data, user))
        .map_err(Error::io(format!("create {}", data.display())))?;
    if user.is_some() {
        check_reachable(&data, user)?;
    }
    Ok(data)
}

/// Makes `user` the owner of `path`.
pub(super) fn give(path: &Path, user: Option<&User>) -> std::io::Result<()> {
    match user {
        Some(user) => chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())),
        None => Ok(()),
    }
}

fn check_reachable(data: &Path, user: Option<&User>) -> Result<(), Error> {
    let mut command = spawn::command("test", Lifetime::WithParent, user);
    let status = command.arg("-w").arg(data).status();
    if status.map_err(Error::io("run setpriv"))?.success() {
        return Ok(());
    }
    Err(Error::new(format!(
        "the server's user cannot enter {}: use a directory below one that everybody may enter, and \
         set TMPDIR to such a one if the system's temporary directory is private",
        data.display()
    )))
}
