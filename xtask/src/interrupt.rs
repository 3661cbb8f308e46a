//! SIGINT and SIGTERM: passed on to the command that runs, and remembered, so that whatever was
//! started is stopped before this program ends.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The signals that came since the program started.
pub(crate) struct Interrupts {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    received: Option<i32>,
    group: Option<Pid>,
}

impl Interrupts {
    /// From now on, neither signal ends this program by itself.
    ///
    /// # Errors
    ///
    /// When the system refuses the handlers.
    pub(crate) fn install() -> io::Result<Self> {
        let state = Arc::new(Mutex::new(State::default()));
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for signal in signals.forever() {
                lock(&shared).receive(signal);
            }
        });
        Ok(Self { state })
    }

    /// The first signal that came, if one did.
    pub(crate) fn received(&self) -> Option<i32> {
        lock(&self.state).received
    }

    /// Runs `command` in a process group of its own, to which signals are passed on: cargo does not
    /// pass a signal on to the test it runs. A second signal kills the group.
    ///
    /// # Errors
    ///
    /// When the command cannot be started.
    pub(crate) fn run(&self, command: &mut Command) -> io::Result<ExitStatus> {
        let mut child = {
            // Locked, so that no signal falls between the start and the note of the group.
            let mut state = lock(&self.state);
            let child = command.process_group(0).spawn()?;
            state.group = i32::try_from(child.id()).ok().map(Pid::from_raw);
            child
        };
        let status = child.wait();
        lock(&self.state).group = None;
        status
    }
}

impl State {
    fn receive(&mut self, signal: i32) {
        let first = self.received.is_none();
        self.received.get_or_insert(signal);
        if let Some(group) = self.group {
            let passed_on = Signal::try_from(signal).ok().filter(|_| first);
            // The group may just have ended.
            let _ = killpg(group, passed_on.unwrap_or(Signal::SIGKILL));
        }
    }
}

// A poisoned lock only means that a thread panicked; the two fields are valid at any time.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
