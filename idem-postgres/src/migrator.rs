//! Applying migrations, beside other migrators and beside lanes that work.

use std::time::Duration;

use idem_runtime::migration::Migration;
use idem_runtime::{Error, ErrorKind, Result};
use sqlx::{AssertSqlSafe, SqlSafeStr as _};

use crate::Postgres;
use crate::pool::Alone;
use crate::tx::Session;

const DOING: &str = "migrating";

/// How often a migration is tried whose tables others hold.
const ATTEMPTS: u32 = 10;

/// How long a migrator waits before it looks again whether another one is done.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

pub(crate) struct Migrator<'a> {
    store: &'a Postgres,
    alone: &'a Alone<'a>,
}

/// What became of an attempt.
enum Step {
    /// Nothing is left to do.
    Done,
    /// It was one of several.
    Applied(&'static Migration),
    /// Another migrator is at it.
    Another,
    /// Somebody holds a table of it.
    Held(&'static Migration, sqlx::Error),
}

impl<'a> Migrator<'a> {
    pub(crate) fn new(store: &'a Postgres, alone: &'a Alone<'a>) -> Self {
        Self { store, alone }
    }

    pub(crate) async fn run(&self) -> Result<()> {
        let schema = self.store.schema();
        let (mut attempts, mut is_said) = (0, false);
        loop {
            match self.step().await? {
                Step::Done => return Ok(()),
                Step::Applied(Migration { version, name, .. }) => {
                    attempts = 0;
                    tracing::info!(schema, version, name, "migrated the tables of idem");
                }
                Step::Another => {
                    if !std::mem::replace(&mut is_said, true) {
                        tracing::info!(schema, "another process migrates: waiting for it");
                    }
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Step::Held(migration, error) => {
                    attempts += 1;
                    if attempts == ATTEMPTS {
                        return Err(self.held(migration, error));
                    }
                    // Who waited behind it is at work for longer than it waited.
                    tokio::time::sleep(self.table_wait() * 2).await;
                }
            }
        }
    }

    /// Applies the first migration that is pending, in a transaction of its own.
    ///
    /// Other migrators are not waited for within a transaction: each of the limits of the session, and
    /// that of the client, would end that.
    async fn step(&self) -> Result<Step> {
        let store = &self.store.inner;
        let failed = |error: sqlx::Error| self.store.not_migrated(DOING, error);
        let mut session = self.alone.write().await?;
        session.check_version()?;
        let lock = sqlx::query_as::<_, (bool,)>(store.sql.lock_migrations.clone());
        if session.optional(lock).await.map_err(failed)? != Some((true,)) {
            session.finish(DOING).await?;
            return Ok(Step::Another);
        }
        // Another migrator may have been faster.
        let pending = self.store.review(&mut session).await?;
        let Some(migration) = pending.into_iter().next() else {
            session.finish(DOING).await?;
            return Ok(Step::Done);
        };
        match self.apply(&mut session, migration).await {
            Ok(()) => {
                session.finish(DOING).await?;
                Ok(Step::Applied(migration))
            }
            Err(error) if is_held(&error) => {
                session.rollback().await;
                Ok(Step::Held(migration, error))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// A migration may take its time once it has its tables. While it waits for one it stands in the way
    /// of whoever comes after it.
    async fn apply(&self, session: &mut Session, migration: &Migration) -> sqlx::Result<()> {
        let store = &self.store.inner;
        let limits = format!(
            "set local statement_timeout = 0; set local lock_timeout = {}",
            self.table_wait().as_millis().max(1)
        );
        session.script(AssertSqlSafe(limits).into_sql_str(), None).await?;
        let statements = AssertSqlSafe(migration.statements(store.schema.quoted())).into_sql_str();
        session.script(statements, None).await?;
        let entry = migration.entry();
        let record = sqlx::query(store.sql.record_migration.clone())
            .bind(entry.version)
            .bind(entry.name)
            .bind(entry.checksum);
        session.execute(record).await?;
        Ok(())
    }

    fn table_wait(&self) -> Duration {
        self.alone.table_wait()
    }

    fn held(&self, migration: &Migration, error: sqlx::Error) -> Error {
        let message = format!(
            "migration {} ({}) of the schema `{}`: a transaction that runs for long holds a table of \
             idem that this changes: find it in pg_stat_activity (by `xact_start`), let it end or end \
             it, and migrate again",
            migration.version,
            migration.name,
            self.store.schema()
        );
        Error::new(ErrorKind::Transient, message).with_source(error)
    }
}

/// A lock was not available, or was one of a deadlock's.
fn is_held(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|it| it.code());
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}
