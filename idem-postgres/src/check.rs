//! What is checked at start, each with an error that names the fix.

use idem_runtime::migration::check;
use idem_runtime::{Error, ErrorKind, Result};
use uuid::Uuid;

use crate::Postgres;
use crate::error::{failed, lacks_rights};
use crate::fault::Class;
use crate::migrate::MIGRATIONS;
use crate::tx::Session;

const DOING: &str = "checking the store";

/// The store's identity, whether the server is a replica, whether nothing is written outside of a
/// transaction that says so, and how the database writes text.
pub(crate) const IDENTITY: &str = "
select id, pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on',
       current_setting('server_encoding')
from {schema}.store
";

/// The rights that the role lacks, in words.
pub(crate) const LACKING_RIGHTS: &str = "
select nullif(concat_ws(', ', string_agg(privilege || ' on ' || name, ', ' order by name, privilege),
    (select 'select on processed_events' where not has_table_privilege(
        '{schema}.processed_events', 'select')),
    (select 'execute on function claim_keys' where not has_function_privilege(
        '{schema}.claim_keys(bigint, text, uuid[], text[], bigint[])', 'execute'))), '')
from unnest(array['scopes', 'lanes', 'owners', 'offset_marks', 'lane_slices', 'markers',
                  'open_batches', 'attempts', 'dead_letters', 'dead_letter_notes',
                  'parked_keys', 'instances', 'packs', 'runs', 'run_blocks', 'windows']) as name
cross join unnest(array['select', 'insert', 'update', 'delete']) as privilege
where not has_table_privilege(format('{schema}.%I', name), privilege)
";

impl Postgres {
    pub(crate) async fn check_store(&self) -> Result<Uuid> {
        let store = &self.inner;
        let mut session = store.pools.read().await?;
        session.check_version()?;
        let applied = self.applied(&mut session).await?;
        check(MIGRATIONS, applied.as_deref()).map_err(|error| {
            error.context(format_args!("schema `{}` of {}", self.schema(), store.pools.target()))
        })?;
        let id = self.identity(&mut session).await?;
        let lacking = sqlx::query_as(store.sql.lacking_rights.clone());
        let lacking: Option<(Option<String>,)> =
            session.optional(lacking).await.map_err(|error| failed(DOING, error))?;
        if let Some((Some(lacking),)) = lacking {
            return Err(lacks_rights(&store.schema, &lacking));
        }
        session.finish(DOING).await?;
        Ok(id)
    }

    async fn identity(&self, session: &mut Session) -> Result<Uuid> {
        let store = &self.inner;
        let identity = sqlx::query_as::<_, (Uuid, bool, bool, String)>(store.sql.identity.clone());
        let row = session.optional(identity).await.map_err(|error| {
            match error.as_database_error().map(Class::of_error) {
                Some(Class::Permission) => {
                    lacks_rights(&store.schema, "select on store").with_source(error)
                }
                _ => failed(DOING, error),
            }
        })?;
        let Some((id, replica, guarded, encoding)) = row else {
            return Err(Error::new(
                ErrorKind::Migration,
                format!(
                    "the table `store` of schema `{}` is empty: restore its row, or drop the \
                     schema and migrate again",
                    self.schema()
                ),
            ));
        };
        // Keys, errors and headers are any text: one that the database cannot write would hold up its
        // lane for ever.
        if encoding != "UTF8" {
            let message = format!(
                "the database {} has the encoding {encoding}, in which not every text can be written: \
                 create one with `encoding 'UTF8'` (`template template0`) and move your tables there",
                store.pools.target()
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        if replica {
            let message =
                format!("the database {} is a replica and cannot write", store.pools.target());
            return Err(Error::new(ErrorKind::Connection, message));
        }
        if !guarded && !store.pools.pooler() {
            tracing::warn!(
                "the sessions are not read-only, though idem asked for it: is there a pooler that \
                 drops settings? Call `.pgbouncer(true)` then; until then a guard is off"
            );
        }
        Ok(id)
    }
}
