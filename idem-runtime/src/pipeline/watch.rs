//! The watch: compares every lane this process holds with the database and with the log, so that a
//! lane with nothing to do notices too.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::group::Group;
use crate::lane::{Owner, Standing};
use crate::pipeline::source::{Seat, Source};
use crate::store::Store;

/// How many rounds pass between two looks at the topics' identity.
const LOG_EVERY: u32 = 4;

/// Looks every `interval` until it is dropped.
pub(crate) async fn watch<S: Store>(
    group: Arc<Group<S>>,
    owner: Owner,
    source: Arc<dyn Source>,
    seats: impl Fn() -> Vec<Arc<Seat>> + Send,
    interval: Duration,
) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut round = 0_u32;
    loop {
        ticks.tick().await;
        round = round.wrapping_add(1);
        // What is expected is read before the database is: a batch that commits in between only
        // makes the row newer.
        let expected: Vec<_> = seats()
            .into_iter()
            .filter_map(|seat| seat.held().map(|(held, identity)| (seat, held, identity)))
            .collect();
        let numbers: Vec<_> = expected.iter().map(|(_, held, _)| held.number).collect();
        match group.store.observe(&owner, &numbers).await {
            Ok(rows) => {
                for (seat, held, _) in &expected {
                    let row = rows.iter().find(|row| row.number == held.number);
                    let row = row.map(|row| (row.token, row.revision));
                    if !matches!(held.standing(row), Standing::Held | Standing::Ahead) {
                        seat.look();
                    }
                }
            }
            Err(error) => {
                tracing::debug!(error = %error.report(), "the lanes could not be compared");
            }
        }
        if !round.is_multiple_of(LOG_EVERY) {
            continue;
        }
        let topics: BTreeSet<_> = expected.iter().map(|(_, held, _)| &held.id.topic).collect();
        for topic in topics {
            let Ok(now) = source.identity(topic).await else { continue };
            for (seat, held, identity) in &expected {
                if held.id.topic == *topic && identity.difference(&now).is_some() {
                    seat.look();
                }
            }
            let its = || expected.iter().filter(|(_, held, _)| held.id.topic == *topic);
            if its().all(|(seat, _, _)| seat.partitions().is_none()) {
                continue;
            }
            let Ok(partitions) = source.partitions(topic).await else { continue };
            its()
                .filter(|(seat, _, _)| seat.minds(partitions))
                .for_each(|(seat, _, _)| seat.look());
        }
    }
}
