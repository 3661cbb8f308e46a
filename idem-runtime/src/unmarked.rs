//! Running something without a marker: an event without a key, whose handler asks for that.
//!
//! One transaction, guarded as any other; only that nothing keeps it from being run again.

use uuid::Uuid;

use crate::error::{Error, Result};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::process::failed;
use crate::store::direct::sealed;
use crate::store::{Store, Terms, Writer};

/// Begin, guard, run, seal, commit.
pub(crate) async fn unmarked<S: Store, T>(
    store: &S,
    scope: &str,
    terms: &Terms,
    effects: impl AsyncFnOnce(&mut S::Tx) -> Result<T, Failure>,
) -> Result<Outcome<T>> {
    let writer = Writer::Direct { attempt: Uuid::new_v4() };
    let place = |error: Error| error.context(format_args!("scope {scope}, without a key"));
    let mut tx = store.begin(&writer, terms).await.map_err(place)?;
    // Of no key: it also sets the guard, which a handler's own COMMIT fails at.
    if let Err(error) = store.claim(&mut tx, &writer, &[]).await {
        store.rollback(tx).await;
        return Err(place(error));
    }
    let value = match effects(&mut tx).await {
        Ok(value) => value,
        Err(failure) => {
            // After a timeout it was dropped in the middle of what it did: the connection goes with it.
            match failure.timed_out() {
                true => drop(tx),
                false => drop(store.rollback(tx).await),
            }
            return Err(place(failed::<S>(failure)));
        }
    };
    if let Err(error) = sealed(store, &mut tx, &writer).await {
        store.rollback(tx).await;
        return Err(place(error));
    }
    store.commit(tx).await.map_err(place)?;
    tracing::debug!(scope, outcome = "processed", "idem, without a key");
    Ok(Outcome::Processed(value))
}
