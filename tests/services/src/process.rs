//! Processes by pid, such that a recycled pid is never taken for the process that had it before.
//!
//! It reads `/proc` and sends signals; starting processes is the business of `spawn`.

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Error, wait_until};

/// A pid together with the moment its process started, which no later owner of the pid shares.
///
/// Its text form is `pid@start`, with the start in clock ticks since the machine booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessId {
    pid: u32,
    start: u64,
}

impl ProcessId {
    /// The process that has `pid` now, or `None` if there is none that still runs.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        stat.runs().then_some(Self { pid, start: stat.start })
    }

    /// The bare pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether this very process still runs; a paused one does, a zombie does not.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// Freezes the process and returns when every thread of it stands still: the kernel stops them
    /// one by one, and until then a thread may still answer a client.
    pub(crate) fn freeze(&self) -> Result<(), Error> {
        self.signal(Signal::SIGSTOP)?;
        let what = format!("process {} to stand still", self.pid);
        wait_until(&what, Duration::from_secs(20), || Ok(self.is_frozen().then_some(())))
    }

    fn is_frozen(&self) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.pid)) else {
            return true;
        };
        threads
            .filter_map(|thread| Stat::read_file(&thread.ok()?.path().join("stat")))
            .all(|stat| matches!(stat.state, 'T' | 't') || !stat.runs())
    }

    /// Sends a signal; one to a process that is gone is no error, because that race is always there.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Error> {
        if !self.is_alive() {
            return Ok(());
        }
        let pid = i32::try_from(self.pid)
            .map_err(|_| Error::new(format!("{} is no pid of this system", self.pid)))?;
        match kill(Pid::from_raw(pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => {
                Err(Error::new(format!("could not send {signal} to process {pid}: {errno}")))
            }
        }
    }

    pub(crate) fn wait_until_gone(&self, deadline: Duration) -> Result<(), Error> {
        wait_until(&format!("process {} to end", self.pid), deadline, || {
            Ok((!self.is_alive()).then_some(()))
        })
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.pid, self.start)
    }
}

impl FromStr for ProcessId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.split_once('@')
            .and_then(|(pid, start)| {
                Some(Self { pid: pid.parse().ok()?, start: start.parse().ok()? })
            })
            .ok_or_else(|| Error::new(format!("`{text}` is not a process of the form pid@start")))
    }
}

/// All running processes of `program` whose working directory is `directory` or below it.
///
/// That is how the processes of one PostgreSQL server are found: each of them stays in its data
/// directory, but each is a session of its own, so no process group holds them together, and after
/// the postmaster's death they have no parent in common either. A shell in that directory is none of
/// them.
pub(crate) fn working_in(directory: &Path, program: &str) -> Vec<ProcessId> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let is_one = |pid: u32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == program)
            && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(directory))
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| is_one(*pid))
        .filter_map(ProcessId::of)
        .collect()
}

/// Kills every process that [`working_in`] finds, and waits until they are gone.
pub(crate) fn kill_all_in(directory: &Path, program: &str) -> Result<(), Error> {
    let what = format!("the processes in {} to end", directory.display());
    wait_until(&what, Duration::from_secs(20), || {
        let left = working_in(directory, program);
        for process in &left {
            process.signal(Signal::SIGKILL)?;
        }
        Ok(left.is_empty().then_some(()))
    })
}

/// The two fields of a process's or a thread's `stat` in `/proc` that matter here.
struct Stat {
    state: char,
    start: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::read_file(Path::new(&format!("/proc/{pid}/stat")))
    }

    fn read_file(path: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(path).ok()?)
    }

    // The second field, the command in parentheses, may itself hold spaces and parentheses: the
    // last closing one ends it. Then field 3 is the state and field 22 the start.
    fn parse(stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        Some(Self { state: fields.next()?.chars().next()?, start: fields.nth(18)?.parse().ok()? })
    }

    fn runs(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn this_process() -> ProcessId {
        ProcessId::of(std::process::id()).unwrap()
    }

    #[test]
    fn a_process_is_found_again_from_its_text() {
        let process: ProcessId = this_process().to_string().parse().unwrap();
        assert!(process.is_alive());
        assert!("12".parse::<ProcessId>().is_err());
    }

    #[test]
    fn a_recycled_pid_is_not_the_process_that_had_it() {
        let before = ProcessId { start: this_process().start - 1, ..this_process() };
        assert!(!before.is_alive());
        before.signal(Signal::SIGKILL).unwrap();
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let process = ProcessId::of(child.id()).unwrap();
        process.signal(Signal::SIGKILL).unwrap();
        process.wait_until_gone(Duration::from_secs(10)).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_command_with_parentheses_does_not_shift_the_fields() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20";
        let stat = Stat::parse(&format!("5 (a) (b c)) {rest}")).unwrap();
        assert_eq!((stat.state, stat.start), ('S', 777));
    }
}
