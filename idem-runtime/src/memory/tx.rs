//! The transaction, and the connection that handlers write through.

use std::fmt;
use std::sync::Arc;

use super::data::Row;
use super::state::{Health, Open, Shared, Staged};
use crate::store::Fault;

/// An open transaction of [`Memory`](super::Memory). Dropping it undoes it.
pub struct MemoryTx {
    pub(super) connection: MemoryConnection,
}

impl MemoryTx {
    pub(super) fn new(shared: Arc<Shared>, id: u64) -> Self {
        Self { connection: MemoryConnection { shared, id } }
    }

    pub(super) fn id(&self) -> u64 {
        self.connection.id
    }
}

impl Drop for MemoryTx {
    fn drop(&mut self) {
        let id = self.id();
        // After a commit there is nothing to undo, unless its answer was lost on the way.
        self.connection.shared.change(|state| {
            if !state.script.is_in_flight(id) {
                state.roll_back(id);
            }
        });
    }
}

/// What a handler writes through, in a transaction of [`Memory`](super::Memory).
///
/// A handler's mistakes are here as methods, guarded as the databases guard them.
pub struct MemoryConnection {
    shared: Arc<Shared>,
    id: u64,
}

impl MemoryConnection {
    /// Inserts a row into a table. There are no columns and no constraints: a row is text.
    ///
    /// # Errors
    /// [`MemoryError`] when the transaction was ended or aborted before, or the connection was
    /// lost.
    pub async fn insert(&mut self, table: &str, row: impl Into<String>) -> Result<(), MemoryError> {
        let row = Row { table: table.to_owned(), value: row.into() };
        self.statement(|tx| {
            tx.staged.rows.push(row);
            Ok(())
        })
    }

    /// The rows of a table as this transaction sees them: the committed ones and its own.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub async fn rows(&mut self, table: &str) -> Result<Vec<String>, MemoryError> {
        let of = |rows: &[Row]| -> Vec<String> {
            rows.iter().filter(|row| row.table == table).map(|row| row.value.clone()).collect()
        };
        let own = self.statement(|tx| Ok(of(&tx.staged.rows)))?;
        let mut rows = of(&self.shared.lock().data.rows);
        rows.extend(own);
        Ok(rows)
    }

    /// A statement that fails, as one that violates a constraint does: the transaction is aborted.
    /// A handler that swallows the error goes on in an aborted transaction.
    ///
    /// # Errors
    /// Always, with a fault of the handler.
    pub async fn fail_statement(&mut self) -> Result<(), MemoryError> {
        self.fail(Fault::Handler, "a constraint was violated")
    }

    /// A statement that fails for a passing reason, as a deadlock does.
    ///
    /// # Errors
    /// Always, with a transient fault.
    pub async fn fail_transiently(&mut self) -> Result<(), MemoryError> {
        self.fail(Fault::Transient, "deadlock detected")
    }

    /// A statement that fails because its data is not what the database takes.
    ///
    /// # Errors
    /// Always, with a permanent fault.
    pub async fn fail_permanently(&mut self) -> Result<(), MemoryError> {
        self.fail(Fault::Permanent, "the value is out of range")
    }

    /// A statement that breaks the connection: the transaction is undone.
    ///
    /// # Errors
    /// Always, with the fault of a lost connection.
    pub async fn lose_connection(&mut self) -> Result<(), MemoryError> {
        let id = self.id;
        self.shared.change(|state| state.roll_back(id));
        Err(MemoryError::new(Fault::Lost, "the connection was lost"))
    }

    /// A handler's own COMMIT: the guard refuses it and the transaction is undone.
    ///
    /// # Errors
    /// Always; a handler may swallow it.
    pub async fn commit_behind_back(&mut self) -> Result<(), MemoryError> {
        self.end();
        Err(MemoryError::new(Fault::HandlerBroke, "COMMIT by a handler is refused"))
    }

    /// A handler's own ROLLBACK.
    ///
    /// # Errors
    /// When the connection was lost.
    pub async fn rollback_behind_back(&mut self) -> Result<(), MemoryError> {
        self.statement(|_| Ok(()))?;
        self.end();
        Ok(())
    }

    fn end(&mut self) {
        let id = self.id;
        self.shared.change(|state| {
            if let Ok(tx) = state.tx(id) {
                tx.health = Health::Ended;
                tx.staged = Staged::default();
            }
        });
    }

    fn fail(&mut self, fault: Fault, message: &'static str) -> Result<(), MemoryError> {
        self.statement(|tx| {
            tx.health = Health::Aborted;
            Err(MemoryError::new(fault, message))
        })
    }

    fn statement<T>(
        &mut self,
        run: impl FnOnce(&mut Open) -> Result<T, MemoryError>,
    ) -> Result<T, MemoryError> {
        let id = self.id;
        self.shared.change(|state| {
            let Some(tx) = state.open.get_mut(&id) else {
                return Err(MemoryError::new(Fault::Lost, "the connection was lost"));
            };
            match tx.health {
                Health::Sound => run(tx),
                Health::Aborted => {
                    Err(MemoryError::new(Fault::HandlerBroke, "the transaction is aborted"))
                }
                Health::Ended => {
                    Err(MemoryError::new(Fault::HandlerBroke, "the transaction was ended"))
                }
            }
        })
    }
}

/// What a statement of a [`MemoryConnection`] failed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryError {
    fault: Fault,
    message: &'static str,
}

impl MemoryError {
    /// An error of this kind, for a test that wants one without a statement.
    pub fn new(fault: Fault, message: &'static str) -> Self {
        Self { fault, message }
    }

    /// What kind of fault it is.
    pub fn fault(&self) -> Fault {
        self.fault
    }
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)
    }
}

impl std::error::Error for MemoryError {}
