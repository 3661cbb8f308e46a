//! Claims of markers that say more than "processed", or that take over one that does.
//!
//! Apart from the plain claim (see `claim`), so that batches without a failure do not pay for them.

use idem_runtime::MarkerState;
use idem_runtime::store::Claim;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use uuid::Uuid;

/// A marker that says "dead" or "parked" is taken over, if that is asked for; its origin and what is
/// beside it stay, but for the fingerprint: it is of the payload that is worked now, or none. Unlike the
/// plain claim this locks known markers, in the order in which new ones are inserted.
///
/// One that says "begun" is taken over as that of an attempt, and is locked before: whoever is taking
/// it over or back is waited for, and then it is that attempt's or nothing is done.
pub(crate) const LANE: &str = r#"
with fence as materialized (
    select lane_id from {schema}.lanes where lane_id = $1 and token = $2
), claims as (
    select fence.lane_id, c.*
    from fence
    cross join unnest($3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::jsonb[], $8::bytea[],
                      $9::text[], $10::text[], $11::smallint[], $12::boolean[], $13::uuid[],
                      $14::uuid[])
        with ordinality as c (marker_id, scope, event_key, source_offset, metadata, fingerprint,
                              correlation_id, causation_id, state, reclaim, attempt, over, place)
), begun as materialized (
    select known.marker_id
    from claims
    cross join lateral (
        select marker.marker_id
        from {schema}.markers marker
        where marker.marker_id = claims.marker_id
          and marker.state = 3
          and marker.attempt = claims.over
        limit 1
        for update
    ) as known
    where claims.over is not null
), inserted as (
    insert into {schema}.markers as marker
        (marker_id, lane_id, source_offset, scope, event_key, metadata, fingerprint, correlation_id,
         causation_id, state, attempt)
    select marker_id, lane_id, source_offset, scope, event_key, metadata, fingerprint,
           correlation_id, causation_id, state, attempt
    from claims
    where over is null or marker_id in (select marker_id from begun)
    order by place
    on conflict (marker_id) do update
    set state = excluded.state, processed_at = now(), attempt = excluded.attempt,
        fingerprint = case marker.state when 3
                      then coalesce(excluded.fingerprint, marker.fingerprint)
                      else excluded.fingerprint end,
        metadata = case marker.state when 3 then coalesce(excluded.metadata, marker.metadata)
                   else marker.metadata end
    where case marker.state when 3 then excluded.marker_id in (select marker_id from begun)
          else marker.state <> 0 and excluded.marker_id in
              (select marker_id from claims where reclaim and over is null) end
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
                $8::text[], $9::smallint[], $10::boolean[], $11::uuid[], $12::uuid[])
        with ordinality as c (marker_id, scope, event_key, metadata, fingerprint, correlation_id,
                              causation_id, state, reclaim, attempt, over, place)
), refused as materialized (
    select scope from claims
    where not reclaim and over is null
      and (exists (select from {schema}.scopes owned
                   where owned.scope = claims.scope and owned.mode = 'packed')
           or exists (select from {schema}.packs pack where pack.scope = claims.scope))
    limit 1
), begun as materialized (
    select known.marker_id
    from claims
    cross join lateral (
        select marker.marker_id
        from {schema}.markers marker
        where marker.marker_id = claims.marker_id
          and marker.state = 3
          and marker.attempt = claims.over
        limit 1
        for update
    ) as known
    where claims.over is not null
), inserted as (
    insert into {schema}.markers as marker
        (marker_id, scope, event_key, metadata, attempt, fingerprint, correlation_id, causation_id,
         state)
    select marker_id, scope, event_key, metadata, coalesce(attempt, $1::uuid), fingerprint,
           correlation_id, causation_id, state
    from claims
    where not exists (select from refused)
      and (over is null or marker_id in (select marker_id from begun))
    order by place
    on conflict (marker_id) do update
    set state = excluded.state, processed_at = now(), attempt = excluded.attempt,
        fingerprint = case marker.state when 3
                      then coalesce(excluded.fingerprint, marker.fingerprint)
                      else excluded.fingerprint end,
        metadata = case marker.state when 3 then coalesce(excluded.metadata, marker.metadata)
                   else marker.metadata end
    where case marker.state when 3 then excluded.marker_id in (select marker_id from begun)
          else marker.state <> 0 and excluded.marker_id in
              (select marker_id from claims where reclaim and over is null) end
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

/// What each marker is to say, whether it may be taken over, whose attempt it is, and whose it was.
pub(crate) struct States {
    states: Vec<i16>,
    reclaim: Vec<bool>,
    attempts: Vec<Option<Uuid>>,
    over: Vec<Option<Uuid>>,
}

impl States {
    /// Four parameters.
    pub(crate) fn bind<'q, O>(
        self,
        statement: QueryAs<'q, Postgres, O, PgArguments>,
    ) -> QueryAs<'q, Postgres, O, PgArguments> {
        statement.bind(self.states).bind(self.reclaim).bind(self.attempts).bind(self.over)
    }
}

/// Nothing when all are of processed events, as in every batch without a failure.
pub(crate) fn states(claims: &[Claim<'_>]) -> Option<States> {
    let plain = |claim: &Claim<'_>| {
        claim.state == MarkerState::Processed
            && !claim.reclaim
            && claim.attempt.is_none()
            && claim.over.is_none()
    };
    (!claims.iter().all(plain)).then(|| States {
        states: claims.iter().map(|claim| claim.state.as_i16()).collect(),
        reclaim: claims.iter().map(|claim| claim.reclaim).collect(),
        attempts: claims.iter().map(|claim| claim.attempt).collect(),
        over: claims.iter().map(|claim| claim.over).collect(),
    })
}
