//! Forgetting a key, in whatever form its marker is.

use idem_runtime::packed::{Digest, DigestKey, PackRow, check_settled, without};
use idem_runtime::{Key, MarkerState, Result};
use uuid::Uuid;

use crate::Inner;
use crate::direct::find_in_lane;
use crate::error::failed;
use crate::marker_id::marker_id;
use crate::packs::digest_key;
use crate::times::to_micros;
use crate::tx::Session;

const DOING: &str = "forgetting a key";

/// The lane of a marker counts where it is packed: lanes keep in mind what was given up on once.
pub(crate) const MARKER: &str = "
select marker.state,
       case when exists (
           select from {schema}.scopes owned where owned.scope = $2 and owned.mode = 'packed'
       ) then marker.lane_id end
from {schema}.markers marker
where marker.marker_id = $1
for update of marker
";

/// Lanes for which a row is of a former layout may have just asked for it; one for every slice is for all
/// lanes; and all of them may have in mind what was given up on once, in a lane ($3). A run also has what
/// was in rows of it that aged out before the others.
pub(crate) const LANES: &str = "
select lane.lane_id
from {schema}.packs pack
join {schema}.lanes own using (lane_id)
join {schema}.lanes lane on lane.group_name = own.group_name and lane.topic = own.topic
where pack.scope = $1 and position($2::bytea in pack.data) > 0
  and (lane.lane_id = own.lane_id or pack.slices is null or pack.partitions not in (0, (
      select count(*) from {schema}.lanes every
      where every.group_name = own.group_name and every.topic = own.topic
  )))
union
select lane.lane_id
from {schema}.lanes own
join {schema}.lanes lane on lane.group_name = own.group_name and lane.topic = own.topic
where own.lane_id = $3
union
select run.lane_id
from {schema}.runs run
cross join lateral (
    select block.data from {schema}.run_blocks block
    where block.run_id = run.run_id and block.from_digest <= $2
    order by block.from_digest desc
    limit 1
) as block
where run.scope = $1 and run.is_finished and position($2::bytea in block.data) > 0
";

/// Waits for the batches that are sealed and for those who rewrite packs, and lets neither begin.
pub(crate) const LOCK: &str = "
select lane_id from {schema}.lanes where lane_id = any($1::bigint[]) order by lane_id for update
";

pub(crate) const OPEN_LETTERS: &str = "
select exists (
    select from {schema}.dead_letters
    where scope = $1 and event_key = $2 and state in ('dead', 'parked', 'waiting')
)
";

/// Under a new number, so that nobody takes it for the row that it was.
pub(crate) const REPLACE: &str = "
insert into {schema}.packs (lane_id, scope, log, partitions, slices, slice, first_offset, last_offset,
                            digests, first_at, last_at, run_id, data)
select lane_id, scope, log, partitions, slices, slice, $2, $3, $4,
       timestamptz 'epoch' + $5::bigint * interval '1 microsecond',
       timestamptz 'epoch' + $6::bigint * interval '1 microsecond', run_id, $7
from {schema}.packs
where lane_id = $8 and scope = $9 and pack_id = $1
";

pub(crate) const DELETE: &str =
    "delete from {schema}.packs where lane_id = $1 and scope = $2 and pack_id = $3";

/// The digest is taken out of the one block of each run that may have it, at a place where a digest
/// begins.
pub(crate) const FORGET_IN_RUNS: &str = "
with block as materialized (
    select run.run_id, block.from_digest, block.data
    from {schema}.runs run
    cross join lateral (
        select block.from_digest, block.data from {schema}.run_blocks block
        where block.run_id = run.run_id and block.from_digest <= $2
        order by block.from_digest desc
        limit 1
    ) as block
    where run.scope = $1 and run.lane_id = any($3::bigint[]) and run.is_finished
), place as materialized (
    select block.run_id, block.from_digest, nth * 16 as before
    from block
    cross join generate_series(0, octet_length(block.data) / 16 - 1) as nth
    where substring(block.data from nth * 16 + 1 for 16) = $2
), cut as (
    update {schema}.run_blocks block
    set data = substring(block.data for place.before) || substring(block.data from place.before + 17)
    from place
    where block.run_id = place.run_id and block.from_digest = place.from_digest
    returning block.run_id
)
update {schema}.runs run set digests = run.digests - 1 from cut where run.run_id = cut.run_id
";

pub(crate) const DELETE_MARKER: &str = "delete from {schema}.markers where marker_id = $1";

pub(crate) async fn forget(store: &Inner, scope: &str, key: &Key) -> Result<bool> {
    let digests = digest_key(store).await?;
    let mut session = store.pools.write_aside().await?;
    match Forget::new(store, scope, key, &digests).run(&mut session).await {
        Ok(found) => {
            session.finish(DOING).await?;
            Ok(found)
        }
        Err(error) => {
            session.rollback().await;
            Err(error)
        }
    }
}

struct Forget<'a> {
    store: &'a Inner,
    scope: &'a str,
    key: &'a Key,
    marker: Uuid,
    digest: Digest,
}

impl<'a> Forget<'a> {
    fn new(store: &'a Inner, scope: &'a str, key: &'a Key, digests: &DigestKey) -> Self {
        let (marker, digest) = (marker_id(scope, key.as_str()), digests.digest(key));
        Self { store, scope, key, marker, digest }
    }

    /// Whether there was something.
    ///
    /// The marker before the lanes, as whoever claims it and seals; then whatever depends on having
    /// waited, in later statements.
    async fn run(&self, session: &mut Session) -> Result<bool> {
        let failed = |error| failed(DOING, error);
        let sql = &self.store.sql;
        let marker = sqlx::query_as::<_, (i16, Option<i64>)>(sql.forget_lock_marker.clone());
        let marker = session.optional(marker.bind(self.marker).bind(self.scope)).await;
        let marker = marker.map_err(failed)?;
        let lanes = sqlx::query_as::<_, (i64,)>(sql.forget_lanes_of.clone());
        let lanes = lanes.bind(self.scope).bind(self.digest.to_bytes().to_vec());
        let lanes = lanes.bind(marker.and_then(|(_, lane)| lane));
        let lanes = session.all(lanes).await.map_err(failed)?;
        let lanes: Vec<i64> = lanes.into_iter().map(|row| row.0).collect();
        self.unsettle(session, &lanes).await?;

        let open = sqlx::query_as::<_, (bool,)>(sql.forget_open_letters.clone());
        let open = session.optional(open.bind(self.scope).bind(self.key.as_str())).await;
        let open = open.map_err(failed)? == Some((true,));
        let state = marker.and_then(|(state, _)| MarkerState::from_i16(state));
        check_settled(self.scope, self.key, state, open)?;

        let mut found = marker.is_some();
        for lane in &lanes {
            found |= self.forget_in_lane(session, *lane).await?;
        }
        found |= self.forget_in_runs(session, &lanes).await.map_err(failed)?;
        if marker.is_some() {
            let delete = sqlx::query(sql.forget_marker.clone()).bind(self.marker);
            session.execute(delete).await.map_err(failed)?;
        }
        Ok(found)
    }

    async fn unsettle(&self, session: &mut Session, lanes: &[i64]) -> Result<()> {
        if lanes.is_empty() {
            return Ok(());
        }
        let sql = &self.store.sql;
        for statement in [&sql.forget_lock_lanes, &sql.unsettle_lanes, &sql.unsettle_slices] {
            let statement = sqlx::query(statement.clone()).bind(lanes);
            session.execute(statement).await.map_err(|error| failed(DOING, error))?;
        }
        Ok(())
    }

    /// Whether there was one. In this lane: what another one has packed since is not what is forgotten.
    async fn forget_in_lane(&self, session: &mut Session, lane: i64) -> Result<bool> {
        let failed = |error| failed(DOING, error);
        let (of, mut after, mut found) = ((lane, self.scope), 0, false);
        loop {
            let rows = find_in_lane(&self.store.sql, session, of, self.digest, after).await;
            let rows = rows.map_err(failed)?;
            let Some(last) = rows.last() else { return Ok(found) };
            after = last.id;
            for row in &rows {
                let Some(left) = without(row, self.digest)? else { continue };
                found = true;
                self.rewrite(session, row, left).await.map_err(failed)?;
            }
        }
    }

    /// Whether there was one.
    async fn forget_in_runs(&self, session: &mut Session, lanes: &[i64]) -> sqlx::Result<bool> {
        let cut = sqlx::query(self.store.sql.forget_in_runs.clone())
            .bind(self.scope)
            .bind(self.digest.to_bytes().to_vec())
            .bind(lanes);
        Ok(session.execute(cut).await? > 0)
    }

    async fn rewrite(
        &self,
        session: &mut Session,
        row: &PackRow,
        left: Option<PackRow>,
    ) -> sqlx::Result<()> {
        let sql = &self.store.sql;
        if let Some(left) = left {
            let replace = sqlx::query(sql.forget_replace.clone())
                .bind(row.id)
                .bind(left.first_offset)
                .bind(left.last_offset)
                .bind(i64::from(left.count))
                .bind(to_micros(left.first_at))
                .bind(to_micros(left.last_at))
                .bind(left.data)
                .bind(row.lane)
                .bind(self.scope);
            session.execute(replace).await?;
        }
        let delete = sqlx::query(sql.forget_row.clone());
        session.execute(delete.bind(row.lane).bind(self.scope).bind(row.id)).await?;
        if let Some(run) = row.run {
            session.execute(sqlx::query(sql.forget_empty_runs.clone()).bind([run])).await?;
        }
        Ok(())
    }
}
