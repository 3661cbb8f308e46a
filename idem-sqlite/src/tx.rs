//! A transaction: begun immediately, ended by idem alone, or its connection is closed.

use std::time::Duration;

use idem_runtime::{Error, ErrorKind, Result};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Database, SqlSafeStr as _};
use sqlx_core::transaction::TransactionManager;
use tokio::time::Instant;

use crate::error::{broke, failed};
use crate::fault::Class;
use crate::writer::{Place, Writer, Writers};

/// The driver's own count of what is open: through it a handler's `tx.begin()` is a savepoint, and
/// not a second BEGIN.
type Manager = <sqlx::Sqlite as Database>::TransactionManager;

/// A transaction of the store [`Sqlite`](crate::Sqlite), which a handler writes through.
///
/// Dropping it closes its connection, because a statement may still be running on it; SQLite undoes
/// the transaction then.
pub struct Tx {
    // Before the place: the connection is closed before the next one gets its turn.
    writer: Writer,
    place: Place,
    /// How long a commit waits for readers of other processes.
    commit_within: Duration,
}

impl Tx {
    pub(crate) async fn begin(writers: &Writers) -> Result<Self> {
        let (writer, place) = writers.turn().await?;
        let mut tx = Self { writer, place, commit_within: writers.turn_within() };
        tx.writer.guard.close();
        let begin = "begin immediate".into_sql_str();
        match Manager::begin(&mut tx.writer.connection, Some(begin)).await {
            Ok(()) => Ok(tx),
            Err(error) => {
                // A file that is busy is no reason to open it again.
                if tx.depth() == 0 {
                    tx.put_back();
                }
                Err(failed("begin", error))
            }
        }
    }

    /// The connection, for idem's own statements.
    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.writer.connection
    }

    /// The connection, for whatever may be written through it.
    pub(crate) fn lend(&mut self) -> &mut SqliteConnection {
        self.writer.guard.forbid();
        &mut self.writer.connection
    }

    /// Whether it is still the transaction that was begun.
    ///
    /// # Errors
    /// [`ErrorKind::HandlerBroke`] when it was ended, or a savepoint was left open.
    pub(crate) fn check_whole(&self) -> Result<()> {
        if self.writer.guard.has_ended() {
            return Err(broke());
        }
        if self.depth() != 1 {
            let what = "a savepoint was left open, or the transaction was ended through sqlx";
            return Err(broke().with_source(what));
        }
        Ok(())
    }

    /// Waits for what was sent before, such as a statement whose future was dropped.
    pub(crate) async fn settle(&mut self) -> sqlx::Result<()> {
        self.writer.connection.ping().await
    }

    /// Lets it commit.
    pub(crate) fn allow_commit(&self) {
        self.writer.guard.open();
    }

    /// Commits a transaction of idem's own, in which no handler took part.
    pub(crate) async fn finish(self, doing: &str) -> Result<()> {
        self.allow_commit();
        self.commit().await.map_err(|error| error.context(doing))
    }

    /// Ends a transaction of idem's own with the answer of its statements.
    pub(crate) async fn end<T>(self, answer: sqlx::Result<T>, doing: &str) -> Result<T> {
        match answer {
            Ok(answer) => {
                self.finish(doing).await?;
                Ok(answer)
            }
            Err(error) => {
                self.rollback().await;
                Err(failed(doing, error))
            }
        }
    }

    /// Commits what was sealed.
    ///
    /// A COMMIT that finds the file busy left everything as it was, and is sent again. Any other
    /// failure than a constraint's comes from below SQLite: the pages may or may not be on the
    /// disk, which the next look at the file tells.
    pub(crate) async fn commit(mut self) -> Result<()> {
        if !self.writer.guard.is_open() || self.depth() != 1 {
            self.rollback().await;
            let message = "the transaction was not sealed: nothing is kept";
            return Err(Error::new(ErrorKind::HandlerBroke, message));
        }
        let deadline = Instant::now() + self.commit_within;
        let error = loop {
            match Manager::commit(&mut self.writer.connection).await {
                Ok(()) => {
                    self.writer.guard.forbid();
                    self.put_back();
                    return Ok(());
                }
                Err(error) if is_busy(&error) && Instant::now() < deadline => {
                    // Another process holds the file, and SQLite has no way to be told when it is done.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => break error,
            }
        };
        match error.as_database_error().map(Class::of_error) {
            Some(Class::Busy | Class::Constraint | Class::Reference | Class::HandlerBroke) => {
                self.rollback().await;
                Err(failed("commit", error))
            }
            _ => {
                let message = "commit: the database failed before it could answer";
                Err(Error::new(ErrorKind::UnknownCommit, message).with_source(error))
            }
        }
    }

    /// Undoes it, and answers whether the connection did what it was told. One of which nobody can
    /// say what is left is closed, which undoes it too.
    pub(crate) async fn rollback(mut self) -> bool {
        self.writer.guard.forbid();
        let answers = self.settle().await.is_ok();
        let whole = answers && self.check_whole().is_ok();
        let undone = whole && Manager::rollback(&mut self.writer.connection).await.is_ok();
        if undone {
            self.put_back();
            return true;
        }
        let Self { writer, place, .. } = self;
        // Its end is its end, however it says so.
        let _ = writer.connection.close().await;
        drop(place);
        // A transaction that the handler has ended is not the connection's fault.
        answers && !whole
    }

    fn depth(&self) -> usize {
        Manager::get_transaction_depth(&self.writer.connection)
    }

    fn put_back(self) {
        let Self { writer, mut place, .. } = self;
        *place = Some(writer);
    }
}

fn is_busy(error: &sqlx::Error) -> bool {
    error.as_database_error().map(Class::of_error) == Some(Class::Busy)
}
