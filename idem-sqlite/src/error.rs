//! Errors of idem from errors of sqlx.
//!
//! Messages say what was being done and what to do about it; the source says what happened.

use std::path::Path;

use idem_runtime::{Error, ErrorKind};

use crate::fault::Class;

/// What a statement is to be told cannot be written as JSON.
pub(crate) fn unwritable(doing: &str, error: serde_json::Error) -> Error {
    let message = format!("{doing}: what the statement needs cannot be written");
    Error::new(ErrorKind::Store, message).with_source(error)
}

/// What a column has cannot be read.
pub(crate) fn undecodable(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}

/// A statement of idem's own failed.
pub(crate) fn failed(doing: &str, error: sqlx::Error) -> Error {
    let (kind, message) = match &error {
        sqlx::Error::Database(database) => match Class::of_error(database.as_ref()) {
            Class::Busy => (
                ErrorKind::Transient,
                format!("{doing}: another process holds the file (see `busy_timeout`)"),
            ),
            Class::Transient => (ErrorKind::Transient, format!("{doing}: the database failed")),
            Class::HandlerBroke => return broke().context(doing).with_source(error),
            Class::Constraint | Class::Reference => {
                (ErrorKind::Store, format!("{doing}: a constraint was violated"))
            }
            Class::CannotOpen => {
                (ErrorKind::Connection, format!("{doing}: the file cannot be opened"))
            }
            Class::ReadOnly => (
                ErrorKind::Config,
                format!("{doing}: the file cannot be written: check its rights and its folder's"),
            ),
            Class::NotADatabase => {
                (ErrorKind::Store, format!("{doing}: the file is not a database, or broken"))
            }
            Class::Mismatch | Class::Other => (
                ErrorKind::Store,
                format!("{doing}: the database refused the statement (was it migrated?)"),
            ),
        },
        sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => {
            (ErrorKind::Transient, format!("{doing}: the connection to the database was lost"))
        }
        sqlx::Error::PoolTimedOut => (
            ErrorKind::Transient,
            format!("{doing}: no connection was free in time (see `max_readers`)"),
        ),
        sqlx::Error::PoolClosed => (ErrorKind::Store, format!("{doing}: the store was closed")),
        _ => (ErrorKind::Store, format!("{doing}: the driver failed")),
    };
    Error::new(kind, message).with_source(error)
}

/// The transaction is not the one that was begun.
pub(crate) fn broke() -> Error {
    Error::new(
        ErrorKind::HandlerBroke,
        "the handler ended the transaction it was lent (COMMIT or ROLLBACK): remove the statement; \
         nothing of this attempt was kept beside its marker",
    )
}

/// The file cannot be used.
pub(crate) fn unreachable(path: &Path, error: sqlx::Error) -> Error {
    let class = error.as_database_error().map(Class::of_error);
    let path = path.display();
    let (kind, message) = match class {
        Some(Class::CannotOpen) => (
            ErrorKind::Connection,
            format!(
                "the database {path} cannot be opened: check that its folder is there and may \
                     be written"
            ),
        ),
        Some(Class::NotADatabase) => {
            (ErrorKind::Connection, format!("{path} is not a SQLite database, or a broken one"))
        }
        Some(Class::ReadOnly) => (
            ErrorKind::Connection,
            format!("the database {path} cannot be written: check its rights and its folder's"),
        ),
        Some(Class::Busy) => (
            ErrorKind::Transient,
            format!("another process holds the database {path} (see `busy_timeout`)"),
        ),
        _ => (ErrorKind::Connection, format!("the database {path} cannot be opened")),
    };
    Error::new(kind, message).with_source(error)
}
