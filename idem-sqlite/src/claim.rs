//! The claim: inserting markers tells which keys are new.

use idem_runtime::store::{Claim, Claimed, Writer};
use idem_runtime::{Error, ErrorKind, Result};

use crate::Inner;
use crate::error::failed;
use crate::tx::Tx;

const DOING: &str = "claim";

/// The transaction is the only one that writes, so that the answer holds until it ends.
pub(crate) const TOKEN_IS: &str =
    "select exists (select 1 from {schema}lanes where lane_id = ?1 and token = ?2)";

/// One row of JSON for each claim: scope, key, offset, metadata (as text). Only what was inserted
/// comes back.
pub(crate) const INSERT: &str = "
insert into {schema}markers (scope, event_key, source_offset, metadata, lane_id, attempt)
select value ->> 0, value ->> 1, value ->> 2, value ->> 3, ?2, ?3
from json_each(?1)
where true
on conflict (scope, event_key) do nothing
returning scope, event_key
";

pub(crate) async fn claim(
    store: &Inner,
    tx: &mut Tx,
    writer: &Writer<'_>,
    claims: &[Claim<'_>],
) -> Result<Claimed> {
    let (lane, attempt) = match writer {
        Writer::Lane(held) => {
            let same: bool = sqlx::query_scalar(store.sql.token_is.clone())
                .bind(held.number)
                .bind(held.token.to_string())
                .fetch_one(tx.connection())
                .await
                .map_err(|error| failed(DOING, error))?;
            if !same {
                return Ok(Claimed::Fenced);
            }
            (Some(held.number), None)
        }
        Writer::Direct { attempt } => (None, Some(attempt.to_string())),
        _ => {
            let message = "claim: this release of the SQLite store does not know such a writer";
            return Err(Error::new(ErrorKind::Config, message));
        }
    };
    let mut new = vec![false; claims.len()];
    if claims.is_empty() {
        return Ok(Claimed::Keys(new));
    }
    let inserted: Vec<(String, String)> = sqlx::query_as(store.sql.insert_markers.clone())
        .bind(rows(claims)?)
        .bind(lane)
        .bind(attempt)
        .fetch_all(tx.connection())
        .await
        .map_err(|error| failed(DOING, error))?;
    for (scope, key) in &inserted {
        let place = (scope.as_str(), key.as_str());
        // The claims are sorted.
        if let Ok(index) = claims.binary_search_by(|it| (it.scope, it.key.as_str()).cmp(&place)) {
            new[index] = true;
        }
    }
    Ok(Claimed::Keys(new))
}

fn rows(claims: &[Claim<'_>]) -> Result<String> {
    let rows: Vec<_> = claims
        .iter()
        .map(|it| (it.scope, it.key.as_str(), it.offset, it.metadata.map(ToString::to_string)))
        .collect();
    serde_json::to_string(&rows).map_err(|error| {
        Error::new(ErrorKind::Store, "claim: the keys cannot be written").with_source(error)
    })
}
