//! What is checked at start, each with an error that names the fix.

use idem_runtime::migration::check;
use idem_runtime::{Error, ErrorKind, Result};
use uuid::Uuid;

use crate::Sqlite;
use crate::error::failed;
use crate::migrate::MIGRATIONS;

pub(crate) const IDENTITY: &str = "select id from {schema}store";

impl Sqlite {
    pub(crate) async fn check_store(&self) -> Result<Uuid> {
        let applied = self.applied_here().await?;
        check(MIGRATIONS, applied.as_deref()).map_err(|error| error.context(self.whereabouts()))?;
        let id: Option<String> = sqlx::query_scalar(self.inner.sql.identity.clone())
            .fetch_optional(&self.inner.readers)
            .await
            .map_err(|error| failed("checking the store", error))?;
        id.and_then(|id| Uuid::try_parse(&id).ok()).ok_or_else(|| {
            Error::new(
                ErrorKind::Migration,
                format!(
                    "{}: the table `{}store` has no row with the store's identity: restore it, or \
                     drop the tables and migrate again",
                    self.whereabouts(),
                    self.prefix()
                ),
            )
        })
    }
}
