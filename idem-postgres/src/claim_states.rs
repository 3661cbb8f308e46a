//! Claims of markers that say more than "processed", or that take over one that does.
//!
//! Apart from the plain claim (see `claim`), so that batches without a failure do not pay for them.

use idem_runtime::MarkerState;
use idem_runtime::store::Claim;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use uuid::Uuid;

/// A marker that says anything but "processed" is taken over, if that is asked for; its origin and what
/// is beside it stay, but for the fingerprint: it is of the payload that is worked now. Unlike the plain claim this locks known markers, in the order in which new ones
/// are inserted.
pub(crate) const LANE: &str = r#"
with fence as materialized (
    select lane_id from {schema}.lanes where lane_id = $1 and token = $2
), claims as (
    select fence.lane_id, c.*
    from fence
    cross join unnest($3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::jsonb[], $8::bytea[],
                      $9::text[], $10::text[], $11::smallint[], $12::boolean[], $13::uuid[])
        with ordinality as c (marker_id, scope, event_key, source_offset, metadata, fingerprint,
                              correlation_id, causation_id, state, reclaim, attempt, place)
), inserted as (
    insert into {schema}.markers as marker
        (marker_id, lane_id, source_offset, scope, event_key, metadata, fingerprint, correlation_id,
         causation_id, state, attempt)
    select marker_id, lane_id, source_offset, scope, event_key, metadata, fingerprint,
           correlation_id, causation_id, state, attempt
    from claims order by place
    on conflict (marker_id) do update
    set state = excluded.state, processed_at = now(), attempt = excluded.attempt,
        fingerprint = excluded.fingerprint
    where marker.state <> 0
      and excluded.marker_id in (select marker_id from claims where reclaim)
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

/// As [`LANE`], for a call without one.
pub(crate) const DIRECT: &str = r#"
with claims as (
    select c.*
    from unnest($2::uuid[], $3::text[], $4::text[], $5::jsonb[], $6::bytea[], $7::text[],
                $8::text[], $9::smallint[], $10::boolean[], $11::uuid[])
        with ordinality as c (marker_id, scope, event_key, metadata, fingerprint, correlation_id,
                              causation_id, state, reclaim, attempt, place)
), refused as materialized (
    select scope from {schema}.scopes
    where scope in (select scope from claims where not reclaim) and mode = 'packed'
    limit 1
), inserted as (
    insert into {schema}.markers as marker
        (marker_id, scope, event_key, metadata, attempt, fingerprint, correlation_id, causation_id,
         state)
    select marker_id, scope, event_key, metadata, coalesce(attempt, $1::uuid), fingerprint,
           correlation_id, causation_id, state
    from claims where not exists (select from refused) order by place
    on conflict (marker_id) do update
    set state = excluded.state, processed_at = now(), attempt = excluded.attempt,
        fingerprint = excluded.fingerprint
    where marker.state <> 0
      and excluded.marker_id in (select marker_id from claims where reclaim)
    returning marker_id
), guarded as (
    insert into {schema}.open_batches (batch)
    select pg_current_xact_id() where exists (select from inserted)
    returning batch, ctid
)
select (select batch::text from guarded), (select ctid::text from guarded),
       case when (select count(*) from inserted) < cardinality($2::uuid[]) then
           array(select place from claims join inserted using (marker_id) order by place)
       end as new,
       (select scope from refused)
"#;

/// What each marker is to say, whether it may be taken over, and whose attempt it is.
pub(crate) struct States {
    states: Vec<i16>,
    reclaim: Vec<bool>,
    attempts: Vec<Option<Uuid>>,
}

impl States {
    /// Three parameters.
    pub(crate) fn bind<'q, O>(
        self,
        statement: QueryAs<'q, Postgres, O, PgArguments>,
    ) -> QueryAs<'q, Postgres, O, PgArguments> {
        statement.bind(self.states).bind(self.reclaim).bind(self.attempts)
    }
}

/// Nothing when all are of processed events, as in every batch without a failure.
pub(crate) fn states(claims: &[Claim<'_>]) -> Option<States> {
    let plain = |claim: &Claim<'_>| {
        claim.state == MarkerState::Processed && !claim.reclaim && claim.attempt.is_none()
    };
    (!claims.iter().all(plain)).then(|| States {
        states: claims.iter().map(|claim| claim.state.as_i16()).collect(),
        reclaim: claims.iter().map(|claim| claim.reclaim).collect(),
        attempts: claims.iter().map(|claim| claim.attempt).collect(),
    })
}
