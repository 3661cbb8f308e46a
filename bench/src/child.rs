//! A contender in a process of its own, so that its CPU time and memory are its own.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use idem::BoxError;
use tokio::process::{Child, Command};

use crate::catalog::Contender;
use crate::gauge::{Gauge, measure};
use crate::task::{Measured, Task, VARIABLE};

/// A contender that runs. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    name: &'static str,
    patience: Duration,
}

/// Starts a contender.
///
/// # Errors
/// When this program cannot be started again.
pub(crate) fn start(contender: &Contender, task: &Task) -> Result<Running, BoxError> {
    // The slowest one does a thousand a second on a machine that does nothing else.
    let patience = Duration::from_secs(60 + task.messages / 200);
    let child = Command::new(std::env::current_exe()?)
        .args(["contender", contender.name])
        .env(VARIABLE, serde_json::to_string(task)?)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    Ok(Running { child, name: contender.name, patience })
}

impl Running {
    /// Waits for its end and answers what it measured.
    ///
    /// # Errors
    /// When it fails, or takes far too long.
    pub(crate) async fn measured(self) -> Result<Measured, BoxError> {
        let Self { child, name, patience } = self;
        let output = tokio::time::timeout(patience, child.wait_with_output())
            .await
            .map_err(|_| format!("{name} has not handled everything after {patience:?}"))??;
        if !output.status.success() {
            return Err(format!("{name} failed ({})", output.status).into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// What a contender's process does: works until all is handled, and answers what was measured.
///
/// # Errors
/// When the contender fails.
pub(crate) async fn work(contender: &Contender) -> Result<Measured, BoxError> {
    let task: Task = serde_json::from_str(&std::env::var(VARIABLE)?)?;
    let gauge = Gauge::new(task.messages);
    let measuring = measure(Arc::clone(&gauge), &task);
    (contender.work)(task, gauge).await?;
    measuring.join().map_err(|_| "the gauge panicked".into())
}
