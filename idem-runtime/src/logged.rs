//! For tests: what is written to the log.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};

use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing::{Dispatch, Level};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is logged on this thread, until it is dropped.
pub(crate) struct Log {
    lines: Lines,
    _kept: DefaultGuard,
}

impl Log {
    /// From this level on.
    pub(crate) fn keep(level: Level) -> Self {
        /// As long as there is one subscriber alone, whether it wants what a line logs is asked of the
        /// thread that comes to the line first: which may be another test's, that wants nothing.
        static OTHER: OnceLock<Dispatch> = OnceLock::new();
        OTHER.get_or_init(|| Dispatch::new(NoSubscriber::new()));
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(level)
            .with_writer(move || writer.clone())
            .finish();
        Self { lines, _kept: tracing::subscriber::set_default(subscriber) }
    }

    /// The lines that have this text.
    pub(crate) fn with(&self, text: &str) -> Vec<String> {
        let lines = String::from_utf8(self.lines.0.lock().unwrap().clone()).unwrap();
        lines.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

/// The lines that are logged meanwhile, from the level of information on.
pub(crate) fn logged(what: impl FnOnce()) -> Vec<String> {
    let log = Log::keep(Level::INFO);
    what();
    log.with("")
}
