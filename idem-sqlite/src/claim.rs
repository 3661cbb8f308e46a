//! The claim: inserting markers tells which keys are new.

use std::collections::HashMap;

use idem_runtime::packed::refused;
use idem_runtime::store::{Claim, Claimed, GivenUp, Writer};
use idem_runtime::{Error, ErrorKind, Fingerprint, Key, Result};
use sqlx::SqlStr;

use crate::Inner;
use crate::error::{failed, unwritable};
use crate::markers::state;
use crate::statements::now;
use crate::tx::Tx;

const DOING: &str = "claim";

/// The transaction is the only one that writes, so that the answer holds until it ends.
pub(crate) const TOKEN_IS: &str =
    "select exists (select 1 from {schema}lanes where lane_id = ?1 and token = ?2)";

/// One row of JSON for each claim: scope, key, offset, metadata (as text), state, attempt, fingerprint
/// (in hexadecimal), correlation, causation, the attempt that is taken over, whether what was given up
/// on is. Only what was inserted or taken over comes back.
macro_rules! insert {
    ($which:expr, $conflict:expr) => {
        concat!(
            "insert into {schema}markers
                 (scope, event_key, source_offset, metadata, lane_id, attempt, state, fingerprint,
                  correlation_id, causation_id)
             select value ->> 0, value ->> 1, value ->> 2, value ->> 3, ?2,
                    coalesce(value ->> 5, ?3), value ->> 4, unhex(value ->> 6), value ->> 7,
                    value ->> 8
             from json_each(?1)
             where ",
            $which,
            " on conflict (scope, event_key) do ",
            $conflict,
            " returning scope, event_key"
        )
    };
}

pub(crate) const INSERT: &str = insert!("true", "nothing");

/// What was given up on is taken over, and new, and so is the attempt that is named. Its origin stays
/// what it was.
pub(crate) const RECLAIM: &str = insert!(
    "value ->> 9 is null or exists (
         select 1 from {schema}markers
         where scope = value ->> 0 and event_key = value ->> 1 and state = 3 and attempt = value ->> 9)",
    concat!(
        "update set state = excluded.state, attempt = excluded.attempt,
             fingerprint = case state when 3 then coalesce(excluded.fingerprint, fingerprint)
                           else excluded.fingerprint end,
             metadata = case state when 3 then coalesce(excluded.metadata, metadata) else metadata end,
             processed_at = ",
        now!(),
        " where case state
              when 3 then (excluded.scope, excluded.event_key, attempt) in
                  (select value ->> 0, value ->> 1, value ->> 9 from json_each(?1))
              else state <> 0 and (excluded.scope, excluded.event_key) in
                  (select value ->> 0, value ->> 1 from json_each(?1)
                   where value ->> 10 and value ->> 9 is null)
          end"
    )
);

/// Few markers are in another state than processed; those have an index of their own, which SQLite
/// would not choose by itself.
pub(crate) const GIVEN_UP: &str = "
select scope, event_key, state, lane_id, source_offset
from {schema}markers indexed by {schema}markers_given_up_idx
where state <> 0
  and (scope, event_key) in (select value ->> 0, value ->> 1 from json_each(?1))
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
        Writer::Direct { attempt } => {
            refuse_packed(store, tx, claims).await?;
            (None, Some(attempt.to_string()))
        }
        _ => {
            let message = "claim: this release of the SQLite store does not know such a writer";
            return Err(Error::new(ErrorKind::Config, message));
        }
    };
    let mut new = vec![false; claims.len()];
    for (sql, rows) in statements(store, claims)? {
        let inserted: Vec<(String, String)> = sqlx::query_as(sql.clone())
            .bind(rows)
            .bind(lane)
            .bind(attempt.as_deref())
            .fetch_all(tx.connection())
            .await
            .map_err(|error| failed(DOING, error))?;
        for (scope, key) in &inserted {
            let place = (scope.as_str(), key.as_str());
            // The claims are sorted.
            if let Ok(at) = claims.binary_search_by(|it| (it.scope, it.key.as_str()).cmp(&place)) {
                new[at] = true;
            }
        }
    }
    Ok(Claimed::Keys(new))
}

/// Whether none of the scopes is packed: what is there cannot be seen without its lanes.
async fn refuse_packed(store: &Inner, tx: &mut Tx, claims: &[Claim<'_>]) -> Result<()> {
    // Who takes a marker over knows of it.
    let plain = claims.iter().filter(|claim| !claim.reclaim && claim.over.is_none());
    let scopes: Vec<&str> = plain.map(|claim| claim.scope).collect();
    if scopes.is_empty() {
        return Ok(());
    }
    let scopes = serde_json::to_string(&scopes).map_err(|error| unwritable(DOING, error))?;
    let packed: Option<String> = sqlx::query_scalar(store.sql.packed_scope.clone())
        .bind(scopes)
        .fetch_optional(tx.connection())
        .await
        .map_err(|error| failed(DOING, error))?;
    packed.map_or(Ok(()), |scope| Err(refused(&scope)))
}

/// Which statements claim them, each with its rows: two at most. Their order is of no consequence where
/// one transaction writes at a time.
fn statements<'s>(store: &'s Inner, claims: &[Claim<'_>]) -> Result<Vec<(&'s SqlStr, String)>> {
    let sql = &store.sql;
    let mut statements = Vec::with_capacity(2);
    for (takes, sql) in [(false, &sql.insert_markers), (true, &sql.reclaim_markers)] {
        if claims.iter().any(|it| takes_over(it) == takes) {
            statements.push((sql, rows(claims, takes)?));
        }
    }
    Ok(statements)
}

/// Whether it may take a marker over.
fn takes_over(claim: &Claim<'_>) -> bool {
    claim.reclaim || claim.over.is_some()
}

/// Of those claims that may take a marker over, or of those that do not.
fn rows(claims: &[Claim<'_>], takes: bool) -> Result<String> {
    let rows: Vec<_> = claims
        .iter()
        .filter(|it| takes_over(it) == takes)
        .map(|it| {
            let attempt = it.attempt.map(|attempt| attempt.to_string());
            let beside = (it.fingerprint.map(hex), it.correlation, it.causation);
            let key = it.key.as_str();
            (
                it.scope,
                key,
                it.offset,
                metadata(it),
                it.state.as_i16(),
                attempt,
                beside.0,
                beside.1,
                beside.2,
                it.over.map(|over| over.to_string()),
                it.reclaim,
            )
        })
        .collect();
    serde_json::to_string(&rows).map_err(|error| unwritable(DOING, error))
}

fn hex(fingerprint: Fingerprint) -> String {
    format!("{:032x}", u128::from_be_bytes(fingerprint))
}

fn metadata(claim: &Claim<'_>) -> Option<String> {
    claim.metadata.map(ToString::to_string)
}

/// Scope, key, state, lane, offset.
type Found = (String, String, i16, Option<i64>, Option<i64>);

/// For each key in order: whether it was given up on, and which event it was.
pub(crate) async fn given_up(
    store: &Inner,
    tx: &mut Tx,
    keys: &[(&str, &Key)],
) -> Result<Vec<Option<GivenUp>>> {
    const DOING: &str = "looking for keys that were given up on";
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<_> = keys.iter().map(|(scope, key)| (scope, key.as_str())).collect();
    let rows = serde_json::to_string(&rows).map_err(|error| unwritable(DOING, error))?;
    let found: Vec<Found> = sqlx::query_as(store.sql.given_up_keys.clone())
        .bind(rows)
        .fetch_all(tx.connection())
        .await
        .map_err(|error| failed(DOING, error))?;
    let mut given_up = HashMap::with_capacity(found.len());
    for (scope, key, number, lane, offset) in &found {
        let state = state(*number).map_err(|error| failed(DOING, error))?;
        let found = GivenUp { state, lane: *lane, offset: *offset };
        given_up.insert((scope.as_str(), key.as_str()), found);
    }
    Ok(keys.iter().map(|(scope, key)| given_up.get(&(*scope, key.as_str())).copied()).collect())
}
