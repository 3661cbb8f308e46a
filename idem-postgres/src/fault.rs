//! What a SQLSTATE means. Never what a message says, which is translated.

use std::error::Error as StdError;

use idem_runtime::store::Fault;
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// What the guard of open batches raises (migration 1).
const GUARD: &str = "IDEM1";
/// A statement after one that failed.
pub(crate) const IN_FAILED_TRANSACTION: &str = "25P02";

/// What kind of failure an error of the database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// It passes by itself.
    Transient,
    /// The connection is lost, or the server ended it.
    Lost,
    /// The data is not what the database takes, and will not be.
    Data,
    /// The statement took longer than it may, or was cancelled. Of idem's own statements it passes;
    /// of a handler's it is the handler's failure, which counts: a statement that is always too
    /// slow would otherwise be tried for ever.
    Cancelled,
    /// The transaction was ended, or goes on after a statement of it failed.
    HandlerBroke,
    /// A table, a column or the schema is not there.
    Missing,
    /// The role may not.
    Permission,
    /// The password or the role is wrong.
    Credentials,
    /// There is no such database.
    NoDatabase,
    /// Anything else.
    Other,
}

impl Class {
    /// The class of a SQLSTATE.
    pub(crate) fn of(code: &str) -> Self {
        match code {
            "57014" => Self::Cancelled,
            // Read-only (what follows a handler's COMMIT), no transaction, a failed one, the guard.
            "25006" | "25P01" | IN_FAILED_TRANSACTION | GUARD => Self::HandlerBroke,
            // No transaction may be ended here: a procedure with a COMMIT in it.
            _ if code.starts_with("2D") => Self::HandlerBroke,
            "42P01" | "42703" | "42883" | "42704" | "3F000" => Self::Missing,
            "42501" => Self::Permission,
            "3D000" => Self::NoDatabase,
            _ if code.starts_with("28") => Self::Credentials,
            // Lock not available.
            "55P03" => Self::Transient,
            // A transaction that was idle, or open, for too long is ended with its connection.
            "25P03" | "25P04" => Self::Lost,
            // Shut down, crashed, not yet up, idle too long. Not 57P04: the database was dropped.
            "57P01" | "57P02" | "57P03" | "57P05" => Self::Lost,
            _ if code.starts_with("08") => Self::Lost,
            // Rolled back (deadlock, serialization); out of resources.
            _ if ["40", "53"].iter().any(|class| code.starts_with(class)) => Self::Transient,
            // A foreign key: the parent may be on its way.
            "23503" => Self::Other,
            // A value or a constraint.
            _ if ["22", "23"].iter().any(|class| code.starts_with(class)) => Self::Data,
            _ => Self::Other,
        }
    }

    pub(crate) fn of_error(error: &dyn DatabaseError) -> Self {
        error.code().map_or(Self::Other, |code| Self::of(&code))
    }
}

/// Whether the connection is of no use after this error: it was lost, or the server ended it.
pub(crate) fn ends_connection(error: &sqlx::Error) -> bool {
    !error.as_database_error().is_some_and(leaves_connection)
}

fn leaves_connection(error: &(dyn DatabaseError + 'static)) -> bool {
    error
        .try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|it| !matches!(it.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

/// The kind of a handler's error: of the first error of the database among it and its sources.
pub(crate) fn fault(error: &(dyn StdError + 'static)) -> Fault {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(fault) = known(error) {
            return fault;
        }
        next = error.source();
    }
    Fault::Handler
}

fn known(error: &(dyn StdError + 'static)) -> Option<Fault> {
    if let Some(error) = error.downcast_ref::<sqlx::Error>() {
        return Some(match error {
            sqlx::Error::Database(error) => of_database(error.as_ref()),
            sqlx::Error::Io(_) => Fault::Lost,
            sqlx::Error::PoolTimedOut => Fault::Transient,
            _ => Fault::Handler,
        });
    }
    // Wrappers may hide the outermost error and show what is inside.
    if let Some(error) = error.downcast_ref::<Box<dyn DatabaseError>>() {
        return Some(of_database(error.as_ref()));
    }
    error.downcast_ref::<PgDatabaseError>().map(|error| of_database(error))
}

fn of_database(error: &dyn DatabaseError) -> Fault {
    match Class::of_error(error) {
        Class::Transient => Fault::Transient,
        Class::Lost => Fault::Lost,
        Class::Data => Fault::Permanent,
        Class::HandlerBroke => Fault::HandlerBroke,
        _ => Fault::Handler,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::io;

    use super::*;

    #[derive(Debug)]
    struct Wrapped(sqlx::Error);

    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("billing failed")
        }
    }

    impl StdError for Wrapped {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn classes_are_told_by_sqlstate() {
        for (code, class) in [
            ("40001", Class::Transient),
            ("40P01", Class::Transient),
            ("53300", Class::Transient),
            ("55P03", Class::Transient),
            ("57P01", Class::Lost),
            ("08006", Class::Lost),
            ("25P03", Class::Lost),
            ("57014", Class::Cancelled),
            ("25006", Class::HandlerBroke),
            ("25P02", Class::HandlerBroke),
            ("IDEM1", Class::HandlerBroke),
            ("2D000", Class::HandlerBroke),
            ("42P01", Class::Missing),
            ("42501", Class::Permission),
            ("28P01", Class::Credentials),
            ("3D000", Class::NoDatabase),
            ("23505", Class::Data),
            ("22P02", Class::Data),
            ("23503", Class::Other),
            ("57P04", Class::Other),
        ] {
            assert_eq!(Class::of(code), class, "{code}");
        }
    }

    #[test]
    fn a_lost_connection_is_found_below_a_handlers_own_error() {
        let error = Wrapped(sqlx::Error::Io(io::ErrorKind::BrokenPipe.into()));
        assert_eq!(fault(&error), Fault::Lost);
        assert_eq!(fault(&Wrapped(sqlx::Error::RowNotFound)), Fault::Handler);
    }

    #[test]
    fn an_io_error_of_something_else_is_the_handlers() {
        assert_eq!(fault(&io::Error::other("no such file")), Fault::Handler);
    }

    #[test]
    fn a_lost_connection_is_of_no_more_use() {
        assert!(ends_connection(&sqlx::Error::Io(io::ErrorKind::UnexpectedEof.into())));
    }
}
