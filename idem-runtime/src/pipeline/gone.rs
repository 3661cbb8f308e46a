//! Packed markers of partitions that the topic does not have any more: it was made anew with fewer.
//!
//! Each lane forgets its own, and nobody has those lanes. So whoever has partition 0 does it for them,
//! and asks no less than their owners would: that the rows are older than the window, and that Kafka
//! cannot deliver their events again. The latter is so because their log is gone for ever: the topic
//! has another id than when the lane was last moved, in the same cluster, and has no such partition.
//! Where the brokers do not tell ids, nothing is forgotten.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::lane::LogIdentity;
use crate::packed::{PackRow, WindowId};
use crate::pipeline::stats::Stats;
use crate::pipeline::tend::Tending;
use crate::pipeline::windows::{Open, Windows, before};
use crate::store::Store;

/// How many rows are asked for at once, and forgotten.
const PAGE: u32 = 1000;

impl<S: Store> Tending<S> {
    /// Forgets what is out of date in lanes of partitions that are gone.
    pub(super) async fn forget_gone(&self) -> Result<()> {
        let id = &self.held.id;
        if id.partition != 0 {
            return Ok(());
        }
        let partitions = self.source.partitions(&id.topic).await?;
        let lanes = self.group.store.lanes(&id.group, &id.topic).await?;
        if lanes.iter().all(|row| row.id.partition < partitions) {
            return Ok(());
        }
        let now = self.source.identity(&id.topic).await?;
        let gone: Vec<i64> = lanes
            .iter()
            .filter(|row| row.id.partition >= partitions && is_another(&row.identity, &now))
            .map(|row| row.number)
            .collect();
        if gone.is_empty() {
            return Ok(());
        }
        // Those of slices are of the same scopes.
        for open in self.windows.first().into_iter().flat_map(Windows::all) {
            self.forget_in(open, partitions, &gone).await?;
        }
        Ok(())
    }

    async fn forget_in(&self, open: &Open, partitions: i32, gone: &[i64]) -> Result<()> {
        let store = &self.group.store;
        let now = store.window(&open.id(self.held.number)).await?.now;
        let out_of_date = before(now, open.length.time + open.window().era());
        let mut old = BTreeMap::<i64, Vec<i64>>::new();
        for row in self.rows_of(open, partitions, gone).await? {
            if row.last_at < out_of_date {
                old.entry(row.lane).or_default().push(row.id);
            }
        }
        for (lane, mut rows) in old {
            rows.sort_unstable();
            rows.dedup();
            for rows in rows.chunks(PAGE as usize) {
                if !store.forget_gone(&self.held, lane, open.scope, rows).await? {
                    // Somebody else was faster, or has the lane. What there is is looked at again.
                    return Ok(());
                }
                Stats::add(&open.stats.packed_rows_forgotten, rows.len());
                tracing::info!(
                    of_lane = lane,
                    topic = %self.held.id.topic,
                    scope = open.scope,
                    rows = rows.len(),
                    "packed markers of a partition that is gone are out of date and were forgotten"
                );
            }
        }
        Ok(())
    }

    /// The rows of these lanes: those of a former layout, as all of them are, and those for every slice.
    async fn rows_of(&self, open: &Open, partitions: i32, gone: &[i64]) -> Result<Vec<PackRow>> {
        let store = &self.group.store;
        let (mut rows, mut after) = (Vec::new(), 0);
        loop {
            let id = open.id(self.held.number);
            let page = store.foreign_heads(&id, partitions, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            rows.extend(page.into_iter().filter(|row| gone.contains(&row.lane)));
        }
        for lane in gone {
            let id = WindowId { lane: *lane, scope: open.scope, slice: None };
            let mut after = 0;
            loop {
                let page = store.pack_heads(&id, after, PAGE).await?;
                let Some(last) = page.last() else { break };
                after = last.id;
                rows.extend(page);
            }
        }
        Ok(rows)
    }
}

/// Whether the topic of this log was made anew since: it has another id, in the same cluster as far as
/// that is known.
fn is_another(was: &LogIdentity, now: &LogIdentity) -> bool {
    let cluster = was.cluster_id.is_none() || was.cluster_id == now.cluster_id;
    let ids = was.topic_id.as_ref().zip(now.topic_id.as_ref());
    cluster && ids.is_some_and(|(was, now)| was != now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(cluster: Option<&str>, topic: Option<&str>) -> LogIdentity {
        LogIdentity { cluster_id: cluster.map(str::to_owned), topic_id: topic.map(str::to_owned) }
    }

    #[test]
    fn a_log_is_another_one_when_the_topic_was_made_anew_in_its_cluster() {
        let was = log(Some("C"), Some("T1"));
        assert!(is_another(&was, &log(Some("C"), Some("T2"))));
        assert!(!is_another(&was, &was), "it is the same");
        assert!(
            !is_another(&was, &log(Some("D"), Some("T2"))),
            "the other cluster may still have it"
        );
        assert!(!is_another(&was, &log(Some("C"), None)), "it is not known");
        assert!(!is_another(&log(Some("C"), None), &was), "it was not known");
    }
}
