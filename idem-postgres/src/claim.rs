//! The claim: in one statement, whether the lane is still the writer's, the guard of the
//! transaction, and the markers.

use idem_runtime::packed::refused;
use idem_runtime::store::{Claim, Claimed, Writer};
use idem_runtime::{Error, ErrorKind, Result};

use crate::Inner;
use crate::beside::Beside;
use crate::claim_states::states;
use crate::error::failed;
use crate::marker_id::marker_ids;
use crate::tx::Tx;
use crate::zombie::unblocked;

/// No row: the lane has another token, and nothing was inserted. The lane's row is read without a
/// lock; the seal is what counts. `new` is null when all keys were, which is the common answer.
pub(crate) const LANE: &str = r#"
with fence as materialized (
    select lane_id from {schema}.lanes where lane_id = $1 and token = $2
), claims as (
    select fence.lane_id, c.*
    from fence
    cross join unnest($3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::jsonb[], $8::bytea[],
                      $9::text[], $10::text[])
        with ordinality as c (marker_id, scope, event_key, source_offset, metadata, fingerprint,
                              correlation_id, causation_id, place)
), inserted as (
    insert into {schema}.markers (marker_id, lane_id, source_offset, scope, event_key, metadata,
                                  fingerprint, correlation_id, causation_id)
    select marker_id, lane_id, source_offset, scope, event_key, metadata,
           fingerprint, correlation_id, causation_id
    from claims order by place
    on conflict (marker_id) do nothing
    returning marker_id
), guarded as (
    insert into {schema}.open_batches (batch)
    select pg_current_xact_id() from fence
    returning batch, ctid
)
select batch::text, ctid::text,
       case when (select count(*) from inserted) < cardinality($3::uuid[]) then
           array(select place from claims join inserted using (marker_id) order by place)
       end as new
from guarded
"#;

/// As [`LANE`], for keys of one scope with nothing beside them, which is the common case: what was new
/// is told by the offsets, which spares a join.
pub(crate) const LANE_ONE: &str = r#"
with fence as materialized (
    select lane_id from {schema}.lanes where lane_id = $1 and token = $2
), inserted as (
    insert into {schema}.markers (marker_id, lane_id, source_offset, scope, event_key)
    select c.marker_id, fence.lane_id, c.source_offset, $3, c.event_key
    from fence
    cross join unnest($4::uuid[], $5::text[], $6::bigint[])
        with ordinality as c (marker_id, event_key, source_offset, place)
    order by c.place
    on conflict (marker_id) do nothing
    returning source_offset
), guarded as (
    insert into {schema}.open_batches (batch)
    select pg_current_xact_id() from fence
    returning batch, ctid
)
select batch::text, ctid::text,
       case when (select count(*) from inserted) < cardinality($4::uuid[]) then
           array(select source_offset from inserted)
       end as new
from guarded
"#;

/// As [`LANE_ONE`], for many keys: in two steps on the server, of which the second is seldom needed.
pub(crate) const LANE_MANY: &str = r#"
with fence as materialized (
    select lane_id from {schema}.lanes where lane_id = $1 and token = $2
), claimed as materialized (
    select {schema}.claim_keys(fence.lane_id, $3, $4::uuid[], $5::text[], $6::bigint[]) as new
    from fence
), guarded as (
    insert into {schema}.open_batches (batch)
    select pg_current_xact_id() from claimed
    returning batch, ctid
)
select batch::text, ctid::text,
       (select new from claimed where cardinality(new) < cardinality($4::uuid[])) as new
from guarded
"#;

/// How many keys are many.
const MANY: usize = 8;

/// No guard and no transaction id when all keys were known: there is nothing to run then. Without any
/// key there is a guard: what runs then has no marker. Nothing is inserted where a scope is packed.
pub(crate) const DIRECT: &str = r#"
with claims as (
    select c.*
    from unnest($2::uuid[], $3::text[], $4::text[], $5::jsonb[], $6::bytea[], $7::text[], $8::text[])
        with ordinality as c (marker_id, scope, event_key, metadata, fingerprint, correlation_id,
                              causation_id, place)
), refused as materialized (
    select scope from unnest($3::text[]) as asked (scope)
    where exists (select from {schema}.scopes owned
                  where owned.scope = asked.scope and owned.mode = 'packed')
       or exists (select from {schema}.packs pack where pack.scope = asked.scope)
    limit 1
), inserted as (
    insert into {schema}.markers (marker_id, scope, event_key, metadata, attempt, fingerprint,
                                  correlation_id, causation_id)
    select marker_id, scope, event_key, metadata, $1::uuid, fingerprint, correlation_id, causation_id
    from claims where not exists (select from refused) order by place
    on conflict (marker_id) do nothing
    returning marker_id
), guarded as (
    insert into {schema}.open_batches (batch)
    select pg_current_xact_id()
    where exists (select from inserted) or cardinality($2::uuid[]) = 0
    returning batch, ctid
)
select (select batch::text from guarded), (select ctid::text from guarded),
       case when (select count(*) from inserted) < cardinality($2::uuid[]) then
           array(select place from claims join inserted using (marker_id) order by place)
       end as new,
       (select scope from refused)
"#;

/// The transaction, the address of its guard's row, and the places (from 1) of the new keys.
type Answer = (Option<String>, Option<String>, Option<Vec<i64>>);

/// And a scope that a call without a lane cannot use.
type DirectAnswer = (Option<String>, Option<String>, Option<Vec<i64>>, Option<String>);

pub(crate) async fn claim(
    store: &Inner,
    tx: &mut Tx,
    writer: &Writer<'_>,
    claims: &[Claim<'_>],
) -> Result<Claimed> {
    tx.sealed = false;
    let sql = store.sql_in(tx);
    let beside = Beside::of(claims);
    let states = states(claims);
    let one = if beside.is_none() && states.is_none() { one_scope(claims) } else { None };
    let ids = marker_ids(claims.iter().map(|claim| (claim.scope, claim.key.as_str())));
    let keys: Vec<&str> = claims.iter().map(|claim| claim.key.as_str()).collect();
    let answered = match writer {
        Writer::Lane(held) if let Some((scope, offsets)) = &one => {
            // A serializable transaction would be in conflict with whoever inserts near a key that
            // it has looked for.
            let many = claims.len() >= MANY && !tx.is_serializable;
            let statement = if many { &sql.claim_lane_many } else { &sql.claim_lane_one };
            let statement = sqlx::query_as::<_, Answer>(statement.clone())
                .bind(held.number)
                .bind(held.token)
                .bind(*scope)
                .bind(ids)
                .bind(keys)
                .bind(offsets);
            unblocked(store, held, tx.session.optional(statement)).await
        }
        Writer::Lane(held) => {
            let statement = if states.is_none() { &sql.claim_lane } else { &sql.claim_lane_as };
            let offsets: Vec<Option<i64>> = claims.iter().map(|claim| claim.offset).collect();
            let statement = sqlx::query_as::<_, Answer>(statement.clone())
                .bind(held.number)
                .bind(held.token)
                .bind(ids)
                .bind(scopes(claims))
                .bind(keys)
                .bind(offsets);
            let statement = beside.bind(statement);
            let statement = match states {
                None => statement,
                Some(states) => states.bind(statement),
            };
            unblocked(store, held, tx.session.optional(statement)).await
        }
        Writer::Direct { attempt } => {
            let statement = if states.is_none() { &sql.claim_direct } else { &sql.claim_direct_as };
            let statement = sqlx::query_as::<_, DirectAnswer>(statement.clone())
                .bind(*attempt)
                .bind(ids)
                .bind(scopes(claims))
                .bind(keys);
            let statement = beside.bind(statement);
            let statement = match states {
                None => statement,
                Some(states) => states.bind(statement),
            };
            match tx.session.optional(statement).await {
                Ok(Some((_, _, _, Some(scope)))) => return Err(refused(&scope)),
                Ok(answer) => Ok(answer.map(|(xid, guard, new, _)| (xid, guard, new))),
                Err(error) => Err(error),
            }
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

fn scopes<'a>(claims: &[Claim<'a>]) -> Vec<&'a str> {
    claims.iter().map(|claim| claim.scope).collect()
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
