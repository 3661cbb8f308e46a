//! Moving what does not fit into memory into runs.

use std::borrow::Borrow;

use super::{CONTENTS, changed, damaged};
use crate::error::Result;
use crate::lane::Held;
use crate::packed::{Digest, Filter, NewRun, Pack, PackRow, WindowId};
use crate::pipeline::policy::Portions;
use crate::pipeline::stats::Stats;
use crate::pipeline::windows::Open;
use crate::store::Store;

/// Moves the oldest rows of a window into runs, for as long as there is not memory enough. `rows` are
/// those that are in memory, at least.
pub(crate) async fn cool<S: Store>(
    store: &S,
    (held, portions): (&Held, Portions),
    open: &Open,
    rows: &mut [PackRow],
) -> Result<()> {
    let window = open.id(held.number);
    while open.window().is_over_budget() {
        rows.sort_by_key(|row| (row.last_at, row.id));
        let own = |row: &&mut PackRow| {
            !row.every_slice && row.lane == held.number && row.slice == open.slice
        };
        let mut own: Vec<&mut PackRow> = rows.iter_mut().filter(own).collect();
        // A lane for which they are of a former layout has put them there.
        if let Some(run) = own.iter().filter_map(|row| row.run).find(|run| open.is_warm(*run)) {
            let of_run = own.iter().filter(|row| row.run == Some(run));
            let newest = of_run.clone().map(|row| row.last_at).max();
            let ids: Vec<i64> = of_run.map(|row| row.id).collect();
            let found = store.runs_of(&[run]).await?;
            let (Some(found), Some(newest)) = (found.first(), newest) else {
                return Err(changed(held));
            };
            let Some((digests, _)) = digests(store, held, &window, &ids).await? else {
                return Err(changed(held));
            };
            open.cooled((run, &found.filter, found.count), &digests, newest, held);
            continue;
        }
        own.retain(|row| row.run.is_none());
        // Each run costs something with every new key: rather a little more memory than many small ones.
        if own.iter().map(|row| u64::from(row.count)).sum::<u64>() < portions.least {
            return Ok(());
        }
        let Some(cooled) = chunks(&own, portions.run).next() else { return Ok(()) };
        let cooled = cooled.len();
        let Some(newest) = own.iter().take(cooled).map(|row| row.last_at).max() else {
            return Ok(());
        };
        let ids: Vec<i64> = own.iter().take(cooled).map(|row| row.id).collect();
        let Some(written) = write_run(store, held, &window, &ids).await? else {
            let now = store.packs_of(&window, &ids).await?;
            if now.len() != ids.len() || now.iter().all(|row| row.run.is_none()) {
                return Err(changed(held));
            }
            for row in own {
                row.run = now.iter().find(|it| it.id == row.id).map_or(row.run, |it| it.run);
            }
            continue;
        };
        Stats::add(&open.stats.packed_runs_written, 1);
        for row in own.into_iter().take(cooled) {
            row.run = Some(written.run);
        }
        let Written { run, digests, filter } = written;
        let count = digests.len() as u64;
        open.cooled((run, &filter, count), &digests, newest, held);
        tracing::info!(
            lane = %held.id,
            scope = open.scope,
            digests = count,
            "packed markers do not fit into `packed_memory`: the oldest are asked for in the database"
        );
    }
    Ok(())
}

/// A run that was written.
pub(crate) struct Written {
    pub(crate) run: i64,
    /// Ascending.
    pub(crate) digests: Vec<Digest>,
    pub(crate) filter: Vec<u8>,
}

/// These rows one after the other, as many at a time as have so many digests.
pub(crate) fn chunks<R: Borrow<PackRow>>(rows: &[R], digests: u64) -> impl Iterator<Item = &[R]> {
    let mut count = 0;
    rows.chunk_by(move |row, _| {
        count += u64::from(row.borrow().count);
        let more = count < digests;
        count = if more { count } else { 0 };
        more
    })
}

/// Writes a run of these rows of a window, of the held lane or another one; `None` when the lane is not
/// held any more, a row is gone, or in a run.
pub(crate) async fn write_run<S: Store>(
    store: &S,
    held: &Held,
    window: &WindowId<'_>,
    rows: &[i64],
) -> Result<Option<Written>> {
    let Some((digests, true)) = digests(store, held, window, rows).await? else { return Ok(None) };
    let filter = Filter::build(&digests).to_bytes();
    let bytes: Vec<u8> = digests.iter().flat_map(|digest| digest.to_bytes()).collect();
    let count = digests.len() as u64;
    let id = NewRun::unused();
    let run = NewRun { id, window: *window, count, filter: &filter, digests: &bytes };
    let written = store.add_run(held, rows, &run).await?;
    Ok(written.then_some(Written { run: id, digests, filter }))
}

/// What these rows have, ascending, and whether none of them is in a run; `None` when one is gone.
async fn digests<S: Store>(
    store: &S,
    held: &Held,
    window: &WindowId<'_>,
    rows: &[i64],
) -> Result<Option<(Vec<Digest>, bool)>> {
    let (mut digests, mut found, mut free) = (Vec::new(), 0, true);
    for rows in rows.chunks(CONTENTS) {
        for row in store.packs_of(window, rows).await? {
            let pack = Pack::decode(&row).map_err(|it| damaged(&held.id, window.scope, &it))?;
            digests.extend(pack.entries.iter().map(|(_, digest)| *digest));
            found += 1;
            free &= row.run.is_none();
        }
    }
    digests.sort_unstable();
    digests.dedup();
    Ok((found == rows.len()).then_some((digests, free)))
}
