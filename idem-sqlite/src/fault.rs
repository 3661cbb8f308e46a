//! What a result code means. Never what a message says.

use std::error::Error as StdError;

use idem_runtime::store::Fault;
use sqlx::error::DatabaseError;
use sqlx::sqlite::SqliteError;

/// What the commit hook's refusal is answered with: `SQLITE_CONSTRAINT_COMMITHOOK`.
const COMMIT_HOOK: i32 = 531;

/// What kind of failure an error of the database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Another connection holds the file. Nothing was changed by the statement.
    Busy,
    /// It passes by itself: an I/O error, a full disk, a schema that changed under a statement.
    Transient,
    /// The transaction was ended by somebody who may not.
    HandlerBroke,
    /// A constraint was violated.
    Constraint,
    /// The file cannot be opened.
    CannotOpen,
    /// The file cannot be written.
    ReadOnly,
    /// The file is not a database, or a broken one.
    NotADatabase,
    /// Anything else.
    Other,
}

impl Class {
    /// The class of an extended result code.
    pub(crate) fn of(code: i32) -> Self {
        match code {
            COMMIT_HOOK => Self::HandlerBroke,
            // The primary code is in the lowest byte.
            _ => match code & 0xff {
                5 | 6 => Self::Busy,
                7 | 10 | 13 | 17 => Self::Transient,
                8 => Self::ReadOnly,
                11 | 26 => Self::NotADatabase,
                14 => Self::CannotOpen,
                19 => Self::Constraint,
                _ => Self::Other,
            },
        }
    }

    pub(crate) fn of_error(error: &dyn DatabaseError) -> Self {
        error.code().and_then(|code| code.parse().ok()).map_or(Self::Other, Self::of)
    }
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
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => {
                Fault::Transient
            }
            _ => Fault::Handler,
        });
    }
    // Wrappers may hide the outermost error and show what is inside.
    if let Some(error) = error.downcast_ref::<Box<dyn DatabaseError>>() {
        return Some(of_database(error.as_ref()));
    }
    error.downcast_ref::<SqliteError>().map(|error| of_database(error))
}

fn of_database(error: &dyn DatabaseError) -> Fault {
    match Class::of_error(error) {
        Class::Busy | Class::Transient => Fault::Transient,
        Class::HandlerBroke => Fault::HandlerBroke,
        _ => Fault::Handler,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn classes_are_told_by_the_result_code() {
        for (code, class) in [
            (5, Class::Busy),
            (517, Class::Busy),
            (262, Class::Busy),
            (10, Class::Transient),
            (1290, Class::Transient),
            (13, Class::Transient),
            (531, Class::HandlerBroke),
            (19, Class::Constraint),
            (2067, Class::Constraint),
            (787, Class::Constraint),
            (14, Class::CannotOpen),
            (8, Class::ReadOnly),
            (26, Class::NotADatabase),
            (1, Class::Other),
        ] {
            assert_eq!(Class::of(code), class, "{code}");
        }
    }

    #[test]
    fn an_error_of_something_else_is_the_handlers() {
        assert_eq!(fault(&io::Error::other("no such file")), Fault::Handler);
        assert_eq!(fault(&sqlx::Error::RowNotFound), Fault::Handler);
        assert_eq!(fault(&sqlx::Error::WorkerCrashed), Fault::Transient);
    }
}
