//! A transaction: begun read-write, ended by idem alone, or its connection is closed.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use idem_runtime::{Error, ErrorKind, Result};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::{Query, QueryAs};
use sqlx::{Database, FromRow, Postgres, SqlStr};
use sqlx_core::transaction::TransactionManager;

use crate::answer::answer;
use crate::error::{broke, failed};
use crate::fault::ends_connection;

/// The driver's own count of what is open: through it a handler's `tx.begin()` is a savepoint, and
/// not a second BEGIN.
type Manager = <Postgres as Database>::TransactionManager;
type Asked<T> = sqlx::Result<T>;
type Rows<'q, R> = QueryAs<'q, Postgres, R, PgArguments>;

/// What rows are read as.
pub(crate) trait Row: for<'r> FromRow<'r, PgRow> + Send + Unpin {}

impl<R: for<'r> FromRow<'r, PgRow> + Send + Unpin> Row for R {}

/// How long a rollback may take before its connection is closed instead.
const ROLLBACK_WITHIN: Duration = Duration::from_secs(5);

/// A transaction of the store [`Postgres`](crate::Postgres), which a handler writes through.
///
/// Dropping it closes its connection, because a statement may still be running on it; the server
/// undoes the transaction then.
pub struct Tx {
    pub(crate) session: Session,
    /// What the first statement that guards it has seen, once there was one.
    pub(crate) batch: Option<Batch>,
    /// Whether the seal was the last statement.
    pub(crate) sealed: bool,
    pub(crate) is_serializable: bool,
}

/// Which transaction it is, and where its guard's rows are: one for each statement that guards it.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) xid: String,
    pub(crate) guards: Vec<String>,
}

impl Tx {
    pub(crate) fn new(session: Session, is_serializable: bool) -> Self {
        Self { session, batch: None, sealed: false, is_serializable }
    }

    /// The connection, for whatever may be written through it.
    pub(crate) fn lend(&mut self) -> &mut PgConnection {
        self.sealed = false;
        self.session.connection()
    }

    /// Notes a row of the guard. Of several the first says which transaction it is.
    pub(crate) fn guard(&mut self, xid: String, row: String) {
        let batch = self.batch.get_or_insert_with(|| Batch { xid, guards: Vec::new() });
        batch.guards.push(row);
    }

    /// For a statement of idem's own, after which what was sealed is not any more.
    pub(crate) fn session(&mut self) -> &mut Session {
        self.sealed = false;
        &mut self.session
    }

    /// Commits what was sealed.
    ///
    /// sqlx does not tell the answer COMMIT from the answer ROLLBACK, which is what the server says
    /// to a COMMIT of a transaction in which a statement failed. It cannot say it here: the seal
    /// was a statement that succeeded in the very transaction that the claim began, and nothing was
    /// sent after it.
    pub(crate) async fn commit(mut self) -> Result<()> {
        if !self.sealed || !self.session.is_level() {
            return Err(Error::new(
                ErrorKind::HandlerBroke,
                "the transaction was not sealed: nothing is kept",
            ));
        }
        self.session.commit().await.map_err(|error| {
            if ends_connection(&error) {
                let message = "commit: the connection was lost before the answer";
                return Error::new(ErrorKind::UnknownCommit, message).with_source(error);
            }
            failed("commit", error)
        })
    }

    /// Whether the connection was still good.
    pub(crate) async fn rollback(mut self) -> bool {
        self.session.rollback().await
    }
}

/// A connection that goes back to its pool only when nothing can be left of what was done with it.
pub(crate) struct Session {
    connection: PoolConnection<Postgres>,
    answer_within: Option<Duration>,
    /// Whether statements must not be prepared under a name.
    pooler: bool,
    /// Whether the connection goes back to the pool.
    keep: bool,
    lost: bool,
}

impl Session {
    pub(crate) fn new(
        connection: PoolConnection<Postgres>,
        answer_within: Option<Duration>,
        pooler: bool,
    ) -> Self {
        Self { connection, answer_within, pooler, keep: false, lost: false }
    }

    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Whether the server has a version that can do what idem asks of it.
    pub(crate) fn check_version(&self) -> Result<()> {
        match self.connection.server_version_num() {
            Some(version) if version < 130_000 => Err(Error::new(
                ErrorKind::Config,
                format!("idem needs PostgreSQL 13 or later, this server is {}", version / 10_000),
            )),
            _ => Ok(()),
        }
    }

    pub(crate) async fn begin(&mut self, statement: SqlStr) -> sqlx::Result<()> {
        let begun = Manager::begin(&mut self.connection, Some(statement));
        let begun = answer(self.answer_within, begun).await;
        self.note(begun)
    }

    /// Runs a statement without rows, and answers how many it touched.
    pub(crate) async fn execute(&mut self, query: Query<'_, Postgres, PgArguments>) -> Asked<u64> {
        let query = query.persistent(!self.pooler);
        let done = answer(self.answer_within, query.execute(&mut *self.connection)).await;
        self.note(done).map(|done| done.rows_affected())
    }

    /// Runs a statement with at most one row.
    pub(crate) async fn optional<R: Row>(&mut self, query: Rows<'_, R>) -> Asked<Option<R>> {
        let query = query.persistent(!self.pooler);
        let row = answer(self.answer_within, query.fetch_optional(&mut *self.connection)).await;
        self.note(row)
    }

    /// Runs a statement with any number of rows.
    pub(crate) async fn all<R: Row>(&mut self, query: Rows<'_, R>) -> Asked<Vec<R>> {
        let query = query.persistent(!self.pooler);
        let rows = answer(self.answer_within, query.fetch_all(&mut *self.connection)).await;
        self.note(rows)
    }

    /// Runs a statement with any number of rows, of which one at a time is kept. The time to wait for is
    /// that of all of them together.
    pub(crate) async fn each<R: Row>(
        &mut self,
        query: Rows<'_, R>,
        mut each: impl FnMut(R),
    ) -> Asked<()> {
        let query = query.persistent(!self.pooler);
        let connection = &mut *self.connection;
        let rows = async {
            let mut rows = query.fetch(connection);
            while let Some(row) = rows.try_next().await? {
                each(row);
            }
            Ok(())
        };
        let done = answer(self.answer_within, rows).await;
        self.note(done)
    }

    /// Runs several statements, which are part of this program.
    pub(crate) async fn script(&mut self, sql: SqlStr, within: Option<Duration>) -> Asked<()> {
        let done = answer(within, sqlx::raw_sql(sql).execute(&mut *self.connection)).await;
        self.note(done).map(drop)
    }

    /// Notes what an answer says about the connection.
    fn note<T>(&mut self, answer: sqlx::Result<T>) -> sqlx::Result<T> {
        if let Err(error) = &answer {
            self.lost |= ends_connection(error);
        }
        answer
    }

    /// Whether no savepoint was left open, and none closed that was not opened.
    pub(crate) fn is_level(&self) -> bool {
        Manager::get_transaction_depth(&self.connection) == 1
    }

    async fn commit(&mut self) -> sqlx::Result<()> {
        // Otherwise it would release a savepoint and call that a commit.
        if !self.is_level() {
            return Err(sqlx::Error::InvalidSavePointStatement);
        }
        let committed = answer(self.answer_within, Manager::commit(&mut self.connection)).await;
        self.keep = committed.is_ok();
        committed
    }

    /// Ends idem's own transaction, or the reading outside of one.
    pub(crate) async fn finish(mut self, doing: &str) -> Result<()> {
        if Manager::get_transaction_depth(&self.connection) == 0 {
            self.keep = true;
            return Ok(());
        }
        self.commit().await.map_err(|error| failed(doing, error))
    }

    /// Undoes the transaction, and answers whether the connection was still good. When it was not
    /// the connection is closed, which undoes it too.
    pub(crate) async fn rollback(&mut self) -> bool {
        /// For a transaction of which the driver has lost count. Its connection is not kept, but
        /// whether it answers is of interest.
        const ROLLBACK: SqlStr = SqlStr::from_static("rollback");
        if self.lost {
            return false;
        }
        if !self.is_level() {
            return self.script(ROLLBACK, Some(ROLLBACK_WITHIN)).await.is_ok();
        }
        let rollback = Manager::rollback(&mut self.connection);
        self.keep = answer(Some(ROLLBACK_WITHIN), rollback).await.is_ok();
        self.keep
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.keep {
            self.connection.close_on_drop();
        }
    }
}

/// The savepoints are not as they were lent.
pub(crate) fn unbalanced() -> Error {
    broke(None).with_source("a savepoint was left open, or the transaction was ended through sqlx")
}
