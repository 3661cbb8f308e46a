//! Transactions without a lane: of a call without Kafka, or of who looks after dead letters.

use crate::error::Result;
use crate::failure::handler_broke;
use crate::store::{Sealed, Store, Writer};

/// Seals one, which only a handler that ended it can prevent.
pub(crate) async fn sealed<S: Store>(store: &S, tx: &mut S::Tx, writer: &Writer<'_>) -> Result<()> {
    match store.seal(tx, writer, None).await? {
        Sealed::Yes => Ok(()),
        Sealed::No => Err(handler_broke()),
    }
}
