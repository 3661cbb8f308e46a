//! What a result code means. Never what a message says.

use std::error::Error as StdError;

use idem_runtime::store::Fault;
use sqlx::error::DatabaseError;
use sqlx::sqlite::SqliteError;

/// What the commit hook's refusal is answered with: `SQLITE_CONSTRAINT_COMMITHOOK`.
const COMMIT_HOOK: i32 = 531;
/// `SQLITE_CONSTRAINT_FOREIGNKEY`.
const FOREIGN_KEY: i32 = 787;
/// `SQLITE_CONSTRAINT_TRIGGER`: what a trigger raises, and `on delete restrict`, which is one.
const TRIGGER: i32 = 1811;

/// What kind of failure an error of the database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Another connection holds the file. Nothing was changed by the statement.
    Busy,
    /// It passes by itself: an I/O error, a full disk, a schema that changed under a statement.
    Transient,
    /// The transaction was ended by somebody who may not.
    HandlerBroke,
    /// A constraint was violated that says what data may be.
    Constraint,
    /// A row is missing that another refers to, or is still referred to; or a trigger refused.
    /// Another row can cure it.
    Reference,
    /// A value is not of the type that its place asks for.
    Mismatch,
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
            FOREIGN_KEY | TRIGGER => Self::Reference,
            // The primary code is in the lowest byte.
            _ => match code & 0xff {
                5 | 6 => Self::Busy,
                7 | 10 | 13 | 17 => Self::Transient,
                8 => Self::ReadOnly,
                11 | 26 => Self::NotADatabase,
                14 => Self::CannotOpen,
                19 => Self::Constraint,
                20 => Self::Mismatch,
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
            sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => Fault::Lost,
            sqlx::Error::PoolTimedOut => Fault::Transient,
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
        Class::Constraint | Class::Mismatch => Fault::Permanent,
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
            (1299, Class::Constraint),
            (3091, Class::Constraint),
            (787, Class::Reference),
            (1811, Class::Reference),
            (20, Class::Mismatch),
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
    }

    #[test]
    fn a_lost_connection_is_told_from_one_that_was_not_free() {
        assert_eq!(fault(&sqlx::Error::WorkerCrashed), Fault::Lost);
        assert_eq!(fault(&sqlx::Error::Io(io::Error::other("gone"))), Fault::Lost);
        assert_eq!(fault(&sqlx::Error::PoolTimedOut), Fault::Transient);
    }
}
