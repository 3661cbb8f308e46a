//! Claims of markers that say more than "processed", or that take over one that does.
//!
//! Apart from the plain claim (see `claim`), so that batches without a failure do not pay for them.

use idem_runtime::MarkerState;
use idem_runtime::store::Claim;

/// A marker that says dead or parked is taken over, if that is asked for; its origin and metadata
/// stay. Unlike the plain claim this locks known markers, in the order in which new ones are
/// inserted.
pub(crate) const LANE: &str = r#"
with fence as materialized (
    select lane_id from {schema}.lanes where lane_id = $1 and token = $2
), claims as (
    select fence.lane_id,
           c.scope collate "C" as scope,
           c.event_key collate "C" as event_key,
           c.source_offset,
           c.metadata,
           c.state,
           c.reclaim,
           c.place
    from fence
    cross join unnest($3::text[], $4::text[], $5::bigint[], $6::jsonb[], $7::smallint[],
                      $8::boolean[])
        with ordinality as c (scope, event_key, source_offset, metadata, state, reclaim, place)
), inserted as (
    insert into {schema}.markers as marker
        (lane_id, source_offset, scope, event_key, metadata, state)
    select lane_id, source_offset, scope, event_key, metadata, state from claims order by place
    on conflict (scope, event_key) do update
    set state = excluded.state, processed_at = now(), attempt = excluded.attempt
    where marker.state <> 0
      and (excluded.scope, excluded.event_key) in (
          select scope, event_key from claims where reclaim
      )
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

/// As [`LANE`], for a call without one.
pub(crate) const DIRECT: &str = r#"
with claims as (
    select c.scope collate "C" as scope,
           c.event_key collate "C" as event_key,
           c.metadata,
           c.state,
           c.reclaim,
           c.place
    from unnest($1::text[], $2::text[], $3::jsonb[], $5::smallint[], $6::boolean[])
        with ordinality as c (scope, event_key, metadata, state, reclaim, place)
), inserted as (
    insert into {schema}.markers as marker (scope, event_key, metadata, attempt, state)
    select scope, event_key, metadata, $4::uuid, state from claims order by place
    on conflict (scope, event_key) do update
    set state = excluded.state, processed_at = now(), attempt = excluded.attempt
    where marker.state <> 0
      and (excluded.scope, excluded.event_key) in (
          select scope, event_key from claims where reclaim
      )
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

/// What each marker is to say and whether it may be taken over; nothing when all are of processed
/// events, as in every batch without a failure.
pub(crate) fn states(claims: &[Claim<'_>]) -> Option<(Vec<i16>, Vec<bool>)> {
    claims
        .iter()
        .any(|claim| claim.state != MarkerState::Processed || claim.reclaim)
        .then(|| claims.iter().map(|claim| (claim.state.as_i16(), claim.reclaim)).unzip())
}
