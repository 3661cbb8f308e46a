//! Which known keys were given up on.

use idem_runtime::store::GivenUp;
use idem_runtime::{Error, ErrorKind, Key, MarkerState, Result};

use crate::error::failed;
use crate::marker_id::marker_ids;
use crate::{Inner, Tx};

/// Through an index that has only what was given up on, and is empty as a rule.
///
/// A limit is not flattened into the join, so that each key is looked up for itself: as long as the
/// server has not analyzed the table it believes that most markers are of this kind, and would read
/// all of them. No key is looked up when nothing of these scopes was given up on.
pub(crate) const GIVEN_UP: &str = r#"
select asked.place, known.state, known.lane_id, known.source_offset
from unnest($1::text[], $2::uuid[]) with ordinality as asked (scope, marker_id, place)
cross join lateral (
    select marker.state, marker.lane_id, marker.source_offset
    from {schema}.markers marker
    where marker.scope = asked.scope collate "C"
      and marker.marker_id = asked.marker_id
      and marker.state <> 0
    limit 1
) as known
where (select exists (
    select from unnest($3::text[]) as own (scope)
    cross join lateral (
        select from {schema}.markers marker
        where marker.scope = own.scope collate "C" and marker.state <> 0
        order by marker.marker_id
        limit 1
    ) as one
))
"#;

pub(crate) async fn given_up(
    store: &Inner,
    tx: &mut Tx,
    keys: &[(&str, &Key)],
) -> Result<Vec<Option<GivenUp>>> {
    const DOING: &str = "reading what was given up on";
    let mut answer = vec![None; keys.len()];
    if keys.is_empty() {
        return Ok(answer);
    }
    let ids = marker_ids(keys.iter().map(|(scope, key)| (*scope, key.as_str())));
    let scopes: Vec<&str> = keys.iter().map(|(scope, _)| *scope).collect();
    let mut own = scopes.clone();
    own.sort_unstable();
    own.dedup();
    type Row = (i64, i16, Option<i64>, Option<i64>);
    let given_up = sqlx::query_as::<_, Row>(store.sql_in(tx).given_up.clone())
        .bind(scopes)
        .bind(ids)
        .bind(own);
    let rows = tx.session().all(given_up).await.map_err(|error| failed(DOING, error))?;
    for (place, state, lane, offset) in rows {
        let Some(state) = MarkerState::from_i16(state) else {
            let message =
                format!("a marker has the state {state}, which this release of idem does not know");
            return Err(Error::new(ErrorKind::Store, message));
        };
        let place = usize::try_from(place - 1).ok();
        if let Some(it) = place.and_then(|place| answer.get_mut(place)) {
            *it = Some(GivenUp { state, lane, offset });
        }
    }
    Ok(answer)
}
