//! What `cargo xtask services up` started, on disk, so that later commands and tests find it.
//!
//! A file of `key=value` lines; it holds the database's password, so only its owner may read it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::{Error, ProcessId, paths, process, server};

const PATIENCE: Duration = Duration::from_secs(15);

/// One server that runs without a handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachedService {
    /// The server, so that it can be told from a later process with the same pid.
    pub process: ProcessId,
    /// What a client needs: `host:port` of the broker, or the database's URL.
    pub address: String,
    /// Everything it wrote; [`DetachedService::stop_and_remove`] deletes it.
    pub dir: PathBuf,
}

/// The servers that run without a handle; `None` where none was started or it was stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The broker.
    pub kafka: Option<DetachedService>,
    /// The database.
    pub postgres: Option<DetachedService>,
}

impl State {
    /// Keeps other processes from starting or stopping detached services until the file is dropped.
    ///
    /// # Errors
    ///
    /// When the services' directory cannot be written to.
    pub fn lock() -> Result<File, Error> {
        paths::lock("state")
    }

    /// Reads the state; services that died since are still in it (see [`DetachedService::runs`]).
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is none that this code wrote.
    pub fn load() -> Result<Self, Error> {
        let path = file()?;
        let doing = format!("read {}", path.display());
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::io(doing)(error)),
        }
    }

    /// Writes the state.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn save(&self) -> Result<(), Error> {
        let path = file()?;
        let doing = || Error::io(format!("write {}", path.display()));
        // Another file and a rename: a reader sees the old state or the new one, never half of it.
        let new = path.with_extension("new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options
            .open(&new)
            .and_then(|mut file| file.write_all(self.to_text().as_bytes()))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(doing())
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        for (name, service) in [("kafka", &self.kafka), ("postgres", &self.postgres)] {
            if let Some(service) = service {
                text.push_str(&format!(
                    "{name}.process={}\n{name}.address={}\n{name}.dir={}\n",
                    service.process,
                    service.address,
                    service.dir.display()
                ));
            }
        }
        text
    }

    fn parse(text: &str) -> Result<Self, Error> {
        Ok(Self {
            kafka: DetachedService::parse(text, "kafka")?,
            postgres: DetachedService::parse(text, "postgres")?,
        })
    }
}

impl DetachedService {
    /// Whether it still runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.process.is_alive()
    }

    /// Stops it, by force if it does not stop by itself, and deletes its files.
    ///
    /// # Errors
    ///
    /// When a process of it cannot be stopped or a file not be deleted.
    pub fn stop_and_remove(&self) -> Result<(), Error> {
        // The files go away in a moment, so nothing is worth an orderly shutdown but the sockets of
        // clients and PostgreSQL's shared memory; SIGTERM would make it wait for its clients.
        let is_database = self.address.starts_with("postgres://");
        let signal = if is_database { Signal::SIGQUIT } else { Signal::SIGTERM };
        self.process.signal(signal)?;
        self.process.signal(Signal::SIGCONT)?;
        if self.process.wait_until_gone(PATIENCE).is_err() {
            self.process.signal(Signal::SIGKILL)?;
            self.process.wait_until_gone(server::KILL_DEADLINE)?;
        }
        if is_database {
            process::kill_all_in(&self.dir, "postgres")?;
        }
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io(format!("remove {}", self.dir.display()))(error))
            }
            _ => Ok(()),
        }
    }

    fn parse(text: &str, name: &str) -> Result<Option<Self>, Error> {
        let field = |field: &str| {
            let start = format!("{name}.{field}=");
            text.lines().find_map(|line| line.strip_prefix(&start))
        };
        match (field("process"), field("address"), field("dir")) {
            (Some(process), Some(address), Some(dir)) => Ok(Some(Self {
                process: process.parse()?,
                address: address.to_owned(),
                dir: dir.into(),
            })),
            (None, None, None) => Ok(None),
            _ => Err(Error::new(format!(
                "the state of {name} is incomplete: run `cargo xtask services down`"
            ))),
        }
    }
}

fn file() -> Result<PathBuf, Error> {
    Ok(paths::services_dir()?.join("state"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(address: &str) -> DetachedService {
        DetachedService {
            process: "7@1234".parse().unwrap(),
            address: address.to_owned(),
            dir: "/somewhere/else".into(),
        }
    }

    #[test]
    fn a_state_survives_its_text() {
        let state = State {
            kafka: Some(service("127.0.0.1:9092")),
            postgres: Some(service("postgres://idem:a=b@127.0.0.1:5432/postgres")),
        };
        assert_eq!(State::parse(&state.to_text()).unwrap(), state);
        let one = State { kafka: None, ..state };
        assert_eq!(State::parse(&one.to_text()).unwrap(), one);
    }

    #[test]
    fn half_a_state_is_an_error_that_says_what_to_do() {
        let error = State::parse("kafka.process=7@1234\n").unwrap_err();
        assert!(error.to_string().contains("services down"), "{error}");
    }
}
