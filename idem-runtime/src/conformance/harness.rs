//! What the suite needs to know of a store: how to get one, and how to write through it.

use std::future::Future;

use crate::failure::Failure;
use crate::store::Store;

/// The connection that the harness's store lends.
pub type ConnectionOf<H> = <<H as Harness>::Store as Store>::Connection;

/// A way to run the suite against a store: one value is one store with a schema of its own.
///
/// A harness panics when something it needs fails; that is a test's failure too.
pub trait Harness: Sized + Send + Sync + 'static {
    /// The store.
    type Store: Store;

    /// Whether the database has one writer at a time, so that a second transaction waits when it
    /// begins, and not when it claims a key that is held.
    const ONE_WRITER: bool = false;

    /// A store whose tables are not there yet, with an empty table for effects beside them.
    fn unmigrated() -> impl Future<Output = Self> + Send;

    /// Creates the store's tables. The suite calls it a second time, which changes nothing.
    fn migrate(&self) -> impl Future<Output = ()> + Send;

    /// An empty store that is ready for use.
    fn start() -> impl Future<Output = Self> + Send {
        async {
            let harness = Self::unmigrated().await;
            harness.migrate().await;
            harness
        }
    }

    /// Takes away what [`unmigrated`](Self::unmigrated) made. Not called after a failed case.
    fn stop(self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The store.
    fn store(&self) -> &Self::Store;

    /// The same database through a store of its own, as a process has it that starts later.
    fn reopened(&self) -> impl Future<Output = Self::Store> + Send {
        async { self.store().clone() }
    }

    /// Writes an effect through the connection of a transaction.
    ///
    /// # Errors
    /// What the database answered.
    fn write(
        connection: &mut ConnectionOf<Self>,
        effect: &str,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// The committed effects, in any order, read outside any transaction.
    fn effects(&self) -> impl Future<Output = Vec<String>> + Send;

    /// Does what a handler should not, and swallows the database's answer. Answers `false` when
    /// this database knows no such thing; the case is skipped then.
    fn misbehave(
        connection: &mut ConnectionOf<Self>,
        how: Misbehaviour,
    ) -> impl Future<Output = bool> + Send;
}

/// What a handler should not do with the connection it is lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// `COMMIT`.
    Commit,
    /// `ROLLBACK`.
    Rollback,
    /// `COMMIT` and then `BEGIN`, or `COMMIT AND CHAIN`.
    CommitAndBegin,
    /// `ROLLBACK` and then `BEGIN`, or `ROLLBACK AND CHAIN`.
    RollbackAndBegin,
    /// A statement that fails (a violated constraint, a table that is not there), whose error the
    /// handler ignores.
    SwallowError,
}
