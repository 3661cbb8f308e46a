//! The guard: what ends a transaction, and who may.
//!
//! SQLite asks the commit hook before any COMMIT, also before the silent one after a statement
//! outside of a transaction, and turns it into a ROLLBACK when the hook refuses. It tells the
//! rollback hook of any ROLLBACK, also of the silent one. Savepoints ask neither. The hooks run in
//! the connection's own thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::sqlite::SqliteConnection;

#[derive(Debug, Default)]
pub(crate) struct Guard {
    /// Whether a commit is idem's own.
    may_commit: AtomicBool,
    /// Whether the transaction that idem began was ended.
    ended: AtomicBool,
}

impl Guard {
    /// Puts a guard on a connection, for as long as the connection lives.
    pub(crate) async fn on(connection: &mut SqliteConnection) -> sqlx::Result<Arc<Self>> {
        let guard = Arc::new(Self::default());
        let mut handle = connection.lock_handle().await?;
        let on_commit = Arc::clone(&guard);
        handle.set_commit_hook(move || on_commit.may_commit.load(Ordering::SeqCst));
        let on_rollback = Arc::clone(&guard);
        handle.set_rollback_hook(move || on_rollback.ended.store(true, Ordering::SeqCst));
        drop(handle);
        Ok(guard)
    }

    /// A transaction begins: nobody may commit it, and nobody has ended it.
    pub(crate) fn close(&self) {
        self.may_commit.store(false, Ordering::SeqCst);
        self.ended.store(false, Ordering::SeqCst);
    }

    /// Lets the transaction commit.
    pub(crate) fn open(&self) {
        self.may_commit.store(true, Ordering::SeqCst);
    }

    /// Lets it commit no more.
    pub(crate) fn forbid(&self) {
        self.may_commit.store(false, Ordering::SeqCst);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.may_commit.load(Ordering::SeqCst)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}
