//! How to open a file.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use idem_runtime::{Error, ErrorKind, Result};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use crate::prefix::Prefix;
use crate::statements::Statements;
use crate::temporary::Temporary;
use crate::tx::Tx;
use crate::writer::Writers;
use crate::{Inner, Sqlite};

/// Settings of a [`Sqlite`] store.
///
/// ```no_run
/// use std::time::Duration;
/// use idem_sqlite::Sqlite;
///
/// # async fn example() -> idem_runtime::Result<()> {
/// let store = Sqlite::builder("shop.db")
///     .prefix("billing_idem_")
///     .busy_timeout(Duration::from_secs(10))
///     .open()
///     .await?;
/// # Ok(()) }
/// ```
#[must_use = "a builder does nothing until it opens the file"]
pub struct Builder {
    options: SqliteConnectOptions,
    prefix: String,
    wal: bool,
    max_readers: u32,
    turn_timeout: Duration,
    temporary: Option<Temporary>,
}

impl Sqlite {
    /// Settings for the database in this file, which is created when it is not there.
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        Self::builder_with(SqliteConnectOptions::new().filename(path).create_if_missing(true))
    }

    /// Settings for a database that sqlx describes, such as one with pragmas or extensions.
    pub fn builder_with(options: SqliteConnectOptions) -> Builder {
        Builder {
            options,
            prefix: "idem_".to_owned(),
            wal: true,
            max_readers: 4,
            turn_timeout: Duration::from_secs(30),
            temporary: None,
        }
    }
}

impl Builder {
    /// What the names of idem's tables begin with: letters, digits and `_` of ASCII, ending with
    /// `_`, at most 48 bytes. `idem_` by default.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long a statement waits for another process that holds the file. 5 s by default.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.busy_timeout(timeout);
        self
    }

    /// How long a transaction waits for its turn, which comes when those before it in this process
    /// have ended; and how long a commit waits for readers, when the file is not in WAL mode. 30 s
    /// by default.
    pub fn turn_timeout(mut self, timeout: Duration) -> Self {
        self.turn_timeout = timeout;
        self
    }

    /// How many connections may read at once. 4 by default.
    pub fn max_readers(mut self, readers: u32) -> Self {
        self.max_readers = readers.max(1);
        self
    }

    /// Whether to put the file into WAL mode, in which readers and the writer do not wait for each
    /// other. It stays in that mode. True by default; a file on a network's file system must not be.
    pub fn wal(mut self, yes: bool) -> Self {
        self.wal = yes;
        self
    }

    pub(crate) fn keep(mut self, temporary: Temporary) -> Self {
        self.temporary = Some(temporary);
        self
    }

    /// Opens the file.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) when the prefix is not one or the database is in memory,
    /// [`Connection`](ErrorKind::Connection) when the file cannot be opened.
    pub async fn open(self) -> Result<Sqlite> {
        let prefix = Prefix::new(&self.prefix)?;
        let path = self.options.get_filename().to_owned();
        let name = path.to_string_lossy();
        if name.is_empty() || name.starts_with(":memory:") || name.contains("in-memory") {
            return Err(Error::new(
                ErrorKind::Config,
                "a database in memory cannot be shared by readers and the writer: give a path, or \
                 use `Sqlite::temporary()` for a trial",
            ));
        }
        let readers = self.options.clone().create_if_missing(false).pragma("query_only", "on");
        let readers = SqlitePoolOptions::new()
            .max_connections(self.max_readers)
            .acquire_timeout(self.turn_timeout)
            .connect_lazy_with(readers);
        let inner = Inner {
            writers: Writers::new(self.options, self.wal, self.turn_timeout),
            readers,
            sql: Statements::new(&prefix),
            prefix,
            heartbeat_waits: AtomicBool::new(false),
            _temporary: self.temporary,
            path,
        };
        // Once, to see that it can be written; and to create it.
        Tx::begin(&inner.writers).await?.rollback().await;
        Ok(Sqlite { inner: Arc::new(inner) })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the options, which may hold the key of an encrypted database.
        f.debug_struct("Builder")
            .field("path", &self.options.get_filename())
            .field("prefix", &self.prefix)
            .field("wal", &self.wal)
            .field("max_readers", &self.max_readers)
            .field("turn_timeout", &self.turn_timeout)
            .finish_non_exhaustive()
    }
}
