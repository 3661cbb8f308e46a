//! The low-water mark of a lane in slices: its row, which follows what is done.

use crate::lane::Standing;
use crate::pipeline::holding::Holding;
use crate::pipeline::lane::{Lane, Tenure};
use crate::pipeline::slices::Slices;
use crate::store::{Reposition, Seal, Sealed, Store, Terms, Writer};

impl<S: Store> Lane<S> {
    /// Divides the lane; as long as it takes.
    pub(super) async fn cut(&self, holding: &Holding, slices: u16) -> Result<Vec<i64>, Tenure> {
        let mut backoff = crate::backoff::Backoff::for_store();
        loop {
            match self.group.store.cut(&holding.held(), slices).await {
                Ok(Some(revisions)) => return Ok(revisions),
                Ok(None) => return Err(Tenure::Lost(Standing::Fenced)),
                Err(error) => {
                    let pause = backoff.next();
                    self.warn(&error, "the lane cannot be divided, trying again", pause);
                    if self.pause(pause).await {
                        return Err(Tenure::Left);
                    }
                }
            }
        }
    }

    /// Moves the lane's row to the low-water mark.
    pub(super) async fn advance(
        &self,
        holding: &mut Holding,
        slices: &Slices,
    ) -> Result<(), Tenure> {
        let position = slices.low_water();
        if position.offset <= holding.row.position.offset {
            return Ok(());
        }
        if holding.row.deaths > 0 && (position.offset >= slices.calm_at || slices.events == 0) {
            self.calm(holding).await;
        }
        let identity = holding.row.identity.clone();
        let to = Reposition { position, identity: &identity, new_log: false };
        let moved = match self.group.store.reposition(&holding.held(), &to).await {
            Ok(moved) => moved,
            Err(error) => {
                tracing::debug!(error = %error.report(), "the lane's row was not moved");
                // It may have been, if its answer was lost.
                false
            }
        };
        if moved {
            holding.row.revision += 1;
            holding.row.position = position;
            return Ok(());
        }
        match self.standing(holding).await? {
            (Standing::Held, _) => Ok(()),
            (Standing::Ahead, now)
                if now.revision == holding.row.revision + 1
                    && now.position.offset == position.offset =>
            {
                holding.row.revision = now.revision;
                holding.row.position = position;
                Ok(())
            }
            (standing, _) => Err(Tenure::Lost(standing)),
        }
    }

    /// Forgets the owners that died. Should that fail, it is tried in the next round.
    async fn calm(&self, holding: &mut Holding) {
        let store = &self.group.store;
        let held = holding.held();
        let writer = Writer::Lane(&held);
        let seal = Seal { position: held.position, offset_scopes: &[] };
        let done = async {
            let mut tx = store.begin(&writer, &Terms::default()).await?;
            let sealed = async {
                store.forget_attempts(&mut tx, &held, &[], true).await?;
                store.seal(&mut tx, &writer, Some(&seal)).await
            };
            match sealed.await {
                Ok(Sealed::Yes) => store.commit(tx).await.map(|()| true),
                other => {
                    store.rollback(tx).await;
                    other.map(|_| false)
                }
            }
        };
        match done.await {
            Ok(true) => {
                holding.row.revision += 1;
                holding.row.deaths = 0;
            }
            // Whoever has the lane now is found when the row is moved.
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(error = %error.report(), "the dead owners were not forgotten");
            }
        }
    }

    /// Tells the watch and the source how far the lane is.
    pub(super) fn publish(&self, holding: &Holding, slices: &Slices, last: &[i64]) {
        let mut held = holding.held();
        held.revision += slices.revisions(last);
        self.seat.hold(Some((held, holding.row.identity.clone())));
        self.seat.resolve(slices.low_water());
    }

    pub(super) async fn look_sliced(&self, holding: &Holding, slices: &Slices) -> Option<Tenure> {
        for idle in slices.slices.iter().filter_map(|slice| slice.holding.as_ref()) {
            match self.standing(idle).await {
                Ok((Standing::Held, _)) => {}
                Ok((standing, _)) => return Some(Tenure::Lost(standing)),
                Err(end) => return Some(end),
            }
        }
        self.look(holding).await
    }
}
