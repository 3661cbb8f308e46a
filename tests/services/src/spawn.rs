//! Starting server processes so that they live exactly as long as they should, as the right user.
//!
//! The work between `fork` and `exec` is done by `setpriv` and `setsid` of util-linux, which replace
//! themselves with the server (its pid is the child's pid): no unsafe code here.

use std::io;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::sync::{LazyLock, Mutex};
use std::thread;

use std::os::unix::process::CommandExt;

use nix::unistd::User;

use crate::Error;

/// How long a server may live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lifetime {
    /// Until its handle is dropped or this process ends, however it ends: the kernel kills the
    /// server when this process is killed.
    #[default]
    WithParent,
    /// Until somebody stops it: it survives its handle, this process and the terminal.
    Detached,
}

/// A command that runs `program` with this lifetime, as `user` if one is given.
pub(crate) fn command(
    program: impl AsRef<std::ffi::OsStr>,
    lifetime: Lifetime,
    user: Option<&User>,
) -> Command {
    let mut command;
    match lifetime {
        Lifetime::WithParent => {
            command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL"]);
            // A group of its own: Ctrl-C in a terminal reaches the test, which then stops its
            // servers in order, and not the servers themselves.
            command.process_group(0);
        }
        Lifetime::Detached => {
            command = Command::new("setsid");
            command.arg("setpriv");
        }
    }
    if let Some(user) = user {
        command.args(["--reuid", &user.uid.to_string()]);
        command.args(["--regid", &user.gid.to_string(), "--clear-groups"]);
        command.env("HOME", "/").env("USER", &user.name);
    }
    command.arg("--").arg(program);
    // Whatever directory the test is in, the server must not hold on to it, and the server's user
    // may not be allowed to enter it.
    command.current_dir("/");
    command
}

/// Spawns `command` from a thread that never ends.
///
/// The signal that [`Lifetime::WithParent`] asks the kernel for is sent when the *thread* ends that
/// spawned the server, not when its process does. A test runs in a thread of its own, so a server
/// that is shared between tests would die with the first of them.
pub(crate) fn spawn(command: Command) -> Result<Child, Error> {
    let what = format!("start {}", command.get_program().display());
    let (answer, child) = mpsc::channel();
    let lost = || Error::new(format!("could not {what}: the spawning thread is gone"));
    SPAWNER.lock().map_err(|_| lost())?.send((command, answer)).map_err(|_| lost())?;
    child.recv().map_err(|_| lost())?.map_err(Error::io(&what))
}

type Job = (Command, mpsc::Sender<io::Result<Child>>);

static SPAWNER: LazyLock<Mutex<mpsc::Sender<Job>>> = LazyLock::new(|| {
    let (jobs, inbox) = mpsc::channel::<Job>();
    // The sender is a static and never dropped, so the loop ends with the process.
    thread::spawn(move || {
        for (mut command, answer) in inbox {
            // Nobody may be waiting any more; the child then dies with this process.
            let _ = answer.send(command.spawn());
        }
    });
    Mutex::new(jobs)
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProcessId;
    use std::process::Stdio;

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let mut sleeper = command("sleep", Lifetime::WithParent, None);
        sleeper.arg("600").stdout(Stdio::null());
        let mut child = thread::spawn(move || spawn(sleeper)).join().unwrap().unwrap();
        // The kernel would have sent the signal before join returned.
        let process = ProcessId::of(child.id());
        assert!(process.is_some_and(|process| process.is_alive()));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_missing_program_is_an_exit_status_that_can_be_seen() {
        let missing = command("no-such-program-at-all", Lifetime::WithParent, None);
        assert!(!spawn(missing).unwrap().wait().unwrap().success());
    }
}
