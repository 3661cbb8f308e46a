//! What was packed under a former layout, when the topic had another number of partitions or the lane
//! another number of slices: a key that was seen elsewhere may come here now.
//!
//! All of that is in runs, of which each lane has the filters, and is asked for in the database. Whoever
//! finds rows in no run writes one, also for rows of other lanes: a run changes nothing of what is
//! known, rows that are in one still say whose they are, and their own lane forgets both. So there is
//! one copy of what all lanes ask for, and who is interrupted leaves the rows, or a run, to the next.
//!
//! Two things may be of a former layout and do not say so: rows for every slice, of events that were
//! delivered long before (a letter that was replayed, an event that was released), and keys that were
//! given up on, whose rows may be out of date. There are few of both, and each lane has those of all
//! others in memory.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Result};
use crate::group::Group;
use crate::lane::{Held, Slice};
use crate::packed::{Asked, Budget, Digest, Pack, PackRow, Run, WindowId};
use crate::pipeline::stats::Stats;
use crate::pipeline::tend::{chunks, damaged, write_run};
use crate::pipeline::windows::Open;
use crate::store::Store;

/// How many rows are asked for at once.
const PAGE: u32 = 4096;

/// How many rows at once, with their contents.
const OUTSIDE: u32 = 256;

/// How many runs are asked for at once, with their filters, of which one of a merged run has up to 40 MB.
const FILTERS: usize = 1;

/// A window that also asks for what was packed under a former layout.
pub(crate) struct Widening<'a, S: Store> {
    pub(crate) group: &'a Group<S>,
    pub(crate) budget: &'a Arc<Budget>,
    /// The lane; its slice is of no meaning.
    pub(crate) held: &'a Held,
    pub(crate) open: &'a Open,
    /// A run gets no further row when it has so many digests.
    pub(crate) most: u64,
}

impl<S: Store> Widening<'_, S> {
    /// Finds out which runs of a former layout there are, and writes those that are missing. The window
    /// asks these from then on, and no others; and it knows what is known [elsewhere](Self::elsewhere).
    ///
    /// # Errors
    /// [`Fenced`](ErrorKind::Fenced) when the lane is not held any more. Otherwise when the database
    /// fails, or what it has is damaged.
    pub(crate) async fn look(&self) -> Result<()> {
        let mut backoff = Backoff::for_store();
        let mut is_first = true;
        loop {
            let rows = self.rows().await?;
            if self.complete(&rows).await? {
                let runs: BTreeSet<i64> = rows.iter().filter_map(|row| row.run).collect();
                if let Some(asked) = self.asked(&runs).await? {
                    // A key that was given up on leaves its row behind when that is out of date.
                    let given_up = self.given_up().await?;
                    self.elsewhere().await?;
                    let mut window = self.open.window();
                    window.ask_also(asked);
                    for digest in given_up {
                        window.learn_forever(digest);
                    }
                    return Ok(());
                }
            }
            // Rows went, or were written or put into runs by others: what there is now is looked at. Who still
            // packs under the former layout notices that in some seconds; a run of each of its batches until
            // then would be asked by everybody for as long as the window is.
            self.check_held().await?;
            if !std::mem::take(&mut is_first) {
                backoff.wait().await;
            }
        }
    }

    /// Finds out what other lanes have in rows for every slice, which the window knows from then on, and
    /// nothing else of other lanes that is in no run.
    ///
    /// # Errors
    /// When the database fails, or what it has is damaged.
    pub(crate) async fn elsewhere(&self) -> Result<()> {
        let id = self.open.id(self.held.number);
        let (mut known, mut after) = (HashSet::new(), 0);
        loop {
            let page = self.group.store.packs_elsewhere(&id, after, OUTSIDE).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            for row in page {
                let pack =
                    Pack::decode(&row).map_err(|it| damaged(&self.held.id, id.scope, &it))?;
                known.extend(pack.entries.iter().map(|(_, digest)| *digest));
            }
        }
        self.open.window().know_also(known);
        Ok(())
    }

    /// What was given up on in other lanes. Whoever replays one packs it again in the same transaction,
    /// if it has to be: so this is asked before [`elsewhere`](Self::elsewhere).
    async fn given_up(&self) -> Result<Vec<Digest>> {
        let keys = self.group.store.given_up_elsewhere(self.held.number, self.open.scope).await?;
        Ok(keys.iter().map(|key| self.open.digest(key)).collect())
    }

    /// The rows of a former layout, but for those that the window has as its own.
    async fn rows(&self) -> Result<Vec<PackRow>> {
        let id = self.open.id(self.held.number);
        let (mut rows, mut after) = (Vec::new(), 0);
        loop {
            let page =
                self.group.store.foreign_heads(&id, self.open.partitions, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(rows) };
            after = last.id;
            let own = |row: &PackRow| row.lane == id.lane && row.slice == id.slice;
            rows.extend(page.into_iter().filter(|row| !own(row)));
        }
    }

    /// Puts those that are in no run into one; answers whether there was nothing to do.
    async fn complete(&self, rows: &[PackRow]) -> Result<bool> {
        type Place = (i64, Option<(u16, u16)>);
        let mut windows = BTreeMap::<Place, Vec<&PackRow>>::new();
        for row in rows.iter().filter(|row| row.run.is_none()) {
            let slice = row.slice.map(|it| (it.index, it.of));
            windows.entry((row.lane, slice)).or_default().push(row);
        }
        // Each lane begins with its own, and then with those after it, so that not all do the same.
        let at = (self.held.number, None);
        let first: Vec<_> = windows.range(at..).collect();
        for (&(lane, slice), rows) in first.into_iter().chain(windows.range(..at)) {
            let slice = slice.map(|(index, of)| Slice { index, of });
            let window = WindowId { lane, scope: self.open.scope, slice };
            let mut rows = rows.clone();
            rows.sort_by_key(|row| (row.last_at, row.id));
            for rows in chunks(&rows, self.most) {
                let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
                let (store, held) = (&self.group.store, self.held);
                if let Some(written) = write_run(store, held, &window, &ids).await? {
                    Stats::add(&self.open.stats.packed_runs_written, 1);
                    tracing::info!(
                        lane = %held.id,
                        scope = self.open.scope,
                        of_lane = lane,
                        digests = written.digests.len(),
                        "packed markers of a former layout are asked for in the database"
                    );
                }
            }
        }
        Ok(windows.is_empty())
    }

    /// These runs with their filters; `None` when one is gone.
    async fn asked(&self, runs: &BTreeSet<i64>) -> Result<Option<Vec<Asked>>> {
        let mut asked = Vec::with_capacity(runs.len());
        let mut missing = Vec::new();
        for id in runs {
            match self.open.window().asked(*id) {
                Some(run) => asked.push(run),
                None => missing.push(*id),
            }
        }
        for missing in missing.chunks(FILTERS) {
            let found = self.group.store.runs_of(missing).await?;
            if found.len() != missing.len() {
                return Ok(None);
            }
            asked.extend(found.iter().map(|run| self.with_filter(run)));
        }
        Ok(Some(asked))
    }

    fn with_filter(&self, run: &Run) -> Asked {
        self.group.filters.add(self.budget, run).unwrap_or_else(|damaged| {
            // The run is asked for each digest, which is slower and as exact.
            tracing::warn!(scope = self.open.scope, lane = %self.held.id, "{damaged}");
            Asked::always(run.id)
        })
    }

    async fn check_held(&self) -> Result<()> {
        let row = self.group.store.read(&Held { slice: None, ..self.held.clone() }).await?;
        match row.is_some_and(|row| row.token == self.held.token) {
            true => Ok(()),
            false => {
                let message = format!("{}: another owner took the lane", self.held.id);
                Err(Error::new(ErrorKind::Fenced, message))
            }
        }
    }
}
