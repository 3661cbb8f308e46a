//! How to connect.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use idem_runtime::{Error, ErrorKind, Result};
use sqlx::postgres::PgConnectOptions;

use crate::pool::Pools;
use crate::schema::Schema;
use crate::session::{Limit, Sessions};
use crate::statements::Statements;
use crate::{Inner, Postgres};

/// Settings of a [`Postgres`] store.
///
/// ```no_run
/// use std::time::Duration;
/// use idem_postgres::Postgres;
///
/// # async fn example() -> idem_runtime::Result<()> {
/// let store = Postgres::builder("postgres://app:secret@localhost/shop")
///     .schema("billing_idem")
///     .max_connections(20)
///     .statement_timeout(Some(Duration::from_secs(10)))
///     .connect()
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until it connects"]
pub struct Builder {
    options: Result<PgConnectOptions, Arc<sqlx::Error>>,
    schema: String,
    max_connections: u32,
    acquire_timeout: Duration,
    limits: BTreeMap<Limit, Duration>,
    patience: Duration,
    pgbouncer: bool,
}

impl Postgres {
    /// Settings for the database at this URL, such as `postgres://user:password@host:5432/name`. A
    /// URL that is not one is reported when it connects.
    pub fn builder(url: &str) -> Builder {
        Builder::new(PgConnectOptions::from_str(url).map_err(Arc::new))
    }

    /// Settings for a connection that sqlx describes, such as one with client certificates.
    pub fn builder_with(options: PgConnectOptions) -> Builder {
        Builder::new(Ok(options))
    }
}

impl Builder {
    fn new(options: Result<PgConnectOptions, Arc<sqlx::Error>>) -> Self {
        Self {
            options,
            schema: "idem".to_owned(),
            max_connections: 10,
            acquire_timeout: Duration::from_secs(10),
            limits: BTreeMap::new(),
            patience: Duration::from_secs(1),
            pgbouncer: false,
        }
    }

    /// The schema of idem's tables: letters, digits and `_` of ASCII, at most 48 bytes. `idem` by
    /// default.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = name.into();
        self
    }

    /// How many transactions with effects can be open at once. 10 by default.
    ///
    /// Up to four more connections are opened, when they are first needed: two for the lanes, so that a
    /// partition can be taken over while all others work, and two for look-ups and upkeep, which may
    /// take long. A call of [`migrate`](Postgres::migrate) that has something to do has one of its own.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections.max(1);
        self
    }

    /// How long to wait for a free connection, or for a new one. 10 s by default.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// How long a statement waits for a lock. 5 s by default. Zero: for ever.
    ///
    /// This and the next two are limits that the server keeps. They are for handlers' statements
    /// too. A value in the URL's or the options' own `options` stays, unless it is given here.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.limits.insert(Limit::Lock, timeout);
        self
    }

    /// How long a statement may run. 60 s by default. `None`: for ever.
    ///
    /// It is also the base of how long idem waits for the server's answer, before it takes the
    /// connection for lost: 10 s more.
    pub fn statement_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.limits.insert(Limit::Statement, timeout.unwrap_or(Duration::ZERO));
        self
    }

    /// How long a transaction may wait for its next statement. 10 s by default. Zero: for ever.
    ///
    /// It ends the transaction of a process that is frozen. A handler that waits longer than this
    /// for something else, such as an HTTP call, loses its transaction: raise it then, or better,
    /// move the call out of the handler.
    pub fn idle_in_transaction_timeout(mut self, timeout: Duration) -> Self {
        self.limits.insert(Limit::IdleInTransaction, timeout);
        self
    }

    /// How long the claim of a lane waits for another transaction before it looks who holds it up,
    /// and ends the session of a former owner of a lane, which is fenced and cannot commit. 1 s by
    /// default. Sessions of anybody else are never ended.
    pub fn takeover_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Works through PgBouncer (or its like) in transaction mode: no session settings, only `set
    /// local`; idem's own statements are not prepared under a name.
    ///
    /// One guard is off then: statements that a handler sends after it has ended the transaction by
    /// itself are not stopped from writing. The handler's `COMMIT` fails all the same. Handlers'
    /// own statements are prepared under names, which asks for PgBouncer 1.21 or later with
    /// `max_prepared_statements`, or for `.persistent(false)`.
    pub fn pgbouncer(mut self, yes: bool) -> Self {
        self.pgbouncer = yes;
        self
    }

    /// Connects once to see that it works.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) when the URL or the schema's name is not one,
    /// [`Connection`](ErrorKind::Connection) when the server cannot be reached or refuses the
    /// credentials.
    pub async fn connect(self) -> Result<Postgres> {
        let store = self.connect_lazy()?;
        store.inner.pools.try_once().await?;
        Ok(store)
    }

    /// Connects when a connection is first needed, so that a process can start before its database.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) when the URL or the schema's name is not one.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn connect_lazy(self) -> Result<Postgres> {
        let options = self.options.map_err(|error| {
            Error::new(
                ErrorKind::Config,
                "the URL of the database is not one: \
                 write postgres://user:password@host:5432/database",
            )
            .with_source(error)
        })?;
        let schema = Schema::new(&self.schema)?;
        let sessions = Sessions::new(options, self.limits, self.pgbouncer);
        if self.pgbouncer {
            tracing::warn!(
                "behind PgBouncer the read-only guard is off: what a handler writes after it has \
                 ended the transaction by itself would be kept"
            );
        }
        let pools = Pools::new(sessions, self.max_connections, self.acquire_timeout);
        let (sql, serializable) = (Statements::new(&schema), Statements::serializable(&schema));
        let inner = Inner { pools, schema, sql, serializable, patience: self.patience };
        Ok(Postgres { inner: Arc::new(inner) })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the options, which hold the password.
        f.debug_struct("Builder")
            .field("schema", &self.schema)
            .field("max_connections", &self.max_connections)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("limits", &self.limits)
            .field("takeover_patience", &self.patience)
            .field("pgbouncer", &self.pgbouncer)
            .finish_non_exhaustive()
    }
}
