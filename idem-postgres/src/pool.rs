//! Connections: idem's own, never the application's.
//!
//! Three pools: one for transactions with effects; a small one for the lanes, so that a partition can be
//! taken over, watched and left while all others work; and a small one for what may take long and that
//! no lane waits for: look-ups that people start, and upkeep. Whatever holds up these holds up no lane.

use std::io;
use std::time::Duration;

use idem_runtime::store::{Terms, Writer};
use idem_runtime::{Error, ErrorKind, Result};
use sqlx::postgres::{PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgPool, SqlSafeStr as _, SqlStr};

use crate::answer::no_answer;
use crate::error::unreachable;
use crate::fault::ends_connection;
use crate::session::Sessions;
use crate::tx::Session;

/// Connections of the lanes, beside those of the transactions with effects.
const LANES: u32 = 2;
/// Connections of look-ups and upkeep.
const ASIDE: u32 = 2;

/// A pool, and what is said when all of its connections are busy.
struct Pool {
    connections: PgPool,
    busy: &'static str,
}

const BATCHES_BUSY: &str = "all connections are busy (see `max_connections`)";
const LANES_BUSY: &str = "the two connections that the lanes have beside their batches are busy: \
                          see in pg_stat_activity what they wait for";
const ASIDE_BUSY: &str = "the two connections of look-ups and upkeep are busy: ask for less at the same \
                          time, or see in pg_stat_activity what they wait for (see `acquire_timeout`)";

pub(crate) struct Pools {
    batches: Pool,
    lanes: Pool,
    aside: Pool,
    sessions: Sessions,
    acquire_timeout: Duration,
    target: String,
}

/// A connection for one who may need it for long, and closes it at the end.
pub(crate) struct Alone<'a> {
    pools: &'a Pools,
    pool: Pool,
}

impl Alone<'_> {
    /// Begins a transaction that writes.
    pub(crate) async fn write(&self) -> Result<Session> {
        self.pools.begin(&self.pool, self.pools.sessions.begin_own(true)).await
    }

    /// How long to wait for a table in whose way others work.
    pub(crate) fn table_wait(&self) -> Duration {
        self.pools.sessions.table_wait
    }

    pub(crate) async fn close(&self) {
        self.pool.connections.close().await;
    }
}

impl Pool {
    fn new(
        sessions: &Sessions,
        connections: u32,
        acquire_timeout: Duration,
        busy: &'static str,
    ) -> Self {
        let mut pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(acquire_timeout)
            // `begin` is the test: a stale connection is replaced there, and it costs no round
            // trip.
            .test_before_acquire(false);
        if !sessions.pooler {
            pool = pool.after_connect(|connection, _| Box::pin(watch_client(connection)));
        }
        Self { connections: pool.connect_lazy_with(sessions.options.clone()), busy }
    }
}

impl Pools {
    pub(crate) fn new(sessions: Sessions, batches: u32, acquire_timeout: Duration) -> Self {
        let pool = |connections, busy| Pool::new(&sessions, connections, acquire_timeout, busy);
        let target = sessions.target();
        let (batches, lanes) = (pool(batches, BATCHES_BUSY), pool(LANES, LANES_BUSY));
        let aside = pool(ASIDE, ASIDE_BUSY);
        Self { batches, lanes, aside, sessions, acquire_timeout, target }
    }

    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// Whether sessions are shared by a pooler.
    pub(crate) fn pooler(&self) -> bool {
        self.sessions.pooler
    }

    pub(crate) async fn close(&self) {
        for pool in [&self.batches, &self.lanes, &self.aside] {
            pool.connections.close().await;
        }
    }

    /// Connects once, without a pool, whose retries would hide why it failed.
    pub(crate) async fn try_once(&self) -> Result<()> {
        let connect = PgConnection::connect_with(&self.sessions.options);
        let connection = match tokio::time::timeout(self.acquire_timeout, connect).await {
            Ok(connection) => connection,
            Err(_) => Err(no_answer()),
        };
        let connection = connection.map_err(|error| self.unreachable("", error))?;
        // Whether the goodbye arrives is of no interest.
        let _ = connection.close().await;
        Ok(())
    }

    /// Begins a transaction with effects.
    pub(crate) async fn batch(&self, writer: &Writer<'_>, terms: &Terms) -> Result<Session> {
        self.begin(&self.batches, self.sessions.begin_batch(writer, terms)).await
    }

    /// Begins a transaction of idem's own that writes, and that a lane waits for.
    pub(crate) async fn write(&self) -> Result<Session> {
        self.begin(&self.lanes, self.sessions.begin_own(true)).await
    }

    /// A connection to read with what a lane waits for. Behind a pooler it is in a transaction, so that
    /// a statement and its parameters meet the same server session.
    pub(crate) async fn read(&self) -> Result<Session> {
        self.read_from(&self.lanes).await
    }

    /// As [`write`](Self::write), for what no lane waits for.
    pub(crate) async fn write_aside(&self) -> Result<Session> {
        self.begin(&self.aside, self.sessions.begin_own(true)).await
    }

    /// As [`read`](Self::read), for what no lane waits for.
    pub(crate) async fn read_aside(&self) -> Result<Session> {
        self.read_from(&self.aside).await
    }

    /// A connection in none of the pools.
    pub(crate) fn alone(&self) -> Alone<'_> {
        const BUSY: &str = "takes no more connections";
        Alone { pools: self, pool: Pool::new(&self.sessions, 1, self.acquire_timeout, BUSY) }
    }

    async fn read_from(&self, pool: &Pool) -> Result<Session> {
        if self.sessions.pooler {
            return self.begin(pool, self.sessions.begin_own(false)).await;
        }
        self.acquire(pool).await
    }

    async fn acquire(&self, pool: &Pool) -> Result<Session> {
        let connection = pool.connections.acquire().await;
        let connection = connection.map_err(|error| self.unreachable(pool.busy, error))?;
        Ok(Session::new(connection, self.sessions.answer_within, self.sessions.pooler))
    }

    /// Nothing has happened on the connection yet, so that a stale one is replaced: after a restart
    /// of the server every connection of the pool is.
    async fn begin(&self, pool: &Pool, statement: String) -> Result<Session> {
        let statement = AssertSqlSafe(statement).into_sql_str();
        let mut stale = pool.connections.size();
        loop {
            let mut session = self.acquire(pool).await?;
            match session.begin(statement.clone()).await {
                Ok(()) => return Ok(session),
                Err(error) if stale > 0 && is_stale(&error) => stale -= 1,
                Err(error) => return Err(self.not_begun(error)),
            }
        }
    }

    fn unreachable(&self, busy: &str, error: sqlx::Error) -> Error {
        unreachable(&self.target, self.sessions.pooler, busy, error)
    }

    fn not_begun(&self, error: sqlx::Error) -> Error {
        let code = error.as_database_error().and_then(|it| it.code());
        // After a fail-over the old connection may lead to a server that is a replica now.
        if matches!(code.as_deref(), Some("0A000" | "25006")) {
            let message = format!("the database {} is a replica and cannot write", self.target);
            return Error::new(ErrorKind::Connection, message).with_source(error);
        }
        crate::error::failed("begin", error)
    }
}

fn is_stale(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() != io::ErrorKind::TimedOut,
        error => error.as_database_error().is_some() && ends_connection(error),
    }
}

/// Asks the server to look now and then whether the client of a running statement is still there:
/// a claim that waits for a lock would otherwise outlive its process. PostgreSQL 14 or later, on
/// systems that can tell; a user's own value stays.
async fn watch_client(connection: &mut PgConnection) -> sqlx::Result<()> {
    const WATCH: SqlStr = SqlStr::from_static(
        "select set_config('client_connection_check_interval', '2000', false) \
         where current_setting('client_connection_check_interval', true) = '0'",
    );
    match sqlx::query(WATCH).persistent(false).execute(connection).await {
        Err(error) if ends_connection(&error) => Err(error),
        // Without it all is well, only slower.
        _ => Ok(()),
    }
}
