//! One server process from spawn to reaping, whatever it serves.
//!
//! It knows no protocol: what "ready" means is a probe that the caller brings.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::logs::{self, Logs};
use crate::{Error, ProcessId, spawn, wait_until};

/// How long a killed process may take to be gone; it only has to be scheduled.
pub(crate) const KILL_DEADLINE: Duration = Duration::from_secs(20);

/// A spawned server. Dropping this does *not* stop it; `Kafka` and `Postgres` decide that.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    child: Child,
    process: ProcessId,
    logs: Logs,
}

impl Server {
    /// Spawns `command` with its output in `output`; `more_logs` are files that it writes itself.
    pub(crate) fn spawn(
        name: &'static str,
        mut command: Command,
        output: &Path,
        more_logs: &[PathBuf],
    ) -> Result<Self, Error> {
        let mut files = vec![output.to_owned()];
        files.extend_from_slice(more_logs);
        let logs = Logs::from_now_on(files);
        let (out, err) = logs::outputs(output)?;
        command.stdin(std::process::Stdio::null());
        command.stdout(out).stderr(err);
        let mut child = spawn::spawn(command)?;
        let Some(process) = ProcessId::of(child.id()) else {
            let _ = child.wait();
            return Err(Error::new(format!("{name} ended at once")).with_details(&logs.tail()));
        };
        let server = Self { name, child, process, logs };
        let pid_file = output.with_extension("pid");
        fs::write(&pid_file, format!("{process}\n"))
            .map_err(Error::io(format!("write {}", pid_file.display())))?;
        Ok(server)
    }

    pub(crate) fn process(&self) -> ProcessId {
        self.process
    }

    /// Waits until `probe` says that the server answers.
    ///
    /// # Errors
    ///
    /// When the server ends before that, or does not answer in time; with the end of its log.
    pub(crate) fn wait_until_ready(
        &mut self,
        deadline: Duration,
        mut probe: impl FnMut() -> io::Result<()>,
    ) -> Result<(), Error> {
        let what = format!("{} to answer", self.name);
        let mut last = None;
        let waited = wait_until(&what, deadline, || {
            // Ask, then look whether ours lives: another server's answer on our port is no answer.
            let answer = probe();
            let exit = self.child.try_wait();
            if let Some(status) = exit.map_err(Error::io(format!("wait for {}", self.name)))? {
                return Err(Error::new(format!("{} ended while starting ({status})", self.name)));
            }
            last = answer.as_ref().err().map(io::Error::to_string);
            Ok(answer.ok())
        });
        waited.map_err(|error| {
            let last = last.map_or_else(String::new, |last| format!("last answer: {last}\n"));
            error.with_details(&format!("{last}{}", self.logs.tail()))
        })
    }

    /// Whether the log of this life speaks of a port that is taken: try again with another.
    pub(crate) fn is_port_clash(&self) -> bool {
        self.logs.tail().contains("Address already in use")
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Error> {
        self.process.signal(signal)
    }

    /// Kills the process with SIGKILL and reaps it; one that is dead already is only reaped.
    pub(crate) fn kill(&mut self) -> Result<(), Error> {
        self.signal(Signal::SIGKILL)?;
        self.reap(KILL_DEADLINE)
    }

    /// Asks the process to end with `signal`, waits, and kills it if it does not end in time.
    ///
    /// A paused process is continued first: it could not hear the signal.
    pub(crate) fn stop(&mut self, signal: Signal, patience: Duration) -> Result<(), Error> {
        self.signal(signal)?;
        self.signal(Signal::SIGCONT)?;
        self.reap(patience).or_else(|_| self.kill())
    }

    fn reap(&mut self, deadline: Duration) -> Result<(), Error> {
        let name = self.name;
        wait_until(&format!("{name} to end"), deadline, || {
            let exit = self.child.try_wait();
            Ok(exit.map_err(Error::io(format!("wait for {name}")))?.map(|_status| ()))
        })
        .map_err(|error| error.with_details(&self.logs.tail()))
    }
}
