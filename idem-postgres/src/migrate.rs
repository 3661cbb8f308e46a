//! Migrations: applied by idem (see `migrator`), or printed for the team's own tool.

use std::path::{Path, PathBuf};

use idem_runtime::migration::{Entry, Migration, MigrationFile, review, write_files};
use idem_runtime::{Error, ErrorKind, Result};

use crate::Postgres;
use crate::error::{failed, lacks_rights};
use crate::fault::Class;
use crate::migrator::Migrator;
use crate::schema::Schema;
use crate::tx::Session;

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
        name: "marker_ids",
        sql: include_str!("../migrations/0003_marker_ids.sql"),
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

const READING: &str = "reading the migrations";

/// Not `to_regclass`, which may answer from a cache of before the lock.
pub(crate) const HAS_LEDGER: &str = "
select exists (
    select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = $1 and c.relname = 'migrations'
)
";

pub(crate) const APPLIED: &str =
    "select version, name, checksum from {schema}.migrations order by version";

pub(crate) const RECORD: &str =
    "insert into {schema}.migrations (version, name, checksum) values ($1, $2, $3)";

/// One migrator at a time, for as long as its transaction lasts.
pub(crate) const LOCK: &str =
    "select pg_try_advisory_xact_lock(hashtextextended('idem migrations {schema}', 0))";

impl Postgres {
    /// Creates or upgrades the tables. Safe to call by several processes at once: they wait for the one
    /// that does it, for as long as it takes. Does nothing when there is nothing to do.
    ///
    /// A table that is changed is waited for at most three seconds at a time (half of
    /// [`lock_timeout`](crate::Builder::lock_timeout) at most), because whoever needs it waits meanwhile,
    /// too; then again after a pause, and ten times in all. It has a connection of its own until it
    /// returns.
    ///
    /// The role needs the right to create a schema in the database, or has to own the one that is there,
    /// and what is in it: to be allowed to create in it is not enough. A production
    /// role without it uses what another has migrated, with `usage` on the schema and `select, insert,
    /// update, delete` on its tables.
    ///
    /// # Errors
    /// [`Migration`](ErrorKind::Migration) when the database is ahead of this program or a
    /// migration was changed, [`Config`](ErrorKind::Config) when the role may not create the schema or
    /// does not own it,
    /// [`Transient`](ErrorKind::Transient) when other transactions hold a table of idem for too long,
    /// and when the database fails.
    pub async fn migrate(&self) -> Result<()> {
        if self.pending().await?.is_empty() {
            return Ok(());
        }
        let alone = self.inner.pools.alone();
        let done = Migrator::new(self, &alone).run().await;
        alone.close().await;
        done
    }

    /// The migrations that [`migrate`](Self::migrate) would apply, as plain SQL.
    ///
    /// # Errors
    /// [`Migration`](ErrorKind::Migration) when the database is ahead of this program or a
    /// migration was changed, and when the database fails.
    pub async fn pending_migrations(&self) -> Result<Vec<MigrationFile>> {
        let pending = self.pending().await?;
        Ok(pending.into_iter().map(|it| file(it, &self.inner.schema)).collect())
    }

    async fn pending(&self) -> Result<Vec<&'static Migration>> {
        let mut session = self.inner.pools.read().await?;
        let pending = self.review(&mut session).await?;
        session.finish(READING).await?;
        Ok(pending)
    }

    pub(crate) async fn review(&self, session: &mut Session) -> Result<Vec<&'static Migration>> {
        let applied = self.applied(session).await?.unwrap_or_default();
        review(MIGRATIONS, &applied)
            .map_err(|error| error.context(format_args!("schema `{}`", self.schema())))
    }

    /// The ledger, or `None` when there is none.
    pub(crate) async fn applied(&self, session: &mut Session) -> Result<Option<Vec<Entry>>> {
        let store = &self.inner;
        let failed = |error: sqlx::Error| match error.as_database_error().map(Class::of_error) {
            Some(Class::Permission) => {
                lacks_rights(&store.schema, "select on migrations").with_source(error)
            }
            _ => failed(READING, error),
        };
        let exists = sqlx::query_as(store.sql.has_ledger.clone()).bind(store.schema.name());
        if session.optional::<(bool,)>(exists).await.map_err(failed)? != Some((true,)) {
            return Ok(None);
        }
        let applied = sqlx::query_as::<_, (i64, String, i64)>(store.sql.applied.clone());
        let rows = session.all(applied).await.map_err(failed)?;
        let entry = |(version, name, checksum)| Entry { version, name, checksum };
        Ok(Some(rows.into_iter().map(entry).collect()))
    }

    pub(crate) fn not_migrated(&self, doing: &str, error: sqlx::Error) -> Error {
        if error.as_database_error().map(Class::of_error) != Some(Class::Permission) {
            return failed(doing, error);
        }
        let schema = self.schema();
        let message = format!(
            "the role may not create the schema `{schema}`, or does not own it and what is in it: \
             migrate as its owner (`alter schema {} owner to ..`), or have the SQL of \
             `Postgres::migrations(\"{schema}\")` applied by it",
            self.inner.schema.quoted()
        );
        Error::new(ErrorKind::Config, message).with_source(error)
    }

    /// The migrations of this release for a schema, as plain SQL files for a tool of your own.
    /// Applied in the order of their names they leave the same tables as
    /// [`migrate`](Self::migrate), and the same ledger; applied twice they fail and change nothing.
    ///
    /// ```
    /// let files = idem_postgres::Postgres::migrations("idem")?;
    /// assert!(files[0].sql.contains("create table \"idem\".markers"));
    /// # Ok::<(), idem_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) when the schema's name is not one.
    pub fn migrations(schema: &str) -> Result<Vec<MigrationFile>> {
        let schema = Schema::new(schema)?;
        Ok(MIGRATIONS.iter().map(|migration| file(migration, &schema)).collect())
    }

    /// Writes [`migrations`](Self::migrations) into a folder, which is created when it is not
    /// there, and returns the paths of the files that were not there before.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) when the schema's name is not one, when a file of that name
    /// has another content, or when it cannot be written.
    pub fn write_migrations(schema: &str, folder: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
        write_files(&Self::migrations(schema)?, folder)
    }
}

fn file(migration: &Migration, schema: &Schema) -> MigrationFile {
    migration
        .file(schema.quoted(), &schema.render("{schema}.migrations"))
        .noting("Apply it as the owner of the schema, or as a role that may create it.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_migrations_do_not_change() {
        let checksums: Vec<_> = MIGRATIONS.iter().map(|it| (it.version, it.checksum())).collect();
        // A line here is written once, when its migration is released.
        assert_eq!(
            checksums,
            [
                (1, 5_701_011_261_519_714_406),
                (2, -7_659_794_984_680_709_554),
                (3, 6_126_870_922_574_696_573),
                (4, 8_122_540_357_944_319_565),
                (5, -4_607_335_399_233_749_068),
                (6, -4_860_839_156_231_092_616),
                (7, -981_700_632_386_264_961),
                (8, -2_989_185_042_272_999_089)
            ]
        );
    }

    #[test]
    fn files_are_written_once_and_never_over_another_content() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new");
        let written = Postgres::write_migrations("idem", &folder).unwrap();
        let names = [
            "0001_markers_and_lanes.sql",
            "0002_failures.sql",
            "0003_marker_ids.sql",
            "0004_instances.sql",
            "0005_packed.sql",
            "0006_packed_upkeep.sql",
            "0007_letter_edits.sql",
            "0008_former_forms.sql",
        ];
        assert_eq!(written, names.map(|name| folder.join(name)));
        assert!(Postgres::write_migrations("idem", &folder).unwrap().is_empty());
        // A release may have other words for people in front.
        let first = folder.join(names[0]);
        let sql = std::fs::read_to_string(&first).unwrap();
        std::fs::write(&first, format!("-- By a former release.\n{sql}")).unwrap();
        assert!(Postgres::write_migrations("idem", &folder).unwrap().is_empty());
        let error = Postgres::write_migrations("other", &folder).unwrap_err();
        assert!(error.to_string().contains("another content"), "{error}");
    }

    #[test]
    fn nothing_of_the_template_is_left_in_a_file() {
        for file in Postgres::migrations("idem").unwrap() {
            assert!(!file.sql.contains('{'), "{}", file.sql);
        }
    }
}
