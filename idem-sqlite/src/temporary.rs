//! A folder that is gone when it is dropped.

use std::path::{Path, PathBuf};

use idem_runtime::{Error, ErrorKind, Result};
use uuid::Uuid;

#[derive(Debug)]
pub(crate) struct Temporary(PathBuf);

impl Temporary {
    pub(crate) fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("idem-{}", Uuid::new_v4().simple()));
        std::fs::create_dir(&path).map_err(|error| {
            let message = format!("the temporary folder {} cannot be created", path.display());
            Error::new(ErrorKind::Connection, message).with_source(error)
        })?;
        Ok(Self(path))
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("idem.db")
    }

    #[cfg(test)]
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What the system does not let go now it removes from its temporary folder later.
        let _ = std::fs::remove_dir_all::<&Path>(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_goes_with_its_value() {
        let folder = Temporary::new().unwrap();
        let path = folder.path().to_owned();
        std::fs::write(folder.file(), "x").unwrap();
        drop(folder);
        assert!(!path.exists());
    }
}
