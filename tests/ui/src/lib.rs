//! What the compile cases share: two stores that keep nothing, with a connection each.

use std::error::Error as StdError;

use idem_runtime::lane::{AttemptRow, Held, LaneId, LaneRow, Observed, Owner};
use idem_runtime::store::{
    Claim, Claimed, Fault, GivenUp, Instance, Lends, Opening, PackedMarkers, Reposition, Seal,
    Sealed, Settlement, Terms, Writer,
};
use idem_runtime::{
    DeadLetter, Error, Key, LetterFilter, LetterNote, Marker, NewLetter, Registration, Store,
};
use uuid::Uuid;

macro_rules! stub {
    ($store:ident $connection:ident) => {
        /// A store for compile cases: it has a connection's type and keeps nothing.
        #[derive(Debug, Clone, Copy)]
        pub struct $store;

        /// Its connection.
        #[derive(Debug)]
        pub struct $connection;

        impl $connection {
            /// What an effect looks like.
            ///
            /// # Errors
            /// Never.
            pub async fn execute(&mut self, _sql: &str) -> Result<(), std::io::Error> {
                Ok(())
            }
        }

        #[diagnostic::do_not_recommend]
        impl Lends<$connection> for $store {
            fn lend(tx: &mut $connection) -> &mut $connection {
                tx
            }
        }

        #[diagnostic::do_not_recommend]
        impl PackedMarkers for $store {}

        // Not in the compiler's lists of stores.
        #[diagnostic::do_not_recommend]
        impl Store for $store {
            type Tx = $connection;
            type Connection = $connection;
            const NAME: &'static str = "stub";

            async fn check(&self) -> Result<Uuid, Error> {
                unimplemented!()
            }
            async fn register(&self, _: &Registration<'_>) -> Result<(), Error> {
                unimplemented!()
            }
            async fn keep_instance(&self, _: &Instance<'_>) -> Result<Vec<String>, Error> {
                unimplemented!()
            }
            async fn lanes(&self, _: &str, _: &str) -> Result<Vec<LaneRow>, Error> {
                unimplemented!()
            }
            async fn has_lanes(&self, _: &str) -> Result<bool, Error> {
                unimplemented!()
            }
            async fn open_topics(&self, _: &[Opening<'_>]) -> Result<(), Error> {
                unimplemented!()
            }
            async fn take(&self, _: &LaneId, _: &Owner) -> Result<Option<LaneRow>, Error> {
                unimplemented!()
            }
            async fn read(&self, _: &Held) -> Result<Option<LaneRow>, Error> {
                unimplemented!()
            }
            async fn observe(&self, _: &Owner, _: &[i64]) -> Result<Vec<Observed>, Error> {
                unimplemented!()
            }
            async fn reposition(&self, _: &Held, _: &Reposition<'_>) -> Result<bool, Error> {
                unimplemented!()
            }
            async fn release(&self, _: &Held) -> Result<(), Error> {
                unimplemented!()
            }
            async fn begin(&self, _: &Writer<'_>, _: &Terms) -> Result<$connection, Error> {
                unimplemented!()
            }
            async fn claim(
                &self,
                _: &mut $connection,
                _: &Writer<'_>,
                _: &[Claim<'_>],
            ) -> Result<Claimed, Error> {
                unimplemented!()
            }
            async fn seal(
                &self,
                _: &mut $connection,
                _: &Writer<'_>,
                _: Option<&Seal<'_>>,
            ) -> Result<Sealed, Error> {
                unimplemented!()
            }
            async fn commit(&self, _: $connection) -> Result<(), Error> {
                unimplemented!()
            }
            async fn rollback(&self, _: $connection) -> bool {
                unimplemented!()
            }
            async fn marker(&self, _: &str, _: &Key) -> Result<Option<Marker>, Error> {
                unimplemented!()
            }
            async fn given_up(
                &self,
                _: &mut $connection,
                _: &[(&str, &Key)],
            ) -> Result<Vec<Option<GivenUp>>, Error> {
                unimplemented!()
            }
            async fn known(
                &self,
                _: &mut $connection,
                _: &[(&str, &Key)],
            ) -> Result<Vec<Option<Marker>>, Error> {
                unimplemented!()
            }
            async fn keep_results(
                &self,
                _: &mut $connection,
                _: &[(&str, &Key, &serde_json::Value)],
            ) -> Result<(), Error> {
                unimplemented!()
            }
            async fn take_back(&self, _: &str, _: &Key, _: Uuid) -> Result<(), Error> {
                unimplemented!()
            }
            async fn give_up(
                &self,
                _: &mut $connection,
                _: &Held,
                _: &[NewLetter<'_>],
            ) -> Result<(), Error> {
                unimplemented!()
            }
            async fn parked(
                &self,
                _: &mut $connection,
                _: &Held,
                _: &[(&str, &[u8])],
            ) -> Result<Vec<Option<u32>>, Error> {
                unimplemented!()
            }
            async fn released(&self, _: &Held, _: i64, _: u32) -> Result<Vec<DeadLetter>, Error> {
                unimplemented!()
            }
            async fn unpark(&self, _: &mut $connection, _: &Held, _: &[i64]) -> Result<(), Error> {
                unimplemented!()
            }
            async fn note_attempt(&self, _: &Held, _: &AttemptRow) -> Result<bool, Error> {
                unimplemented!()
            }
            async fn forget_attempts(
                &self,
                _: &mut $connection,
                _: &Held,
                _: &[i64],
                _: bool,
            ) -> Result<(), Error> {
                unimplemented!()
            }
            async fn cut(&self, _: &Held, _: u16) -> Result<Option<Vec<i64>>, Error> {
                unimplemented!()
            }
            async fn letters(&self, _: &LetterFilter) -> Result<Vec<DeadLetter>, Error> {
                unimplemented!()
            }
            async fn lock_letter(
                &self,
                _: &mut $connection,
                _: i64,
            ) -> Result<Option<DeadLetter>, Error> {
                unimplemented!()
            }
            async fn settle_letter(
                &self,
                _: &mut $connection,
                _: i64,
                _: &Settlement<'_>,
            ) -> Result<(), Error> {
                unimplemented!()
            }
            async fn history(&self, _: i64) -> Result<Vec<LetterNote>, Error> {
                unimplemented!()
            }
            async fn unforwarded(&self, _: &[i64], _: u32) -> Result<Vec<DeadLetter>, Error> {
                unimplemented!()
            }
            async fn forwarded(&self, _: &[i64]) -> Result<(), Error> {
                unimplemented!()
            }
            fn fault(_: &(dyn StdError + 'static)) -> Fault {
                unimplemented!()
            }
        }
    };
}

/// An event, for cases whose lints or names a derive does not survive.
#[derive(Debug, serde::Deserialize)]
pub struct OrderPlaced {
    /// The key.
    pub event_id: String,
    /// What else there is.
    pub order_id: i64,
}

stub! { Stub StubConnection }
stub! { Other OtherConnection }
