//! Scopes whose handler is gone for good: what they have packed is forgotten, some time after.
//!
//! That it is done safely is the store's business, which fences whoever still has a window of such a
//! scope. That it is done late is a courtesy: instances of the release before go on until they are
//! replaced, and who puts that release back within the time finds everything as it was.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::scope::Registration;
use crate::store::Store;

/// How long a scope is retired when what it has packed is forgotten.
pub(crate) const GRACE: Duration = Duration::from_secs(60 * 60);

/// How often it is looked whether there is something to forget.
const EVERY: Duration = Duration::from_secs(10 * 60);

/// Registers, after what somebody began to forget is forgotten to its end: one of these scopes may be
/// among those that are registered again.
pub(crate) async fn register<S: Store>(store: &S, registration: &Registration<'_>) -> Result<()> {
    let group = registration.group;
    match store.forget_retired(group, None).await {
        Ok(scopes) => say(group, &scopes),
        Err(error) => warn(group, &error),
    }
    store.register(registration).await
}

/// Forgets what the group's retired scopes have packed, as it is time to, until it is dropped.
pub(crate) async fn forget<S: Store>(store: S, group: &str) {
    let mut ticks = tokio::time::interval_at(Instant::now(), EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match store.forget_retired(group, Some(GRACE)).await {
            Ok(scopes) => say(group, &scopes),
            Err(error) => warn(group, &error),
        }
    }
}

fn warn(group: &str, error: &Error) {
    tracing::warn!(
        group,
        error = %error.report(),
        "what retired scopes have packed cannot be forgotten, trying again later"
    );
}

fn say(group: &str, scopes: &[String]) {
    for scope in scopes {
        tracing::info!(group, scope, "what the retired scope had packed is forgotten");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::lane::{LaneId, LogIdentity, Owner, Position};
    use crate::marker::MarkerMode;
    use crate::memory::{Memory, Point};
    use crate::packed::{NewPack, Pack};
    use crate::store::PackedMarkers as _;
    use crate::store::{Opening, Seal, Terms, Writer};
    use uuid::Uuid;

    const PACKED: &[(&str, MarkerMode)] = &[("bill", MarkerMode::Packed)];
    const OTHER: &[(&str, MarkerMode)] = &[("ship", MarkerMode::Packed)];

    async fn record(store: &Memory, scopes: &[(&str, MarkerMode)], retire: &[&str]) -> Result<()> {
        let retire: Vec<String> = retire.iter().map(|scope| (*scope).to_owned()).collect();
        let registration = Registration {
            group: "g",
            scopes,
            windows: &[],
            adopt: &[],
            retire: &retire,
            broadcast: None,
        };
        register(store, &registration).await
    }

    /// A batch of this scope in a partition, by whoever has its lane.
    async fn pack(store: &Memory, partition: i32) {
        let id = LaneId { group: "g".into(), topic: "t".into(), partition };
        let identity = LogIdentity::default();
        let lanes = [(partition, Position::at(0))];
        let opening = Opening { group: "g", topic: "t", identity: &identity, lanes: &lanes };
        store.open_topic(&opening).await.unwrap();
        let owner = Owner { id: Uuid::nil(), name: "a".into(), dead_after: GRACE };
        let held = store.take(&id, &owner).await.unwrap().unwrap().held();
        let writer = Writer::Lane(&held);
        let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
        let digest = store.digest_key().await.unwrap().digest(&crate::Key::new("k").unwrap());
        let data = Pack { entries: vec![(0, digest)], spans: Vec::new() }.encode();
        let (first_offset, last_offset, count) = (0, 0, 1);
        let new = NewPack {
            scope: "bill",
            partitions: 2,
            first_offset,
            last_offset,
            count,
            data: &data,
            every_slice: false,
        };
        assert!(store.pack(&mut tx, &held, &[new]).await.unwrap().is_some());
        let seal = Seal { position: Position::at(1), offset_scopes: &[] };
        store.seal(&mut tx, &writer, Some(&seal)).await.unwrap();
        store.commit(tx).await.unwrap();
    }

    fn rows(store: &Memory) -> usize {
        store.pack_rows("bill").len()
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_retired_scope_has_packed_is_forgotten_an_hour_later() {
        let store = Memory::new();
        record(&store, PACKED, &[]).await.unwrap();
        pack(&store, 0).await;
        let forgetting = tokio::spawn({
            let store = store.clone();
            async move { forget(store, "g").await }
        });
        tokio::time::sleep(GRACE * 3).await;
        assert_eq!(rows(&store), 1, "it is not retired");
        record(&store, OTHER, &["bill"]).await.unwrap();
        tokio::time::sleep(GRACE - EVERY).await;
        assert_eq!(rows(&store), 1, "there is time to think better of it");
        // It is tried again.
        store.faults().fail(Point::ForgetRetired, ErrorKind::Connection);
        tokio::time::sleep(EVERY * 3).await;
        assert_eq!(rows(&store), 0);
        forgetting.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_comes_back_within_the_hour_has_what_it_had() {
        let store = Memory::new();
        record(&store, PACKED, &[]).await.unwrap();
        pack(&store, 0).await;
        record(&store, OTHER, &["bill"]).await.unwrap();
        record(&store, &[PACKED, OTHER].concat(), &[]).await.unwrap();
        tokio::time::sleep(GRACE * 2).await;
        assert!(store.forget_retired("g", Some(GRACE)).await.unwrap().is_empty());
        assert_eq!(rows(&store), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_registers_a_scope_that_is_being_forgotten_forgets_it_to_its_end() {
        let store = Memory::new();
        record(&store, PACKED, &[]).await.unwrap();
        pack(&store, 0).await;
        record(&store, OTHER, &["bill"]).await.unwrap();
        assert_eq!(store.forget_retired("g", Some(Duration::ZERO)).await.unwrap(), ["bill"]);
        // By an instance that has not heard of it.
        pack(&store, 1).await;
        record(&store, &[PACKED, OTHER].concat(), &[]).await.unwrap();
        assert_eq!(rows(&store), 0);
        pack(&store, 0).await;
        record(&store, &[PACKED, OTHER].concat(), &[]).await.unwrap();
        assert_eq!(rows(&store), 1, "it is as any other again");
    }
}
