//! A consumer in a process of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::settings::{Settings, VARIABLE};

/// A consumer in a process of its own. Killed when dropped.
#[derive(Debug)]
pub struct ConsumerProcess {
    child: Child,
    log: PathBuf,
}

impl ConsumerProcess {
    /// Starts the program at `bin` with these settings; what it logs is in `dir`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(bin: &str, dir: &Path, settings: &Settings) -> Self {
        let log = dir.join(format!("consumer-{}.log", uuid::Uuid::new_v4().simple()));
        let output = File::create(&log).expect("a log file");
        let child = Command::new(bin)
            .env(VARIABLE, serde_json::to_string(settings).expect("settings are JSON"))
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "info".into()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .expect("the consumer starts");
        Self { child, log }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("a child can be waited for");
    }

    /// SIGTERM, and waits until it has left.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.child.wait().expect("a child can be waited for")
    }

    /// Waits until it has ended by itself, if it has.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// SIGSTOP: it stands still and does not know.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub fn wake(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Its resident memory in bytes.
    pub fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a process id"));
        let _ = kill(pid, signal);
    }
}

impl Drop for ConsumerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(60).collect();
            eprintln_lines(&self.log, tail.into_iter().rev());
        }
    }
}

#[expect(clippy::print_stderr, reason = "a failed test shows what its consumers logged")]
fn eprintln_lines<'a>(path: &Path, lines: impl Iterator<Item = &'a str>) {
    eprintln!("--- {}", path.display());
    for line in lines {
        eprintln!("{line}");
    }
}
