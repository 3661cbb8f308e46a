//! The one connection that writes, and the queue for it.

use std::sync::Arc;
use std::time::Duration;

use idem_runtime::{Error, ErrorKind, Result};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;

use crate::error::unreachable;
use crate::fault::Class;
use crate::guard::Guard;

/// A connection with the guard on it.
pub(crate) struct Writer {
    pub(crate) connection: SqliteConnection,
    pub(crate) guard: Arc<Guard>,
}

/// The place of the one writer: empty while it is away, before it is first needed, and after it was
/// closed because nobody could say what was left of its transaction.
pub(crate) type Place = OwnedMutexGuard<Option<Writer>>;

pub(crate) struct Writers {
    options: SqliteConnectOptions,
    /// Whether the file is put into WAL mode.
    wal: bool,
    /// How long to wait for one's turn.
    turn_within: Duration,
    /// Tokio's mutex is fair: lanes get their turns in order.
    place: Arc<Mutex<Option<Writer>>>,
}

impl Writers {
    pub(crate) fn new(options: SqliteConnectOptions, wal: bool, turn_within: Duration) -> Self {
        Self { options, wal, turn_within, place: Arc::default() }
    }

    pub(crate) fn turn_within(&self) -> Duration {
        self.turn_within
    }

    /// Waits for one's turn.
    pub(crate) async fn turn(&self) -> Result<(Writer, Place)> {
        let place = Arc::clone(&self.place).lock_owned();
        let mut place = tokio::time::timeout(self.turn_within, place).await.map_err(|_| {
            Error::new(
                ErrorKind::Transient,
                format!(
                    "another transaction of this process has held the database for {:?}: is a \
                     handler slow, or does it write to the same file by another way than the \
                     connection it is lent? (see `turn_timeout`)",
                    self.turn_within
                ),
            )
        })?;
        match place.take() {
            Some(writer) => Ok((writer, place)),
            None => Ok((self.connect().await?, place)),
        }
    }

    async fn connect(&self) -> Result<Writer> {
        let failed = |error| unreachable(self.options.get_filename(), error);
        let mut connection = self.options.connect().await.map_err(failed)?;
        if self.wal {
            self.use_wal(&mut connection).await?;
        }
        let guard = Guard::on(&mut connection).await.map_err(failed)?;
        Ok(Writer { connection, guard })
    }

    /// Once for a file; but the change needs the file for itself, and SQLite does not wait for it.
    async fn use_wal(&self, connection: &mut SqliteConnection) -> Result<()> {
        let deadline = Instant::now() + self.turn_within;
        loop {
            let mode = sqlx::query_scalar::<_, String>("pragma journal_mode = wal");
            match mode.fetch_one(&mut *connection).await {
                Ok(mode) if mode.eq_ignore_ascii_case("wal") => return Ok(()),
                Ok(mode) => {
                    return Err(Error::new(
                        ErrorKind::Config,
                        format!(
                            "the database {} cannot be put into WAL mode, it stays in `{mode}`: a \
                             database in memory cannot be shared (use `Sqlite::temporary()`), and \
                             on a network's file system call `.wal(false)` on the builder",
                            self.options.get_filename().display()
                        ),
                    ));
                }
                Err(error) => {
                    let busy = error.as_database_error().map(Class::of_error) == Some(Class::Busy);
                    if !busy || Instant::now() >= deadline {
                        return Err(unreachable(self.options.get_filename(), error));
                    }
                    // Another process holds the file, and SQLite has no way to be told when it is done.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    pub(crate) async fn close(&self) {
        let writer = self.place.lock().await.take();
        if let Some(writer) = writer {
            // Its end is its end, however it says so.
            let _ = writer.connection.close().await;
        }
    }
}
