//! The SQLite store of idem: markers, lanes, scopes and dead letters in the file of the effects they
//! guard, written in the same transaction.
//!
//! ```
//! use idem_sqlite::Sqlite;
//! use idem_runtime::Store;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let store = Sqlite::temporary().await?; // or `Sqlite::open("shop.db")`
//! store.migrate().await?; // or apply the SQL of `Sqlite::migrations` with your own tool
//!
//! for _ in 0..2 {
//!     let outcome = store
//!         .process_if_new("webhook", "evt_1", async |tx| {
//!             sqlx::query("create table receipts (id text)").execute(tx).await?;
//!             Ok(())
//!         })
//!         .await?;
//!     println!("{outcome:?}"); // Processed(()), then Duplicate(None)
//! }
//! # Ok::<(), idem_runtime::Error>(()) }).unwrap();
//! ```
//!
//! # One writer
//!
//! SQLite lets one transaction write at a time, so the store has one connection that writes, for
//! which its transactions queue in order; a handler that is slow holds up all others. Readers do
//! not wait: they have connections of their own. Open a file once in a process and clone the store;
//! other processes may open it too, and wait for each other for as long as
//! [`Builder::busy_timeout`] says.
//!
//! So every transaction is serializable, whatever level its handlers ask for. A statement is not
//! interrupted when it takes long: SQLite would undo the whole transaction with it.
//!
//! Inside of a handler write through the connection that it is lent. Another write to the same file
//! from there waits for the handler, which waits for it; it ends with an error after a time.
//!
//! # What a handler must leave alone
//!
//! The end of the transaction. A `COMMIT` is refused and a `ROLLBACK` is found at the end; nothing
//! is kept then, and the error is of the kind
//! [`HandlerBroke`](idem_runtime::ErrorKind::HandlerBroke). Savepoints are fine: `tx.begin().await?`
//! opens one. The connection's commit and rollback hooks are idem's.
//!
//! # Errors of a handler's statements
//!
//! A value that the tables do not take (a unique, check or not null constraint, a value of another
//! type) is of no use to try again: the event is given up on at once. A foreign key, and what a
//! trigger raises, can be cured by another row: such an event is tried again.
//!
//! Not here: what to do with a failure, retries, Kafka (see `idem-runtime`).

mod attempts;
mod builder;
mod check;
mod claim;
mod dead_letters;
mod direct;
mod error;
mod fault;
mod foreign;
mod forget;
mod gone;
mod guard;
mod hex;
mod instances;
mod lane_row;
mod lanes;
mod letter_row;
mod letters;
mod markers;
mod merge;
mod migrate;
mod observe;
mod pack_row;
mod packs;
mod parking;
mod prefix;
mod retired;
mod runs;
mod scopes;
mod seal;
mod settle;
mod slices;
mod statements;
mod store;
mod take;
mod temporary;
mod time;
mod tx;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sqlx::SqlitePool;

pub use builder::Builder;
pub use idem_runtime::migration::MigrationFile;
pub use tx::Tx;

use prefix::Prefix;
use statements::Statements;
use temporary::Temporary;
use writer::Writers;

/// The SQLite store. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Sqlite {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    writers: Writers,
    readers: SqlitePool,
    prefix: Prefix,
    sql: Statements,
    /// Whether a heartbeat waits for its turn to write.
    heartbeat_waits: AtomicBool,
    /// The last field, so that the file goes after the connections to it.
    _temporary: Option<Temporary>,
}

impl Sqlite {
    /// Opens a file with the defaults; it is created when it is not there.
    /// [`builder`](Self::builder) has the choices.
    ///
    /// # Errors
    /// [`Config`](idem_runtime::ErrorKind::Config) when the path cannot be a database's,
    /// [`Connection`](idem_runtime::ErrorKind::Connection) when the file cannot be opened.
    pub async fn open(path: impl AsRef<Path>) -> idem_runtime::Result<Self> {
        Self::builder(path).open().await
    }

    /// Opens a database of its own in a temporary file, which is deleted with the last clone of the
    /// store: for tests and trials.
    ///
    /// There is no store in memory, because readers of a database in memory wait for its writer, or
    /// see what it has not committed.
    ///
    /// # Errors
    /// [`Connection`](idem_runtime::ErrorKind::Connection) when the file cannot be created.
    pub async fn temporary() -> idem_runtime::Result<Self> {
        let folder = Temporary::new()?;
        Self::builder(folder.file()).keep(folder).open().await
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// What the names of its tables begin with.
    pub fn prefix(&self) -> &str {
        self.inner.prefix.as_str()
    }

    /// Waits for the transaction that is open and closes the connections. Whatever is still to be
    /// done fails.
    pub async fn close(&self) {
        self.inner.writers.close().await;
        self.inner.readers.close().await;
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite")
            .field("path", &self.path())
            .field("prefix", &self.prefix())
            .finish_non_exhaustive()
    }
}
