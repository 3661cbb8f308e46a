//! Errors of idem from errors of sqlx.
//!
//! Messages say what was being done and what to do about it; the source says what happened. A
//! password is in neither.

use idem_runtime::{Error, ErrorKind};
use sqlx::error::DatabaseError;

use crate::fault::{Class, IN_FAILED_TRANSACTION};
use crate::schema::Schema;

/// A violation of the protocol, as a pooler calls a setting that it does not take; and much else.
fn is_refused_beginning(error: &dyn DatabaseError) -> bool {
    error.code().as_deref() == Some("08P01")
}

/// A statement of idem's own failed.
pub(crate) fn failed(doing: &str, error: sqlx::Error) -> Error {
    let (kind, message) = match &error {
        sqlx::Error::Database(database) => match Class::of_error(database.as_ref()) {
            Class::Transient => (ErrorKind::Transient, format!("{doing}: the database failed")),
            Class::Lost => lost(doing),
            Class::Cancelled => (
                ErrorKind::Transient,
                format!("{doing}: the statement was cancelled (see `statement_timeout`)"),
            ),
            Class::HandlerBroke => {
                return broke(database.code().as_deref()).context(doing).with_source(error);
            }
            Class::Missing => (
                ErrorKind::Migration,
                format!("{doing}: a table of idem is missing: call `store.migrate()`"),
            ),
            Class::Permission => {
                (ErrorKind::Config, format!("{doing}: the role lacks a right on idem's tables"))
            }
            Class::Credentials | Class::NoDatabase => {
                (ErrorKind::Connection, format!("{doing}: the database refused the connection"))
            }
            Class::Data | Class::Other => match database.constraint() {
                Some(name) => {
                    (ErrorKind::Store, format!("{doing}: the constraint `{name}` was violated"))
                }
                None => (ErrorKind::Store, format!("{doing}: the database refused the statement")),
            },
        },
        sqlx::Error::Io(_) => lost(doing),
        _ => (ErrorKind::Store, format!("{doing}: the driver failed")),
    };
    Error::new(kind, message).with_source(error)
}

fn lost(doing: &str) -> (ErrorKind, String) {
    (ErrorKind::Transient, format!("{doing}: the connection to the database was lost"))
}

/// The transaction is not the one that was begun, or is of no use any more.
pub(crate) fn broke(code: Option<&str>) -> Error {
    let message = match code {
        Some(IN_FAILED_TRANSACTION) => {
            "a SQL statement of the handler failed and the handler went on without returning the \
             error: the transaction is void; return the error, or put a savepoint around the \
             statement (`tx.begin()`)"
        }
        _ => {
            "the handler ended the transaction it was lent (COMMIT or ROLLBACK): remove the \
             statement; nothing of this attempt was kept beside its marker"
        }
    };
    Error::new(ErrorKind::HandlerBroke, message)
}

/// No connection could be had. `target` is `user@host:port/database`, and `busy` says why a pool has none.
/// `pooler`: whether the store was told that there is one.
pub(crate) fn unreachable(target: &str, pooler: bool, busy: &str, error: sqlx::Error) -> Error {
    let (kind, message) = match &error {
        sqlx::Error::Database(database) if is_refused_beginning(database.as_ref()) && !pooler => (
            ErrorKind::Connection,
            format!(
                "{target} refused how a session is begun: if it is PgBouncer, or its like, which takes \
                 no settings of a session, call `.pgbouncer(true)`"
            ),
        ),
        sqlx::Error::Database(database) => match Class::of_error(database.as_ref()) {
            Class::Credentials => (
                ErrorKind::Connection,
                format!(
                    "the database {target} refused the credentials: check the user, the password \
                     and the server's pg_hba.conf"
                ),
            ),
            Class::NoDatabase => (
                ErrorKind::Connection,
                format!("there is no database at {target}: create it, or correct its name"),
            ),
            Class::Permission => (
                ErrorKind::Connection,
                format!("the role may not connect to {target}: grant it `connect`"),
            ),
            Class::Transient | Class::Lost => (
                ErrorKind::Connection,
                format!("the database {target} takes no connection at the moment"),
            ),
            _ => (ErrorKind::Connection, format!("the database {target} refused the connection")),
        },
        sqlx::Error::Io(_) => (
            ErrorKind::Connection,
            format!("the database {target} cannot be reached: check host, port and that it runs"),
        ),
        sqlx::Error::Tls(_) => (
            ErrorKind::Connection,
            format!(
                "no TLS to {target}: check `sslmode`, the certificates, and that your `sqlx` has \
                 the feature `tls-rustls` or `tls-native-tls`"
            ),
        ),
        sqlx::Error::PoolTimedOut => (
            ErrorKind::Transient,
            format!("no connection to {target} in time: the database cannot be reached, or {busy}"),
        ),
        sqlx::Error::PoolClosed => (ErrorKind::Store, "the store was closed".to_owned()),
        sqlx::Error::Configuration(_) => {
            (ErrorKind::Config, format!("the settings of the connection to {target} are wrong"))
        }
        _ => (ErrorKind::Connection, format!("no connection to {target}")),
    };
    Error::new(kind, message).with_source(error)
}

/// The role lacks rights on a schema.
pub(crate) fn lacks_rights(schema: &Schema, what: &str) -> Error {
    let schema = schema.quoted();
    Error::new(
        ErrorKind::Config,
        format!(
            "the role lacks rights ({what}): as the owner of the schema, run `grant usage on \
             schema {schema} to ..; grant select, insert, update, delete on all tables in schema \
             {schema} to ..; grant execute on all functions in schema {schema} to ..;`"
        ),
    )
}
