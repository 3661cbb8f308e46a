//! A genuine PostgreSQL server with a database of its own.

mod account;
mod cluster;
mod control;
mod probe;
mod snapshot;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::User;

use crate::server::Server;
use crate::{DetachedService, Error, Lifetime, ports, process, spawn, tools};

pub use snapshot::Snapshot;

/// A server starts in a second, and longer when it has much to recover.
const START_DEADLINE: Duration = Duration::from_secs(60);
const START_ATTEMPTS: usize = 5;

/// What every process of a server is called.
const PROGRAM: &str = "postgres";

/// What may differ from server to server.
#[derive(Clone, Debug, Default)]
pub struct PostgresOptions {
    /// How long it lives.
    pub lifetime: Lifetime,
    /// Settings of `postgresql.conf` that replace or add to those of the tests' server.
    pub settings: Vec<(String, String)>,
}

/// A running server, or a killed or stopped one that can be started again.
///
/// Dropping it stops it and deletes its data, unless it is detached; its log stays.
#[derive(Debug)]
pub struct Postgres {
    dir: PathBuf,
    data: PathBuf,
    bin: PathBuf,
    user: Option<User>,
    port: u16,
    password: String,
    options: PostgresOptions,
    server: Server,
}

impl Postgres {
    /// Makes a database in `dir`, which is created, starts a server on it and waits until it
    /// accepts connections.
    ///
    /// When this process is root, the server runs as another user, who must be able to enter `dir`:
    /// a directory of [`Scratch`](crate::Scratch) is one.
    ///
    /// # Errors
    ///
    /// When PostgreSQL is not installed, the server's user cannot enter `dir`, or the server does
    /// not start; with the end of its log.
    pub fn start(dir: &Path) -> Result<Self, Error> {
        Self::start_with(dir, PostgresOptions::default())
    }

    /// [`Postgres::start`] with options.
    ///
    /// # Errors
    ///
    /// Those of [`Postgres::start`].
    pub fn start_with(dir: &Path, options: PostgresOptions) -> Result<Self, Error> {
        let bin = tools::postgres_bin()?;
        let user = account::server_user()?;
        // The kernel shows the server's working directory without links: see `process::working_in`.
        let dir = fs::create_dir_all(dir)
            .and_then(|()| dir.canonicalize())
            .map_err(Error::io(format!("create {}", dir.display())))?;
        let data = account::create_data_dir(&dir, user.as_ref())?;
        let password = cluster::init(&dir, &data, &bin, user.as_ref())?;
        let mut attempt = 1;
        loop {
            let port = ports::free_port()?;
            let mut server = spawn_server(&dir, &data, &bin, user.as_ref(), port, &options)?;
            match wait_until_ready(&mut server, &data, port) {
                Ok(()) => {
                    return Ok(Self { dir, data, bin, user, port, password, options, server });
                }
                // Somebody took the port between our look and the server's bind.
                Err(_) if server.is_port_clash() && attempt < START_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The URL of the database, with a superuser and the right password; it stays the same for the
    /// server's life. Another password is refused, as in production.
    #[must_use]
    pub fn url(&self) -> String {
        let (user, database) = (cluster::SUPERUSER, cluster::DATABASE);
        let Self { password, port, .. } = self;
        format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}")
    }

    /// The pid of the postmaster, the server's first process; after [`Postgres::kill`] or
    /// [`Postgres::stop`], the one it had.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.process().pid()
    }

    /// Runs SQL with `psql`, as an operator would, and returns the rows: one a line, columns apart
    /// by `|`.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached or refuses the SQL; with what `psql` printed.
    pub fn psql(&self, sql: &str) -> Result<String, Error> {
        let output = Command::new(self.bin.join("psql"))
            .args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"])
            .args(["--set", "ON_ERROR_STOP=1", "--command", sql, &self.url()])
            .output()
            .map_err(Error::io("run psql"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
        }
        Err(Error::new(format!("psql failed ({})", output.status))
            .with_details(&String::from_utf8_lossy(&output.stderr)))
    }

    /// What is needed to find and stop the server without this handle.
    #[must_use]
    pub fn detached(&self) -> DetachedService {
        DetachedService {
            process: self.server.process(),
            address: self.url(),
            dir: self.dir.clone(),
        }
    }

    /// Spawns the server again on its data and port, and waits until it accepts connections.
    fn launch(&mut self) -> Result<(), Error> {
        let user = self.user.as_ref();
        let (dir, data, bin, port) = (&self.dir, &self.data, &self.bin, self.port);
        self.server = spawn_server(dir, data, bin, user, port, &self.options)?;
        wait_until_ready(&mut self.server, data, port)
    }
}

fn spawn_server(
    dir: &Path,
    data: &Path,
    bin: &Path,
    user: Option<&User>,
    port: u16,
    options: &PostgresOptions,
) -> Result<Server, Error> {
    let mut command = spawn::command(bin.join(PROGRAM), options.lifetime, user);
    command.arg("-D").arg(data);
    command.args(cluster::settings(port, &options.settings));
    Server::spawn("postgres", command, &dir.join("postgres.log"), &[])
}

fn wait_until_ready(server: &mut Server, data: &Path, port: u16) -> Result<(), Error> {
    let ready = server.wait_until_ready(START_DEADLINE, || probe::probe(port));
    if ready.is_err() {
        server.kill()?;
        process::kill_all_in(data, PROGRAM)?;
    }
    ready
}
