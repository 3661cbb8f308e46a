//! Migrations: applied by idem, or printed for the team's own tool.

use std::path::{Path, PathBuf};

use idem_runtime::migration::{Entry, Migration, MigrationFile, review, write_files};
use idem_runtime::{Error, ErrorKind, Result};
use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use crate::Sqlite;
use crate::error::failed;
use crate::prefix::Prefix;
use crate::tx::Tx;

/// The migrations of this release.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "markers_and_lanes",
        sql: include_str!("../migrations/0001_markers_and_lanes.sql"),
    },
    Migration {
        version: 2,
        name: "failures",
        sql: include_str!("../migrations/0002_failures.sql"),
    },
    Migration {
        version: 3,
        name: "marker_details",
        sql: include_str!("../migrations/0003_marker_details.sql"),
    },
    Migration {
        version: 4,
        name: "instances",
        sql: include_str!("../migrations/0004_instances.sql"),
    },
    Migration { version: 5, name: "packed", sql: include_str!("../migrations/0005_packed.sql") },
    Migration {
        version: 6,
        name: "packed_upkeep",
        sql: include_str!("../migrations/0006_packed_upkeep.sql"),
    },
    Migration {
        version: 7,
        name: "letter_edits",
        sql: include_str!("../migrations/0007_letter_edits.sql"),
    },
    Migration {
        version: 8,
        name: "former_forms",
        sql: include_str!("../migrations/0008_former_forms.sql"),
    },
];

const DOING: &str = "migrating";

pub(crate) const HAS_LEDGER: &str = "
select exists (select 1 from sqlite_schema where type = 'table' and name = '{schema}migrations')
";

pub(crate) const APPLIED: &str =
    "select version, name, checksum from {schema}migrations order by version";

pub(crate) const RECORD: &str =
    "insert into {schema}migrations (version, name, checksum) values (?1, ?2, ?3)";

impl Sqlite {
    /// Creates or upgrades the tables. Safe to call by several processes at once; does nothing when
    /// there is nothing to do.
    ///
    /// # Errors
    /// [`Migration`](idem_runtime::ErrorKind::Migration) when the database is ahead of this program
    /// or a migration was changed or applied in part, and when the database fails.
    pub async fn migrate(&self) -> Result<()> {
        if self.pending().await?.is_empty() {
            return Ok(());
        }
        let mut tx = Tx::begin(&self.inner.writers).await?;
        match self.apply(tx.connection()).await {
            Ok(applied) => {
                tx.finish(DOING).await?;
                for migration in applied {
                    tracing::info!(
                        prefix = self.prefix(),
                        version = migration.version,
                        name = migration.name,
                        "migrated the tables of idem"
                    );
                }
                Ok(())
            }
            Err(error) => {
                tx.rollback().await;
                Err(error)
            }
        }
    }

    async fn apply(&self, connection: &mut SqliteConnection) -> Result<Vec<&'static Migration>> {
        // Another migrator may have been faster.
        let applied = self.applied(&mut *connection).await?.unwrap_or_default();
        let pending = self.review(&applied)?;
        for migration in &pending {
            let statements = AssertSqlSafe(migration.statements(self.prefix()));
            sqlx::raw_sql(statements)
                .execute(&mut *connection)
                .await
                .map_err(|error| failed(DOING, error))?;
            let entry = migration.entry();
            sqlx::query(self.inner.sql.record_migration.clone())
                .bind(entry.version)
                .bind(entry.name)
                .bind(entry.checksum)
                .execute(&mut *connection)
                .await
                .map_err(|error| failed(DOING, error))?;
        }
        Ok(pending)
    }

    /// The migrations that [`migrate`](Self::migrate) would apply, as plain SQL.
    ///
    /// # Errors
    /// [`Migration`](idem_runtime::ErrorKind::Migration) when the database is ahead of this program
    /// or a migration was changed, and when the database fails.
    pub async fn pending_migrations(&self) -> Result<Vec<MigrationFile>> {
        let pending = self.pending().await?;
        Ok(pending.into_iter().map(|it| file(it, &self.inner.prefix)).collect())
    }

    async fn pending(&self) -> Result<Vec<&'static Migration>> {
        let applied = self.applied_here().await?.unwrap_or_default();
        self.review(&applied)
    }

    /// Each migration leaves its row in the ledger, unless somebody went on after an error.
    fn is_in_part(&self) -> Error {
        let prefix = self.prefix();
        let message = format!(
            "{}: the tables are there and the ledger is empty: a file was applied in part (use SQLite \
             3.42 or later, and `sqlite3 -bail`, which stops at an error), or somebody has deleted the \
             rows of `{prefix}migrations`: restore these; or, if nothing was processed yet, drop the \
             tables that begin with `{prefix}` and migrate again",
            self.whereabouts()
        );
        Error::new(ErrorKind::Migration, message)
    }

    fn review(&self, applied: &[Entry]) -> Result<Vec<&'static Migration>> {
        review(MIGRATIONS, applied).map_err(|error| error.context(self.whereabouts()))
    }

    /// Which database, for messages.
    pub(crate) fn whereabouts(&self) -> String {
        format!("tables `{}…` of {}", self.prefix(), self.path().display())
    }

    /// The ledger, which has something in it, or `None` when there is none.
    pub(crate) async fn applied_here(&self) -> Result<Option<Vec<Entry>>> {
        let connection = self.inner.readers.acquire().await;
        let mut connection = connection.map_err(|error| failed("reading the migrations", error))?;
        self.applied(&mut connection).await
    }

    async fn applied(&self, connection: &mut SqliteConnection) -> Result<Option<Vec<Entry>>> {
        let failed = |error| failed("reading the migrations", error);
        let exists: bool = sqlx::query_scalar(self.inner.sql.has_ledger.clone())
            .fetch_one(&mut *connection)
            .await
            .map_err(failed)?;
        if !exists {
            return Ok(None);
        }
        let rows: Vec<(i64, String, i64)> = sqlx::query_as(self.inner.sql.applied.clone())
            .fetch_all(connection)
            .await
            .map_err(failed)?;
        let entry = |(version, name, checksum)| Entry { version, name, checksum };
        if rows.is_empty() {
            return Err(self.is_in_part());
        }
        Ok(Some(rows.into_iter().map(entry).collect()))
    }

    /// The migrations of this release for a prefix (`idem_` is the default one), as plain SQL files
    /// for a tool of your own. Applied in the order of their names they leave the same tables as
    /// [`migrate`](Self::migrate), and the same ledger; applied twice they fail and change nothing.
    ///
    /// ```
    /// let files = idem_sqlite::Sqlite::migrations("idem_")?;
    /// assert!(files[0].sql.contains("create table idem_markers"));
    /// # Ok::<(), idem_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Config`](idem_runtime::ErrorKind::Config) when the prefix is not one.
    pub fn migrations(prefix: &str) -> Result<Vec<MigrationFile>> {
        let prefix = Prefix::new(prefix)?;
        Ok(MIGRATIONS.iter().map(|migration| file(migration, &prefix)).collect())
    }

    /// Writes [`migrations`](Self::migrations) into a folder, which is created when it is not
    /// there, and returns the paths of the files that were not there before.
    ///
    /// # Errors
    /// [`Config`](idem_runtime::ErrorKind::Config) when the prefix is not one, when a file of that
    /// name has another content, or when it cannot be written.
    pub fn write_migrations(prefix: &str, folder: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
        write_files(&Self::migrations(prefix)?, folder)
    }
}

fn file(migration: &Migration, prefix: &Prefix) -> MigrationFile {
    let file = migration.file(prefix.as_str(), &prefix.render("{schema}migrations"));
    let how = format!(
        "Apply it with SQLite 3.42 or later, and stop at an error: `sqlite3 -bail shop.db < {}`.",
        file.name
    );
    file.noting(&how)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_template_is_left_in_a_file() {
        for file in Sqlite::migrations("idem_").unwrap() {
            assert!(!file.sql.contains('{'), "{}", file.sql);
        }
    }
}
