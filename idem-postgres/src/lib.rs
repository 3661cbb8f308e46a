//! The PostgreSQL store of idem: markers, lanes and scopes in the database of the effects they
//! guard, written in the same transaction.
//!
//! ```no_run
//! use idem_postgres::Postgres;
//! # use idem_runtime::Store;
//!
//! # async fn example() -> idem_runtime::Result<()> {
//! let store = Postgres::connect("postgres://app:secret@localhost/shop").await?;
//! store.migrate().await?; // or apply the SQL of `Postgres::migrations` with your own tool
//!
//! let outcome = store
//!     .process_if_new("webhook", "evt_1", async |tx| {
//!         sqlx::query("insert into receipts (id) values ('evt_1')").execute(tx).await?;
//!         Ok(())
//!     })
//!     .await?;
//! assert!(outcome.is_processed());
//! # Ok(()) }
//! ```
//!
//! # Connections
//!
//! The store has pools of its own, never the application's, of at most
//! [`max_connections`](Builder::max_connections) and four connections: its sessions are read-only by default
//! and each transaction says `read write`, so that a statement after a handler's own `COMMIT` or
//! `ROLLBACK` cannot write. They also have time limits and keepalives, which the server keeps for
//! clients that are frozen or gone; see [`Builder`]. For TLS, add `tls-rustls` or `tls-native-tls`
//! to the features of your own `sqlx` dependency.
//!
//! PostgreSQL 13 or later, in a database with the encoding UTF8.
//!
//! # Isolation
//!
//! A transaction has the level that its handlers ask for, and the role's or the database's own
//! default otherwise. A serializable one has a `random_page_cost` of 0.1, for handlers' statements
//! too: what reads a table from one end to the other is in conflict with whoever writes to it, and
//! small tables are read so otherwise.
//!
//! # What a handler must leave alone
//!
//! The end of the transaction. A `COMMIT` fails (and so does `SET CONSTRAINTS ALL IMMEDIATE`, which
//! checks at once what idem checks at the commit: name the constraints instead), a `ROLLBACK` and
//! an error that was swallowed are found at the end. Nothing is kept then, and the error is of the
//! kind [`HandlerBroke`](idem_runtime::ErrorKind::HandlerBroke). Savepoints are fine:
//! `tx.begin().await?` opens one.
//!
//! Not here: what to do with a failure, retries, Kafka (see `idem-runtime`).

mod answer;
mod attempts;
mod beside;
mod builder;
mod check;
mod claim;
mod claim_states;
mod dead_letters;
mod direct;
mod error;
mod fault;
mod foreign;
mod forget;
mod given_up;
mod gone;
mod instances;
mod lanes;
mod letters;
mod marker_id;
mod markers;
mod merge;
mod migrate;
mod migrator;
mod owners;
mod pack_row;
mod packs;
mod parking;
mod pool;
mod retired;
mod runs;
mod schema;
mod scopes;
mod seal;
mod session;
mod settle;
mod slices;
mod statements;
mod store;
mod take;
mod times;
mod tx;
mod zombie;

use std::fmt;
use std::sync::Arc;

pub use builder::Builder;
pub use idem_runtime::migration::MigrationFile;
pub use tx::Tx;

use pool::Pools;
use schema::Schema;
use statements::Statements;

/// The PostgreSQL store. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Postgres {
    inner: Arc<Inner>,
}

struct Inner {
    pools: Pools,
    schema: Schema,
    sql: Statements,
    serializable: Statements,
    /// How long a claim waits before it looks for a former owner that holds it up.
    patience: std::time::Duration,
}

impl Inner {
    /// The statements for this transaction.
    fn sql_in(&self, tx: &Tx) -> &Statements {
        if tx.is_serializable { &self.serializable } else { &self.sql }
    }
}

impl Postgres {
    /// Connects with the defaults. [`builder`](Self::builder) has the choices.
    ///
    /// # Errors
    /// [`Config`](idem_runtime::ErrorKind::Config) when the URL is not one,
    /// [`Connection`](idem_runtime::ErrorKind::Connection) when the server cannot be reached or
    /// refuses the credentials.
    pub async fn connect(url: &str) -> idem_runtime::Result<Self> {
        Self::builder(url).connect().await
    }

    /// The name of its schema.
    pub fn schema(&self) -> &str {
        self.inner.schema.name()
    }

    /// Closes the connections. Whatever is still to be done fails.
    pub async fn close(&self) {
        self.inner.pools.close().await;
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the options, which hold the password.
        f.debug_struct("Postgres")
            .field("database", &self.inner.pools.target())
            .field("schema", &self.schema())
            .finish()
    }
}
