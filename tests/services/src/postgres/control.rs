//! Stopping, killing, freezing and restarting a server, all of its processes included.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{PROGRAM, Postgres};
use crate::{Error, Lifetime, process};

const STOP_PATIENCE: Duration = Duration::from_secs(30);

impl Postgres {
    /// Kills every process of the server with SIGKILL, the postmaster first, and returns when all
    /// are gone. What was committed before is there after [`Postgres::restart`].
    ///
    /// # Errors
    ///
    /// When the system refuses a signal.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.server.kill()?;
        // Its other processes would notice by themselves, but only when they are idle next.
        process::kill_all_in(&self.data, PROGRAM)
    }

    /// Stops the server in order, disconnecting its clients ("fast"), by force when it takes too
    /// long.
    ///
    /// # Errors
    ///
    /// When the system refuses a signal.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.stop_with(Signal::SIGINT)
    }

    /// Starts the server again on its data and port, stopping it first if it runs.
    ///
    /// # Errors
    ///
    /// When it does not start again; with the end of its log.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.stop()?;
        self.launch()
    }

    /// Freezes every process of the server (SIGSTOP), and returns when all stand still: connections
    /// stay open and answer nothing.
    ///
    /// # Errors
    ///
    /// When the system refuses a signal.
    pub fn pause(&self) -> Result<(), Error> {
        // The postmaster first: then no new process can come. Each backend is a session of its own,
        // so a signal to the postmaster's group would miss them.
        self.server.process().freeze()?;
        for process in process::working_in(&self.data, PROGRAM) {
            process.freeze()?;
        }
        Ok(())
    }

    /// Lets a paused server go on.
    ///
    /// # Errors
    ///
    /// When the system refuses a signal.
    pub fn resume(&self) -> Result<(), Error> {
        for process in process::working_in(&self.data, PROGRAM) {
            process.signal(Signal::SIGCONT)?;
        }
        Ok(())
    }

    fn stop_with(&mut self, signal: Signal) -> Result<(), Error> {
        // A paused backend could not obey the postmaster.
        self.resume()?;
        self.server.stop(signal, STOP_PATIENCE)?;
        process::kill_all_in(&self.data, PROGRAM)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.options.lifetime == Lifetime::WithParent {
            // "Immediate": nobody will read the data, but its shared memory is given back.
            let _ = self.stop_with(Signal::SIGQUIT);
            let _ = fs::remove_dir_all(&self.data);
        }
    }
}
