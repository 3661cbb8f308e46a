//! Waiting for the server's answer.

use std::future::Future;
use std::io;
use std::time::Duration;

/// Waits for the server's answer, but not for ever: a network that swallows everything says
/// nothing.
pub(crate) async fn answer<T>(
    within: Option<Duration>,
    question: impl Future<Output = sqlx::Result<T>>,
) -> sqlx::Result<T> {
    let Some(within) = within else { return question.await };
    match tokio::time::timeout(within, question).await {
        Ok(answer) => answer,
        Err(_) => Err(no_answer()),
    }
}

pub(crate) fn no_answer() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))
}
