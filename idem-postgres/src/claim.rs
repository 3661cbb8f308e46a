//! The claim: in one statement, whether the lane is still the writer's, the guard of the
//! transaction, and the markers.

use idem_runtime::store::{Claim, Claimed, Writer};
use idem_runtime::{Error, ErrorKind, Result};
use serde_json::Value;
use sqlx::types::Json;

use crate::Inner;
use crate::claim_states::states;
use crate::error::failed;
use crate::tx::Tx;
use crate::zombie::unblocked;

/// No row: the lane has another token, and nothing was inserted. The lane's row is read without a
/// lock; the seal is what counts. `new` is null when all keys were, which is the common answer.
///
/// The collation is named because a parameter brings another one than the column's.
pub(crate) const LANE: &str = r#"
with fence as materialized (
    select lane_id from {schema}.lanes where lane_id = $1 and token = $2
), claims as (
    select fence.lane_id,
           c.scope collate "C" as scope,
           c.event_key collate "C" as event_key,
           c.source_offset,
           c.metadata,
           c.place
    from fence
    cross join unnest($3::text[], $4::text[], $5::bigint[], $6::jsonb[])
        with ordinality as c (scope, event_key, source_offset, metadata, place)
), inserted as (
    insert into {schema}.markers (lane_id, source_offset, scope, event_key, metadata)
    select lane_id, source_offset, scope, event_key, metadata from claims order by place
    on conflict (scope, event_key) do nothing
    returning scope, event_key
), guarded as (
    insert into {schema}.open_batches (batch)
    select pg_current_xact_id() from fence
    returning batch, ctid
)
select batch::text, ctid::text,
       case when (select count(*) from inserted) < cardinality($3::text[]) then
           array(select place from claims join inserted using (scope, event_key) order by place)
       end as new
from guarded
"#;

/// As [`LANE`], for keys of one scope with nothing beside them, which is the common case: what was new
/// is told by the offsets, which spares a join.
pub(crate) const LANE_ONE: &str = r#"
with fence as materialized (
    select lane_id from {schema}.lanes where lane_id = $1 and token = $2
), inserted as (
    insert into {schema}.markers (lane_id, source_offset, scope, event_key)
    select fence.lane_id, c.source_offset, $3, c.event_key
    from fence
    cross join unnest($4::text[], $5::bigint[])
        with ordinality as c (event_key, source_offset, place)
    order by c.place
    on conflict (scope, event_key) do nothing
    returning source_offset
), guarded as (
    insert into {schema}.open_batches (batch)
    select pg_current_xact_id() from fence
    returning batch, ctid
)
select batch::text, ctid::text,
       case when (select count(*) from inserted) < cardinality($4::text[]) then
           array(select source_offset from inserted)
       end as new
from guarded
"#;

/// No guard and no transaction id when all keys were known: there is nothing to run then.
pub(crate) const DIRECT: &str = r#"
with claims as (
    select c.scope collate "C" as scope,
           c.event_key collate "C" as event_key,
           c.metadata,
           c.place
    from unnest($1::text[], $2::text[], $3::jsonb[])
        with ordinality as c (scope, event_key, metadata, place)
), inserted as (
    insert into {schema}.markers (scope, event_key, metadata, attempt)
    select scope, event_key, metadata, $4::uuid from claims order by place
    on conflict (scope, event_key) do nothing
    returning scope, event_key
), guarded as (
    insert into {schema}.open_batches (batch)
    select pg_current_xact_id() where exists (select from inserted)
    returning batch, ctid
)
select (select batch::text from guarded), (select ctid::text from guarded),
       case when (select count(*) from inserted) < cardinality($1::text[]) then
           array(select place from claims join inserted using (scope, event_key) order by place)
       end as new
"#;

/// The transaction, the address of its guard's row, and the places (from 1) of the new keys.
type Answer = (Option<String>, Option<String>, Option<Vec<i64>>);

pub(crate) async fn claim(
    store: &Inner,
    tx: &mut Tx,
    writer: &Writer<'_>,
    claims: &[Claim<'_>],
) -> Result<Claimed> {
    tx.sealed = false;
    let scopes: Vec<&str> = claims.iter().map(|claim| claim.scope).collect();
    let keys: Vec<&str> = claims.iter().map(|claim| claim.key.as_str()).collect();
    let metadata = metadata(claims);
    let states = states(claims);
    let sql = store.sql_in(tx);
    let one = match (&metadata, &states) {
        (None, None) => one_scope(claims),
        _ => None,
    };
    let answered = match writer {
        Writer::Lane(held) if let Some((scope, offsets)) = &one => {
            let statement = sqlx::query_as::<_, Answer>(sql.claim_lane_one.clone())
                .bind(held.number)
                .bind(held.token)
                .bind(*scope)
                .bind(keys)
                .bind(offsets);
            unblocked(store, held, tx.session.optional(statement)).await
        }
        Writer::Lane(held) => {
            let offsets: Vec<Option<i64>> = claims.iter().map(|claim| claim.offset).collect();
            let statement = match &states {
                None => &sql.claim_lane,
                Some(_) => &sql.claim_lane_as,
            };
            let mut statement = sqlx::query_as::<_, Answer>(statement.clone())
                .bind(held.number)
                .bind(held.token)
                .bind(scopes)
                .bind(keys)
                .bind(offsets)
                .bind(metadata);
            if let Some((states, reclaim)) = states {
                statement = statement.bind(states).bind(reclaim);
            }
            unblocked(store, held, tx.session.optional(statement)).await
        }
        Writer::Direct { attempt } => {
            let statement = match &states {
                None => &sql.claim_direct,
                Some(_) => &sql.claim_direct_as,
            };
            let mut statement = sqlx::query_as::<_, Answer>(statement.clone())
                .bind(scopes)
                .bind(keys)
                .bind(metadata)
                .bind(*attempt);
            if let Some((states, reclaim)) = states {
                statement = statement.bind(states).bind(reclaim);
            }
            tx.session.optional(statement).await
        }
        _ => return Err(Error::new(ErrorKind::Config, "claim: not a writer this store knows")),
    };
    let answered = answered.map_err(|error| failed("claim", error))?;
    let Some((xid, guard, new)) = answered else { return Ok(Claimed::Fenced) };
    if let Some((xid, guard)) = xid.zip(guard) {
        tx.guard(xid, guard);
    }
    Ok(Claimed::Keys(match (one, writer) {
        (Some((_, offsets)), Writer::Lane(_)) => which_of(new, &offsets),
        _ => which(new, claims.len()),
    }))
}

/// The scope and the offsets of claims that are all of one scope and have each an offset of its own.
fn one_scope<'a>(claims: &[Claim<'a>]) -> Option<(&'a str, Vec<i64>)> {
    let scope = claims.first().map_or("", |claim| claim.scope);
    let offsets = claims.iter().map(|claim| claim.offset.filter(|_| claim.scope == scope));
    let offsets: Vec<i64> = offsets.collect::<Option<_>>()?;
    let mut sorted = offsets.clone();
    sorted.sort_unstable();
    sorted.is_sorted_by(|a, b| a < b).then_some((scope, offsets))
}

/// For each of these offsets whether it is among `new`; all are when that is missing.
fn which_of(new: Option<Vec<i64>>, offsets: &[i64]) -> Vec<bool> {
    let Some(mut new) = new else { return vec![true; offsets.len()] };
    new.sort_unstable();
    offsets.iter().map(|offset| new.binary_search(offset).is_ok()).collect()
}

/// Null, not an array of nulls, when nobody keeps anything beside the markers.
fn metadata<'a>(claims: &[Claim<'a>]) -> Option<Vec<Option<Json<&'a Value>>>> {
    claims
        .iter()
        .any(|claim| claim.metadata.is_some())
        .then(|| claims.iter().map(|claim| claim.metadata.map(Json)).collect())
}

/// For each of `len` claims whether its place is among `new`; all are when that is missing.
fn which(new: Option<Vec<i64>>, len: usize) -> Vec<bool> {
    let Some(new) = new else { return vec![true; len] };
    let mut which = vec![false; len];
    for place in new {
        let place = usize::try_from(place - 1).ok();
        if let Some(it) = place.and_then(|place| which.get_mut(place)) {
            *it = true;
        }
    }
    which
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_answered_in_the_order_of_the_claims() {
        assert_eq!(which_of(None, &[7, 5]), [true, true]);
        assert_eq!(which_of(Some(vec![9, 5]), &[7, 5, 9]), [false, true, true]);
    }

    #[test]
    fn places_are_answered_in_the_order_of_the_claims() {
        assert_eq!(which(None, 2), [true, true]);
        assert_eq!(which(Some(vec![2]), 3), [false, true, false]);
        assert_eq!(which(Some(vec![]), 1), [false]);
    }
}
